"""Writes small ONNX detectors whose answer is known: a constant, plus the picture's brightness times a gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

NAMES = {0: "disc", 1: "square", 2: "Dreieck grün"}


def dense(*columns: tuple[float, ...], anchors: int = 40) -> np.ndarray:
    """Return a dense answer (4 + nc, A) from columns (cx, cy, w, h, score, ...); the other anchors score 0."""
    raw = np.zeros((len(columns[0]) if columns else 4 + len(NAMES), anchors), np.float32)
    for place, column in enumerate(columns):
        raw[:, 3 * place] = column  # apart, so that the order of anchors plays no part
    return raw


def rows(*detections: tuple[float, ...], count: int = 20) -> np.ndarray:
    """Return an end-to-end answer (N, 6) from rows (x1, y1, x2, y2, score, class), filled up with zeros."""
    raw = np.zeros((count, 6), np.float32)
    for place, detection in enumerate(detections):
        raw[place] = detection
    return raw


def write_detector(
    path: Path,
    raw: np.ndarray,
    *,
    gain: np.ndarray | None = None,
    imgsz: tuple[int, int] = (64, 64),
    batch: int | None = 1,
    channels: int = 3,
    dynamic: bool = False,
    half: bool = False,
    outputs: int = 1,
    protos: np.ndarray | None = None,
    **notes: Any,
) -> Path:
    """Write a detector that answers `raw` + `gain` x mean of the input for each picture.

    Args:
        path: the file.
        raw: (4 + nc, A) or (N, 6).
        gain: of the same shape; zeros if not given.
        imgsz: height and width of the input.
        batch: pictures at a time; `None` for any number.
        channels: channels of the input.
        dynamic: whether height and width are free.
        half: whether input and output are float16.
        outputs: how often the answer is given.
        protos: of "segment", (M, height, width).
        notes: metadata to change; `None` leaves a key out.
    """
    onnx = pytest.importorskip("onnx", reason="test models are written with onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    dtype = np.float16 if half else np.float32
    gain = np.zeros_like(raw) if gain is None else gain
    first = "batch" if batch is None else batch
    sides = ("height", "width") if dynamic else imgsz
    answers = [f"output{number}" for number in range(outputs)]
    more = [] if protos is None else [make.make_tensor_value_info("protos", kind, [first, *protos.shape])]
    graph = make.make_graph(
        [
            make.make_node("ReduceMean", ["images"], ["mean4"], axes=[1, 2, 3], keepdims=1),
            make.make_node("Reshape", ["mean4", "shape"], ["mean"]),
            make.make_node("Mul", ["mean", "gain"], ["change"]),
            *(make.make_node("Add", ["change", "raw"], [answer]) for answer in answers),
            *(make.make_node("Constant", [], ["protos"], value=held) for held in _held(protos, dtype)),
        ],
        "made",
        [make.make_tensor_value_info("images", kind, [first, channels, *sides])],
        [*more, *(make.make_tensor_value_info(answer, kind, [first, *raw.shape]) for answer in answers)],
        [
            onnx.numpy_helper.from_array(np.array([-1, 1, 1], np.int64), "shape"),
            onnx.numpy_helper.from_array(gain[None].astype(dtype), "gain"),
            onnx.numpy_helper.from_array(raw[None].astype(dtype), "raw"),
        ],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    said = {
        "task": "detect",
        "names": NAMES,
        "stride": 32,
        "imgsz": list(imgsz),
        "batch": batch or 1,
        "end2end": raw.shape[1] == 6,
        **notes,
    }
    make.set_model_props(model, {key: str(value) for key, value in said.items() if value is not None})
    onnx.save(model, str(path))
    return path


def _held(protos: np.ndarray | None, dtype: Any) -> list[Any]:
    from onnx import numpy_helper

    return [] if protos is None else [numpy_helper.from_array(protos[None].astype(dtype))]


def write_video(path: Path, frames: int = 12, fps: float = 10, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a video whose frames grow brighter, 10 levels each."""
    import cv2

    code = cv2.VideoWriter.fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, fps, size)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 10 * (number % 25), np.uint8))
    writer.release()
    return path
