"""Times in words."""

from __future__ import annotations

import pytest

from yolo_distill.durations import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (7140, "119 min"), (9000, "2.5 h"), (259_200, "3.0 days")],
)
def test_the_unit_suits(seconds: float, said: str) -> None:
    assert duration(seconds) == said
