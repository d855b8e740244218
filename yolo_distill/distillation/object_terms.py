"""The terms on what an object has beside class and box: its mask, or its keypoints.

They are about the teacher's objects alone, one anchor each, on both branches of the student. The strongest few of each
picture are taken, always as many: how many there are a GPU would have to be waited for.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import OBB, Pose, Pose26, Segment

from yolo_distill.losses.keypoints import keypoint_loss
from yolo_distill.losses.masks import mask_loss
from yolo_distill.teachers.answer import DenseBranch

#: Objects of a picture that are taught.
MOST = 32


class ObjectTerms:
    """Computes the terms of a student's task.

    Attributes:
        names: of the terms that student and teacher have in common.
        turned: whether the boxes of both are turned ones.
        comparable: whether both or neither are.
    """

    def __init__(self, student: nn.Module | None, teacher: type[nn.Module] | None) -> None:
        """See what the heads of student and teacher have in common; None: nothing."""
        both = [type(student), teacher or type(None)]
        turned = [issubclass(head, OBB) for head in both]
        self.turned, self.comparable = all(turned), all(turned) or not any(turned)
        self.names: list[str] = []
        if all(issubclass(head, Segment) for head in both):
            self.names = ["mask"]
        if all(issubclass(head, Pose) for head in both) and both[0] is both[1]:  # raw keypoints differ by family
            self.names = ["keypoint"]
            self._shape = tuple(student.kpt_shape)  # type: ignore[union-attr, arg-type]
            self._scale = 1.0 if both[0] is Pose26 else 2.0

    def __call__(
        self,
        active: Collection[str],
        student: DenseBranch,
        teacher: DenseBranch,
        score: Tensor,
        size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Return the active terms on one branch, by name and without gain.

        Args:
            active: names of the terms to compute.
            student: the branch that learns.
            teacher: the branch that it learns from.
            score: the teacher's confidence at its objects' anchors and 0 elsewhere, shape (B, A).
            size: height and width of the pictures in pixels.
        """
        names = [name for name in self.names if name in active]
        if not names:
            return {}
        assert student.extra is not None
        assert teacher.extra is not None
        weight, index = score.topk(min(MOST, score.shape[1]), 1)
        picture = torch.arange(len(index), device=index.device)[:, None].expand_as(index)
        boxes = teacher.at((picture.flatten(), index.flatten()))[2].view(*index.shape, 4)
        ours, theirs = student.extra[picture, index].float(), teacher.extra[picture, index].float()
        if "mask" in names:
            assert student.proto is not None
            assert teacher.proto is not None
            return {"mask": mask_loss((ours, student.proto), (theirs, teacher.proto), boxes, weight, size)}
        pixels = student.strides[index][..., None].float() * self._scale
        both = [raw.view(*index.shape, *self._shape) for raw in (ours, theirs)]
        ours, theirs = (torch.cat([one[..., :2] * pixels, one[..., 2:]], -1) for one in both)
        return {"keypoint": keypoint_loss(ours, theirs, boxes, weight)}
