"""Data sets whose labels are what a detector finds, a little off: its figures are neither 0 nor 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from yolo_distill.teachers.answer import DenseAnswer, as_set
from yolo_distill.teachers.teacher import Teacher

NAMES = {0: "round", 1: "square"}
SIDE = 96


def write_data(folder: Path, pictures: Mapping[str, Any], labels: Mapping[str, str], **keys: Any) -> Path:
    """Write pictures, and the labels that there are, as train and as val; return the file that describes them."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            cv2.imwrite(str(folder / "images" / split / f"{name}.png"), picture)
            if name in labels:
                (folder / "labels" / split / f"{name}.txt").write_text(labels[name])
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": NAMES, **keys}))
    return path


def labels_of(teacher: Teacher, pictures: Mapping[str, Any], most: int = 12) -> dict[str, str]:
    """Return the labels of pictures that are as wide as the network's input, and as high or lower."""
    random = np.random.default_rng(1)
    labels = {}
    for name, picture in pictures.items():
        pad = (SIDE - len(picture)) // 2
        square = cv2.copyMakeBorder(picture, pad, pad, 0, 0, cv2.BORDER_CONSTANT, value=(114,) * 3)
        answer = teacher(torch.from_numpy(square[..., ::-1].transpose(2, 0, 1).copy())[None].float() / 255)
        if isinstance(answer, DenseAnswer):
            answer = as_set(replace(answer, one2one=None), iou=0.5)
        rows: list[str] = []
        for corners, scores in zip(answer.boxes[0].numpy(), answer.scores[0], strict=True):
            box = (corners - [0, pad, 0, pad]) / np.tile([SIDE, len(picture)], 2)
            inside = box.min() >= 0.02 and box.max() <= 0.98 and (box[2:] - box[:2]).min() > 0.08
            if inside and len(rows) < most:
                x, y = (box[:2] + box[2:]) / 2 + random.uniform(-0.01, 0.01, 2)
                width, height = box[2:] - box[:2]
                rows.append(f"{int(scores.argmax())} {x:.5f} {y:.5f} {width:.5f} {height:.5f}")
        labels[name] = "\n".join(rows)
    return labels
