"""`yolo-distill compare`: plain, Ultralytics' own distillation and ours, side by side over paired seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_distill import cluster
from yolo_distill.commands import train
from yolo_distill.errors import RequestError, importing_for
from yolo_distill.files import is_address
from yolo_distill.given_files import check_model_files
from yolo_distill.host_keys import NOT_IN_COMPARE, check_host_keys
from yolo_distill.recipe_table import STUDENT_SIZES
from yolo_distill.results import CompareResult
from yolo_distill.settings import Setting, given, host_settings
from yolo_distill.shard import read_shard
from yolo_distill.spelling import DATA

SUMMARY = "train arms over paired seeds and say in one sentence which is ahead, and by how much"

_MODEL = r"\.(pt|ya?ml)$"
_OWN = {
    "teacher": Setting(
        str,
        "weights; with teacher_epochs=, or as an architecture, trained first, once for all arms",
        required=True,
        alone=_MODEL,
    ),
    "student": Setting(str, "weights or architecture of the student", required=True, alone=_MODEL),
    **STUDENT_SIZES,
    "data": Setting(str, "data set file, such as data=path/to/data.yaml", required=True, alone=DATA),
    "seeds": Setting(str, "one run of each arm a seed", "0,1,2"),
    "arms": Setting(
        str, "plain, host, distilled, recipes by name or path; @key=value changes one", "plain,host,distilled"
    ),
    "recipe": Setting(str, "what distilled is: a file of cfg/ by name, or a path to one", "default"),
    "out": Setting(str, "folder for everything, or s3://bucket/mine; what is in it already goes on", "runs/compare"),
    "jobs": Setting(int, "runs side by side, which share the cores; on several GPUs one each", 1, low=1, high=256),
    "budget": Setting(
        str,
        "equal-time also trains plain for as long as distillation takes",
        "equal-epochs",
        choices=("equal-epochs", "equal-time"),
    ),
    **cluster.SETTINGS,
    "shard": Setting(str, "do one part of many, of the runs: 3/16; the first trains the teacher"),
    "merge": Setting(bool, "write table and page of what is there, and train nothing", False),
}

SETTINGS = {**_OWN, **{key: setting for key, setting in train.SETTINGS.items() if key not in {*_OWN, *train.DEADLINE}}}
HOST_SETTINGS = {key: setting for key, setting in train.HOST_SETTINGS.items() if key not in _OWN}
GROUPS = {
    "The comparison": list(_OWN),
    **{heading: [key for key in keys if key not in _OWN] for heading, keys in list(train.GROUPS.items())[2:]},
}

NOTES = """\
Arms: plain is the student without a teacher, host Ultralytics' own distillation (distill_model=), distilled the recipe
of recipe=; any other word is a recipe. Behind an @ stands a setting of that arm alone:

  arms=plain,host@dis=2,distilled,distilled@logit=0@balance=auto,my/recipe.yaml,plain@epochs=200

Recipe settings of the command hold for all arms of ours, settings of Ultralytics (epochs=, imgsz=, batch=, ...) for all
arms. All arms of a seed see the same pictures in the same order. Ctrl-C, a kill or a run that fails loses
nothing but the current epoch: the same command goes on. More seeds= or arms= for the same out= join what is there.

  yolo-distill compare teacher=yolo26s.yaml student=yolo26n.yaml data=data.yaml imgsz=320 epochs=100 seeds=0,1,2,3,4"""

PASSES_HOST_SETTINGS = True
NOT_HERE = NOT_IN_COMPARE
LOOK_FIRST = check_model_files


def call(settings: dict[str, Any], extra: dict[str, Any]) -> CompareResult:
    """Run a comparison, or go on with one; `extra` is settings of Ultralytics, as text or as they are."""
    host = host_settings(extra)
    check_host_keys(host, SETTINGS, NOT_IN_COMPARE)  # before the seconds that torch takes
    ours, shard = cluster.take_cluster(settings, host.get("device")), read_shard(settings["shard"])
    merge = settings["merge"]
    if merge and (settings["shard"] or ours):
        raise RequestError("merge=true: trains nothing; leave shard= and ray= out")
    if settings["shard"]:
        cluster.require_folder(settings["out"])  # several commands work in it at once
    with importing_for("compare"):
        from yolo_distill.address import Address, Mirror
        from yolo_distill.comparison.compare import compare, fetch
        from yolo_distill.comparison.plan import STUDENT
        from yolo_distill.comparison.report import PAGE, markdown
        from yolo_distill.comparison.request import Request
        from yolo_distill.models.sizes import sized_student

    own = {key: value for key, value in given(settings).items() if key not in _OWN}
    as_given = {key: settings[key] for key in ("teacher", "student", "data", "arms", "seeds", "recipe", "jobs")}
    equal_time = settings["budget"] == "equal-time"
    mirror = Mirror(Address(str(settings["out"]))) if is_address(settings["out"]) else None
    out = mirror.folder if mirror else Path(settings["out"])
    if mirror:
        fetch(mirror)
    sizes = {key: settings[key] for key in STUDENT_SIZES}
    as_given["student"] = sized_student(settings["student"], sizes, out.expanduser() / STUDENT)
    asked = {"equal_time": equal_time, "cluster": ours, "shard": shard, "merge": merge, "mirror": mirror}
    try:
        summary = compare(Request(**as_given, out=out, own=own, host=host, **asked))
    finally:
        if mirror:
            mirror.put()
    folder = out.expanduser()
    return CompareResult(summary["verdict"], folder, folder / PAGE, markdown(summary), summary)


def run(settings: dict[str, Any], extra: dict[str, Any]) -> None:
    """Run a comparison, which prints its table itself."""
    call(settings, extra)
