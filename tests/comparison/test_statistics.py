"""Statistics by numbers worked out by hand or printed in tables."""

from __future__ import annotations

import pytest

from yolo_distill.comparison.statistics import Difference, difference, gap_recovered, t_quantile, verdict

WHAT = "mAP50-95 on test"


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (10, 2.2281), (30, 2.0423)],
)
def test_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert t_quantile(freedom) == pytest.approx(t, abs=5e-5)


def test_other_quantiles_of_t() -> None:
    assert t_quantile(4, 0.95) == pytest.approx(2.1318, abs=5e-5)
    assert t_quantile(7, 0.5) == pytest.approx(0, abs=1e-6)


def test_an_interval_by_hand() -> None:
    # Differences 0.01, 0.02, 0.03: mean 0.02, standard deviation 0.01, half width 4.3027 * 0.01 / sqrt(3) = 0.02484.
    found = difference("a", "b", {"a": {0: 0.31, 1: 0.42, 2: 0.53}, "b": {0: 0.30, 1: 0.40, 2: 0.50}})
    assert found.mean == pytest.approx(0.02)
    assert found.interval == pytest.approx((0.02 - 0.024842, 0.02 + 0.024842), abs=1e-6)
    assert (found.ahead, found.behind) == (3, 0)


def test_only_seeds_that_both_have_are_paired() -> None:
    found = difference("a", "b", {"a": {0: 0.5, 3: 0.9, 4: 0.2}, "b": {0: 0.4, 1: 0.0, 4: 0.3}})
    assert list(found.each) == [0, 4]
    assert found.mean == pytest.approx(0.0)
    assert (found.ahead, found.behind) == (1, 1)


def test_without_pairs_there_is_neither_mean_nor_interval() -> None:
    found = difference("a", "b", {"a": {0: 0.5}})
    assert (found.mean, found.interval, found.count) == (None, None, 0)
    assert difference("a", "b", {"a": {0: 0.5}, "b": {0: 0.4}}).interval is None


def test_the_gap_by_hand() -> None:
    values = {"plain": {0: 0.40, 1: 0.44}, "ours": {0: 0.45, 1: 0.47}}  # plain 0.42, ours 0.46
    assert gap_recovered("ours", "plain", values, 0.50) == pytest.approx(0.5)
    assert gap_recovered("plain", "plain", values, 0.50) == 0
    assert gap_recovered("ours", "plain", values, 0.42) is None  # the teacher is not ahead
    assert gap_recovered("ours", "plain", values, 0.30) is None
    assert gap_recovered("ours", "plain", values, None) is None
    # Over the seeds that both have: with seed 1 alone plain has 0.44 and ours 0.47.
    assert gap_recovered("ours", "plain", {**values, "ours": {1: 0.47}}, 0.50) == pytest.approx(0.5)


def made(*values: float) -> Difference:
    return Difference("distilled", "plain", dict(enumerate(values)))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            made(0.01, 0.02, 0.015, 0.022, 0.028),
            "distilled is ahead of plain by 1.9 [1.0, 2.8] mAP50-95 on test over 5 seeds",
        ),
        (
            made(-0.01, -0.02, -0.015, -0.022, -0.028),
            "distilled is behind plain by 1.9 [1.0, 2.8] mAP50-95 on test over 5 seeds",
        ),
        (
            made(0.01, 0.02, 0.03),
            "no difference between distilled and plain can be seen with 3 seeds: +2.0 [-0.5, +4.5] mAP50-95 on test",
        ),
        (
            made(0.0, 0.0),
            "no difference between distilled and plain can be seen with 2 seeds: +0.0 [+0.0, +0.0] mAP50-95 on test",
        ),
        (made(0.05), "one seed proves nothing: distilled is 5.0 ahead of plain in mAP50-95 on test with seed 0"),
        (made(-0.05), "one seed proves nothing: distilled is 5.0 behind plain in mAP50-95 on test with seed 0"),
        (made(0.0), "one seed proves nothing: distilled is level with plain in mAP50-95 on test with seed 0"),
        (made(), "nothing can be said yet: no seed has both distilled and plain"),
    ],
)
def test_the_verdict(found: Difference, says: str) -> None:
    assert verdict(found, what=WHAT, seeds=list(found.each)) == says


def test_the_verdict_names_seeds_that_are_missing() -> None:
    assert verdict(made(0.01, 0.02), what=WHAT, seeds=[0, 1, 5, 7]).endswith("(seed 5, 7 missing)")
    assert verdict(made(0.01), what=WHAT, seeds=[0, 3]).endswith("(seed 3 missing)")


def test_an_interval_that_touches_zero_shows_nothing() -> None:
    # Half width of 0 and 2m is 12.7 m, that of three equal values is 0.
    assert "no difference" in verdict(made(0.0, 0.02), what=WHAT, seeds=[0, 1])
    assert "is ahead" in verdict(made(0.01, 0.01, 0.01), what=WHAT, seeds=[0, 1, 2])
