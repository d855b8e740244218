"""From a proved fp32 file to one of lower precision that the guard accepts."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_distill.errors import DistillError, one_line
from yolo_distill.exporting.acceptance import UNTRAINED, Guard, Verdict
from yolo_distill.exporting.int8_training import train_int8
from yolo_distill.exporting.layer_sensitivity import rank_layers
from yolo_distill.graphs.half import write_half
from yolo_distill.graphs.quantise import METHODS, Floats, Quantiser
from yolo_distill.runtime.detector import Detector

_RANKED_ON = 16  # pictures
_FOR_HISTOGRAMS = 128  # pictures; a histogram of every tensor takes its time

Pictures = Sequence[npt.NDArray[np.uint8]]


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A file of lower precision.

    Attributes:
        path: the file.
        verdict: what the guard measured on it.
        method: how the ranges of int8 were chosen, see `METHODS`; empty for fp16.
        pictures: how many pictures they were chosen on.
        kept: what stayed in fp32: `decoding`, and layers by name.
    """

    path: Path
    verdict: Verdict
    method: str = ""
    pictures: int = 0
    kept: tuple[str, ...] = ()

    @property
    def calibration(self) -> dict[str, Any]:
        """What the report says of int8; nothing of fp16."""
        return {"method": self.method, "pictures": self.pictures, "kept": list(self.kept)} if self.method else {}

    def __str__(self) -> str:
        left = f", in fp32: {', '.join(self.kept)}" if self.kept else ""
        return f"int8 ({self.method}{left}): {self.verdict}"


def to_fp16(file: Path, path: Path, guard: Guard) -> Lowered:
    """Write and judge an fp16 file.

    Raises:
        DistillError: it is not good enough.
    """
    write_half(file, path)
    verdict = guard.judge(path)
    if not verdict.ok:
        advice = f"; {UNTRAINED}" if guard.finds_nothing else ""
        raise DistillError(f"precision=fp16: {verdict}; wanted {guard.wanted()}; no file is kept{advice}")
    return Lowered(path, verdict)


def to_int8(
    file: Path,
    path: Path,
    guard: Guard,
    pictures: Pictures,
    *,
    takes_pictures: bool,
    tune: bool,
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> Lowered:
    """Write an int8 file that the guard accepts, with as few layers in fp32 as that takes.

    Each way to choose the ranges is tried, and of those that are good enough the best is taken. If none is, it is
    trained where that is asked for; then more and more layers are left in fp32, those first whose 8 bits cost most.

    Args:
        file: the fp32 file.
        path: where to.
        guard: says when it is good enough.
        pictures: to calibrate on, each (C, H, W) uint8, as the network sees them.
        takes_pictures: whether the file will take pictures in 8 bits, see `graphs.input_form`.
        tune: whether it may be trained, see `int8_training`.
        say: called with what was found, a line each.
        progress: called with how far it is.

    Raises:
        DistillError: no attempt was good enough; the best one's figures are named.
    """
    tried: list[tuple[Lowered, Quantiser]] = []
    for method, percent in METHODS.items():
        some = _spread(pictures, _FOR_HISTOGRAMS if percent else len(pictures))
        progress(f"calibrating on {len(some)} pictures ({method})")
        try:
            quantiser = Quantiser(file, _inputs(some), method=method)
        except ValueError as error:  # of numpy, where the values of a tensor are too close together for a histogram
            if percent is None:
                raise
            say(f"int8 ({method}): left out, as a tensor hardly varies ({one_line(error)})")
            continue
        always = quantiser.kept_always(pictures=takes_pictures)
        draft = path.with_name(f"{path.stem}-{method}.onnx")
        quantiser.write(draft, keep=_nodes(always))
        tried.append((Lowered(draft, guard.judge(draft), method, len(some), tuple(always)), quantiser))
        say(str(tried[-1][0]))
    best, quantiser = min(tried, key=lambda one: (not one[0].verdict.ok, one[0].verdict.loss))
    if best.verdict.ok:
        return best
    attempts = [lowered for lowered, _ in tried]
    if guard.finds_nothing:
        raise DistillError(_refusal(attempts, guard, UNTRAINED))
    always = quantiser.kept_always(pictures=takes_pictures)
    if tune:
        learned = copy.deepcopy(quantiser)
        train_int8(learned, best.path, pictures, Detector(file, providers="cpu").meaning, progress)
        learned.write(path, keep=_nodes(always))
        trained = dataclasses.replace(best, path=path, verdict=guard.judge(path), method=f"{best.method}, trained")
        attempts.append(trained)
        say(str(trained))
        if trained.verdict.ok:
            return trained
        if trained.verdict.loss < best.verdict.loss:
            best, quantiser = trained, learned
    inputs = list(_inputs(_spread(pictures, _RANKED_ON)))
    ranked = rank_layers(file, quantiser, inputs, _nodes(always), path.parent, progress)
    count = 1
    while count <= len(ranked) // 2:  # with more than half of them in fp32 there is little left to gain
        kept = always | dict(ranked[:count])
        quantiser.write(path, keep=_nodes(kept))
        attempts.append(dataclasses.replace(best, path=path, verdict=guard.judge(path), kept=tuple(kept)))
        say(str(attempts[-1]))
        if attempts[-1].verdict.ok:
            return attempts[-1]
        count *= 2
    advice = f"give {'' if tune else 'tune=true, '}more pictures to calibrate on, a larger max_drop=, or precision=fp16"
    raise DistillError(_refusal(attempts, guard, advice))


def _refusal(attempts: Sequence[Lowered], guard: Guard, advice: str) -> str:
    best = min(attempts, key=lambda one: one.verdict.loss)
    return (
        f"precision=int8: the best of {len(attempts)} attempts, {best}; wanted {guard.wanted()}; "
        f"no file is kept; {advice}"
    )


def _nodes(kept: Mapping[str, Sequence[str]]) -> list[str]:
    return [node for nodes in kept.values() for node in nodes]


def _spread(pictures: Pictures, most: int) -> Pictures:
    """Return pictures evenly spaced over all of them."""
    return [pictures[int(at)] for at in np.linspace(0, len(pictures) - 1, min(len(pictures), most))]


def _inputs(pictures: Pictures) -> Iterator[Floats]:
    for picture in pictures:
        yield picture[None].astype(np.float32) / np.float32(255)
