"""What can be done with what was found."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
from made_detector import NAMES

from yolo_distill import Detections
from yolo_distill.errors import RequestError
from yolo_distill.runtime.drawing import draw

XYXY = np.array([[24, 24, 40, 40], [80, 16, 112, 48], [0, 0, 3.504, 5]], np.float32)
SCORES = np.array([0.9, 0.6, 0.5], np.float32)
FOUND = Detections(XYXY, SCORES, np.array([0, 1, 0]), NAMES)
NOTHING = FOUND[:0]
ROWS = [
    {"class_id": 0, "name": "disc", "confidence": 0.9, "xyxy": [24.0, 24.0, 40.0, 40.0]},
    {"class_id": 1, "name": "square", "confidence": 0.6, "xyxy": [80.0, 16.0, 112.0, 48.0]},
    {"class_id": 0, "name": "disc", "confidence": 0.5, "xyxy": [0.0, 0.0, 3.5, 5.0]},
]


@pytest.mark.parametrize(
    ("which", "places"),
    [
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        (slice(1, None), [1, 2]),
        (FOUND.confidence > 0.55, [0, 1]),
        (FOUND.class_id == 7, []),
        ([2, 0], [2, 0]),
        ([True, False, True], [0, 2]),
    ],
)
def test_some_of_them(which, places):
    some = FOUND[which]
    np.testing.assert_array_equal(some.xyxy, XYXY[places].reshape(-1, 4))
    np.testing.assert_array_equal(some.confidence, SCORES[places])
    assert (some.class_id.tolist(), some.names) == ([[0, 1, 0][place] for place in places], NAMES)
    assert len(some) == len(places)


@pytest.mark.parametrize("which", [3, -4, [True, False]])
def test_some_that_are_not_there(which):
    with pytest.raises(IndexError):
        FOUND[which]


def test_one_by_one():
    """Each as an index gives it, which is what those who come from Ultralytics unpack."""
    assert [(one.labels()[0], *one.xyxy[0].tolist()) for one in FOUND[:2]] == [
        ("disc", 24, 24, 40, 40),
        ("square", 80, 16, 112, 48),
    ]
    assert list(NOTHING) == []


def test_xywh():
    np.testing.assert_allclose(FOUND.xywh, [[32, 32, 16, 16], [96, 32, 32, 32], [1.752, 2.5, 3.504, 5]])
    assert (FOUND.xywh.dtype, NOTHING.xywh.shape) == (np.float32, (0, 4))


def test_plain_values():
    assert FOUND.to_dicts() == json.loads(FOUND.to_json()) == ROWS
    assert json.loads(json.dumps(FOUND.to_dict())) == {key: [row[key] for row in ROWS] for key in ROWS[0]}
    assert (NOTHING.to_dicts(), NOTHING.to_json()) == ([], "[]")


def test_what_it_says_of_itself():
    assert repr(FOUND) == "Detections(3: 2 disc, 1 square)"
    assert repr(FOUND[0]) == "Detections(disc 0.90, xyxy 24.0, 24.0, 40.0, 40.0)"
    assert repr(NOTHING) == "Detections(nothing found)"
    many = Detections(np.zeros((1000, 4), np.float32), np.zeros(1000, np.float32), np.arange(1000), {})
    assert repr(many).startswith("Detections(1000: 1 0, 1 1, ")
    assert len(repr(many)) < 80


def test_plot(tmp_path):
    """The picture with its boxes, in whatever form it was looked at; the picture itself stays as it is."""
    image = np.full((64, 128, 3), 50, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    expected = draw(image, FOUND)
    for given in (image, tmp_path / "a.png", image[..., 0]):
        np.testing.assert_array_equal(FOUND.plot(given), expected)
    assert (image == 50).all()


def test_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = FOUND.to_df()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["class_id", "name", "confidence", "x1", "y1", "x2", "y2"]
    np.testing.assert_array_equal(table[["x1", "y1", "x2", "y2"]], XYXY)
    assert table[table.confidence > 0.55].name.tolist() == ["disc", "square"]
    assert NOTHING.to_df().shape == (0, 7)


@pytest.mark.parametrize("way", ["to_supervision", "from_ultralytics"])
def test_supervision(way):
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    make = Detections.to_supervision if way == "to_supervision" else sv.Detections.from_ultralytics
    theirs = make(FOUND)
    np.testing.assert_array_equal(theirs.xyxy, XYXY)
    np.testing.assert_array_equal(theirs.confidence, SCORES)
    assert (theirs.class_id.tolist(), theirs["class_name"].tolist()) == ([0, 1, 0], ["disc", "square", "disc"])
    assert len(make(NOTHING)) == 0


def test_the_hosts_trackers_take_them():
    """Three frames alike: each object keeps its number."""
    pytest.importorskip("lap", reason="the host's trackers need lap, which is not installed")
    trackers = pytest.importorskip("ultralytics.trackers", reason="the host is not installed")
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    tracker = trackers.BYTETracker(IterableSimpleNamespace(**YAML.load(check_yaml("bytetrack.yaml"))))
    for _ in range(3):
        rows = tracker.update(FOUND[:2], np.zeros((64, 128, 3), np.uint8))
        np.testing.assert_allclose(rows[:, :4], XYXY[:2], atol=0.5)
        assert (rows[:, 4].tolist(), rows[:, 6].tolist()) == ([1, 2], [0, 1])


@pytest.mark.parametrize(("method", "package"), [("to_df", "pandas"), ("to_supervision", "supervision")])
def test_a_package_that_is_not_there(monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RequestError) as caught:
        getattr(FOUND, method)()
    assert str(caught.value) == f"{method}() needs {package!r}, which is not installed: pip install {package}"
