"""The students that a deadline chooses from: what was asked for, and the networks that may meet it, untrained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.samples import random_state_kept
from yolo_distill.errors import RequestError
from yolo_distill.models.architecture_files import build_plan, is_architecture, other_size, read_plan
from yolo_distill.models.sizes import resized, width_of

#: Sizes of a family, largest first; widths by the smallest one's where it has no pico and femto, and by the teacher's
#: where it is of no family.
_LETTERS, _BELOW_NANO, _SHARES = "xlmstnpf", (0.75, 0.5), (0.5, 0.375, 0.25)


@dataclass(frozen=True)
class Deadline:
    """What was asked for.

    Attributes:
        latency: milliseconds that a picture may take.
        threads: that a detection may use.
        precision: `fp32` or `int8`, of the exported file.
        latency_on: what `benchmark` wrote on the machine that counts; None: this one.
        sides: of the pictures, in pixels; empty for the run's own.
        students: architectures to choose from, with commas between; None for the teacher's family.
        act: the only activation to choose from.
    """

    latency: float
    threads: int
    precision: str
    latency_on: str | None
    sides: Sequence[int]
    students: str | None
    act: str | None

    @property
    def how(self) -> str:
        """How a picture is timed, in words."""
        on = f" on {Path(self.latency_on).name}" if self.latency_on else ""
        return f"{self.precision}, {self.threads} thread{'s' * (self.threads > 1)}{on}"


@dataclass
class Candidate:
    """An architecture with a side of pictures.

    Attributes:
        file: name of the exported file.
        student: name of the architecture.
        imgsz: side of the pictures in pixels.
        parameters: how many.
        ms: of a picture; nan until it is timed.
        map: mAP50-95 of the fitted start on val, 0 to 100; None where it was not measured.
    """

    file: str
    student: str
    imgsz: int
    parameters: int
    ms: float = math.nan
    map: float | None = None

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return f"{Path(self.student).stem} at {self.imgsz} px"


def smaller_networks(teacher: DetectionModel, asked: Deadline, names: Mapping[int, str]) -> dict[str, DetectionModel]:
    """Return the candidates' networks, untrained, by architecture, the largest first.

    Raises:
        RequestError: none is smaller than the teacher.
    """
    found: dict[str, DetectionModel] = {}
    with random_state_kept():
        for plan in _plans(teacher, asked.students):
            acts = [None] if plan.get("activation") else [None, "relu"]
            for act in [asked.act] if asked.act else acts:
                wanted = resized(plan, None, None, act, said="student")
                try:
                    points = getattr(teacher.model[-1], "kpt_shape", None)
                    model = build_plan(wanted, len(names), f"student={wanted['yaml_file']}", kpt_shape=points)
                except RequestError:
                    if asked.students:
                        raise
                    continue  # a width at which attention has no whole heads
                model.names = {int(index): str(name) for index, name in names.items()}
                if _body(model) < _body(teacher):
                    found[wanted["yaml_file"]] = model
    if not found:
        raise RequestError(
            f"latency={asked.latency:g}: no candidate is smaller than the teacher; give architectures with commas "
            "between, such as student=yolo26p.yaml,yolo26f.yaml"
        )
    return dict(sorted(found.items(), key=lambda one: -_body(one[1])))


def _plans(teacher: DetectionModel, students: str | None) -> list[dict[str, Any]]:
    """Return the architectures to choose from: those that are named, else the teacher's family, else its widths."""
    if students:
        names = [name.strip() for name in students.split(",")]
        for name in names:
            if not is_architecture(name):
                raise RequestError(
                    f"student={name}: latency= chooses among architectures, such as yolo26n.yaml, and trains the one "
                    "it takes; give those, or leave student= or latency= out"
                )
        return [read_plan(name, "student") for name in names]
    own: dict[str, Any] = dict(teacher.yaml)
    found = {letter: plan for letter in _LETTERS if (plan := other_size(own, letter)) is not None}
    if _LETTERS[-1] in found:
        return list(found.values())
    base, shares = (list(found.values())[-1], _BELOW_NANO) if found else (own, _SHARES)
    said = f"teacher={own.get('yaml_file')}"
    return [*found.values(), *(resized(base, share * width_of(base), None, None, said=said) for share in shares)]


def _body(model: DetectionModel) -> int:
    """Return the parameters without the head, which differs by the number of classes."""
    return sum(one.numel() for one in model.model[:-1].parameters())


def candidate_of(student: str, model: DetectionModel, side: int, precision: str) -> Candidate:
    """Return an architecture of the name `student`, with its network, at a side of pictures; not timed yet."""
    file = f"{Path(student).stem}-{side}-{precision}.onnx"
    return Candidate(file, student, side, sum(one.numel() for one in model.parameters()))
