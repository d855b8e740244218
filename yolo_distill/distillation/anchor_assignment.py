"""Lays a teacher's set of boxes out over the student's anchors, by the assigner of the host's own loss.

A set has no anchors in common with the student: a two-stage detector, a DETR, an ensemble. What the ground truth of a
picture goes through on its way to the anchors, a set goes through as well: the host's task-aligned assigner (Feng et
al., "TOOD", ICCV 2021, arXiv 2108.07755) chooses the anchors that answer best for a box now. They are taught the box
and its whole class vector, where the ground truth has one class. All other anchors are left to the ground truth: that a
teacher says nothing about a place does not mean that nothing is there.

As the host's own class target is, the class vector is scaled by how well the anchor does among those of its box
(normalised alignment, TOOD eq. 7): an anchor at the rim of an object is not to be as sure of it as the one in the
middle.

Relies on: the criterion has an `assigner`, or two criteria `one2many` and `one2one` that have one each, called as the
host's losses call it; its `num_classes` are the student's.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor
from ultralytics.utils import tal

from yolo_distill.data.class_mapping import ClassMatch
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, SetAnswer

#: Class probability of anchors that nobody speaks about, and least one of those that somebody does.
_LEAST = 1e-4


# Of YOLO26 for masks and keypoints, in the host's later releases.
_BY_MORE = tuple(
    getattr(tal, name) for name in ("SegTaskAlignedAssigner", "PoseTaskAlignedAssigner") if hasattr(tal, name)
)


class SetAssignment:
    """Makes a dense answer out of a set, for the student as it answers now.

    Args:
        host: the host's criterion for this student.
        classes: which columns of the teacher speak for which of the student's.
        floor: best score of a box, in a class that both sides have, below which it is not taught.
    """

    def __init__(self, host: Any, classes: ClassMatch, floor: float) -> None:
        both = hasattr(host, "one2many")
        self._many: Any = _by_boxes(host.one2many.assigner if both else host.assigner)
        self._single: Any = _by_boxes(host.one2one.assigner) if both else None
        self._classes, self._floor = classes, floor

    def __call__(self, student: DenseAnswer, answer: SetAnswer) -> DenseAnswer:
        """Return the answer by the student's anchors, each branch by its own assigner.

        Returns:
            branches that say which anchors are taught, in the teacher's class columns, and where what is said of their
            boxes besides stands; maps as they come.
        """
        assert student.one2many is not None
        best, index = self._classes.of_teacher(answer.scores).max(-1)
        label = torch.tensor(self._classes.student, device=index.device)[index]
        some = answer.boxes, answer.scores, label, best > self._floor, answer.extra
        single = student.one2one if self._single else None
        many = _lay_out(student.one2many, self._many, *some)
        presence = _presence(many, answer) if answer.maps else None
        one2one = None if single is None else _lay_out(single, self._single, *some)
        return DenseAnswer(many, one2one, answer.maps, student.cells, presence)


def _by_boxes(assigner: Any) -> Any:
    """Return an assigner as it is, or, of one that asks for masks or keypoints as well, the usual one."""
    if isinstance(assigner, _BY_MORE):
        assigner = copy(assigner)
        assigner.__class__ = tal.TaskAlignedAssigner
    return assigner


def _presence(branch: DenseBranch, answer: SetAnswer) -> Tensor:
    """Return the best score of the boxes that each anchor lies in, shape (B, A), of whatever class."""
    points = (branch.anchors.float() * branch.strides)[:, None]
    score = answer.scores.amax(-1)
    if not score.shape[1]:
        return score.new_zeros(len(score), len(points))
    found = []
    for boxes, own in zip(answer.boxes, score, strict=True):  # all pictures at once would be large
        inside = ((points >= boxes[:, :2]) & (points < boxes[:, 2:])).all(-1)
        found.append((inside * own).amax(-1))
    return torch.stack(found)


@torch.no_grad()
def _lay_out(
    branch: DenseBranch,
    assigner: Any,
    boxes: Tensor,
    probabilities: Tensor,
    label: Tensor,
    present: Tensor,
    extra: Tensor | None,
) -> DenseBranch:
    points = branch.anchors.float() * branch.strides
    if boxes.shape[1]:
        _, _, scores, taught, index = assigner(
            branch.logits.detach().float().sigmoid(),
            branch.at((slice(None), slice(None)))[2].detach(),
            points,
            label.unsqueeze(-1),
            boxes * present.unsqueeze(-1),
            present.unsqueeze(-1).to(boxes.dtype),
        )
        quality = scores.amax(-1)
    else:
        quality = branch.logits.new_zeros(branch.logits.shape[:2], dtype=torch.float32)
        taught, index = quality > 0, quality.long()
        boxes, probabilities = (t.new_zeros(len(t), 1, t.shape[-1]) for t in (boxes, probabilities))
        extra = None if extra is None else extra.new_zeros(len(extra), 1, *extra.shape[2:])
    # An anchor of no quality is one that the assigner took for want of a better one: nothing to learn there.
    taught = taught & (quality > 0)
    at = index.long().unsqueeze(-1)
    own, vector = (t.gather(1, at.expand(-1, -1, t.shape[-1])) for t in (boxes, probabilities))
    logits = (vector * (quality * taught).unsqueeze(-1)).clamp(_LEAST, 1 - _LEAST).logit()
    sides = torch.cat([points - own[..., :2], own[..., 2:] - points], -1) / branch.strides
    place = None if extra is None else at
    return DenseBranch(logits, sides.unsqueeze(-1), branch.anchors, branch.strides, taught, place, extra)
