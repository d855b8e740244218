"""What is drawn, and that nothing breaks at the border."""

from __future__ import annotations

import numpy as np
import pytest
from made_detector import NAMES

from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.drawing import colour_of, draw, draw_note


def found(*boxes, names=NAMES, class_id=0):
    count = len(boxes)
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(xyxy, np.full(count, 0.5, np.float32), np.full(count, class_id, np.int64), names)


def test_a_box_is_where_it_belongs():
    image = np.zeros((200, 300, 3), np.uint8)
    drawn = draw(image, found((100, 80, 180, 150)))
    assert not image.any()
    assert tuple(drawn[115, 100]) == tuple(drawn[115, 180]) == tuple(drawn[150, 140]) == colour_of(0)
    assert not drawn[90:140, 110:170].any()
    assert drawn[60:80, 100:140].any()  # the label above
    nothing = draw(image, found())
    assert nothing is not image
    assert not nothing.any()


@pytest.mark.parametrize("shape", [(8, 8), (480, 640), (1, 500)])
@pytest.mark.parametrize("names", [NAMES, {}, {0: "a name that is longer than the picture is wide " * 3}])
def test_labels_at_the_border(shape, names):
    height, width = shape
    boxes = [(0, 0, width, height), (0, 0, 1, 1), (width - 1, height - 1, width, height), (width / 2, 0, width, 3)]
    for class_id in (0, 2):
        drawn = draw(np.zeros((*shape, 3), np.uint8), found(*boxes, names=names, class_id=class_id))
        assert drawn.shape == (*shape, 3)
        assert drawn.any()


def test_a_label_stays_inside():
    drawn = draw(np.zeros((200, 300, 3), np.uint8), found((290, 0, 300, 10)))
    assert drawn[:20, 230:280].any()  # moved left, and below the upper edge


def test_colours_differ():
    colours = np.array([colour_of(number) for number in range(20)], int)
    gaps = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(20, dtype=int)
    assert gaps.min() > 25


def test_a_note_of_two_lines():
    one, two = np.full((2, 200, 300, 3), 128, np.uint8)
    draw_note(one, "24.8 FPS")
    draw_note(two, "24.8 FPS", "fp32  best.onnx")
    tall = int(np.flatnonzero((one != 128).any((1, 2))).max())
    assert tall < 60
    np.testing.assert_array_equal(one[:tall], two[:tall])
    assert (two[tall + 2 : 2 * tall, :20] != 128).any()
