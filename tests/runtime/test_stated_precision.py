"""What a file says it computes in."""

from __future__ import annotations

import numpy as np
import pytest
from made_detector import dense, write_detector

from yolo_distill.runtime.detector import Detector, precision_of


@pytest.mark.parametrize(
    ("half", "notes", "expected"),
    [
        (False, {}, "fp32"),
        (True, {}, "fp16"),
        (False, {"precision": "int8"}, "int8"),
        (False, {"precision": "fp16"}, "fp16"),  # float32 outside, half precision inside
        (True, {"precision": "fp32"}, "fp32"),  # the note stands above what is worked out
    ],
)
def test_precision(tmp_path, half, notes, expected):
    file = write_detector(tmp_path / "a.onnx", dense((32, 32, 16, 16, 0.9, 0, 0)), half=half, **notes)
    detector = Detector(file)
    assert precision_of(detector) == expected
    assert len(detector(np.zeros((64, 64, 3), np.uint8))) == 1
