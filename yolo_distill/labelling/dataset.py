"""The data set on disk, in the host's form: pictures, a label file each, and `data.yaml`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import cannot_write, write_bytes
from yolo_distill.labelling.request import item_name
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.runtime.sources import read_picture
from yolo_distill.runtime.writers import encoded
from yolo_distill.teachers import stored

DATA, IMAGES, LABELS = stored.DATA, stored.PICTURES, Path("labels", "train")

# Pictures that the host reads; others are written anew, without loss.
_HOST_READS = frozenset({".bmp", ".jpeg", ".jpg", ".jp2", ".png", ".tif", ".tiff", ".webp"})
_QUALITY = 95
_STEM_BYTES = 180  # of the 255 that a name may have on most disks


def file_name(number: int, source: str, frame: int | None = None) -> str:
    """Return the name of a picture in the data set: its number, which makes it the only one, and its own name."""
    path = Path(source)
    suffix = ".jpg" if frame is not None else path.suffix.lower() if path.suffix.lower() in _HOST_READS else ".png"
    plain = "".join(ch if ch.isprintable() and ch not in '\\/:*?"<>|' else "_" for ch in path.stem)
    stem = plain.encode("utf-8", "replace")[:_STEM_BYTES].decode("utf-8", "ignore")
    return f"{item_name(number, frame)}-{stem}{suffix}"


class DataSet:
    """Writes pictures and labels; what is there already under the same name is written over."""

    def __init__(self, out: Path, *, copy: bool) -> None:
        """Write below `out`, pictures as links or as copies."""
        self._out, self._copy = out, copy
        self.images, self.labels = out / IMAGES, out / LABELS

    def make_folders(self) -> None:
        """Make the folders that are not there yet, also that of the soft answers.

        Raises:
            DistillError: the disk cannot be written.
        """
        for folder in (self.images, self.labels, self._out / stored.SOFT):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(folder, error) from error

    def add(self, name: str, picture: str | Picture, text: str) -> None:
        """Add the labels and the picture: the path of one that is linked or copied, or a frame (H, W, 3) to be written.

        Raises:
            RequestError: there can be no links here.
            DistillError: the disk cannot be written.
        """
        image, label = self.images / name, self.label_of(name)
        try:
            label.write_text(text, encoding="utf-8", newline="\n")
            image.unlink(missing_ok=True)
            if not isinstance(picture, str):
                image.write_bytes(encoded(picture, ".jpg", _QUALITY))
            elif Path(picture).suffix.lower() not in _HOST_READS:
                image.write_bytes(encoded(_read(picture), ".png"))
            elif self._copy:
                shutil.copyfile(picture, image)
            else:
                self._link(image, picture)
        except OSError as error:
            for half in (label, image):
                half.unlink(missing_ok=True)
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


def write_data_yaml(
    out: Path, names: Sequence[str], val: Any, keypoints: Mapping[str, Any], notes: Mapping[str, Any]
) -> None:
    """Write `data.yaml`, with which the data set is finished, with notes at its top by what they are about.

    Of pose it says what is known of `keypoints`.

    Its `val` is that of the labelled data, or the pictures of train where there are none.

    Raises:
        DistillError: the disk cannot be written.
    """
    head = "".join(f"# {about}: {' '.join(str(said).split())}\n" for about, said in notes.items())
    splits = {"train": IMAGES.as_posix(), "val": val or IMAGES.as_posix()}
    content = {**splits, "names": dict(enumerate(names)), **keypoints}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_bytes(out / DATA, f"# Paths are relative to this file.\n{head}{text}".encode())


def _read(path: str) -> Picture:
    image = read_picture(path)
    if image is None:
        raise DistillError(f"{path}: cannot be read any more; was it changed while it was labelled?")
    return image
