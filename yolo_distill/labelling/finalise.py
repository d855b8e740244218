"""The end of the work: what is there is counted, drawn, and declared a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from yolo_distill.address import Mirror
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.labelling.contact_sheet import FILE as SHEET
from yolo_distill.labelling.contact_sheet import SHOWN, what_became, write_contact_sheet
from yolo_distill.labelling.dataset import DATA, IMAGES, DataSet, write_data_yaml
from yolo_distill.labelling.journal import Journal
from yolo_distill.labelling.manifest import FILE, Manifest, read_manifest, require_one, shard_file
from yolo_distill.labelling.objects import FINDS
from yolo_distill.labelling.parquet import EMPTY, FOLDER, KEPT, UNREAD, read_part, rows_of
from yolo_distill.labelling.request import starts
from yolo_distill.labelling.statistics import BINS, Statistics
from yolo_distill.labelling.thresholds import at
from yolo_distill.results import LabelResult

#: Of a data set at an address, what only lies here to be looked at.
NEVER_PUT = (IMAGES.parts[0],)


def merge(out: Path, mirror: Mirror | None = None, *, say: Callable[[str], None] = print) -> LabelResult:
    """Make the data set of shards that are all done, and that were written to a folder, or put together in it.

    Of one at an address, `out` is the folder of its mirror.

    Raises:
        RequestError: there are no shards in it.
        DistillError: some are not done, or not of one request; says which.
    """
    manifest = read_manifest(out / FILE)
    if mirror:
        mirror.fetch(mirror.address.find(FOLDER))
    if manifest is None:
        raise RequestError(f"out={out}: holds no shards to merge; give the out= that they were labelled with")
    if (out / DATA).exists():
        say(f"{out / DATA}: is finished already")
        return finalise(out, manifest, say, mirror)
    shards = {index: read_manifest(shard_file(out, index, manifest.shards)) for index in range(1, manifest.shards + 1)}
    require_one(out, manifest, {f"{index}/{manifest.shards}": one for index, one in shards.items() if one is not None})
    busy = range(1, min(manifest.shards, sum(1 for _ in starts(manifest.pictures, manifest.videos))) + 1)
    journal = Journal(out, None if mirror else DataSet(out, copy=False), manifest.settings["every"])
    undone = {place % manifest.shards + 1 for place in journal.missing(manifest)}
    missing = [f"{index}/{manifest.shards}" for index in busy if index in undone or shards[index] is None]
    if missing:
        raise DistillError(f"out={out}: not done yet: shard {', '.join(missing)}; label them, then merge again")
    return finalise(out, manifest, say, mirror)


def finalise(out: Path, manifest: Manifest, say: Callable[[str], None], mirror: Mirror | None) -> LabelResult:
    """Count what is there, draw the contact sheet and, last, write `data.yaml`.

    A data set that is finished stays as it is: a person may have put labels right.

    Raises:
        DistillError: there is no picture in the data set, or the disk cannot be written.
    """
    # What a kill left has the number of a process that is gone in its name, and soft/*.parquet may match it.
    for left in [*out.glob(".*.part.*"), *(out / FOLDER).glob(".*.part.*")]:
        left.unlink(missing_ok=True)
    if mirror:
        mirror.fetch(mirror.address.find(FOLDER))
    statistics = Statistics(at(manifest.thresholds), SHOWN)
    for part in sorted((out / FOLDER).glob("part-*.parquet")):
        for row in rows_of(read_part(part)):
            statistics.add(row)
    if not statistics.states[KEPT]:
        raise DistillError(
            f"out={out}: no picture to train on ({what_became(statistics)}); {_advice(manifest, statistics)}; delete "
            "it before another try"
        )
    say(f"{what_became(statistics)}; {FINDS[manifest.task]}: {_by_class(manifest.names, statistics.boxes.tolist())}")
    if not statistics.boxes.sum():
        say(f"warning: there is no box to train on; {_advice(manifest, statistics)}; another try needs another out=")
    if not (out / DATA).exists():
        if mirror:
            for file in filter(None, (doubt.row.file for doubt in statistics.doubts)):
                mirror.address.get(f"{IMAGES.as_posix()}/{file}", out / IMAGES / file)
        write_contact_sheet(out / SHEET, manifest, statistics, DataSet(out, copy=False).images)
        notes = {"Labelled by": manifest.teacher["name"], "Task": manifest.task}
        notes |= {"Soft answers": f"{FOLDER}/", "To look at first": SHEET}
        write_data_yaml(out, manifest.names, manifest.val, manifest.keypoints, notes)
    if mirror:
        mirror.put(but=NEVER_PUT)
    say(f"data set: {f'{mirror.address.text}/{DATA}' if mirror else out / DATA}\nlook at it first: {out / SHEET}")
    states, boxes = statistics.states, dict(zip(manifest.names, statistics.boxes.tolist(), strict=True))
    return LabelResult(out, None if mirror else out / DATA, out / SHEET, states[KEPT], boxes, states[UNREAD])


def _advice(manifest: Manifest, statistics: Statistics) -> str:
    """Return what to change where there is nothing to train on."""
    if not statistics.states[KEPT] and not statistics.states[EMPTY]:
        return "give pictures that can be read"
    found = statistics.histogram.sum(0).nonzero()[0]
    if not len(found):
        return "the teacher finds nothing at all in them: give pictures like those that it was trained on"
    best = (int(found[-1]) + 1) / BINS
    return f"the teacher's best box there scores {best:.2f} at most, below conf={manifest.settings['conf']:g}: lower it"


def _by_class(names: Sequence[str], boxes: Sequence[int], most: int = 12) -> str:
    """Return the boxes of each class in one line; of many classes, those with most."""
    counts, more = list(zip(names, boxes, strict=True)), ""
    if (left := len(counts) - most) > 0:
        counts, more = sorted(counts, key=lambda one: -one[1])[:most], f" and {left} more classes"
    return ", ".join(f"{number:,} {name}" for name, number in counts) + more
