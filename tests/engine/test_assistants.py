"""An assistant is distilled first, then teaches; finished ones are found again, interrupted ones go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ultralytics import YOLO

from yolo_distill.data.dataset import check_data
from yolo_distill.engine import run
from yolo_distill.engine.assistants import assistants, distil_assistants, stage_key
from yolo_distill.engine.run import train
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import RequestError
from yolo_distill.recipe import make_recipe


@pytest.fixture
def data(tiny_data):
    return check_data(tiny_data, ("train", "val"))


class Stages:
    """Stands in for the training of a stage, and remembers what it was asked for."""

    def __init__(self, *, finish=True):
        self.asked, self.finish = [], finish

    def __call__(self, recipe, settings, student):
        self.asked.append((Path(recipe.teacher).parent.parent.name, student, settings.get("resume")))
        weights = Path(settings["project"]) / settings["name"] / "weights"
        weights.mkdir(parents=True, exist_ok=True)
        (weights / "last.pt").write_text(student)
        if self.finish:
            (weights / "best.pt").write_text(f"{student} by {Path(recipe.teacher).read_text()}")
            (weights.parent / "summary.json").write_text("{}")
        return weights.parent


@pytest.fixture
def recipe(tmp_path):
    teacher = tmp_path / "large" / "weights" / "best.pt"
    teacher.parent.mkdir(parents=True)
    teacher.write_text("large")
    return make_recipe({"teacher": str(teacher), "assistant": "yolo26m.yaml, yolo26s.yaml"})


def test_stages_teach_one_another_and_are_found_again(recipe, data, settings):
    stages = Stages()
    made = distil_assistants(recipe, data, settings, stages)
    first, second = (name for _, name, _ in stages.asked)
    assert [asked[1] for asked in stages.asked] == ["yolo26m.yaml", "yolo26s.yaml"] == [first, second]
    assert stages.asked[0][0] == "large"
    assert stages.asked[1][0].startswith("assistant-yolo26m-")
    assert Path(made.teacher).read_text() == "yolo26s.yaml by yolo26m.yaml by large"
    assert made.assistant is None
    again = Stages()
    assert distil_assistants(recipe, data, settings, again) == made
    assert again.asked == []


def test_what_is_said_of_the_teacher_is_not_said_of_its_assistant(recipe, data, settings):
    said = {"class_map": "map.yaml", "teacher_imgsz": 640, "teacher_names": "a,b", "teacher_outputs": "out.yaml"}
    made = distil_assistants(recipe.model_copy(update=said), data, settings, Stages())
    assert {key: getattr(made, key) for key in said} == dict.fromkeys(said)


@pytest.mark.parametrize("changed", ["recipe", "settings", "teacher", "class map"])
def test_a_stage_of_other_settings_is_another_stage(recipe, data, settings, changed, tmp_path):
    (tmp_path / "map.yaml").write_text("ball: disc\n")
    recipe = recipe.model_copy(update={"class_map": str(tmp_path / "map.yaml")})
    distil_assistants(recipe, data, settings, Stages())
    if changed == "recipe":
        recipe = recipe.model_copy(update={"logit": 3.0})
    elif changed == "settings":
        settings = {**settings, "epochs": 7}
    elif changed == "class map":
        (tmp_path / "map.yaml").write_text("ball: square\n")
    else:
        Path(recipe.teacher).write_text("larger")
    stages = Stages()
    distil_assistants(recipe, data, settings, stages)
    # The second assistant learns by the first one's classes, and from the same file here.
    assert len(stages.asked) == (1 if changed == "class map" else 2)


def test_an_interrupted_stage_goes_on(recipe, data, settings):
    recipe = recipe.model_copy(update={"assistant": "yolo26s.yaml"})
    distil_assistants(recipe, data, settings, Stages(finish=False))
    stages = Stages()
    distil_assistants(recipe, data, settings, stages)
    assert stages.asked[0][2].endswith("last.pt")


def test_what_asked_for_terms_asks_in_the_last_stage_as_well(recipe, data, settings):
    quiet = distil_assistants(recipe, data, settings, Stages())
    assert quiet.settled(inside=True).gains == {}
    larger = recipe.model_copy(update={"teacher_imgsz": 128})  # of the first stage alone
    asked = distil_assistants(larger, data, settings, Stages())
    assert asked.teacher_imgsz is None
    assert asked.settled(inside=True).gains == make_recipe({"teacher": "t"}, "taught").settled(inside=True).gains


def test_a_stage_is_found_again_wherever_its_files_lie(settings, data, tmp_path):
    keys = set()
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "map.yaml").write_text("cat: disc\n")
        own = {"teacher": "t.yaml", "class_map": str(tmp_path / place / "map.yaml"), "teacher_names": "a" * 300}
        keys.add(stage_key("yolo26s.yaml", make_recipe(own), data, settings))
    assert len(keys) == 1
    (tmp_path / "there" / "map.yaml").write_text("dog: disc\n")
    assert stage_key("yolo26s.yaml", make_recipe(own), data, settings) not in keys


def test_an_assistant_that_is_worse_than_its_student_is_refused(settings, make_teacher, names, monkeypatch):
    looked = []
    teacher = str(make_teacher("yolo26s.yaml", names))
    monkeypatch.setattr(run, "distil_assistants", lambda r, *_: r.model_copy(update={"teacher": "assistant.pt"}))
    monkeypatch.setattr(run, "look_at_both", lambda student, recipe, *_: looked.append(Path(recipe.teacher).name))
    monkeypatch.setattr(run, "_distil", lambda *_: Path("done"))
    assert train({"teacher": teacher, "assistant": "yolo26n.yaml"}, settings, student="yolo26n.yaml") == Path("done")
    assert looked == [Path(teacher).name, "assistant.pt"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("large", "assistant", "measured"),
    [("yolo26s.yaml", "yolo26n.yaml", False), ("yolo26m.yaml", "yolo26s.yaml", True)],
    ids=["in training", "while it was measured"],
)
def test_a_real_chain_that_was_interrupted(large, assistant, measured, settings, make_teacher, names, monkeypatch):
    own = {"teacher": str(make_teacher(large, names)), "assistant": assistant}
    own |= {"force": True, "teacher_precision": "fp32"}
    settings = {**settings, "epochs": 1 if measured else 2}

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if measured:
            patch.setattr(run, "summarise", stop)
        else:
            patch.setattr(DistillationTrainer, "optimizer_step", stop_after(DistillationTrainer.optimizer_step, 3))
        with pytest.raises(KeyboardInterrupt):
            train(own, settings, student="yolo26n.yaml")
    stage = next((Path(settings["project"])).glob("assistant-*"))
    assert not (stage / "summary.json").exists()
    folder = train(own, settings, student="yolo26n.yaml")
    summary = json.loads((folder / "summary.json").read_text())
    assert Path(summary["teacher"]["weights"]) == stage / "weights" / "best.pt"
    assert YOLO(stage / "weights" / "best.pt").model.yaml["yaml_file"].startswith("yolo26")
    assert len(list(Path(settings["project"]).glob("assistant-*"))) == 1
    if assistant != "yolo26n.yaml":
        assert summary["teacher"]["parameters"] > 2 * summary["student"]["parameters"]


def stop_after(call, times):
    left = [times]

    def counted(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return call(*args, **kwargs)

    return counted


def test_no_assistant_changes_nothing(recipe, data, settings):
    recipe = recipe.model_copy(update={"assistant": None})
    assert assistants(recipe) == []
    assert distil_assistants(recipe, data, settings, Stages()) == recipe


def test_an_assistant_is_no_teacher_to_start_from(settings):
    own = {"teacher": "rtdetr-l.yaml", "assistant": "yolo26s.yaml", "init": "teacher"}
    with pytest.raises(RequestError, match=r"init=teacher: teacher=rtdetr-l\.yaml is no YOLO"):
        train(own, settings, student="yolo26n.yaml")


def test_an_assistant_without_a_level_in_common(settings, make_teacher, names, tmp_path):
    own = {"teacher": str(make_teacher("yolo26s.yaml", names)), "assistant": "yolo26sx.yaml"}
    with pytest.raises(RequestError, match=r"assistant=yolo26sx\.yaml"):
        train(own, settings, student="yolo26n.yaml")
    assert not list(tmp_path.glob("run*"))
