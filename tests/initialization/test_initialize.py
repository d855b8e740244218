"""The student's start, as the recipe says: channels, their fit, and projectors that begin as it did."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from live_detector import live_detector

from yolo_distill.data.dataset import check_data
from yolo_distill.errors import RequestError
from yolo_distill.initialization.initialize import begin_inside
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.recipe import make_recipe

SIZE = 64


@pytest.fixture
def begin(tiny_data, names, tiny_student, tiny_teacher):
    """Return a function that starts a student of `architecture` inside a teacher, by recipe settings."""
    data = check_data(tiny_data, ("train", "val"))
    teacher = load_detector(Path(tiny_teacher))

    def run(architecture=tiny_student, **settings):
        student = live_detector(architecture, names.values(), seed=1)
        before = copy.deepcopy(student.state_dict())
        recipe = make_recipe({"teacher": "-", "init": "teacher", **settings})
        torch.manual_seed(5)
        report = begin_inside(student, teacher, recipe, data=data, imgsz=SIZE, device=torch.device("cpu"))
        drawn = torch.rand(1)
        torch.manual_seed(5)
        assert torch.equal(drawn, torch.rand(1))  # the run's own chance is not touched
        return student, report, before

    return run


def test_channels_are_chosen_as_asked(begin):
    starts = {how: begin(init_channels=how) for how in ("even", "norm")}
    assert not torch.equal(*(student.state_dict()["model.0.conv.weight"] for student, _, _ in starts.values()))
    assert starts["even"][1].scored == 0
    assert starts["norm"][1].scored > 0.5
    for _, report, _ in starts.values():
        assert sorted(report.chosen) == [8, 16, 32]


def test_convolutions_are_fitted_as_asked(begin, caplog):
    weights = [begin(init_fit=fit)[0].state_dict()["model.2.conv.weight"] for fit in (False, True)]
    assert not torch.equal(*weights)
    (said,) = [entry.message for entry in caplog.records if "fitted" in entry.message]
    assert re.search(r"and fitted to its answers to \d+ training pictures: \d\d convolutions, mean error 0\.", said)


def test_a_student_of_another_family(begin):
    student, report, before = begin("yolov8n.yaml", init="auto")
    assert report is None
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
    with pytest.raises(RequestError, match="init=teacher: only"):
        begin("yolov8n.yaml")


def test_classes_are_those_of_the_map(begin, names, tmp_path):
    first, second = names.values()
    (tmp_path / "map.yaml").write_text(f"{first}: {second}\n{second}: {first}\n")
    given = {"init_fit": False, "init_channels": "even"}
    states = [begin(**given, **more)[0].state_dict() for more in ({}, {"class_map": str(tmp_path / "map.yaml")})]
    differ = [key for key in states[0] if not torch.equal(*(state[key] for state in states))]
    assert differ
    assert all(torch.equal(states[0][key], states[1][key].flip(0)) for key in differ)


def test_projectors_begin_as_the_selection(train, tiny_pair):
    seen = {}

    def look(trainer):
        seen.update({key: value.clone() for key, value in trainer.projectors.state_dict().items()})
        seen["chosen"] = trainer._chosen

    from yolo_distill.engine.trainer import DistillationTrainer

    build = DistillationTrainer.build_optimizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            DistillationTrainer, "build_optimizer", lambda self, *a, **k: (look(self), build(self, *a, **k))[1]
        )
        train(**tiny_pair, pkd=1.0)
    weight, chosen = seen["pkd_8.weight"].squeeze(), seen["chosen"][8]
    assert weight.shape[1] == len(chosen)
    assert torch.equal(weight.argmax(0), chosen)
    assert torch.equal(weight.sum(0), torch.ones(len(chosen)))
