"""The web app in a real browser with files of other tasks: masks, keypoints and turned boxes are found and drawn."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from live_detector import draw, live_detector, save
from tiny_yolo import write_architecture

from yolo_distill import Detections, Detector
from yolo_distill.exporting.export import export
from yolo_distill.runtime.masks import Piece, mask_iou

pytestmark = pytest.mark.browser
SIDE = 160
_OWN = """() => {
  const { turned, keypoints, masks } = app.view.shown.found;
  const plain = ({ bits, ...place }) => ({ ...place, bits: Array.from(bits) });
  return { turned: Array.from(turned ?? []), keypoints: Array.from(keypoints?.data ?? []),
    masks: masks?.pieces.map(plain) ?? [] };
}"""
_SAVED = """async () => {
  const bytes = new Uint8Array(await (await app.view.snapshot()).arrayBuffer());
  return btoa(Array.from(bytes, (one) => String.fromCharCode(one)).join(""));
}"""


@pytest.fixture(params=["segment", "pose", "obb"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a small exported file of a task."""
    tiny = str(write_architecture(tmp_path / "tiny.yaml", width=4, task=request.param))
    checkpoint = save(live_detector(tiny, task=request.param), tmp_path / "best.pt", SIDE)
    (tmp_path / "images").mkdir()
    for number, picture in enumerate(draw(2, 64, 150)):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), picture)
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [round, square]\n")
    export(checkpoint, imgsz=SIDE, target="browser", data=tmp_path / "data.yaml", out=tmp_path / "best.onnx")
    return tmp_path / "best.onnx"


def check_own(own: dict[str, Any], expected: Detections) -> None:
    """Assert that what the task adds to boxes is Python's."""
    count = len(expected)
    if expected.turned is not None:
        np.testing.assert_allclose(np.reshape(own["turned"], (count, 5)), expected.turned, rtol=0, atol=0.1)
    elif expected.keypoints is not None:
        points = np.reshape(own["keypoints"], expected.keypoints.data.shape)
        np.testing.assert_allclose(points[..., :2], expected.keypoints.xy, rtol=0, atol=0.1)
        np.testing.assert_array_equal(points[..., 2] >= 0.25, expected.keypoints.seen)
    else:
        assert expected.masks is not None
        for said, piece in zip(own["masks"], expected.masks.pieces, strict=True):
            bits = np.reshape(said["bits"], (said["height"], said["width"])).astype(bool)
            assert mask_iou(Piece(said["top"], said["left"], bits), piece) >= 0.95


def where_drawn(expected: Detections, shape: tuple[int, ...]) -> np.ndarray:
    """Return which pixels of a picture a task's drawing has to change."""
    if expected.masks is not None:
        return expected.masks.data.any(0)
    canvas = np.zeros(shape[:2], np.uint8)
    if expected.turned is not None:
        cv2.polylines(canvas, list(np.rint(expected.xyxyxyxy).astype(np.int32)), True, 1)
    else:
        assert expected.keypoints is not None
        # What lies on the border is half outside.
        inside = expected.keypoints.xy[expected.keypoints.seen].clip(1, np.array(shape[1::-1]) - 2)
        canvas[tuple(np.rint(inside).astype(int).T[::-1])] = 1
    return canvas.astype(bool)


def test_what_is_found_is_pythons_and_is_drawn(serving, visit, model, pictures):
    detector = Detector(model)
    with serving(model) as server:
        page = visit(server.url).ready()
        for path in pictures:
            picture = cv2.imread(str(path))
            surest = np.sort(detector(picture, conf=0.01).confidence)[::-1]
            place = int(np.argmax(surest[2:8] - surest[3:9])) + 3  # a threshold that no rounding crosses
            conf = round(float(surest[place - 1] + surest[place]) / 2, 2)
            page.page.locator("#conf").fill(str(conf))
            expected = detector(picture, conf=conf)
            found = page.look_at(path)
            assert len(expected) > 1
            assert found.labels() == expected.labels()
            np.testing.assert_allclose(found.xyxy, expected.xyxy, rtol=0, atol=0.1)
            np.testing.assert_allclose(found.confidence, expected.confidence, rtol=0, atol=1e-3)
            check_own(page.page.evaluate(_OWN), expected)
            saved = np.frombuffer(base64.b64decode(page.page.evaluate(_SAVED)), np.uint8)
            changed = (cv2.imdecode(saved, cv2.IMREAD_COLOR) != picture).any(-1)
            assert changed[where_drawn(expected, picture.shape)].mean() > 0.98
            assert changed.mean() < 0.99
