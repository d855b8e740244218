"""What a person looks at before training on it, as one HTML file that needs nothing else and no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from yolo_distill.files import replacing
from yolo_distill.labelling.dataset import IMAGES
from yolo_distill.labelling.manifest import Manifest
from yolo_distill.labelling.objects import FINDS
from yolo_distill.labelling.parquet import EMPTY, KEPT, SIMILAR, UNREAD
from yolo_distill.labelling.statistics import NEAR, Doubt, Statistics
from yolo_distill.labelling.thresholds import ENOUGH, Threshold, at, hard_labels
from yolo_distill.labelling.thumbnails import thumbnail
from yolo_distill.runtime.drawing import colour_of
from yolo_distill.runtime.letterbox import Floats
from yolo_distill.templates import fill_in

FILE = "contact-sheet.html"
#: Pictures on the sheet: a few megabytes, and as many as a person will look at.
SHOWN = 200

_TEMPLATE = Path(__file__).with_name("contact_sheet.html")
_ALL = "All pictures, those"
_WIDTH, _HEIGHT = 150, 34  # of a histogram, in pixels


def write_contact_sheet(file: Path, manifest: Manifest, statistics: Statistics, images: Path) -> None:
    """Write the sheet of a data set whose pictures are in a folder; it is there whole, or not at all.

    Raises:
        DistillError: the disk cannot be written.
    """
    pieces = fill_in(
        _TEMPLATE,
        teacher=manifest.teacher["name"],
        boxes=f"{int(statistics.boxes.sum()):,}",
        finds=FINDS[manifest.task],
        what=what_became(statistics),
        classes=list(_classes(manifest, statistics)),
        unread=statistics.unread,
        unnamed=statistics.states[UNREAD] - len(statistics.unread),
        which=f"The {len(statistics.doubts)} pictures" if len(statistics.doubts) < statistics.shown else _ALL,
        near=f"{NEAR:g}",
        tenths=range(10),
        pictures=_pictures(manifest, statistics.doubts, images),
    )
    with replacing(file) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.writelines(pieces)


def what_became(statistics: Statistics) -> str:
    """Return in one line how many pictures are in the data set, and what became of the others."""
    states, frames = statistics.states, statistics.frames
    kept = f"{states[KEPT]:,} pictures" + (f" ({frames:,} of them frames of videos)" if frames else "")
    others = {
        "without a box": statistics.empty,
        "left out because nothing was found": states[EMPTY],
        "frames left out that look like earlier ones": states[SIMILAR],
        "unread": states[UNREAD],
    }
    return ", ".join([kept, *(f"{count:,} {what}" for what, count in others.items() if count)])


def why(threshold: Threshold) -> str:
    """Return where a threshold comes from."""
    boxes = f"{threshold.boxes:,} box{'es' * (threshold.boxes != 1)} on val"
    if threshold.f1 is not None:
        return f"best F1 on val, {threshold.f1:.2f} over {boxes.removesuffix(' on val')}"
    if threshold.boxes >= ENOUGH:
        return f"conf=; the teacher finds none of the {boxes}"
    return f"conf=; fewer than {ENOUGH}: {boxes}" if threshold.boxes else "conf="


def histogram(counts: Sequence[int], threshold: float) -> dict[str, Any]:
    """Return where the bars and the threshold stand in a small picture, in pixels from its upper left corner.

    Args:
        counts: boxes by score, in equal steps from 0 to 1.
        threshold: score from which on a box is a label.
    """
    highest, step = max([*counts, 1]), _WIDTH / len(counts)
    bars = []
    for place, count in enumerate(counts):
        if count:
            height = max((_HEIGHT - 4) * count / highest, 1.5)  # one box beside ten thousand is seen as well
            bar = {"x": place * step + 0.5, "y": _HEIGHT - height, "width": step - 1, "height": height}
            bars.append({**bar, "label": (place + 0.5) / len(counts) >= threshold})
    return {"bars": bars, "threshold": threshold * _WIDTH, "width": _WIDTH, "height": _HEIGHT}


def _classes(manifest: Manifest, statistics: Statistics) -> Iterator[dict[str, Any]]:
    counts = zip(statistics.boxes, statistics.pictures, statistics.histogram, strict=True)
    rows = zip(manifest.names, manifest.thresholds, counts, strict=True)
    for column, (name, threshold, (boxes, pictures, scores)) in enumerate(rows):
        yield {
            "name": name,
            "colour": colour_of(column)[::-1],
            "boxes": f"{boxes:,}",
            "pictures": f"{pictures:,}",
            "threshold": f"{threshold.at:.3g}",
            "why": why(threshold),
            "scores": histogram(scores.tolist(), threshold.at),
        }


def _shown_by(doubt: Doubt, thresholds: Floats) -> dict[str, str]:
    """Return by what a picture is found on the sheet: columns of the classes drawn on it, tenths of their scores."""
    scores = doubt.row.found.scores
    classes, margins = hard_labels(scores, thresholds)
    drawn = margins >= -NEAR
    tenths = (scores.max(1, initial=0)[drawn] * 10).astype(int).clip(max=9)
    return {
        "classes": " ".join(map(str, sorted(set(classes[drawn].tolist())))),
        "tenths": " ".join(map(str, sorted(set(tenths.tolist())))),
    }


def _pictures(manifest: Manifest, doubts: Sequence[Doubt], images: Path) -> Iterator[dict[str, Any]]:
    for doubt in doubts:
        file = doubt.row.file
        near = f"{doubt.near} near a threshold" if doubt.near else "all clear"
        yield {
            "name": file or doubt.row.source,
            "state": f"{near}; left out" if doubt.row.state == EMPTY else near,
            **_shown_by(doubt, at(manifest.thresholds)),
            "data": thumbnail(doubt.row, images, manifest.names, at(manifest.thresholds), manifest.form),
            # The whole picture, where the sheet still lies beside it.
            "link": quote((IMAGES / file).as_posix()) if file else None,
        }
