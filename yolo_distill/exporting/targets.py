"""The files in `export/`: who an exported model is for, and how it is made for them."""

from __future__ import annotations

from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.paths import export_dir
from yolo_distill.validation import first_problem

Precision = Literal["fp32", "fp16", "int8"]
Input = Literal["floats", "pictures"]


class Target(BaseModel):
    """What a file in `export/` says.

    Attributes:
        name: the file's name without `.yaml`; not in the file.
        audience: who the exported file is for; `for` in the file.
        dynamic: whether the graph takes pictures of any size; none does.
        simplify: whether the traced graph is slimmed.
        precisions: what is on offer; the first is what is made when nothing is said.
        input: `floats`, (1, 3, H, W) from 0 to 1, or `pictures`, (1, H, W, 3) uint8.
        delegates: whether the graph is rewritten for the GPU and NPU delegates of phones, and has to pass their check.
        ort: whether an `.ort` file and the operator list for a reduced runtime are written as well; never of fp16.
        advice: one line for whoever ships the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    audience: str = Field(alias="for")
    format: Literal["onnx"]
    dynamic: Literal[False]
    opset: int
    simplify: bool
    precisions: tuple[Precision, ...] = Field(min_length=1)
    input: Input
    delegates: bool
    ort: bool
    advice: str

    def check(self, precision: str, form: str, nms: bool | None, data: object) -> None:
        """Refuse what can't be made for this target.

        Args:
            precision: of the file.
            form: of its input.
            nms: False: the one-to-one branch.
            data: what int8 is calibrated on.

        Raises:
            RequestError: says what does not go together.
        """
        if precision not in self.precisions:
            had = ", ".join(self.precisions)
            hint = did_you_mean(precision, self.precisions)
            raise RequestError(f"precision={precision}: target={self.name} is made in {had}{hint}")
        if precision == "int8" and not data:
            raise RequestError("precision=int8: give data=, a data set file whose train pictures it is calibrated on")
        if form == "pictures" and self.delegates:
            said = f"target={self.name} runs on GPU and NPU delegates, which take floats only"
            raise RequestError(f"input=pictures: {said}")
        if nms is False and self.delegates:
            raise RequestError(
                f"nms=false: the one-to-one branch picks its boxes inside the file (top-k), which the delegates of "
                f"target={self.name} do not run; leave nms= out, NMS is done by the runtime"
            )


def load_target(name: str) -> Target:
    """Read a target file of `export/`.

    Raises:
        RequestError: there is no such target, or it says something that cannot be made.
    """
    known = {file.stem: file for file in export_dir().glob("*.yaml")}
    if name not in known:
        raise RequestError(f"target={name}: unknown{did_you_mean(name, known)} (known: {', '.join(sorted(known))})")
    try:
        found = Target.model_validate(yaml.safe_load(known[name].read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"target={name}: {known[name]} is not YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        keys = {field.alias or key for key, field in Target.model_fields.items()}
        raise RequestError(f"target={name}: {known[name]}: {first_problem(error, keys)}") from None
    return found.model_copy(update={"name": name})
