"""The data set on disk, in the host's form: pictures, a label file each, and `data.yaml`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import cannot_write, write_bytes
from yolo_distill.labelling.inference import Found
from yolo_distill.labelling.request import item_name
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.sources import read_picture
from yolo_distill.runtime.writers import label_text
from yolo_distill.teachers import stored

DATA, IMAGES, LABELS = stored.DATA, stored.PICTURES, Path("labels", "train")

# Pictures that the host reads; others are written anew, without loss.
_HOST_READS = frozenset({".bmp", ".jpeg", ".jpg", ".jp2", ".png", ".tif", ".tiff", ".webp"})
_QUALITY = 95
_STEM_BYTES = 180  # of the 255 that a name may have on most disks


def file_name(number: int, source: str, frame: int | None = None) -> str:
    """Return the name of a picture in the data set: its number, which makes it the only one, and its own name.

    Args:
        number: of the item.
        source: path of the picture or video.
        frame: of a video; None for a picture.
    """
    path = Path(source)
    suffix = ".jpg" if frame is not None else path.suffix.lower() if path.suffix.lower() in _HOST_READS else ".png"
    plain = "".join(ch if ch.isprintable() and ch not in '\\/:*?"<>|' else "_" for ch in path.stem)
    stem = plain.encode("utf-8", "replace")[:_STEM_BYTES].decode("utf-8", "ignore")
    return f"{item_name(number, frame)}-{stem}{suffix}"


class DataSet:
    """Writes pictures and labels; what is there already under the same name is written over."""

    def __init__(self, out: Path, *, copy: bool) -> None:
        """Write below `out`, pictures as links or as copies; the folders have to be there."""
        self.images, self.labels = out / IMAGES, out / LABELS
        self._copy = copy

    def add(self, name: str, picture: str | Picture, text: str) -> None:
        """Add a picture.

        Args:
            name: of its file.
            picture: path of one that is linked or copied, or a frame (H, W, 3) that is written.
            text: its labels.

        Raises:
            RequestError: there can be no links here.
            DistillError: the disk cannot be written.
        """
        image, label = self.images / name, self.label_of(name)
        try:
            label.write_text(text, encoding="utf-8", newline="\n")
            image.unlink(missing_ok=True)
            if not isinstance(picture, str):
                image.write_bytes(_encoded(picture, ".jpg"))
            elif Path(picture).suffix.lower() not in _HOST_READS:
                image.write_bytes(_encoded(_read(picture), ".png"))
            elif self._copy:
                shutil.copyfile(picture, image)
            else:
                self._link(image, picture)
        except OSError as error:
            raise cannot_write(image, error) from error

    def label_of(self, name: str) -> Path:
        """Return the label file of a picture."""
        return (self.labels / name).with_suffix(".txt")

    def has(self, name: str, label_bytes: int) -> bool:
        """Return whether a picture and labels of that length are there; after a power cut a file may be empty."""
        image = self.images / name
        try:
            written = image.is_symlink() or image.stat().st_size > 0
            return written and self.label_of(name).stat().st_size == label_bytes
        except OSError:
            return False

    @staticmethod
    def _link(image: Path, picture: str) -> None:
        try:
            image.symlink_to(picture)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and getattr(error, "winerror", None) is None:
                raise  # of the disk, as the caller says; only Windows refuses links as such
            raise RequestError(f"{image}: cannot be made a link ({error}); copy pictures with copy=true") from error


def text_of(found: Found, classes: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_], size: tuple[int, int]) -> str:
    """Return the label file of a picture.

    Args:
        found: all boxes.
        classes: of each, (N,).
        kept: whether each becomes a label, (N,).
        size: height and width in pixels.
    """
    labels = Detections(found.boxes[kept], found.scores[kept].max(1, initial=0), classes[kept], {})
    return label_text(labels, size, with_confidence=False)


def write_data_yaml(out: Path, names: Sequence[str], val: Any, notes: Mapping[str, Any]) -> Path:
    """Write `data.yaml`, with which the data set is finished.

    Args:
        out: folder of the data set.
        names: of the classes.
        val: absolute path, or paths, of labelled pictures to validate on; None: the pictures of train.
        notes: what is said at its top, by what it is about.

    Raises:
        DistillError: the disk cannot be written.
    """
    head = "".join(f"# {about}: {' '.join(str(said).split())}\n" for about, said in notes.items())
    content = {"train": IMAGES.as_posix(), "val": val or IMAGES.as_posix(), "names": dict(enumerate(names))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_bytes(out / DATA, f"# Paths are relative to this file.\n{head}{text}".encode())
    return out / DATA


def make_folder(folder: Path) -> None:
    """Make a folder, unless it is there.

    Raises:
        DistillError: the disk cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _encoded(image: Picture, suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if suffix == ".jpg" else [])
    if not done:
        raise DistillError(f"a picture of {image.shape[1]}x{image.shape[0]} pixels cannot be encoded as {suffix}")
    return data.tobytes()


def _read(path: str) -> Picture:
    image = read_picture(path)
    if image is None:
        raise DistillError(f"{path}: cannot be read any more; was it changed while it was labelled?")
    return image
