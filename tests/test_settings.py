"""Settings: what texts are read as, and that the host's own are read as the host reads them."""

from __future__ import annotations

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.settings import Setting, explain, given, host_settings, resolve


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        (Setting(int, ""), "16", 16),
        (Setting(int, ""), "none", None),
        (Setting(int, ""), "", None),
        (Setting(float, ""), "1e-3", 0.001),
        (Setting(float, "", low=0), "0", 0.0),
        (Setting(float, "", low=0, high=1), "1", 1.0),
        (Setting(float, "", above=0, below=1), "0.99", 0.99),
        (Setting(bool, ""), "Yes", True),
        (Setting(bool, ""), "OFF", False),
        (Setting(bool, "", True), "0", False),
        (Setting(str, "", "default"), "none", "none"),
        (Setting(str, "", required=True), "none", "none"),
        (Setting(str, ""), "Null", None),
        (Setting(str, "", "none", choices=("none", "false")), "None", "none"),
        (Setting(str, "", "none", choices=("none", "false")), "False", "false"),
        (Setting(str, "", choices=("auto", "teacher")), "none", None),
        (Setting(str, "", "auto", choices=("auto", True, False)), "TRUE", True),
    ],
)
def test_read(setting, text, value):
    read = setting.read("key", text)
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("setting", "text", "message"),
    [
        (Setting(int, ""), "1e3", "expected a whole number"),
        (Setting(int, "", 1), "none", "expected a whole number"),
        (Setting(float, "", 1.0), "", "expected a number"),
        (Setting(bool, "", False), "none", "expected true or false"),
        (Setting(float, ""), "nan", "must be a finite number"),
        (Setting(float, "", low=0), "inf", "must be a finite number"),
        (Setting(float, "", high=1), "1.5", "must be at most 1"),
        (Setting(int, "", low=1, high=8), "9", "must be between 1 and 8"),
        (Setting(float, "", above=0), "0", "must be above 0"),
        (Setting(float, "", low=0, below=1), "1", "must be at least 0 and below 1"),
        (Setting(float, "", above=0, below=1), "nan", "must be above 0 and below 1"),
        (Setting(str, "", choices=("auto", "teacher")), "TEECHER", "not one of auto, teacher; did you mean 'teacher'?"),
        (
            Setting(str, "", choices=("auto", True, False)),
            "flase",
            "not one of auto, true, false; did you mean 'false'?",
        ),
    ],
)
def test_read_refuses(setting, text, message):
    with pytest.raises(RequestError) as error:
        setting.read("key", text)
    assert str(error.value) == f"key={text}: {message}"


def test_resolve_fills_in_defaults_and_leaves_the_table_alone():
    table = {"a": Setting(int, "first", 1), "b": Setting(str, "second")}
    assert resolve({}, table) == {"a": 1, "b": None}
    assert resolve({"b": "x"}, table) == {"a": 1, "b": "x"}
    assert table["a"].default == 1


def test_an_unknown_key_is_said_before_a_missing_one():
    with pytest.raises(RequestError, match="unknown key 'modl'; did you mean 'model'"):
        resolve({"modl": "x"}, {"model": Setting(str, "what", required=True)})


def test_explain():
    table = {
        "model": Setting(str, "what is run", required=True),
        "n": Setting(int, "how many; not set: all"),
        "save": Setting(bool, "keep it", False),
    }
    assert explain(table).splitlines() == [
        "  model=  what is run (required)",
        "  n=      how many; not set: all",
        "  save=   keep it (default false)",
    ]
    assert explain({}) == ""


def test_explain_under_headings_leaves_single_terms_out():
    table = {
        "share": Setting(float, "all", shown=0.1),
        "share.cwd": Setting(float, "one"),
        "n": Setting(int, "how many"),
    }
    assert explain(table, {"Most": ["n"], "More": ["share"]}) == (
        "Most:\n  n=      how many\n\nMore:\n  share=  all (default 0.1)"
    )


TEXTS = [
    "True", "false", "None", "none", "1e-3", "0.01", "16", "-1", "1_000", "007", "cpu", "[0, 1]", "[640,480]", "(1, 2)",
    "yolo26n.pt", "0.5", ".5", "1e2", "on", "off", "yes", "no", "~", "null", '"x"', "'cpu'", "data/a.yaml", "1:30",
    "2024-01-01", "nan", "inf", "-inf", "[a]", "{'a': 1}", "a: b", "[1", "#", "0x10", "cuda:0", "+3", "1.0.0",
    "[" * 300,
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_host_settings_are_read_as_the_host_reads_them(text):
    pytest.importorskip("ultralytics")
    from ultralytics.cfg import parse_key_value_pair

    for key in ("lr0", "name", "project", "optimizer"):
        (ours,) = host_settings({key: text}).values()
        _, theirs = parse_key_value_pair(f"{key}={text}")
        assert (type(ours), ours) == (type(theirs), theirs)


def test_a_list_of_devices_stays_text_and_other_lists_do_not():
    """The host's rank workers split `device` at its commas; `classes` as text would silently match no label."""
    assert host_settings({"device": "0,1", "classes": "0,1"}) == {"device": "0,1", "classes": (0, 1)}
    assert host_settings({"device": "0"}) == {"device": 0}
    assert host_settings({"freeze": "0,1"}) == {"freeze": [0, 1]}  # the host freezes nothing by a tuple
    assert host_settings({"device": "none", "name": "None"}) == {"device": None, "name": None}


def test_what_may_be_left_open_can_be_given_as_open():
    table = {"gain": Setting(float, "how much", low=0, nullable=True), "n": Setting(int, "how many")}
    assert given(resolve({}, table)) == {}
    assert given(resolve({"gain": "null", "n": "null"}, table)) == {"gain": None}
    assert given(resolve({"gain": "0.5"}, table)) == {"gain": 0.5}
    with pytest.raises(RequestError, match="gain=-1: must be at least 0"):
        resolve({"gain": "-1"}, table)


def test_a_host_setting_without_a_value_is_refused():
    with pytest.raises(RequestError, match="lr0= has no value"):
        host_settings({"lr0": ""})
