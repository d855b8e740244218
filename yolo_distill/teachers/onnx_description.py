"""What `teacher_outputs=` says of an ONNX detector that is none of Ultralytics': its input, its outputs, its classes.

A YAML file, all of whose keys are here with what they may be; the first value of each is meant where a key is left out,
and only `boxes`, and `scores` or `score` and `labels`, have to be there:

    names: [disc, square]        # or {0: disc, 1: square}, or a YAML file that holds `names`, such as a data.yaml
    input:
      layout: nchw               # nhwc
      order: rgb                 # bgr
      scale: 1                   # 255: what white is, before mean and std
      mean: [0, 0, 0]            # of the three colours in the file's order, in units of `scale`
      std: [1, 1, 1]
      dtype: float32             # float16, uint8 (0 to 255, without mean and std); the file's own
      sizes: orig_target_sizes   # an input that takes width and height of each picture, (B, 2); none
    boxes:
      output: boxes              # (B, N, 4), or (N, 4) for a file of one picture
      form: xyxy                 # xywh (left, top, width, height), cxcywh (centre, width, height)
      scale: pixels              # of the picture that the file was given; normalised: 0 to 1
    scores:                      # a score for each class:
      output: logits             # (B, N, nc)
      activation: none           # sigmoid, softmax: what makes probabilities of what comes out
      background: none           # first, last: a column of nothing, which is left out after the activation
    nms: false                   # true: the same object is there several times; NMS is done here

A file that gives one class a box has, in place of `scores`:

    score: {output: scores}                    # (B, N)
    labels: {output: labels, one_based: false} # (B, N)
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yolo_distill.errors import RequestError
from yolo_distill.validation import first_problem, read_yaml

Positive = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class InputForm(_Part):
    """How a file takes pictures; see the top of this file."""

    layout: Literal["nchw", "nhwc"] = "nchw"
    order: Literal["rgb", "bgr"] = "rgb"
    scale: Literal[1, 255] = 1
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    dtype: Literal["float32", "float16", "uint8"] | None = None
    sizes: str | None = None


class _Output(_Part):
    output: str


class BoxesOutput(_Output):
    """Where the boxes are, and what their four numbers mean."""

    form: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    scale: Literal["pixels", "normalised"] = "pixels"


class ScoresOutput(_Output):
    """Where the scores of all classes are."""

    activation: Literal["none", "sigmoid", "softmax"] = "none"
    background: Literal["none", "first", "last"] = "none"


class LabelsOutput(_Output):
    """Where the class of each box is, and whether the first is number 1."""

    one_based: bool = False


class Description(_Part):
    """The whole file; `names` is None where it does not say them."""

    names: dict[Annotated[int, Field(ge=0)], str] | None = None
    input: InputForm = InputForm()
    boxes: BoxesOutput
    scores: ScoresOutput | None = None
    score: _Output | None = None
    labels: LabelsOutput | None = None
    nms: bool = False

    @property
    def outputs(self) -> dict[str, str]:
        """Names of the outputs that are read, by what they are."""
        parts = {"boxes": self.boxes, "scores": self.scores, "score": self.score, "labels": self.labels}
        return {key: part.output for key, part in parts.items() if part is not None}


_PARTS: dict[str, type[_Part]] = {
    "input": InputForm,
    "boxes": BoxesOutput,
    "scores": ScoresOutput,
    "score": _Output,
    "labels": LabelsOutput,
}
_KEYS = [*Description.model_fields, *(f"{key}.{name}" for key, part in _PARTS.items() for name in part.model_fields)]


def read_description(path: str | Path) -> Description:
    """Read a description from a YAML file; one that it names for `names` is looked for beside it.

    Raises:
        RequestError: naming the first thing that is wrong, what was received and what it should be.
    """
    said, file = f"teacher_outputs={path}", Path(path).expanduser()
    values = read_yaml(file, said)
    if not isinstance(values, dict):
        raise RequestError(f"{said}: is not a YAML file of keys and values (it holds a {type(values).__name__})")
    names = values.get("names")
    if isinstance(names, str):
        names = read_yaml(file.parent / names, f"{said}: names={names}")
        names = names.get("names", names) if isinstance(names, dict) else names
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        description = Description(**{**values, "names": names})
    except ValidationError as error:
        raise RequestError(f"{said}: {first_problem(error, _KEYS)}") from None
    except TypeError:  # keys that are no words
        raise RequestError(f"{said}: its keys are {', '.join(map(str, values))}; expected words") from None
    if set(description.outputs) not in ({"boxes", "scores"}, {"boxes", "score", "labels"}):
        raise RequestError(f"{said}: give scores: for scores of all classes, or score: and labels: for one class a box")
    return description
