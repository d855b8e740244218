"""What the tests of graphs share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from yolo_distill.session_options import EXACT_INT8

SIDE = 96


def floats(picture: np.ndarray) -> np.ndarray:
    """Return a picture as the network's usual input, (1, 3, H, W)."""
    return np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1)[None]).astype(np.float32) / 255


def answer(file: Path | bytes, given: np.ndarray) -> np.ndarray:
    """Return what a graph answers."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*EXACT_INT8)
    session = onnxruntime.InferenceSession(file if isinstance(file, bytes) else str(file), options)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: given})[0])


def nodes_of(kept: dict[str, list[str]]) -> list[str]:
    """Return the nodes of all groups."""
    return [node for nodes in kept.values() for node in nodes]
