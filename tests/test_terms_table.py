"""The table of terms: what follows from it does, and what cannot follow from it says the same."""

import inspect
import pkgutil

import pytest

from yolo_distill.paths import cfg_dir
from yolo_distill.recipe import USUAL
from yolo_distill.terms_table import FEATURE_TERMS, TABLE

each_term = pytest.mark.parametrize("name", TABLE)


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
