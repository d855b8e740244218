"""An ONNX file as the host traces it, and what it says about itself."""

from __future__ import annotations

import ast
import contextlib
import copy
import hashlib
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
from ultralytics import __version__ as host_version
from ultralytics.engine.exporter import Exporter
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from yolo_distill.errors import DistillError, one_line
from yolo_distill.exporting.detection_parity import MAX_DET
from yolo_distill.models.checkpoint import no_auto_install
from yolo_distill.models.tasks import task_of
from yolo_distill.version import __version__

MADE_BY = {"author": "yolo-distill", "yolo_distill": __version__}
_NOT_OURS = {"data", "half", "int8", "quantize"}


def trace(
    model: DetectionModel, folder: Path, stem: str, size: tuple[int, int], nms: bool | None, opset: int, simplify: bool
) -> Path:
    """Let the host trace `model` into `folder`, static and in fp32; raises what `host_export` does."""
    settings = {"format": "onnx", "imgsz": list(size), "simplify": simplify, "nms": nms, "opset": opset}
    return host_export(model, folder, stem, {**settings, "device": "cpu"})


def host_export(
    model: DetectionModel,
    folder: Path,
    stem: str,
    settings: Mapping[str, Any],
    on_start: Callable[[Any], None] = lambda exporter: None,
) -> Path:
    """Let the host export a copy of `model` into `folder`, and return the file or folder that it wrote.

    Args:
        model: the checkpoint; not changed.
        folder: where to.
        stem: the name, without a suffix.
        settings: of the host's exporter, on top of those that are always the same.
        on_start: called with the exporter when it has put the metadata together and has not converted yet.

    Raises:
        DistillError: it failed.
        OSError: the disk failed.
    """
    always = {"task": task_of(model), "mode": "export", "batch": 1, "dynamic": False, "max_det": MAX_DET}
    traced: Any = copy.deepcopy(model)
    traced.pt_path = str(folder / f"{stem}.pt")  # the host writes beside it
    before = LOGGER.level
    LOGGER.setLevel(max(before, logging.ERROR))
    try:
        with no_auto_install(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exporter = Exporter(overrides={**always, **settings})
            exporter.callbacks["on_export_start"].append(on_start)
            file = Path(exporter(model=traced))
    except OSError:
        raise
    except Exception as error:
        raise DistillError(f"tracing the model failed: {type(error).__name__}: {one_line(error)}") from error
    finally:
        LOGGER.setLevel(before)
    if not file.exists():
        raise DistillError(f"the host's exporter left no file at {file.name}")
    return file


def notes_of_source(checkpoint: Path) -> dict[str, str]:
    """Return what every file says of where it is from; the host's description holds the path of the training data."""
    name = checkpoint.name
    return {"description": f"{name}, exported by yolo-distill", "source": name, "source_sha256": sha256(checkpoint)}


def annotate(file: Path, notes: Mapping[str, str]) -> None:
    """Add to the metadata of a file who made it, and `notes`."""
    graph = onnx.load(str(file))
    said = {note.key: note.value for note in graph.metadata_props}
    said |= {**MADE_BY, "ultralytics": host_version, **notes}
    with contextlib.suppress(KeyError, ValueError, SyntaxError):
        # Settings that were meant for the host's exporter. The data set's path is nobody's business, and `precision`
        # says better than they what became of the numbers.
        args = ast.literal_eval(said["args"])
        said["args"] = str({key: value for key, value in args.items() if key not in _NOT_OURS})
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, said)
    onnx.save(graph, str(file))


def sha256(file: Path) -> str:
    """Return a file's checksum."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
