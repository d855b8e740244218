"""Fold teachers: trained each without a part of the pictures, and kept from mixing parts in one mosaic."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ultralytics.data import YOLODataset
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import LOGGER, colorstr

from yolo_distill.engine.data import check_data, pictures_of
from yolo_distill.engine.teacher_training import train_teacher
from yolo_distill.engine.views import walk_transforms
from yolo_distill.errors import RequestError
from yolo_distill.files import write_bytes

PREFIX = colorstr("folds: ")


def train_folds(
    architecture: str, data: Mapping[str, Any], settings: Mapping[str, Any], epochs: int | None, count: int, best: Path
) -> None:
    """Train one teacher a fold, and write who teaches which picture beside the teacher of all pictures.

    Args:
        architecture: of all of them.
        data: the checked data set.
        settings: the host's settings of the student's run.
        epochs: the teachers' own number of epochs; the student's when None.
        count: of folds.
        best: weights of the teacher that was trained on all pictures.

    Raises:
        RequestError: fewer pictures than folds.
    """
    pictures = pictures_of(dict(data), "train")
    require_pictures(count, pictures)
    classes = [classes_in(Path(label)) for label in img2label_paths(pictures)]
    fold_of = dict(zip(pictures, folds := deal(classes, count), strict=True))
    if unseen := sorted({one for one, _, elsewhere in _spread(classes, folds, count) if not elsewhere}):
        names = ", ".join(str(data["names"].get(one, one)) for one in unseen)
        LOGGER.warning(f"{PREFIX}too few pictures of {names}: a teacher that does not see one of them teaches it")
    folder = _file(best, count).parent
    folder.mkdir(parents=True, exist_ok=True)
    teachers = []
    for fold in range(count):
        LOGGER.info(f"{PREFIX}teacher {fold + 1} of {count}, for the pictures that it does not see in its training")
        seen = folder / f"fold-{fold}.txt"
        write_bytes(seen, "".join(f"{p}\n" for p, own in fold_of.items() if own != fold).encode())
        plan = {"path": str(folder), "train": seen.name, "val": data["val"], "names": dict(data["names"])}
        file = folder / f"fold-{fold}.yaml"
        write_bytes(file, yaml.safe_dump({**plan, "channels": int(data.get("channels", 3))}).encode())
        own_data = check_data(file, ("train", "val"))
        teachers.append(str(train_teacher(architecture, own_data, {**settings, "data": str(file)}, epochs)))
    write_bytes(_file(best, count), json.dumps({"teachers": teachers, "fold_of": fold_of}).encode())


def deal(classes: Sequence[frozenset[int]], count: int) -> list[int]:
    """Return the fold of each picture of a listing, so that what a fold's teacher is trained on has all classes.

    Neighbours are often frames of one video, which would tell a fold's teacher what it must not know: so the fewest
    stretches of the listing that will do are dealt out in turn, one a fold where its classes are mixed already. Where
    it is sorted by class, such long ones would keep a teacher from whole classes.

    Args:
        classes: of each picture, in the order of the listing.
        count: of folds, at most as many as there are pictures.
    """
    dealt, stretches = [], count
    while stretches <= len(classes):
        folds = [number * stretches // len(classes) % count for number in range(len(classes))]
        # Half of what an even deal would leave it to learn a class from is too little.
        short = sum(
            elsewhere < pictures * (count - 1) / count / 2 for _, pictures, elsewhere in _spread(classes, folds, count)
        )
        dealt.append((short, stretches, folds))
        if not short:
            break
        stretches *= 2
    return min(dealt)[-1]


def _spread(classes: Sequence[frozenset[int]], folds: Sequence[int], count: int) -> Iterator[tuple[int, int, int]]:
    """Yield, of each class and fold, the class, its pictures, and those of them that lie in other folds."""
    everywhere = Counter(one for found in classes for one in found)
    for fold in range(count):
        inside = Counter(one for found, own in zip(classes, folds, strict=True) if own == fold for one in found)
        yield from ((one, pictures, pictures - inside[one]) for one, pictures in everywhere.items())


def classes_in(label: Path) -> frozenset[int]:
    """Return the classes in a picture's label file; none where it has no file. The host refuses what is no number."""
    lines = label.read_text(encoding="utf-8", errors="replace").splitlines() if label.is_file() else []
    first = (line.split()[0] for line in lines if line.strip())
    return frozenset(int(float(word)) for word in first if word.replace(".", "", 1).isdecimal())


def require_pictures(count: int, pictures: Sequence[str]) -> None:
    """Refuse more folds than there are pictures to train on.

    Raises:
        RequestError: saying how many there are.
    """
    if len(pictures) < count:
        raise RequestError(f"teacher_folds={count}: there are only {len(pictures)} pictures to train on")


def read_folds(best: Path, count: int) -> tuple[list[str], dict[str, int]]:
    """Return the weights of the fold teachers, and each picture's fold.

    Raises:
        RequestError: they have not been trained.
    """
    file = _file(best, count)
    if not file.is_file():
        raise RequestError(
            f"teacher_folds={count}: {best} has no fold teachers beside it; yolo-distill train trains them from an "
            "architecture, teacher=yolo26s.yaml"
        )
    found = json.loads(file.read_text(encoding="utf-8"))
    return found["teachers"], found["fold_of"]


def _file(best: Path, count: int) -> Path:
    return best.resolve().parent.parent / f"folds-{count}" / "folds.json"


class WithinFolds(YOLODataset):
    """The host's data set, mixing (mosaic, mixup, ...) only pictures of one fold: one teacher has to know none of them.

    Relies on: the host's mixing transforms choose their pictures in `get_indexes`, and `build_transforms` makes them.
    """

    _folds: list[int]
    _mates: dict[int, list[int]]
    _current: int

    @classmethod
    def of(cls, dataset: YOLODataset, fold_of: Mapping[str, int]) -> WithinFolds:
        """Change a data set of the host into one of this kind, and return it.

        Raises:
            RequestError: it is of another kind than those the host makes for detection, or has other pictures.
        """
        if type(dataset) is not YOLODataset:
            raise RequestError(f"teacher_folds: not for a {type(dataset).__name__}; leave teacher_folds= out")
        if strange := [file for file in dataset.im_files if file not in fold_of]:
            raise RequestError(f"teacher_folds: {strange[0]} is in no fold; the data has changed since they were made")
        dataset.__class__ = cls
        dataset._folds = [fold_of[file] for file in dataset.im_files]
        dataset._mates = {}
        for index, fold in enumerate(dataset._folds):
            dataset._mates.setdefault(fold, []).append(index)
        dataset._current = 0
        dataset._stay_within(dataset.transforms)
        return dataset

    def build_transforms(self, hyp: Any = None) -> Any:
        """Build the host's transforms, and keep them within the fold."""
        transforms = super().build_transforms(hyp)
        self._stay_within(transforms)
        return transforms

    def __getitem__(self, index: int) -> dict[str, Any]:
        self._current = index
        return super().__getitem__(index)

    def mate(self) -> int:
        """Return the index of a picture of the fold of the one that is being made."""
        return random.choice(self._mates[self._folds[self._current]])

    def _stay_within(self, transforms: Any) -> None:
        for transform in walk_transforms(transforms):
            if hasattr(transform, "get_indexes"):
                # A mosaic wants one picture a tile besides the first, every other mixture one.
                count = transform.n - 1 if hasattr(transform, "n") else None
                transform.get_indexes = _Chooser(self, count)


class _Chooser:
    """Stands in for a transform's `get_indexes`; an object and no closure, as the loader's workers may pickle it."""

    def __init__(self, dataset: WithinFolds, count: int | None) -> None:
        self.dataset, self.count = dataset, count

    def __call__(self) -> int | list[int]:
        if self.count is None:
            return self.dataset.mate()
        return [self.dataset.mate() for _ in range(self.count)]
