"""What everything in a folder was made with, written down in it, so that no two parts can differ by accident."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from yolo_distill.address import Mirror
from yolo_distill.differences import changed_file, changed_values, in_brief
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import cannot_write, check_folder, partial_name
from yolo_distill.labelling.objects import Form
from yolo_distill.labelling.thresholds import Threshold
from yolo_distill.teachers import stored
from yolo_distill.validation import read_json

FILE = stored.PLAN
FORMAT = 1
#: Where things lie, and what follows from the rest.
_PLACES, _FOUND = {"source", "val"}, {"thresholds", "val"}
#: Scores differ in their last digits between processors, and with them a threshold halfway between two.
_ROUNDING = 0.005


@dataclass(frozen=True)
class Manifest:
    """All that has to be the same for every part of a data set, and what follows from it.

    Attributes:
        teacher: name and digest.
        source: absolute paths that were given, with so many `pictures` and `videos` among them.
        files: digest of their names and sizes.
        settings: imgsz, conf, every, similar, copy, empty, as they are given.
        class_map: of the teacher's names; None: by name.
        data: name and digest of the labelled data set; None without one.
        shards: into how many the work is cut.
        thresholds: of the classes in `names`.
        val: absolute path, or paths, of labelled pictures; None without any.
        task: of the labels, as Ultralytics calls it.
        keypoints: of pose: `kpt_shape`, and what else is known of them for the data file.
    """

    teacher: dict[str, Any]
    source: list[str]
    pictures: int
    videos: int
    files: str
    settings: dict[str, Any]
    class_map: dict[str, str] | None
    data: dict[str, Any] | None
    names: list[str]
    shards: int
    thresholds: list[Threshold]
    val: Any
    task: str = "detect"
    keypoints: dict[str, Any] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        shape = self.keypoints.get("kpt_shape")
        return Form(self.task, (shape[0], shape[1]) if shape else None)


def check_out(out: Path) -> None:
    """Check, before the work, that a data set can be made in a folder or go on there.

    Raises:
        RequestError: it is a file, holds something else, or cannot be written.
    """
    check_folder(out, f"out={out}")
    if out.exists() and not (out / FILE).exists():
        inside = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if inside:
            raise RequestError(f"out={out}: holds something else ({inside[0]}); give a new or empty folder")


def fetch(mirror: Mirror) -> None:
    """Fetch all but the parts of a data set at an address, before the work, and see that one can be there.

    Raises:
        RequestError: it holds something else, or nothing any more.
        DistillError: it can't be reached, or not be written.
    """
    address, folder = mirror.address, mirror.folder
    address.require_writable()
    there = address.find(depth=1)
    if FILE not in there and mirror.had(FILE):
        raise RequestError(f"{address.said}: its data set is gone; delete {folder} as well, or give another out=")
    if FILE not in there and there:
        raise RequestError(f"{address.said}: holds something else ({min(there)}); give a new or empty one")
    folder.mkdir(parents=True, exist_ok=True)
    mirror.fetch(there | address.find("shards"))


def shard_file(out: Path, index: int, count: int) -> Path:
    """Return where a shard puts the manifest that it was made with: shards may come from different machines."""
    return out / "shards" / f"{index}-of-{count}.json"


def read_manifest(file: Path) -> Manifest | None:
    """Return the manifest in a file, or None where there is none.

    Raises:
        RequestError: it is damaged, or of something else; names the field.
    """
    return read_json(file, Manifest, "the manifest of a data set") if file.exists() else None


def claim(out: Path, manifest: Manifest) -> Manifest:
    """Write a manifest into a folder that has none, and return the one that it has then.

    Of several processes that begin there at the same time, one is the first, and the others go by its thresholds.

    Raises:
        RequestError: the folder belongs to another manifest; says what differs.
        DistillError: the disk cannot be written.
    """
    there = read_manifest(out / FILE)
    if there is None:
        write_once(out / FILE, manifest)
        there = read_manifest(out / FILE) or manifest
    require_same(out, there, manifest)
    return there


def write_once(file: Path, manifest: Manifest) -> None:
    """Write a manifest, whole or not at all, unless there is one under this name.

    Raises:
        DistillError: the disk cannot be written.
    """
    partial = partial_name(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            file.hardlink_to(partial)  # unlike a rename, it does not go over what another process has just written
        except FileExistsError:
            return
        except OSError:  # a disk without such links
            partial.replace(file)
    except OSError as error:
        raise cannot_write(file, error) from error
    finally:
        partial.unlink(missing_ok=True)


def require_same(out: Path, there: Manifest, here: Manifest) -> None:
    """Refuse to go on in a folder with another manifest.

    Raises:
        RequestError: saying what differs.
    """
    if found := _differences(there, here, _FOUND):
        raise RequestError(
            f"out={out}: was made with another request ({in_brief(found)}); give the same one, or another out="
        )


def require_one(out: Path, manifest: Manifest, shards: Mapping[str, Manifest]) -> None:
    """Refuse to merge shards of different plans; where their pictures lay does not matter.

    Nor do thresholds that are the same but for rounding: each machine finds its own.

    Raises:
        DistillError: saying which shard differs, and in what.
    """
    for name, shard in shards.items():
        ignored = _PLACES | ({"thresholds"} if _alike(manifest.thresholds, shard.thresholds) else set())
        if found := _differences(manifest, shard, ignored):
            raise DistillError(
                f"out={out}: shard {name} was made with another request ({in_brief(found)}); "
                "label it again like the others"
            )


def _alike(some: Sequence[Threshold], others: Sequence[Threshold]) -> bool:
    pairs = zip(some, others, strict=False)
    return len(some) == len(others) and all(abs(one.at - other.at) <= _ROUNDING for one, other in pairs)


def _differences(there: Manifest, here: Manifest, ignored: set[str]) -> list[str]:
    """Return in words what of two manifests is not the same."""
    found = ["the files of source= are not the same"] if there.files != here.files else []
    found += changed_file("teacher", there.teacher, here.teacher) + changed_file("data", there.data, here.data)
    found += changed_values(there.settings, here.settings)
    return found + changed_values(asdict(there), asdict(here), ignored | {"files", "teacher", "data", "settings"})
