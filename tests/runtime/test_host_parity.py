"""The same file, run by the host and by the runtime: the same boxes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from yolo_distill import Detector
from yolo_distill.errors import RequestError

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


#: What every run looks at; the other kinds are of the long one.
SOME = {"26 dense", "26 end to end", "11 with NMS inside", "v8 dynamic"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, id=name.replace(" ", "-"), marks=() if name in SOME else pytest.mark.slow) for name in FILES
    ],
)
def file(request, tmp_path_factory) -> Path:
    """Return an exported detector that has not been trained."""
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    architecture, settings = FILES[request.param]
    torch.manual_seed(1)
    model = YOLO(architecture, verbose=False)
    enliven(model.model)
    model.ckpt_path = model.model.pt_path = str(tmp_path_factory.mktemp("parity") / "made.pt")
    before = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        return Path(
            model.export(format="onnx", simplify=False, verbose=False, **{"imgsz": 128, "conf": 0.05, **settings})
        )
    finally:
        LOGGER.setLevel(before)


def enliven(network) -> None:
    """Let an untrained network look at the picture, and be sure of some places and unsure of most.

    Its batch norms expect variances that it does not have, so that it answers the same to every picture; one batch in
    training mode fills them in.
    """
    import cv2
    import torch

    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    # Many and various, or a channel that happened to be still would explode at the next picture.
    batch = np.stack([cv2.resize(image, (128, 128)) for seed in range(1, 9) for image in pictures(seed)])
    images = torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()).float() / 255
    head = network.model[-1]
    with torch.no_grad():
        network.train()(images)
        network.eval()
        for name in ("cv3", "one2one_cv3"):
            levels = getattr(head, name, None) or ()
            if levels and hasattr(network, "end2end"):
                network.end2end = name == "one2one_cv3"
            for level in levels:
                level[-1].register_forward_hook(spread)
            network(images)
            for level in levels:
                level[-1]._forward_hooks.clear()


def spread(conv, _, logits) -> None:
    """Give a level's class scores a spread of 1.2 around -4; the best of 80 classes then scores 0.1 to 0.5."""
    weighed = logits - conv.bias.view(1, -1, 1, 1)
    gain = 1.2 / weighed.std()
    conv.weight.data *= gain
    conv.bias.data[:] = -4 - gain * weighed.mean()


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


def pictures(seed=0):
    """Return blurred noise of several shapes."""
    import cv2

    random = np.random.default_rng(seed)
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
        {"conf": 1.0, "iou": 0.7},  # nothing
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


def test_it_looks_at_the_picture(file):
    """Otherwise nothing here would prove anything."""
    found = [Detector(file, threads=1)(image, conf=0.06) for image in pictures()]
    assert len({one.confidence[:3].tobytes() for one in found}) == len(found)
    assert len(set(np.concatenate([one.class_id for one in found]).tolist())) > 5


def test_a_list_is_the_same_as_one_by_one(file):
    detector = Detector(file, threads=1)
    together = detector(list(pictures()), conf=0.06)
    for one, other in zip(pictures(), together, strict=True):
        alone = detector(one, conf=0.06)
        np.testing.assert_allclose(alone.xyxy, other.xyxy, atol=0.1)
        np.testing.assert_allclose(alone.confidence, other.confidence, atol=1e-4)


@pytest.mark.parametrize(("kind", "task"), [("seg", "segment"), ("cls", "classify"), ("pose", "pose"), ("obb", "obb")])
def test_networks_of_other_tasks(tmp_path, kind, task):
    """They are refused for what they are, in one line."""
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    model = YOLO(f"yolo11n-{kind}.yaml", verbose=False)
    model.ckpt_path = model.model.pt_path = str(tmp_path / "made.pt")
    before = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        file = model.export(format="onnx", imgsz=64, simplify=False, verbose=False)
    finally:
        LOGGER.setLevel(before)
    with pytest.raises(RequestError) as caught:
        Detector(file)
    assert str(caught.value) == f"{file}: the model's task is '{task}'; only detectors (task 'detect') can be run"
