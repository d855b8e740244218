"""Whose classes the new data set has, and how a teacher's scores become scores of these."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yolo_distill.errors import RequestError
from yolo_distill.labelling.inference import Predictor
from yolo_distill.labelling.targets import find_targets
from yolo_distill.teachers.answer import make_set
from yolo_distill.teachers.teacher import Teacher

TEACHER = {0: "car", 1: "truck", 2: "person"}


@pytest.mark.parametrize(
    ("data", "class_map", "names", "columns"),
    [
        (None, None, ["car", "truck", "person"], [(0,), (1,), (2,)]),
        (None, {"truck": "vehicle", "car": "vehicle"}, ["vehicle"], [(0, 1)]),
        ({0: "Person", 1: "dog"}, None, ["Person", "dog"], [(2,), ()]),
        ({0: "dog", 1: "vehicle"}, {"car": "vehicle", "truck": "vehicle"}, ["dog", "vehicle"], [(), (0, 1)]),
    ],
    ids=["the teacher's own", "those of the map", "those of the data", "by a map"],
)
def test_whose_classes(data, class_map, names, columns):
    targets = find_targets(TEACHER, data, class_map)
    assert (targets.names, targets.columns) == (names, columns)
    assert targets.untaught == [name for name in names if name == "dog"]
    assert targets.joined == ((0, 1) in columns)


def test_no_class_in_common():
    with pytest.raises(RequestError, match="no class in common: the data has dog, the teacher car, truck, person"):
        find_targets(TEACHER, {0: "dog"}, None)


class HalfAbove(Teacher):
    """Sees in the lower half of a box that begins above the picture an object of that half."""

    task = "segment"

    def __call__(self, images):
        mask = torch.zeros(1, 28, 28)
        mask[:, 14:] = 1
        return make_set([torch.tensor([[8.0, 8, 40, 40]])], [torch.tensor([[0.9, 0, 0]])], 3, None, [mask])

    def wait(self, answer): ...


def test_a_mask_stays_where_it_is_though_its_box_reaches_beyond_the_picture():
    predictor = Predictor(HalfAbove(), find_targets(TEACHER, None, None), imgsz=64, device="cpu")
    (found,) = predictor([predictor.fit(np.zeros((32, 64, 3), np.uint8))])  # which lies 16 pixels lower
    assert found.boxes.tolist() == [[8, 0, 40, 24]]
    assert found.own[0].reshape(-1, 2)[:, 1].min() == pytest.approx(24 - 16, abs=1)


class CarAndTruck(Teacher):
    """Finds a box that is a car and a truck, and the same once more."""

    def __call__(self, images):
        boxes = torch.tensor([[8.0, 32, 40, 56], [8, 32, 41, 56]])
        return make_set([boxes] * len(images), [torch.tensor([[0.6, 0.2, 0], [0.3, 0.7, 0]])] * len(images), 3)

    def wait(self, answer): ...


def test_a_car_that_is_also_a_truck_is_one_vehicle():
    targets = find_targets(TEACHER, None, {"car": "vehicle", "truck": "vehicle"})
    predictor = Predictor(CarAndTruck(), targets, imgsz=64, device="cpu")
    (found,) = predictor([predictor.fit(np.zeros((64, 64, 3), np.uint8))])
    assert found.boxes.tolist() == [[8, 32, 41, 56]]
    assert found.scores.ravel().tolist() == pytest.approx([0.7])
