"""What a teacher answers for a batch, densely or as a set, and how the raw output of a YOLO head is read.

The same reading serves the student's own head, so both sides of every loss are the same kind of thing.

Legend: B pictures, A anchors over all levels, M boxes of the picture that has most, nc classes, reg_max bins a side (1:
the distance itself).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import batched_nms
from ultralytics.utils.tal import dist2bbox, dist2rbox, make_anchors

#: Best class score from which on a box is one, whoever teaches; overlap above which NMS takes two boxes of a class for
#: one; boxes a picture. The last two are the host's own defaults.
CONF, IOU, MOST = 0.01, 0.7, 300
#: Indices into pictures and anchors: two index tensors of equal length N, or two full slices for every anchor of all.
Where = tuple[Tensor, Tensor] | tuple[slice, slice]


@dataclass(frozen=True)
class DenseBranch:
    """One branch of a YOLO head (one-to-many or one-to-one), as raw as it comes.

    Attributes:
        logits: class logits, shape (B, A, nc).
        sides: side outputs, shape (B, A, 4, reg_max): bin logits, or the distance itself where reg_max is 1; None where
            nobody needs them.
        anchors: anchor points in grid units, shape (A, 2).
        strides: pixels per grid unit at each anchor, shape (A, 1).
        taught: which anchors it speaks about, bool, shape (B, A); None for all of them.
        extra: what its head has beside class and box, shape (B, A, E): mask coefficients, keypoints as they come, or
            the angle of a turned box in radians; None where it has nothing or nobody needs it. Of a set that was laid
            out the place of each anchor's box in `proto`, shape (B, A, 1).
        proto: prototypes of masks, shape (B, C, H, W), or the set's own `extra`; None likewise.
    """

    logits: Tensor
    sides: Tensor | None
    anchors: Tensor
    strides: Tensor
    taught: Tensor | None = None
    extra: Tensor | None = None
    proto: Tensor | None = None

    @property
    def reg_max(self) -> int:
        assert self.sides is not None
        return int(self.sides.shape[-1])

    def at(self, where: Where) -> tuple[Tensor, Tensor, Tensor]:
        """Return sides (N, 4, reg_max), distances and boxes (N, 4), xyxy in pixels; (B, A) in place of N for slices."""
        assert self.sides is not None, "the teacher was not asked for boxes"
        anchor = where[1]
        sides = self.sides[where].float()
        if self.reg_max > 1:
            bins = torch.arange(self.reg_max, dtype=sides.dtype, device=sides.device)
            distances = (sides.softmax(-1) * bins).sum(-1)  # not @, which autocast does in half precision
        else:
            distances = sides.squeeze(-1)
        strides = self.strides[anchor].float()
        distances = distances * strides
        return sides, distances, dist2bbox(distances, self.anchors[anchor].float() * strides, xywh=False)

    def turned_at(self, where: Where) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `at` does, with turned boxes (N, 5) in place of upright ones, xywhr in pixels and radians."""
        assert self.extra is not None, "the teacher was not asked for angles"
        sides, distances, _ = self.at(where)
        angle, anchor = self.extra[where].float(), where[1]
        points = self.anchors[anchor].float() * self.strides[anchor].float()
        return sides, distances, torch.cat([dist2rbox(distances, angle, points), angle], -1)

    def around_at(self, where: Where) -> Tensor:
        """Return the upright boxes (N, 4) around turned ones, xyxy in pixels."""
        turned = self.turned_at(where)[2]
        centre, half, angle = turned[..., :2], turned[..., 2:4] / 2, turned[..., 4:]
        half = half * angle.cos().abs() + half.flip(-1) * angle.sin().abs()
        return torch.cat([centre - half, centre + half], -1)

    def take(self, anchors: Tensor) -> DenseBranch:
        """Return this branch with only the anchors of the given indices, in that order."""
        own = (None if t is None else t[:, anchors] for t in (self.sides, self.taught, self.extra))
        sides, taught, extra = own
        places, strides = self.anchors[anchors], self.strides[anchors]
        return DenseBranch(self.logits[:, anchors], sides, places, strides, taught, extra, self.proto)


@dataclass(frozen=True)
class DenseAnswer:
    """All that was asked of a YOLO about a batch.

    Attributes:
        one2many: the branch trained on many anchors an object; None where nobody needs it.
        one2one: the branch trained on one anchor an object, where the head has one and somebody needs it.
        maps: the neck's feature maps that feed the head, each (B, C, H, W), by stride in pixels; empty where nobody
            needs them.
        cells: anchors of each level, by stride in pixels, in the order of A.
        presence: how sure the teacher is that something is at each anchor, 0..1, shape (B, A); None where its branches
            say it. Those that a set was laid out over speak about a few anchors only.
    """

    one2many: DenseBranch | None
    one2one: DenseBranch | None
    maps: dict[int, Tensor]
    cells: dict[int, int]
    presence: Tensor | None = None

    @property
    def branches(self) -> list[DenseBranch]:
        """Those that are there, one-to-many first."""
        return [branch for branch in (self.one2many, self.one2one) if branch is not None]

    def keep(self, strides: Sequence[int]) -> DenseAnswer:
        """Return the answer reduced to some of its levels."""
        cells = {s: self.cells[s] for s in strides}
        maps = {s: self.maps[s] for s in strides if s in self.maps}
        one2many, one2one, presence = self.one2many, self.one2one, self.presence
        if self.branches and list(self.cells) != list(strides):
            starts = dict(zip(self.cells, accumulate(self.cells.values(), initial=0), strict=False))
            device = self.branches[0].logits.device
            index = torch.cat([torch.arange(count, device=device) + starts[s] for s, count in cells.items()])
            one2many, one2one = (None if one is None else one.take(index) for one in (one2many, one2one))
            presence = None if presence is None else presence[:, index]
        return DenseAnswer(one2many, one2one, maps, cells, presence)


def each_tensor(raw: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a head's raw output, tensors in dicts, lists and tuples, with all of them changed."""
    if isinstance(raw, Tensor):
        return change(raw)
    if isinstance(raw, dict):
        return {key: each_tensor(value, change) for key, value in raw.items()}
    return type(raw)(each_tensor(value, change) for value in raw)


def read_head(output: dict[str, Any], strides: Sequence[int], reg_max: int) -> DenseAnswer:
    """Read the raw prediction dict of the host's `Detect` head, with its strides in pixels per cell.

    It holds `boxes` (B, 4 * reg_max, A), `scores` (B, nc, A) and `feats` in the order of the strides, and what a head
    of another task has beside these; or two such dicts under `one2many` and `one2one`.
    """
    many = output.get("one2many", output)
    maps = dict(zip(strides, many["feats"], strict=True))
    # In single precision also where the maps are not: half a cell more or less is what an anchor point is about.
    anchors, anchor_strides = make_anchors(
        [m.detach().float() for m in many["feats"]], list(map(float, strides)), grid_cell_offset=0.5
    )

    branches = [
        make_branch(raw["scores"], raw["boxes"], anchors, anchor_strides, reg_max, *_extra(raw)) if raw else None
        for raw in (many, output.get("one2one"))
    ]
    return DenseAnswer(branches[0], branches[1], maps, {s: m.shape[-2] * m.shape[-1] for s, m in maps.items()})


def _extra(raw: Mapping[str, Any]) -> tuple[Tensor | None, Tensor | None]:
    """Return what the host's head of another task has beside class and box, and the prototypes of masks."""
    extra = next((raw[key] for key in ("mask_coefficient", "kpts", "angle") if key in raw), None)
    proto = raw.get("proto")
    return extra, proto[0] if isinstance(proto, tuple) else proto


def make_branch(
    scores: Tensor,
    boxes: Tensor | None,
    anchors: Tensor,
    strides: Tensor,
    reg_max: int,
    extra: Tensor | None = None,
    proto: Tensor | None = None,
) -> DenseBranch:
    """Return a branch from tensors in the head's order.

    Those are scores (B, nc, A), boxes (B, 4 * reg_max, A), and of other tasks extra (B, E, A) and proto (B, C, H, W).
    """
    sides = None if boxes is None else boxes.permute(0, 2, 1).reshape(len(boxes), -1, 4, reg_max)
    extra = None if extra is None else extra.permute(0, 2, 1)
    return DenseBranch(scores.permute(0, 2, 1), sides, anchors, strides, extra=extra, proto=proto)


@dataclass(frozen=True)
class SetAnswer:
    """Boxes of a batch with a probability for each class, from a teacher that has no anchors in common with a student.

    Attributes:
        boxes: (B, M, 4), xyxy in pixels of the pictures that were asked about.
        scores: class probabilities, independent of each other as a sigmoid's are, (B, M, nc). In a picture with fewer
            than M boxes the rest are 0, and so are their boxes.
        maps: feature maps that the teacher can show, each (B, C, H, W), by stride in pixels; empty where nobody needs
            them.
        extra: what its task adds to each box: the probabilities of a mask laid over it, (B, M, S, S), or keypoints
            (B, M, K, 3), x and y in pixels and how sure each is; None where boxes are all there is.
    """

    boxes: Tensor
    scores: Tensor
    maps: dict[int, Tensor] = field(default_factory=dict)
    extra: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """Which of the M boxes are there, bool, shape (B, M)."""
        return (self.scores > 0).any(-1)


def make_set(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    classes: int,
    maps: dict[int, Tensor] | None = None,
    extra: Sequence[Tensor] = (),
) -> SetAnswer:
    """Return boxes (N, 4) and scores (N, nc) of pictures, each with its own N, as one answer about all of them.

    `extra` is what goes with the boxes of each picture, (N, ...), if anything does.
    """
    assert boxes, "a batch has pictures"
    most = max(len(b) for b in boxes)
    all_boxes = boxes[0].new_zeros(len(boxes), most, 4)
    all_scores = boxes[0].new_zeros(len(boxes), most, classes)
    for i, (own_boxes, own_scores) in enumerate(zip(boxes, scores, strict=True)):
        all_boxes[i, : len(own_boxes)] = own_boxes
        all_scores[i, : len(own_scores)] = own_scores
    own = pad_sequence(list(extra), batch_first=True) if extra else None
    return SetAnswer(all_boxes, all_scores, maps or {}, own)


def surest(boxes: Tensor, scores: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return of boxes (B, N, 4) and scores (B, N, nc) each picture's that are sure of some class, the surest first."""
    found = []
    for own_boxes, own_scores in zip(boxes, scores, strict=True):
        best = own_scores.amax(-1)
        index = best.argsort(descending=True, stable=True)[: int((best > CONF).sum())]
        found.append((own_boxes[index], own_scores[index]))
    return found


def as_set(answer: DenseAnswer, *, conf: float = CONF, iou: float = IOU, turned: bool = False) -> SetAnswer:
    """Return a dense answer as a set: what its one-to-one branch says, or what NMS leaves of the other.

    Of turned boxes these are the upright ones around them.
    """
    branch = answer.one2one or answer.one2many
    assert branch is not None, "the teacher was not asked for scores"
    count, _, classes = branch.logits.shape
    scores = branch.logits.float().sigmoid()
    best, label = scores.max(-1)
    boxes, found = [], []
    for picture in range(count):
        index = (best[picture] > conf).nonzero().squeeze(-1)
        index = index[best[picture, index].argsort(descending=True, stable=True)[: 10 * MOST]]
        where = torch.full_like(index, picture), index
        own = branch.around_at(where) if turned else branch.at(where)[2]
        if answer.one2one is None:
            kept = batched_nms(own, best[picture, index], label[picture, index], iou)
            index, own = index[kept], own[kept]
        boxes.append(own[:MOST])
        found.append(scores[picture, index[:MOST]])
    return make_set(boxes, found, classes, dict(answer.maps))
