"""From a proved fp32 file to one of lower precision that the guard accepts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_distill.errors import DistillError
from yolo_distill.exporting.acceptance import Guard, Verdict
from yolo_distill.exporting.layer_sensitivity import rank_layers
from yolo_distill.graphs.half import write_half
from yolo_distill.graphs.quantise import METHODS, Floats, Quantiser

_RANKED_ON = 16  # pictures
_FOR_HISTOGRAMS = 128  # pictures; a histogram of every tensor takes its time


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A file of lower precision.

    Attributes:
        path: the file.
        verdict: what the guard measured on it; None for fp32, which is proved beside torch.
        calibration: how the ranges of int8 were chosen; None for fp32 and fp16.
        pictures: how many pictures they were chosen on.
        kept: what stayed in fp32: `decoding`, and layers by name.
    """

    path: Path
    verdict: Verdict | None
    calibration: str | None = None
    pictures: int = 0
    kept: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether it may be shipped."""
        return self.verdict is None or self.verdict.ok

    @property
    def loss(self) -> float:
        """What orders attempts, see `Verdict`."""
        return 0.0 if self.verdict is None else self.verdict.loss


def to_fp16(file: Path, path: Path, guard: Guard) -> Lowered:
    """Write and judge an fp16 file.

    Raises:
        DistillError: it is not good enough.
    """
    write_half(file, path)
    verdict = guard.judge(path)
    if not verdict.ok:
        raise DistillError(f"precision=fp16: {verdict}; wanted {guard.wanted()}; no file is kept")
    return Lowered(path, verdict)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What int8 is made from.

    Attributes:
        pictures: each (C, H, W) uint8, as the network sees them.
        takes_pictures: whether the file will take pictures in 8 bits, see `graphs.input_form`.
    """

    pictures: Sequence[npt.NDArray[np.uint8]]
    takes_pictures: bool


def to_int8(
    file: Path,
    path: Path,
    guard: Guard,
    calibration: Calibration,
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> Lowered:
    """Write an int8 file that the guard accepts, with as few layers in fp32 as that takes.

    Each way to choose the ranges is tried and the best one is taken. If none is good enough, more and more
    layers are left in fp32, those first whose 8 bits cost most.

    Args:
        file: the fp32 file.
        path: where to.
        guard: says when it is good enough.
        calibration: pictures, and what the file will take.
        say: told what was found, a line each.
        progress: told how far it is.

    Raises:
        DistillError: no attempt was good enough; the best one's figures are named.
    """
    tried: list[tuple[Lowered, Quantiser]] = []
    for method, percent in METHODS.items():
        some = _some(calibration.pictures, _FOR_HISTOGRAMS if percent else len(calibration.pictures))
        progress(f"calibrating on {len(some)} pictures ({method})")
        quantiser = Quantiser(file, _inputs(some), method=method)
        file_so_far = path.with_name(f"{path.stem}-{method}.onnx")
        always = quantiser.kept_always(pictures=calibration.takes_pictures)
        quantiser.write(file_so_far, keep=_nodes(always))
        verdict = guard.judge(file_so_far)
        tried.append((Lowered(file_so_far, verdict, method, len(some), tuple(always)), quantiser))
        say(_line(tried[-1][0]))
    best, quantiser = min(tried, key=lambda one: one[0].loss)
    if best.accepted:
        return best
    attempts = [lowered for lowered, _ in tried]
    for attempt in _with_islands(best, quantiser, path, guard, calibration, progress):
        attempts.append(attempt)
        say(_line(attempt))
        if attempt.accepted:
            return attempt
    best = min(attempts, key=lambda one: one.loss)
    raise DistillError(
        f"precision=int8: the best of {len(attempts)} attempts, {_line(best)}; wanted {guard.wanted()}; no file is "
        "kept; give more pictures to calibrate on, a larger max_drop=, or precision=fp16"
    )


def _with_islands(
    best: Lowered,
    quantiser: Quantiser,
    path: Path,
    guard: Guard,
    calibration: Calibration,
    progress: Callable[[str], None],
) -> Iterator[Lowered]:
    """Yield files with one, two, four, ... layers in fp32, each written over the one before."""
    always = quantiser.kept_always(pictures=calibration.takes_pictures)
    inputs = list(_inputs(_some(calibration.pictures, _RANKED_ON)))
    ranked = rank_layers(quantiser, inputs, _nodes(always), path.parent, progress)
    count = 1
    while count <= len(ranked) // 2:  # with more than half of them in fp32 there is little left to gain
        kept = always | dict(ranked[:count])
        quantiser.write(path, keep=_nodes(kept))
        yield Lowered(path, guard.judge(path), best.calibration, best.pictures, tuple(kept))
        count *= 2


def _nodes(kept: Mapping[str, Sequence[str]]) -> list[str]:
    return [node for nodes in kept.values() for node in nodes]


def _line(lowered: Lowered) -> str:
    left = f", in fp32: {', '.join(lowered.kept)}" if lowered.kept else ""
    return f"int8 ({lowered.calibration}{left}): {lowered.verdict}"


def _some(pictures: Sequence[npt.NDArray[np.uint8]], most: int) -> list[npt.NDArray[np.uint8]]:
    """Return pictures evenly spaced over all of them."""
    return [pictures[int(at)] for at in np.linspace(0, len(pictures) - 1, min(len(pictures), most))]


def _inputs(pictures: Sequence[npt.NDArray[Any]]) -> Iterator[Floats]:
    for picture in pictures:
        yield picture[None].astype(np.float32) / np.float32(255)
