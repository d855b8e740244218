"""What was read of a data set's labels, kept for the next start in files that cannot run code.

The host keeps it in the data set's own folder (`labels/*.cache`) and opens what lies there as a pickle, also where it
came along with a data set from elsewhere. Here it is kept as arrays and JSON in the host's settings folder.

Relies on: the host's data sets read and write these files by two functions that `ultralytics.data.dataset` holds by
name, compare version and hash of what comes back, and read the labels anew where nothing does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ultralytics.data import dataset as host
from ultralytics.data import utils as host_utils
from ultralytics.utils import LOGGER, USER_CONFIG_DIR

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import replacing
from yolo_distill.models.checkpoint import no_auto_install
from yolo_distill.temporary import PREFIX, is_temporary

FOLDER = USER_CONFIG_DIR / "yolo-distill-labels"

_KEPT_SECONDS = 90 * 86400  # data sets come and go; what is still used is then read once more
_FIXED = {"keypoints": None, "normalized": True, "bbox_format": "xywh"}
_KEYS = {"im_file", "shape", "cls", "bboxes", "segments", *_FIXED}


_get_labels, _check_image = host.YOLODataset.get_labels, host_utils.check_image


def keep_labels_here() -> None:
    """Let all data sets of the host in this process keep what they read of labels in `FOLDER`.

    They also leave pictures as they are, see `check_image`, leave out those of floats, which the host's check lets pass
    and its loader then cannot read, say in one line why nothing is left, and call no pip.
    """
    vars(host).update(load_dataset_cache_file=load, save_dataset_cache_file=save)
    host.YOLODataset.get_labels, host_utils.check_image = get_labels, check_image


@no_auto_install()  # for a file that is no picture the host would install a library
def get_labels(self: host.YOLODataset) -> list[dict[str, Any]]:
    """Return the host's labels; see its method.

    Raises:
        RequestError: none of the pictures can be used; says what is wrong with the first.
    """
    try:
        labels: list[dict[str, Any]] = _get_labels(self)
    except RuntimeError as error:
        if "No valid images" not in str(error):
            raise
        why = next((line.strip() for line in str(error).splitlines() if "ignoring" in line), "")
        why = why.replace(self.prefix, "").replace("ignoring corrupt image/label: ", "")
        raise RequestError(
            f"data={self.data.get('yaml_file')}: none of the {len(self.im_files)} pictures in {self.img_path} can be "
            f"used ({why[:300]}); a label is a line 'class x y w h' with the class's number and four shares from 0 to 1"
        ) from None
    return labels


def check_image(file: str) -> tuple[str, tuple[int, int]]:
    """Check a picture as the host does, which would write a JPEG anew that does not end as one.

    It checks a copy of that: by their files' sizes it is known whether pictures are still those of a comparison, or of
    a teacher, and many data sets are not to be written to.

    Raises:
        AssertionError: or any other error of the host's: it cannot be used.
    """
    try:
        with _left_alone(file) as checkable:
            checked: tuple[str, tuple[int, int]] = "", _check_image(checkable)[1]
    except ModuleNotFoundError:  # the host looks for a library, whatever the file is
        raise AssertionError("is no picture that can be read") from None
    with Image.open(file) as picture:
        assert picture.mode != "F", "has floats, of which nobody knows what is white"
    return checked


@contextmanager
def _left_alone(file: str) -> Iterator[str]:
    """Give a file, or of a JPEG with another end than its own a copy."""
    with Path(file).open("rb") as stream:
        whole = stream.read(2) != b"\xff\xd8" or (stream.seek(-2, os.SEEK_END) and stream.read(2) == b"\xff\xd9")
    if whole:
        yield file
        return
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        yield shutil.copyfile(file, str(Path(folder) / "picture.jpg"))


def save(prefix: str, path: Path, cache: dict[str, Any], version: str) -> None:
    """Keep what the host read of labels, which it would write to `path`; see its `save_dataset_cache_file`.

    Labels of other tasks than detection are not kept, nor those of a temporary folder, which no later start has.
    """
    cache["version"] = version
    if is_temporary(path):
        return
    labels = cache.get("labels") or []
    if not labels or any(label.keys() != _KEYS or label["keypoints"] is not None for label in labels):
        return
    outlines = [outline for label in labels for outline in label["segments"]]
    text = {key: value for key, value in cache.items() if key != "labels"}
    text["files"] = [label["im_file"] for label in labels]
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        with replacing(_file_of(path)) as partial:
            np.savez(
                partial,
                text=np.frombuffer(json.dumps(text).encode(), np.uint8),
                shape=np.array([label["shape"] for label in labels]),
                boxes=np.array([len(label["cls"]) for label in labels]),
                cls=np.concatenate([label["cls"] for label in labels]),
                bboxes=np.concatenate([label["bboxes"] for label in labels]),
                segments=np.array([len(label["segments"]) for label in labels]),
                points=np.array([len(outline) for outline in outlines], int),
                outlines=np.concatenate([np.zeros((0, 2), np.float32), *outlines]),
            )
        for other in FOLDER.glob("*.npz"):
            if time.time() - other.stat().st_mtime > _KEPT_SECONDS:
                other.unlink()
    except (OSError, DistillError) as error:
        LOGGER.warning(f"{prefix}the labels are read anew at the next start: {error}")


def load(path: Path) -> dict[str, Any]:
    """Return what was kept in place of `path`; see the host's `load_dataset_cache_file`.

    Raises:
        FileNotFoundError: nothing was; or what numpy raises about a damaged file. The host then reads the labels.
    """
    with np.load(_file_of(path), allow_pickle=False) as kept:
        arrays = dict(kept)
    text = json.loads(arrays["text"].tobytes())
    outlines = _split(arrays["outlines"], arrays["points"])
    rows = zip(
        text.pop("files"),
        map(tuple, arrays["shape"].tolist()),
        _split(arrays["cls"], arrays["boxes"]),
        _split(arrays["bboxes"], arrays["boxes"]),
        _split(outlines, arrays["segments"]),
        strict=True,
    )
    keys = ("im_file", "shape", "cls", "bboxes", "segments")
    return {**text, "labels": [{**dict(zip(keys, row, strict=True)), **_FIXED} for row in rows]}


def _file_of(path: Path) -> Path:
    return FOLDER / f"{hashlib.sha256(bytes(path.absolute())).hexdigest()[:24]}.npz"


def _split(items: Any, lengths: Sequence[int]) -> list[Any]:
    """Return `items` in parts of these lengths."""
    return [items[start:end] for start, end in pairwise(accumulate(map(int, lengths), initial=0))]
