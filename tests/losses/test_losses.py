"""Properties every distillation loss has, and a number of each by hand: what it is, where it is 0, whom it moves."""

import math

import pytest
import torch

from yolo_distill.losses.cwd import cwd_loss
from yolo_distill.losses.dist import dist_loss
from yolo_distill.losses.hinton import hinton_loss
from yolo_distill.losses.localization import bins_loss, distance_loss, iou_loss
from yolo_distill.losses.logit import logit_loss
from yolo_distill.losses.mgd import Generator, hide_places, mgd_loss
from yolo_distill.losses.mimic import mimic_loss
from yolo_distill.losses.pkd import pkd_loss


def _boxes(n: int) -> torch.Tensor:
    corner = torch.rand(n, 2) * 50
    return torch.cat([corner, corner + 1 + torch.rand(n, 2) * 50], 1)


def _logits(n: int) -> torch.Tensor:
    return torch.randn(2, n, 3) * 3


def _maps(n: int) -> torch.Tensor:
    return torch.randn(2, 3, n, n) if n else torch.randn(0, 3, 4, 4)


def _regenerated(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    generator = Generator(3, 3)  # the same at the same random state, as the random weights of the others
    return mgd_loss(generator(student, hide_places(student, 0.5, seed=0)), teacher)


LOSSES = {
    "logit": (logit_loss, _logits),
    "hinton": (hinton_loss, _logits),
    "dist": (dist_loss, _logits),
    "iou": (lambda s, t: iou_loss(s, t, torch.rand(len(s))), _boxes),
    "bins": (lambda s, t: bins_loss(s, t, torch.rand(len(s))), lambda n: torch.randn(n, 4, 16)),
    "distance": (lambda s, t: distance_loss(s, t, torch.rand(len(s))), lambda n: torch.rand(n, 4)),
    "cwd": (cwd_loss, _maps),
    "pkd": (pkd_loss, _maps),
    "mgd": (_regenerated, _maps),
    "mimic": (mimic_loss, _maps),
    "mimic, weighted": (lambda s, t: mimic_loss(s, t, torch.rand(len(s), *s.shape[2:])), _maps),
}
each_loss = pytest.mark.parametrize("name", LOSSES)


@each_loss
def test_is_zero_when_both_are_equal_and_positive_in_single_precision_when_they_differ(name):
    loss, make = LOSSES[name]
    value = make(6)
    if name != "mgd":  # whose student's map is one that the teacher's has to be made from
        assert loss(value, value.clone()).item() == pytest.approx(0, abs=1e-5)
    differ = loss(make(6), make(6))
    assert differ > 0
    assert differ.shape == ()
    assert differ.dtype == torch.float32


@each_loss
def test_a_step_along_the_gradient_which_reaches_the_student_only_brings_it_nearer(name):
    loss, make = LOSSES[name]
    student, teacher = make(6).requires_grad_(), make(6).requires_grad_()
    torch.manual_seed(1)  # the same random weights before and after
    before = loss(student, teacher)
    before.backward()
    assert torch.isfinite(student.grad).all()
    assert teacher.grad is None
    torch.manual_seed(1)
    assert loss(student.detach() - 1e-3 * student.grad / student.grad.norm(), teacher) < before


@each_loss
def test_nothing_to_teach_is_zero_and_differentiable(name):
    loss, make = LOSSES[name]
    value = loss(make(0).requires_grad_(), make(0))
    assert value.item() == 0
    value.backward()


@each_loss
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e4])
def test_constant_and_extreme_input_is_finite_and_never_negative(name, scale):
    """A dead channel, a picture of one colour, boxes without area, logits far from 0."""
    loss, make = LOSSES[name]
    for student, teacher in ((make(6), torch.ones_like(make(6))), (torch.ones_like(make(6)), make(6))):
        student = (student * scale).requires_grad_()
        value = loss(student, teacher * scale)
        value.backward()
        assert torch.isfinite(value)
        assert value > -1e-6  # rounding, where the two hardly differ
        assert torch.isfinite(student.grad).all()


def test_leaving_anchors_out_is_the_same_as_weighing_them_with_0():
    """On a CPU they are left out, on a GPU weighed."""
    student, teacher, boxes = torch.randn(2, 9, 3), torch.randn(2, 9, 3), _boxes(18).view(2, 9, 4)
    taught, weight = torch.rand(2, 9) > 0.5, torch.rand(2, 9)
    for loss in (logit_loss, hinton_loss, dist_loss):
        left_out = loss(student[taught], teacher[taught])
        torch.testing.assert_close(left_out, loss(student, teacher, taught.float()))
    torch.testing.assert_close(
        iou_loss(boxes[taught], boxes[taught] + 2, weight[taught]), iou_loss(boxes, boxes + 2, weight * taught)
    )


P = 1 / (1 + math.exp(-2))
HALF, THREE_QUARTERS = torch.zeros(1, 1, 1), torch.tensor([[[math.log(3.0)]]])
KL = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "expected"),
    [
        # One channel of two places: standardised maps are (1, -1) and (-1, 1); KL(p || q) with p = softmax(1, -1).
        (cwd_loss, torch.tensor([[[[0.0, 1]]]]), torch.tensor([[[[1.0, 0]]]]), (2 * P - 1) * math.log(P / (1 - P))),
        # One channel of three places. Student (0, 1, 2) has variance 2/3, teacher (0, 0, 3) variance 2; the covariance
        # is (-1 * -1 + 0 * -1 + 1 * 2) / 3 = 1, so r = 1 / sqrt(4/3), and the loss is 1 - r.
        (pkd_loss, torch.tensor([[[[0.0, 1, 2]]]]), torch.tensor([[[[0.0, 0, 3]]]]), 1 - 0.75**0.5),
        # Two channels, two places: squared errors 1 and 9 at the first, 4 and 0 at the second.
        (mimic_loss, torch.tensor([[[[1.0, 2]], [[3.0, 0]]]]), torch.zeros(1, 2, 1, 2), 14 / 4),
        # Weights 0.9 and 0.3: (0.9 * 10 + 0.3 * 4) / (2 * 1.2).
        (lambda s, t: mimic_loss(s, t, torch.tensor([[[0.9, 0.3]]])),
         torch.tensor([[[[1.0, 2]], [[3.0, 0]]]]), torch.zeros(1, 2, 1, 2), 10.2 / 2.4),
        # One anchor, one class: p_s = 0.5, p_t = 0.75, so |D| = 0.25, BCE = ln 2, and N = max(1, 0.75) = 1.
        (logit_loss, HALF, THREE_QUARTERS, 0.25 * math.log(2)),
        # Eight such anchors: the sum is eightfold, N = 8 * 0.75 = 6.
        (logit_loss, HALF.expand(1, 8, 1), THREE_QUARTERS.expand(1, 8, 1), 8 * 0.25 * math.log(2) / 6),
        # tau = 2: softmax of the teacher's logits (2 ln 3, 0) is (3/4, 1/4), the student's (1/2, 1/2);
        # w = sigmoid(2 ln 3) = 0.9; N_t = max(1, 0.9) = 1. Of ten such anchors N_t = 9.
        (hinton_loss, torch.zeros(1, 1, 2), torch.tensor([[[2 * math.log(3.0), 0]]]), 4 * KL * 0.9),
        (hinton_loss, torch.zeros(1, 10, 2), torch.tensor([2 * math.log(3.0), 0]).expand(1, 10, 2), 4 * KL),
        # Two anchors, two classes. inter: two numbers correlate with 1 or -1: the first anchor agrees (d = 0), the
        # second not (d = 2): (0.9 * 0 + 0.6 * 2) / (0.9 + 0.6) = 0.8. intra: in the first class both fall from the
        # first anchor to the second, in the second both grow: d = 0.
        (dist_loss, torch.tensor([[0.8, 0.2], [0.5, 0.3]]).logit(), torch.tensor([[0.9, 0.1], [0.2, 0.6]]).logit(),
         0.8),
        # Two 10 x 10 boxes, 5 apart: IoU = 50 / 150; centres 5 apart, diagonal^2 = 15^2 + 10^2.
        (lambda s, t: iou_loss(s, t, torch.ones(1)), torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 15, 10]]),
         1 - 1 / 3 + 25 / 325),
        (lambda s, t: distance_loss(s, t, torch.ones(1)), torch.zeros(1, 4), torch.full((1, 4), 0.25), 0.25),
        # Teacher sure of bin 0 of 2, student undecided: KL = ln 2 a side, mean over sides ln 2.
        (lambda s, t: bins_loss(s, t, torch.ones(1)), torch.zeros(1, 4, 2),
         torch.tensor([100.0, 0]).expand(1, 4, 2), math.log(2)),
    ],
    ids=["cwd", "pkd", "mimic", "mimic, weighted", "logit", "logit, eight", "hinton", "hinton, ten", "dist", "iou",
         "distance", "bins"],
)  # fmt: skip
def test_by_hand(loss, student, teacher, expected):
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-3)


def test_degenerate_boxes_are_finite():
    # What a head without bins predicts before training: sides crossed or of no size.
    student = torch.tensor([[5.0, 5, 5, 5], [9, 9, 1, 1], [0, 0, 10, 0]], requires_grad=True)
    loss = iou_loss(student, torch.tensor([[5.0, 5, 5, 5], [0, 0, 10, 10], [0, 0, 10, 10]]), torch.ones(3))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


def test_boxes_weigh_by_confidence_and_little_of_it_counts_little():
    a, b = _boxes(2), _boxes(2)
    alone = iou_loss(a[:1], b[:1], torch.ones(1)).item()
    assert iou_loss(a, b, torch.tensor([3.0, 0.0])).item() == pytest.approx(alone, rel=1e-6)
    # One unsure anchor in a picture (an empty level) must not weigh as much as a sure one.
    assert iou_loss(a[:1], b[:1], torch.tensor([0.1])).item() == pytest.approx(0.1 * alone, rel=1e-5)
