"""How the raw outputs of an ONNX detector become boxes with a probability for each class.

Legend: B pictures, N boxes or anchors a picture, nc classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.runtime.metadata import with_nms
from yolo_distill.teachers.head import Size, strides_of
from yolo_distill.teachers.onnx_description import Description

Outputs = Mapping[str, Tensor]
#: Gives boxes (B, N, 4), xyxy in pixels, and probabilities (B, N, nc) for the outputs of a file and the size of the
#: pictures that it was given.
Read = Callable[[Outputs, Size], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Reading:
    """What a file's outputs mean.

    Attributes:
        read: reads them.
        anchored: whether there is an answer for each anchor of a YOLO head, in its order.
        repeats: whether the same object is there several times, which NMS is still to see to.
        alone: whether they are of one picture, without the dimension of the batch.
    """

    read: Read
    anchored: bool = False
    repeats: bool = False
    alone: bool = False


def noted_reading(notes: Mapping[str, Any], outputs: Outputs, size: Size, classes: int, said: str) -> Reading:
    """Return what the outputs, for one picture of a size, mean by the metadata of a file of ours or Ultralytics'.

    Raises:
        RequestError: it is no detector, or can't be read; `said` is the setting that named the file.
    """
    if (task := notes.get("task", "detect")) != "detect":
        raise RequestError(
            f"{said}: is a {task} model, not a detector; give the checkpoint (.pt) that it was exported from"
        )
    (name, raw), *others = outputs.items()
    noted = "stride" in notes
    transformer = str(notes.get("head", "")).startswith("RTDETR")
    final = transformer or notes.get("end2end") is True or with_nms(notes)
    if not others and raw.ndim == 3:
        if final and raw.shape[2] == 6:
            return Reading(lambda found, own: _rows(found[name].float(), own, classes, transformer))
        if raw.shape[1] == 4 + classes and (noted or strides_of(size, raw.shape[2])):
            return Reading(lambda found, _: _dense(found[name].float()), anchored=True, repeats=True)
        if noted and raw.shape[2] == 4 + classes:  # what older releases of the host made of an RT-DETR
            return Reading(lambda found, own: _split(found[name].float(), own))
        if noted and not final:
            raise RequestError(f"{said}: scores {min(raw.shape[1:]) - 4} classes, and {classes} have names")
    raise RequestError(
        f"{said}: does not say what its outputs mean: {_shapes(outputs)}; describe them in a YAML file and give it as "
        "teacher_outputs= (yolo_distill/teachers/onnx_description.py has an example)"
    )


def described_reading(description: Description, outputs: Outputs, classes: int, said: str) -> Reading:
    """Return what the outputs, for one picture, mean by a description.

    Raises:
        RequestError: the file has no such outputs, or they are of another shape; `said` is the setting that named it.
    """
    for key, name in description.outputs.items():
        if name not in outputs:
            raise RequestError(
                f"{said}: has no output {name!r}, which teacher_outputs= has for {key}{did_you_mean(name, outputs)} "
                f"(it has {_shapes(outputs)})"
            )
    found = {key: _batched(outputs[name], key) for key, name in description.outputs.items()}
    count = found["boxes"].shape[1]
    columns = classes + (description.scores is not None and description.scores.background != "none")
    wanted = {"boxes": (count, 4), "scores": (count, columns), "score": (count,), "labels": (count,)}
    for key, value in found.items():
        if tuple(value.shape[1:]) != wanted[key]:
            shape = ", ".join(["B", "N", *map(str, wanted[key][1:])])
            raise RequestError(
                f"{said}: {description.outputs[key]!r}, which teacher_outputs= has for {key}, is not ({shape}) as it "
                f"should be with {classes} classes; the outputs for one picture are {_shapes(outputs)}"
            )
    return Reading(
        lambda raw, own: _described(raw, own, description, classes),
        repeats=description.nms,
        alone=any(value.ndim > outputs[description.outputs[key]].ndim for key, value in found.items()),
    )


def _dense(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Read (B, 4 + nc, N): centre and size in pixels over probabilities."""
    rows = raw.transpose(1, 2)
    return box_convert(rows[..., :4], "cxcywh", "xyxy"), rows[..., 4:]


def _split(raw: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Read (B, N, 4 + ...): a transformer's boxes, cxcywh in 0..1, beside what it says of them."""
    return box_convert(raw[..., :4], "cxcywh", "xyxy") * _sides(raw, size), raw[..., 4:]


def _rows(raw: Tensor, size: Size, classes: int, transformer: bool) -> tuple[Tensor, Tensor]:
    """Read (B, N, 6): a box, the score of one class, and which."""
    boxes, said = _split(raw, size) if transformer else (raw[..., :4], raw[..., 4:])
    return boxes, _one_hot(said[..., 0], said[..., 1].long(), classes)


def _described(outputs: Outputs, size: Size, description: Description, classes: int) -> tuple[Tensor, Tensor]:
    raw = {key: _batched(outputs[name], key) for key, name in description.outputs.items()}
    boxes = box_convert(raw["boxes"].float(), description.boxes.form, "xyxy")
    if description.boxes.scale == "normalised":
        boxes = boxes * _sides(boxes, size)
    if description.scores is None:
        assert description.labels is not None
        labels = raw["labels"].long() - int(description.labels.one_based)
        return boxes, _one_hot(raw["score"].float(), labels, classes)
    scores = raw["scores"].float()
    if description.scores.activation == "sigmoid":
        scores = scores.sigmoid()
    elif description.scores.activation == "softmax":
        scores = scores.softmax(-1)
    kept = {"none": slice(None), "first": slice(1, None), "last": slice(-1)}[description.scores.background]
    return boxes, scores[..., kept]


def _batched(value: Tensor, key: str) -> Tensor:
    """Return an output with the dimension of the batch, which files of one picture may leave out."""
    return value[None] if value.ndim == (2 if key in {"boxes", "scores"} else 1) else value


def _one_hot(score: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return (B, N, nc) with each box's score (B, N) at its class and 0 elsewhere; a class without a name is none."""
    known = (labels >= 0) & (labels < classes)
    scores = score.new_zeros(*score.shape, classes)
    return scores.scatter_(-1, (labels * known)[..., None], (score * known)[..., None])


def _sides(like: Tensor, size: Size) -> Tensor:
    """Return width, height, width, height."""
    return torch.tensor([size[1], size[0]] * 2, dtype=like.dtype)


def _shapes(outputs: Outputs) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in outputs.items())
