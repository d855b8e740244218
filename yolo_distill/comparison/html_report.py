"""The comparison as one HTML file that needs nothing else: styles, charts and pictures are inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_distill.comparison.caveats import caveats_of, sentence, setting_line
from yolo_distill.comparison.charts import DARK, LIGHT, accuracy_chart, share_chart
from yolo_distill.comparison.pictures import Shown
from yolo_distill.comparison.tables import tables_of
from yolo_distill.templates import fill_in

_TEMPLATE = Path(__file__).with_name("html_report.html")


def html_report(summary: Mapping[str, Any], pictures: Sequence[Shown]) -> str:
    """Return the page.

    Args:
        summary: as `summarise` returns it.
        pictures: on which two arms differ most.
    """
    plan = summary["plan"]
    charts = {"Curves": accuracy_chart(summary), "Gradient shares": share_chart(summary)}
    pieces = fill_in(
        _TEMPLATE,
        title=f"{plan['teacher']['name']} and {plan['student']['name']}: yolo-distill compare",
        sentences=[sentence(said) for said in (summary["verdict"], *summary["further"])],
        setting=setting_line(summary),
        tables=tables_of(summary),
        charts={heading: chart for heading, chart in charts.items() if chart},
        light=LIGHT.lines,
        dark=DARK.lines,
        pictures=pictures,
        pictures_heading=_pictures_heading(summary, pictures),
        caveats=caveats_of(summary),
    )
    return "".join(pieces)


def _pictures_heading(summary: Mapping[str, Any], pictures: Sequence[Shown]) -> str:
    if not pictures:
        return ""
    base, ours = pictures[0].scores
    seed = summary.get("pictures_seed")
    return f"Pictures of {summary['headline']['split']} on which {ours} and {base} differ most (seed {seed})"
