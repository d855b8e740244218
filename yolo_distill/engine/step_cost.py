"""What a step costs on this machine: the student's in each way it can be computed, and the teacher's share on top."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import OBB, Pose, Segment
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.distillation.criterion import DistillationCriterion
from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.errors import RequestError
from yolo_distill.losses.devices import alone
from yolo_distill.teachers.answer import each_tensor
from yolo_distill.teachers.precision import DTYPES, machine_precisions
from yolo_distill.timing import AT_A_TIME, least_seconds

#: Ways that must be this much faster than the host's own to be taken.
GAIN = 0.95
#: In which a student trains on a CPU. Any CPU computes both, and `amp=True` finds out which is faster. What was found
#: out once, for a comparison or a run that was interrupted, is not asked again: whoever else uses the processor by then
#: would change the answer.
CPU_PRECISIONS = ("fp32", "bf16")


def require_trainable(amp: bool | str) -> None:
    """Raise if a student can't be trained on a CPU as the host's `amp` asks for.

    Raises:
        RequestError: naming the precisions in which it can.
    """
    if isinstance(amp, str) and amp not in CPU_PRECISIONS:
        can = " or ".join(CPU_PRECISIONS)
        raise RequestError(f"amp={amp}: on a CPU a student trains in {can}; amp=True takes the faster")


def choose_student_precision(model: nn.Module, pictures: Tensor, wanted: bool | str) -> str:
    """Return the precision in which the student is fastest on this CPU, `fp32` or `bf16`.

    Args:
        model: the student, a `DetectionModel` with the host's arguments in `args`; it stays as it is.
        pictures: shape (N, 3, H, W).
        wanted: the host's `amp`: True measures, False and `fp32` mean single precision, `bf16` means it.

    Raises:
        RequestError: a student can't be trained in it on a CPU.
    """
    require_trainable(wanted)
    if wanted == "bf16":
        return "bf16"
    if wanted in {False, "fp32"} or "bf16" not in machine_precisions("cpu"):
        return "fp32"
    batch = made_batch(pictures[:AT_A_TIME], model=model)
    seconds = least_seconds({p: step(model, batch, p) for p in ("fp32", "bf16")}, repeats=2)
    return "bf16" if seconds["bf16"] < GAIN * seconds["fp32"] else "fp32"


def cost_of_teaching(model: nn.Module, criterion: DistillationCriterion, pictures: Tensor, precision: str) -> float:
    """Return how much longer a step with the teacher takes than one without, as a share of the latter.

    Args:
        model: the student; it stays as it is.
        criterion: the student's loss with the terms; it stays as it is.
        pictures: shape (N, 3, H, W), on the student's device; all of them make up the step that is timed.
        precision: of the student.
    """
    batch = made_batch(pictures, model=model)
    taught = copy(criterion)
    taught.start_at(0, course=Course(), until=None, measure_every=0)
    calls = {"plain": step(model, batch, precision, criterion.host), "taught": step(model, batch, precision, taught)}
    with alone():  # the first of several devices measures for all of them
        seconds = least_seconds(calls, pictures.device)
    criterion.terms.projectors.zero_grad()
    return max(seconds["taught"] / seconds["plain"] - 1, 0.0)


def step(
    model: nn.Module, batch: dict[str, Tensor], precision: str = "fp32", criterion: Callable[..., Any] | None = None
) -> Callable[[], None]:
    """Return a call that does a student's forward and backward pass on a copy of it.

    Args:
        model: a `DetectionModel`.
        batch: as the host makes them.
        precision: `fp32`, `bf16` or `fp16`.
        criterion: the loss; the host's own when None.
    """
    with without_criterion(model):
        own = cast("DetectionModel", deepcopy(model)).train()
    for parameter in own.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    if criterion is None:
        criterion = FullPrecisionLoss(own.init_criterion())
    prepare = getattr(criterion, "prepare", lambda batch: None)
    measured = criterion

    def call() -> None:
        given = dict(batch)
        with torch.autocast(given["img"].device.type, DTYPES[precision], enabled=precision != "fp32"):
            prepare(given)
            loss, _ = measured(own(given["img"]), given)
        loss.sum().backward()
        own.zero_grad()

    return call


@contextmanager
def without_criterion(model: Any) -> Iterator[None]:
    """Take off what hangs on a student for a while: copies would bring the criterion along, and with it the teacher."""
    criterion = getattr(model, "criterion", None)
    model.criterion = None
    try:
        yield
    finally:
        model.criterion = criterion


def made_batch(pictures: Tensor, objects: int = 8, model: Any = None) -> dict[str, Tensor]:
    """Return a batch as the host makes them for a model's task, with objects spread over each picture."""
    count = len(pictures) * objects
    spread = torch.linspace(0.2, 0.8, objects, device=pictures.device).repeat(len(pictures))
    batch = {
        "img": pictures,
        "batch_idx": torch.arange(len(pictures), device=pictures.device).repeat_interleave(objects).float(),
        "cls": torch.zeros(count, 1, device=pictures.device),
        "bboxes": torch.stack([spread, spread.flip(0), torch.full_like(spread, 0.2), torch.full_like(spread, 0.2)], 1),
    }
    head = None if model is None else model.model[-1]
    if isinstance(head, OBB):
        batch["bboxes"] = torch.cat([batch["bboxes"], torch.zeros_like(spread)[:, None]], 1)
    elif isinstance(head, Pose):
        keypoints, values = head.kpt_shape
        batch["keypoints"] = torch.full((count, keypoints, values), 0.5, device=pictures.device)
    elif isinstance(head, Segment):
        height, width = pictures.shape[2] // 4, pictures.shape[3] // 4
        rows = (torch.arange(height, device=pictures.device) % (objects + 1))[None, :, None]  # 0: no object
        if not model.args.overlap_mask:  # one an object then
            rows = (rows == torch.arange(1, objects + 1, device=pictures.device)[:, None, None]).float()
        batch["masks"] = rows.repeat(len(pictures), 1, width)
        batch["sem_masks"] = torch.zeros(len(pictures), height, width, device=pictures.device)
    return batch


class FullPrecisionLoss:
    """Called as the host's criterion, which it asks in single precision; everything else is the host's criterion's."""

    def __init__(self, host: Callable[..., tuple[Tensor, dict[str, Tensor]]]) -> None:
        self.host = host

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the host's criterion does for `preds`, a head's raw output of any type."""
        with torch.autocast(batch["img"].device.type, enabled=False):
            return self.host(each_tensor(preds, Tensor.float), batch)

    def __getattr__(self, name: str) -> Any:
        if name == "host":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.host, name)
