"""What `model=` may name: exported files, checkpoints, and the host's folders for OpenVINO and ncnn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo_distill.errors import RequestError, did_you_mean, importing_for
from yolo_distill.runtime.metadata import Metadata, read_metadata
from yolo_distill.validation import read_yaml

#: Ending of a name -> kind of model.
ENDINGS = {".onnx": "onnx", ".pt": "pt", "_openvino_model": "openvino", "_ncnn_model": "ncnn"}
FOLDERS = frozenset({"openvino", "ncnn"})

_METADATA = "metadata.yaml"


@dataclass(frozen=True)
class Model:
    """One entry of `model=`.

    Attributes:
        path: the file or folder.
        label: what it is called in tables.
        kind: onnx, pt, openvino or ncnn.
        imgsz: height and width of the network's input in pixels.
        free_size: whether it takes another `imgsz`.
        precision: what it says that it computes in; the host takes a checkpoint to fp32.
        input_shape: what the network is fed with one picture; empty for a checkpoint, which the host feeds.
        input_dtype: of that array.
        size: bytes on the disk.
        sha256: of its content.
        task: what it looks for, in the host's word.
    """

    path: Path
    label: str
    kind: str
    imgsz: tuple[int, int]
    free_size: bool
    precision: str
    input_shape: tuple[int, ...]
    input_dtype: str
    size: int
    sha256: str
    task: str = "detect"


def find_models(text: str, imgsz: tuple[int, int] | None, trust: bool) -> list[Model]:
    """Return the models that `model=` names, opened once so that what is wrong with one is said before the work.

    Args:
        text: files and folders with commas between.
        imgsz: height and width for those that take any.
        trust: open checkpoints without the allow-list.

    Raises:
        RequestError: an entry is not there, is no detector, is there twice, or takes no such `imgsz`.
        DistillError: onnxruntime cannot load a file.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise RequestError(f"model={text}: names no file; give files with commas between: model=a.onnx,b.onnx")
    paths = [Path(entry.rstrip("/\\") or entry).expanduser() for entry in entries]
    seen: dict[Path, str] = {}
    for entry, path in zip(entries, paths, strict=True):
        if (first := seen.setdefault(path.resolve(), entry)) is not entry:
            again = "twice" if first == entry else f"twice, as {first} too"
            raise RequestError(f"model={entry}: is given {again}; a model beside itself says nothing")
    names = [path.name for path in paths]
    labels = [path.name if names.count(path.name) == 1 else str(path) for path in paths]
    kinds = [_kind(path, entry) for entry, path in zip(entries, paths, strict=True)]
    return [_describe(*one, imgsz, trust) for one in zip(paths, labels, kinds, strict=True)]


def read_folder_metadata(folder: Path) -> Metadata:
    """Return what the host wrote down about a model in a folder.

    Raises:
        RequestError: its notes are missing or are not what they should be.
    """
    file = folder / _METADATA
    notes = read_yaml(file, f"model={folder}: its {_METADATA}")
    if not isinstance(notes, dict):
        raise RequestError(f"model={folder}: its {_METADATA} holds no keys and values; export it again")
    return read_metadata({str(key): str(value) for key, value in notes.items()}, f"model={folder}")


def weights_file(folder: Path, ending: str) -> Path:
    """Return the one file of a model's folder with the given ending.

    Raises:
        RequestError: there is none, or there are several.
    """
    found = sorted(folder.glob(f"*{ending}"))
    if len(found) != 1:
        raise RequestError(f"model={folder}: holds {len(found)} {ending} files; expected one, so export it again")
    return found[0]


def _kind(path: Path, entry: str) -> str:
    kind = next((kind for ending, kind in ENDINGS.items() if path.name.lower().endswith(ending)), None)
    if kind is None:
        raise RequestError(f"model={entry}: is none of {', '.join(f'*{ending}' for ending in ENDINGS)}")
    is_there = path.is_dir() if kind in FOLDERS else path.is_file()
    # A bare name of the host's own weights may be found elsewhere, or downloaded; the loader says what it cannot find.
    if not is_there and not (kind == "pt" and path.name == entry):
        near = [one.name for one in path.parent.glob("*")] if path.parent.is_dir() else []
        known = [name for name in near if name.lower().endswith(tuple(ENDINGS))]
        what = "folder" if kind in FOLDERS else "file"
        raise RequestError(f"model={entry}: no such {what}{did_you_mean(path.name, known)}")
    return kind


def _describe(path: Path, label: str, kind: str, imgsz: tuple[int, int] | None, trust: bool) -> Model:
    if kind == "onnx":
        return _describe_onnx(path, label, imgsz)
    if kind == "pt":
        return _describe_checkpoint(path, label, imgsz, trust)
    notes = read_folder_metadata(path)
    if imgsz not in (None, notes.imgsz):
        height, width = notes.imgsz
        raise RequestError(f"imgsz={_sides(imgsz)}: {path} takes {height},{width} only; leave imgsz= out, or export it")
    args = notes.everything.get("args")
    quantize = args.get("quantize") if isinstance(args, dict) else None
    precision = {8: "int8", 16: "fp16"}.get(quantize if isinstance(quantize, int) else 0, "fp32")
    shape = (1, 3, *notes.imgsz)
    return Model(path, label, kind, notes.imgsz, False, precision, shape, "float32", *_content(path), task=notes.task)


def _describe_onnx(path: Path, label: str, imgsz: tuple[int, int] | None) -> Model:
    # Not above: a process that measures another runtime's memory opens this file as well.
    from yolo_distill.runtime.detector import Detector, precision_of

    detector = Detector(path, imgsz=imgsz, providers="cpu", threads=1)
    tensor: Any = detector.preprocess(np.zeros((*detector.imgsz, 3), np.uint8))[0]
    free = any(not isinstance(side, int) for side in detector.session.get_inputs()[0].shape[1:])
    said, shape = precision_of(detector), tensor.shape
    return Model(
        path, label, "onnx", detector.imgsz, free, said, shape, str(tensor.dtype), *_content(path), detector.task
    )


def _describe_checkpoint(path: Path, label: str, imgsz: tuple[int, int] | None, trust: bool) -> Model:
    with importing_for(f"model={path}", torch=False):
        from yolo_distill.models.checkpoint import load_detector
        from yolo_distill.models.imgsz import trained_imgsz

    model: Any = load_detector(path, trust=trust)
    stride = max(int(model.stride.max()), 32)
    trained = trained_imgsz(model) or 640
    sides = imgsz or ((trained, trained) if isinstance(trained, int) else (int(trained[0]), int(trained[-1])))
    if any(side % stride for side in sides):
        if imgsz:
            raise RequestError(f"imgsz={_sides(imgsz)}: {path} takes multiples of {stride} only")
        sides = (-(-sides[0] // stride) * stride, -(-sides[1] // stride) * stride)  # as the host rounds it
    file = Path(str(model.pt_path))
    return Model(file, label, "pt", sides, True, "fp32", (), "", *_content(file), model.task)


def _content(path: Path) -> tuple[int, str]:
    """Return bytes and SHA-256 of a file or, with the names of its files, of a folder."""
    digest, size = hashlib.sha256(), 0
    for file in sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode())
        content = file.read_bytes()
        size += len(content)
        digest.update(content)
    return size, digest.hexdigest()


def _sides(imgsz: tuple[int, int] | None) -> str:
    return ",".join(map(str, imgsz or ()))
