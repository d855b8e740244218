"""What `teacher=` names, opened: any kind of `yolo_distill.teachers`, or several of them as one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel

from yolo_distill.errors import RequestError
from yolo_distill.machine import usable_cores
from yolo_distill.models.architecture_files import is_architecture
from yolo_distill.models.checkpoint import find_checkpoint, kind_of, load_ultralytics
from yolo_distill.recipe import Recipe
from yolo_distill.sources import split
from yolo_distill.teachers.class_names import names_by_number
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.larger import AtLargerSize
from yolo_distill.teachers.onnx_detector import OnnxTeacher
from yolo_distill.teachers.rtdetr import RtdetrTeacher
from yolo_distill.teachers.several import SeveralTeachers
from yolo_distill.teachers.stored import StoredTeacher, answering_classes, holds_answers
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.torchvision_detector import TorchvisionTeacher, known_name
from yolo_distill.teachers.torchvision_weights import load_detector_file, pretrained, read_weights
from yolo_distill.teachers.yolo import YoloTeacher
from yolo_distill.validation import read_yaml

TORCHVISION = "torchvision:"

_Content = TypeVar("_Content")


@dataclass(frozen=True)
class Named:
    """One teacher, as it was named.

    Attributes:
        text: `best.pt`, `yolo26s.yaml`, `torchvision:ssd300_vgg16`, `torchvision:ssd300_vgg16:best.pth`, `best.onnx`,
            or a folder that `yolo-distill label` wrote.
        torchvision: the library's name of the architecture; None for other kinds.
        file: None for a torchvision teacher whose weights are not given.
        epochs: for which it is to be trained on the data first; None: as it is, or as long as the student.
    """

    text: str
    torchvision: str | None
    file: str | None
    epochs: int | None = None

    @property
    def onnx(self) -> bool:
        return self.file is not None and Path(self.file).suffix.lower() == ".onnx"

    @cached_property
    def stored(self) -> bool:
        """Whether it is not the teacher itself, but what it said once; the disk is asked once."""
        return self.file is not None and holds_answers(self.file)

    @property
    def ultralytics(self) -> bool:
        return self.torchvision is None and not self.onnx and not self.stored

    @property
    def untrained(self) -> bool:
        """Whether it is an architecture of Ultralytics, which has no weights yet."""
        return self.ultralytics and is_architecture(str(self.file))

    @property
    def trained_first(self) -> bool:
        """Whether it is trained on the data before it teaches: an architecture, or weights that are given epochs.

        ONNX files, stored answers and files of torchvision can't be trained.
        """
        trainable = self.ultralytics or (self.torchvision is not None and self.file is None)
        return self.untrained or (trainable and self.epochs is not None)

    @property
    def stem(self) -> str:
        return self.torchvision or Path(str(self.file)).stem

    def __str__(self) -> str:
        """The teacher without where it lies."""
        return self.torchvision or Path(str(self.file)).name


def named(teacher: str, weights: str | None = None, epochs: int | None = None) -> list[Named]:
    """Read `teacher=`, one or several with commas, and `teacher_weights=`, for the torchvision one among them.

    All have the `epochs` of `teacher_epochs=`.

    Raises:
        RequestError: an unknown torchvision name, or weights that belong to nobody, or to more than one.
    """
    found = []
    parts = [teacher] if Path(teacher).expanduser().exists() else teacher.split(",")  # one with a comma in its name
    for part in map(str.strip, parts):
        if not part:
            raise RequestError(f"teacher={teacher}: names nothing between two commas")
        if part.startswith(TORCHVISION):
            name, _, file = part.removeprefix(TORCHVISION).partition(":")
            found.append(Named(part, known_name(name), file or None, epochs))
        else:
            found.append(Named(part, None, part, epochs))
    if len(found) > 1 and (stored := [one for one in found if one.stored]):
        raise RequestError(f"teacher={teacher}: {stored[0].file} holds answers, which can only teach alone")
    if weights is None:
        return found
    takers = [one for one in found if one.torchvision and one.file is None]
    if len(takers) != 1:
        raise RequestError(
            f"teacher_weights={weights}: belongs to one torchvision teacher without weights of its own, "
            f"teacher={teacher} names {len(takers)}; give teacher=torchvision:NAME, or torchvision:NAME:FILE for each "
            "of several"
        )
    return [
        Named(f"{TORCHVISION}{one.torchvision}:{weights}", one.torchvision, weights, epochs) if one in takers else one
        for one in found
    ]


@dataclass
class Opened:
    """A teacher, ready to be asked, the teachers that it is made of, and what it is called for people."""

    teacher: Teacher
    members: list[Teacher]
    name: str

    @property
    def yolos(self) -> list[YoloTeacher]:
        return [one for one in self.members if isinstance(one, YoloTeacher)]


@dataclass(frozen=True)
class Reading:
    """How teachers' files are read: `trust`, `teacher_names` and `teacher_outputs` of the recipe."""

    trust: bool = False
    names: str | None = None
    outputs: str | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> Reading:
        return cls(recipe.trust, recipe.teacher_names, recipe.teacher_outputs)


class Teachers:
    """What `teacher=` names, read once: it goes with a run from its request to the table at its end.

    A file is opened when it is first needed, and then not again. What came out of it is shared, and whoever changes it
    makes a copy.

    Attributes:
        members: one by one, as they were named.
        reading: how their files are read.
        epochs: for which they are trained first, as `Named` has it.
        figures: what has been measured of them, by what it was measured on, and how.
    """

    def __init__(
        self, teacher: str, weights: str | None = None, reading: Reading | None = None, epochs: int | None = None
    ) -> None:
        """Read what `teacher=`, `teacher_weights=` and `teacher_epochs=` say; nothing is opened.

        Raises:
            RequestError: as `named`.
        """
        self.members = named(teacher, weights, epochs)
        self.reading = reading or Reading()
        self.figures: dict[str, dict[str, Any]] = {}
        self.epochs = epochs
        self._said = teacher, weights, epochs
        self._opened: dict[tuple[Any, ...], Any] = {}

    @classmethod
    def of(cls, recipe: Recipe, known: Teachers | None = None) -> Teachers:
        """Return the teachers of a recipe: those that are known where it names them, else others.

        Others have in common with the known ones what was opened of files that both name.

        Raises:
            RequestError: as `named`.
        """
        found = cls(recipe.teacher, recipe.teacher_weights, Reading.of(recipe), recipe.teacher_epochs)
        if known is not None and (known._said, known.reading) == (found._said, found.reading):
            return known
        if known is not None:
            files = {_absolute(str(one.file)) for one in found.members}
            found._opened = {key: value for key, value in known._opened.items() if key[0] in files}
        return found

    @property
    def alone(self) -> bool:
        """Whether there is only one."""
        return len(self.members) == 1

    @property
    def trained_first(self) -> bool:
        """Whether one of them is."""
        return any(one.trained_first for one in self.members)

    @property
    def is_one_yolo(self) -> bool:
        """Whether it is one YOLO of Ultralytics and nothing else; its checkpoint is opened for it.

        Raises:
            RequestError: it can't be opened.
        """
        one = self.members[0]
        if not self.alone or not one.ultralytics:
            return False
        return kind_of(str(one.file) if one.untrained else self.model(one)) == "yolo"

    @property
    def start(self) -> DetectionModel | None:
        """The first Ultralytics detector among them, which a student can start from; None without one.

        Raises:
            RequestError: it can't be opened, or has no weights yet.
        """
        models = (self.model(one) for one in self.members if one.ultralytics)
        return next((model for model in models if not isinstance(model, RTDETRDetectionModel)), None)

    def model(self, one: Named) -> DetectionModel:
        """Return what an Ultralytics checkpoint holds.

        Raises:
            RequestError: as `load_ultralytics`.
        """
        trust, file = self.reading.trust, str(one.file)
        find_checkpoint(file, f"teacher={file}")  # one of the host's is downloaded first: it is known by where it lies
        return self._once((_absolute(file), trust), lambda: load_ultralytics(file, trust=trust, role="teacher"))

    def onnx(self, one: Named, needs: Needs | None = None, threads: int | None = None) -> OnnxTeacher:
        """Return an ONNX file as a teacher, all of whose copies ask one session.

        Raises:
            RequestError: as `OnnxTeacher`.
        """
        file, names, outputs = str(one.file), self.reading.names, self.reading.outputs
        teacher = self._once(
            (_absolute(file), names, outputs, threads),
            lambda: OnnxTeacher(file, names=read_names(names), outputs=outputs, threads=threads),
        )
        return teacher.asked_for(needs or Needs())

    def torchvision(self, one: Named, imgsz: int) -> tuple[nn.Module, dict[int, str]]:
        """Return a torchvision detector for pictures of a size, and its class names.

        Raises:
            RequestError: as `pretrained` and `load_detector_file`.
        """
        assert one.torchvision is not None
        if (file := one.file) is None:
            return pretrained(one.torchvision, imgsz)
        said = f"teacher_weights={file}"
        content = self._once((_absolute(file),), lambda: read_weights(Path(file).expanduser(), said))
        names = read_names(self.reading.names)
        model, _, names = load_detector_file(file, one.torchvision, names, imgsz, content)
        return model, names

    def open(self, needs: Needs, device: torch.device | str, imgsz: int, *, teacher_imgsz: int | None = None) -> Opened:
        """Make teachers that can be asked about pictures of the student's side, or of another, in pixels.

        Raises:
            RequestError: saying what about them has to change.
        """
        side = teacher_imgsz or imgsz
        wanted = needs
        if not self.alone:  # boxes and scores, which are joined, belong together
            sets = needs.scores or needs.boxes
            wanted = Needs(scores=sets, boxes=sets, one2one=sets, maps=needs.maps)
        found = [self._open(one, wanted, device, side) for one in self.members]
        teacher = found[0] if self.alone else SeveralTeachers(found, needs)
        if side != imgsz:
            teacher = AtLargerSize(teacher, side, imgsz)
        # Of a checkpoint, which is always called best.pt, the architecture.
        names = (getattr(own, "architecture", "") or one.stem for one, own in zip(self.members, found, strict=True))
        return Opened(teacher, found, " and ".join(names))

    def _open(self, one: Named, needs: Needs, device: torch.device | str, imgsz: int) -> Teacher:
        if one.torchvision:
            return TorchvisionTeacher(*self.torchvision(one, imgsz), device, needs)
        if one.stored:
            return StoredTeacher(answering_classes(Path(str(one.file)).expanduser()))
        if one.onnx:
            return self.onnx(one, needs, _threads_beside(torch.device(device)))
        model = self.model(one)
        if isinstance(model, RTDETRDetectionModel):
            return RtdetrTeacher(model, device, needs)
        return YoloTeacher(model, device, needs)

    def _once(self, key: tuple[Any, ...], make: Callable[[], _Content]) -> _Content:
        if key not in self._opened:
            self._opened[key] = make()
        content: _Content = self._opened[key]
        return content


def _threads_beside(device: torch.device) -> int | None:
    """Return the threads of a teacher on the CPU beside a student on `device`; None for those that torch has.

    Beside a GPU the host leaves torch one thread, and the cores are idle.
    """
    if device.type in {"cpu", "mps"}:
        return None
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def with_absolute_files(recipe: Recipe) -> Recipe:
    """Return the recipe with the files that it names by their full paths."""
    update: dict[str, Any] = {"teacher": with_absolute_paths(recipe.teacher)}
    for key in ("teacher_weights", "teacher_names", "teacher_outputs", "class_map"):
        if (value := getattr(recipe, key)) and (key != "teacher_names" or is_names_file(value)):
            update[key] = _absolute(value)
    if recipe.unlabeled:  # patterns as well
        update["unlabeled"] = ",".join(os.path.abspath(part) for part in split(recipe.unlabeled))  # noqa: PTH100
    return recipe.model_copy(update=update)


def with_absolute_paths(teacher: str) -> str:
    """Return what `teacher=` names with the full paths of files that are there."""
    parts = []
    for one in named(teacher):
        file = _absolute(one.file) if one.file else None
        parts.append(f"{TORCHVISION}{one.torchvision}:{file}" if one.torchvision and file else file or one.text)
    joined = ",".join(parts)
    if any("," in part for part in parts) and not Path(joined).exists():
        raise RequestError(
            f"teacher={teacher}: lies in a folder with a comma in its name ({joined}), which parts one teacher from "
            "the next; move it, or work in another folder"
        )
    return joined


def _absolute(text: str) -> str:
    file = Path(text.strip()).expanduser()
    return str(file.resolve()) if file.exists() else text.strip()


def is_names_file(text: str) -> bool:
    """Return whether `teacher_names=` is a file, and not the names themselves."""
    return Path(text).suffix.lower() in {".yaml", ".yml"}


def read_names(text: str | None) -> dict[int, str] | None:
    """Return class names by number from a YAML file that has them, or from the names themselves, with commas.

    Raises:
        RequestError: the file can't be read, or names nothing.
    """
    if text is None:
        return None
    if not is_names_file(text):
        return dict(enumerate(name.strip() for name in text.split(",")))
    values = read_yaml(Path(text).expanduser(), f"teacher_names={text}")
    names = names_by_number(values.get("names", values) if isinstance(values, dict) else values)
    if not names:
        raise RequestError(f"teacher_names={text}: holds no class names; it needs names: with one line a class")
    return names
