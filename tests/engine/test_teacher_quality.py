"""A teacher is looked at before it teaches: on few pictures, without touching the data set."""

from __future__ import annotations

import logging
import re

import pytest
import yaml
from live_detector import live_detector

from yolo_distill.engine import teacher_quality
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate


def measuring(model):
    """Return what measures a real detector on a split of a data set file."""

    def measure(file, split):
        return evaluate(model, file, split=split, imgsz=64, device="cpu")["map"]

    return measure


def found(**maps):
    """Return what finds these mAPs, by split."""
    return lambda file, split: maps[split]


def test_a_real_teacher_is_measured_and_the_data_set_stays_as_it_is(data, tiny_data, names):
    before = {p: p.stat().st_mtime_ns for p in tiny_data.parent.rglob("*") if p.is_file()}
    value = teacher_quality.look_at_teacher(measuring(live_detector("yolo26n.yaml", names.values())), data)
    assert 0 <= value <= 1
    assert {p: p.stat().st_mtime_ns for p in tiny_data.parent.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("train", "val", "teaches", "warning"),
    [
        (0.9, 0.5, True, "it knows its training pictures by heart, .*unlabeled="),
        (0.005, 0.004, True, "finds next to nothing on val"),
        (0.6, 0.5, True, None),
        (0.9, 0.5, False, None),
    ],
)
def test_what_a_teacher_is_warned_of(data, said, train, val, teaches, warning):
    assert teacher_quality.look_at_teacher(found(train=train, val=val), data, teaches=teaches) == val
    assert f"{100 * train:.1f} on train, {100 * val:.1f} on val" in said()
    warned = said(logging.WARNING)
    assert re.search(warning, warned) if warning else not warned


def test_a_teacher_of_other_classes_is_not_measured(data, said):
    assert teacher_quality.look_at_teacher(measuring(live_detector("yolo26n.yaml", ["cat"])), data) is None
    assert "not measured before the run" in said()


def test_a_teacher_worse_than_the_student_is_refused_unless_forced(data, monkeypatch, said):
    monkeypatch.setattr(teacher_quality, "evaluate", lambda model, file, **settings: {"map": 0.4})
    with pytest.raises(RequestError, match=r"30\.0 and 40\.0 on val; .*force=true"):
        teacher_quality.require_better(0.3, "s", data)
    teacher_quality.require_better(0.3, "s", data, force=True)
    assert "going on" in said(logging.WARNING)
    teacher_quality.require_better(0.5, "s", data)
    figures = {"map": 0.2, "of_boxes": {"map": 0.4}}
    monkeypatch.setattr(teacher_quality, "evaluate", lambda model, file, **settings: figures)
    with pytest.raises(RequestError, match=r"30\.0 and 40\.0 on val, both by their boxes; "):
        teacher_quality.require_better(0.3, "s", data, by_boxes=True)
    teacher_quality.require_better(0.3, "s", data)


def test_few_pictures_are_spread_over_the_split_and_keep_their_labels(data):
    points = {"kpt_shape": [2, 3], "flip_idx": [1, 0], "kpt_oks_sigmas": [0.02, 0.03]}
    with teacher_quality.few_pictures({**data, **points}, 1) as file:
        assert points.items() <= yaml.safe_load(file.read_text()).items()
    with teacher_quality.few_pictures(data, 3) as file:
        plan = yaml.safe_load(file.read_text())
        root = file.parent
        pictures = sorted((root / "images" / "train").iterdir())
        assert [p.resolve().stem for p in pictures] == ["0", "4", "7"]
        for picture in pictures:
            label = root / "labels" / "train" / f"{picture.stem}.txt"
            assert label.resolve().stem == picture.resolve().stem
        assert plan["names"] == data["names"]
        assert "kpt_shape" not in plan
    assert not root.exists()
