"""Whose classes the new data set has, and how a teacher's scores become scores of these."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yolo_distill.errors import RequestError
from yolo_distill.labelling.inference import Predictor
from yolo_distill.labelling.targets import find_targets
from yolo_distill.teachers.answer import make_set

TEACHER = {0: "car", 1: "truck", 2: "person"}


def test_the_teachers_own():
    targets = find_targets(TEACHER, None, None)
    assert (targets.names, targets.columns, targets.joined) == (["car", "truck", "person"], [(0,), (1,), (2,)], False)


def test_those_of_the_map():
    targets = find_targets(TEACHER, None, {"truck": "vehicle", "car": "vehicle"})
    assert (targets.names, targets.columns, targets.joined) == (["vehicle"], [(0, 1)], True)


def test_those_of_the_data():
    targets = find_targets(TEACHER, {0: "Person", 1: "dog"}, None)
    assert (targets.names, targets.columns, targets.untaught) == (["Person", "dog"], [(2,), ()], ["dog"])
    targets = find_targets(TEACHER, {0: "dog", 1: "vehicle"}, {"car": "vehicle", "truck": "vehicle"})
    assert targets.columns == [(), (0, 1)]


@pytest.mark.parametrize(
    ("data", "class_map", "said"),
    [
        (None, {"bus": "vehicle"}, "the teacher has no class 'bus'"),
        ({0: "vehicle"}, {"car": "vehicles"}, "has no class 'vehicles'; did you mean 'vehicle'"),
        ({0: "dog"}, None, "no class in common: the data has dog, the teacher car, truck, person"),
    ],
)
def test_classes_that_nobody_has(data, class_map, said):
    with pytest.raises(RequestError, match=said):
        find_targets(TEACHER, data, class_map)


class Fixed:
    """Finds a box that is a car and a truck, the same once more, and a person; all in the lower half."""

    names, strides, widths, needs = TEACHER, (), {}, None

    def __call__(self, images):
        self.images = images
        boxes = torch.tensor([[8.0, 32, 40, 56], [8, 32, 41, 56], [50, 40, 60, 64], [0, 40, 0.2, 50]])
        scores = torch.tensor([[0.6, 0.2, 0], [0.3, 0.7, 0], [0, 0, 0.9], [0, 0, 0.8]])
        return make_set([boxes] * len(images), [scores] * len(images), 3)

    def wait(self, answer):
        pass


def test_a_car_that_is_also_a_truck_is_one_vehicle():
    predictor = Predictor(
        Fixed(), find_targets(TEACHER, None, {"car": "vehicle", "truck": "vehicle"}), imgsz=64, device="cpu"
    )
    (found,) = predictor([predictor.fit(np.zeros((64, 64, 3), np.uint8))])
    assert found.boxes.tolist() == [[8, 32, 41, 56]]
    assert found.scores.ravel().tolist() == pytest.approx([0.7])


def test_boxes_are_in_pixels_of_the_picture_and_inside_it():
    teacher = Fixed()
    predictor = Predictor(teacher, find_targets(TEACHER, None, None), imgsz=64, device="cpu")
    # Twice as wide as high: 16 rows of padding above and below the 32 that show it.
    wide = np.zeros((100, 200, 3), np.uint8)
    wide[..., 2] = 255
    first, second = predictor([predictor.fit(wide), predictor.fit(wide)])
    assert first.scores.argmax(1).tolist() == [2, 1, 0]  # surest first; a sliver at the border is none
    scale = 200 / 64
    expected = np.clip(
        (np.array([[50, 40, 60, 64], [8, 32, 41, 56], [8, 32, 40, 56]]) - [0, 16, 0, 16]) * scale, 0, [200, 100] * 2
    )
    np.testing.assert_allclose(first.boxes, expected, atol=1e-4)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert teacher.images.shape == (2, 3, 64, 64)
    assert teacher.images[0, :, 32, 32].tolist() == [1, 0, 0]  # red, though OpenCV has it last
