"""A teacher is looked at before it teaches: on few pictures, without touching the data set."""

from __future__ import annotations

import pytest
import yaml
from live_detector import live_detector

from yolo_distill.data.dataset import check_data
from yolo_distill.engine import teacher_quality
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate


@pytest.fixture
def data(tiny_data):
    return check_data(tiny_data, ("train", "val"))


@pytest.fixture
def logged(monkeypatch):
    said: dict[str, list[str]] = {"info": [], "warning": []}
    for level, lines in said.items():
        monkeypatch.setattr(teacher_quality.LOGGER, level, lines.append)
    return said


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


def test_a_teacher_that_knows_its_pictures_by_heart_is_warned_of(data, logged):
    assert teacher_quality.look_at_teacher(found(train=0.9, val=0.5), data) == 0.5
    assert "unlabeled=" in logged["warning"][0]
    assert "90.0 on train, 50.0 on val" in logged["info"][0]


def test_a_teacher_that_finds_nothing_is_warned_of(data, logged):
    assert teacher_quality.look_at_teacher(found(train=0.005, val=0.004), data) == 0.004
    assert "finds next to nothing on val" in logged["warning"][0]


@pytest.mark.parametrize(("train", "teaches"), [(0.6, True), (0.9, False)])
def test_no_warning_without_cause(data, logged, train, teaches):
    teacher_quality.look_at_teacher(found(train=train, val=0.5), data, teaches=teaches)
    assert not logged["warning"]


def test_a_teacher_of_other_classes_is_not_measured(data, logged):
    assert teacher_quality.look_at_teacher(measuring(live_detector("yolo26n.yaml", ["cat"])), data) is None
    assert "not measured" in logged["info"][-1]


def test_a_teacher_worse_than_the_student_is_refused_unless_forced(data, monkeypatch, logged):
    monkeypatch.setattr(teacher_quality, "evaluate", lambda model, file, **settings: {"map": 0.4})
    with pytest.raises(RequestError, match=r"30\.0 and 40\.0 on val; .*force=true"):
        teacher_quality.require_better(0.3, "s", data, imgsz=64, device="cpu", force=False)
    teacher_quality.require_better(0.3, "s", data, imgsz=64, device="cpu", force=True)
    assert "going on" in logged["warning"][0]
    teacher_quality.require_better(0.5, "s", data, imgsz=64, device="cpu", force=False)


def test_few_pictures_are_spread_over_the_split_and_keep_their_labels(data):
    with teacher_quality.few_pictures(data, 3) as file:
        plan = yaml.safe_load(file.read_text())
        root = file.parent
        pictures = sorted((root / "images" / "train").iterdir())
        assert [p.resolve().stem for p in pictures] == ["0", "4", "7"]
        for picture in pictures:
            label = root / "labels" / "train" / f"{picture.stem}.txt"
            assert label.resolve().stem == picture.resolve().stem
        assert plan["names"] == data["names"]
    assert not root.exists()
