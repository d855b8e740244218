"""A run that goes on is the one that was never stopped, to the last digit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from live_detector import draw

from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.trainer import DistillationTrainer


class Stopped(Exception):
    pass


def stop_behind(epoch: int, trainer: Any) -> Any:
    def stop(trainer: Any) -> None:
        if trainer.epoch == epoch:
            raise Stopped

    trainer.add_callback("on_fit_epoch_end", stop)
    return trainer


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "weights" / "last.pt", weights_only=False)["model"].state_dict()


def rows(folder: Path) -> list[list[str]]:
    lines = [line.split(",") for line in (folder / "results.csv").read_text().splitlines()]
    return [[*line[:1], *line[2:]] for line in lines]  # but for the times


@pytest.mark.parametrize(
    ("epoch", "kind", "own"),
    [
        pytest.param(0, TeacherTrainer, {}, marks=pytest.mark.slow, id="with mosaic"),
        pytest.param(1, DistillationTrainer, {}, id="taught, as it closes"),
        pytest.param(0, DistillationTrainer, {"unlabeled": "raw"}, marks=pytest.mark.slow, id="with two mosaics"),
    ],
)
def test_stopped_and_gone_on(epoch, kind, own, settings, tiny_pair, tmp_path):
    if own:
        (tmp_path / "raw").mkdir()
        for number, picture in enumerate(draw(6, 64, 64)):
            cv2.imwrite(str(tmp_path / "raw" / f"{number}.png"), picture)
        own = {"unlabeled": str(tmp_path / "raw")}
    taught = {
        "teacher": tiny_pair["teacher"],
        "teacher_precision": "fp32",
        "balance": "auto",
        "logit": 1.0,
        "ramp_epochs": 0,
    }
    given = {**settings, "model": tiny_pair["model"], "epochs": 3, "close_mosaic": 1, "amp": False}
    given |= {**taught, **own} if kind is DistillationTrainer else {}
    kind(overrides={**given, "name": "whole"}).train()
    with pytest.raises(Stopped):
        stop_behind(epoch, kind(overrides={**given, "name": "stopped"})).train()
    last = tmp_path / "stopped" / "weights" / "last.pt"
    assert [file.name for file in last.parent.glob("exact-*")] == [f"exact-{epoch}.pt"]
    kind(overrides={"model": str(last), "resume": str(last)}).train()
    whole, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    assert rows(tmp_path / "whole") == rows(tmp_path / "stopped")
    assert not list(last.parent.glob("exact-*"))
