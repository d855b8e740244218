"""Gains follow the gradients: to the wanted shares, smoothly, within bounds."""

import pytest

from yolo_distill.distillation.gain_balance import FARTHEST, LARGEST_MOVE, Balancer


def test_the_first_correction_is_a_whole_one_and_later_ones_half_of_it_in_logarithms():
    balancer = Balancer({"logit": 0.2})
    balancer.observe({"logit": 0.02})
    assert balancer.factors["logit"] == pytest.approx(10)
    balancer.observe({"logit": 0.8})  # four times too strong
    assert balancer.factors["logit"] == pytest.approx(5)


def test_no_move_is_too_large_and_no_gain_goes_too_far():
    balancer = Balancer({"logit": 0.2})
    balancer.observe({"logit": 0.2})
    balancer.observe({"logit": 1e-9})
    assert balancer.factors["logit"] == LARGEST_MOVE
    for _ in range(50):
        balancer.observe({"logit": 1e-9})
    assert balancer.factors["logit"] == FARTHEST


@pytest.mark.parametrize("measured", [{"logit": 0.0}, {}, {"logit": float("nan")}])
def test_a_batch_with_nothing_to_teach_moves_nothing(measured):
    balancer = Balancer({"logit": 0.2})
    balancer.observe(measured)
    assert balancer.factors == {"logit": 1.0}


def test_an_interrupted_run_goes_on_with_its_factors_and_smoothly():
    balancer = Balancer({"logit": 0.2, "cwd": 0.2})
    balancer.restore({"logit": 8.0, "gone": 3.0})
    assert balancer.factors == {"logit": 8.0, "cwd": 1.0}
    balancer.observe({"logit": 0.8, "cwd": 0.8})
    assert balancer.factors == pytest.approx({"logit": 4.0, "cwd": 0.25})  # half a correction, and a whole first one
