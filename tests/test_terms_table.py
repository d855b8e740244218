"""The table of terms: what follows from it does, and what cannot follow from it says the same."""

import inspect
import pkgutil

import pytest
import yaml

from yolo_distill.commands.train import SETTINGS
from yolo_distill.errors import RequestError
from yolo_distill.paths import cfg_dir
from yolo_distill.recipe import USUAL, make_recipe, read_recipe_file
from yolo_distill.settings import OPEN
from yolo_distill.terms_table import TABLE, term_settings
from yolo_distill.vocabulary import FEATURE_TERMS, PER_TERM

each_term = pytest.mark.parametrize("name", TABLE)


def test_the_default_recipe_has_the_settings_and_defaults_of_the_table():
    written = yaml.safe_load((cfg_dir() / "default.yaml").read_text(encoding="utf-8"))
    assert {key: written[key] for key in term_settings()} == {key: s.default for key, s in term_settings().items()}
    values, _ = read_recipe_file("default")
    assert values["share"] == {name: term.share for name, term in TABLE.items()}
    assert values["schedule"] == dict.fromkeys(TABLE, PER_TERM["schedule"].default)


@each_term
def test_a_loss_is_where_the_row_says_and_takes_what_the_row_gives_it(name):
    term = TABLE[name]
    for where in filter(None, (term.loss, term.anchors)):
        assert set(term.arguments) <= set(inspect.signature(pkgutil.resolve_name(where)).parameters)
    said = [term.hidden, term.weighed_by, *term.arguments.values()]
    assert {setting for setting in said if setting} <= set(term.settings)


@each_term
def test_a_row_makes_sense(name):
    term = TABLE[name]
    assert len(term.column) <= 10
    assert (term.gain is None) == (term.usual is not None) == (name in USUAL)
    assert (name in FEATURE_TERMS) == (term.needs == {"maps"})
    assert f"\n| `{name}` |" in (cfg_dir() / "README.md").read_text(encoding="utf-8")


def test_no_two_columns_are_called_the_same():
    assert len({term.column for term in TABLE.values()}) == len(TABLE)


@each_term
@pytest.mark.parametrize("owner", PER_TERM)
def test_every_term_has_its_own_share_and_schedule(name, owner):
    value = {"share": "0.3", "schedule": "cosine"}[owner]
    read = SETTINGS[f"{owner}.{name}"].read(f"{owner}.{name}", value)
    assert getattr(make_recipe({"teacher": "t.pt", f"{owner}.{name}": read}), owner)[name] == read


@pytest.mark.parametrize("key", [*term_settings(), *PER_TERM])
@pytest.mark.parametrize("text", ["-1", "0", "0.5", "1", "2", "1e9", "none", "linear", "score", "cosine"])
def test_command_line_and_recipe_refuse_the_same(key, text):
    def taken(make):
        try:
            return make()
        except RequestError:
            return RequestError

    def by_recipe():
        values = dict.fromkeys(TABLE, 0.0)  # so that a share is not too large beside the others
        value = {"none": None}.get(text, text)
        found = getattr(make_recipe({"teacher": "t.pt", **values, key: value}), key)
        return found["cwd"] if key in PER_TERM else found

    on_line = taken(lambda: SETTINGS[key].read(key, text))
    if on_line is None:  # where `none` is no value, it stands for not given
        return
    assert taken(by_recipe) == (None if on_line is OPEN else on_line)
