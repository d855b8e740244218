"""The data set is one of Ultralytics', trained on as it is; and labelling with a real teacher."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from live_detector import live_detector, save
from made_labelling import opener, request, write_film, write_pictures
from ultralytics import YOLO

from yolo_distill.labelling.inference import Predictor
from yolo_distill.labelling.run import label
from yolo_distill.labelling.targets import find_targets
from yolo_distill.runtime.sources import read_picture
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.yolo import YoloTeacher


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [False, True])
def test_ultralytics_trains_on_it(tmp_path, tiny_data, labelled):
    write_pictures(tmp_path / "in" / "größe, 1", 6)
    write_film(tmp_path / "in" / "größe, 1" / "film.avi", 30, change=10)
    out = tmp_path / "made images" / "out"
    data = str(tiny_data) if labelled else None
    label(request(tmp_path / "in" / "größe, 1", out, data=data), opener=opener, say=lambda line: None)
    model = YOLO("yolo26n.yaml")
    settings = {"imgsz": 64, "epochs": 1, "batch": 4, "workers": 0, "plots": False, "device": "cpu", "amp": False}
    model.train(data=str(out / "data.yaml"), project=str(tmp_path), name="run", **settings)
    found = model.trainer.train_loader.dataset
    assert len(found) == 9
    counts = {Path(one["im_file"]).name: len(one["cls"]) for one in found.labels}
    lines = {path.stem: len(path.read_text().splitlines()) for path in (out / "labels" / "train").iterdir()}
    assert {Path(name).stem: count for name, count in counts.items()} == lines
    assert max(lines.values()) == 2
    assert min(lines.values()) == 0
    assert len(model.trainer.test_loader.dataset) == (4 if labelled else 9)
    assert model.names == yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))["names"]


def test_boxes_are_those_that_the_host_predicts(tmp_path, tiny_data):
    """Of one file: the same boxes and scores as `YOLO(...).predict`, in pixels of pictures of another shape."""
    model = live_detector("yolo26n.yaml")
    weights = save(model, tmp_path / "t.pt", 96)
    files = []
    for number, (height, width) in enumerate([(60, 100), (200, 130), (96, 96)]):
        picture = read_picture(str(tiny_data.parent / "images" / "train" / f"{number}.png"))
        files.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(files[-1], cv2.resize(picture, (width, height)))
    teacher = YoloTeacher(model, needs=Needs(one2one=False, maps=False))
    predictor = Predictor(teacher, find_targets(model.names, None, None), imgsz=96, device="cpu")
    answers = predictor([predictor.fit(read_picture(file)) for file in files])
    for file, found in zip(files, answers, strict=True):
        (expected,) = YOLO(weights).predict(file, imgsz=(96, 96), rect=False, conf=0.05, device="cpu", verbose=False)
        boxes, scores = expected.boxes.xyxy.numpy(), expected.boxes.conf.numpy()
        thick = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        assert len(found.boxes) == thick.sum() > 0
        np.testing.assert_allclose(found.scores.max(1), np.sort(scores[thick])[::-1], atol=1e-3)
        np.testing.assert_allclose(np.sort(found.boxes, 0), np.sort(boxes[thick], 0), atol=0.1)
