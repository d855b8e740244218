"""Measuring teachers of any kind: the same figures as for the model inside, and what classes the teacher lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from live_detector import draw, live_detector, save
from made_data import NAMES, SIDE, labels_of, write_data
from made_detector import rows, write_detector
from tiny_rtdetr import live_rtdetr
from torch import Tensor
from ultralytics import RTDETR

from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.evaluation.evaluate_teacher import evaluate_teacher
from yolo_distill.teachers.answer import DenseAnswer, SetAnswer, make_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.onnx_detector import OnnxTeacher
from yolo_distill.teachers.rtdetr import RtdetrTeacher
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.yolo import YoloTeacher


@pytest.fixture(scope="module")
def pictures() -> dict[str, Any]:
    """Six pictures, as large as the network's input."""
    return {str(number): picture for number, picture in enumerate(draw(6, SIDE, SIDE))}


@pytest.fixture(scope="module")
def model() -> Any:
    return live_detector("yolo26n.yaml", NAMES.values())


@pytest.fixture(scope="module")
def data(model: Any, pictures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), pictures, labels_of(YoloTeacher(model), pictures))


class Knowing:
    """A teacher that has the labels by heart, in columns of its own, by what the pictures look like."""

    def __init__(self, data: Path, names: dict[int, str], column_of: dict[int, int]) -> None:
        self.names, self.needs = names, Needs()
        self.strides: list[int] = []
        self.widths: dict[int, int] = {}
        self.inference: list[bool] = []
        self._known: dict[bytes, tuple[Tensor, Tensor]] = {}
        for file in (data.parent / "images" / "val").iterdir():
            label = data.parent / "labels" / "val" / f"{file.stem}.txt"
            found = torch.tensor([[float(value) for value in line.split()] for line in label.read_text().splitlines()])
            found = found.reshape(-1, 5)
            scores = torch.zeros(len(found), len(names))
            for row, number in enumerate(found[:, 0].int().tolist()):
                scores[row, column_of.get(number, 0)] = 0.9 * (number in column_of)
            centre, half = found[:, 1:3] * SIDE, found[:, 3:] * SIDE / 2
            picture = cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1)
            self._known[picture.tobytes()] = torch.cat([centre - half, centre + half], 1), scores

    def __call__(self, images: Tensor) -> SetAnswer:
        self.inference.append(images.is_inference() or torch.is_inference_mode_enabled())
        found = [self._known[(image * 255).round().byte().numpy().tobytes()] for image in images]
        return make_set([boxes for boxes, _ in found], [scores for _, scores in found], len(self.names))

    def wait(self, answer: Any) -> None:
        """Nothing to wait for."""


def figure(teacher: Teacher, data: Path, **options: Any) -> dict[str, Any]:
    return evaluate_teacher(teacher, data, imgsz=SIDE, batch=4, device="cpu", **options)


class OneToOne(YoloTeacher):
    """Has the branch alone."""

    def __call__(self, images: Tensor) -> DenseAnswer:
        return replace(super().__call__(images), one2many=None)


@pytest.mark.parametrize(("kind", "nms"), [(YoloTeacher, None), (OneToOne, False)])
def test_a_yolo_as_a_teacher_has_the_figures_of_the_model(kind: Any, nms: bool | None, model: Any, data: Path) -> None:
    expected = evaluate(model, data, imgsz=SIDE, device="cpu", nms=nms)
    found = figure(kind(model), data)
    assert expected["map"] > 0.1
    for key in ("map", "map50", "precision", "recall"):
        assert found[key] == pytest.approx(expected[key], abs=5e-3)
    for ours, theirs in zip(found["classes"], expected["classes"], strict=True):
        assert (ours["name"], ours["pictures"], ours["boxes"]) == (theirs["name"], theirs["pictures"], theirs["boxes"])
        assert ours["map"] == pytest.approx(theirs["map"], abs=5e-3)
    assert found.keys() == expected.keys()
    assert json.loads(json.dumps(found)) == found
    assert found["model"] == kind.__name__


def test_an_rtdetr_has_the_figures_of_the_hosts_validator(pictures: dict[str, Any], tmp_path: Path) -> None:
    rtdetr = live_rtdetr(NAMES.values())
    data = write_data(tmp_path, pictures, labels_of(RtdetrTeacher(rtdetr), pictures))
    # The host stretches pictures to a square; these are squares.
    theirs = RTDETR(str(save(rtdetr, tmp_path / "best.pt", SIDE))).val(
        data=str(data), imgsz=SIDE, plots=False, workers=0, device="cpu", project=str(tmp_path), conf=0.01
    )
    found = figure(RtdetrTeacher(rtdetr), data)["map"]
    assert found > 0.1
    # The host counts at most as many detections as there are queries, here a box once a class.
    assert found == pytest.approx(float(theirs.box.map), abs=0.02)


def test_a_teacher_that_knows_everything_has_everything(data: Path) -> None:
    teacher = Knowing(data, NAMES, {0: 0, 1: 1})
    found = figure(teacher, data)
    assert found["map"] > 0.99
    assert found["boxes"] == sum(row["boxes"] for row in found["classes"])
    # What a teacher that remembers would keep has to be of use to a loss later.
    assert teacher.inference
    assert not any(teacher.inference)
    assert not list(Path.cwd().iterdir())


def test_boxes_are_measured_on_labels_with_keypoints(data: Path, pictures: dict[str, Any], tmp_path: Path) -> None:
    """As outlines, which the host takes them for, they would have other boxes around them."""
    labels = {
        name: "\n".join(
            f"{line} 0.01 0.02 0.03 0.04" for line in (data.parent / f"labels/val/{name}.txt").read_text().splitlines()
        )
        for name in pictures
    }
    own = write_data(tmp_path / "pose", pictures, labels, kpt_shape=[2, 2], flip_idx=[0, 1])
    assert figure(Knowing(data, NAMES, {0: 0, 1: 1}), own)["map"] > 0.99


@pytest.mark.parametrize(
    ("columns", "low", "high"),
    [
        ({0: [3], 1: [1]}, 0.99, 1),
        ({0: [2, 3], 1: [1]}, 0.99, 1),  # of several columns for one class the surest speaks
        ({0: [1], 1: [3]}, 0, 0.5),
        ({}, 0, 0),
    ],
)
def test_classes_in_another_order_among_others(columns: dict[int, Any], low: float, high: float, data: Path) -> None:
    teacher = Knowing(data, {0: "kite", 1: "square", 2: "circle", 3: "round"}, {0: 3, 1: 1})
    assert low <= figure(teacher, data, columns=columns)["map"] <= high


def test_a_class_that_the_teacher_lacks_is_never_detected(data: Path) -> None:
    found = figure(Knowing(data, {0: "square"}, {1: 0}), data, columns={1: [0]})
    lacking, known = found["classes"]
    assert (lacking["name"], lacking["map"], lacking["recall"]) == ("round", 0.0, 0.0)
    assert lacking["boxes"] > 0
    assert known["map"] > 0.99


@pytest.mark.parametrize("columns", [None, {0: [1], 1: [2]}])
def test_all_classes_as_one(data: Path, columns: dict[int, list[int]] | None) -> None:
    teacher = Knowing(data, {0: "a", 1: "b", 2: "c"}, {0: 2, 1: 1})
    found = figure(teacher, data, single_cls=True, columns=columns)
    assert found["map"] > 0.99
    assert [row["name"] for row in found["classes"]] == ["item"]


def test_a_session_of_onnx_runtime_is_measured(tmp_path: Path, data: Path) -> None:
    answer = rows((4, 8, 40, 44, 0.7, 1))
    file = write_detector(tmp_path / "made.onnx", answer, imgsz=(SIDE, SIDE), names=NAMES)
    assert 0 <= figure(OnnxTeacher(file), data)["map"] < 1


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({0: "square", 1: "round"}, "differ: 0 is 'square' there and 'round' here"),
        ({0: "round"}, "Knowing has 1 classes"),
    ],
)
def test_what_can_not_be_measured(data: Path, names: dict[int, str], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        figure(Knowing(data, names, {}), data)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
