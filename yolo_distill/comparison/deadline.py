"""Chooses a run's student by a deadline: candidates are timed untrained, those that meet it compared by their starts.

What a network computes does not decide how long it takes, so that a file of random weights promises the time of the
file that the trained student will be exported to.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import hashlib
import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.benchmarking.backends import Row
from yolo_distill.benchmarking.engines import Job, open_engine
from yolo_distill.benchmarking.models import Model
from yolo_distill.benchmarking.report import arm_figures
from yolo_distill.benchmarking.rounds import Arm, measure
from yolo_distill.benchmarking.timing_pictures import load_pictures
from yolo_distill.data.samples import random_state_kept, read_samples
from yolo_distill.engine.request_checks import require_teachable
from yolo_distill.engine.run import may_start_inside
from yolo_distill.engine.run_folder import runs_folder
from yolo_distill.engine.summary import measured_by
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.exporting.onnx_file import annotate, trace
from yolo_distill.exporting.targets import load_target
from yolo_distill.files import write_bytes
from yolo_distill.graphs.quantise import Quantiser
from yolo_distill.initialization.initialize import PREFIX, begin_inside
from yolo_distill.machine import busy, cpu_name
from yolo_distill.models.checkpoint import build_plan, longest_side, read_plan, require_side
from yolo_distill.models.sizes import resized, width_of, write_plan
from yolo_distill.recipe import Recipe
from yolo_distill.runtime.progress import Progress
from yolo_distill.tables import NO_VALUE, Table
from yolo_distill.teachers.loading import Teachers
from yolo_distill.version import __version__

#: What was measured and taken; beside the candidates, and in the folder of the run.
JSON = "latency.json"
_FOLDER = "candidates"
#: Sizes of a family, largest first; widths by the smallest one's where it has no pico and femto, and by the teacher's
#: where it is of no family.
_LETTERS, _BELOW_NANO, _SHARES = "xlmstnpf", (0.75, 0.5), (0.5, 0.375, 0.25)
_ROUNDS, _SECONDS = 20, 2.0  # a candidate
_CALIBRATED_ON = 8  # pictures: ranges move accuracy, which an untrained net has none of, and not the time
_CONF = 0.25


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


class Choice:
    """The choice of a run's student, which is made when its request has been checked."""

    def __init__(self, asked: Deadline) -> None:
        self._asked = asked
        self._report: dict[str, Any] = {}

    def __call__(self, recipe: Recipe, settings: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[str, int]:
        """Return the student, an architecture beside the candidates, and the side of its pictures, and say why.

        Args:
            recipe: of the run.
            settings: Ultralytics' of the run.
            data: as `check_data` returns it.

        Raises:
            RequestError: nothing meets the deadline, or something else in the request has to change.
        """
        asked = self._asked
        teacher = _teacher(asked, recipe)
        sides = list(dict.fromkeys(asked.sides)) or [settings.get("imgsz", DEFAULT_CFG_DICT["imgsz"])]
        for side in sides:
            require_side(longest_side([side]), teacher)
            require_teachable(recipe, {**settings, "imgsz": side})
        folder = runs_folder(settings) / _FOLDER
        models = _smaller(teacher, asked, data["names"])
        found = [_candidate(name, model, side, asked.precision) for side in sides for name, model in models.items()]
        doubt = "" if asked.latency_on else busy()
        _time(found, models, asked, folder, data, least=bool(doubt))
        meeting = [one for one in found if one.ms <= asked.latency]
        if not meeting:
            raise RequestError(_too_slow(found, asked))
        for one in meeting if asked.students else _largest(meeting, models):
            if may_start_inside(recipe, one.student, settings):
                LOGGER.info(f"{PREFIX}the start of {one.name}, {one.ms:.1f} ms: fitted, and measured on val")
                one.map = _start(models[one.student], teacher, recipe, one.imgsz, settings, data)
        # Where no start is fitted, the most that there is time for.
        taken = max(meeting, key=lambda one: (-1.0 if one.map is None else one.map, one.ms))
        _say(found, taken, asked, doubt)
        self._report = {
            **asdict(asked),
            "data": settings["data"],
            "processor": None if asked.latency_on else cpu_name(),
            "doubt": doubt,
            "taken": asdict(taken),
            "candidates": [asdict(one) for one in found],
        }
        student = write_plan(models[taken.student].yaml, folder)
        self._write(folder)  # a run that is interrupted has none of its own
        return student, taken.imgsz

    def keep(self, folder: Path) -> None:
        """Write `latency.json` into the folder of the finished run, and say how to export what was promised."""
        self._write(folder)
        taken, best = self._report["taken"], folder / "weights" / "best.pt"
        LOGGER.info(
            f"Promised: {taken['ms']:.1f} ms a picture ({_how(self._asked)}) of\n         yolo-distill export "
            f"model={best} data={self._report['data']} precision={self._asked.precision}"
        )

    def _write(self, folder: Path) -> None:
        write_bytes(folder / JSON, (json.dumps(self._report, indent=1) + "\n").encode())


def _teacher(asked: Deadline, recipe: Recipe) -> DetectionModel:
    """Return the teacher, which has to be one YOLO that has weights."""
    said = f"latency={asked.latency:g}: "
    teachers = Teachers.of(recipe)
    if teachers.alone and teachers.members[0].untrained:
        raise RequestError(f"{said}teacher={recipe.teacher} has no weights yet; train it first, and give its best.pt")
    if not teachers.is_one_yolo:
        raise RequestError(f"{said}teacher={recipe.teacher} is not one YOLO, inside which candidates could start")
    teacher = teachers.model(teachers.members[0])
    if teacher.task != "detect":
        raise RequestError(f"{said}teacher={recipe.teacher} is a {teacher.task} model; only detectors are timed")
    return teacher


def _smaller(teacher: DetectionModel, asked: Deadline, names: Mapping[int, str]) -> dict[str, DetectionModel]:
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
                    model = build_plan(wanted, len(names), f"student={wanted['yaml_file']}")
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
        return [read_plan(name, "student") for name in map(str.strip, students.split(","))]
    own: dict[str, Any] = dict(teacher.yaml)
    family = re.fullmatch(r"(.*\d)[a-z]", Path(str(own.get("yaml_file"))).stem)
    found: dict[str, dict[str, Any]] = {}
    for letter in _LETTERS if family else "":
        with contextlib.suppress(RequestError):  # families lack some
            found[letter] = read_plan(f"{family[1] if family else ''}{letter}.yaml", "student")
    if _LETTERS[-1] in found:
        return list(found.values())
    base, shares = (list(found.values())[-1], _BELOW_NANO) if found else (own, _SHARES)
    said = f"teacher={own.get('yaml_file')}"
    return [*found.values(), *(resized(base, share * width_of(base), None, None, said=said) for share in shares)]


def _body(model: DetectionModel) -> int:
    """Return the parameters without the head, which differs by the number of classes."""
    return sum(one.numel() for one in model.model[:-1].parameters())


def _candidate(student: str, model: DetectionModel, side: int, precision: str) -> Candidate:
    file = f"{Path(student).stem}-{side}-{precision}.onnx"
    return Candidate(file, student, side, sum(one.numel() for one in model.parameters()))


def _write(file: Path, model: DetectionModel, side: int, precision: str, data: Mapping[str, Any]) -> None:
    """Export an untrained network as `export` does, unless the file of this very network is there."""
    plan = {key: value for key, value in model.yaml.items() if key != "yaml_file"}
    told = json.dumps([plan, model.names, side, precision, __version__], default=str)
    digest = hashlib.sha256(told.encode()).hexdigest()
    if file.is_file() and digest.encode() in file.read_bytes():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    made = load_target("cpu")
    with tempfile.TemporaryDirectory(dir=file.parent) as place:
        draft = trace(model, Path(place), "fp32", (side, side), None, made.opset, made.simplify)
        if precision == "int8":
            pictures = read_samples(dict(data), (side, side), _CALIBRATED_ON)
            quantiser = Quantiser(draft, (one[None].astype(np.float32) / np.float32(255) for one in pictures))
            kept = quantiser.kept_always(pictures=False).values()
            draft = draft.with_name("int8.onnx")
            quantiser.write(draft, keep=[node for nodes in kept for node in nodes])
        annotate(draft, {"description": "untrained, to be timed", "precision": precision, "candidate": digest})
        draft.replace(file)


def _time(
    found: Sequence[Candidate],
    models: Mapping[str, DetectionModel],
    asked: Deadline,
    folder: Path,
    data: Mapping[str, Any],
    *,
    least: bool,
) -> None:
    """Fill in the times of the candidates: the median, or the least where others keep the machine busy.

    Raises:
        RequestError: they are to be timed elsewhere, and have not been.
    """
    there = _timed_there(asked)
    missing = [one for one in found if one.file not in there]
    progress = Progress()
    if missing:
        LOGGER.info(f"{PREFIX}latency={asked.latency:g}: {len(missing)} candidates, untrained, in {folder}")
    for place, one in enumerate(missing, 1):
        progress.report(f"making {one.file} ({place}/{len(missing)})")
        _write(folder / one.file, models[one.student], one.imgsz, asked.precision, data)
    progress.clear()
    if asked.latency_on is None:
        there = _timed_here(folder, found, asked, str(data["yaml_file"]), progress, least=least)
    elif missing:
        raise RequestError(_to_be_timed(asked, folder, [one.file for one in missing]))
    for one in found:
        one.ms = there[one.file]


def _timed_here(
    folder: Path, candidates: Sequence[Candidate], asked: Deadline, data: str, progress: Progress, *, least: bool
) -> dict[str, float]:
    """Return the time of whole detections in milliseconds by file, measured as `benchmark` does."""
    pictures, _ = load_pictures(data, "val", None, _ROUNDS)
    before = cv2.getNumThreads(), torch.get_num_threads()
    try:
        arms = []
        for one in candidates:
            size = (one.imgsz, one.imgsz)
            model = Model(folder / one.file, one.file, "onnx", size, False, asked.precision, (), "", 0, "")
            engine = open_engine(Job(model, "ours", asked.threads, "cpu", _CONF))
            arms.append(Arm(Row(model, "ours", optional=False), asked.threads, engine))
        progress.say(f"timing {len(arms)} candidates in {_ROUNDS} rounds, about {_SECONDS * len(arms):.0f} s")
        gc.freeze()  # each turn collects first, and need not look through all that torch keeps
        measure(arms, pictures, _ROUNDS, _SECONDS, progress.report)
    finally:
        gc.unfreeze()
        progress.clear()
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])
    return {
        arm.row.model.label: min(map(min, arm.detections)) if least else arm_figures(arm, None)["p50_ms"]
        for arm in arms
    }


def _timed_there(asked: Deadline) -> dict[str, float]:
    """Return what `benchmark` found on another machine, by file; nothing where its file is still to come."""
    if asked.latency_on is None or not (file := Path(asked.latency_on).expanduser()).exists():
        return {}
    threads = str(asked.threads)
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return {
            PurePath(row["model"]).name: float(row["threads"][threads]["p50_ms"])
            for row in rows
            if row["backend"] == "ours" and threads in row["threads"]
        }
    except OSError as error:
        raise RequestError(f"latency_on={asked.latency_on}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"latency_on={asked.latency_on}: is not what yolo-distill benchmark writes as benchmark.json "
            f"({type(error).__name__}: {error})"
        ) from None


def _to_be_timed(asked: Deadline, folder: Path, missing: Sequence[str]) -> str:
    count, threads = len(missing), asked.threads
    return (
        f"latency_on={asked.latency_on}: has no times of {count} candidate{'s' * (count > 1)} on {threads} "
        f"thread{'s' * (threads > 1)}; copy {', '.join(missing)} from {folder} to the machine that counts, type there: "
        f"yolo-distill benchmark model={','.join(missing)} threads={threads} backends=ours "
        f"out={Path(str(asked.latency_on)).name}, and bring that file back"
    )


def _largest(meeting: Sequence[Candidate], models: Mapping[str, DetectionModel]) -> Iterator[Candidate]:
    """Yield the largest of each activation and side: of one architecture the narrower starts no better."""
    seen = set()
    for one in sorted(meeting, key=lambda one: -one.parameters):
        kind = str(models[one.student].yaml.get("activation")), one.imgsz
        if kind not in seen:
            seen.add(kind)
            yield one


def _start(
    model: DetectionModel,
    teacher: DetectionModel,
    recipe: Recipe,
    side: int,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
) -> float | None:
    """Return mAP50-95 on val, 0 to 100, of a student fitted inside its teacher; None where it would not start there."""
    small, args = copy.deepcopy(model), get_cfg(overrides=dict(settings))
    device = select_device(parse_device(settings.get("device")), verbose=False)
    if begin_inside(small, teacher, recipe, args=args, data=data, imgsz=side, device=device) is None:
        return None
    return 100 * float(evaluate(small, settings["data"], imgsz=side, **measured_by(settings))["map"])


def _too_slow(found: Sequence[Candidate], asked: Deadline) -> str:
    best = min(found, key=lambda one: one.ms)
    return (
        f"latency={asked.latency:g}: nothing meets it; the fastest of {len(found)} candidates, {best.name}, takes "
        f"{best.ms:.1f} ms a picture ({_how(asked)}); give latency={math.ceil(best.ms)} or more, a smaller imgsz=, or "
        "another precision= or threads="
    )


def _say(found: Sequence[Candidate], taken: Candidate, asked: Deadline, doubt: str) -> None:
    LOGGER.info(f"\n{_table(found, asked)}\n")
    if doubt:
        LOGGER.warning(f"{doubt}, and the least of each is taken, not the median")
    start = "" if taken.map is None else f"; the best start: mAP50-95 {taken.map:.1f} on val before it is trained"
    LOGGER.info(f"{PREFIX}takes {taken.name}: {taken.ms:.1f} of {asked.latency:g} ms a picture ({_how(asked)}){start}")


def _table(found: Sequence[Candidate], asked: Deadline) -> str:
    rows = [
        [
            Path(one.student).stem,
            str(one.imgsz),
            f"{one.parameters:,}",
            f"{one.ms:.1f}",
            "yes" if one.ms <= asked.latency else "no",
            NO_VALUE if one.map is None else f"{one.map:.1f}",
        ]
        for one in found
    ]
    header = ["candidate", "px", "parameters", "ms a picture", f"within {asked.latency:g} ms", "mAP50-95 of its start"]
    return Table(f"Candidates, {_how(asked)}", header, rows).drawn()


def _how(asked: Deadline) -> str:
    on = f" on {Path(asked.latency_on).name}" if asked.latency_on else ""
    return f"{asked.precision}, {asked.threads} thread{'s' * (asked.threads > 1)}{on}"
