"""What every teacher is: something with class names that answers for a batch of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from yolo_distill.teachers.answer import DenseAnswer, SetAnswer
from yolo_distill.teachers.head import Needs


class Teacher(Protocol):
    """Never learns, and is no part of the student.

    Attributes:
        names: class names by column of its scores.
        strides: pixels per cell of its levels, finest first: of the anchors of a dense teacher, of the maps of one that
            answers in sets. Empty for a teacher that has neither.
        widths: channels of the map at each stride; empty for a teacher that shows no maps.
        needs: what it is asked for.
        task: what it finds, as Ultralytics calls it.
        kpt_shape: keypoints of an object, and numbers of a keypoint; None of other tasks than pose.
    """

    task: str = "detect"
    kpt_shape: tuple[int, int] | None = None

    names: dict[int, str]
    strides: list[int]
    widths: dict[int, int]
    needs: Needs

    def __call__(self, images: Tensor) -> DenseAnswer | SetAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1, on the teacher's device, in single precision.

        Nothing in the answer has a graph, and none of it was made in inference mode.
        """
        ...

    def of_batch(self, batch: Mapping[str, Any]) -> DenseAnswer | SetAnswer:
        """Answer for a batch of the host, of which most teachers look at the student's pictures alone."""
        return self(batch["img"])

    def wait(self, answer: DenseAnswer | SetAnswer) -> None:
        """Make the current stream wait for the answer; nothing to do for one that was computed on this stream."""
        return


def fastest_order(device: torch.device | str) -> torch.memory_format:
    """Return the order in memory in which convolutions are fastest; the host found channels-last wrong on MPS."""
    return torch.contiguous_format if torch.device(device).type == "mps" else torch.channels_last
