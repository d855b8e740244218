"""The student's loss: the host's own criterion plus the distillation terms.

The criterion is where Ultralytics keeps a model's loss, so the student stays a plain `DetectionModel`: nothing wraps
it, its checkpoints are the host's, and a compiled student is the host's business alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from yolo_distill.data.mixed_batches import LABELLED, labelled_part
from yolo_distill.distillation.anchor_assignment import SetAssignment
from yolo_distill.distillation.gain_balance import MEASURE_EVERY, Balancer
from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.distillation.pseudo_labels import with_pseudo_labels
from yolo_distill.distillation.terms import Terms
from yolo_distill.errors import RequestError
from yolo_distill.losses.devices import average_over_devices
from yolo_distill.teachers.answer import DenseAnswer, SetAnswer, read_head
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.terms_table import TABLE

#: Names of the terms in the progress bar, in results.csv and for the host's loggers.
LOSS_NAMES = {name: term.column for name, term in TABLE.items()}


class DistillationCriterion:
    """Called as the host calls a criterion: `(preds, batch) -> (loss, items)`.

    It is no `nn.Module` on purpose: assigned to a model, a module would become part of its state dict.

    Attributes:
        host: the host's criterion for this student.
        steps: batches seen in training.
        course: landmarks of the run that the terms' schedules go by.
        balancer: moves the gains; None where they stay as given.
        until: batches after which the teacher is not asked any more; None for never.
        measure_every: batches between two measurements of the gradient shares; 0 for never.
        shares: gradient norm of each term at the neck divided by the task's, from the last time it was measured.
        cosines: cosine of the same two gradients, from the same time; without terms that have no gradient.
    """

    def __init__(
        self,
        host: Callable[..., tuple[Tensor, dict[str, Tensor]]],
        teacher: Teacher,
        terms: Terms,
        strides: list[int],
        reg_max: int,
        balancer: Balancer | None = None,
    ) -> None:
        """Put the terms beside the host's loss, for a student whose head has levels of `strides` pixels."""
        self.host, self.teacher, self.terms = host, teacher, terms
        self.strides, self.reg_max = strides, reg_max
        self.balancer, self.course = balancer, Course()
        self.steps = self.measure_every = self._measure_at = self._first = 0
        self.until: int | None = None
        self.shares: dict[str, float] = {}
        self.cosines: dict[str, float] = {}
        self._answer: DenseAnswer | SetAnswer | None = None

    def start_at(self, steps: int, *, course: Course, until: int | None, measure_every: int) -> None:
        """Say where the run is at the start of an epoch, in batches; see the attributes.

        Measuring begins anew where that is not where the last epoch ended, or its batches were others.
        """
        self.course, self.until = course, until
        if (self.steps, self.measure_every) == (steps, measure_every):
            return
        self.steps, self.measure_every = steps, measure_every
        # A balancer looks at once, before the terms have grown: what it starts from is only a guess.
        # Otherwise once an epoch, by its last batch.
        self._measure_at = steps + (0 if self.balancer else max(measure_every - 1, 0))
        self._first = steps

    def balance(self) -> dict[str, Any]:
        """Return where the balancer is, and when it looks again, for `go_on_balancing`; empty without one."""
        if self.balancer is None:
            return {}
        return {"factors": dict(self.balancer.factors), "first": self._first, "next": self._measure_at}

    def go_on_balancing(self, balance: Mapping[str, Any]) -> None:
        """Balance as a run did that was interrupted, behind `start_at`."""
        if self.balancer is not None and balance:
            self.balancer.restore(balance["factors"])
            self._first, self._measure_at = balance["first"], balance["next"]

    def gains(self) -> dict[str, float]:
        """Return the terms' gains at full strength, as the balancer has them now."""
        factors = self.balancer.factors if self.balancer else {}
        return {name: gain * factors.get(name, 1.0) for name, gain in self.terms.recipe.gains.items()}

    def strengths(self) -> dict[str, float]:
        """Return the factor of each term's schedule for the batch that comes next."""
        schedule = self.terms.recipe.schedule
        return {name: self.course.strength(schedule.get(name, "ramp"), self.steps) for name in self.terms.recipe.gains}

    @property
    def teaches(self) -> bool:
        """Whether the teacher has a say in the batch that comes next."""
        return self.until is None or self.steps < self.until

    def prepare(self, batch: dict[str, Any]) -> None:
        """Ask the teacher about a batch before the student sees it.

        On a GPU the two then compute side by side; on a CPU what the teacher needs in between is free again before the
        student needs its own.
        """
        if self.teaches:
            self._answer = self.teacher.of_batch(batch)

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the host's loss vector with one element a term behind it, times the batch size as the host's is.

        The host's loss is that of the labelled pictures, and with `unlabeled_conf` of all, by what the teacher is sure
        of; the terms are of all.

        Args:
            preds: the student's raw head output in training.
            batch: the host's batch; `img` is what both sides see.

        Returns:
            loss vector, and all its parts by name, detached and not multiplied by the batch size. The terms of a batch
            without the teacher are 0.
        """
        batch_size = batch["img"].shape[0]
        if self.teaches and self.terms.recipe.unlabeled_conf is not None and LABELLED in batch:
            batch = with_pseudo_labels(
                batch, self._answer_to(batch), self.terms.classes, self.terms.recipe.unlabeled_conf
            )
        part = labelled_part(preds, batch, overlap=getattr(getattr(self.host, "one2many", self.host), "overlap", True))
        loss, items = self.host(*(part or (preds, batch)))
        if part is not None:  # in proportion to the terms as it is where all are labelled
            loss = loss * (batch_size / len(part[1]["img"]))
        terms = self._terms(loss.sum() / batch_size, preds, batch) if self.teaches else self._no_terms(loss)
        self.steps += torch.is_grad_enabled()
        names = {LOSS_NAMES[name]: term.detach() for name, term in terms.items()}
        return torch.cat([loss, torch.stack(list(terms.values())) * batch_size]), {**items, **names}

    def _answer_to(self, batch: dict[str, Any]) -> DenseAnswer | SetAnswer:
        """Return the teacher's answer, asked for now where nobody has before."""
        if self._answer is None:
            self.prepare(batch)
        assert self._answer is not None
        self.teacher.wait(self._answer)
        return self._answer

    def _terms(self, task: Tensor, preds: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        images = batch["img"]
        answer, self._answer = self._answer_to(batch), None
        many, single = branch_weights(self.host)
        strengths = self.strengths()
        gains = {name: gain * strengths[name] for name, gain in self.gains().items()}
        with torch.autocast(images.device.type, enabled=False):
            student = read_head(preds[1] if isinstance(preds, tuple) else preds, self.strides, self.reg_max)
            if isinstance(answer, SetAnswer):
                answer = SetAssignment(self.host, self.terms.classes, self.terms.recipe.box_floor)(student, answer)
            height, width = images.shape[-2:]
            terms = self.terms(student, answer, many, single, (height, width), gains=gains, step=self.steps)
        if torch.is_grad_enabled() and self.measure_every and self.steps >= self._measure_at and any(gains.values()):
            self._measure(task, terms, student, strengths)
        return terms

    def _measure(
        self, task: Tensor, terms: dict[str, Tensor], student: DenseAnswer, strengths: dict[str, float]
    ) -> None:
        self.shares, self.cosines = gradient_shares(task, terms, student)
        if self.balancer and not self.shares:
            raise RequestError(
                "balance=auto: freeze= covers the student's neck, so that there is no gradient to measure; freeze "
                "fewer layers, or give balance=fixed"
            )
        if self.balancer is None:
            # By the last batch of the next epoch, counted from where this one ends.
            self._measure_at = (self.steps // self.measure_every + 2) * self.measure_every - 1
            return
        # Every device has to move its gains alike.
        mean = average_over_devices(torch.tensor(list(self.shares.values()), device=task.device)).tolist()
        full = {name: share / strengths[name] for name, share in zip(self.shares, mean, strict=True) if strengths[name]}
        self.balancer.observe(full)
        # Often at first, when gains are guesses and the student moves fast: after 1, 2, 4, ... batches. And at least
        # once an epoch, so that each can say its shares.
        often = min(MEASURE_EVERY, self.measure_every)
        self._measure_at = self.steps + min(max(self.steps - self._first, 1), often)

    def _no_terms(self, loss: Tensor) -> dict[str, Tensor]:
        self.shares, self.cosines = dict.fromkeys(self.terms.recipe.gains, 0.0), {}
        return {name: loss.new_zeros(()) for name in self.terms.recipe.gains}

    def update(self) -> None:
        """Pass on the host's end-of-epoch call, with which an end-to-end loss shifts weight between its branches."""
        if hasattr(self.host, "update"):
            self.host.update()


def branch_weights(host: Any) -> tuple[float, float]:
    """Return the weights of the one-to-many and one-to-one branches in the host's loss.

    `E2ELoss` moves them during a run; a head with one branch, or a loss that adds the two as they are, has 1 and 1.
    """
    return float(getattr(host, "o2m", 1.0)), float(getattr(host, "o2o", 1.0))


def gradient_shares(
    task: Tensor, terms: dict[str, Tensor], student: DenseAnswer
) -> tuple[dict[str, float], dict[str, float]]:
    """Return how strong each term's gradient is at the student's neck maps beside the task's, and in which direction.

    The neck is the last place that all terms share. Terms on the one-to-one branch do not reach it: the host detaches
    that branch's input. A gain says nothing about this share, which is what decides between help and harm.

    Maps in fp16 hold no gradient as small as that of a term at the foot of its ramp, so the losses are scaled for them
    as the host's scaler does for training.

    Levels that `freeze=` keeps from learning have no gradient and don't count; without any other, nothing is returned.

    Returns:
        gradient norm of each term divided by the task's; and the cosine of the two gradients, for the terms that have
        one: 1 where the term pulls as the labels do, below 0 where it pulls against them.
    """
    maps = [found for found in student.maps.values() if found.requires_grad]
    if not maps:
        return {}, {}
    half = any(m.dtype == torch.float16 for m in maps)

    def gradient(loss: Tensor) -> tuple[list[Tensor | None], float, float]:
        """Return the gradient times a scale, the norm of that, and the scale."""
        if not loss.requires_grad:
            return [], 0.0, 1.0
        scale = 2.0**16 if half else 1.0
        while True:
            found = torch.autograd.grad(loss * scale, maps, retain_graph=True, allow_unused=True)
            squares = sum(float(g.float().square().sum()) for g in found if g is not None)
            if math.isfinite(squares) or scale <= 1:
                return list(found), squares**0.5, scale
            scale /= 16

    of_task, task_norm, task_scale = gradient(task)
    shares, cosines = {}, {}
    for name, term in terms.items():
        of_term, norm, scale = gradient(term)
        shares[name] = (norm / scale) / (task_norm / task_scale) if task_norm else 0.0
        if norm and task_norm:
            pairs = [(a, b) for a, b in zip(of_term, of_task, strict=True) if a is not None and b is not None]
            cosines[name] = sum(float((a.float() * b.float()).sum()) for a, b in pairs) / norm / task_norm
    return shares, cosines
