"""Architectures of any width, depth and activation, made from one that there is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from yolo_distill.errors import RequestError
from yolo_distill.files import write_bytes
from yolo_distill.models.architecture_files import build_plan, is_architecture, read_plan
from yolo_distill.models.architectures import KINDS, require_plan
from yolo_distill.recipe_table import ACTIVATIONS

#: Widths are tried in steps of so many channels of 1,024, when one is looked for that can be built.
_STEP = 8 / 1024


def sized_student(student: str, sizes: Mapping[str, Any], folder: Path) -> str:
    """Return the student of a run, written to a folder as an architecture of its own where a size of it is given.

    Args:
        student: see `sized_plan`.
        sizes: see there.
        folder: which is made; the same request finds the same file again.

    Raises:
        RequestError: as `sized_plan`.
    """
    sized = sized_plan(student, sizes)
    return student if sized is None else write_plan(sized[0], folder)


def sized_plan(student: str, sizes: Mapping[str, Any]) -> tuple[dict[str, Any], str] | None:
    """Return the architecture of a student of which a size is given, and those sizes in words; None where none is.

    Args:
        student: weights or architecture, as given.
        sizes: `student_width`, `student_depth` and `student_act`; None where not given.

    Raises:
        RequestError: weights, whose size can't change; or the host can't build it.
    """
    given = {key: value for key, value in sizes.items() if value is not None}
    if not given:
        return None
    key, value = next(iter(given.items()))
    if not is_architecture(student):
        raise RequestError(
            f"{key}={value}: student={student} has a size of its own; give an architecture, such as "
            "student=yolo26n.yaml, or make weights of that size with yolo-distill shrink"
        )
    plan = resized(read_plan(student, "student"), *sizes.values(), said=f"student={student}")
    said = " ".join(f"{key}={value}" for key, value in given.items())
    require_buildable(plan, said)
    return plan, said


def write_plan(plan: Mapping[str, Any], folder: Path) -> str:
    """Write an architecture that `resized` returned into a folder, which is made, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / str(plan["yaml_file"])
    told = {key: value for key, value in plan.items() if key not in {"scale", "yaml_file"}}
    write_bytes(file, yaml.safe_dump(told, sort_keys=False, default_flow_style=None).encode())
    return str(file)


def resized(
    plan: Mapping[str, Any], width: float | None, depth: float | None, act: str | None, *, said: str
) -> dict[str, Any]:
    """Return an architecture with another width, depth or activation; one of None stays.

    Its name says what it is, such as `yolo26n-w0.19-relu.yaml`.

    Args:
        plan: as `read_plan` returns it, or a model of the host has it.
        width: channels, as a share of those that the rows of the architecture name.
        depth: repeats, likewise.
        act: a key of `ACTIVATIONS`.
        said: what a message begins with.

    Raises:
        RequestError: it is no architecture.
    """
    require_plan(plan, KINDS, said)
    new = copy.deepcopy(dict(plan))
    if scales := new.get("scales"):
        scale = new.get("scale") or next(iter(scales))
        if scale not in scales:
            raise RequestError(f"{said}: its scales have no {scale!r} ({', '.join(map(str, scales))})")
        deep, wide, most = scales[scale]
        new["scales"] = {scale: [deep if depth is None else depth, wide if width is None else width, most]}
    else:
        new |= {"depth_multiple": depth} if depth is not None else {}
        new |= {"width_multiple": width} if width is not None else {}
    if act is not None:
        new["activation"] = f"torch.nn.{ACTIVATIONS[act]}()"
    words = {"w": width, "d": depth, "": act}
    stem = Path(str(new.get("yaml_file") or "student")).stem
    new["yaml_file"] = "-".join([stem, *(f"{key}{word}" for key, word in words.items() if word is not None)]) + ".yaml"
    return new


def width_of(plan: Mapping[str, Any]) -> float:
    """Return the width of an architecture: channels, as a share of those that its rows name."""
    scales = plan.get("scales")
    width = scales[plan.get("scale") or next(iter(scales))][1] if scales else plan.get("width_multiple", 1.0)
    return float(width)


def require_buildable(plan: dict[str, Any], said: str) -> None:
    """Refuse a size that the host can't build, and name the next ones that it can.

    Attention parts its channels into heads of 64 or more; where these don't divide, the host's layer fails.

    Raises:
        RequestError: saying what went wrong.
    """
    try:
        build_plan(plan, None, said)
    except RequestError as error:
        near = [f"{width:g}" for width in _near(plan)]
        raise RequestError(f"{error}; widths near by that can be built: {', '.join(near) or 'none'}") from None


def _near(plan: dict[str, Any]) -> Iterator[float]:
    """Yield the next smaller and larger width that the host can build."""
    width = width_of(plan)
    for sign in (-1, 1):
        for step in range(1, 17):
            other = round((round(width / _STEP) + sign * step) * _STEP, 6)
            if other <= 0:
                break
            try:
                build_plan(resized(plan, other, None, None, said="near"), None, "near")
            except RequestError:
                continue
            yield other
            break
