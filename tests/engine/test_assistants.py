"""An assistant is distilled first, then teaches; finished ones are found again, interrupted ones go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ultralytics import YOLO

from yolo_distill.engine import run
from yolo_distill.engine.assistants import assistants, distil_assistants, stage_key
from yolo_distill.engine.run import train
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.recipe import make_recipe


@pytest.fixture
def stages(data, settings):
    """Return a function that distils a recipe's assistants, of made files, and a list of the trainings that it took."""
    asked: list[tuple[str, str, str | None]] = []

    def distil(recipe, *, finish=True, **changes):
        def stage(own, host, student):
            asked.append((Path(own.teacher).parent.parent.name, student, host.get("resume")))
            weights = Path(host["project"]) / host["name"] / "weights"
            weights.mkdir(parents=True, exist_ok=True)
            (weights / "last.pt").write_text(student)
            if finish:
                (weights / "best.pt").write_text(f"{student} by {Path(own.teacher).read_text()}")
                (weights.parent / "summary.json").write_text("{}")
            return weights.parent

        asked.clear()
        return distil_assistants(recipe, data, {**settings, **changes}, stage)

    return distil, asked


@pytest.fixture
def recipe(tmp_path):
    teacher = tmp_path / "large" / "weights" / "best.pt"
    teacher.parent.mkdir(parents=True)
    teacher.write_text("large")
    return make_recipe({"teacher": str(teacher), "assistant": "yolo26m.yaml, yolo26s.yaml"})


def test_stages_teach_one_another_and_are_found_again(recipe, stages):
    distil, asked = stages
    made = distil(recipe)
    assert [student for _, student, _ in asked] == ["yolo26m.yaml", "yolo26s.yaml"]
    assert asked[0][0] == "large"
    assert asked[1][0].startswith("assistant-yolo26m-")
    assert Path(made.teacher).read_text() == "yolo26s.yaml by yolo26m.yaml by large"
    assert made.assistant is None
    assert distil(recipe) == made
    assert asked == []
    alone = recipe.model_copy(update={"assistant": None})
    assert assistants(alone) == []
    assert distil(alone) == alone


def test_what_is_said_of_the_teacher_is_not_said_of_its_assistant(recipe, stages):
    said = {"class_map": "map.yaml", "teacher_imgsz": 640, "teacher_names": "a,b", "teacher_outputs": "out.yaml"}
    made = stages[0](recipe.model_copy(update=said))
    assert {key: getattr(made, key) for key in said} == dict.fromkeys(said)


@pytest.mark.parametrize("changed", ["recipe", "settings", "teacher", "class map"])
def test_a_stage_of_other_settings_is_another_stage(recipe, stages, changed, tmp_path):
    distil, asked = stages
    (tmp_path / "map.yaml").write_text("ball: disc\n")
    recipe = recipe.model_copy(update={"class_map": str(tmp_path / "map.yaml")})
    distil(recipe)
    if changed == "class map":
        (tmp_path / "map.yaml").write_text("ball: square\n")
    elif changed == "teacher":
        Path(recipe.teacher).write_text("larger")
    changes = {"logit": 3.0} if changed == "recipe" else {}
    distil(recipe.model_copy(update=changes), **({"epochs": 7} if changed == "settings" else {}))
    # The second assistant learns by the first one's classes, and from the same file here.
    assert len(asked) == (1 if changed == "class map" else 2)


def test_an_interrupted_stage_goes_on(recipe, stages):
    distil, asked = stages
    recipe = recipe.model_copy(update={"assistant": "yolo26s.yaml", "init": "try"})
    distil(recipe, finish=False)
    assert distil(recipe).init == "try"  # which is about the student's own start
    assert asked[0][2].endswith("last.pt")


def test_what_asked_for_terms_asks_in_the_last_stage_as_well(recipe, stages):
    distil, _ = stages
    assert distil(recipe).settled(inside=True, steps=1).gains == {}
    asked = distil(recipe.model_copy(update={"teacher_imgsz": 128}))  # of the first stage alone
    assert asked.teacher_imgsz is None
    assert (
        asked.settled(inside=True, steps=1).gains == make_recipe({"teacher": "t"}, "taught").settled(inside=True).gains
    )


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


def test_an_assistant_that_is_worse_than_its_student_is_refused(settings, tiny_pair, monkeypatch):
    looked = []
    monkeypatch.setattr(run, "distil_assistants", lambda r, *_: r.model_copy(update={"teacher": "assistant.pt"}))
    monkeypatch.setattr(run, "look_at_both", lambda student, recipe, *_: looked.append(Path(recipe.teacher).name))
    monkeypatch.setattr(run, "_distil", lambda *_: Path("done"))
    teacher, student = tiny_pair["teacher"], tiny_pair["model"]
    assert train({"teacher": teacher, "assistant": student}, settings, student=student) == Path("done")
    assert looked == [Path(teacher).name, "assistant.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("measured", [False, True], ids=["in training", "while it was measured"])
def test_a_real_chain_that_was_interrupted(measured, settings, large, monkeypatch):
    own = {"teacher": large, "assistant": "yolo26n.yaml", "force": True, "teacher_precision": "fp32"}
    settings = {**settings, "epochs": 1 if measured else 2}
    step, steps = DistillationTrainer.optimizer_step, []

    def stop(trainer, *_):
        steps.append(1)
        if measured or len(steps) > 3:
            raise KeyboardInterrupt
        step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(*((run, "summarise") if measured else (DistillationTrainer, "optimizer_step")), stop)
        with pytest.raises(KeyboardInterrupt):
            train(own, settings, student="yolo26n.yaml")
    (stage,) = Path(settings["project"]).glob("assistant-*")
    assert not (stage / "summary.json").exists()
    folder = train(own, settings, student="yolo26n.yaml")
    summary = json.loads((folder / "summary.json").read_text())
    assert Path(summary["teacher"]["weights"]) == stage / "weights" / "best.pt"
    assert YOLO(stage / "weights" / "best.pt").model.yaml["yaml_file"].startswith("yolo26")
    assert list(Path(settings["project"]).glob("assistant-*")) == [stage]
