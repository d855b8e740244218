"""`yolo-distill predict`: find objects in pictures and videos with an exported file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_distill.errors import RequestError
from yolo_distill.files import check_folder, new_file
from yolo_distill.given_files import exported_only
from yolo_distill.settings import Setting
from yolo_distill.spelling import WEIGHTS, Also

if TYPE_CHECKING:
    from yolo_distill.runtime.detector import Detector
    from yolo_distill.runtime.sources import Item

SUMMARY = "find objects in pictures, videos, cameras and streams with an .onnx file"

#: What a model looks like, and what else is something to look at.
MODEL, SOURCE = r"\.(onnx|pt)$", r"^(?!.*\.(onnx|pt|ya?ml)$)"

#: Where `yolo` runs a model; onnxruntime has its own words.
ALSO: Also = {
    **WEIGHTS,
    "device": {
        "cpu": "providers=cpu", **dict.fromkeys(("0", "cuda", "cuda:0", "gpu"), "providers=cuda,cpu"), "none": "",
    },
}  # fmt: skip

LOOK_FIRST = exported_only

#: Scores below which hardly a box is right, so that no one is sent there.
_LOW = 0.05
#: Of predict and webcam alike, about the detector and what it is to find.
OF_DETECTOR = {
    "conf": Setting(float, "scores have to be above", 0.25, low=0, high=1),
    "iou": Setting(float, "overlap above which the worse of two boxes goes", 0.7, low=0, high=1),
    "max_det": Setting(int, "most detections of a picture", 300, low=1, high=100_000),
    "classes": Setting(str, "classes to look for, by number or name: 0,2 or cat,dog; not set: all"),
    "imgsz": Setting(str, "input size in pixels, or height,width, for a file with a dynamic input"),
    "providers": Setting(str, "onnxruntime's execution providers: cpu or cuda,cpu; not set: cuda where it is there"),
    "threads": Setting(int, "threads for one operator; not set: onnxruntime decides", low=1, high=1024),
}

SETTINGS = {
    "model": Setting(str, "exported file (.onnx)", required=True, alone=MODEL),
    "source": Setting(
        str, "picture, folder, pattern, video, number of a camera, or stream address", required=True, alone=SOURCE
    ),
    **OF_DETECTOR,
    "agnostic": Setting(bool, "boxes of different classes suppress each other as well", False),
    "save": Setting(bool, "write annotated pictures and videos", True),
    "save_txt": Setting(bool, "write YOLO labels", False),
    "save_conf": Setting(bool, "labels hold the confidence as well", False),
    "jsonl": Setting(str, "file for one JSON line a picture"),
    "out": Setting(str, "folder for the results; predict2, predict3, ... where it is taken", "runs/predict"),
    "exist_ok": Setting(bool, "write into out= itself even if it is there", False),
    "vid_stride": Setting(int, "look at every n-th frame of a video", 1, low=1, high=100_000),
    "show": Setting(bool, "show each picture in a window; q or Esc ends it", False),
}

NOTES = "Ctrl-C finishes the files that are open. A file that cannot be read is named and skipped (exit code 1)."


def run(settings: dict[str, Any]) -> int:
    """Find, write, and say what was found; return 1 if a file could not be read."""
    from yolo_distill.runtime.prediction import Prediction
    from yolo_distill.runtime.progress import Progress
    from yolo_distill.runtime.sources import find as find_sources

    items = find_sources(settings["source"])
    out = Path(settings["out"]).expanduser()
    if settings["save"] or settings["save_txt"]:
        check_folder(out, f"out={settings['out']}")
    if settings["exist_ok"]:
        _spare_sources(out, settings, items)
    jsonl = new_file("jsonl", settings, read=("model", "source"))
    if jsonl and jsonl.exists():
        files = (Path(item.name).expanduser() for item in items if not item.live)
        if any(file.exists() and jsonl.samefile(file) for file in files):
            raise RequestError(f"jsonl={settings['jsonl']}: is one of the files of source=; give another name")
    detector, find = open_detector(settings)
    as_given = {key: settings[key] for key in ("exist_ok", "save", "save_txt", "save_conf", "vid_stride", "show")}
    find |= {"agnostic": settings["agnostic"]}
    outcome = Prediction(detector, items, Progress(), find=find, out=out, jsonl=jsonl, **as_given).run()
    print(outcome.summary())
    if outcome.pictures + outcome.frames and not outcome.found:
        looked_for = " or leave classes= out," if settings["classes"] else ""
        lower = f"try a lower conf=,{looked_for} " if settings["conf"] > _LOW else ""
        print(
            f"nothing scored conf={settings['conf']:g} or more: {lower}and look whether the pictures are like those "
            "that the model was trained on"
        )
    if jsonl:
        print(f"JSON lines: {jsonl}")
    if outcome.interrupted:
        raise KeyboardInterrupt
    return 1 if outcome.skipped else 0


def open_detector(settings: Mapping[str, Any]) -> tuple[Detector, dict[str, Any]]:
    """Return the detector that the settings of `OF_DETECTOR` describe, and what it is called with.

    Raises:
        RequestError: the model can't be opened so, or has no such class.
    """
    from yolo_distill.runtime.detector import Detector

    imgsz = read_imgsz(settings["imgsz"])
    detector = Detector(settings["model"], imgsz=imgsz, providers=settings["providers"], threads=settings["threads"])
    classes = read_classes(settings["classes"])
    find = {key: settings[key] for key in ("conf", "iou", "max_det")}
    return detector, {**find, "classes": None if classes is None else detector.class_ids(classes)}


def read_imgsz(text: str | None) -> tuple[int, int] | None:
    """Return height and width from "640" or "384,640"; refuse all else."""
    if text is None:
        return None
    parts = text.strip("[]() ").replace("x", ",").split(",")
    if len(parts) in {1, 2} and all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise RequestError(f"imgsz={text}: expected a number of pixels, or height,width")


def read_classes(text: str | None) -> list[str] | None:
    """Return the numbers or names in "0,2" or "cat,dog"; None for all. A text without any is refused."""
    if text is None:
        return None
    classes = [part.strip() for part in text.strip("[]() ").split(",") if part.strip()]
    if not classes:
        raise RequestError(f"classes={text}: expected numbers or names with commas between; leave it out for all")
    return classes


def _spare_sources(out: Path, settings: Mapping[str, Any], items: Iterable[Item]) -> None:
    """Refuse to write into the folder of what is read, or of its labels: a result has the name of its picture."""
    folders = {Path(item.name).expanduser().parent for item in items if not item.live}
    for wanted, place, others, what in (
        ("save", out, folders, "is where source= lies, whose files"),
        ("save_txt", out / "labels", map(_labels_of, folders), "holds the labels of source=, which"),
    ):
        if settings[wanted] and place.is_dir() and any(one.is_dir() and one.samefile(place) for one in others):
            raise RequestError(f"out={settings['out']}: {what} would be replaced; give another folder")


def _labels_of(folder: Path) -> Path:
    """Return where labels of the pictures in a folder are looked for: `labels` in the place of the last `images`."""
    before, images, after = f"{folder.absolute()}{os.sep}".rpartition(f"{os.sep}images{os.sep}")
    return Path(f"{before}{os.sep}labels{os.sep}{after}") if images else folder
