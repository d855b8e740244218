"""Recipes: defaults stand in one place, everything is checked, errors name key and remedy."""

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.paths import cfg_dir
from yolo_distill.recipe import USUAL, Recipe, make_recipe, read_recipe_file, saved_recipe
from yolo_distill.vocabulary import TERMS


@pytest.mark.parametrize("path", sorted(cfg_dir().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid(path):
    assert isinstance(make_recipe({"teacher": "t.pt"}, path.stem), Recipe)


def test_given_values_go_before_the_file(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("logit: 3\ncwd: 0.5\n")
    recipe = make_recipe({"teacher": "t.pt", "cwd": 0.1}, str(mine))
    assert (recipe.logit, recipe.cwd) == (3, 0.1)
    assert recipe.init == make_recipe({"teacher": "t.pt"}).init


def test_gains_are_those_above_zero():
    recipe = make_recipe({"teacher": "t.pt", "logit": 0, "localization": 2, "cwd": 0})
    assert recipe.gains == {"localization": 2}


ALL, USUAL_BUT_MAPS = dict(USUAL), {"logit": 1.0, "localization": 1.5}


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
    recipe = make_recipe({"teacher": "t.pt", **given}).settled(inside=inside)
    assert recipe.gains == gains
    assert None not in {getattr(recipe, name) for name in TERMS}
    assert recipe.settled(inside=not inside).gains == gains  # once and for all


def test_a_comma_in_a_path_makes_no_second_teacher(tmp_path):
    (tmp_path / "run,1.pt").touch()
    assert make_recipe({"teacher": str(tmp_path / "run,1.pt")}).settled(inside=True).gains == {}


@pytest.mark.parametrize("given", [{"logit": 1}, {"teacher": "a.pt,b.pt"}, {"teacher_imgsz": 640}])
def test_what_is_not_to_teach_asks_for_nothing(given):
    assert make_recipe({"teacher": "t.pt", **given}).why_asked
    assert make_recipe({"teacher": "t.pt", **given, "teach": False}).why_asked is None


def test_the_preset_that_teaches_has_all_of_them():
    assert make_recipe({"teacher": "t.pt"}, "taught").settled(inside=True).gains == ALL
    assert make_recipe({"teacher": "t.pt"}, "init").settled(inside=True).gains == {}


def test_a_recipe_may_hold_settings_of_the_host(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("lr0: 0.001\nlogit: 3\n")
    own, host = read_recipe_file(str(mine), {"lr0", "epochs"})
    assert own["logit"] == 3
    assert host == {"lr0": 0.001}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "teacher= is missing"),
        ({"teacher": "t.pt", "logt": 1}, "unknown key 'logt'; did you mean 'logit'"),
        ({"teacher": "t.pt", "logit": "much"}, "logit=much: .*number"),
        ({"teacher": "t.pt", "cwd": -0.5}, "cwd=-0.5: .*greater than or equal to 0"),
        ({"teacher": "t.pt", "cwd_tau": 0}, "cwd_tau=0: .*greater than 0"),
        ({"teacher": "t.pt", "box_floor": 1}, "box_floor=1: .*less than 1"),
        ({"teacher": "t.pt", "logit": float("inf")}, "logit=inf: .*finite"),
        ({"teacher": "t.pt", "init": "techer"}, "init=techer: .*'teacher'"),
        ({"teacher": "t.pt", "teacher_epochs": 0}, "teacher_epochs=0: .*greater than or equal to 1"),
        ({"teacher": "t.pt", "match": "none"}, "match=none"),
        ({"teacher": "t.pt", "kd_every": 2}, "unknown key 'kd_every'"),
    ],
)
def test_bad_values(given, message):
    with pytest.raises(RequestError, match=message) as caught:
        make_recipe(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lgoit: 1", "unknown key 'lgoit'; did you mean 'logit'"),
        ("teacher_folds: 3", "unknown key 'teacher_folds'"),
        ("- 1\n- 2", "expected key: value lines, found list"),
        ("", "expected key: value lines, found NoneType"),
        ("a: [1", "not a YAML file"),
    ],
)
def test_bad_files(tmp_path, text, message):
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    with pytest.raises(RequestError, match=message):
        make_recipe({"teacher": "t.pt"}, str(mine))


def test_an_unknown_recipe_is_told_the_known_ones():
    with pytest.raises(
        RequestError, match=r"recipe=defalt: no such recipe; did you mean 'default'\? \(known: .*default"
    ):
        make_recipe({"teacher": "t.pt"}, "defalt")


def test_a_missing_file():
    with pytest.raises(RequestError, match="no such recipe"):
        make_recipe({"teacher": "t.pt"}, "nowhere/mine.yaml")


def test_a_recipe_saved_before_there_were_some_settings():
    saved = make_recipe({"teacher": "t.pt", "logit": 0.3}).model_dump()
    for key in ("teacher_precision", "kd_until"):
        del saved[key]
    recipe = saved_recipe(saved)
    assert (recipe.logit, recipe.teacher_precision, recipe.kd_until) == (0.3, "auto", 1.0)


#: What recipes of earlier versions hold.
UNUSED = {"teacher_folds": 0, "teacher_tta": False, "views": 0, "teacher_cache": None, "kd_every": 1}


def test_a_recipe_saved_when_there_were_settings_that_it_did_not_use():
    recipe = make_recipe({"teacher": "t.pt", "logit": 0.3})
    assert saved_recipe({**recipe.model_dump(), **UNUSED, "init_bn": True, "init_heal": 2}) == recipe


@pytest.mark.parametrize(
    "used", [{"teacher_folds": 3}, {"teacher_tta": True}, {"views": 10}, {"teacher_cache": "disk"}, {"kd_every": 2}]
)
def test_a_recipe_saved_with_a_setting_that_is_gone(used):
    ((key, value),) = used.items()
    with pytest.raises(RequestError, match=f"^{key}={value}: .*which is gone; begin it anew") as caught:
        saved_recipe({**make_recipe({"teacher": "t.pt"}).model_dump(), **UNUSED, **used})
    assert "\n" not in str(caught.value)
