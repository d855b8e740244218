"""The detector that is served: read once, checked, and known by its checksum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from yolo_distill.errors import DistillError, RequestError

_TRIES = 3
# The entry "location" of a tensor whose weights lie in another file, as protobuf writes it: field 1, eight letters.
_ELSEWHERE = b"\x0a\x08location\x12"

#: Inode, size, time of change in ns.
Signature = tuple[int, int, int] | None


@dataclass(frozen=True)
class Model:
    """A checked ONNX file.

    Attributes:
        name: the file's name.
        data: its bytes.
        sha256: their checksum, in hex.
    """

    name: str
    data: bytes
    sha256: str

    @property
    def address(self) -> str:
        """Return where it is served: an address that never means other bytes."""
        return f"model/{self.sha256[:16]}.onnx"

    @property
    def size(self) -> str:
        """Return the size for people."""
        return f"{len(self.data) / 1e6:.1f} MB"


def read_model(path: Path) -> Model:
    """Read an exported detector and check that it is one.

    Raises:
        RequestError: it is missing, or no detector that a browser could run.
        DistillError: onnxruntime cannot run it, or it cannot be read.
    """
    # Not at import: --help of this room's command has to be quick.
    from yolo_distill.runtime.detector import Detector

    if path.suffix.lower() == ".ort":
        raise RequestError(f"{path}: is a file for phones' apps; give the .onnx file beside it")
    for _ in range(_TRIES):
        before = signature(path)
        Detector(path, providers="cpu", threads=1)  # says what is wrong, whatever it is
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DistillError(f"{path}: cannot be read ({error.strerror})") from error
        if before == signature(path):
            break  # what was checked is what was read
    else:
        raise DistillError(f"{path}: is being written; wait until it is finished")
    if _ELSEWHERE in data:
        raise RequestError(
            f"{path}: keeps its weights in a second file, which a browser does not get; "
            "export it with: yolo-distill export model=best.pt target=browser"
        )
    return Model(path.name, data, hashlib.sha256(data).hexdigest())


def signature(path: Path) -> Signature:
    """Return what changes when a file does; `None` if there is no file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns
