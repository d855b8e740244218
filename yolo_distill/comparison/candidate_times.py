"""How long candidates take: files of their untrained networks, timed here, or by `benchmark` on another machine."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import torch
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from yolo_distill.benchmarking.backends import Row
from yolo_distill.benchmarking.engines import Job, open_engine
from yolo_distill.benchmarking.models import Model
from yolo_distill.benchmarking.report import DOUBT, arm_figures
from yolo_distill.benchmarking.rounds import Arm, measure
from yolo_distill.benchmarking.timing_pictures import load_pictures
from yolo_distill.comparison.candidates import Candidate, Deadline
from yolo_distill.data.samples import read_samples
from yolo_distill.errors import RequestError
from yolo_distill.exporting.onnx_file import annotate, trace
from yolo_distill.exporting.targets import load_target
from yolo_distill.graphs.quantise import Quantiser
from yolo_distill.initialization.initialize import PREFIX
from yolo_distill.machine import busy
from yolo_distill.runtime.progress import Progress
from yolo_distill.temporary import temporary_folder
from yolo_distill.version import __version__

_ROUNDS, _SECONDS = 20, 2.0  # a candidate
_CALIBRATED_ON = 8  # pictures: ranges move accuracy, which an untrained net has none of, and not the time
_CONF = 0.25


def time_candidates(
    found: Sequence[Candidate],
    models: Mapping[str, DetectionModel],
    asked: Deadline,
    folder: Path,
    data: Mapping[str, Any],
) -> str:
    """Fill in the times of the candidates: the median, or here the least where others keep the machine busy.

    Returns:
        in words what makes them doubtful; empty where nothing does.

    Raises:
        RequestError: they are to be timed elsewhere, and have not been.
    """
    there, doubt = _timed_there(asked) if asked.latency_on else ({}, busy())
    missing = [one for one in found if one.file not in there]
    progress = Progress()
    if missing:
        LOGGER.info(f"{PREFIX}latency={asked.latency:g}: {len(missing)} candidates, untrained, in {folder}")
    for place, one in enumerate(missing, 1):
        progress.report(f"making {one.file} ({place}/{len(missing)})")
        _write(folder / one.file, models[one.student], one.imgsz, asked.precision, data)
    progress.clear()
    if asked.latency_on is None:
        there = _timed_here(folder, found, asked, str(data["yaml_file"]), progress, least=bool(doubt))
    elif missing:
        raise RequestError(_to_be_timed(asked, folder, [one.file for one in missing]))
    for one in found:
        one.ms = there[one.file]
    return doubt


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


def _timed_there(asked: Deadline) -> tuple[dict[str, float], str]:
    """Return what `benchmark` found on another machine, by file; nothing where its file is still to come.

    And what it says of a machine that was not quiet.
    """
    file = Path(str(asked.latency_on)).expanduser()
    if file.is_dir():  # where it is written without a name of its own
        file /= "benchmark.json"
    if not file.exists():
        return {}, ""
    threads = str(asked.threads)
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        times = {
            PurePath(row["model"]).name: float(row["threads"][threads]["p50_ms"])
            for row in report["rows"]
            if row["backend"] == "ours" and threads in row["threads"]
        }
        doubt = next((note for note in report.get("notes", ()) if note.startswith(DOUBT)), "")
        return times, f"{asked.latency_on}: {doubt}" if doubt else ""
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
        f"out={Path(str(asked.latency_on)).name}, and bring that back"
    )


def _write(file: Path, model: DetectionModel, side: int, precision: str, data: Mapping[str, Any]) -> None:
    """Export an untrained network as `export` does, unless the file of this very network is there."""
    plan = {key: value for key, value in model.yaml.items() if key != "yaml_file"}
    told = json.dumps([plan, model.names, side, precision, __version__], default=str)
    digest = hashlib.sha256(told.encode()).hexdigest()
    if file.is_file() and digest.encode() in file.read_bytes():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    made = load_target("cpu")
    with temporary_folder(file.parent) as place:
        draft = trace(model, place, "fp32", (side, side), None, made.opset, made.simplify)
        if precision == "int8":
            pictures = read_samples(dict(data), (side, side), _CALIBRATED_ON)
            quantiser = Quantiser(draft, (one[None].astype(np.float32) / np.float32(255) for one in pictures))
            kept = quantiser.kept_always(pictures=False).values()
            draft = draft.with_name("int8.onnx")
            quantiser.write(draft, keep=[node for nodes in kept for node in nodes])
        annotate(draft, {"description": "untrained, to be timed", "precision": precision, "candidate": digest})
        draft.replace(file)
