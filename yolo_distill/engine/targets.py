"""The files in `export/`: who an exported model is for, and how it is made for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.paths import export_dir

PRECISIONS = ("fp32", "fp16", "int8")
INPUTS = ("floats", "pictures")

_FIXED = {"format": "onnx", "dynamic": False}
_KEYS = {"for", "format", "dynamic", "opset", "simplify", "precisions", "input", "delegates", "ort", "advice"}


@dataclasses.dataclass(frozen=True)
class Target:
    """What a file in `export/` says.

    Attributes:
        name: the file's name without `.yaml`.
        audience: who the exported file is for.
        opset: ONNX operator set.
        simplify: whether the traced graph is slimmed.
        precisions: what is on offer; the first is what is made when nothing is said.
        input: `floats`, (1, 3, H, W) from 0 to 1, or `pictures`, (1, H, W, 3) uint8.
        delegates: whether the graph is rewritten for the GPU and NPU delegates of phones, and has to pass their check.
        ort: whether an `.ort` file and the operator list for a reduced runtime are written as well.
        advice: one line for whoever ships the file.
    """

    name: str
    audience: str
    opset: int
    simplify: bool
    precisions: tuple[str, ...]
    input: str
    delegates: bool
    ort: bool
    advice: str


def load_target(name: str) -> Target:
    """Read a target file of `export/`.

    Raises:
        RequestError: there is no such target, or it says something that cannot be made.
    """
    known = {file.stem: file for file in export_dir().glob("*.yaml")}
    if name not in known:
        raise RequestError(f"target={name}: unknown{did_you_mean(name, known)} (known: {', '.join(sorted(known))})")
    plan = yaml.safe_load(known[name].read_text(encoding="utf-8"))
    _check(name, known[name], plan)
    return Target(
        name=name,
        audience=str(plan["for"]),
        opset=int(plan["opset"]),
        simplify=bool(plan["simplify"]),
        precisions=tuple(plan["precisions"]),
        input=str(plan["input"]),
        delegates=bool(plan["delegates"]),
        ort=bool(plan["ort"]),
        advice=str(plan["advice"]),
    )


def _check(name: str, file: Path, plan: dict[str, Any]) -> None:
    if missing := sorted(_KEYS - plan.keys()):
        raise RequestError(f"target={name}: {file} lacks {', '.join(missing)}")
    if unknown := sorted(plan.keys() - _KEYS):
        raise RequestError(
            f"target={name}: {file} says {unknown[0]}{did_you_mean(unknown[0], _KEYS)}, which is unknown"
        )
    for key, value in _FIXED.items():
        if plan[key] != value:
            raise RequestError(f"target={name}: {key} is {plan[key]!r} in {file}, only {value!r} is made here")
    for key, values, made in (("precisions", plan["precisions"], PRECISIONS), ("input", [plan["input"]], INPUTS)):
        for value in values:
            if value not in made:
                raise RequestError(
                    f"target={name}: {key} has {value!r} in {file}{did_you_mean(str(value), made)} "
                    f"(made here: {', '.join(made)})"
                )
