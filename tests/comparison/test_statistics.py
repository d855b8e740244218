"""Statistics by numbers worked out by hand or printed in tables."""

from __future__ import annotations

import pytest

from yolo_distill.comparison.statistics import Difference, difference, gap_recovered, t_quantile, verdict

WHAT = "mAP50-95 on test"


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
)
def test_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert t_quantile(freedom) == pytest.approx(t, abs=5e-5)


def test_an_interval_by_hand() -> None:
    # Differences 0.01, 0.02, 0.03: mean 0.02, standard deviation 0.01, half width 4.3027 * 0.01 / sqrt(3) = 0.02484.
    found = difference("a", "b", {"a": {0: 0.31, 1: 0.42, 2: 0.53}, "b": {0: 0.30, 1: 0.40, 2: 0.50}})
    assert found.mean == pytest.approx(0.02)
    assert found.interval == pytest.approx((0.02 - 0.024842, 0.02 + 0.024842), abs=1e-6)


def test_only_seeds_that_both_have_are_paired() -> None:
    found = difference("a", "b", {"a": {0: 0.5, 3: 0.9, 4: 0.2}, "b": {0: 0.4, 1: 0.0, 4: 0.3}}).as_dict()
    assert list(found["each"]) == ["0", "4"]
    assert found["mean"] == pytest.approx(0.0)
    assert (found["ahead"], found["behind"]) == (1, 1)
    nothing = difference("a", "b", {"a": {0: 0.5}})
    assert (nothing.mean, nothing.interval, nothing.count) == (None, None, 0)


def test_the_gap_by_hand() -> None:
    values = {"plain": {0: 40.0, 1: 44.0}, "ours": {0: 45.0, 1: 47.0}}  # plain 42, ours 46
    assert gap_recovered("ours", "plain", values, 50.0) == pytest.approx(0.5)
    for lead in (0.0, 0.9):  # of next to nothing a share says nothing
        assert gap_recovered("ours", "plain", values, 42.0 + lead) is None
    assert gap_recovered("ours", "plain", values, None) is None
    # Over the seeds that both have: with seed 1 alone plain has 44 and ours 47.
    assert gap_recovered("ours", "plain", {**values, "ours": {1: 47.0}}, 50.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "missing", "says"),
    [
        ([0.01, 0.02, 0.015, 0.022, 0.028], [], f"distilled is ahead of plain by 1.9 [1.0, 2.8] {WHAT} over 5 seeds"),
        ([-0.01, -0.02, -0.015, -0.022, -0.028], [],
         f"distilled is behind plain by 1.9 [1.0, 2.8] {WHAT} over 5 seeds"),
        ([0.01, 0.01], [5, 7],
         f"2 seeds that come out alike prove nothing: distilled is 1.0 ahead of plain in {WHAT} with seed 0, 1 "
         "(seed 5, 7 missing)"),
        ([0.0004, 0.00041, 0.00042], [], f"distilled is ahead of plain by 0.0 [0.0, 0.0] {WHAT} over 3 seeds"),
        ([0.01, 0.02, 0.03], [],
         f"no difference between distilled and plain can be seen with 3 seeds: +2.0 [-0.5, +4.5] {WHAT}"),
        ([0.0, 0.0], [], f"no difference between distilled and plain can be seen with 2 seeds: +0.0 {WHAT}"),
        ([0.05], [], f"one seed proves nothing: distilled is 5.0 ahead of plain in {WHAT} with seed 0"),
        ([-0.05], [], f"one seed proves nothing: distilled is 5.0 behind plain in {WHAT} with seed 0"),
        ([0.0002], [], f"one seed proves nothing: distilled is level with plain in {WHAT} with seed 0"),
        ([0.0003, -0.001], [],
         f"no difference between distilled and plain can be seen with 2 seeds: +0.0 [-0.9, +0.8] {WHAT}"),
        ([0.0], [3], f"one seed proves nothing: distilled is level with plain in {WHAT} with seed 0 (seed 3 missing)"),
        ([], [1], "nothing can be said yet: no seed has both distilled and plain"),
    ],
)  # fmt: skip
def test_the_verdict(values: list[float], missing: list[int], says: str) -> None:
    found = Difference("distilled", "plain", {seed: 100 * value for seed, value in enumerate(values)})
    assert verdict(found, what=WHAT, seeds=[*found.each, *missing]) == says
