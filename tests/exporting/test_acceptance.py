"""The guard: what it measures, and where it draws the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from live_detector import draw, live_detector, save
from onnx import numpy_helper
from tiny_yolo import write_architecture

from yolo_distill.evaluation.detection_agreement import Agreement, _partners, agree, agreement
from yolo_distill.exporting import acceptance as module
from yolo_distill.exporting.acceptance import Guard
from yolo_distill.exporting.export import export
from yolo_distill.exporting.export_data import ExportData


class Found:
    """Detections that have a length."""

    def __init__(self, rows: list[tuple[float, ...]]) -> None:
        table = np.array(rows, np.float32).reshape(-1, 6)
        self.xyxy, self.confidence, self.class_id = table[:, :4], table[:, 4], table[:, 5].astype(np.int64)

    def __len__(self) -> int:
        return len(self.xyxy)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("file")
    return Path(export(save(live_detector(str(write_architecture(folder / "tiny.yaml"))), folder / "best.pt", 64)).path)


def test_partners_are_of_one_class_and_overlap_and_are_used_once() -> None:
    one = Found([(0, 0, 10, 10, 0.9, 0), (20, 20, 30, 30, 0.8, 1), (0, 0, 10, 9, 0.7, 0)])
    other = Found([(0, 0, 10, 10, 0.8, 0), (20, 20, 30, 30, 0.8, 0), (21, 21, 31, 31, 0.5, 1)])
    # IoU of the squares that are a pixel off: 81 / 119.
    assert sorted(_partners(one, other, 0.2)) == [(0, 0), (1, 2)]
    assert sorted(_partners(one, other, 0.6)) == [(0, 0)]
    assert _partners(one, Found([]), 0.2) == []


def test_few_detections_are_looked_for_lower_down() -> None:
    sure = Found([(at, 0, at + 10, 10, 0.5, 0) for at in range(0, 400, 20)])
    unsure = Found([(at, 0, at + 10, 10, 0.1, 0) for at in range(0, 400, 20)])
    assert agree([(sure, sure)]).conf == 0.25
    found = agree([(unsure, unsure)])
    assert (found.matched, found.detections) == (1, 20)
    assert 0.09 < found.conf < 0.1
    assert agree([(Found([]), unsure)]).matched == 0


def test_finding_nothing_is_no_agreement() -> None:
    nothing = agree([(Found([]), Found([]))])
    assert not nothing.good_enough
    assert "no detections to compare" in str(nothing)


def test_a_file_agrees_with_itself_and_not_with_a_spoiled_one(file: Path, tmp_path: Path) -> None:
    pictures = [(str(at), one) for at, one in enumerate(draw(3, 64, 80))]
    same = agreement(file, file, pictures)
    assert (same.matched, same.score_gap) == (1, 0)
    assert same.detections > 0
    graph = onnx.load(str(file))
    for one in graph.graph.initializer:
        if len(one.dims) == 4 and one.dims[0] == 2:  # the class branches' last convolutions
            one.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(one), one.name))
    onnx.save(graph, str(tmp_path / "spoiled.onnx"))
    assert not agreement(tmp_path / "spoiled.onnx", file, pictures).good_enough


def test_map_decides_where_there_are_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"reference": {"map": 50.0, "map50": 80.0}}
    monkeypatch.setattr(module, "measure", lambda file, data, **_: figures[str(file)])
    guard = Guard(Path("reference"), ExportData([], "data.yaml"), 0.3)
    for name, points, ok in (
        ("near", 49.71, True),
        ("far", 49.69, False),
        ("better", 50.4, True),
        ("nan", np.nan, False),
    ):
        figures[name] = {"map": points, "map50": 80.0}
        assert guard.judge(Path(name)).ok is ok
    assert guard.judge(Path("near")).figures["drop"] == pytest.approx(0.29)
    assert "-0.29 to fp32" in str(guard.judge(Path("near")))
    assert "at most 0.3 mAP50-95 below fp32 (50.0)" in guard.wanted()


@pytest.mark.parametrize("data", [None, "data.yaml"])
def test_agreement_decides_where_there_are_no_boxes_or_none_is_found(
    monkeypatch: pytest.MonkeyPatch, data: str | None
) -> None:
    monkeypatch.setattr(module, "measure", lambda file, data, **_: {"map": 0.0, "map50": 0.0})
    guard = Guard(Path("reference"), ExportData([], data), 0.3)
    for matched, gap, ok in ((0.96, 0.01, True), (0.94, 0.01, False), (0.99, 0.04, False), (np.nan, 0.0, False)):
        monkeypatch.setattr(module, "agreement", lambda *_, m=matched, g=gap: Agreement(m, g, 9, 0.25))
        verdict = guard.judge(Path("file"))
        assert verdict.ok is ok
        assert f"{100 * matched:.1f} % of the detections" in str(verdict)
    assert "95 % of the detections the same" in guard.wanted()
