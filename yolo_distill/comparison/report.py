"""What a comparison leaves in its folder: comparison.json, table.md and index.html, written anew after every run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo_distill.comparison.arms import PLAIN, TEACHER
from yolo_distill.comparison.budget import decided, equal_time_arm
from yolo_distill.comparison.caveats import caveats_of, sentence, setting_line
from yolo_distill.comparison.html_report import html_report
from yolo_distill.comparison.pictures import Shown, most_different
from yolo_distill.comparison.plan import Plan
from yolo_distill.comparison.results import summarise
from yolo_distill.comparison.run_queue import RunQueue
from yolo_distill.comparison.run_record import write_json
from yolo_distill.comparison.runs import Run, run_of, teacher_run, weights_of
from yolo_distill.comparison.tables import tables_of
from yolo_distill.evaluation.evaluate import cost
from yolo_distill.files import write_bytes
from yolo_distill.models.checkpoint import one_line, rounded_imgsz
from yolo_distill.teachers.loading import Reading, Teachers
from yolo_distill.validation import read_json

JSON, TABLE, PAGE, COST = "comparison.json", "table.md", "index.html", "cost.json"
#: The pictures of the last finished page, for pages until the next.
PICTURES = "pictures.json"


@dataclass(frozen=True)
class KeptPictures:
    """What `pictures.json` holds.

    Attributes:
        arm: that is shown beside plain.
        seed: of both runs.
        shown: the pictures.
    """

    arm: str | None
    seed: int | None
    shown: list[Shown]


class Report:
    """Reports what is finished, also what earlier calls finished."""

    def __init__(self, out: Path, plan: Plan, queue: RunQueue, *, trust: bool) -> None:
        self._out, self._plan, self._queue, self._trust = out, plan, queue, trust

    def interim(self) -> None:
        """Write what there is to say now, without measuring anything: pictures are those of the last finished page."""
        summary = self._summary()
        self._write(summary, self._kept_pictures(summary))

    def final(self, device: Any) -> dict[str, Any]:
        """Measure cost, find the pictures that differ most, write all of it, and return the summary."""
        summary = self._summary(measure=True)
        pictures: list[Shown] = []
        try:
            pictures, seed = self._pictures(summary["headline"]["arm"], device)
        except Exception as error:  # pictures are no reason to lose the figures of hours
            summary["pictures_missing"] = f"{type(error).__name__}: {one_line(error)}"
        else:
            kept = KeptPictures(summary["headline"]["arm"], seed, pictures)
            write_bytes(self._out / PICTURES, write_json(asdict(kept)))
            _add_pictures(summary, pictures, seed)
        self._write(summary, pictures)
        return summary

    def _kept_pictures(self, summary: dict[str, Any]) -> list[Shown]:
        file = self._out / PICTURES
        kept = read_json(file, KeptPictures, "the pictures of a comparison") if file.is_file() else None
        if kept is None or kept.arm != summary["headline"]["arm"]:
            return []
        _add_pictures(summary, kept.shown, kept.seed)
        return kept.shown

    def _summary(self, measure: bool = False) -> dict[str, Any]:
        decision = decided(self._out)
        arms = dict(self._plan.arms)
        if decision:
            arm = equal_time_arm(arms[PLAIN], decision)
            arms[arm.label] = arm
        runs = [run_of(self._out, arm, seed) for arm in arms.values() for seed in self._plan.seeds]
        asked = {(run.arm.label, run.seed) for run in self._queue.runs if run.arm.kind != TEACHER}
        teacher = teacher_run(self._out)
        summary = summarise(self._plan, teacher, runs, asked, decision)
        summary["cost"] = self._costs([teacher, *runs], measure)
        return summary

    def _costs(self, runs: list[Run], measure: bool) -> dict[str, Any]:
        """Return the cost of one model of each arm; measured once, when no run is in the way of the clock."""
        file = self._out / COST
        known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for run in runs:
            weights = weights_of(run, self._plan) if measure and run.arm.label not in known else None
            if weights is None or not weights.is_file():
                continue
            opened = Teachers(str(weights), reading=Reading(self._trust))
            if not opened.is_one_yolo:
                continue
            model = opened.model(opened.members[0])
            found = cost(model, rounded_imgsz(model, self._plan.imgsz))
            # Two timings of one network would only show the clock's noise.
            known[run.arm.label] = next((other for other in known.values() if _same_network(other, found)), found)
            write_bytes(file, write_json(known))
        return known

    def _pictures(self, arm: str | None, device: Any) -> tuple[list[Shown], int | None]:
        plan = self._plan
        for seed in plan.seeds if arm in plan.arms else []:
            pair = {label: weights_of(run_of(self._out, plan.arms[label], seed), plan) for label in (PLAIN, str(arm))}
            files = {label: path for label, path in pair.items() if path is not None and path.is_file()}
            if len(files) == 2:
                shown = most_different(
                    files, plan.data.file, plan.headline, imgsz=plan.imgsz, device=device, trust=self._trust
                )
                return shown, seed
        return [], None

    def _write(self, summary: dict[str, Any], pictures: list[Shown]) -> None:
        write_bytes(self._out / JSON, write_json(summary))
        write_bytes(self._out / TABLE, markdown(summary).encode())
        write_bytes(self._out / PAGE, html_report(summary, pictures).encode())


def _add_pictures(summary: dict[str, Any], pictures: list[Shown], seed: int | None) -> None:
    summary["pictures_seed"] = seed
    summary["pictures"] = [{"name": shown.name, "f1": shown.scores} for shown in pictures]


def _same_network(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in ("parameters", "gflops"))


def markdown(summary: dict[str, Any]) -> str:
    """Return verdict, tables and notes in Markdown."""
    first, *others = map(sentence, [summary["verdict"], *summary["further"]])
    said = "\n\n".join([f"**{first}**", *others, setting_line(summary)])
    tables = "\n\n".join(table.markdown() for table in tables_of(summary))
    notes = "\n".join(f"- {note}" for note in caveats_of(summary))
    return f"{said}\n\n{tables}\n\n{notes}\n"
