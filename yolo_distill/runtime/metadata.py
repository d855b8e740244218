"""What an exported file says about itself, as the host and this project write it."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yolo_distill.errors import RequestError
from yolo_distill.session_options import require_size

_REQUIRED = ("task", "names", "stride", "imgsz")
#: What a network can be for, to be run here.
TASKS = ("detect", "segment", "pose", "obb")
# What an input may be; the first of each is meant where a file does not say.
_INPUT = {"input_layout": ("NCHW", "NHWC"), "input_colour": ("RGB", "BGR"), "input_range": ("0-1", "0-255")}
_EXPORT = "export it with: yolo-distill export model=best.pt"
# What a terminal would act on or could not show: controls, ends of lines, turned writing, halves of UTF-16 pairs.
_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MOST_SHOWN = 200  # characters of a name


@dataclass(frozen=True)
class Metadata:
    """The notes that the runtime needs.

    Attributes:
        names: class index to name.
        stride: largest stride of the network, in pixels.
        imgsz: height and width it was exported for, in pixels.
        task: one of `TASKS`.
        kpt_shape: of "pose": how many keypoints an object has, and numbers each: x, y and perhaps visibility.
        end2end: whether its answer is final and needs no NMS.
        most: pictures that it answers for at a time; `None` for any number.
        input_layout: "NCHW" or "NHWC".
        input_colour: "RGB" or "BGR".
        input_range: "0-1" or "0-255".
        everything: all notes, each as a value where it can be read as one.
    """

    names: dict[int, str]
    stride: int
    imgsz: tuple[int, int]
    task: str
    kpt_shape: tuple[int, int] | None
    end2end: bool
    most: int | None
    input_layout: str
    input_colour: str
    input_range: str
    everything: dict[str, Any]


def read_metadata(notes: Mapping[str, str], file: str) -> Metadata:
    """Read the `metadata_props` of an ONNX file.

    Args:
        notes: key to text.
        file: the file's name, for errors.

    Raises:
        RequestError: a note is missing or is not what it should be, or the file is of another task.
    """
    if missing := [key for key in _REQUIRED if not notes.get(key)]:
        raise RequestError(f"{file}: the model's metadata lacks {', '.join(missing)}; {_EXPORT}")
    everything = {key: note_value(text) for key, text in notes.items()}
    task = str(everything["task"])
    if task not in TASKS:
        known = f"{', '.join(TASKS[:-1])} and {TASKS[-1]}"
        raise RequestError(f"{file}: the model's task is {_short(task)}; {known} can be run")
    head = str(everything.get("head", ""))
    if head.startswith("RTDETR"):
        raise RequestError(f"{file}: the model has the head {shown(head)}; only YOLO detectors can be run")
    nms_inside = with_nms(everything)
    return Metadata(
        names=_names(everything["names"], file),
        stride=_positive(everything["stride"], "stride", file),
        imgsz=_imgsz(everything["imgsz"], file),
        task=task,
        kpt_shape=_kpt_shape(everything.get("kpt_shape"), file) if task == "pose" else None,
        end2end=everything.get("end2end") is True or nms_inside,
        # The host's NMS is unrolled for that many pictures, and answers with nothing for all others.
        most=_positive(everything.get("batch", 1), "batch", file) if nms_inside else None,
        **{key: _one_of(notes.get(key), known, key, file) for key, known in _INPUT.items()},
        everything=everything,
    )


def shown(name: str) -> str:
    """Return a name as it can be written to a terminal, a picture or a file: in one line of some length."""
    name = name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # an escaped pair is one letter
    short = name if len(name) <= _MOST_SHOWN else f"{name[: _MOST_SHOWN - 3]}..."
    return _UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", short)


def with_nms(notes: Mapping[str, Any]) -> bool:
    """Return whether a file of the host's has NMS inside."""
    args = notes.get("args")
    return isinstance(args, dict) and args.get("nms") is True


def note_value(text: str) -> Any:
    """Return a literal's value, or the text itself; nothing in it is ever run."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def _names(value: Any, file: str) -> dict[int, str]:
    pairs = dict(enumerate(value)) if isinstance(value, (list, tuple)) else value
    if isinstance(pairs, dict):
        try:
            names = {int(index): shown(str(name)) for index, name in pairs.items()}
        except (TypeError, ValueError, OverflowError):
            names = {}
        if names and sorted(names) == list(range(len(names))):
            return names
    raise RequestError(f"{file}: the model's metadata names no classes (names = {_short(value)}); {_EXPORT}")


def _imgsz(value: Any, file: str) -> tuple[int, int]:
    sides = (value, value) if isinstance(value, int) else value
    if isinstance(sides, (list, tuple)) and len(sides) == 2:
        height, width = (_positive(side, "imgsz", file) for side in sides)
        require_size((height, width), file)
        return height, width
    raise RequestError(f"{file}: the model's metadata has no readable size (imgsz = {_short(value)}); {_EXPORT}")


def _kpt_shape(value: Any, file: str) -> tuple[int, int]:
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[1] in (2, 3):
        return _positive(value[0], "kpt_shape", file), int(value[1])
    raise RequestError(
        f"{file}: the model's metadata does not say how many keypoints there are (kpt_shape = {_short(value)}); "
        f"{_EXPORT}"
    )


def _positive(value: Any, key: str, file: str) -> int:
    if isinstance(value, int) and value > 0:
        return value
    raise RequestError(f"{file}: {key} = {_short(value)} in the model's metadata is no whole number above 0; {_EXPORT}")


def _one_of(text: str | None, known: tuple[str, ...], key: str, file: str) -> str:
    if text and text not in known:
        raise RequestError(f"{file}: {key} = {_short(text)} in the model's metadata; expected {' or '.join(known)}")
    return text or known[0]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
