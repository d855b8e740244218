"""The pictures on which two detectors differ most, with boxes drawn: labels, plain and ours beside each other."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.data.samples import read_picture, reading_flag
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.box_matching import Boxes, Match, labels_of, match
from yolo_distill.files import printable
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.models.imgsz import channels_of
from yolo_distill.models.tasks import TASKS
from yolo_distill.runtime.writers import encoded, reduced

Picture = npt.NDArray[np.uint8]

#: Score from which on a box counts.
CONFIDENCE = 0.25
#: How many pictures are shown on which ours is better, and on which it is worse.
SHOWN = 3
#: Of a larger split, so many pictures are looked at, evenly spaced.
LOOKED_AT = 1000
_SIDE, _QUALITY = 480, 82
# Blue, green, red: told apart by colour-blind eyes as well.
_RIGHT, _FALSE, _MISSED = (115, 158, 0), (0, 94, 213), (240, 200, 60)


@dataclass(frozen=True)
class Shown:
    """One picture of the page.

    Attributes:
        name: of its file.
        scores: F1 of each detector, by label.
        panes: JPEG files as base64, by what they show: `labels` and each detector's label.
    """

    name: str
    scores: dict[str, float]
    panes: dict[str, str]


def most_different(
    weights: Mapping[str, Path], data: str, split: str, *, imgsz: int, device: Any, trust: bool
) -> list[Shown]:
    """Return the pictures on which two detectors differ most: first those where the second is better.

    Checkpoints are given by label, the one to compare with first.
    """
    found = check_data(data, split)
    files = pictures_of(found, split)
    spread = np.linspace(0, len(files) - 1, min(len(files), LOOKED_AT)).round().astype(int)
    files = [files[number] for number in dict.fromkeys(spread.tolist())]
    names = {int(index): str(name) for index, name in found["names"].items()}
    models = {label: load_detector(path, trust=trust) for label, path in weights.items()}
    boxes = {label: detect(model, files, imgsz=imgsz, device=device) for label, model in models.items()}
    base, ours = weights
    matches: dict[str, dict[str, Match]] = {}
    labels: dict[str, Boxes] = {}
    points = found.get("kpt_shape")
    for file in files:
        if file not in boxes[base] or file not in boxes[ours]:
            continue
        with suppress(RequestError):  # one that is damaged, or whose labels are, the evaluator has left out as well
            labels[file] = labels_of(file, _read(file).shape[:2], len(names), points)[0]
            matches[file] = {label: match(boxes[label][file], labels[file]) for label in weights}
    shown = []
    for file in choose({file: both[ours].f1 - both[base].f1 for file, both in matches.items()}):
        panes = {"labels": _drawn(_read(file), labels[file], None, labels[file], names)}
        for label in weights:
            panes[label] = _drawn(_read(file), boxes[label][file], matches[file][label], labels[file], names)
        scores = {label: round(matches[file][label].f1, 3) for label in weights}
        shown.append(Shown(printable(Path(file).name), scores, panes))
    return shown


def choose(lead: Mapping[str, float]) -> list[str]:
    """Return the files with the largest lead of ours, then those with the largest lag; equal ones are left out."""
    order = sorted(lead, key=lambda file: (-lead[file], file))
    better = [file for file in order if lead[file] > 0][:SHOWN]
    worse = [file for file in reversed(order) if lead[file] < 0][:SHOWN]
    return [*better, *worse]


def detect(model: DetectionModel, files: Sequence[str], *, imgsz: int, device: Any) -> dict[str, Boxes]:
    """Return the boxes that a model finds in each file, best first."""
    settings = {"imgsz": imgsz, "device": device, "conf": CONFIDENCE, "batch": 1, "mode": "predict"}
    settings["model"] = str(model.pt_path)
    predictor = TASKS[model.task].predictor(overrides={**settings, "verbose": False, "save": False})
    predictor.setup_model(model, verbose=False)
    found = {}
    channels = channels_of(model)
    for file in files:
        picture = read_picture(file, reading_flag(channels))
        if picture is None or picture.shape[-1] != channels:
            continue
        (result,) = predictor(source=picture)
        boxes = (result.obb if result.boxes is None else result.boxes).cpu().numpy()
        corners, classes = boxes.xyxy, boxes.cls
        order = np.argsort(-boxes.conf, kind="stable")
        found[file] = Boxes(corners[order].astype(np.float32), classes[order].astype(np.int64))
    return found


def _drawn(picture: Picture, boxes: Boxes, found: Match | None, labels: Boxes, names: Mapping[int, str]) -> str:
    """Return a picture with boxes as a JPEG file in base64: right ones, false ones by name, and labels missed."""
    canvas, scale = reduced(picture, _SIDE)
    for number in range(len(boxes)):
        right = found is None or bool(found.right[number])
        name = "" if right else names.get(int(boxes.classes[number]), "")
        _box(canvas, boxes.xyxy[number] * scale, _RIGHT if right else _FALSE, name)
    if found is not None:
        for number in np.flatnonzero(~found.seen).tolist():
            _box(canvas, labels.xyxy[number] * scale, _MISSED, names.get(int(labels.classes[number]), ""))
    return base64.b64encode(encoded(canvas, ".jpg", _QUALITY)).decode()


def _box(canvas: Picture, box: npt.NDArray[np.float32], colour: tuple[int, int, int], name: str) -> None:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 2)
    if name:
        at = (max(x1, 0) + 2, max(y1, 0) + 12)
        cv2.putText(canvas, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(canvas, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)


def _read(file: str) -> Picture:
    picture = read_picture(file, cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)
