"""The proof of an exported file: what it refuses, and what it excuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exported import middle, scale

from yolo_distill.errors import DistillError
from yolo_distill.exporting import detection_parity, export_data, parity
from yolo_distill.exporting.detection_parity import Side
from yolo_distill.exporting.report import ExportReport
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.runtime import decode
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.letterbox import fit
from yolo_distill.runtime.postprocess import Postprocess

Complaint = Callable[..., str]


@pytest.fixture
def complaint(checkpoint: Path, unlabelled: Path, tmp_path: Path) -> Complaint:
    """Return a function that proves a changed copy of a file, and returns what the proof complains of."""
    model, pictures = load_detector(checkpoint), export_data.proof_pictures(unlabelled)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def prove(done: ExportReport, change: Callable[[Path], None] = lambda file: None) -> str:
        copied = tmp_path / "changed.onnx"
        copied.write_bytes(Path(done.path).read_bytes())
        change(copied)
        try:
            parity.prove(copied, model, pictures, nms=False if done.end2end else None)
        except DistillError as error:
            return str(error)
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        return ""

    return prove


@pytest.mark.parametrize("factor", [1.05, float("nan")])
def test_a_file_with_a_wrong_weight_is_refused(factor, report, one_to_one, complaint):
    for done in (report, one_to_one):
        said = complaint(done, lambda file: scale(file, factor, middle))
        assert said.startswith("the exported file does not answer like the checkpoint")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", "{0: 'square', 1: 'round'}"),
        ("stride", "64"),
        ("end2end", "True"),
        ("imgsz", "[64, 64]"),
        ("task", "classify"),
    ],
)
def test_a_file_with_wrong_metadata_is_refused(key, value, report, complaint):
    def change(file: Path) -> None:
        graph = onnx.load(str(file))
        (note,) = (one for one in graph.metadata_props if one.key == key)
        note.value = value
        onnx.save(graph, str(file))

    assert key in complaint(report, change)


def picked(found: Any, rows: Any) -> Any:
    return dataclasses.replace(
        found, xyxy=found.xyxy[rows], confidence=found.confidence[rows], class_id=found.class_id[rows]
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda found: dataclasses.replace(found, xyxy=found.xyxy + 3),
        lambda found: dataclasses.replace(found, confidence=found.confidence * np.float32(0.98)),
        lambda found: dataclasses.replace(found, class_id=1 - found.class_id),
        lambda found: picked(found, slice(1, None)),
        lambda found: picked(found, np.arange(len(found)).repeat(2)),
    ],
    ids=["boxes moved", "scores lower", "classes swapped", "one less", "all twice"],
)
def test_a_runtime_that_detects_otherwise_is_refused(change, report, one_to_one, complaint, monkeypatch):
    right = Detector.postprocess
    monkeypatch.setattr(Detector, "postprocess", lambda *args, **options: [change(right(*args, **options)[0])])
    for done in (report, one_to_one):
        assert "does not detect like the checkpoint" in complaint(done)


def test_a_runtime_that_filters_otherwise_is_refused(report, complaint, monkeypatch):
    right = Detector.postprocess
    monkeypatch.setattr(Detector, "postprocess", lambda *args, **options: right(*args, **{**options, "iou": 0.5}))
    monkeypatch.setattr(parity, "CONF", 0.01)
    assert "does not detect like the checkpoint" in complaint(report)


BOX = [0.0, 0.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("row", "others", "paired", "full", "count"),
    [
        ([*BOX, 0.250001, 0], [], False, 300, 1),  # at the threshold
        ([*BOX, 0.26, 0], [], False, 300, 0),
        ([*BOX, 0.8, 0], [[1, 0, 11, 10, 0.8, 0]], False, 300, 2),  # either of two equal boxes may stay
        ([*BOX, 0.8, 0], [[1, 0, 11, 10, 0.8, 0]], True, 300, 0),  # but not both
        ([*BOX, 0.8, 0], [[1, 0, 11, 10, 0.9, 0]], False, 300, 1),  # nothing hides the better one
        ([*BOX, 0.8, 0], [[*BOX, 0.8, 1]], False, 300, 2),  # either of two classes that are equal in the raw answer
        ([*BOX, 0.6, 0], [[*BOX, 0.6, 1]], False, 300, 0),
        ([*BOX, 0.8, 0], [[0, 0, 7.0, 10, 0.9, 0]], True, 300, 1),  # overlaps by what NMS just allows
        ([*BOX, 0.8, 0], [[50, 50, 60, 60, 0.8, 0]], True, 1, 1),  # last place of a full list
        ([*BOX, 0.8, 0], [[50, 50, 60, 60, 0.8, 0]], True, 300, 0),
    ],
)
def test_ties_and_thresholds_are_no_mismatch(row, others, paired, full, count):
    """None of the rows has a partner unless `paired`, when the others do."""
    rest = np.array(others).reshape(-1, 6)
    file, alone = (np.array([row, *others]), []) if paired else (np.array([row]), list(range(len(rest))))
    assert borderline(file, rest, [0], alone, full=full) == count


def test_a_box_that_stays_because_of_a_tie_is_no_mismatch():
    left, between, right = [*BOX, 0.8, 0], [1.0, 0, 11, 10, 0.8, 0], [2.4, 0, 12.4, 10, 0.5, 0]
    # One side kept the left box, so the right one stays as well; the other kept the middle one, which drops both.
    assert borderline(np.array([left, right]), np.array([between]), [0, 1], [0]) == 3


def compared(task: str, ours: Any, theirs: Any) -> detection_parity.Comparison:
    """Compare two answers of a class about a picture of the input's size, (score, box and own numbers) each."""

    def raw(rows: Any) -> Any:
        boxes = np.array([[[*box, score, *own] for score, box, *own in rows]], np.float32).transpose(0, 2, 1)
        return (boxes, np.ones((1, 1, 80, 80), np.float32)) if task == "segment" else boxes

    means, transform = Postprocess({0: "a"}, task, None, end2end=False), fit((320, 320), (320, 320))
    find = partial(means, classes=None, agnostic=False)
    detector: Any = SimpleNamespace(meaning=means, imgsz=(320, 320), end2end=False, postprocess=find)
    answer = detection_parity.Answer("one.png", raw(ours), raw(theirs), transform)
    return detection_parity.compare_detections(detector, [answer], 0.25, detection_parity.Gap(1e-4, 1e-7))


@pytest.mark.parametrize(("best", "missing"), [(0.6 + 1e-7, 0), (0.7, 1)], ids=["tied", "not tied"])
def test_boxes_that_end_at_the_borders_of_the_picture_are_told_apart_beyond_them(best, missing):
    """Of two boxes around the picture each side keeps another, and one of them drops a third."""
    first, second, third = [300.0, 150, 1300, 1450], [150.0, 150, 1300, 1450], [0.0, 150, 1300, 1450]
    found = compared(
        "detect", [(0.6 + 1e-7, first), (0.6, second), (0.5, third)], [(0.6, first), (best, second), (0.5, third)]
    )
    assert (found.torch, found.file, found.same) == (1, 2, 0)
    assert found.missing == missing


#: Each hides the next one, and not the one behind that.
ROW = [[100.0, 100, 60, 40], [108.5, 100, 60, 40], [117.0, 100, 60, 40]]


def test_of_turned_boxes_those_that_are_hidden_hide_others(monkeypatch):
    first, second, third = ROW
    # Which of the two worse ones is hidden by the other is chance, and whether the last one stays.
    tied = [[(0.9, first, 0.0), (0.5 + a, second, 0.0), (0.5 + b, third, 0.0)] for a, b in ((0, 1e-7), (1e-7, 0))]
    found = compared("obb", *tied)
    assert (found.torch + found.file, found.missing) == (3, 0)
    # A runtime in which only those hide that stay is another one.
    rows = [(0.9, first, 0.0), (0.7, second, 0.0), (0.5, third, 0.0)]
    assert compared("obb", rows, rows).missing == 0
    monkeypatch.setattr(decode, "turned_nms", lambda *args, **settings: np.array([0, 2]))
    assert compared("obb", rows, rows).missing == 1


def test_a_box_whose_mask_shows_nothing_hides_others_all_the_same():
    blank, seen = [120.0, 120, 40, 40], [122.0, 120, 40, 40]
    ties = [[(0.5 + a, blank, -3.0), (0.5 + b, seen, 3.0)] for a, b in ((1e-7, 0), (0, 1e-7))]
    found = compared("segment", *ties)
    assert (found.torch, found.file, found.missing) == (1, 0, 0)
    # A file whose masks show nothing is another one.
    assert compared("segment", [(0.5, seen, -3.0)], [(0.5, seen, 3.0)]).missing == 1


def borderline(file: Any, checkpoint: Any, *alone: list[int], full: int = 300) -> int:
    """Of a raw answer in which both classes of a box of 0.8 are tied, and no others."""
    sides = [Side(rows, np.eye(2, dtype=bool)[rows[:, 5].astype(int)], rows, rows) for rows in (file, checkpoint)]
    sides = [side._replace(classes=side.classes | (side.rows[:, 4:5] == 0.8)) for side in sides]
    return detection_parity._borderline(*sides, *alone, conf=0.25, margin=1e-5, wobble=1e-4, full=full)
