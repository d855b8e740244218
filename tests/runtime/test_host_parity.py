"""The same file, run by the host and by the runtime: the same boxes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

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
    "v8 four at a time": ("yolov8n.yaml", {"nms": None, "batch": 4}),
    "v10 dense": ("yolov10n.yaml", {"nms": None}),
    "v10 end to end": ("yolov10n.yaml", {"nms": False}),
}


@pytest.fixture(scope="module", params=FILES, ids=lambda name: name.replace(" ", "-"))
def file(request, tmp_path_factory) -> Path:
    """Return an exported, untrained detector that is confident here and there, as a trained one is."""
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    architecture, settings = FILES[request.param]
    torch.manual_seed(1)
    model = YOLO(architecture, verbose=False)
    head = model.model.model[-1]
    for branch in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
        for level in getattr(head, branch, None) or ():
            level[-1].weight.data *= 20
            if branch.endswith("cv3"):
                level[-1].bias.data += 8.0
    model.ckpt_path = model.model.pt_path = str(tmp_path_factory.mktemp("parity") / "made.pt")
    LOGGER.setLevel(logging.ERROR)
    return Path(model.export(format="onnx", simplify=False, verbose=False, **{"imgsz": 128, "conf": 0.05, **settings}))


@pytest.fixture(scope="module")
def host(file):
    """Return a function that lets the host predict one picture: boxes (N, 4), scores (N,), classes (N,)."""
    from ultralytics import YOLO

    model = YOLO(file, task="detect")

    def predict(image, agnostic=False, **settings):
        # The host lays pictures for a dynamic file into the smallest rectangle unless told not to.
        size = list(Detector(file).imgsz)
        found = model.predict(
            image, imgsz=size, rect=False, batch=1, verbose=False, agnostic_nms=agnostic, device="cpu", **settings
        )
        boxes = found[0].boxes
        return boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy().astype(int)

    return predict


def pictures():
    """Return blurred noise of several shapes."""
    import cv2

    random = np.random.default_rng(0)
    for shape in ((96, 160), (333, 127), (128, 128)):
        noise = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        yield cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)


def compare(host, detector, images, **settings) -> int:
    """Compare the two on each picture; return how many detections there were."""
    count = 0
    for image in images:
        xyxy, scores, classes = host(image, **settings)
        found = detector(image, **settings)
        assert len(found) == len(xyxy)
        np.testing.assert_allclose(found.confidence, scores, atol=SCORE)
        np.testing.assert_allclose(found.xyxy, xyxy, atol=BOX)
        assert found.class_id.tolist() == classes.tolist()
        count += len(found)
    return count


@pytest.mark.parametrize(
    "settings",
    [
        {"conf": 0.25, "iou": 0.7},
        {"conf": 0.06, "iou": 0.4},
        {"conf": 0.06, "iou": 0.7, "max_det": 3},
        {"conf": 0.06, "iou": 0.5, "agnostic": True},
        {"conf": 0.06, "iou": 0.7, "classes": list(range(0, 80, 2))},
        {"conf": 1.0, "iou": 0.7},
    ],
    ids=lambda settings: ",".join(f"{key}={str(value)[:6]}" for key, value in settings.items()),
)
def test_made_pictures(file, host, settings):
    detector = Detector(file, threads=1)
    count = compare(host, detector, pictures(), **settings)
    assert count == 0 if settings["conf"] == 1 else count >= 3


def test_real_pictures(file, host, shared_data):
    import cv2

    folders = (shared_data / "bccd" / "images" / "test", shared_data / "aquarium" / "images" / "test")
    images = [cv2.imread(str(path)) for folder in folders for path in sorted(folder.iterdir())[:3]]
    assert compare(host, Detector(file, threads=1), images, conf=0.1, iou=0.6) > 0


def test_a_list_is_the_same_as_one_by_one(file):
    detector = Detector(file, threads=1)
    together = detector(list(pictures()), conf=0.06)
    for one, other in zip(pictures(), together, strict=True):
        alone = detector(one, conf=0.06)
        np.testing.assert_allclose(alone.xyxy, other.xyxy, atol=0.1)
        np.testing.assert_allclose(alone.confidence, other.confidence, atol=1e-4)
