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
