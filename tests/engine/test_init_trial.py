"""`init=try`: both starts are trained a little, and the run goes on from the better one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from yolo_distill.engine import init_trial
from yolo_distill.engine.init_trial import with_better_start
from yolo_distill.engine.run import check_pair, train
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.loading import Teachers


@pytest.fixture
def recipe(large):
    return make_recipe({"teacher": large, "init": "try"})


@pytest.fixture
def choose(recipe, data, settings):
    """Return a function that tries both starts with made figures, and a list of what was trained for it."""
    asked: list[tuple[str, int, int]] = []

    def tried(own=None, inside=None, **changes):
        def distil(given, host, student):
            asked.append((given.init, host["epochs"], host["close_mosaic"]))
            folder = Path(host["project"]) / host["name"]
            folder.mkdir(parents=True, exist_ok=True)
            value = own if given.init == "student" else inside
            row = {} if value is None else {"map": value}
            (folder / "summary.json").write_text(json.dumps({"student": row}))
            return folder

        asked.clear()
        return with_better_start(recipe, data, {**settings, **changes}, "yolo26n.yaml", distil).init

    return tried, asked


@pytest.mark.parametrize(
    ("init", "student", "epochs", "begins"),
    [
        ("auto", "own", 40, "try"),
        ("auto", "own", 30, "teacher"),
        ("auto, freeze", "own", 40, "student"),  # what is frozen is to stay
        ("auto", "inside", 40, "auto"),
        ("auto, teacher=yolo26s.yaml", "own", 30, "student"),
        ("auto, teacher=yolo26s.yaml", "own", 40, "try"),
        ("auto", "yolo11n.yaml", 40, "auto"),
        ("student", "own", 40, "student"),
    ],
)
def test_weights_of_its_own_are_tried_beside_the_teachers(
    init, student, epochs, begins, recipe, data, settings, make_teacher, names, tiny_student, tiny_teacher
):
    init, _, teacher = init.partition(", teacher=")
    more = {"freeze": 3} if init.endswith("freeze") else {}
    init = init.removesuffix(", freeze")
    asked = recipe.model_copy(update={"init": init, "teacher": teacher or tiny_teacher, "force": True})
    if student == "own":
        student = str(make_teacher("yolo26n.yaml" if teacher else tiny_student, names))
    student = tiny_student if student == "inside" else student
    assert check_pair(student, asked, Teachers.of(asked), data, {**settings, **more, "epochs": epochs}).init == begins


@pytest.mark.parametrize(
    ("own", "inside", "better"), [(13.0, 28.0, "teacher"), (40.0, 28.0, "student"), (20.0, 20.0, "student")]
)
def test_the_better_start_is_taken_and_found_again(own, inside, better, choose):
    tried, asked = choose
    assert tried(own, inside, epochs=80, time=2) == better
    assert asked == [("student", 16, 2), ("teacher", 16, 2)]  # mosaic is closed by the same share
    assert tried(epochs=80, time=2) == better
    assert asked == []
    tried(own, inside, epochs=90)  # and not where something else is asked for
    assert [epochs for _, epochs, _ in asked] == [18, 18]
    tried(own, inside, epochs=1)  # a short run is tried for long enough
    assert [epochs for _, epochs, _ in asked] == [8, 8]


def test_a_trial_that_was_not_measured(choose):
    with pytest.raises(DistillError, match=r"init=try: .* could not be measured; give init=student"):
        choose[0](None, 20.0)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"init": "try"}, "init=try: yolo-distill train tries both starts"),
        ({"assistant": "yolo26s.yaml"}, r"assistant=yolo26s\.yaml: yolo-distill train distils one"),
    ],
)
def test_a_trainer_alone_has_no_other_runs(own, message, make_trainer):
    with pytest.raises(RequestError, match=message):
        make_trainer(**own)


@pytest.mark.slow
def test_a_real_trial(settings, make_teacher, names, large, monkeypatch):
    monkeypatch.setattr(init_trial, "FEWEST", 2)
    own = {"teacher": large, "init": "try", "force": True, "teacher_precision": "fp32"}
    folder = train(own, settings, student=str(make_teacher("yolo26n.yaml", names)))
    maps = {}
    for name in ("student", "teacher"):
        (tried,) = folder.parent.glob(f"trial-{name}-*")
        assert yaml.safe_load((tried / "recipe.yaml").read_text())["init"] == name
        assert len((tried / "results.csv").read_text().splitlines()) == 3
        maps[name] = json.loads((tried / "summary.json").read_text())["student"]["map"]
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["init"] == max(maps, key=maps.get)
