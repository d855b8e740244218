"""An ONNX detector as ONNX Runtime runs it on a CPU: pictures in, in whatever form it takes them, raw outputs out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.runtime.metadata import note_value, with_nms
from yolo_distill.session_options import prepare, require_size
from yolo_distill.teachers.head import Size
from yolo_distill.teachers.onnx_description import InputForm

#: Side of the pictures for a file that takes any and does not say what it was made for, in pixels.
_USUAL = 640
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_PLAIN = ((0, 0, 0), (1, 1, 1))  # the mean and spread that change nothing


def open_session(file: str | bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Open a file, by its path or by its bytes, on as many threads of the CPU as torch has when not given."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    # A thread that spins while the student has its turn takes the core from it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    prepare(options)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class OnnxSession:
    """A file that takes pictures.

    Attributes:
        notes: the file's metadata, each as a value where it can be read as one.
        size: height and width of the pictures that it takes; None for any.
        usual: height and width that it was made for.
        most: pictures that it is run on at a time; None for any number.
    """

    def __init__(self, file: Path, said: str, form: InputForm | None = None, threads: int | None = None) -> None:
        """Open a file that takes pictures in a form; by what it says of itself when None.

        Raises:
            RequestError: it is no ONNX file, or takes something else; `said` is the setting that named it.
        """
        self._said = said
        if not file.is_file():
            near = (found.name for found in file.parent.glob("*.onnx"))
            raise RequestError(f"{said}: no such file{did_you_mean(file.name, near)}")
        try:
            self._session = open_session(str(file), threads)
        except Exception as error:  # of a class that ONNX Runtime makes no promise about
            raise RequestError(f"{said}: is not an ONNX file, or is cut off in the middle ({_why(error)})") from error
        self.notes = {k: note_value(v) for k, v in self._session.get_modelmeta().custom_metadata_map.items()}
        self._outputs = [output.name for output in self._session.get_outputs()]
        form = form or _noted_form(self.notes)
        pictures = self._picture_input(form)
        self._name, shape = pictures.name, list(pictures.shape)
        self._alone = len(shape) == 3  # one picture, without the dimension of the batch
        channels, *sides = shape[-3:] if form.layout == "nchw" else [shape[-1], *shape[-3:-1]]
        if len(shape) not in {3, 4} or (isinstance(channels, int) and channels != 3):
            raise RequestError(
                f"{said}: takes {_listed([pictures])}; expected pictures in colour, {form.layout.upper()}"
            )
        self._form = _checked(form, _DTYPES.get(pictures.type, pictures.type), said)
        self.size = (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None
        self.usual: Size = self.size or _noted_size(self.notes)
        # The host's NMS is unrolled for that many pictures, and answers with nothing for all others.
        unrolled = self.notes.get("batch", 1) if with_nms(self.notes) else None
        first = 1 if self._alone else unrolled or shape[0]
        self.most: int | None = first if isinstance(first, int) else None
        require_size([self.most, *self.usual], said)

    def run(self, images: Tensor) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Run the file on pictures (B, 3, H, W) of a size that it takes, RGB in 0..1, as many at a time as it takes.

        Yields:
            for how many pictures the outputs are, and the outputs by name as they come. Of a file that wants more
            pictures than are left the outputs have further rows, which are nobody's.

        Raises:
            RequestError: the file does not run on them.
        """
        for part in torch.split(images, self.most or len(images)):
            fed = torch.cat([part, part.new_zeros((self.most or len(part)) - len(part), *part.shape[1:])])
            feed = {self._name: self._as_taken(fed)}
            if self._form.sizes is not None:
                feed[self._form.sizes] = np.tile(np.array(images.shape[:1:-1], np.int64), (len(fed), 1))
            try:
                values = self._session.run(self._outputs, feed)
            except Exception as error:  # of a class that ONNX Runtime makes no promise about
                size = "x".join(map(str, images.shape[-2:]))
                raise RequestError(
                    f"{self._said}: does not run on {len(fed)} pictures of {size} ({_why(error)})"
                ) from error
            yield len(part), {k: torch.as_tensor(v) for k, v in zip(self._outputs, values, strict=True)}

    def _picture_input(self, form: InputForm) -> Any:
        inputs = {given.name: given for given in self._session.get_inputs()}
        if form.sizes is not None and form.sizes not in inputs:
            raise RequestError(f"{self._said}: has no input {form.sizes!r}{did_you_mean(form.sizes, inputs)}")
        pictures = [given for name, given in inputs.items() if name != form.sizes]
        if len(pictures) != 1:
            raise RequestError(
                f"{self._said}: takes {_listed(inputs.values())}; expected pictures, and at most their sizes (say "
                "which input that is in teacher_outputs=, input: {sizes: ...})"
            )
        return pictures[0]

    def _as_taken(self, images: Tensor) -> Any:
        form = self._form
        images = images.flip(1) if form.order == "bgr" else images
        images = images * form.scale
        if form.dtype == "uint8":
            images = images.round().clamp(0, 255)
        elif (form.mean, form.std) != _PLAIN:
            mean, std = (images.new_tensor(three).view(3, 1, 1) for three in (form.mean, form.std))
            images = (images - mean) / std
        images = images.permute(0, 2, 3, 1) if form.layout == "nhwc" else images
        taken = images.contiguous().numpy().astype(form.dtype)
        return taken[0] if self._alone else taken


def _why(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _noted_form(notes: Mapping[str, Any]) -> InputForm:
    """Return what a file of ours says of its input; one that says nothing takes NCHW, RGB, 0-1."""
    return InputForm(
        layout="nhwc" if notes.get("input_layout") == "NHWC" else "nchw",
        order="bgr" if notes.get("input_colour") == "BGR" else "rgb",
        scale=255 if notes.get("input_range") == "0-255" else 1,
    )


def _noted_size(notes: Mapping[str, Any]) -> Size:
    size = notes.get("imgsz", _USUAL)
    sides = size if isinstance(size, (list, tuple)) else [size]
    known = all(isinstance(side, int) and side > 0 for side in sides) and len(sides) in {1, 2}
    return (sides[0], sides[-1]) if known else (_USUAL, _USUAL)


def _checked(form: InputForm, dtype: str, said: str) -> InputForm:
    """Return the form with the file's own type in it."""
    if dtype not in _DTYPES.values():
        raise RequestError(f"{said}: takes pictures of {dtype}; expected {', '.join(_DTYPES.values())}")
    if form.dtype not in {None, dtype}:
        raise RequestError(f"{said}: takes {dtype}, where teacher_outputs= has input.dtype {form.dtype}")
    if dtype == "uint8" and (form.mean, form.std) != _PLAIN:
        raise RequestError(f"{said}: takes uint8, from which no input.mean can be taken; leave mean and std out")
    return form.model_copy(update={"dtype": dtype, "scale": 255 if dtype == "uint8" else form.scale})


def _listed(values: Any) -> str:
    return ", ".join(f"{one.name} {one.type} {one.shape}" for one in values) or "nothing"
