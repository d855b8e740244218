"""The comparison as one HTML file that needs nothing else: styles, curves and pictures are inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from yolo_distill.comparison.caveats import caveats_of, sentence, setting_line
from yolo_distill.comparison.charts import accuracy_curves, share_curves
from yolo_distill.comparison.pictures import Shown
from yolo_distill.comparison.tables import tables_of

_STYLE = Path(__file__).with_name("html_report.css")


def page(summary: Mapping[str, Any], pictures: Sequence[Shown]) -> str:
    """Return the page.

    Args:
        summary: as `summarise` returns it.
        pictures: on which two arms differ most.
    """
    notes = "".join(f"<li>{escape(note)}</li>" for note in caveats_of(summary))
    parts = [
        f"<h1>{escape(sentence(summary['verdict']))}</h1>",
        *(f"<p>{escape(sentence(further))}</p>" for further in summary["further"]),
        f'<p class="what">{escape(setting_line(summary))}</p>',
        *map(_table, tables_of(summary)),
        _section("Curves", accuracy_curves(summary)),
        _section("Gradient shares", share_curves(summary)),
        _pictures(summary, pictures),
        _section("What to know", f'<ul class="notes">{notes}</ul>'),
    ]
    title = f"{summary['plan']['teacher']['name']} and {summary['plan']['student']['name']}: yolo-distill compare"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{_STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body>\n{chr(10).join(filter(None, parts))}\n</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}" if content else ""


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = []
    for place, (first, *rest) in enumerate(table.rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        strong = ' class="strong"' if place in table.strong else ""
        rows.append(f'<tr{strong}><th scope="row">{escape(first).replace("@", "<wbr>@")}</th>{cells}</tr>')
    body = "\n".join(rows)
    return _section(
        table.title,
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>',
    )


def _pictures(summary: Mapping[str, Any], pictures: Sequence[Shown]) -> str:
    if not pictures:
        return ""
    parts = [
        '<p class="legend"><span><i class="right"></i>right (overlap 0.5 or more)</span>'
        '<span><i class="false"></i>false</span><span><i class="missed"></i>missed</span></p>'
    ]
    for shown in pictures:
        panes = "".join(
            f'<figure><img loading="lazy" alt="{escape(label)}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption>{escape(label)}{_score(shown, label)}</figcaption></figure>"
            for label, data in shown.panes.items()
        )
        parts.append(f'<h3 class="what">{escape(shown.name)}</h3><div class="panes">{panes}</div>')
    base, ours = pictures[0].scores
    seed = summary.get("pictures_seed")
    title = f"Pictures of {summary['headline']['split']} on which {ours} and {base} differ most (seed {seed})"
    return _section(title, "\n".join(parts))


def _score(shown: Shown, label: str) -> str:
    return f", F1 {shown.scores[label]:.2f}" if label in shown.scores else ""
