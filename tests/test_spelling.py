"""What may be typed or given in Python for `key=value`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from yolo_distill.errors import RequestError
from yolo_distill.settings import Setting
from yolo_distill.spelling import arguments, read_values, read_words

TABLE = {
    "model": Setting(str, "a file", required=True, alone=r"\.(pt|onnx)$"),
    "student": Setting(str, "a file", alone=r"\.(pt|yaml)$"),
    "source": Setting(str, "pictures", alone=r"\.png$", several=True),
    "max_det": Setting(int, "most", 300),
    "trust": Setting(bool, "go on", False),
    "gain": Setting(float, "how much", nullable=True),
    "share": Setting(float, "of each", per_term=True),
    "share.cwd": Setting(float, "of one"),
}


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        (
            "model=a.pt --max-det=3 source=rtsp://x?a=b model=b.pt empty=",
            "model=b.pt max_det=3 source=rtsp://x?a=b empty=",
        ),
        ("--max-det 3 --epochs 5", "max_det=3 epochs=5"),
        ("--lr0 -1", "lr0=-1"),
        ("max_det = 3", "max_det=3"),
        ("--trust model=a.pt", "trust=true model=a.pt"),
        ("--trust no a.onnx", "trust=no model=a.onnx"),
        ("a.ONNX", "model=a.ONNX"),
        ("--trust a.onnx", "trust=true model=a.onnx"),
        ("a.pt model=b.onnx", "model=b.onnx student=a.pt"),
        ("1.png a.yaml 2.png", "source=1.png,2.png student=a.yaml"),
    ],
)
def test_words(words, pairs):
    wanted = dict(pair.split("=", 1) for pair in pairs.split())
    assert read_words(words.split(), "try", TABLE) == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["best"], "'best' is not of the form key=value"),
        ([""], "'' is not of the form key=value"),
        (["=x"], "'=x' is not of the form key=value"),
        (["--=x"], "'--=x' is not of the form key=value"),
        (["a.pt"], "'a.pt' can be model= or student=; type one, such as: yolo-distill try model=a.pt"),
        (["a.onnx", "b.onnx"], "'b.onnx' is one too many: model=a.onnx is given; a pattern goes in quotes"),
        (["--max-det", "model=a.pt"], "--max-det has no value; type max_det=VALUE"),
        (["--max-det"], "--max-det has no value; type max_det=VALUE"),
        (["trust"], "'trust' has no value; type trust=true"),
    ],
)
def test_words_that_mean_nothing_or_too_much(words, message):
    with pytest.raises(RequestError) as error:
        read_words(words, "try", TABLE)
    assert str(error.value) == message


def command(**more):
    return SimpleNamespace(SETTINGS=TABLE, **more)


ALSO = {
    "half": {"true": "max_det=16", "false": ""},
    "weights": {"*": "model=*"},
    "device": {"cpu": "max_det=1", "gpu": "max_det=1"},
}


@pytest.mark.parametrize(
    ("pairs", "key", "value"),
    [
        ({"weights": "a.pt"}, "model", "a.pt"),
        ({"model": "a.pt", "half": "True"}, "max_det", 16),
        ({"model": "a.pt", "half": "no"}, "max_det", 300),
        ({"model": "a.pt", "half": True, "max_det": "16"}, "max_det", 16),
        ({"model": "a.pt", "device": None}, "max_det", 300),
    ],
)
def test_words_of_other_programs(pairs, key, value):
    (settings,) = arguments(command(ALSO=ALSO), pairs)
    assert settings[key] == value


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"half": "true", "max_det": "3"}, "half=true: means max_det=16, and max_det=3 is given; leave one out"),
        ({"device": "7"}, "device=7: is not known here; type max_det=1"),
    ],
)
def test_words_of_other_programs_that_do_not_fit(pairs, message):
    with pytest.raises(RequestError) as error:
        arguments(command(ALSO=ALSO), {"model": "a.pt", **pairs})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("model", Path("a.pt"), "a.pt"),
        ("model", [Path("a.pt"), "b.onnx"], "a.pt,b.onnx"),
        ("max_det", np.int64(3), "3"),
        ("max_det", (384, 640), "384,640"),
        ("source", np.array([1, 2]), "1,2"),
        ("source", range(3), "0,1,2"),
        ("trust", True, "true"),
        ("trust", np.bool_(False), "false"),
        ("gain", 1e-3, "0.001"),
        ("gain", None, "null"),
    ],
)
def test_values_of_python(key, value, text):
    assert read_values({key: value}, TABLE) == {key: text}


def test_values_that_are_left_out_by_term_or_for_the_host():
    assert read_values({"max_det": None, "share": {"cwd": 0.2}}, TABLE) == {"share.cwd": "0.2"}
    assert read_values({"freeze": [0, 1], "project": Path("runs"), "device": None}, TABLE) == {
        "freeze": [0, 1], "project": "runs", "device": None,
    }  # fmt: skip


def test_values_that_cannot_be_typed():
    with pytest.raises(RequestError, match=r"^model=: takes text, a number, .*; got dict$"):
        read_values({"model": {"a": 1}}, TABLE)
    with pytest.raises(RequestError, match=r"^model=: takes text, .*; got object$"):
        read_values({"model": [object()]}, TABLE)


def test_a_yolo_is_its_file(tiny_teacher, tiny_student, tmp_path):
    from ultralytics import YOLO

    opened, built, loaded = YOLO(tiny_teacher), YOLO(tiny_student), YOLO(tiny_student).load(tiny_teacher)
    assert read_values({"model": opened}, TABLE) == {"model": tiny_teacher}
    Path("a.onnx").touch()
    assert read_values({"model": YOLO("a.onnx", task="detect")}, TABLE) == {"model": "a.onnx"}
    assert read_values({"model": built}, TABLE) == {"model": tiny_student}
    with pytest.raises(RequestError, match=r"^model=: takes a file or a YOLO .* save it, name the file$"):
        read_values({"model": built.model}, TABLE)
    with pytest.raises(RequestError, match=r"^model=: a YOLO whose weights are in no file; save it first"):
        read_values({"model": loaded}, TABLE)
