"""What `teacher=` names, opened: any kind of `yolo_distill.teachers`, or several of them as one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.errors import RequestError
from yolo_distill.machine import usable_cores
from yolo_distill.models.checkpoint import is_architecture, kind_of, load_ultralytics
from yolo_distill.recipe import Recipe
from yolo_distill.sources import split
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.larger import AtLargerSize
from yolo_distill.teachers.onnx_detector import OnnxTeacher
from yolo_distill.teachers.rtdetr import RtdetrTeacher
from yolo_distill.teachers.several import SeveralTeachers
from yolo_distill.teachers.stored import StoredTeacher, answering_classes, holds_answers
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.torchvision_detector import TorchvisionTeacher, known_name
from yolo_distill.teachers.torchvision_weights import load_detector_file, pretrained
from yolo_distill.teachers.yolo import YoloTeacher

TORCHVISION = "torchvision:"


@dataclass(frozen=True)
class Named:
    """One teacher, as it was named.

    Attributes:
        text: `best.pt`, `yolo26s.yaml`, `torchvision:ssd300_vgg16`, `torchvision:ssd300_vgg16:best.pth`, `best.onnx`,
            or a folder that `yolo-distill label` wrote.
        torchvision: the library's name of the architecture; None for other kinds.
        file: weights, an architecture, an ONNX file or a folder; None for a torchvision teacher whose weights are not
            given.
    """

    text: str
    torchvision: str | None
    file: str | None

    @property
    def onnx(self) -> bool:
        return self.file is not None and Path(self.file).suffix.lower() == ".onnx"

    @property
    def stored(self) -> bool:
        """Whether it is not the teacher itself, but what it said once."""
        return self.file is not None and holds_answers(self.file)

    @property
    def ultralytics(self) -> bool:
        return self.torchvision is None and not self.onnx and not self.stored

    @property
    def untrained(self) -> bool:
        """Whether it is an architecture of Ultralytics, which has to be trained before it can teach."""
        return self.ultralytics and is_architecture(str(self.file))

    @property
    def stem(self) -> str:
        return self.torchvision or Path(str(self.file)).stem

    def __str__(self) -> str:
        """The teacher without where it lies."""
        return self.torchvision or Path(str(self.file)).name


def named(teacher: str, weights: str | None = None) -> list[Named]:
    """Read what `teacher=` says.

    Args:
        teacher: one or several, with commas.
        weights: file for the torchvision teacher among them.

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
            found.append(Named(part, known_name(name), file or None))
        else:
            found.append(Named(part, None, part))
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
        Named(f"{TORCHVISION}{one.torchvision}:{weights}", one.torchvision, weights) if one in takers else one
        for one in found
    ]


@dataclass
class Opened:
    """A teacher, ready to be asked.

    Attributes:
        teacher: answers for a batch.
        members: the teachers that it is made of.
        name: of what it is made, for people.
    """

    teacher: Teacher
    members: list[Teacher]
    name: str

    @property
    def yolos(self) -> list[YoloTeacher]:
        return [one for one in self.members if isinstance(one, YoloTeacher)]


@dataclass(frozen=True)
class Reading:
    """How teachers' files are read.

    Attributes:
        trust: load checkpoints without the restricted loader.
        names: class names of torchvision weights that bring none; see the recipe.
        outputs: description of an ONNX file's outputs; see the recipe.
    """

    trust: bool = False
    names: str | None = None
    outputs: str | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> Reading:
        return cls(recipe.trust, recipe.teacher_names, recipe.teacher_outputs)


def open_member(one: Named, reading: Reading, needs: Needs, device: torch.device | str, imgsz: int) -> Teacher:
    """Open one teacher that has weights.

    Raises:
        RequestError: saying what about it has to change.
    """
    if one.torchvision:
        if one.file is None:
            model, names = pretrained(one.torchvision, imgsz)
        else:
            model, _, names = load_detector_file(Path(one.file), one.torchvision, read_names(reading.names), imgsz)
        return TorchvisionTeacher(model, names, device, needs)
    if one.stored:
        return StoredTeacher(answering_classes(Path(str(one.file)).expanduser()))
    if one.onnx:
        assert one.file is not None
        return OnnxTeacher(
            Path(one.file),
            names=read_names(reading.names),
            outputs=reading.outputs,
            needs=needs,
            threads=_threads_beside(torch.device(device)),
        )
    loaded = load_ultralytics(str(one.file), trust=reading.trust, role="teacher")
    if isinstance(loaded, RTDETRDetectionModel):
        return RtdetrTeacher(loaded, device, needs)
    return YoloTeacher(loaded, device, needs)


def _threads_beside(device: torch.device) -> int | None:
    """Return the threads of a teacher on the CPU beside a student on `device`; None for those that torch has.

    Beside a GPU the host leaves torch one thread, and the cores are idle.
    """
    if device.type in {"cpu", "mps"}:
        return None
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def open_teacher(
    teacher: str,
    *,
    needs: Needs,
    device: Any = None,
    imgsz: int,
    trust: bool = False,
    names: str | None = None,
    weights: str | None = None,
    outputs: str | None = None,
) -> Teacher:
    """Open what `teacher=` names, to be asked about pictures of one size.

    Args:
        teacher: one or several, with commas.
        needs: what it will be asked for.
        device: as the host has it.
        imgsz: side of the pictures in pixels.
        trust: load checkpoints without the restricted loader.
        names: class names of torchvision weights that bring none.
        weights: of a torchvision teacher.
        outputs: description of an ONNX file's outputs.

    Raises:
        RequestError: saying what about it has to change.
    """
    chosen = select_device(parse_device(device), verbose=False)
    members = named(teacher, weights)
    if stored := [one for one in members if one.stored]:
        raise RequestError(
            f"teacher={teacher}: {stored[0].file} holds answers and can't be asked; give the teacher itself"
        )
    reading = Reading(trust, names, outputs)
    opened = [open_member(one, reading, needs_of_member(members, needs), chosen, imgsz) for one in members]
    return opened[0] if len(opened) == 1 else SeveralTeachers(opened, needs)


def needs_of_member(members: Sequence[Named], needs: Needs) -> Needs:
    """Return what each of several teachers is asked for: boxes and scores, which are joined, belong together."""
    if len(members) == 1:
        return needs
    sets = needs.scores or needs.boxes
    return Needs(scores=sets, boxes=sets, one2one=sets, maps=needs.maps)


def open_all(recipe: Recipe, needs: Needs, device: torch.device, imgsz: int) -> Opened:
    """Open a recipe's teachers as the student's run asks them.

    Args:
        recipe: with teachers that have weights.
        needs: what the terms need of one that answers densely.
        device: of the run.
        imgsz: side of the student's pictures in pixels.

    Raises:
        RequestError: saying what about them has to change.
    """
    members = named(recipe.teacher, recipe.teacher_weights)
    side = recipe.teacher_imgsz or imgsz
    wanted = needs_of_member(members, needs)
    found = [open_member(one, Reading.of(recipe), wanted, device, side) for one in members]
    teacher = found[0] if len(found) == 1 else SeveralTeachers(found, needs)
    if side != imgsz:
        teacher = AtLargerSize(teacher, side, imgsz)
    return Opened(teacher, found, " and ".join(_called(*pair) for pair in zip(members, found, strict=True)))


def _called(one: Named, teacher: Teacher) -> str:
    """Return a teacher's name for people: of a checkpoint, which is always called best.pt, that of its architecture."""
    return getattr(teacher, "architecture", "") or one.stem


def is_one_yolo(teacher: str, trust: bool = False) -> bool:
    """Return whether `teacher=` names one YOLO of Ultralytics and nothing else; its checkpoint is opened for it.

    Raises:
        RequestError: it can't be opened.
    """
    members = named(teacher)
    return len(members) == 1 and members[0].ultralytics and kind_of(teacher, trust=trust) == "yolo"


def start_of(recipe: Recipe) -> DetectionModel | None:
    """Return the first Ultralytics detector among a recipe's teachers, which a student can start from."""
    for one in named(recipe.teacher, recipe.teacher_weights):
        if one.ultralytics:
            model = load_ultralytics(str(one.file), trust=recipe.trust, role="teacher")
            if not isinstance(model, RTDETRDetectionModel):
                return model
    return None


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
    file = Path(text).expanduser()
    if not is_names_file(text):
        return dict(enumerate(name.strip() for name in text.split(",")))
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"teacher_names={text}: cannot be read ({' '.join(str(error).split())})") from None
    names = values.get("names", values) if isinstance(values, dict) else values
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(str(number).isdigit() for number in names):
        raise RequestError(f"teacher_names={text}: holds no class names; it needs names: with one line a class")
    return {int(number): str(name) for number, name in names.items()}
