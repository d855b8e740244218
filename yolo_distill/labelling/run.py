"""`label`: from a request to a finished data set, or to a finished part of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from yolo_distill.comparison.source import source_of_data
from yolo_distill.cores import usable_cores
from yolo_distill.engine.classes import read_class_map
from yolo_distill.engine.data import check_data
from yolo_distill.errors import DistillError
from yolo_distill.labelling.asking import Asker
from yolo_distill.labelling.calibrate import calibrated, said
from yolo_distill.labelling.chunk import Tools
from yolo_distill.labelling.dataset import DATA, DataSet, make_folder
from yolo_distill.labelling.finishing import finish
from yolo_distill.labelling.journal import Journal
from yolo_distill.labelling.labeller import Labeller
from yolo_distill.labelling.opening import Opener, identity, open_teacher, resolved_device
from yolo_distill.labelling.pace import Pace
from yolo_distill.labelling.plan import FILE, Plan, check_out, claim, read_plan, require_same, shard_file, write_once
from yolo_distill.labelling.request import Request
from yolo_distill.labelling.shards import units
from yolo_distill.labelling.targets import Targets, find_targets
from yolo_distill.labelling.thresholds import Threshold, at
from yolo_distill.lock import lock
from yolo_distill.runtime.progress import Progress
from yolo_distill.runtime.quiet import quiet
from yolo_distill.sources import Sources, find_sources

#: Best class score below which a box is not even a soft answer.
FLOOR = 0.05

_READERS = 4  # threads that read pictures; one that decodes JPEG keeps up with most teachers


def label(request: Request, *, opener: Opener = open_teacher, say: Callable[[str], None] = print) -> int:
    """Make a data set, or go on with it where an earlier process was stopped.

    Args:
        request: what is wanted.
        opener: opens the teacher.
        say: takes lines about what was made.

    Returns:
        how many files could not be read.

    Raises:
        RequestError: something in the request has to change; nothing was written then.
        DistillError: the disk cannot be written, or there is nothing to make a data set of. What is done is kept.
    """
    out, shard = request.out, request.shard
    check_out(out)
    request = replace(request, device=resolved_device(request.device))
    sources = find_sources(request.source, out)
    teacher, imgsz = opener(request)
    data = check_data(request.data, "val") if request.data else None
    class_map = read_class_map(request.class_map) if request.class_map else None
    targets = find_targets(teacher.names, data["names"] if data else None, class_map)
    plan = _plan(request, sources, targets, class_map, data, imgsz)
    asker = Asker(teacher, targets, imgsz=imgsz, device=request.device, floor=min(FLOOR, request.conf))
    progress = Progress()
    with _working(progress) as pool:
        if (earlier := read_plan(out / FILE)) is not None:
            require_same(out, earlier, plan)
        elif data is not None:
            chosen = calibrated(
                asker,
                data,
                len(targets.names),
                conf=request.conf,
                batch=request.batch,
                pool=pool,
                progress=progress,
            )
            plan = replace(plan, thresholds=chosen)
        plan = claim(out, plan)
        _tell(plan, targets, say)
        if (out / DATA).exists():
            say(f"{out / DATA}: is finished already")
            return finish(out, plan, say)
        own = shard_file(out, shard.index, shard.count)
        write_once(own, plan)
        busy = f"out={out}: another process is at work on shard {shard}; wait for it"
        with _going_on(progress), lock(own.with_suffix(".lock"), busy):
            unread = _work(request, plan, sources, asker, pool, progress)
            if shard.count == 1:
                return finish(out, plan, say)
    say(f"shard {shard} is done; when all are: yolo-distill label merge=true out={out}")
    return unread


def _plan(
    request: Request,
    sources: Sources,
    targets: Targets,
    class_map: dict[str, str] | None,
    data: dict[str, Any] | None,
    imgsz: int,
) -> Plan:
    settings = {key: getattr(request, key) for key in ("conf", "every", "similar", "copy")}
    return Plan(
        teacher=identity(request),
        source=sources.given,
        pictures=len(sources.pictures),
        videos=len(sources.videos),
        files=sources.digest,
        settings={"imgsz": imgsz, **settings, "empty": "keep" if request.keep_empty else "drop"},
        class_map=class_map,
        data=source_of_data(data, ["val"]).as_dict() if data else None,
        names=targets.names,
        shards=request.shard.count,
        thresholds=[Threshold(request.conf)] * len(targets.names),
        val=data["val"] if data else None,
    )


def _tell(plan: Plan, targets: Targets, say: Callable[[str], None]) -> None:
    if targets.untaught:
        say(f"warning: the teacher does not know {', '.join(targets.untaught)}: no box gets these classes")
    if plan.val is None:
        say("warning: without data= there are no true labels; val in data.yaml is the pictures of train")
    say(f"thresholds: {said(plan.names, plan.thresholds)}")


def _work(
    request: Request,
    plan: Plan,
    sources: Sources,
    asker: Asker,
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> int:
    """Do this shard's units; return how many files could not be read."""
    mine = list(units(sources, request.shard))
    pace = Pace(sum(len(unit.files) for unit in mine if not unit.video), sum(unit.video for unit in mine))
    data_set = DataSet(request.out, copy=request.copy)
    journal = Journal(request.out, data_set, request.every)
    for folder in (data_set.images, data_set.labels, journal.folder):
        make_folder(folder)
    tools = Tools(
        asker=asker,
        thresholds=at(plan.thresholds),
        data_set=data_set,
        folder=journal.folder,
        batch=request.batch,
        keep_empty=request.keep_empty,
        pace=pace,
        progress=progress,
    )
    labeller = Labeller(tools, journal, pool, every=request.every, similar=request.similar)
    for unit in mine:
        labeller.do(unit)
    return pace.skipped


@contextmanager
def _working(progress: Progress) -> Iterator[ThreadPoolExecutor]:
    """Give threads that read ahead, with OpenCV quiet; at the end take the progress off the terminal."""
    pool = ThreadPoolExecutor(min(_READERS, usable_cores()))
    try:
        with quiet():
            yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        progress.clear()


@contextmanager
def _going_on(progress: Progress) -> Iterator[None]:
    """Say, where the work is cut short, that it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        progress.say("what is done is kept, and the same command goes on")
        raise
    except DistillError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise DistillError(f"{error}; what is done is kept, and the same command goes on") from error
