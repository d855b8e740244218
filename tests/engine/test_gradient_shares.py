"""The gradient shares of a run: in its table, in a plot, and a warning where a term does nothing."""

from __future__ import annotations

import pytest

from yolo_distill.engine import gradient_shares
from yolo_distill.engine.gradient_shares import ShareReport, plot_shares, read_columns


def test_a_balanced_run_writes_and_says_its_shares(train, tiny_pair, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(gradient_shares.LOGGER, "info", said.append)
    trainer = train(
        **tiny_pair, balance="auto", ramp_epochs=0.5,
        epochs=3, close_mosaic=0, kd_until=1.0, **{"share.logit": 0.3},
    )  # fmt: skip
    columns = read_columns(trainer.csv)
    assert len(columns["share/logit"]) == len(columns["gain/logit"]) == 3
    assert all(-1 <= cosine <= 1 for cosine in columns["cosine/logit"])
    assert columns["gain/logit"][-1] == pytest.approx(trainer.criterion.gains()["logit"], rel=1e-4)
    assert columns["gain/logit"][-1] != trainer.recipe.logit
    lines = [line for line in said if "gradient by the task's" in line]
    assert len(lines) == 3
    assert "logit" in lines[0]
    assert "(gain " in lines[0]
    assert " at cosine " in lines[0]

    # A run that goes on goes on with the gains that it had.
    trainer.resume = True
    assert trainer.make_balancer().factors["logit"] == pytest.approx(
        trainer.criterion.balancer.factors["logit"], rel=1e-4
    )


def test_a_term_that_does_nothing_is_warned_of_once(train, tiny_pair, monkeypatch):
    warned: list[str] = []
    monkeypatch.setattr(gradient_shares.LOGGER, "warning", warned.append)
    train(
        **tiny_pair, logit=1e-7, localization=0, ramp_epochs=0, epochs=3, kd_until=1.0,
    )  # fmt: skip
    idle = [line for line in warned if "no effect for an epoch" in line]
    assert len(idle) == 1
    assert "raise logit=" in idle[0]


def test_a_term_that_has_ended_is_not_warned_of(train, tiny_pair, monkeypatch):
    warned: list[str] = []
    monkeypatch.setattr(gradient_shares.LOGGER, "warning", warned.append)
    trainer = train(
        **tiny_pair, schedule="mosaic", close_mosaic=1, epochs=2,
        ramp_epochs=0,
    )  # fmt: skip
    columns = read_columns(trainer.csv)
    assert columns["train/logit_loss"][0] > 0
    assert columns["train/logit_loss"][1] == 0
    assert columns["share/logit"][1] == 0
    assert trainer._last_taught == 2
    assert not [line for line in warned if "no effect for an epoch" in line]


def test_a_table_without_shares_is_not_drawn(tmp_path):
    table = tmp_path / "results.csv"
    table.write_text("epoch,time,train/box_loss\n1,2,3\n")
    assert not plot_shares(table, tmp_path / "shares.png")
    table.write_text("epoch,time\n")
    assert read_columns(table) == {}


@pytest.mark.parametrize(("header", "kept"), [(None, True), ("epoch,cosine/logit", True), ("epoch,share/logit", False)])
def test_a_table_that_was_begun_without_cosines_goes_on_without(tmp_path, header, kept):
    """The host writes the names of the columns once."""
    report = ShareReport()
    report.csv = tmp_path / "results.csv"
    if header:
        report.csv.write_text(f"{header}\n")  # no row yet, as where a run was killed in its first epoch
    assert report._keeps_cosines() is kept
