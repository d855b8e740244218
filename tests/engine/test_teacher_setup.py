"""A run opens its teacher once, and measures it once for each purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from ultralytics.nn import tasks

from yolo_distill.engine import teacher_setup
from yolo_distill.engine.run import train
from yolo_distill.engine.teacher_setup import measure_teachers
from yolo_distill.models import checkpoint
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.loading import Teachers


@pytest.fixture
def measured(monkeypatch):
    """Return a list that grows by split and shape of the batches with each measurement of a teacher."""
    found: list[tuple[str, bool]] = []
    real = teacher_setup.evaluate

    def evaluate(*args, **how):
        found.append((how["split"], how.get("rect", False)))
        return real(*args, **how)

    monkeypatch.setattr(teacher_setup, "evaluate", evaluate)
    return found


@pytest.mark.slow
def test_a_run_opens_its_teacher_once_and_measures_it_once_for_each_purpose(
    settings, make_teacher, names, measured, monkeypatch
):
    teacher = make_teacher("yolo26s.yaml", names)
    opened: list[str] = []
    real = tasks.torch_safe_load

    def load(file, *args, **more):
        opened.append(Path(file).name)
        return real(file, *args, **more)

    for module in (tasks, checkpoint):
        monkeypatch.setattr(module, "torch_safe_load", load)
    monkeypatch.chdir(teacher.parent)
    own = {"teacher": teacher.name, "logit": 0.5, "teacher_precision": "fp32"}
    folder = train(own, {**settings, "epochs": 2}, student="yolo26n.yaml")
    assert (folder / "summary.json").is_file()
    assert opened.count(teacher.name) == 1
    # Before the run some pictures of both; in it all of val, as the host validates; and val again as the student is.
    assert measured == [("train", False), ("val", False), ("val", True), ("val", False)]


def test_nothing_is_measured_twice_in_the_same_way(settings, tiny_teacher, measured):
    recipe = make_recipe({"teacher": tiny_teacher})
    teachers = Teachers.of(recipe)
    where = {"imgsz": 64, "device": "cpu"}
    first = measure_teachers(recipe, teachers, settings["data"], **where)
    again = measure_teachers(recipe, teachers, settings["data"], **where)
    assert again == first
    assert again is not first
    assert measured == [("val", False)]
    for other in ({"split": "train"}, {"imgsz": 96}, {"rect": True}, {"single_cls": True}, {"classes": [0]}):
        measure_teachers(recipe, teachers, settings["data"], **{**where, **other})
    assert len(measured) == 6
