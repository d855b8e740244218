"""Opening an architecture: a `.yaml` file of the user's, the host's or of `cfg/models/`, and what is built from it."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT, ROOT

from yolo_distill.errors import RequestError, did_you_mean, one_line
from yolo_distill.models.architectures import (
    Kind,
    require_affordable,
    require_plan,
)
from yolo_distill.models.tasks import TASKS, task_of
from yolo_distill.paths import cfg_dir
from yolo_distill.validation import read_yaml

_SCALES = "nsmlx"


def is_architecture(path: str | Path) -> bool:
    """Return whether `path` names an architecture (`.yaml`), which has no weights yet, rather than a checkpoint."""
    return Path(path).suffix.lower() in {".yaml", ".yml"}


def read_plan(path: str | Path, role: str = "model") -> dict[str, Any]:
    """Return what an architecture says, as the host builds it.

    Args:
        path: a `.yaml` file, a name of the host's such as `yolo26n.yaml`, whose letter picks width and depth, or one of
            `cfg/models/`, such as `yolo26p.yaml`, also of another task: `yolo26p-seg.yaml`.
        role: the setting that named it, for the messages.

    Raises:
        RequestError: there is none, or it is no YAML file.
    """
    name, said = Path(path), f"{role}={path}"
    if not is_architecture(name):
        raise RequestError(f"{said}: an architecture is a .yaml file, such as yolo26n.yaml")
    _check_architecture_exists(name, said)
    for file in {name, _without_scale(name)}:
        if file.exists():
            read_yaml(file, said)
    nano, scales = _of_another_task(name)
    try:
        plan = yaml_model_load(nano or _of_ours(name))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise RequestError(f"{said}: is not a YAML file of keys and values ({one_line(error)})") from error
    plan["yaml_file"] = str(path)  # not where this package lies
    if nano:
        plan |= {"scales": scales, "scale": next(iter(scales))}
    if not plan["scale"] and isinstance(plan.get("scales"), dict):
        plan["scale"] = next(iter(plan["scales"]), "")  # which the host takes as well, with a warning
    return plan


def other_size(plan: Mapping[str, Any], letter: str) -> dict[str, Any] | None:
    """Return the architecture of another size of a family, such as `n`; None where there is none.

    Of `yolo26s-seg.yaml`, by what `read_plan` returned for it or a model of the host has, that is `yolo26n-seg.yaml`.
    """
    found = re.fullmatch(r"(.*\d)[a-z](-\w+)?", Path(str(plan.get("yaml_file"))).stem)
    try:
        return read_plan(f"{found[1]}{letter}{found[2] or ''}.yaml", "student") if found else None
    except RequestError:
        return None


def load_architecture(
    path: str | Path,
    nc: int | None = None,
    *,
    role: str = "model",
    kinds: Sequence[Kind] = ("yolo",),
    kpt_shape: Sequence[int] | None = None,
) -> DetectionModel:
    """Build a detector with random weights from an architecture.

    Args:
        path: see `read_plan`.
        nc: number of classes; the file's own when not given.
        role: the setting that named the file, for the messages.
        kinds: of detectors that are welcome.
        kpt_shape: of a pose model: keypoints, and values of each; the file's own when not given.

    Returns:
        the model, float32, eval mode, on the CPU; names are the class numbers.

    Raises:
        RequestError: there is no such architecture, the file describes none, or it is no detector of these kinds.
    """
    model = build_plan(read_plan(path, role), nc, f"{role}={path}", kinds, kpt_shape)
    model.args["model"] = str(path)
    return model


def build_plan(
    plan: dict[str, Any],
    nc: int | None,
    said: str,
    kinds: Sequence[Kind] = ("yolo",),
    kpt_shape: Sequence[int] | None = None,
    channels: int = 3,
) -> DetectionModel:
    """Build a detector with random weights from what `read_plan` returns; see `load_architecture`.

    Args:
        plan: stays as it is.
        nc: number of classes.
        said: what the message begins with.
        kinds: of detectors that are welcome.
        kpt_shape: of a pose model.
        channels: of its pictures.

    Raises:
        RequestError: it is no detector of these kinds, or the host can't build it.
    """
    build = require_plan(plan, kinds, said)
    own = {"nc": nc or plan["nc"], "channels": channels}  # given as arguments, the host remarks on them
    if kpt_shape and build is TASKS["pose"].model:
        own["kpt_shape"] = list(kpt_shape)
    try:
        require_affordable({**plan, **own}, said)
        model = build(copy.deepcopy({**plan, **own}), ch=channels, verbose=False)
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{said}: the host cannot build this architecture ({one_line(error)})") from error
    model.task = task_of(model)
    model.args = {**DEFAULT_CFG_DICT, "task": model.task}
    return model.eval()


def _check_architecture_exists(name: Path, said: str) -> None:
    if name.is_dir():
        raise RequestError(f"{said}: is a folder, not an architecture")
    if "'" in name.name:  # runs are named after it
        raise RequestError(f"{said}: Ultralytics opens no checkpoint with ' in its path; rename the file")
    if name.exists() or _without_scale(name).exists() or _of_ours(name).is_file() or _of_another_task(name)[0]:
        return
    if len(name.parts) > 1:
        near = [f.name for f in name.parent.glob("*.y*ml")] if name.parent.is_dir() else []
        raise RequestError(f"{said}: no such file{did_you_mean(name.name, near)}")
    known = _architectures()
    if name.name not in known:
        raise RequestError(f"{said}: no such file, and no architecture of that name{did_you_mean(name.name, known)}")


def _without_scale(name: Path) -> Path:
    """Return the file that is read: the scale letter is no part of its name, yolo26n.yaml is read from yolo26.yaml."""
    return name.with_name(re.sub(r"(\d+)[nslmx](.*)$", r"\1\2", name.name))


def _of_ours(name: Path) -> Path:
    """Return where an architecture lies: in `cfg/models/` where a bare name is that of one of ours, else as named."""
    ours = cfg_dir() / "models" / name
    return ours if len(name.parts) == 1 and not name.is_file() and ours.is_file() else name


def _of_another_task(name: Path) -> tuple[str, dict[str, Any]]:
    """Return of a pico or femto of another task the host's nano, and the scales of ours; nothing of anything else."""
    parts = re.fullmatch(r"(.*\d)([a-z])(-(?:seg|pose|obb))\.yaml", str(name))
    if parts is None or name.is_file():
        return "", {}
    ours = cfg_dir() / "models" / f"{parts[1]}{parts[2]}.yaml"
    return (parts.expand(r"\1n\3.yaml"), read_yaml(ours, str(ours))["scales"]) if ours.is_file() else ("", {})


def _architectures() -> list[str]:
    """Return the names the host knows, with and without scale letters."""
    names = []
    for file in sorted([*(ROOT / "cfg" / "models").rglob("*.yaml"), *(cfg_dir() / "models").glob("*.yaml")]):
        names.append(file.name)
        if parts := re.fullmatch(r"((?:yoloe-)?\D+\d+)(-.*)?", file.stem):
            names += [f"{parts[1]}{scale}{parts[2] or ''}.yaml" for scale in _SCALES]
    return names
