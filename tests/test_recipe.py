"""Recipes: defaults stand in one place, everything is checked, errors name key and remedy."""

from pathlib import Path

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.paths import cfg_dir
from yolo_distill.recipe import USUAL, Recipe, check_recipe, make_recipe, read_recipe_file
from yolo_distill.terms_table import TERMS


@pytest.mark.parametrize("path", sorted(cfg_dir().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid(path):
    assert isinstance(make_recipe({"teacher": "t.pt"}, path.stem), Recipe)


def test_what_is_given_goes_before_the_file_and_the_file_before_the_default():
    Path("mine.yaml").write_text("logit: 3\ncwd: 0.5\nlr0: 0.001\n")
    own, host = read_recipe_file("mine.yaml", {"lr0", "epochs"})
    assert host == {"lr0": 0.001}
    recipe = check_recipe({"teacher": "t.pt", **own, "cwd": 0.1})
    assert (recipe.logit, recipe.cwd, recipe.init) == (3, 0.1, "auto")


ALL, USUAL_BUT_MAPS = {"logit": 1.0, "localization": 1.5, "cwd": 2.5}, {"logit": 1.0, "localization": 1.5}


@pytest.mark.parametrize(
    ("given", "inside", "gains"),
    [
        ({}, True, {}),  # the start has it all
        ({}, False, USUAL_BUT_MAPS),
        ({"init_fit": False}, True, ALL),  # as cut it has not
        ({"logit": 0}, True, {}),
        ({"logit": 0}, False, {"localization": 1.5}),
        ({"logit": 0, "localization": 0}, False, {}),
        # What asks for one of them has the others as well, unless it is said otherwise.
        ({"logit": 1}, True, ALL),
        ({"localization": 1.5}, True, ALL),
        ({"localization": 1.5, "logit": 0}, True, {"localization": 1.5, "cwd": USUAL["cwd"]}),
        ({"cwd": 0.7}, True, {**ALL, "cwd": 0.7}),
        ({"cwd": 0.7}, False, {**ALL, "cwd": 0.7}),
        ({"cwd": 0.7, "logit": 0, "localization": 0}, True, {"cwd": 0.7}),
        ({"logit": 1, "cwd": 0}, True, USUAL_BUT_MAPS),
        ({"mimic": 1}, True, {**USUAL_BUT_MAPS, "mimic": 1}),  # other maps
        ({"kd_until": 1}, True, {}),
        ({"ramp_epochs": 1}, True, {}),
        ({"schedule.logit": "cosine"}, True, {}),
        ({"teach": True}, True, ALL),
        ({"teach": False}, False, {}),
        ({"teach": False, "logit": 1}, True, {}),
        ({"unlabeled": "raw"}, True, ALL),
        ({"balance": "auto"}, True, {}),
        # A share of 0.2 more would come to over 1.
        ({"teach": True, "balance": "auto", "share.logit": 0.5, "share.localization": 0.35}, True, USUAL_BUT_MAPS),
        ({"teacher_imgsz": 640}, True, USUAL_BUT_MAPS),
        ({"teacher": "a.pt,b.pt"}, True, USUAL_BUT_MAPS),
        ({"teacher_precision": "int8", "trust": True, "match": "some"}, True, {}),  # not about the terms
        ({"share": 0.1, "schedule.pkd": "cosine", "hinton_tau": 4, "mgd_mask": 0.5}, True, {}),  # nor of any that is on
    ],
)
def test_terms_that_are_left_open(given, inside, gains):
    recipe = make_recipe({"teacher": "t.pt", **given}).settled(inside=inside, steps=1)
    assert recipe.gains == gains
    assert None not in {getattr(recipe, name) for name in TERMS}
    assert recipe.settled(inside=not inside).gains == gains  # once and for all


@pytest.mark.parametrize(("task", "own"), [("segment", "mask"), ("pose", "keypoint"), ("obb", None)])
def test_a_task_has_its_term_where_class_and_box_are_taught(task, own):
    recipe = make_recipe({"teacher": "t.pt"})
    assert recipe.settled(inside=False, task=task).gains == {**USUAL_BUT_MAPS, **({own: 1.5} if own else {})}
    assert not recipe.settled(inside=True, steps=1, task=task).gains


def test_a_comma_in_a_path_makes_no_second_teacher(tmp_path):
    (tmp_path / "run,1.pt").touch()
    assert make_recipe({"teacher": str(tmp_path / "run,1.pt")}).settled(inside=True, steps=1).gains == {}


@pytest.mark.parametrize("given", [{"logit": 1}, {"teacher": "a.pt,b.pt"}, {"teacher_imgsz": 640}])
def test_what_is_not_to_teach_asks_for_nothing(given):
    assert make_recipe({"teacher": "t.pt", **given}).why_asked
    assert make_recipe({"teacher": "t.pt", **given, "teach": False}).why_asked is None


def test_the_preset_that_teaches_has_all_of_them():
    assert make_recipe({"teacher": "t.pt"}, "taught").settled(inside=True).gains == ALL
    assert make_recipe({"teacher": "t.pt"}, "init").settled(inside=True, steps=1).gains == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": None}, "teacher=None: .*valid string"),
        ({"logt": 1}, "unknown key 'logt'; did you mean 'logit'"),
        ({"kd_every": 2}, "unknown key 'kd_every'"),
        ({"logit": "much"}, "logit=much: .*number"),
        ({"cwd": -0.5}, "cwd=-0.5: .*greater than or equal to 0"),
        ({"init": "techer"}, "init=techer: .*did you mean 'teacher'"),
        ({"share.logt": 0.2}, "share: unknown term 'logt'; did you mean 'logit'"),
        ({"unlabeled": "raw", "teach": False}, "unlabeled=raw: teach=false, so that nothing would teach"),
    ],
)
def test_bad_values(given, message):
    with pytest.raises(RequestError, match=f"^{message}") as caught:
        make_recipe({"teacher": "t.pt", **given})
    assert "\n" not in str(caught.value)


def test_a_recipe_without_a_teacher():
    with pytest.raises(RequestError, match=r"^teacher= is missing; give it, e.g. teacher="):
        make_recipe({})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mine.yaml", "lgoit: 1", "mine.yaml: unknown key 'lgoit'; did you mean 'logit'"),
        ("mine.yaml", "- 1\n- 2", "expected key: value lines, found list"),
        ("mine.yaml", "a: [1", "is not YAML"),
        ("nowhere/mine.yaml", None, "no such recipe"),
        ("defalt", None, r"recipe=defalt: no such recipe; did you mean 'default'\? \(known: .*default"),
    ],
)
def test_bad_files(name, text, message):
    if text:
        Path(name).write_text(text)
    with pytest.raises(RequestError, match=message):
        make_recipe({"teacher": "t.pt"}, name)
