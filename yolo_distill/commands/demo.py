"""`yolo-distill demo`: everything on drawn scenes, offline, in a few minutes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError, importing_for
from yolo_distill.files import remove_all, write_bytes
from yolo_distill.settings import Setting

SUMMARY = "everything in a few minutes: draws a data set, distils, exports, proves, predicts, compares"

SETTINGS = {
    "out": Setting(str, "folder for everything; an earlier demo in it is replaced", "runs/demo"),
    "seed": Setting(int, "of the drawn scenes and of the trainings", 0, low=0, high=2**31 - 1),
    "quick": Setting(bool, "a few steps only, to see that everything runs; the figures mean nothing then", False),
}

NOTES = "Nothing is downloaded. At most five minutes on two cores; Ctrl-C ends it, and the next demo starts anew."

_MARK = "demo.json"

#: What a demo leaves in its folder. A folder that holds anything else is not ours to empty.
_OURS = {
    _MARK, "data", "logs", "teacher", "plain", "distilled", "distilled.onnx", "distilled.json", "distilled.md",
    "pictures", "contact-sheet.jpg",
}  # fmt: skip
#: What a demo that was killed may leave besides: files and folders that were not finished.
_UNFINISHED = (".demo.", ".distilled")


def run(settings: dict[str, Any]) -> None:
    """Run the demo, in a folder that holds nothing else."""
    out = Path(settings["out"]).expanduser()
    earlier = _check(out, settings["out"])
    # The host reads these when it is first imported; the trainings' processes inherit them.
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    with importing_for("demo"):
        from yolo_distill.demo.demo import demo
    _claim(out, settings["out"], earlier)
    demo(out.resolve(), seed=settings["seed"], quick=settings["quick"])


def _check(out: Path, said: str) -> list[Path]:
    """Return what an earlier demo left in `out`, before anything is changed.

    Raises:
        RequestError: it is a file, or holds what no demo made.
    """
    if not out.exists():
        return []
    if not out.is_dir():
        raise RequestError(f"out={said}: is a file; give the name of a folder")
    inside = sorted(out.iterdir())
    foreign = [path.name for path in inside if path.name not in _OURS and not path.name.startswith(_UNFINISHED)]
    if inside and (foreign or not _is_mark(out / _MARK)):
        what = foreign[0] if foreign else inside[0].name
        raise RequestError(f"out={said}: holds something else ({what}); give a new or empty folder")
    return inside


def _is_mark(file: Path) -> bool:
    try:
        return "finished" in json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _claim(out: Path, said: str, earlier: list[Path]) -> None:
    """Empty the folder of an earlier demo and mark it as one, so that a demo cut short can be replaced as well."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_bytes(out / _MARK, b'{"finished": false}\n')
        remove_all(earlier, but=_MARK)
    except OSError as error:
        raise RequestError(f"out={said}: cannot be written ({error.strerror}); give another folder") from error
