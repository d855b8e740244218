"""The term on what an object has beside class and box: its mask, or its keypoints.

It is about the teacher's objects alone, one anchor each, on both branches of the student. The strongest few of each
picture are taken, always as many: how many there are a GPU would have to be waited for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import OBB, Pose, Pose26, Segment

from yolo_distill.errors import RequestError
from yolo_distill.losses.keypoints import keypoint_loss
from yolo_distill.losses.masks import mask_loss
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.answer import DenseBranch

#: Objects of a picture that are taught.
MOST = 32
#: Least that a keypoint can be seen, or not.
_LEAST = 1e-4


class ObjectTerm:
    """Computes the term of a student's task.

    Attributes:
        name: of the term that student and teacher have in common; None: of none.
        turned: whether the boxes of both are turned ones.
        comparable: whether both or neither are.
        speaker_turned: whether the teacher's are.
        of_set: whether the teacher answers in sets.
    """

    def __init__(
        self,
        student: nn.Module | None,
        teacher: type[nn.Module] | None,
        *,
        of_set: str | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        """See what the heads of student and teacher have in common; None: nothing.

        `of_set` is the task of a teacher that answers in sets, of "pose" with as many keypoints as the student;
        `sigmas` the data's `kpt_oks_sigmas`.
        """
        both = [type(student), teacher or type(None)]
        turned = [issubclass(head, OBB) for head in both]
        self.turned, self.comparable = all(turned), all(turned) or not any(turned)
        self.speaker_turned = turned[1]
        self.name: str | None = None
        self.of_set, self._sigmas = of_set is not None, sigmas
        masks = of_set == "segment" or issubclass(both[1], Segment)
        # Raw keypoints differ by family.
        points = of_set == "pose" or both[0] is both[1]
        if issubclass(both[0], Segment) and masks:
            self.name = "mask"
        if issubclass(both[0], Pose) and points:
            self.name = "keypoint"
            self._shape = tuple(student.kpt_shape)  # type: ignore[union-attr, arg-type]
            # In cells from the anchor point, or in half cells from the cell's corner.
            self._scale, self._corner = (1.0, 0.0) if both[0] is Pose26 else (2.0, 0.5)

    def __call__(self, student: DenseBranch, teacher: DenseBranch, score: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the term on one branch, without gain.

        Args:
            student: the branch that learns.
            teacher: the branch that it learns from.
            score: the teacher's confidence at its objects' anchors and 0 elsewhere, shape (B, A).
            size: height and width of the pictures in pixels.
        """
        assert student.extra is not None
        assert teacher.extra is not None
        if self.of_set:  # of the anchors of one box the best alone
            assert teacher.proto is not None
            box = teacher.extra.squeeze(-1)
            best = score.new_zeros(len(score), teacher.proto.shape[1]).scatter_reduce(1, box, score, "amax")
            score = score * (score == best.gather(1, box))
        weight, index = score.topk(min(MOST, score.shape[1]), 1)
        picture = torch.arange(len(index), device=index.device)[:, None].expand_as(index)
        boxes = teacher.at((picture.flatten(), index.flatten()))[2].view(*index.shape, 4)
        ours, theirs = student.extra[picture, index], teacher.extra[picture, index]
        if self.of_set:
            assert teacher.proto is not None
            theirs = teacher.proto[picture, theirs.squeeze(-1)]
        if self.name == "mask":
            assert student.proto is not None
            assert teacher.proto is not None
            wanted = theirs if self.of_set else (theirs, teacher.proto)
            return mask_loss((ours, student.proto), wanted, boxes, weight, size)
        strides = student.strides[index][..., None].float()
        ours, theirs = (raw.float().view(*index.shape, self._shape[0], -1) for raw in (ours, theirs))
        if self.of_set:  # in pixels of the picture, and how sure, 0 to 1
            origin = (student.anchors[index].float()[:, :, None] - self._corner) * strides
            theirs = torch.cat([theirs[..., :2] - origin, theirs[..., 2:].logit(_LEAST)], -1)
        else:
            theirs = self._moved(theirs, strides)
        return keypoint_loss(self._moved(ours, strides), theirs, boxes, weight, self._sigmas)

    def _moved(self, raw: Tensor, strides: Tensor) -> Tensor:
        """Return keypoints as they come in pixels from where they are counted."""
        return torch.cat([raw[..., :2] * strides * self._scale, raw[..., 2:]], -1)


def require_comparable(
    recipe: Recipe, objects: ObjectTerm, ours: Sequence[int] | None, theirs: Sequence[int] | None
) -> None:
    """Refuse to teach a student what its teacher has in another form.

    Args:
        recipe: of the run, its gains settled.
        objects: of the two heads.
        ours: `kpt_shape` of the student; None of other tasks than pose.
        theirs: of the teacher.

    Raises:
        RequestError: one has other keypoints than the other, or only one has turned boxes.
    """
    # A set's keypoints say besides how sure each is, which the student's need not.
    count = 1 if objects.of_set else 2
    if "keypoint" in recipe.gains and ours and theirs and list(ours)[:count] != list(theirs)[:count]:
        raise RequestError(
            f"teacher={recipe.teacher}: finds keypoints of kpt_shape {list(theirs)}, and the student's are "
            f"{list(ours)}; give keypoint=0 to be taught boxes alone"
        )
    if recipe.gains and objects.of_set and not objects.comparable:
        raise RequestError(
            f"teacher={recipe.teacher}: answers with a set of upright boxes, and the student's are turned; give one "
            "YOLO as teacher"
        )
    if "localization" in recipe.gains and not objects.comparable:
        turned, upright = ("teacher", "student") if objects.speaker_turned else ("student", "teacher")
        raise RequestError(
            f"localization=: the {turned}'s boxes are turned and the {upright}'s are not; give localization=0"
        )
