"""What a backend is asked to do: a job in words and numbers, and the engine that does it."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from yolo_distill.runtime.letterbox import Picture

IOU = 0.7  # what both predict commands take


@dataclass(frozen=True)
class Job:
    """All that is needed to open a model, in words and numbers so that another process can be told.

    Attributes:
        path: the file or folder.
        kind: onnx, pt, openvino or ncnn.
        backend: key of `BACKENDS`.
        threads: threads that a detection may use.
        imgsz: height and width of the network's input in pixels.
        free_size: whether the model takes other sizes as well.
        input_shape: what the network is fed with one picture; empty for a checkpoint.
        input_dtype: of that array.
        device: as the host has it.
        conf: scores have to be above.
    """

    path: str
    kind: str
    backend: str
    threads: int
    imgsz: tuple[int, int]
    free_size: bool
    input_shape: tuple[int, ...]
    input_dtype: str
    device: str
    conf: float


class Engine(ABC):
    """A model opened by a backend.

    Attributes:
        precision: what it computes in, where that is not what the file says.
    """

    precision: str | None = None

    @abstractmethod
    def prepare(self, picture: Picture) -> Any:
        """Return the network's input for a picture (H, W, 3) of uint8 in the order blue, green, red."""

    @abstractmethod
    def forward(self, prepared: Any) -> Any:
        """Run the network alone, and come back when its answer is there."""

    @abstractmethod
    def detect(self, picture: Picture) -> int:
        """Do the whole detection, picture in, boxes out; return how many there are."""

    def first(self, picture: Picture) -> None:
        """Do what shows how much memory one detection takes."""
        self.detect(picture)


def use_threads(threads: int) -> None:
    """Set the threads of what has one number for the whole process: OpenCV and, where it is loaded, torch."""
    cv2.setNumThreads(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def job_of(model: Any, backend: str, threads: int, device: str, conf: float) -> Job:
    """Return the job of opening a `Model`."""
    return Job(
        path=str(Path(model.path)),
        kind=model.kind,
        backend=backend,
        threads=threads,
        imgsz=model.imgsz,
        free_size=model.free_size,
        input_shape=model.input_shape,
        input_dtype=model.input_dtype,
        device=device,
        conf=conf,
    )
