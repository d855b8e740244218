"""What a comparison leaves in its folder: comparison.json, table.md and index.html, written anew after every run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from yolo_distill.comparison.arms import PLAIN, TEACHER
from yolo_distill.comparison.budget import decided, equal_time_arm
from yolo_distill.comparison.caveats import caveats_of, sentence, setting_line
from yolo_distill.comparison.charts import DARK, LIGHT, accuracy_chart, front_chart, share_chart
from yolo_distill.comparison.pictures import CONFIDENCE, Shown, most_different
from yolo_distill.comparison.plan import Plan
from yolo_distill.comparison.results import summarise
from yolo_distill.comparison.run_queue import RunQueue
from yolo_distill.comparison.run_record import write_json
from yolo_distill.comparison.runs import Run, run_of, teacher_run, weights_of
from yolo_distill.comparison.tables import tables_of
from yolo_distill.errors import one_line
from yolo_distill.evaluation.evaluate import cost
from yolo_distill.files import write_bytes
from yolo_distill.models.imgsz import rounded_imgsz
from yolo_distill.teachers.loading import Reading, Teachers
from yolo_distill.templates import fill_in
from yolo_distill.validation import read_json

JSON, TABLE, PAGE, COST = "comparison.json", "table.md", "index.html", "cost.json"
#: The pictures of the last finished page, for pages until the next.
PICTURES = "pictures.json"
_TEMPLATE = Path(__file__).with_name("report.html")


@dataclass(frozen=True)
class Pictures:
    """What `pictures.json` holds: pictures of runs of plain and of `arm` with one seed."""

    arm: str | None
    seed: int | None = None
    shown: list[Shown] = field(default_factory=list)

    def why_none(self, split: str) -> str | None:
        """Return why there are none; None where there are."""
        if self.shown:
            return None
        if self.arm is None:
            return f"{PLAIN} is the only arm."
        if self.seed is None:
            return f"no seed has weights of both {self.arm} and {PLAIN}."
        return f"{self.arm} and {PLAIN} find equally much on every one of {split}, at a score of {CONFIDENCE} or more."


class Report:
    """Reports what is finished, also what earlier calls finished."""

    def __init__(self, out: Path, plan: Plan, queue: RunQueue, *, trust: bool) -> None:
        self._out, self._plan, self._queue, self._trust = out, plan, queue, trust

    def interim(self) -> None:
        """Write what there is to say now, without measuring anything: pictures are those of the last finished page."""
        summary = self.summary(measure=False)
        file = self._out / PICTURES
        kept = read_json(file, Pictures, "the pictures of a comparison") if file.is_file() else None
        self._write(summary, kept if kept and kept.arm == summary["headline"]["arm"] else None)

    def final(self, device: Any) -> dict[str, Any]:
        """Measure cost, find the pictures that differ most, write all of it, and return the summary."""
        summary = self.summary(measure=True)
        pictures = None
        try:
            pictures = self._pictures(summary["headline"]["arm"], device)
        except Exception as error:  # pictures are no reason to lose the figures of hours
            summary["pictures_missing"] = f"{type(error).__name__}: {one_line(error)}"
        else:
            write_bytes(self._out / PICTURES, write_json(asdict(pictures)))
            summary["pictures_missing"] = pictures.why_none(summary["headline"]["split"])
        self._write(summary, pictures)
        return summary

    def summary(self, *, measure: bool) -> dict[str, Any]:
        """Return what there is to say; cost is that measured before unless it is to be measured now."""
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
        known: dict[str, Any] = read_json(file, dict, "what a comparison measured") if file.is_file() else {}
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
            network = found["parameters"], found["gflops"]
            same = (other for other in known.values() if (other["parameters"], other["gflops"]) == network)
            known[run.arm.label] = next(same, found)
            write_bytes(file, write_json(known))
        return known

    def _pictures(self, arm: str | None, device: Any) -> Pictures:
        plan = self._plan
        for seed in plan.seeds if arm in plan.arms else []:
            pair = {label: weights_of(run_of(self._out, plan.arms[label], seed), plan) for label in (PLAIN, str(arm))}
            files = {label: path for label, path in pair.items() if path is not None and path.is_file()}
            if len(files) == 2:
                shown = most_different(
                    files, plan.data.file, plan.headline, imgsz=plan.imgsz, device=device, trust=self._trust
                )
                return Pictures(arm, seed, shown)
        return Pictures(arm)

    def _write(self, summary: dict[str, Any], pictures: Pictures | None) -> None:
        shown = pictures.shown if pictures else []
        if pictures:
            summary["pictures_seed"] = pictures.seed
            summary["pictures"] = [{"name": one.name, "f1": one.scores} for one in shown]
        write_bytes(self._out / JSON, write_json(summary))
        write_bytes(self._out / TABLE, markdown(summary).encode())
        write_bytes(self._out / PAGE, html_report(summary, shown).encode())


def markdown(summary: dict[str, Any]) -> str:
    """Return verdict, tables and notes in Markdown."""
    first, *others = map(sentence, [summary["verdict"], *summary["further"]])
    said = "\n\n".join([f"**{first}**", *others, setting_line(summary)])
    tables = "\n\n".join(table.markdown() for table in tables_of(summary))
    notes = "\n".join(f"- {note}" for note in caveats_of(summary))
    return f"{said}\n\n{tables}\n\n{notes}\n"


def terminal(summary: dict[str, Any], width: int) -> str:
    """Return verdict, tables and notes for a terminal of so many columns."""

    def wrapped(text: str, indent: str = "") -> str:
        return textwrap.fill(text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)

    said = [wrapped(sentence(words)) for words in (summary["verdict"], *summary["further"])]
    tables = [table.drawn() for table in tables_of(summary)]
    notes = "\n".join(wrapped(f"- {note}", "  ") for note in caveats_of(summary))
    return "\n\n".join([*said, wrapped(setting_line(summary)), *tables, notes])


def html_report(summary: Mapping[str, Any], pictures: Sequence[Shown]) -> str:
    """Return one HTML file that needs nothing else: styles, charts and pictures are inside it."""
    plan = summary["plan"]
    charts = {
        "Accuracy and time": front_chart(summary),
        "Curves": accuracy_chart(summary),
        "Gradient shares": share_chart(summary),
    }
    heading = ""
    if pictures:
        base, ours = pictures[0].scores
        split, seed = summary["headline"]["split"], summary.get("pictures_seed")
        heading = f"Pictures of {split} on which {ours} and {base} differ most (seed {seed})"
    pieces = fill_in(
        _TEMPLATE,
        title=f"{plan['teacher']['name']} and {plan['student']['name']}: yolo-distill compare",
        sentences=[sentence(said) for said in (summary["verdict"], *summary["further"])],
        setting=setting_line(summary),
        tables=tables_of(summary),
        charts={name: chart for name, chart in charts.items() if chart},
        light=LIGHT.lines,
        dark=DARK.lines,
        pictures=pictures,
        pictures_heading=heading,
        caveats=caveats_of(summary),
    )
    return "".join(pieces)
