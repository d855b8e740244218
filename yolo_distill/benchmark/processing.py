"""What lies before and behind the network when another runtime than onnxruntime runs it: the steps of `Detector`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo_distill.benchmark.engine import IOU
from yolo_distill.benchmark.models import read_folder_metadata
from yolo_distill.errors import DistillError
from yolo_distill.runtime.decode import decode_dense, decode_end2end
from yolo_distill.runtime.detector import Detector
from yolo_distill.runtime.inputs import InputForm, Tensor, input_form
from yolo_distill.runtime.letterbox import Floats, Picture, Transform
from yolo_distill.runtime.metadata import read_metadata

_MAX_DET = 300  # what both predict commands take


class Processing(ABC):
    """The steps of a `Detector` around the network."""

    def __init__(self, form: InputForm, imgsz: tuple[int, int]) -> None:
        """Prepare for pictures at the network's height and width in pixels."""
        self._form = form
        self._input = form.empty(1, imgsz)  # one for all pictures, as the detector has it

    def preprocess(self, picture: Picture) -> tuple[Tensor, Transform]:
        """Return the network's input, which the next call overwrites, and how the picture lies in it."""
        return self._input, self._form.fill(self._input[0], picture)

    @abstractmethod
    def count(self, raw: Floats, transform: Transform, conf: float) -> int:
        """Return how many boxes a raw answer for one picture holds, once they are in pixels of the picture."""


class FileProcessing(Processing):
    """The steps for an .onnx file, in whatever form it takes pictures."""

    def __init__(self, path: str, imgsz: tuple[int, int], *, free_size: bool) -> None:
        self._detector = Detector(path, imgsz=imgsz if free_size else None, providers="cpu", threads=1)
        session = self._detector.session
        notes = read_metadata(session.get_modelmeta().custom_metadata_map, path)
        super().__init__(input_form(session.get_inputs(), notes, path), imgsz)

    def count(self, raw: Floats, transform: Transform, conf: float) -> int:
        return len(self._detector.postprocess(raw, [transform], conf=conf, iou=IOU)[0])


class FolderProcessing(Processing):
    """The steps for a model that the host exported into a folder: floats in, one array out."""

    def __init__(self, folder: Path) -> None:
        """Read the folder's notes.

        Raises:
            RequestError: they are missing or are not what they should be.
        """
        notes = read_folder_metadata(folder)
        self._end2end = notes.end2end
        form = InputForm(name="images", dtype=np.float32, blue_first=False, batch=1, imgsz=notes.imgsz)
        super().__init__(form, notes.imgsz)

    def count(self, raw: Floats, transform: Transform, conf: float) -> int:
        if self._end2end:
            boxes = decode_end2end(raw[0], conf=conf, max_det=_MAX_DET, classes=None)
        else:
            boxes = decode_dense(raw[0], conf=conf, iou=IOU, max_det=_MAX_DET, classes=None, agnostic=False)
        return len(transform.to_picture(boxes.xyxy))


def only_answer(answers: Sequence[Any], path: str) -> Any:
    """Return the one output of a network.

    Raises:
        DistillError: it has several.
    """
    if len(answers) != 1:
        raise DistillError(f"{path}: answers with {len(answers)} arrays; expected one")
    return answers[0]
