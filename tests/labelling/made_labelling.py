"""A teacher that answers at once, pictures that it answers differently to, and a process that can be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from yolo_distill.address import Address, Mirror
from yolo_distill.labelling.manifest import fetch
from yolo_distill.labelling.objects import Found
from yolo_distill.labelling.parquet import FOLDER, read_part, rows_of
from yolo_distill.labelling.request import Request
from yolo_distill.teachers.answer import SetAnswer, make_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.teacher import Teacher

NAMES = {0: "disc", 1: "square"}
IMGSZ = 64


class MadeTeacher(Teacher):
    """Finds a disc on the left, the surer the brighter the picture is, and a square on the right, the other way round.

    Pictures darker than a tenth are empty to it.
    """

    def __init__(self, names: dict[int, str] | None = None) -> None:
        self.names = dict(names or NAMES)
        self.strides: list[int] = []
        self.widths: dict[int, int] = {}
        self.needs = Needs()
        self.sizes: list[int] = []

    def __call__(self, images: Tensor) -> SetAnswer:
        self.sizes.append(len(images))
        side, classes = images.shape[-1], len(self.names)
        inner = images[:, :, side // 3 : -side // 3, side // 3 : -side // 3].mean((1, 2, 3))
        boxes, scores = [], []
        for brightness in inner.tolist():
            box = torch.tensor([[0.25, 0.3, 0.5, 0.7], [0.55, 0.3, 0.75, 0.7]]) * side
            row = torch.full((2, classes), 0.01)
            row[0, 0], row[1, 1 % classes] = brightness, 1 - brightness
            count = 2 if brightness >= 0.1 else 0
            boxes.append(box[:count])
            scores.append(row[:count])
        return make_set(boxes, scores, classes)

    def wait(self, answer: SetAnswer) -> None:
        pass


def opener(request: Request) -> tuple[MadeTeacher, int]:
    """Open it in place of what `teacher=` names."""
    return MadeTeacher(), request.imgsz or IMGSZ


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (48, 64), first: int = 0) -> list[Path]:
    """Write pictures (height, width) of different brightness: the third of them is dark, the others follow."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(first, first + count):
        level = 10 if number % 7 == 2 else 60 + 37 * number % 180
        file = folder / f"{number:04d}.jpg"
        cv2.imwrite(str(file), np.full((*size, 3), level, np.uint8))
        files.append(file)
    return files


def write_film(path: Path, frames: int, change: int = 1) -> Path:
    """Write a video of noise that changes every so manieth frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    random = np.random.default_rng(0)
    for number in range(frames):
        if number % change == 0:
            image = cv2.resize(random.integers(30, 250, (6, 8, 3), dtype=np.uint8), (64, 48))
        writer.write(image)
    writer.release()
    return path


def request(source: Path | str, out: Path, **changes: Any) -> Request:
    """Return a request with the made teacher in mind."""
    return Request(**{"teacher": "made", "source": str(source), "out": out, "device": "cpu", **changes})


def at(address: str, machine: Path, **changes: Any) -> dict[str, Any]:
    """Return the settings of a request at an address, for which a folder of a machine stands, as the command does."""
    mirror = Mirror(Address(address), machine)
    fetch(mirror)
    return {"out": machine, "mirror": mirror, **changes}


def followed(found: dict[str, bytes]) -> dict[str, bytes]:
    """Return the content of a data set with the pictures that links lead to."""
    return {name: Path(data.decode()).read_bytes() if data[:1] == b"/" else data for name, data in found.items()}


def content(out: Path) -> dict[str, bytes]:
    """Return labels and links of a data set by name: what has to be the same, byte for byte."""
    labels = {f"labels/{path.name}": path.read_bytes() for path in (out / "labels" / "train").iterdir()}
    images = {
        f"images/{path.name}": str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in (out / "images" / "train").iterdir()
    }
    return labels | images


def start(
    source: Path | str, out: Path, *, slow: float, address: str | None = None, **changes: Any
) -> subprocess.Popen[bytes]:
    """Label in a process of its own, with a pause before each answer; at an `address`, `out` stands for it."""
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import made_labelling as made
from yolo_distill.labelling.run import label
class Slow(made.MadeTeacher):
    def __call__(self, images):
        time.sleep({slow})
        return super().__call__(images)
out, asked = made.Path({str(out)!r}), {changes!r}
asked = made.at({address!r}, out, **asked) if {address!r} else dict(asked, out=out)
label(made.request({str(source)!r}, **asked), opener=lambda request: (Slow(), {IMGSZ}))
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)


def soft_answers(out: Path) -> dict[str, Found]:
    """Return what the teacher said about each picture of a data set, by its name in `images/train`."""
    parts = sorted((out / FOLDER).glob("part-*.parquet"))
    return {row.file: row.found for part in parts for row in rows_of(read_part(part)) if row.file}
