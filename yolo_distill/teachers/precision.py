"""In which precision a teacher answers: what the machine has, what is fastest there, and whether the answers stay.

A teacher never learns, so it need not be computed as the student is. Which way is fastest depends on the machine: it is
measured there, on pictures of the run, and a way whose answers differ too much from single precision is not taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.metrics import bbox_iou

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.losses.logit import confidence
from yolo_distill.teachers.answer import DenseAnswer
from yolo_distill.teachers.yolo import Forward, TorchForward, YoloTeacher
from yolo_distill.timing import AT_A_TIME, least_seconds, timed_pictures

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Seconds of teaching that a run must have ahead before a file for ONNX Runtime is built for it.
WORTH_BUILDING = 60.0
#: Teacher score above which an anchor counts in the comparison of answers, as `box_floor` of the default recipe; of a
#: teacher that is sure of less, this many anchors count.
SURE, AT_LEAST = 0.05, 64
#: Pictures on which answers are compared, `AT_A_TIME` of them; the rest calibrates int8.
COMPARED = 8


#: A CPU computes all of these somehow.
CPU_PRECISIONS = ("fp32", "bf16", "fp16", "int8")


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

    def bearable(self, precision: str) -> bool:
        """Return whether answers this far off still teach the same.

        Some 20 times the rounding of bf16 is refused. Maps in int8 may be further off: what `cwd` is worth was measured
        with some that are off by 0.11 to 0.16 (tests/benchmarks/MEASURED.md, "What each part adds").
        """
        return self.scores <= 0.02 and self.boxes <= 0.05 and self.maps <= (0.2 if precision == "int8" else 0.1)

    @property
    def finite(self) -> bool:
        """Whether there is nothing else than numbers in the answers."""
        return math.isfinite(self.scores + self.boxes + self.maps)

    def __str__(self) -> str:
        return f"scores {self.scores:.4f}, boxes {self.boxes:.3f} (1 - IoU), maps {self.maps:.3f} from fp32"


@dataclass(frozen=True)
class Choice:
    """The way that was taken: a precision, by `torch` or `ONNX Runtime`.

    Attributes:
        difference: of its answers to fp32; None for fp32 by torch.
    """

    precision: str
    engine: str
    difference: Difference | None

    def __str__(self) -> str:
        return self.precision if self.engine == "torch" else f"{self.precision} by {self.engine}"

    @property
    def bearable(self) -> bool:
        """Whether its answers teach the same; others are given only by a precision that was asked for by name."""
        return self.difference is None or self.difference.bearable(self.precision)


@cache
def machine_precisions(device_type: str) -> tuple[str, ...]:
    """Return the precisions in which this machine computes at least as fast as in fp32, fp32 first.

    A CPU has a type if a convolution in it is faster than in fp32.
    """
    if device_type == "cpu":
        return ("fp32", *(name for name in ("bf16", "fp16") if _faster_than_fp32(DTYPES[name])), "int8")
    if device_type == "cuda":
        return ("fp32", "fp16", *(["bf16"] if torch.cuda.is_bf16_supported(including_emulation=False) else []))
    return ("fp32", "fp16")


def goes_on_here(precision: str, device_type: str) -> bool:
    """Return whether a run that goes on on such a device, perhaps another than it began on, keeps its precision."""
    return precision in (("fp32", "bf16", "int8") if device_type == "cpu" else machine_precisions(device_type))


def require_precision(precision: str, device_type: str) -> None:
    """Refuse a precision that the machine has not, naming those it has; a CPU has all, though not all are faster.

    Raises:
        RequestError: there is no such precision.
    """
    has = CPU_PRECISIONS if device_type == "cpu" else machine_precisions(device_type)
    if precision != "auto" and precision not in has:
        raise RequestError(f"teacher_precision={precision}: this machine's {device_type} has {', '.join(has)}")


def choose_forward(
    teacher: YoloTeacher, wanted: str, pictures: Tensor, answers: float, *, batch: int = AT_A_TIME
) -> Choice:
    """Choose how the teacher computes its answers, and set it up so.

    Args:
        teacher: as it was made; computes in fp32 by torch.
        wanted: `auto` or a precision.
        pictures: of the run, on the CPU, shape (N, 3, H, W), N at least 1.
        answers: pictures that the run will ask the teacher about.
        batch: of the run, on one device: no more pictures at a time are asked about here either.

    Raises:
        RequestError: the machine has no such precision.
        DistillError: the teacher can't be computed in the precision that was asked for.
    """
    plain = teacher.forward
    assert isinstance(plain, TorchForward)
    device = next(plain.model.parameters()).device
    require_precision(wanted, device.type)
    parts = list(torch.split(pictures[:COMPARED].to(device), min(batch, AT_A_TIME)))
    reference = [_ask(teacher, part) for part in parts]
    precisions = machine_precisions(device.type) if wanted == "auto" else (wanted,)
    ways: dict[tuple[str, str], Forward] = {
        (p, "torch"): plain if p == "fp32" else TorchForward(plain.model, DTYPES[p]) for p in precisions if p != "int8"
    }
    timed = parts[0]
    if (count := timed_pictures(device, batch)) > len(timed):
        timed = pictures[torch.arange(count) % len(pictures)].to(device)
    seconds = _seconds(teacher, ways, timed)
    ahead = min(seconds.values(), default=0.0) / len(timed) * answers
    if wanted == "int8" or (device.type == "cpu" and wanted in {"auto", "fp32"} and ahead > WORTH_BUILDING):
        ways |= _by_onnx_runtime(plain.model, wanted, pictures)
        seconds = _seconds(teacher, ways, timed)
    for way in sorted(ways, key=lambda way: seconds[way]):
        teacher.forward = ways[way]
        if way == ("fp32", "torch"):
            return Choice(*way, None)
        off = difference([_ask(teacher, part) for part in parts], reference)
        choice = Choice(*way, off)
        if choice.bearable:
            return choice
        if wanted != "auto" and off.finite:
            LOGGER.warning(f"teacher_precision={wanted}: its answers are off by {off}; auto would not take it")
            return choice
    raise DistillError(f"teacher_precision={wanted}: the teacher's answers are not finite in it; use fp32")


def difference(answers: Sequence[DenseAnswer], references: Sequence[DenseAnswer]) -> Difference:
    """Return how far answers are from references to the same pictures."""
    scores, boxes, weights, maps = [], [], [], [0.0]
    for answer, reference in zip(answers, references, strict=True):
        for ours, theirs in zip(answer.branches, reference.branches, strict=True):
            sure = confidence(theirs.logits)
            least = min(SURE, float(sure.flatten().topk(min(AT_LEAST, sure.numel())).values[-1]))
            picture, anchor = (sure >= least).nonzero(as_tuple=True)
            where = picture, anchor
            scores.append((ours.logits.sigmoid() - theirs.logits.sigmoid()).abs().amax(-1)[where])
            if ours.sides is not None:
                overlap = bbox_iou(ours.at(where)[2], theirs.at(where)[2], xywh=False).squeeze(-1)
                boxes.append(1 - overlap.clamp(0, 1))
                weights.append(sure[where])
        for stride, known in reference.maps.items():
            off = (answer.maps[stride] - known).square().mean().sqrt() / known.std().clamp(min=1e-12)
            maps.append(_finite(float(off)))
    return Difference(_mean(scores), _mean(boxes, weights), max(maps))


def _ask(teacher: YoloTeacher, pictures: Tensor) -> DenseAnswer:
    answer = teacher(pictures)
    teacher.wait(answer)
    return answer


def _by_onnx_runtime(model: DetectionModel, wanted: str, pictures: Tensor) -> dict[tuple[str, str], Forward]:
    """Return the way by ONNX Runtime: fp32 where that is wanted, or else int8. Nothing where it can't be built."""
    from yolo_distill.teachers.onnx_forward import OnnxForward  # takes a second to import

    precision = "fp32" if wanted == "fp32" else "int8"
    calibration = pictures[COMPARED:] if len(pictures) > COMPARED else pictures
    LOGGER.info(f"building the teacher's {precision} file for ONNX Runtime ...")
    try:
        return {(precision, "ONNX Runtime"): OnnxForward(model, None if precision == "fp32" else calibration)}
    except Exception as error:  # whatever exporter and quantiser make of an architecture that they don't know
        reason = " ".join(str(error).split())[:200]
        if wanted == "int8":
            raise DistillError(
                f"teacher_precision=int8: this teacher can't be quantised ({reason}); use auto"
            ) from error
        LOGGER.warning(f"no {precision} teacher by ONNX Runtime, going on with torch ({reason})")
        return {}


def _seconds(
    teacher: YoloTeacher, ways: dict[tuple[str, str], Forward], pictures: Tensor
) -> dict[tuple[str, str], float]:
    """Return the time of an answer in each way."""

    def answer(forward: Forward) -> None:
        teacher.forward = forward
        _ask(teacher, pictures)

    calls = {" ".join(way): (lambda forward=forward: answer(forward)) for way, forward in ways.items()}
    seconds = least_seconds(calls, pictures.device)
    return {way: seconds[" ".join(way)] for way in ways}


def _mean(values: Sequence[Tensor], weights: Sequence[Tensor] | None = None) -> float:
    """Return the weighted mean; 0 of nothing. A value that is not finite makes it infinite."""
    if not values:
        return 0.0
    value = torch.cat(list(values)).cpu().double()
    weight = torch.ones_like(value) if weights is None else torch.cat(list(weights)).cpu().double()
    return _finite(float((value * weight).sum() / weight.sum().clamp(min=1e-12)))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _faster_than_fp32(dtype: torch.dtype) -> bool:
    """Return whether a convolution as YOLOs have it gains a fifth or more."""
    picture, weight = (
        torch.zeros(shape).to(memory_format=torch.channels_last) for shape in ((1, 64, 64, 64), (64, 64, 3, 3))
    )
    given = {"fp32": (picture, weight), "other": (picture.to(dtype), weight.to(dtype))}
    calls = {name: (lambda x=x, w=w: conv2d(x, w, padding=1)) for name, (x, w) in given.items()}
    try:
        with torch.inference_mode():
            # Milliseconds each: often enough to find both undisturbed on a busy machine. A very busy one gets more
            # chances: what is found to be faster once, is.
            timed = (least_seconds(calls, repeats=25) for _ in range(3))
            return any(seconds["other"] * 1.2 < seconds["fp32"] for seconds in timed)
    except RuntimeError:  # torch has no such convolution here
        return False
