"""How far two files find the same objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exported import class_branches, scale
from live_detector import draw

from yolo_distill.evaluation.detection_agreement import agree, agreement


class Found:
    """Detections (x1, y1, x2, y2, score, class)."""

    def __init__(self, rows: list[tuple[float, ...]]) -> None:
        table = np.array(rows, np.float32).reshape(-1, 6)
        self.xyxy, self.confidence, self.class_id = table[:, :4], table[:, 4], table[:, 5].astype(np.int64)


def test_partners_are_of_one_class_and_overlap_and_are_used_once():
    one = Found([(0, 0, 10, 10, 0.9, 0), (20, 20, 30, 30, 0.8, 1), (0, 0, 10, 9, 0.7, 0)])
    other = Found([(0, 0, 10, 10, 0.8, 0), (20, 20, 30, 30, 0.8, 0), (21, 21, 31, 31, 0.5, 1)])
    found = agree([(one, other)])  # IoU of the squares that are a pixel off: 81 / 119
    assert (found.matched, found.detections) == (pytest.approx(4 / 6), 3)
    assert found.score_gap == pytest.approx((0.1 + 0.3) / 2)


def test_few_detections_are_looked_for_lower_down():
    sure, unsure = (Found([(at, 0, at + 10, 10, score, 0) for at in range(0, 400, 20)]) for score in (0.5, 0.1))
    assert agree([(sure, sure)]).conf == 0.25
    found = agree([(unsure, unsure)])
    assert (found.matched, found.detections) == (1, 20)
    assert 0.09 < found.conf < 0.1
    nothing = agree([(Found([]), Found([]))])
    assert not nothing.good_enough
    assert "no detections to compare" in str(nothing)
    assert agree([(Found([]), unsure)]).matched == 0


def test_a_file_agrees_with_itself_and_not_with_a_spoiled_one(report, tmp_path):
    pictures = [(str(at), one) for at, one in enumerate(draw(3, 64, 80))]
    same = agreement(Path(report.path), Path(report.path), pictures)
    assert (same.matched, same.score_gap) == (1, 0)
    assert same.detections > 0
    spoiled = tmp_path / "spoiled.onnx"
    spoiled.write_bytes(Path(report.path).read_bytes())
    scale(spoiled, -1, class_branches)
    assert not agreement(spoiled, Path(report.path), pictures).good_enough
