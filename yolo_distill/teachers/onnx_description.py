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

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from yolo_distill.errors import RequestError, did_you_mean

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


class BoxesOutput(_Part):
    """Where the boxes are, and what their four numbers mean."""

    output: str
    form: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    scale: Literal["pixels", "normalised"] = "pixels"


class ScoresOutput(_Part):
    """Where the scores of all classes are."""

    output: str
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    background: Literal["none", "first", "last"] = "none"


class ScoreOutput(_Part):
    """Where the score of each box's one class is."""

    output: str


class LabelsOutput(_Part):
    """Where the class of each box is, and whether the first is number 1."""

    output: str
    one_based: bool = False


class Description(_Part):
    """The whole file, see there.

    Attributes:
        names: class names by column of the scores; None where the file does not say.
        input: how pictures go in.
        boxes, scores, score, labels: how boxes and classes come out.
        nms: whether NMS is still to be done.
    """

    names: dict[Annotated[int, Field(ge=0)], str] | None = None
    input: InputForm = InputForm()
    boxes: BoxesOutput
    scores: ScoresOutput | None = None
    score: ScoreOutput | None = None
    labels: LabelsOutput | None = None
    nms: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Description:
        if (self.scores is None) == (self.score is None) or (self.score is None) != (self.labels is None):
            raise ValueError("give scores: for scores of all classes, or score: and labels: for one class a box")
        return self

    @property
    def outputs(self) -> dict[str, str]:
        """Names of the outputs that are read, by what they are."""
        parts = {"boxes": self.boxes, "scores": self.scores, "score": self.score, "labels": self.labels}
        return {key: part.output for key, part in parts.items() if part is not None}


def read_description(path: str | Path) -> Description:
    """Read a description.

    Args:
        path: a YAML file, see the top of this one. A file that it names for `names` is looked for beside it.

    Raises:
        RequestError: naming the first thing that is wrong, what was received and what it should be.
    """
    said, file = f"teacher_outputs={path}", Path(path).expanduser()
    values = _read_yaml(file, said)
    if not isinstance(values, dict):
        raise RequestError(f"{said}: is not a YAML file of keys and values (it holds a {type(values).__name__})")
    names = values.get("names")
    if isinstance(names, str):
        names = _read_yaml(file.parent / names, f"{said}: names={names}")
        names = names.get("names", names) if isinstance(names, dict) else names
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        return Description(**{**values, "names": names})
    except ValidationError as error:
        raise RequestError(f"{said}: {_first(error)}") from None
    except TypeError:  # keys that are no words
        raise RequestError(f"{said}: its keys are {', '.join(map(str, values))}; expected words") from None


def _read_yaml(file: Path, said: str) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        near = [found.name for found in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        raise RequestError(f"{said}: cannot be read ({error.strerror}){did_you_mean(file.name, near)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"{said}: is not YAML ({' '.join(str(error).split())})") from None


def _first(error: ValidationError) -> str:
    """Return the first complaint in a line."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    key = ".".join(place)
    if first["type"] == "missing":
        return f"{key}: is missing"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{did_you_mean(place[-1], _known(place[:-1]))}"
    if first["type"] == "value_error":  # a sentence of ours
        return str(first["ctx"]["error"])
    return f"{key}={first['input']}: {first['msg'][:1].lower() + first['msg'][1:]}"


def _known(place: list[str]) -> Mapping[str, Any]:
    """Return the keys that may stand at a place."""
    parts: dict[str, type[_Part]] = {
        "input": InputForm,
        "boxes": BoxesOutput,
        "scores": ScoresOutput,
        "score": ScoreOutput,
        "labels": LabelsOutput,
    }
    return (parts[place[0]] if place else Description).model_fields
