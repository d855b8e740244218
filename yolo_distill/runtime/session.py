"""Opens an ONNX file with onnxruntime and says in one line why it cannot be opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from yolo_distill.errors import DistillError, RequestError, did_you_mean
from yolo_distill.files import typed
from yolo_distill.session_options import prepare

_ERRORS_ONLY = 3
_SUFFIX = "ExecutionProvider"
_FIRST_FIELD = b"\x08"  # ir_version, which every known exporter writes first


def open_session(path: Path, providers: Sequence[str] | str | None, threads: int | None) -> Any:
    """Return an onnxruntime session.

    Args:
        path: the file.
        providers: execution providers in order of preference, in full or short ("cuda"); `None` for CUDA where this
            onnxruntime has it, else the CPU.
        threads: threads for one operator; `None` leaves it to onnxruntime.

    Raises:
        RequestError: there is no such file, it is no ONNX model, or a setting has to change.
        DistillError: onnxruntime cannot run the model.
    """
    if path.suffix.lower() == ".pt":
        command = typed("yolo-distill", "export", f"model={path}")
        raise RequestError(f"{path}: is a checkpoint; export it first: {command}")
    if path.is_dir():
        raise RequestError(f"{path}: is a folder; give the .onnx file")
    if not path.is_file():
        raise RequestError(f"{path}: no such file; give an .onnx file (made by: yolo-distill export model=best.pt)")
    if not os.access(path, os.R_OK):
        raise RequestError(f"{path}: may not be read; give another, or the right to it")
    if not path.stat().st_size:
        raise RequestError(f"{path}: is empty; export or copy it again")
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):  # bytes that are no text
        raise RequestError(f"{path}: its name is no UTF-8, which onnxruntime cannot open; rename it")
    if threads is not None and threads < 1:
        raise RequestError(f"threads={threads}: must be at least 1")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    prepare(options)
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=choose_providers(providers))
    except DistillError:
        raise
    except Exception as error:  # onnxruntime's errors share no class of their own
        reason = " ".join(str(error).split())[:300]
        unreadable = ("Protobuf parsing failed", "No graph was found")
        if type(error).__name__ == "InvalidProtobuf" or any(text in reason for text in unreadable):
            raise RequestError(f"{path}: {_what_it_is(path)}") from error
        raise DistillError(f"{path}: onnxruntime {onnxruntime.__version__} cannot load it: {reason}") from error


def _what_it_is(path: Path) -> str:
    """Return what a file that onnxruntime cannot parse seems to be, and what to do."""
    try:
        with path.open("rb") as file:
            start = file.read(1)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if start == _FIRST_FIELD:
        return f"is an ONNX model that is damaged or cut off ({path.stat().st_size} bytes); export or copy it again"
    return "is not an ONNX model; give an .onnx file (made by: yolo-distill export model=best.pt)"


def choose_providers(wanted: Sequence[str] | str | None) -> list[str]:
    """Return onnxruntime's full provider names.

    Raises:
        RequestError: this onnxruntime has no such provider.
    """
    available = list(onnxruntime.get_available_providers())
    if wanted is None:
        return [name for name in (f"CUDA{_SUFFIX}", f"CPU{_SUFFIX}") if name in available]
    by_short_name = {name.removesuffix(_SUFFIX).lower(): name for name in available}
    chosen = []
    for name in wanted.split(",") if isinstance(wanted, str) else wanted:
        short = name.strip().removesuffix(_SUFFIX).lower()
        if short not in by_short_name:
            hint = did_you_mean(short, by_short_name)
            if short == "cuda":
                hint = "; give providers=cpu, or install onnxruntime-gpu in its place"
            raise RequestError(f"providers={name}: this onnxruntime has {', '.join(by_short_name)}{hint}")
        chosen.append(by_short_name[short])
    return chosen
