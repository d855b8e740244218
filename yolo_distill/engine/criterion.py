"""The student's loss: the host's own criterion plus the distillation terms.

The criterion is where Ultralytics keeps a model's loss, so the student stays a plain `DetectionModel`: nothing wraps
it, its checkpoints are the host's, and a compiled student is the host's business alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from yolo_distill.engine.terms import Terms
from yolo_distill.teachers.answer import DenseAnswer, read_head
from yolo_distill.teachers.yolo import YoloTeacher

#: Names of the terms in the progress bar, in results.csv and for the host's loggers; at most 10 letters, as the
#: progress bar's columns are 11 wide.
LOSS_NAMES = {"logit": "logit_loss", "localization": "local_loss", "cwd": "cwd_loss"}


class DistillationCriterion:
    """Called as the host calls a criterion: `(preds, batch) -> (loss, items)`.

    It is no `nn.Module` on purpose: assigned to a model, a module would become part of its state dict.

    Attributes:
        host: the host's criterion for this student.
        steps: batches seen in training, over which the terms ramp up.
        ramp_steps: batches over which the terms grow to their gains.
        measure_every: batches between two measurements of the gradient shares; 0 for never.
        shares: gradient norm of each term at the neck divided by the task's, from the last time it was measured.
    """

    def __init__(
        self,
        host: Callable[..., tuple[Tensor, dict[str, Tensor]]],
        teacher: YoloTeacher,
        terms: Terms,
        strides: list[int],
        reg_max: int,
    ) -> None:
        """Put the terms beside the host's loss.

        Args:
            host: the host's criterion.
            teacher: answers for the batch.
            terms: computes the terms from both answers.
            strides: of the student's levels, in pixels.
            reg_max: bins a side of the student's head.
        """
        self.host, self.teacher, self.terms = host, teacher, terms
        self.strides, self.reg_max = strides, reg_max
        self.steps = self.ramp_steps = self.measure_every = 0
        self.shares: dict[str, float] = {}

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the host's loss vector with one element a term behind it, times the batch size as the host's is.

        Args:
            preds: the student's raw head output in training.
            batch: the host's batch; `img` is what both sides see.

        Returns:
            loss vector, and all its parts by name, detached and not multiplied by the batch size.
        """
        loss, items = self.host(preds, batch)
        raw = preds[1] if isinstance(preds, tuple) else preds
        images = batch["img"]
        answer = self.teacher(images)
        many, single = branch_weights(self.host)
        with torch.autocast(images.device.type, enabled=False):
            student = read_head(raw, self.strides, self.reg_max)
            height, width = images.shape[-2:]
            terms = self.terms(student, answer, many, single, (height, width))
        ramp = min(1.0, self.steps / self.ramp_steps) if self.ramp_steps else 1.0
        batch_size = images.shape[0]
        scaled = {name: term * ramp for name, term in terms.items()}
        if torch.is_grad_enabled():
            if self.measure_every and self.steps % self.measure_every == self.measure_every - 1:
                self.shares = gradient_shares(loss.sum() / batch_size, scaled, student)
            self.steps += 1
        names = {LOSS_NAMES[name]: term.detach() for name, term in scaled.items()}
        return torch.cat([loss, torch.stack(list(scaled.values())) * batch_size]), {**items, **names}

    def update(self) -> None:
        """Pass on the host's end-of-epoch call, with which an end-to-end loss shifts weight between its branches."""
        if hasattr(self.host, "update"):
            self.host.update()


def branch_weights(host: Any) -> tuple[float, float]:
    """Return the weights of the one-to-many and one-to-one branches in the host's loss.

    `E2ELoss` moves them during a run; a head with one branch, or a loss that adds the two as they are, has 1 and 1.
    """
    return float(getattr(host, "o2m", 1.0)), float(getattr(host, "o2o", 1.0))


def gradient_shares(task: Tensor, terms: dict[str, Tensor], student: DenseAnswer) -> dict[str, float]:
    """Return the gradient norm of each term at the student's neck maps, divided by the task's.

    The neck is the last place that all terms share. Terms on the one-to-one branch do not reach it: the host detaches
    that branch's input. A gain says nothing about this share, which is what decides between help and harm.
    """
    maps = list(student.maps.values())

    def norm(loss: Tensor) -> float:
        if not loss.requires_grad:
            return 0.0
        gradients = torch.autograd.grad(loss, maps, retain_graph=True, allow_unused=True)
        return sum(float(g.float().square().sum()) for g in gradients if g is not None) ** 0.5

    reference = norm(task)
    return {name: norm(term) / reference if reference else 0.0 for name, term in terms.items()}
