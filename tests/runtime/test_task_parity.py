"""The same file of another task, run by the host and by the runtime: the same masks, keypoints, turned boxes."""

from __future__ import annotations

import numpy as np
import pytest
from host_files import export, pictures

from yolo_distill import Detector
from yolo_distill.errors import RequestError

pytest.importorskip("ultralytics", reason="the host is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")

BOX, SCORE, ANGLE = 1.0, 1e-3, 1e-4  # pixels of the picture, score, radians

FILES = {
    "26 segment": ("yolo26n-seg.yaml", {"nms": None}),
    "26 segment end to end": ("yolo26n-seg.yaml", {"nms": False}),
    "11 segment, oblong": ("yolo11n-seg.yaml", {"nms": None, "imgsz": [96, 160]}),
    "v8 segment, NMS inside": ("yolov8n-seg.yaml", {"nms": True}),
    "26 pose": ("yolo26n-pose.yaml", {"nms": None}),
    "26 pose end to end": ("yolo26n-pose.yaml", {"nms": False}),
    "11 pose dynamic": ("yolo11n-pose.yaml", {"nms": None, "dynamic": True}),
    "26 obb": ("yolo26n-obb.yaml", {"nms": None}),
    "26 obb end to end": ("yolo26n-obb.yaml", {"nms": False}),
    "v8 obb": ("yolov8n-obb.yaml", {"nms": None}),
    "11 obb, NMS inside": ("yolo11n-obb.yaml", {"nms": True}),
}
#: What every run tests; the other kinds are of the long one.
SOME = {"26 segment", "v8 obb"}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in SOME else pytest.mark.slow, id=kind) for kind in FILES]
)
def test_the_same_as_the_host(kind, tmp_path):
    from ultralytics import YOLO

    architecture, settings = FILES[kind]
    file = export(architecture, tmp_path, **{"imgsz": 128, "conf": 0.05, **settings})
    detector, model = Detector(file, threads=1), YOLO(file, task=(task := kind.split()[1].rstrip(",")))
    assert detector.task == task
    size = {"imgsz": list(detector.imgsz), "rect": False, "batch": 1, "verbose": False, "device": "cpu"}
    count = 0
    for one in ({"conf": 0.25}, {"conf": 0.06, "iou": 0.4}, {"conf": 0.06, "classes": list(range(0, 80, 2))}):
        for image in pictures():
            host = model.predict(image, retina_masks=True, **size, **{"iou": 0.7, **one})[0]
            found = detector(image, **one)
            boxes = host.boxes if host.obb is None else host.obb
            assert len(found) == len(boxes)
            count += len(found)
            np.testing.assert_allclose(found.confidence, boxes.conf.numpy(), atol=SCORE)
            assert found.class_id.tolist() == boxes.cls.int().tolist()
            if task == "obb":
                np.testing.assert_allclose(found.xywhr[:, :4], boxes.xywhr.numpy()[:, :4], atol=BOX)
                np.testing.assert_allclose(found.xywhr[:, 4], boxes.xywhr.numpy()[:, 4], atol=ANGLE)
                np.testing.assert_allclose(found.obb.xyxyxyxy, boxes.xyxyxyxy.numpy(), atol=BOX)
                continue
            np.testing.assert_allclose(found.xyxy, boxes.xyxy.numpy(), atol=BOX)
            if task == "pose":
                np.testing.assert_allclose(found.keypoints.xy, host.keypoints.xy.numpy(), atol=BOX)
                np.testing.assert_allclose(found.keypoints.conf, host.keypoints.conf.numpy(), atol=SCORE)
            elif len(found):
                ours, theirs = found.masks.data, host.masks.data.numpy() > 0
                both, either = (ours & theirs).sum((1, 2)), (ours | theirs).sum((1, 2))
                assert (both / either).min() >= 0.99
    assert count >= 10


def test_networks_of_other_tasks(tmp_path):
    """They are refused for what they are, in one line."""
    file = export("yolo11n-cls.yaml", tmp_path, alive=False, imgsz=64)
    with pytest.raises(RequestError) as caught:
        Detector(file)
    assert str(caught.value) == (f"{file}: the model's task is 'classify'; detect, segment, pose and obb can be run")
