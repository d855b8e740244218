"""In which precision a teacher answers: what the machine has, what is fastest there, and whether the answers stay.

A teacher never learns, so it need not be computed as the student is. Which way is fastest depends on the machine: it is
measured there, on pictures of the run, and a way whose answers differ too much from single precision is not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from ultralytics.utils.metrics import bbox_iou

from yolo_distill.errors import RequestError
from yolo_distill.losses.logit import confidence
from yolo_distill.teachers.answer import DenseAnswer
from yolo_distill.teachers.clock import least_seconds
from yolo_distill.teachers.yolo import Forward, TorchForward, YoloTeacher

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Seconds of teaching that a run must have ahead before a file for ONNX Runtime is built for it.
WORTH_BUILDING = 60.0
#: Teacher score above which an anchor counts in the comparison of answers; as `box_floor` of the default recipe.
SURE = 0.05
#: Pictures that the ways are timed on, and on which their answers are compared; the rest calibrates int8.
TIMED, COMPARED = 4, 8


@dataclass(frozen=True)
class Difference:
    """How far answers are from those in single precision, at anchors where the teacher is sure of something.

    Attributes:
        scores: mean of the largest difference of a class score at an anchor.
        boxes: 1 minus the mean overlap (IoU) of boxes, weighted by the teacher's score.
        maps: root mean square difference of the maps, relative to their spread.
    """

    scores: float
    boxes: float
    maps: float

    @property
    def bearable(self) -> bool:
        """Whether answers this far off still teach the same; some 20 times the rounding of bf16 is refused."""
        return self.scores <= 0.02 and self.boxes <= 0.05 and self.maps <= 0.1

    def __str__(self) -> str:
        return f"scores {self.scores:.4f}, boxes {self.boxes:.3f} (1 - IoU), maps {self.maps:.3f} from fp32"


@dataclass(frozen=True)
class Choice:
    """The way that was taken.

    Attributes:
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        engine: `torch` or `ONNX Runtime`.
        difference: of its answers to fp32; None for fp32 by torch.
    """

    precision: str
    engine: str
    difference: Difference | None

    def __str__(self) -> str:
        return self.precision if self.engine == "torch" else f"{self.precision} by {self.engine}"


@cache
def machine_precisions(device_type: str) -> tuple[str, ...]:
    """Return the precisions in which this machine computes at least as fast as in fp32, fp32 first.

    A CPU computes any type somehow; it has one if a convolution in it is faster than in fp32.
    """
    if device_type == "cpu":
        return ("fp32", *(name for name in ("bf16", "fp16") if _faster_than_fp32(DTYPES[name])), "int8")
    if device_type == "cuda":
        return ("fp32", "fp16", *(["bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []))
    return ("fp32", "fp16")


def require_precision(precision: str, device_type: str, said: str = "teacher_precision") -> None:
    """Raise if the machine has no such precision.

    Raises:
        RequestError: naming those it has.
    """
    has = machine_precisions(device_type)
    if precision != "auto" and precision not in has:
        raise RequestError(
            f"{said}={precision}: this machine's {device_type} does not gain by it; it has {', '.join(has)}"
        )


def choose_forward(teacher: YoloTeacher, wanted: str, pictures: Tensor, answers: int) -> Choice:
    """Choose how the teacher computes its answers, and set it up so.

    Args:
        teacher: as it was made; computes in fp32 by torch.
        wanted: `auto` or a precision.
        pictures: of the run, on the teacher's device, shape (N, 3, H, W), N at least 1.
        answers: pictures that the run will ask the teacher about.

    Raises:
        RequestError: the machine has no such precision.
    """
    device = pictures.device
    require_precision(wanted, device.type)
    plain = teacher.forward
    assert isinstance(plain, TorchForward)
    model = plain.model
    precisions = machine_precisions(device.type) if wanted == "auto" else (wanted,)
    ways: dict[tuple[str, str], Forward] = {
        (p, "torch"): plain if p == "fp32" else TorchForward(model, DTYPES[p]) for p in precisions if p != "int8"
    }
    reference = teacher(pictures[:COMPARED])
    seconds = _seconds(teacher, ways, pictures[:TIMED]) if len(ways) > 1 or device.type == "cpu" else {}
    ahead = min(seconds.values(), default=0.0) / min(len(pictures), TIMED) * answers
    if wanted == "int8" or (device.type == "cpu" and wanted in {"auto", "fp32"} and ahead > WORTH_BUILDING):
        from yolo_distill.teachers.onnx_forward import OnnxForward  # takes a second to import

        precision = "fp32" if wanted == "fp32" else "int8"
        calibration = pictures[COMPARED:] if len(pictures) > COMPARED else pictures
        ways[precision, "ONNX Runtime"] = OnnxForward(model, None if precision == "fp32" else calibration)
        seconds = _seconds(teacher, ways, pictures[:TIMED])
    for way in sorted(ways, key=lambda way: seconds.get(way, 0.0)):
        teacher.forward = ways[way]
        if way == ("fp32", "torch"):
            return Choice(*way, None)
        choice = Choice(*way, difference(teacher(pictures[:COMPARED]), reference))
        if choice.difference is not None and (choice.difference.bearable or wanted != "auto"):
            return choice
    raise AssertionError("fp32 by torch is always a way")


def difference(answer: DenseAnswer, reference: DenseAnswer) -> Difference:
    """Return how far an answer is from a reference to the same pictures."""
    scores, boxes, weights = [], [], []
    for ours, theirs in ((answer.one2many, reference.one2many), (answer.one2one, reference.one2one)):
        if ours is None or theirs is None:
            continue
        sure = confidence(theirs.logits)
        picture, anchor = (sure > SURE).nonzero(as_tuple=True)
        where = picture, anchor
        scores.append((ours.logits.sigmoid() - theirs.logits.sigmoid()).abs().amax(-1)[where])
        if ours.sides is not None:
            overlap = bbox_iou(ours.at(where)[2], theirs.at(where)[2], xywh=False).squeeze(-1)
            boxes.append(1 - overlap.clamp(0, 1))
            weights.append(sure[where])
    maps = [
        float((answer.maps[s] - m).square().mean().sqrt() / m.std().clamp(min=1e-12)) for s, m in reference.maps.items()
    ]
    return Difference(_mean(scores), _mean(boxes, weights), max(maps, default=0.0))


def _seconds(
    teacher: YoloTeacher, ways: dict[tuple[str, str], Forward], pictures: Tensor
) -> dict[tuple[str, str], float]:
    def answer(forward: Forward) -> None:
        teacher.forward = forward
        teacher.wait(teacher(pictures))

    calls = {" ".join(way): (lambda forward=forward: answer(forward)) for way, forward in ways.items()}
    seconds = least_seconds(calls, pictures.device)
    return {way: seconds[" ".join(way)] for way in ways}


def _mean(values: Sequence[Tensor], weights: Sequence[Tensor] | None = None) -> float:
    """Return the weighted mean; 0 of nothing. A value that is not finite makes it infinite."""
    if not values or not sum(v.numel() for v in values):
        return 0.0
    value = torch.cat(list(values)).double()
    weight = torch.ones_like(value) if weights is None else torch.cat(list(weights)).double()
    mean = float((value * weight).sum() / weight.sum())
    return mean if mean == mean else float("inf")


def _faster_than_fp32(dtype: torch.dtype) -> bool:
    """Return whether a convolution as YOLOs have it gains a fifth or more."""
    picture, weight = (
        torch.zeros(shape).to(memory_format=torch.channels_last) for shape in ((1, 64, 64, 64), (64, 64, 3, 3))
    )
    given = {"fp32": (picture, weight), "other": (picture.to(dtype), weight.to(dtype))}
    calls = {name: (lambda x=x, w=w: conv2d(x, w, padding=1)) for name, (x, w) in given.items()}
    try:
        with torch.inference_mode():
            seconds = least_seconds(calls, repeats=5)
    except RuntimeError:  # torch has no such convolution here
        return False
    return seconds["other"] * 1.2 < seconds["fp32"]
