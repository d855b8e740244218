"""Schedules: each at its landmarks."""

import pytest

from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.recipe_table import SETTINGS

COURSE = Course(ramp=10, total=110, mosaic=80)


@pytest.mark.parametrize(
    ("schedule", "at"),
    [
        ("ramp", {0: 0, 5: 0.5, 10: 1, 79: 1, 80: 1, 109: 1}),
        ("constant", {0: 1, 5: 1, 80: 1, 109: 1}),
        ("cosine", {0: 0, 5: 0.5, 10: 1, 60: 0.5, 110: 0, 120: 0}),
        ("mosaic", {0: 0, 5: 0.5, 10: 1, 79: 1, 80: 0, 109: 0}),
    ],
)
def test_landmarks(schedule, at):
    assert {step: COURSE.strength(schedule, step) for step in at} == pytest.approx(at)


@pytest.mark.parametrize("schedule", SETTINGS["schedule"].choices)
def test_every_schedule_stays_within_0_and_1_and_is_full_strength_without_landmarks(schedule):
    values = [COURSE.strength(schedule, step) for step in range(130)]
    assert all(0 <= value <= 1 for value in values)
    assert max(values) == Course().strength(schedule, 10**9) == 1
