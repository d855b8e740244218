"""The data set a user names with `data=`: found, read, and checked before anything is trained or measured on it."""

from __future__ import annotations

import glob
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.data.utils import IMG_FORMATS, check_det_dataset, img2label_paths

from yolo_distill.data.label_cache import keep_labels_here
from yolo_distill.errors import RequestError, did_you_mean, one_line
from yolo_distill.given_files import find_data_file
from yolo_distill.models.checkpoint import no_auto_install
from yolo_distill.models.tasks import MOST_KEYPOINTS
from yolo_distill.validation import read_yaml

_MOST_CLASSES = 100_000
_MOST_CHANNELS = 1024
_SPLITS = ("train", "val", "test", "minival")


def check_data(data: str | Path, split: str | Sequence[str] = "val", need_labels: bool = True) -> dict[str, Any]:
    """Read a data set file and make sure that the pictures (and labels) it promises are there.

    No cache of labels that came with a data set is opened from here on; see `label_cache`.

    Args:
        data: a `.yaml` file in the host's format, or the bare name of one that the host brings along; the host may
            download only the pictures of the latter.
        split: the split or splits that will be used.
        need_labels: refuse a split of which no picture has a label.

    Returns:
        the host's description: `names` (index to name), `nc`, absolute paths under the split names, `yaml_file`.

    Raises:
        RequestError: no such file, not a data set, a missing key or split, no pictures, no labels.
    """
    keep_labels_here()
    said = f"data={data}"
    splits = [split] if isinstance(split, str) else list(split)
    file, brought_along = find_data_file(data)
    plan = read_yaml(file, said)
    if not isinstance(plan, dict):
        raise RequestError(f"{said}: is not a YAML file of keys and values (it holds a {type(plan).__name__})")
    _check_keys(plan, splits, said)
    try:
        with no_auto_install():
            # A data set file can carry a download script, which the host would run: only its own files may.
            found: dict[str, Any] = check_det_dataset(str(file), autodownload=brought_along, split=splits[0])
    except Exception as error:
        raise RequestError(f"{said}: {one_line(error).replace(' ❌.', '').replace(' ❌', '')}") from error
    for name in splits:
        pictures = pictures_of(found, name, said)
        if need_labels and not has_labels(pictures):
            where = Path(img2label_paths(pictures[:1])[0]).parent
            raise RequestError(
                f"{said}: none of the {len(pictures)} pictures of {name} has a label; "
                f"labels are looked for in {where}, one .txt file a picture"
            )
    return found


def pictures_of(found: dict[str, Any], split: str, said: str = "data") -> list[str]:
    """Return the sorted picture files of one split of what `check_data` returned.

    Raises:
        RequestError: the folder or list is not there, or names no picture.
    """
    sources = found.get(split)
    files: list[str] = []
    for source in map(Path, sources if isinstance(sources, list) else [sources or ""]):
        if source.is_dir():
            # As the host looks: through links to folders, past hidden files. Path's patterns do neither.
            files += glob.glob(str(Path(glob.escape(str(source))) / "**" / "*.*"), recursive=True)  # noqa: PTH207
        elif source.is_file():
            try:
                lines = source.read_text(encoding="utf-8-sig").split("\n")
            except UnicodeDecodeError as error:
                raise RequestError(
                    f"{said}: {source} of {split} is no list of pictures in UTF-8 ({error.reason}); give a folder, or "
                    "a text file of one path a line"
                ) from None
            files += [
                str(source.parent / line[2:]) if line.startswith("./") else line for line in map(str.strip, lines)
            ]
        else:
            raise RequestError(f"{said}: the pictures of {split} are not there: no folder or list {source}")
    pictures = sorted(file for file in files if file.rpartition(".")[2].lower() in IMG_FORMATS)
    if not pictures:
        raise RequestError(f"{said}: no pictures for {split} in {sources}")
    return pictures


def _check_keys(plan: dict[str, Any], splits: Sequence[str], said: str) -> None:
    has = [name for name in _SPLITS if plan.get(name)]
    if "validation" in plan and "val" not in has:  # the host's other spelling
        has.append("val")
    nc = plan.get("nc")
    try:  # as the host has it, also a text or a float
        whole = nc is None or (float(nc).is_integer() and 0 < float(nc) <= _MOST_CLASSES and not isinstance(nc, bool))
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:  # the host names each of them
        raise RequestError(f"{said}: nc is {reprlib.repr(nc)}; expected a number of classes of 1 to {_MOST_CLASSES:,}")
    channels = plan.get("channels", 3)
    if not (isinstance(channels, int) and 0 < channels <= _MOST_CHANNELS):  # the host makes a network for them
        raise RequestError(
            f"{said}: channels is {reprlib.repr(channels)}; expected those of a picture, 1 to {_MOST_CHANNELS:,}"
        )
    _check_keypoints(plan, said)
    missing = [key for key in ("train", "val") if key not in has]
    if plan.get("names") is None and plan.get("nc") is None:
        missing.append("names")
    if missing:
        what = " (is it an architecture?)" if "backbone" in plan else ""
        raise RequestError(f"{said}: lacks {' and '.join(missing)}{what}; a data set has train, val and names")
    for name in splits:
        if name not in has:
            raise RequestError(f"{said}: has no split {name!r}{did_you_mean(name, has)} (it has {', '.join(has)})")


def _check_keypoints(plan: dict[str, Any], said: str) -> None:
    shape = plan.get("kpt_shape")
    if shape is None:
        return
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(value) is int for value in shape)
    if not (whole and 0 < shape[0] <= MOST_KEYPOINTS and shape[1] in {2, 3}):  # the host makes a head for them
        raise RequestError(
            f"{said}: kpt_shape is {reprlib.repr(shape)}; expected keypoints and values of each, as [17, 3]: 1 to "
            f"{MOST_KEYPOINTS:,} of 2 (x, y) or 3 (and visibility)"
        )
    flipped, sigmas = plan.get("flip_idx"), plan.get("kpt_oks_sigmas")
    once = isinstance(flipped, list) and len(flipped) == shape[0] and all(one in flipped for one in range(shape[0]))
    if flipped and not once:
        raise RequestError(
            f"{said}: flip_idx is {reprlib.repr(flipped)}; expected each number from 0 to {shape[0] - 1} once: the "
            "keypoint that stands in its place in a mirrored picture"
        )
    numbers = isinstance(sigmas, list) and all(isinstance(value, (int, float)) and value > 0 for value in sigmas)
    if sigmas and not (numbers and len(sigmas) == shape[0]):
        raise RequestError(f"{said}: kpt_oks_sigmas is {reprlib.repr(sigmas)}; expected {shape[0]} numbers above 0")


def has_labels(pictures: Sequence[str]) -> bool:
    """Return whether any of the pictures has a label file with the row of an object, which has five values or more."""
    files = (file for file in map(Path, img2label_paths(list(pictures))) if file.is_file())
    rows = (row for file in files for row in file.read_text(encoding="utf-8", errors="replace").split("\n"))
    return any(len(row.split()) >= 5 for row in rows)
