"""Layer-wise healing: before training, each layer of the student learns to give what the teacher's same layer gives.

A layer whose inputs are fewer than in the teacher gives something else than the teacher's chosen channels, and the
errors add up from layer to layer. Here all layers learn at the same time, each on its own: from the map that the
student hands it, towards the teacher's map at the chosen channels, with no gradient from one layer to the next. A layer
so learns to make up for what the layers before it get wrong, which it can't when it is fed the teacher's maps
(asymmetric reconstruction: Zhang et al., TPAMI 2016, arXiv 1505.06798; He et al., ICCV 2017, arXiv 1707.06168).

The error of a layer is the mean over its channels of

    E[(s - t)^2] / Var[t]

over pictures and places: 0 is the teacher's map, 1 what its mean alone would give.

Measured on BCCD at 192 px, YOLO26s (val mAP50-95 49.8) -> YOLO26n, before any training, one run each: 0.0 as selected,
0.8 with batch norms estimated anew, 26 and 27 after 100 steps of healing (at lr=1e-3 21, at 1e-2 24; 9 when the head is
left out).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from yolo_distill.engine.start import StartReport

_SAY_EVERY = 15.0  # seconds
_EPS = 1e-6  # a channel that never changes


@dataclass(frozen=True)
class Healing:
    """What healing did.

    Attributes:
        steps: of the optimizer.
        before: mean error of the layers at the first batch.
        after: at the last.
    """

    steps: int
    before: float
    after: float

    def __str__(self) -> str:
        return f"{self.steps} steps, mean error of the layers {self.before:.3f} -> {self.after:.3f}"


def heal(
    student: DetectionModel,
    teacher: DetectionModel,
    report: StartReport,
    pictures: Tensor,
    steps: int,
    *,
    batch: int = 16,
    lr: float = 3e-3,
    seed: int = 0,
    device: torch.device | None = None,
    prefix: str = "",
) -> Healing:
    """Teach every layer of a started student the teacher's map at the chosen channels.

    The student's weights and running batch-norm statistics change; modes and devices are as before afterwards. The
    teacher stays as it is, and so does the global random state.

    Args:
        student: started with what `plan_start` selected.
        teacher: what it was started from.
        report: of that selection.
        pictures: of the training split, shape (N, C, H, W).
        steps: of the optimizer (AdamW, cosine to 0).
        batch: pictures a step.
        lr: the first step's learning rate.
        seed: of the order of the pictures.
        device: where to compute; None: where the student is.
        prefix: of the lines that say how far it is.
    """
    device = device or next(student.parameters()).device
    order = _order(len(pictures), batch, torch.Generator().manual_seed(seed))
    history: list[float] = []
    with _prepared(student, teacher, device), torch.enable_grad():
        optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=0.0)
        said = time.monotonic()
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
            errors = layer_errors(student, teacher, report, pictures[next(order)].to(device))
            total = torch.stack(list(errors.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            history.append(total.item() / len(errors))
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                LOGGER.info(f"{prefix}healing: step {step + 1} of {steps}, mean error {history[-1]:.3f}")
    return Healing(steps, history[0], history[-1]) if history else Healing(0, math.nan, math.nan)


def layer_errors(
    student: DetectionModel, teacher: DetectionModel, report: StartReport, pictures: Tensor
) -> dict[str, Tensor]:
    """Return the error of each of the student's layers, by path; gradients stay within a layer.

    Args:
        student: in the mode it is in.
        teacher: likewise.
        report: says which of the teacher's channels the student's are.
        pictures: shape (N, C, H, W), on the models' device.
    """
    paths = [path for path in _layers(student) if path in report.outputs]
    with torch.no_grad():
        wanted = _maps(teacher, paths, pictures)
    found = _maps(student, paths, pictures)
    errors = {}
    for path in paths:
        target = wanted[path][:, report.outputs[path].to(pictures.device)]
        if target.shape != found[path].shape:  # layers of the same place in networks that are not alike
            continue
        spread = target.var((0, 2, 3), unbiased=False) + _EPS
        errors[path] = ((found[path] - target).square().mean((0, 2, 3)) / spread).mean()
    return errors


def _layers(model: DetectionModel) -> list[str]:
    """Return the paths of what learns by itself: layers with weights, and in the head every stage of every branch.

    Relies on: the head's branches are lists of levels, and levels are sequences.
    """
    body = [f"model.{layer.i}" for layer in model.model[:-1] if any(True for _ in layer.parameters())]
    head = model.model[-1]
    return body + [
        f"model.{head.i}.{branch}.{level}.{stage}"
        for branch, levels in head.named_children()
        if isinstance(levels, nn.ModuleList)
        for level, stages in enumerate(levels)
        for stage, _ in enumerate(stages.children())
    ]


def _maps(model: DetectionModel, paths: Sequence[str], pictures: Tensor) -> dict[str, Tensor]:
    """Return what the layers give, by path; what each reads is cut off from what gave it."""
    found: dict[str, Tensor] = {}

    def cut(module: nn.Module, args: tuple[Tensor | list[Tensor], ...]) -> tuple[Tensor | list[Tensor], ...]:
        return tuple([m.detach() for m in maps] if isinstance(maps, list) else maps.detach() for maps in args)

    hooks = []
    for path in paths:
        layer = model.get_submodule(path)
        hooks.append(layer.register_forward_pre_hook(cut))
        hooks.append(layer.register_forward_hook(lambda module, args, output, path=path: found.update({path: output})))
    try:
        model(pictures)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _order(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield indices of pictures, `batch` at a time, in an order that is new for every pass over all of them."""
    batch = min(batch, count)
    while True:
        shuffled = torch.randperm(count, generator=generator)
        yield from (shuffled[start : start + batch] for start in range(0, count - batch + 1, batch))


@contextmanager
def _prepared(student: DetectionModel, teacher: DetectionModel, device: torch.device) -> Iterator[None]:
    """Bring both to the device, the student in training mode with all gradients, the teacher in eval mode."""
    homes = [(model, next(model.parameters()).device) for model in (student, teacher)]
    modes = [(module, module.training) for model in (student, teacher) for module in model.modules()]
    learning = [(p, p.requires_grad) for p in student.parameters()]
    student.to(device).train().requires_grad_(True)
    teacher.to(device).eval()
    teacher.model[-1].training = True  # the head itself, not what is in it: it then decodes nothing
    try:
        yield
    finally:
        student.zero_grad(set_to_none=True)
        for parameter, requires in learning:
            parameter.requires_grad_(requires)
        for module, mode in modes:
            module.training = mode
        for model, home in homes:
            model.to(home)
