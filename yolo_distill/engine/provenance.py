"""What a comparison is made from, known by content: a file that was moved is the same, one that was changed is not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.data.utils import img2label_paths
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_distill.data.dataset import pictures_of
from yolo_distill.data.unlabelled import find_unlabelled
from yolo_distill.errors import RequestError
from yolo_distill.files import size_of
from yolo_distill.models.architecture_files import is_architecture, load_architecture
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.loading import Teachers, is_names_file, named, with_absolute_paths
from yolo_distill.teachers.stored import PLAN, SOFT


@dataclass(frozen=True)
class Source:
    """A model or a data set.

    Attributes:
        name: what it is called in tables and records, without where it lies.
        file: where it lies now, or the host's name for an architecture.
        digest: of its content; None for an architecture of the host.
    """

    name: str
    file: str
    digest: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return what has to stay the same."""
        return {"name": self.name, "digest": self.digest}


def open_model(path: str, role: str, data: Mapping[str, Any], trust: bool) -> DetectionModel:
    """Open weights, or build an architecture for the classes and keypoints of a data set.

    Raises:
        RequestError: it is not there, or no detector.
    """
    if is_architecture(path):
        return load_architecture(path, data["nc"], role=role, kpt_shape=data.get("kpt_shape"))
    return load_detector(path, trust=trust, role=role)


def source_of_student(path: str, data: Mapping[str, Any], trust: bool) -> Source:
    """Return a student, weights or an architecture, as a source.

    Raises:
        RequestError: as `open_model`.
    """
    return _source_of(path, str(getattr(open_model(path, "student", data, trust), "pt_path", path)))


def _source_of(path: str, file: str) -> Source:
    """Return a model in a file as a source: an architecture by what it says, and one of the host's by its name."""
    if not Path(file).is_file():
        return Source(Path(path).name, path, None)
    plan = json.dumps(yaml_model_load(file), sort_keys=True, default=str).encode() if is_architecture(path) else None
    return Source(Path(path).name, str(Path(file).resolve()), short_digest(plan or Path(file).read_bytes()))


def short_digest(content: bytes) -> str:
    """Return the hash by which content is known."""
    return hashlib.sha256(content).hexdigest()[:16]


def source_of_teacher(path: str, teachers: Teachers, data: Mapping[str, Any]) -> Source:
    """Return a teacher of any kind, or several of them, as a source.

    Raises:
        RequestError: as `open_model`, or it is one that would have to be trained in a way of its own first.
    """
    members = teachers.members
    if teachers.alone and members[0].untrained:
        if teachers.is_one_yolo:
            open_model(path, "teacher", data, trust=False)
        return _source_of(path, path)
    if teachers.is_one_yolo or (teachers.alone and members[0].ultralytics and members[0].trained_first):
        return _source_of(path, str(teachers.model(members[0]).pt_path))
    for one in members:
        if one.stored:
            raise RequestError(
                f"teacher={path}: holds answers and can't be measured beside the students; give the teacher itself"
            )
        if one.trained_first or one.file is None:
            raise RequestError(
                f"teacher={path}: {one.text} is yet to be trained; do it once with yolo-distill train, and give its "
                + (f"file as {one.text}:FILE" if one.torchvision else "file")
            )
    return Source(", ".join(map(str, members)), with_absolute_paths(path), digest_of_teachers(path)[:16])


def source_of_data(found: Mapping[str, Any], splits: Sequence[str]) -> Source:
    """Return a data set as a source: its content is pictures by name and size, labels by text, and class names."""
    digest = hashlib.sha256(json.dumps([str(name) for name in found["names"].values()]).encode())
    for split in splits:
        pictures = pictures_of(dict(found), split)
        for picture, label in zip(map(Path, pictures), map(Path, img2label_paths(pictures)), strict=True):
            digest.update(os.fsencode(f"{split} {picture.name} {size_of(picture)} "))
            digest.update(label.read_bytes() if label.is_file() else b"-")
    file = Path(found["yaml_file"]).absolute()
    name = f"{file.parent.name}/{file.name}" if file.stem in {"data", "dataset"} else file.name
    return Source(name, str(file), digest.hexdigest()[:16])


def digest_of_teachers(teacher: str) -> str:
    """Return a hash of what `teacher=` names: of the files' contents, and of names where there is no file yet.

    Of stored answers, which may be many, that of their plan and of the parts' names and sizes.
    """
    digest = hashlib.sha256()
    for one in named(teacher):
        file = Path(one.file or one.text).expanduser()
        digest.update((one.torchvision or "").encode())
        if one.stored:
            digest.update((file / PLAN).read_bytes())
            parts = sorted((file / SOFT).glob("part-*.parquet"))
            digest.update(str([(part.name, size_of(part)) for part in parts]).encode())
        else:
            digest.update(file.read_bytes() if one.file and file.is_file() else one.text.encode())
    return digest.hexdigest()


def digests_of_files(recipe: Recipe) -> dict[str, str]:
    """Return digests of the files that a recipe names beside its teacher, by setting.

    Files by their content; of unlabelled pictures and videos, which may be many, name and size.

    Raises:
        RequestError: unlabelled pictures that are not there.
    """
    found = {}
    for key in ("teacher_weights", "teacher_names", "teacher_outputs", "class_map"):
        value = str(getattr(recipe, key))
        if key == "teacher_names" and not is_names_file(value):
            continue
        file = Path(value).expanduser()
        if file.is_file():
            found[key] = short_digest(file.read_bytes())
    if recipe.unlabeled:
        found["unlabeled"] = find_unlabelled(recipe.unlabeled).digest
    return found
