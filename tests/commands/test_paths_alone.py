"""Which setting a path alone is, in each command."""

from __future__ import annotations

import pytest

from yolo_distill import cli
from yolo_distill.errors import RequestError
from yolo_distill.spelling import read_words


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("export best.pt data.yaml", "model data"),
        ("val data.yaml best.onnx", "data model"),
        ("predict pictures/ best.onnx", "source model"),
        ("webcam best.onnx 0", "model source"),
        ("serve best.onnx", "model"),
        ("label best.pt pictures/", "teacher source"),
        ("train teacher=a.pt data=d.yaml b.yaml", "teacher data student"),
        ("compare a.pt b.pt", None),
        ("train data.yaml", None),
    ],
)
def test_a_path_alone(words, meant):
    name, *words = words.split()
    table = cli._explained(cli._load(name))
    if meant is None:
        with pytest.raises(RequestError, match=rf"type one, such as: yolo-distill {name} teacher={words[0]}"):
            read_words(words, name, table)
    else:
        assert read_words(words, name, table) == dict(
            zip(meant.split(), (word.rpartition("=")[2] for word in words), strict=True)
        )


def test_several_models_alone():
    table = cli._explained(cli._load("benchmark"))
    assert read_words(["a.onnx", "d.yaml", "b.pt"], "benchmark", table) == {"model": "a.onnx,b.pt", "data": "d.yaml"}
