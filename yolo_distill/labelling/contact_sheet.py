"""What a person looks at before training on it, as one HTML file that needs nothing else and no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from yolo_distill.files import replacing
from yolo_distill.labelling.dataset import IMAGES
from yolo_distill.labelling.histogram import bars
from yolo_distill.labelling.manifest import Manifest
from yolo_distill.labelling.parquet import EMPTY, KEPT, SIMILAR, UNREAD
from yolo_distill.labelling.statistics import NEAR, Doubt, Statistics
from yolo_distill.labelling.thresholds import Threshold, at
from yolo_distill.labelling.thumbnails import thumbnail
from yolo_distill.runtime.drawing import colour_of

FILE = "contact-sheet.html"
#: Pictures on the sheet: a few megabytes, and as many as a person will look at.
SHOWN = 200

_STYLE = Path(__file__).with_name("contact_sheet.css")


def write_contact_sheet(file: Path, manifest: Manifest, statistics: Statistics, images: Path) -> None:
    """Write the sheet; it is there whole, or not at all.

    Args:
        file: to write.
        manifest: of the data set.
        statistics: what is in it.
        images: folder of its pictures.

    Raises:
        DistillError: the disk cannot be written.
    """
    with replacing(file) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in _page(manifest, statistics, images))


def _page(manifest: Manifest, statistics: Statistics, images: Path) -> Iterator[str]:
    boxes = int(statistics.boxes.sum())
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(manifest.teacher['name'])}: yolo-distill label</title>"
    yield f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style></head>\n<body>"
    yield f"<h1>{boxes:,} boxes by {escape(manifest.teacher['name'])}</h1>"
    yield f'<p class="what">{escape(what_became(statistics))}</p>'
    yield "<h2>Classes</h2>"
    yield from _classes(manifest, statistics)
    yield from _unread(statistics)
    yield from _pictures(manifest, statistics.doubts, images, len(statistics.doubts) < statistics.shown)
    yield "</body></html>"


def what_became(statistics: Statistics) -> str:
    """Return in one line how many pictures are in the data set, and what became of the others."""
    kept, frames = statistics.states[KEPT], statistics.frames
    parts = [f"{kept:,} pictures" + (f" ({frames:,} of them frames of videos)" if frames else "")]
    parts += [f"{statistics.empty:,} without a box"] if statistics.empty else []
    parts += [f"{statistics.states[EMPTY]:,} left out because nothing was found"] if statistics.states[EMPTY] else []
    parts += (
        [f"{statistics.states[SIMILAR]:,} frames left out that look like earlier ones"]
        if statistics.states[SIMILAR]
        else []
    )
    parts += [f"{statistics.states[UNREAD]:,} unread"] if statistics.states[UNREAD] else []
    return ", ".join(parts)


def why(threshold: Threshold) -> str:
    """Return where a threshold comes from."""
    if threshold.f1 is not None:
        return f"best F1 on val, {threshold.f1:.2f} over {threshold.boxes:,} boxes"
    return f"conf=; {threshold.boxes} boxes on val are too few or none is found" if threshold.boxes else "conf="


def _classes(manifest: Manifest, statistics: Statistics) -> Iterator[str]:
    yield '<div class="wide"><table><thead><tr><th scope="col">class</th><th scope="col">boxes</th>'
    yield '<th scope="col">pictures</th><th scope="col">threshold</th><th scope="col">chosen by</th>'
    yield '<th scope="col">scores, 0 to 1</th></tr></thead><tbody>'
    rows = zip(
        manifest.names, manifest.thresholds, statistics.boxes, statistics.pictures, statistics.histogram, strict=True
    )
    for column, (name, threshold, boxes, pictures, histogram) in enumerate(rows):
        blue, green, red = colour_of(column)
        picture = bars(histogram.tolist(), threshold.at, f"histogram of the scores of {escape(name, quote=True)}")
        yield (
            f'<tr><th scope="row"><i style="background: rgb({red}, {green}, {blue})"></i>{escape(name)}</th>'
            f"<td>{boxes:,}</td><td>{pictures:,}</td><td>{threshold.at:.3g}</td>"
            f'<td class="what">{escape(why(threshold))}</td><td>{picture}</td></tr>'
        )
    yield "</tbody></table></div>"


def _unread(statistics: Statistics) -> Iterator[str]:
    if not statistics.unread:
        return
    more = statistics.states[UNREAD] - len(statistics.unread)
    yield "<h2>Could not be read</h2>\n<ul class='what'>"
    yield from (f"<li>{escape(path)}: {escape(reason)}</li>" for path, reason in statistics.unread)
    yield (f"<li>and {more:,} more</li>" if more else "") + "</ul>"


def _pictures(manifest: Manifest, doubts: Sequence[Doubt], images: Path, more: bool) -> Iterator[str]:
    which = f"The {len(doubts)} pictures" if more else "All pictures, those"
    yield f"<h2>{which} with most boxes near a threshold first</h2>"
    yield (
        '<p class="what">Full lines are labels. Broken lines are boxes that miss their threshold by less than '
        f"{NEAR:g} and are left out. A wrong label is put right in labels/train.</p>"
    )
    yield '<div class="sheet">'
    for doubt in doubts:
        data = thumbnail(doubt.row, images, manifest.names, at(manifest.thresholds))
        name = escape(doubt.row.file or doubt.row.source)
        near = f"{doubt.near} near a threshold" if doubt.near else "all clear"
        state = f"{near}; left out" if doubt.row.state == EMPTY else near
        image = f'<img loading="lazy" alt="{name}" src="data:image/jpeg;base64,{data}">' if data else ""
        if doubt.row.file:  # the whole picture, where the sheet still lies beside it
            image = f'<a href="{escape(quote((IMAGES / doubt.row.file).as_posix()))}">{image}</a>'
        yield f"<figure>{image}<figcaption><b>{name}</b> {state}</figcaption></figure>"
    yield "</div>"
