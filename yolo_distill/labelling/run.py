"""`label`: from a request to a finished data set, or to a finished part of one."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.data.class_mapping import read_class_map
from yolo_distill.data.dataset import check_data
from yolo_distill.data.label_tasks import require_labels_of
from yolo_distill.engine.provenance import source_of_data
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.labelling.dataset import DATA
from yolo_distill.labelling.finalise import NEVER_PUT, finalise
from yolo_distill.labelling.inference import Predictor
from yolo_distill.labelling.labeller import Labeller
from yolo_distill.labelling.manifest import (
    FILE,
    Manifest,
    check_out,
    claim,
    read_manifest,
    require_same,
    shard_file,
    write_once,
)
from yolo_distill.labelling.objects import keypoint_notes
from yolo_distill.labelling.ray_labellers import label_by_ray
from yolo_distill.labelling.request import Request, units
from yolo_distill.labelling.targets import Targets, find_targets
from yolo_distill.labelling.thresholds import Threshold, at, calibrate, in_one_line
from yolo_distill.labelling.throughput import Throughput
from yolo_distill.lock import lock
from yolo_distill.machine import usable_cores
from yolo_distill.models.imgsz import require_channels, require_rgb, rounded_imgsz, trained_imgsz
from yolo_distill.results import LabelResult
from yolo_distill.runtime.letterbox import Floats
from yolo_distill.runtime.progress import Progress, quiet
from yolo_distill.sources import Sources, find_sources
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.loading import Reading, Teachers
from yolo_distill.teachers.onnx_detector import OnnxTeacher
from yolo_distill.teachers.teacher import Teacher

#: Gives the teacher of a request, and the side in pixels of the squares that it was opened for.
Opener = Callable[[Request], tuple[Teacher, int]]

#: Best class score below which a box is not even a soft answer.
FLOOR = 0.05

_USUAL_SIZE = 640
_READERS = 4  # threads that read pictures; one that decodes JPEG keeps up with most teachers


def open_teacher(request: Request) -> tuple[Teacher, int]:
    """Open what `teacher=` names, at the size that was asked for or else at that of its own training.

    Raises:
        RequestError: saying what about it has to change.
    """
    reading = Reading(request.trust, request.teacher_names, request.teacher_outputs)
    teachers = Teachers(request.teacher, request.teacher_weights, reading)
    if stored := [one for one in teachers.members if one.stored]:
        raise RequestError(
            f"teacher={request.teacher}: {stored[0].file} holds answers and can't be asked; give the teacher itself"
        )
    for one in teachers.members:
        if one.ultralytics:
            require_rgb(teachers.model(one), f"teacher={one.text}", "label")
    imgsz = _size(request, teachers)
    # Of a head with two branches the one-to-many one: what it finds is more accurate, and NMS makes up its mind.
    needs = Needs(one2one=False, maps=False, extra=True)
    opened = teachers.open(needs, select_device(parse_device(request.device), verbose=False), imgsz)
    teacher = opened.teacher
    if not teachers.alone and (tasks := {one.task for one in opened.members} - {"detect"}):
        raise RequestError(f"teacher={request.teacher}: several teachers label boxes only, not {tasks.pop()}; give one")
    if request.imgsz is None and isinstance(teacher, OnnxTeacher) and teacher.size is not None:
        imgsz = max(teacher.size)  # it would resize others
    return teacher, imgsz


def label(request: Request, *, opener: Opener = open_teacher, say: Callable[[str], None] = print) -> LabelResult:
    """Make a data set, or go on with it where an earlier process was stopped, and say what was made.

    Raises:
        RequestError: something in the request has to change; nothing was written then.
        DistillError: the disk cannot be written, or there is nothing to make a data set of. What is done is kept.
    """
    out, shard = request.out, request.shard
    check_out(out)
    request = replace(request, device=resolved_device(request.device))
    sources = find_sources(request.source, request.place)
    teacher, imgsz = opener(request)
    data = check_data(request.data, "val") if request.data else None
    class_map = read_class_map(request.class_map) if request.class_map else None
    if data:
        require_channels(3, data, "label")
        require_labels_of(teacher.task, data, "val", f"data={request.data}")
    targets = find_targets(teacher.names, data["names"] if data else None, class_map)
    manifest = _manifest(request, sources, targets, class_map, data, imgsz, teacher)
    predictor = _predictor(request, teacher, targets, imgsz)
    progress = Progress()
    with _working(progress) as pool:
        if (earlier := read_manifest(out / FILE)) is not None:
            require_same(out, earlier, manifest)
        elif data is not None:
            chosen = calibrate(predictor, data, len(targets.names), request, pool, progress)
            manifest = replace(manifest, thresholds=chosen)
        manifest = claim(out, manifest)
        _announce(manifest, targets, say)
        if (out / DATA).exists():
            say(f"{out / DATA}: is finished already")
            return finalise(out, manifest, say, request.mirror)
        own = shard_file(out, shard.index, shard.count)
        write_once(own, manifest)
        busy = f"out={out}: another process is at work on shard {shard}; wait for it"
        with _going_on(progress), lock(own.with_suffix(".lock"), busy):
            if request.mirror:
                request.mirror.put(but=NEVER_PUT)
            mine = list(units(sources, shard))
            videos = sum(unit.video for unit in mine)
            throughput = Throughput(sum(len(unit.files) for unit in mine) - videos, videos)
            thresholds = at(manifest.thresholds)
            if request.cluster:
                make = partial(_labeller, request, opener, targets, thresholds)
                label_by_ray(mine, make, request.cluster, throughput, progress)
            else:
                labeller = Labeller(request, predictor, thresholds, throughput, progress)
                for unit in mine:
                    labeller.do(unit, pool)
            if shard.count == 1:
                return finalise(out, manifest, say, request.mirror)
    say(f"shard {shard} is done; when all are: yolo-distill label merge=true out={request.place}")
    return LabelResult(out, unread=throughput.skipped)


def _predictor(request: Request, teacher: Teacher, targets: Targets, imgsz: int) -> Predictor:
    return Predictor(teacher, targets, imgsz=imgsz, device=request.device, floor=min(FLOOR, request.conf))


def _labeller(
    request: Request, opener: Opener, targets: Targets, thresholds: Floats, throughput: Throughput, progress: Progress
) -> Labeller:
    """Return a labeller of a request in a process of its own, on the device that its cluster gives it."""
    device = request.cluster.device if request.cluster else request.device
    request = replace(request, device=resolved_device(device))
    teacher, imgsz = opener(request)
    return Labeller(request, _predictor(request, teacher, targets, imgsz), thresholds, throughput, progress)


def _manifest(
    request: Request,
    sources: Sources,
    targets: Targets,
    class_map: dict[str, str] | None,
    data: dict[str, Any] | None,
    imgsz: int,
    teacher: Teacher,
) -> Manifest:
    settings = {key: getattr(request, key) for key in ("conf", "every", "similar", "copy")}
    return Manifest(
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
        task=teacher.task,
        keypoints=keypoint_notes(teacher, data),
    )


def _announce(manifest: Manifest, targets: Targets, say: Callable[[str], None]) -> None:
    if targets.untaught:
        say(f"warning: the teacher does not know {', '.join(targets.untaught)}: no box gets these classes")
    if manifest.val is None:
        say("warning: without data= there are no true labels; val in data.yaml is the pictures of train")
    say(f"thresholds: {in_one_line(manifest.names, manifest.thresholds)}")


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


def resolved_device(device: str | None) -> str:
    """Return a device as the host has it, with a number for each `-1`, which may be another GPU each time.

    Raises:
        RequestError: there is no such device.
    """
    before = LOGGER.level
    LOGGER.setLevel(logging.WARNING)  # the host prints a banner before it refuses
    try:
        found = parse_device(device)
        select_device(found, verbose=False)
        return found
    except ValueError:
        raise RequestError(
            f"device={device}: is not on this machine ({torch.cuda.device_count()} GPUs are); give cpu, or leave it out"
        ) from None
    finally:
        LOGGER.setLevel(before)


def _size(request: Request, teachers: Teachers) -> int:
    """Return the side in pixels that was asked for, or the largest one that an Ultralytics teacher was trained at."""
    sizes = []
    for one in teachers.members:
        if one.ultralytics:
            model = teachers.model(one)
            if size := request.imgsz or trained_imgsz(model):
                sizes.append(rounded_imgsz(model, size))
    fitting = max(sizes, default=request.imgsz or _USUAL_SIZE)
    if request.imgsz not in {None, fitting}:
        raise RequestError(f"imgsz={request.imgsz}: does not fit the strides of the teacher; give {fitting}")
    return fitting


def identity(request: Request) -> dict[str, Any]:
    """Return what the teacher of a request is called, and a digest of all files that make it."""
    pieces = [*request.teacher.split(","), request.teacher_weights, request.teacher_names, request.teacher_outputs]
    digest = hashlib.sha256()
    names = []
    for place, piece in enumerate(pieces):
        text = (piece or "").strip()
        file = Path(text.rpartition(":")[2]).expanduser()
        if file.is_file():
            digest.update(file.read_bytes())
            text = text.removesuffix(text.rpartition(":")[2]) + file.name
        digest.update(f"\0{place} {text}\0".encode())
        names += [text] if text else []
    return {"name": ",".join(names), "digest": digest.hexdigest()[:16]}
