"""The losses on what an object has beside class and box: masks and keypoints."""

from __future__ import annotations

import torch

from yolo_distill.losses.keypoints import keypoint_loss
from yolo_distill.losses.localization import iou_loss
from yolo_distill.losses.masks import mask_loss

BOXES = torch.tensor([[[8.0, 8.0, 40.0, 40.0]]])
ONE = torch.ones(1, 1)


def drawn(box: tuple[int, int, int, int], side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Return coefficients and prototypes of a mask that fills a box of a map, sure of itself."""
    prototypes = torch.full((1, 2, side, side), -8.0)
    x1, y1, x2, y2 = box
    prototypes[:, 1, y1:y2, x1:x2] = 8.0
    return torch.tensor([[[0.0, 1.0]]]), prototypes


def test_masks_are_compared_by_what_they_come_to():
    wanted = drawn((2, 2, 10, 10))
    coefficients, prototypes = wanted
    other = coefficients.flip(-1), prototypes.flip(1)  # the same mask of other prototypes
    near, far = (mask_loss(drawn(box), wanted, BOXES, ONE, (64, 64)) for box in ((2, 2, 10, 9), (2, 2, 10, 5)))
    same = mask_loss(other, wanted, BOXES, ONE, (64, 64))
    assert same < 0.01 < near < far
    assert mask_loss(drawn((2, 2, 10, 10), 16), drawn((4, 4, 20, 20), 32), BOXES, ONE, (64, 64)) < 0.3  # of other size


def test_masks_that_a_set_lays_over_its_boxes_are_what_it_sees_there():
    """The teacher sees the upper half of its box, which is 8 of 16 cells wide, from the third cell on."""
    upper = torch.zeros(1, 1, 28, 28)
    upper[..., :14, :] = 1.0
    right, lower, left = (drawn(box) for box in ((2, 2, 10, 6), (2, 6, 10, 10), (2, 2, 6, 10)))
    same, upside_down, turned = (mask_loss(one, upper, BOXES, ONE, (64, 64)) for one in (right, lower, left))
    assert same < 0.1 < turned < upside_down
    coefficients = right[0].clone().requires_grad_()
    mask_loss((coefficients, right[1]), upper, BOXES, ONE, (64, 64)).backward()
    assert coefficients.grad.abs().sum() > 0


def test_masks_are_compared_inside_of_the_teachers_box_and_by_its_weight():
    wanted = drawn((2, 2, 10, 10))
    outside = drawn((2, 2, 16, 16))
    inside = mask_loss(wanted, wanted, BOXES, ONE, (64, 64))
    assert torch.allclose(mask_loss(outside, wanted, BOXES, ONE, (64, 64)), inside)
    assert mask_loss(outside, wanted, BOXES, 0 * ONE, (64, 64)) == 0


def test_keypoints_are_compared_by_their_similarity():
    teacher = torch.tensor([[[[10.0, 10.0, 9.0], [30.0, 10.0, 9.0]]]])
    moved = [teacher + torch.tensor([by, 0.0, 0.0]) for by in (0.0, 6.0, 24.0)]
    same, near, far = (float(keypoint_loss(one, teacher, BOXES, ONE)) for one in moved)
    assert same < 0.01 < near < far < 1.1
    unseen = teacher.clone()
    unseen[..., 1, 2] = -20  # the teacher does not see the second point, so where it is does not matter
    other = unseen.clone()
    other[..., 1, 0] += 20
    torch.testing.assert_close(*(keypoint_loss(one, unseen, BOXES, ONE) for one in (other, unseen)), atol=1e-5, rtol=0)
    assert keypoint_loss(teacher[..., :2], teacher[..., :2], BOXES, ONE) == 0  # of points without visibility
    assert keypoint_loss(moved[2], teacher, BOXES, 0 * ONE) == 0
    assert near < float(keypoint_loss(moved[1], teacher, BOXES, ONE, [0.05, 0.05]))  # the host's are 0.5 of two


def test_turned_boxes_are_compared_with_their_angle():
    box = torch.tensor([[20.0, 20.0, 30.0, 10.0, 0.0]])
    turned = box + torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5])
    assert iou_loss(box, box, torch.ones(1)) < 0.05 < iou_loss(turned, box, torch.ones(1))


def test_turned_boxes_of_all_anchors_are_as_those_in_a_row():
    ours, theirs, weight = torch.rand(2, 7, 5) * 20, torch.rand(2, 7, 5) * 20, torch.rand(2, 7)
    rows = iou_loss(ours.flatten(0, 1), theirs.flatten(0, 1), weight.flatten())
    torch.testing.assert_close(iou_loss(ours, theirs, weight), rows)
    assert iou_loss(ours[:, :0], theirs[:, :0], weight[:, :0]) == 0


def test_a_turned_box_without_width_has_a_gradient():
    ours = torch.tensor([[50.0, 50, side, other, 0.7] for side, other in ((0, 0), (0, 10), (30, 0), (0, 1280))])
    theirs = torch.tensor([[50.0, 50, 20, 10, 0.3]]).expand_as(ours)
    iou_loss(ours.requires_grad_(), theirs, torch.tensor([0.0, 1.0, 1.0, 1.0])).backward()
    assert ours.grad.isfinite().all()
