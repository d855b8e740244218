"""`yolo-distill label`: unlabelled pictures and videos, labelled by a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_distill import cluster
from yolo_distill.commands.predict import SOURCE
from yolo_distill.errors import RequestError, importing_for
from yolo_distill.files import is_address
from yolo_distill.given_files import check_model_files
from yolo_distill.results import LabelResult
from yolo_distill.settings import Setting
from yolo_distill.shard import read_shard
from yolo_distill.spelling import Also

SUMMARY = "label pictures and videos by a teacher: a data set to train on, and soft answers"

SETTINGS = {
    "teacher": Setting(
        str, "weights (best.pt), torchvision:NAME, an .onnx file, or several with commas", alone=r"\.(pt|onnx)$"
    ),
    "source": Setting(
        str, "pictures, folders, patterns, videos, or s3://bucket/mine, with commas between", alone=SOURCE, several=True
    ),
    "out": Setting(str, "folder of the data set, or s3://bucket/mine; what is in it already goes on", required=True),
    "data": Setting(str, "labelled data set: its val split chooses the thresholds, its classes are the new one's"),
    "conf": Setting(float, "threshold of every class without one from data=", 0.25, low=0.01, high=1),
    "imgsz": Setting(
        int, "picture side in pixels; not set: what the teacher was trained at, or 640", low=32, high=8192
    ),
    "batch": Setting(int, "pictures at a time", 16, low=1, high=4096),
    "device": Setting(str, "cpu, 0, ...; not set: a GPU if there is one"),
    "every": Setting(int, "look at every n-th frame of a video", 10, low=1, high=100_000),
    "similar": Setting(
        int, "bits of 64 in which a frame's hash must differ from earlier ones'; 0 keeps all", 4, low=0, high=63
    ),
    "empty": Setting(str, "pictures in which nothing is found", "keep", choices=("keep", "drop")),
    "copy": Setting(bool, "copy pictures instead of linking to them", False),
    "class_map": Setting(str, "YAML file, the teacher's class name: the new data set's class name"),
    "shard": Setting(str, "do one part of many: 3/16"),
    **cluster.SETTINGS,
    "merge": Setting(bool, "make the data set of shards that are all in out=", False),
    "teacher_weights": Setting(str, "weights of a torchvision teacher"),
    "teacher_names": Setting(str, "class names of weights that bring none: a YAML file, or names with commas"),
    "teacher_outputs": Setting(str, "description of an ONNX teacher's outputs"),
    "trust": Setting(bool, "load checkpoints without the restricted loader; they can then run code", False),
}

NOTES = """\
Ctrl-C or a kill loses nothing: the same command goes on. A file that cannot be read is named and skipped (exit code 1).
Look at contact-sheet.html in out= before you train: the pictures that the teacher is least sure of come first.

  yolo-distill label teacher=best.pt source=pictures/,film.mp4 data=labelled.yaml out=labelled
  yolo train model=yolo26n.pt data=labelled/data.yaml

On many machines, each with its shard=1/16 ... 16/16; then, once:

  yolo-distill label merge=true out=labelled"""

ALSO: Also = {"weights": {"*": "teacher=*"}, "model": {"*": "teacher=*"}}
LOOK_FIRST = check_model_files


def call(settings: dict[str, Any]) -> LabelResult:
    """Label, or merge."""
    ours = cluster.take_cluster(settings, settings["device"])
    joins, place = settings.pop("merge"), settings.pop("out")
    for key in () if joins else ("teacher", "source"):
        if not settings[key]:
            raise RequestError(f"{key}= is missing: {SETTINGS[key].help}")
    with importing_for("label"):
        from yolo_distill.address import Address, Mirror
        from yolo_distill.labelling.finalise import merge
        from yolo_distill.labelling.manifest import fetch
        from yolo_distill.labelling.request import Request
        from yolo_distill.labelling.run import label
    shard, empty = read_shard(settings.pop("shard")), settings.pop("empty")
    mirror = Mirror(Address(place)) if is_address(place) else None
    out = mirror.folder if mirror else Path(place).expanduser()
    if mirror:
        fetch(mirror)
    if joins:
        return merge(out, mirror)
    return label(Request(**settings, out=out, shard=shard, keep_empty=empty == "keep", cluster=ours, mirror=mirror))


def run(settings: dict[str, Any]) -> int:
    """Label, or merge, which say themselves what came out; return 1 if a file could not be read."""
    return 1 if call(settings).unread else 0
