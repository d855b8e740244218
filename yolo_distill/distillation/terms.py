"""The distillation terms of a batch: which tensors of teacher and student go into which loss.

Teaching goes branch to branch: one-to-many from one-to-many, and one-to-one from one-to-one at the teacher's peaks
only. Dense one-to-many answers never reach the one-to-one branch: they would teach it to answer twice for an object.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Pose, Segment
from ultralytics.utils.metrics import batch_probiou, bbox_iou

from yolo_distill.data.class_mapping import ClassMatch
from yolo_distill.distillation.feature_terms import FeatureTerms
from yolo_distill.distillation.object_terms import ObjectTerm
from yolo_distill.errors import RequestError
from yolo_distill.losses.logit import NOTHING, confidence
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, Where
from yolo_distill.teachers.head import Needs
from yolo_distill.terms_table import TABLE, TERMS

#: The terms on the head's answers, anchor by anchor.
DENSE_TERMS = frozenset(name for name in TERMS if TABLE[name].kind in {"class", "box"})
#: Overlap above which a weaker answer of the teacher is a repetition, the host's own default for NMS.
SAME_OBJECT = 0.7
#: Answers of a dense teacher that are looked at for a picture's objects, the host's own `max_det`.
MOST_OBJECTS = 300


def require_classes(recipe: Recipe, matched: int) -> None:
    """Refuse to compare classes with each other where there are not two.

    Raises:
        RequestError: a term that does so has a gain, and fewer than two classes are known to both sides.
    """
    for name, gain in recipe.gains.items():
        if TABLE[name].two_classes and matched < 2:
            raise RequestError(
                f"{name}={gain:g}: compares classes with each other, and teacher and data have {matched} in common; "
                f"use logit= with {name}=0"
            )


@dataclass(frozen=True)
class Levels:
    """Feature levels of student and teacher, matched by stride.

    Attributes:
        common: strides that both have, in pixels, in the student's order.
        student: all strides of the student.
        teacher: all strides of the teacher.
    """

    common: list[int]
    student: list[int]
    teacher: list[int]

    @classmethod
    def match(cls, student: Sequence[int], teacher: Sequence[int]) -> Levels:
        """Match two heads' strides."""
        return cls([s for s in student if s in set(teacher)], list(student), list(teacher))

    def __str__(self) -> str:
        text = f"levels of stride {', '.join(map(str, self.common)) or 'none'}"
        for who, strides in (("student", self.student), ("teacher", self.teacher)):
            if extra := [s for s in strides if s not in self.common]:
                text += f"; stride {', '.join(map(str, extra))} of the {who} left out"
        return text


class Terms:
    """Computes the terms of a recipe for a pair of answers.

    Args:
        recipe: gains and their settings.
        classes: which class columns correspond.
        levels: which levels correspond.
        projectors: see `yolo_distill.distillation.projectors.make_projectors`; empty without a feature term.
        maps: strides of the maps that the teacher shows; None where it shows those of all levels.
        objects: the term of the student's task; None: it has none.

    Raises:
        RequestError: see `require_classes`.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: ClassMatch,
        levels: Levels,
        projectors: nn.ModuleDict,
        maps: Collection[int] | None = None,
        objects: ObjectTerm | None = None,
    ) -> None:
        require_classes(recipe, len(classes.matched))
        self.recipe, self.classes, self.levels, self.projectors = recipe, classes, levels, projectors
        shown = [stride for stride in levels.common if maps is None or stride in maps]
        self._objects = objects or ObjectTerm(None, None)
        self._features = FeatureTerms(recipe, shown, projectors)
        dense = {name: TABLE[name] for name in recipe.gains if name in DENSE_TERMS}
        self._losses = {name: term.bind(term.loss, recipe) for name, term in dense.items()}
        self._anchors = {name: term.bind(term.anchors, recipe) for name, term in dense.items() if term.anchors}

    def __call__(
        self,
        student: DenseAnswer,
        teacher: DenseAnswer,
        many: float,
        single: float,
        size: tuple[int, int],
        *,
        gains: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> dict[str, Tensor]:
        """Return each term times its gain, by name; gradients reach the student and the projectors only.

        Args:
            student: the student's answer, with graph.
            teacher: the teacher's answer to the same pictures.
            many: weight of the student's one-to-many branch in the task's own loss; cwd, pkd and mgd have it as well.
            single: weight of its one-to-one branch.
            size: height and width of the pictures in pixels.
            gains: of each of the recipe's terms in this batch; the recipe's own when None. A term whose gain is 0 is
                not computed: it is a zero without graph.
            step: number of the batch, by which what a term draws by chance is seeded.
        """
        gains = self.recipe.gains if gains is None else gains
        active = {name for name in self.recipe.gains if gains[name]}
        student, teacher = (answer.keep(self.levels.common) for answer in (student, teacher))
        assert student.one2many is not None
        terms = {name: student.one2many.logits.new_zeros((), dtype=torch.float32) for name in self.recipe.gains}
        pairs: list[tuple[float, DenseBranch, DenseBranch, Tensor | None]] = []
        taught = self.classes.matched and active & DENSE_TERMS
        if taught and many and teacher.one2many is not None:
            pairs.append((many, student.one2many, teacher.one2many, teacher.one2many.taught))
        source = teacher.one2one or teacher.one2many
        own = self._objects.name if self.classes.matched and self._objects.name in active else None
        one2one = student.one2one if single else None
        if source is not None and (own or (taught and one2one is not None)):
            peaks = self._peaks(teacher)
            if taught and one2one is not None:
                pairs.append((single, one2one, source, peaks))
            if own:
                score = confidence(self._their_columns(source)).float() * peaks
                for weight, learner in ((many, student.one2many), (single, one2one)):
                    if weight and learner is not None:
                        terms[own] = terms[own] + weight * self._objects(learner, source, score, size)
        for weight, learner, speaker, chosen in pairs:
            for name, loss in self._branch(active, learner, speaker, chosen, size).items():
                terms[name] = terms[name] + weight * loss
        features = self._features(active, student, teacher, step)
        # The task's gradient at the neck is that of the one-to-many branch alone, whose weight an end-to-end loss takes
        # back over a run: a feature term that stays as it is would drown it.
        terms |= {name: term if TABLE[name].as_host else many * term for name, term in features.items()}
        return {name: gains[name] * term for name, term in terms.items()}

    def _branch(
        self, active: set[str], student: DenseBranch, teacher: DenseBranch, peaks: Tensor | None, size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Return the active terms on one branch, by name and without gain.

        Args:
            active: names of the terms to compute.
            student: the branch that learns.
            teacher: the branch that it learns from.
            peaks: the anchors that are taught, bool, shape (B, A); None where each term chooses its own.
            size: height and width of the pictures in pixels.
        """
        ours, theirs = self._columns(student, self.classes.student), self._their_columns(teacher)
        score = confidence(theirs)
        terms = {}
        for name, loss in self._losses.items():
            if name not in active:
                continue
            if peaks is not None:
                taught = peaks
            elif name in self._anchors:
                taught = self._anchors[name](ours, theirs)
            else:
                taught = score > (self.recipe.box_floor if TABLE[name].kind == "box" else NOTHING)
            where, chosen = choose_anchors(taught)
            if TABLE[name].kind == "class":
                terms[name] = loss(ours[where].float(), theirs[where], chosen)
            else:
                sure = score[where] if chosen is None else score * chosen
                both = [
                    branch.turned_at(where) if self._objects.turned else branch.at(where)
                    for branch in (student, teacher)
                ]
                terms[name] = loss(*both, sure, size)
        return terms

    @staticmethod
    def _columns(branch: DenseBranch, columns: Sequence[int]) -> Tensor:
        """Return the logits of the matched classes; without a copy where that is all of them in their order."""
        if list(columns) == list(range(branch.logits.shape[-1])):
            return branch.logits
        return branch.logits[..., columns]

    def _their_columns(self, branch: DenseBranch) -> Tensor:
        """Return the teacher's logits of the matched classes; of several that mean the same, the surest."""
        if all(len(columns) == 1 for columns in self.classes.sources):
            return self._columns(branch, self.classes.teacher)
        return self.classes.of_teacher(branch.logits)

    def _peaks(self, teacher: DenseAnswer) -> Tensor:
        """Return which anchors hold the teacher's one answer for an object, bool, shape (B, A).

        A one-to-one branch answers once by its training, a set by what it is. Of a dense branch it is what a fast NMS
        leaves (Bolya et al., "YOLACT", ICCV 2019, arXiv 1904.02689, section 3.3): an answer is a repetition if a
        stronger one of its class overlaps it. All pictures at once, and of fixed size, so that a GPU need not be waited
        for.
        """
        branch = teacher.one2one or teacher.one2many
        assert branch is not None
        if branch.taught is not None:
            return branch.taught
        logits = self._their_columns(branch)
        taught = confidence(logits) > self.recipe.box_floor
        if teacher.one2one is not None:
            return taught
        best, label = logits.max(-1)
        count = min(MOST_OBJECTS, best.shape[1])
        index = best.topk(count, 1).indices  # strongest first
        picture = torch.arange(len(best), device=best.device).unsqueeze(1)
        where = picture.expand_as(index).flatten(), index.flatten()
        if self._objects.speaker_turned:
            turned = branch.turned_at(where)[2].view(*index.shape, -1)
            overlap = torch.stack([batch_probiou(own, own) for own in turned])
        else:
            boxes = branch.at(where)[2].view(*index.shape, 4)
            overlap = bbox_iou(boxes.unsqueeze(2), boxes.unsqueeze(1), xywh=False).squeeze(-1)
        same = label.gather(1, index)
        overlap = overlap * (same.unsqueeze(2) == same.unsqueeze(1))
        repeated = overlap.triu(1).amax(1) > SAME_OBJECT
        return torch.zeros_like(taught).scatter(1, index, ~repeated) & taught


def choose_anchors(taught: Tensor) -> tuple[Where, Tensor | None]:
    """Return how to take the anchors that are taught, and the weight of those that are taken; None if all have 1.

    On a CPU only they are computed on. Elsewhere all are, and the weight rules out the others: how many are taught is
    known to the device alone, and asking it would make the host wait for it in every step.

    Args:
        taught: bool, shape (B, A).
    """
    if taught.device.type == "cpu":
        picture, anchor = taught.nonzero(as_tuple=True)
        return (picture, anchor), None
    return (slice(None), slice(None)), taught.float()


def needs_of(recipe: Recipe, student_head: nn.Module, teacher_head: nn.Module | None) -> Needs:
    """Return what the terms with a gain need of a teacher for this student.

    Args:
        recipe: which terms have a gain.
        student_head: the host's.
        teacher_head: of a teacher that is one YOLO; None for any other, whose boxes and scores belong together.
    """
    terms = [TABLE[name] for name in recipe.gains]
    wanted = {need for term in terms for need in term.needs}
    dense = "scores" in wanted
    places = any(term.weighed_by and getattr(recipe, term.weighed_by) == "score" for term in terms)
    single = getattr(student_head, "one2one_cv2", None) is not None
    theirs = teacher_head is None or getattr(teacher_head, "one2one_cv2", None) is not None
    return Needs(
        scores=dense or places,
        # A teacher without one-to-one branch teaches that of the student what is left of its boxes after NMS.
        boxes="boxes" in wanted or (dense and (teacher_head is None or (single and not theirs))),
        # The places of a map are weighed by both branches, whatever the student has.
        one2one=((dense and single) or places) and theirs,
        maps="maps" in wanted,
        # A detector that answers in sets would find masks or keypoints for nothing.
        extra="extra" in wanted and (teacher_head is not None or isinstance(student_head, (Segment, Pose))),
    )
