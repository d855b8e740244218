"""The files that `data=`, `model=`, `teacher=` and `student=` name; looked for before anything heavy is imported."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError, did_you_mean, missing_extra
from yolo_distill.files import typed

#: How the names of Ultralytics' own weights begin, which it fetches.
_OFFICIAL = re.compile(r"yolo|rt-?detr|sam|fast-?sam|mobile", re.IGNORECASE)


def find_data_file(data: str | Path) -> tuple[Path, bool]:
    """Return the file of a data set, and whether the host brings it along.

    Args:
        data: path of a `.yaml` file, or the bare name of one of the host's.

    Raises:
        RequestError: it is not there, or is something else; or Ultralytics is not, which may have it.
    """
    said, file = f"data={data}", Path(str(data)).expanduser()
    if file.is_dir():
        inside = sorted(found.name for found in file.glob("*.y*ml"))
        hint = f"; did you mean {str(file / inside[0])!r}?" if inside else "; give the .yaml file that describes it"
        raise RequestError(f"{said}: is a folder{hint}")
    shipped: dict[str, Path] = {}
    if not file.exists() and file.name == str(data):
        shipped = {found.name: found for found in _host_folder(said).glob("*.yaml")}
        if file.name in shipped:
            return shipped[file.name], True
    if not file.is_file():
        near = [found.name for found in file.parent.glob("*.y*ml")]
        hint = did_you_mean(file.name, [*near, *shipped], 0.8)  # all end alike
        raise RequestError(f"{said}: no such file{hint}")
    if file.suffix.lower() not in {".yaml", ".yml"}:
        what = file.suffix or "nameless"
        raise RequestError(f"{said}: a data set is described by a .yaml file, this is a {what} one")
    return file, False


def _host_folder(said: str) -> Path:
    """Return where Ultralytics has its data set files; looking for a package does not import it."""
    found = find_spec("ultralytics")
    if found is None:
        raise missing_extra("ultralytics", said)
    return Path(str(found.origin)).parent / "cfg" / "datasets"


def check_model_files(values: Mapping[str, Any]) -> None:
    """Refuse a checkpoint or an exported file that is certainly not there.

    What may be one of Ultralytics' own, or lie where it keeps those, is left to whoever opens it, and so is anything
    that has no end of such a file: an architecture, a torchvision detector, stored answers.

    Raises:
        RequestError: no such file.
    """
    for key in ("model", "teacher", "student"):
        text = str(values.get(key) or "")
        # One file may have a comma in its name; of several, the one that is not there is named.
        for part in [text] if Path(text).expanduser().exists() else map(str.strip, text.split(",")):
            file = Path(part).expanduser()
            if ":" in part or file.suffix.lower() not in {".pt", ".onnx"} or file.exists():
                continue
            bare = file.suffix.lower() == ".pt" and file.name == part
            if bare and (_OFFICIAL.match(part) or _may_be_kept(part)):
                continue
            near = [found.name for found in file.parent.glob(f"*{file.suffix}")]
            official = ", and no official model of that name" if bare else ""
            raise RequestError(f"{key}={part}: no such file{official}{did_you_mean(file.name, near)}")


def exported_only(values: Mapping[str, Any]) -> None:
    """Refuse a checkpoint where only an exported file runs.

    Raises:
        RequestError: it has to be exported first.
    """
    model = str(values.get("model") or "")
    if model.lower().endswith(".pt"):
        command = typed("yolo-distill", "export", f"model={model}")
        raise RequestError(f"{model}: is a checkpoint; export it first: {command}")


def _may_be_kept(name: str) -> bool:
    """Return whether Ultralytics may have the file in its folder of weights, which its settings name."""
    try:
        settings = json.loads((_config_dir() / "settings.json").read_text(encoding="utf-8"))
        return (Path(settings["weights_dir"]) / name).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return True  # it was never started here, or keeps its settings otherwise


def _config_dir() -> Path:
    """Return where Ultralytics keeps its settings, as its `get_user_config_dir` says."""
    usual = {"darwin": "Library/Application Support", "win32": "AppData/Roaming"}.get(sys.platform, ".config")
    xdg = os.environ.get("XDG_CONFIG_HOME", "") if sys.platform == "linux" else ""
    return Path(os.environ.get("YOLO_CONFIG_DIR") or xdg or Path.home() / usual).expanduser() / "Ultralytics"
