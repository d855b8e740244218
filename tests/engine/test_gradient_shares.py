"""The gradient shares of a run: in its table, in a plot, and a warning where a term does nothing."""

from __future__ import annotations

import logging

import pytest

from yolo_distill.engine.gradient_shares import ShareReport, plot_shares, read_columns


def test_a_balanced_run_writes_and_says_its_shares(make_trainer, said):
    trainer = make_trainer(
        teach=True,
        balance="auto",
        ramp_epochs=0.5,
        epochs=3,
        close_mosaic=0,
        kd_until=1.0,
        plots=True,
        **{"share.logit": 0.3},
    )
    trainer.train()
    columns = read_columns(trainer.csv)
    assert len(columns["share/logit"]) == len(columns["gain/logit"]) == 3
    assert all(-1 <= cosine <= 1 for cosine in columns["cosine/logit"])
    assert columns["gain/logit"][-1] == pytest.approx(trainer.criterion.gains()["logit"], rel=1e-4)
    assert columns["gain/logit"][-1] != trainer.recipe.logit
    lines = [line for line in said().splitlines() if "gradient by the task's" in line]
    assert len(lines) == 3
    assert all(part in lines[0] for part in ("logit", "(gain ", " at cosine "))
    assert trainer.csv.with_name("shares.png").stat().st_size > 5000
    # A run that goes on goes on with the gains that it had.
    resumed = ShareReport(trainer.recipe, trainer.csv).balancer(resume=True)
    assert resumed.factors["logit"] == pytest.approx(trainer.criterion.balancer.factors["logit"], rel=1e-4)


def test_a_term_that_does_nothing_is_warned_of_once(train, tiny_pair, said):
    train(**tiny_pair, logit=1e-7, localization=0, ramp_epochs=0, epochs=3, kd_until=1.0)
    (idle,) = (line for line in said(logging.WARNING).splitlines() if "no effect for an epoch" in line)
    assert "raise logit=" in idle


def test_a_term_that_has_ended_is_not_warned_of(train, tiny_pair, said):
    trainer = train(**tiny_pair, teach=True, schedule="mosaic", close_mosaic=1, epochs=2, ramp_epochs=0)
    columns = read_columns(trainer.csv)
    assert columns["train/logit_loss"][0] > 0
    assert columns["train/logit_loss"][1] == columns["share/logit"][1] == 0
    assert trainer.criterion.until == 2
    assert "no effect for an epoch" not in said()


def test_a_table_without_shares_is_not_drawn(tmp_path):
    table = tmp_path / "results.csv"
    table.write_text("epoch,time,train/box_loss\n1,2,3\n")
    plot_shares(table, tmp_path / "shares.png")
    assert not (tmp_path / "shares.png").exists()
    table.write_text("epoch,time\n")
    assert read_columns(table) == {}
