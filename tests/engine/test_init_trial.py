"""`init=try`: both starts are trained a little, and the run goes on from the better one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from yolo_distill.data.dataset import check_data
from yolo_distill.engine import init_trial
from yolo_distill.engine.assistants import distil_assistants
from yolo_distill.engine.init_trial import with_better_start
from yolo_distill.engine.run import train
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.recipe import make_recipe


@pytest.fixture
def data(tiny_data):
    return check_data(tiny_data, ("train", "val"))


@pytest.fixture
def recipe(make_teacher, names):
    return make_recipe({"teacher": str(make_teacher("yolo26s.yaml", names)), "init": "try"})


class Trials:
    """Stands in for the training of a trial: by its start, it comes to a figure."""

    def __init__(self, **maps):
        self.maps, self.asked = maps, []

    def __call__(self, recipe, settings, student):
        self.asked.append((recipe.init, settings["epochs"], settings.get("resume"), student))
        folder = Path(settings["project"]) / settings["name"]
        folder.mkdir(parents=True, exist_ok=True)
        value = self.maps[recipe.init]
        row = {} if value is None else {"map": value}
        (folder / "summary.json").write_text(json.dumps({"student": row}))
        return folder


@pytest.mark.parametrize(
    ("own", "inside", "better"), [(0.13, 0.28, "teacher"), (0.4, 0.28, "student"), (0.2, 0.2, "student")]
)
def test_the_better_start_is_taken_and_found_again(own, inside, better, recipe, data, settings):
    trials = Trials(student=own, teacher=inside)
    long = {**settings, "epochs": 80, "time": 2}
    made = with_better_start(recipe, data, long, "yolo26n.yaml", trials)
    assert made == recipe.model_copy(update={"init": better})
    assert trials.asked == [("student", 16, None, "yolo26n.yaml"), ("teacher", 16, None, "yolo26n.yaml")]
    again = Trials()
    assert with_better_start(recipe, data, long, "yolo26n.yaml", again) == made
    assert again.asked == []
    longer = Trials(student=own, teacher=inside)  # and not where something else is asked for
    with_better_start(recipe, data, {**long, "epochs": 90}, "yolo26n.yaml", longer)
    assert [asked[1] for asked in longer.asked] == [18, 18]


def test_a_short_run_is_tried_for_long_enough(recipe, data, settings):
    trials = Trials(student=0.1, teacher=0.2)
    with_better_start(recipe, data, settings, "yolo26n.yaml", trials)
    assert [asked[1] for asked in trials.asked] == [8, 8]


def test_a_trial_closes_mosaic_by_the_same_share(recipe, data, settings):
    closed = []

    def distil(recipe, settings, student):
        closed.append((settings["epochs"], settings["close_mosaic"]))
        return Trials(student=0.1, teacher=0.2)(recipe, settings, student)

    with_better_start(recipe, data, {**settings, "epochs": 80}, "yolo26n.yaml", distil)
    assert closed == [(16, 2), (16, 2)]


def test_a_trial_that_was_not_measured(recipe, data, settings):
    with pytest.raises(DistillError, match=r"init=try: .* could not be measured; give init=student"):
        with_better_start(recipe, data, settings, "yolo26n.yaml", Trials(student=None, teacher=0.2))


def test_an_assistant_is_not_tried(recipe, data, settings):
    asked = []

    def stage(given, stage_settings, name):
        asked.append((name, given.init))
        folder = Path(stage_settings["project"]) / stage_settings["name"]
        (folder / "weights").mkdir(parents=True)
        (folder / "weights" / "best.pt").touch()
        return folder

    made = distil_assistants(recipe.model_copy(update={"assistant": "yolo26s.yaml"}), data, settings, stage)
    assert asked == [("yolo26s.yaml", "auto")]
    assert made.init == "try"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"teacher": "rtdetr-l.yaml"}, "init=try: teacher=rtdetr-l.yaml is no YOLO"),
        ({"teacher": "yolov8s.yaml"}, r"init=teacher: only \d+%"),
    ],
)
def test_what_can_not_be_tried(own, message, settings, tmp_path):
    with pytest.raises(RequestError, match=message):
        train({**own, "init": "try"}, settings, student="yolo26n.yaml")
    assert not list(tmp_path.glob("start-*"))


def test_a_trainer_alone_tries_nothing(settings, recipe):
    with pytest.raises(RequestError, match="init=try: yolo-distill train tries both starts"):
        DistillationTrainer(overrides={**settings, "model": "yolo26n.yaml", "teacher": recipe.teacher, "init": "try"})


@pytest.mark.slow
def test_a_real_trial(settings, make_teacher, names, recipe, monkeypatch):
    monkeypatch.setattr(init_trial, "FEWEST", 2)
    student = make_teacher("yolo26n.yaml", names)
    own = {"teacher": recipe.teacher, "init": "try", "force": True, "teacher_precision": "fp32"}
    folder = train(own, settings, student=str(student))
    trials = {name: next(folder.parent.glob(f"start-{name}-*")) for name in ("student", "teacher")}
    for name, tried in trials.items():
        assert yaml.safe_load((tried / "recipe.yaml").read_text())["init"] == name
        assert len((tried / "results.csv").read_text().splitlines()) == 3
    maps = {name: json.loads((tried / "summary.json").read_text())["student"]["map"] for name, tried in trials.items()}
    taken = yaml.safe_load((folder / "recipe.yaml").read_text())["init"]
    assert taken == max(maps, key=maps.get)
