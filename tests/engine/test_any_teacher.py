"""Short real runs with teachers of every kind: they teach, the run ends with its table, and goes on after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from live_detector import live_detector
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

from yolo_distill.distillation import criterion
from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.run import train
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import RequestError

NAMES = {0: "disc", 1: "square"}


@pytest.fixture
def host(settings):
    return {**settings, "epochs": 2, "plots": False}


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory) -> Path:
    """Return an export of the host's: what it writes for anybody."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.save({"model": live_detector("yolov8n.yaml", NAMES.values()).half(), "train_args": {}}, folder / "n.pt")
    return Path(YOLO(folder / "n.pt").export(format="onnx", imgsz=64, dynamic=True, verbose=False))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two stages", "onnx", "several", "larger"])
def test_it_teaches_and_ends_with_a_table(kind, host, make_teacher, two_stages, onnx_file):
    yolo = make_teacher("yolo26s.yaml", NAMES)
    own = {
        "two stages": {"teacher": two_stages, "pkd": 1.0},
        "onnx": {"teacher": str(onnx_file)},
        "several": {"teacher": f"{yolo},{onnx_file}"},
        "larger": {"teacher": str(yolo), "teacher_imgsz": 128, "cwd": 1.0},
    }[kind]
    if kind == "several":
        pytest.importorskip("ensemble_boxes")
    student = "yolov8n.yaml" if kind == "larger" else "yolo26n.yaml"
    folder = train({**own, "ramp_epochs": 0.0}, {**host, "epochs": 1, "name": "run"}, student=student)
    columns = read_columns(folder / "results.csv")
    for term in ("logit_loss", "local_loss", *(["pkd_loss"] if "pkd" in own else [])):
        assert columns[f"train/{term}"][-1] > 0, term
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["student"]["map"] is not None
    assert "map" in summary["teacher"]


@pytest.mark.slow
@pytest.mark.parametrize("conf", [None, 0.001])  # above the latter is all that an untrained teacher says
def test_unlabelled_pictures_are_taught_and_survive_a_resume(
    host, make_teacher, tmp_path, monkeypatch, killed_and_resumed, conf
):
    (tmp_path / "raw").mkdir()
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 255, (80, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "raw" / f"{number}.jpg"), noise)
    seen: list[tuple[bool, ...]] = []
    judged: list[int] = []
    planned: list[int] = []
    prepare, part, build = (
        DistillationTrainer.preprocess_batch,
        criterion.labelled_part,
        DetectionTrainer.build_optimizer,
    )

    def judge(preds, batch, **given):
        found = part(preds, batch, **given)
        if torch.is_grad_enabled() and "labelled" in batch:  # not what the cost is measured on
            judged.append(len((found[1] if found else batch)["img"]))
        return found

    def count(self, *args, iterations, **kwargs):
        planned.append(iterations)
        return build(self, *args, iterations=iterations, **kwargs)

    look = lambda self, batch: seen.append(batch["labelled"]) or prepare(self, batch)  # noqa: E731
    monkeypatch.setattr(DistillationTrainer, "preprocess_batch", look)
    monkeypatch.setattr(criterion, "labelled_part", judge)
    monkeypatch.setattr(DetectionTrainer, "build_optimizer", count)
    own = {"teacher": str(make_teacher("yolo26s.yaml", NAMES)), "unlabeled": "raw", "unlabeled_ratio": 1.0}
    own |= {"unlabeled_conf": conf}
    folder = killed_and_resumed(own, {**host, "name": "run"})
    assert read_columns(folder / "results.csv")["epoch"] == [1, 2]
    assert set(seen) == {(True, True, False, False)}
    assert set(judged) == {2 if conf is None else 4}
    assert set(planned) == {8}  # two epochs of 16 pictures by 4, though there are 8 + 10
    assert len(seen) == 2 * 4  # an epoch is all eight labelled pictures, two a batch
    assert len(list(Path(host["project"]).glob("unlabeled-*"))) == 1


@pytest.mark.slow
def test_other_names_in_another_order_and_one_class_less(host, make_teacher, tmp_path, caplog):
    teacher = make_teacher("yolo26s.yaml", {0: "Sq-Uare", 1: "ball"})
    (tmp_path / "map.yaml").write_text("ball: disc\n")
    folder = train(
        {"teacher": str(teacher), "class_map": "map.yaml", "match": "some", "ramp_epochs": 0.0, "teach": True},
        {**host, "epochs": 1, "name": "run"},
        student="yolo26n.yaml",
    )
    assert read_columns(folder / "results.csv")["train/logit_loss"][-1] > 0
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["class_map"] == str(tmp_path / "map.yaml")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"teacher": "torchvision:fasterrcnn_resnet50_fpn_v3"}, "did you mean 'fasterrcnn_resnet50_fpn_v2'"),
        ({"teacher": "torchvision:ssd300_vgg16:nowhere.pth"}, "no such file"),
        ({"teacher": "a.pt,,b.pt"}, "nothing between two commas"),
        ({"teacher": "a.pt", "teacher_weights": "b.pth"}, "belongs to one torchvision teacher"),
        ({"teacher": "nowhere.onnx"}, "no such file"),
        ({"unlabeled": "nowhere"}, "unlabeled"),
        ({"unlabeled": "raw", "logit": 0, "localization": 0}, "all gains are 0"),
        ({"teacher_imgsz": 96}, "has to be a multiple of imgsz=64"),
        ({"class_map": "nowhere.yaml"}, "class_map=nowhere.yaml: cannot be read"),
        ({"teacher": "rtdetr-l.yaml", "init": "try"}, "init=try: teacher=rtdetr-l.yaml is no YOLO"),
        ({"teacher": "yolov8s.yaml", "init": "try"}, r"init=teacher: only \d+%"),
        ({"teacher": "rtdetr-l.yaml", "assistant": "yolo26s.yaml", "init": "teacher"}, r"rtdetr-l\.yaml is no YOLO"),
        ({"assistant": "yolo26sx.yaml"}, r"assistant=yolo26sx\.yaml"),
    ],
    ids=str,
)
def test_bad_requests_are_one_line_and_leave_nothing(own, message, host, tiny_student, tiny_teacher, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RequestError, match=message) as caught:
        train({"teacher": tiny_teacher, **own}, host, student=tiny_student)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_leakage_is_refused_before_anything_is_trained(host, tiny_student, tiny_teacher, tiny_data, tmp_path):
    (tmp_path / "raw").mkdir()
    shutil.copy(tiny_data.parent / "images" / "test" / "0.png", tmp_path / "raw" / "mine.png")
    with pytest.raises(RequestError, match=r"mine\.png is .*on which the student is measured"):
        train({"teacher": tiny_teacher, "unlabeled": "raw"}, host, student=tiny_student)
