"""Several teachers as one: their boxes joined by weighted box fusion, with what each says about every class.

Source: Solovyev, Wang and Gabruseva, "Weighted boxes fusion: Ensembling boxes from different object detection models",
Image and Vision Computing 107, 2021, arXiv 1910.13302, by its authors' library `ensemble-boxes`.

Boxes of one class that overlap form a cluster. Of a cluster with boxes b_i of scores c_i, from T teachers:

    box = sum_i c_i b_i / sum_i c_i        score = mean_i c_i * (teachers in the cluster) / T

Legend: B pictures, M boxes, T teachers, nc classes of the union.

Departures from the paper, which knows one class a box and models that know the same classes:

- A fused box has a score in every class: the mean of what the teachers say about it, each by its box of the cluster's
  class that overlaps the fused one most. Who knows a class and has no such box says 0. In the class of the cluster it
  is the score above. A teacher that sees another class there has a cluster of its own; counted in both, the object
  would be there twice, and sure both times.
- T counts the teachers that know the class. One that was never trained on it has not voted against it.
- What a teacher repeats (a weaker box of the same class, with an overlap at which the fusion would take the two for
  one) is left out beforehand. The paper averages repetitions in, and a weak one would halve the score of a strong one.
- The score counts teachers (the library's `box_and_model_avg`), not boxes, so that what repetitions are left are no
  agreement (github.com/ZFTurbo/Weighted-Boxes-Fusion/issues/40). With one box a teacher both are the same.
- Boxes end at the picture's edges, as labels do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from yolo_distill.errors import RequestError, missing_extra
from yolo_distill.teachers.answer import DenseAnswer, SetAnswer, as_set, make_set
from yolo_distill.teachers.class_names import spelled
from yolo_distill.teachers.head import Needs, Size
from yolo_distill.teachers.teacher import Teacher

#: Overlap above which boxes of a class are one object; what the paper found best.
SAME_OBJECT = 0.55


class SeveralTeachers(Teacher):
    """Answers in sets: what several teachers agree on, and what only some of them see, less sure.

    Class names are the union of the teachers', in the order of their first appearance. Feature maps are put one behind
    the other along the channels, at the strides that all teachers with maps share. A loss that is a mean over channels,
    as `cwd`, `pkd` and `mimic` are, then is the mean of the losses towards each teacher, weighted by its channels, with
    a projector of its own for each.

    On a GPU all teachers start before one is waited for; the fusion itself is done by the CPU.
    """

    def __init__(self, teachers: Sequence[Teacher], needs: Needs) -> None:
        """Join `teachers`, each asked for both scores and boxes where `needs` has either.

        Raises:
            RequestError: the library is missing, or maps are needed and no stride is common to all who have them.
        """
        self.teachers, self.needs = list(teachers), needs
        union, self._columns = unite([teacher.names for teacher in self.teachers])
        self.names = dict(enumerate(union))
        self._known = torch.zeros(len(self.teachers), len(union), dtype=torch.bool)
        for known, columns in zip(self._known, self._columns, strict=True):
            known[columns] = True
        self._with_maps = [bool(needs.maps and teacher.needs.maps and teacher.widths) for teacher in self.teachers]
        widths = [t.widths for t, has in zip(self.teachers, self._with_maps, strict=True) if has]
        self.strides = [s for s in widths[0] if all(s in other for other in widths)] if widths else []
        self.widths = {stride: sum(own[stride] for own in widths) for stride in self.strides}
        if widths and not self.strides:
            given = " and ".join(", ".join(map(str, own)) for own in widths)
            raise RequestError(
                f"the teachers' feature maps have no stride in common ({given}); use teachers that share one, or leave "
                "out the feature terms"
            )
        self._in_sets = needs.scores or needs.boxes
        if self._in_sets:
            load_fusion()

    def __call__(self, images: Tensor) -> SetAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1."""
        answers = [teacher(images) for teacher in self.teachers]
        for teacher, answer in zip(self.teachers, answers, strict=True):
            teacher.wait(answer)
        showing = [answer for answer, has in zip(answers, self._with_maps, strict=True) if has]
        maps = {stride: torch.cat([answer.maps[stride] for answer in showing], 1) for stride in self.strides}
        if not self._in_sets:
            nothing = images.new_zeros(len(images), 0, 4 + len(self.names), dtype=torch.float32)
            return SetAnswer(nothing[..., :4], nothing[..., 4:], maps)
        sets = [self._united(*one) for one in zip(answers, self.teachers, self._columns, strict=True)]
        height, width = images.shape[-2:]
        return replace(fuse(sets, self._known, (height, width)), maps=maps)

    def _united(self, answer: DenseAnswer | SetAnswer, teacher: Teacher, columns: list[int]) -> SetAnswer:
        """Return an answer as a set, in the union's columns and without maps."""
        if isinstance(answer, DenseAnswer):
            answer = as_set(answer, turned=teacher.task == "obb")
        scores = answer.scores.new_zeros(*answer.scores.shape[:2], len(self.names))
        scores[..., columns] = answer.scores
        return SetAnswer(answer.boxes, scores)


def unite(names: Sequence[Mapping[int, str]]) -> tuple[list[str], list[list[int]]]:
    """Unite class lists by column: the same name first, then the same up to case, spaces, `_` and `-`.

    Two columns of one teacher stay two, whatever they are called.

    Returns:
        the union in order of first appearance, and for each teacher the union's column of each of its own.
    """
    union: list[str] = []
    columns = []
    for by_column in names:
        own = [name for _, name in sorted(by_column.items())]
        places: dict[int, int] = {}
        for spelling in (str, spelled):
            free = defaultdict(list)
            for place, name in enumerate(union):
                if place not in places.values():
                    free[spelling(name)].append(place)
            for column, name in enumerate(own):
                if column not in places and free[spelling(name)]:
                    places[column] = free[spelling(name)].pop(0)
        for column, name in enumerate(own):
            if column not in places:
                places[column] = len(union)
                union.append(name)
        columns.append([places[column] for column in range(len(own))])
    return union, columns


def fuse(answers: Sequence[SetAnswer], known: Tensor, size: Size) -> SetAnswer:
    """Join answers about pictures of a size, in the same class columns, strongest boxes first; see the top of the file.

    `known` says which of the classes each teacher knows, bool, shape (T, nc); somebody knows each.
    """
    device = answers[0].boxes.device
    answers = [SetAnswer(answer.boxes.cpu(), answer.scores.cpu()) for answer in answers]
    edges = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    boxes, scores = [], []
    for picture in range(len(answers[0].boxes)):
        parts = [_part(answer, picture, edges) for answer in answers]
        own_boxes, own_scores = _fuse_picture(parts, known.cpu())
        boxes.append(own_boxes * edges)
        scores.append(own_scores)
    fused = make_set(boxes, scores, known.shape[1])
    return SetAnswer(fused.boxes.to(device), fused.scores.to(device))


def load_fusion() -> Any:
    """Return the library's `weighted_boxes_fusion`.

    Raises:
        RequestError: it is missing.
    """
    try:
        return import_module("ensemble_boxes").weighted_boxes_fusion
    except ImportError as error:
        raise missing_extra(error.name or "ensemble_boxes", "joining the boxes of several teachers", "fusion") from None


def _part(answer: SetAnswer, picture: int, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a teacher says about a picture, said once: boxes in 0..1, shape (N, 4), and scores, (N, nc)."""
    there = answer.present[picture]
    scores = answer.scores[picture, there].float()
    boxes = (answer.boxes[picture, there].float() / edges).clamp(0, 1)
    there = (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores = boxes[there], scores[there]
    best, label = scores.max(1)
    kept = batched_nms(boxes, best, label, SAME_OBJECT)
    return boxes[kept], scores[kept]


def _fuse_picture(parts: Sequence[tuple[Tensor, Tensor]], known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fused boxes of a picture, shape (M, 4), in 0..1, and their scores, (M, nc), strongest first."""
    best = [scores.max(1) for _, scores in parts]
    found = load_fusion()(
        [boxes.numpy() for boxes, _ in parts],
        [scores.numpy() for scores, _ in best],
        [labels.numpy() for _, labels in best],
        iou_thr=SAME_OBJECT,
        conf_type="box_and_model_avg",
    )
    fused, score, label = (torch.from_numpy(array).float() for array in found)
    label = label.long()
    said = torch.zeros(len(fused), known.shape[1])
    for (boxes, scores), (_, labels) in zip(parts, best, strict=True):
        if len(boxes):
            overlap, index = (box_iou(fused, boxes) * (label[:, None] == labels)).max(1)
            said += scores[index] * (overlap > SAME_OBJECT)[:, None]
    asked = known.sum(0)
    said /= asked
    # The library divides by all teachers; those that do not know the class never had a say.
    said[torch.arange(len(fused)), label] = (score * len(parts) / asked[label]).clamp(max=1)
    order = said.amax(1).argsort(descending=True, stable=True)
    return fused[order], said[order]
