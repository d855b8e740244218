"""The same file, run by the host and by the runtime: the same boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from host_files import export, pictures

from yolo_distill import Detector

pytest.importorskip("ultralytics", reason="the host is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

BOX, SCORE = 1.0, 1e-3  # pixels of the picture, and score

FILES = {
    "26 dense": ("yolo26n.yaml", {"nms": None}),
    "26 end to end": ("yolo26n.yaml", {"nms": False}),
    "11 dense": ("yolo11n.yaml", {"nms": None, "imgsz": [96, 160]}),
    "11 with NMS inside": ("yolo11n.yaml", {"nms": True}),
    "v8 dynamic": ("yolov8n.yaml", {"nms": None, "dynamic": True}),
    "11 dynamic, NMS inside": ("yolo11n.yaml", {"nms": True, "dynamic": True}),
    "11 dynamic up to two, NMS inside": ("yolo11n.yaml", {"nms": True, "dynamic": True, "batch": 2}),
    "11 half": ("yolo11n.yaml", {"nms": None, "half": True}),
    "v8 four at a time": ("yolov8n.yaml", {"nms": None, "batch": 4}),
    "v10 dense": ("yolov10n.yaml", {"nms": None}),
    "v10 end to end": ("yolov10n.yaml", {"nms": False}),
}
#: What every run tests; the other kinds are of the long one.
SOME = {"26 end to end", "11 with NMS inside", "v8 dynamic"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, id=name.replace(" ", "-"), marks=() if name in SOME else pytest.mark.slow) for name in FILES
    ],
)
def file(request, tmp_path_factory) -> Path:
    architecture, settings = FILES[request.param]
    return export(architecture, tmp_path_factory.mktemp("parity"), **{"imgsz": 128, "conf": 0.05, **settings})


@pytest.fixture(scope="module")
def detector(file):
    return Detector(file, threads=1)


@pytest.fixture(scope="module")
def compare(file, detector):
    """Return a function that compares the host and the runtime picture by picture; it returns the detections."""
    from ultralytics import YOLO

    model = YOLO(file, task="detect")

    def both(images, agnostic=False, **settings):
        all_found = []
        # The host lays pictures for a dynamic file into the smallest rectangle unless asked not to.
        options = {"imgsz": list(detector.imgsz), "rect": False, "batch": 1, "verbose": False, "device": "cpu"}
        for image in images:
            boxes = model.predict(image, agnostic_nms=agnostic, **options, **settings)[0].boxes
            found = detector(image, agnostic=agnostic, **settings)
            assert len(found) == len(boxes)
            np.testing.assert_allclose(found.confidence, boxes.conf.numpy(), atol=SCORE)
            np.testing.assert_allclose(found.xyxy, boxes.xyxy.numpy(), atol=BOX)
            assert found.class_id.tolist() == boxes.cls.int().tolist()
            all_found.append(found)
        return all_found

    return both


@pytest.mark.parametrize(
    "settings",
    [
        {"conf": 0.25, "iou": 0.7},
        {"conf": 0.06, "iou": 0.4},
        {"conf": 0.06, "iou": 0.7, "max_det": 3},
        {"conf": 0.06, "iou": 0.5, "agnostic": True},
        {"conf": 0.06, "iou": 0.7, "classes": list(range(0, 80, 2))},
        {"conf": 1.0, "iou": 0.7},  # nothing
    ],
    ids=lambda settings: ",".join(f"{key}={str(value)[:6]}" for key, value in settings.items()),
)
def test_made_pictures(compare, settings):
    count = sum(map(len, compare(pictures(), **settings)))
    assert count == 0 if settings["conf"] == 1 else count >= 3


def test_real_pictures(compare, shared_data):
    folders = (shared_data / "bccd" / "images" / "test", shared_data / "aquarium" / "images" / "test")
    images = [cv2.imread(str(path)) for folder in folders for path in sorted(folder.iterdir())[:3]]
    assert sum(map(len, compare(images, conf=0.1, iou=0.6))) > 0


def test_a_list_is_the_same_as_one_by_one(detector):
    together = detector(list(pictures()), conf=0.06)
    for one, other in zip(pictures(), together, strict=True):
        alone = detector(one, conf=0.06)
        np.testing.assert_allclose(alone.xyxy, other.xyxy, atol=0.1)
        np.testing.assert_allclose(alone.confidence, other.confidence, atol=1e-4)
    # The network answers to the picture; otherwise nothing here would prove anything.
    assert len({one.confidence[:3].tobytes() for one in together}) == len(together)
    assert len(set(np.concatenate([one.class_id for one in together]).tolist())) > 5
