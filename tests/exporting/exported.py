"""What the tests of exports share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yolo_distill.errors import DistillError

SIDE = 96
LENIENT = {"max_drop": 100.0}  # an untrained detector's mAP says nothing


def refusal(kind: type[DistillError], export: Callable[..., Any], *args: Any, **options: Any) -> str:
    """Return the one line of an export's complaint."""
    with pytest.raises(kind) as caught:
        export(*args, **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listing(folder: Path) -> list[str]:
    """Return the names of what lies in a folder."""
    return sorted(file.name for file in folder.iterdir())


def scale(file: Path, factor: float, which: Callable[[list[Any]], list[Any]]) -> None:
    """Scale some of a file's convolutions in place; `which` picks them among all of their weights."""
    graph = onnx.load(str(file))
    for one in which([one for one in graph.graph.initializer if len(one.dims) == 4]):
        one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) * np.float32(factor), one.name))
    onnx.save(graph, str(file))


def middle(weights: list[Any]) -> list[Any]:
    """Pick one convolution in the middle."""
    return [weights[len(weights) // 2]]


def class_branches(weights: list[Any]) -> list[Any]:
    """Pick the class branches' last convolutions."""
    return [one for one in weights if one.dims[0] == 2]
