"""The table of a recipe's settings: files, command line and checks say what it says."""

from __future__ import annotations

import pytest
import yaml

from yolo_distill.commands.train import SETTINGS as ON_COMMAND_LINE
from yolo_distill.errors import RequestError
from yolo_distill.paths import cfg_dir
from yolo_distill.recipe import check_recipe, make_recipe, overlaid
from yolo_distill.recipe_table import PER_TERM, SETTINGS
from yolo_distill.settings import OPEN
from yolo_distill.terms_table import TABLE

TEXTS = (
    ["-1", "0", "0.005", "0.5", "0.995", "1", "2", "32", "1e9", "nan", "inf", "", "none"]
    + ["true", "Yes", "off", "linear", "Score", "cosine", "auto", "student", "fp8", "some"]
)  # fmt: skip


#: What a recipe holds where nothing is said.
DEFAULTS = {key: setting.default for key, setting in SETTINGS.items() if not setting.required}


def test_the_default_recipe_shows_every_row_in_order_and_with_its_default():
    written = yaml.safe_load((cfg_dir() / "default.yaml").read_text(encoding="utf-8"))
    assert overlaid({}, written) == DEFAULTS
    assert [key for key in written if "." not in key] == list(DEFAULTS)


@pytest.mark.parametrize("key", SETTINGS)
def test_command_line_and_recipe_take_and_refuse_the_same(key):
    def taken(make):
        try:
            return make()
        except RequestError:
            return RequestError

    def by_recipe(value):
        found = getattr(check_recipe(overlaid({"teacher": "t.pt", **DEFAULTS}, {key: value})), key)
        return found["cwd"] if key in PER_TERM else found

    for text in TEXTS:
        on_line = taken(lambda text=text: ON_COMMAND_LINE[key].read(key, text))
        if on_line is None:  # another word for "not given"
            continue
        wanted = None if on_line is OPEN else on_line
        found = taken(lambda text=text: by_recipe(None if text == "none" and SETTINGS[key].nullable else text))
        assert (type(found), found) == (type(wanted), wanted), text


@pytest.mark.parametrize("name", TABLE)
def test_every_term_has_its_own_share_and_schedule(name):
    for owner, text in {"share": "0.3", "schedule": "cosine"}.items():
        read = ON_COMMAND_LINE[key := f"{owner}.{name}"].read(key, text)
        assert getattr(make_recipe({"teacher": "t.pt", key: read}), owner)[name] == read
