"""`yolo-distill tune`: looks for a recipe on val, and says over paired seeds how far it is ahead of the default."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from yolo_distill import cluster
from yolo_distill.commands import compare
from yolo_distill.errors import importing_for, missing_extra
from yolo_distill.given_files import check_model_files
from yolo_distill.host_keys import NOT_IN_COMPARE, check_host_keys
from yolo_distill.recipe_table import STUDENT_SIZES
from yolo_distill.results import TuneResult
from yolo_distill.settings import Setting, given, host_settings

SUMMARY = "look for a better recipe on val, and say over paired seeds how far it is ahead"

_OWN = {
    **{key: compare.SETTINGS[key] for key in ("teacher", "student", *STUDENT_SIZES, "data")},
    "space": Setting(str, "what may vary: a file of cfg/spaces/ by name, or a path to one", "default"),
    "trials": Setting(int, "how many; the first is the default", 30, low=2, high=10_000),
    "seeds": Setting(str, "of the comparison that closes it: best, default and plain", "0,1,2"),
    "recipe": Setting(str, "the default: a file of cfg/ by name, or a path to one", "default"),
    "out": Setting(str, "folder for everything; what is in it already goes on", "runs/tune"),
    "jobs": Setting(int, "trials side by side", 1, low=1, high=256),
    "ray": replace(cluster.SETTINGS["ray"], default=cluster.LOCAL),
    "ray_cpus": Setting(float, "processors of a trial; not set: of this machine, by jobs=", above=0, high=1024),
    "ray_gpus": replace(cluster.SETTINGS["ray_gpus"], help="GPUs of a trial; 0.5: two trials share one"),
}
SETTINGS = {**_OWN, **{key: setting for key, setting in compare.SETTINGS.items() if key not in {*_OWN, *compare._OWN}}}
HOST_SETTINGS = compare.HOST_SETTINGS
GROUPS = {"The search": list(_OWN), **{key: keys for key, keys in compare.GROUPS.items() if key != "The comparison"}}

NOTES = """\
A space is a YAML file, a line a setting of the recipe or of Ultralytics:

  lr0: [0.001, 0.02, log]
  logit: [0, 2]
  schedule: {choose: [ramp, cosine]}

Optuna proposes, ASHA stops trials that fall behind, Ray runs them: pip install 'yolo-distill[train,ray]'. The best is
written as best.yaml, a recipe. As the best of many always looks better than it is, it is then compared with the default
over seeds=. The search sees val alone. The same command goes on after a stop.

  yolo-distill tune teacher=my_yolo26s.pt student=yolo26n.yaml data=data.yaml imgsz=320 epochs=50 trials=30 jobs=2"""

PASSES_HOST_SETTINGS = True
NOT_HERE = NOT_IN_COMPARE
LOOK_FIRST = check_model_files


def call(settings: dict[str, Any], extra: dict[str, Any]) -> TuneResult:
    """Search, or go on with a search; `extra` is settings of Ultralytics, as text or as they are."""
    host = host_settings(extra)
    check_host_keys(host, SETTINGS, NOT_IN_COMPARE)
    for module in ("ultralytics", "ray", "optuna"):
        if find_spec(module) is None:
            raise missing_extra(module, "tune", "train,ray")
    cluster.require_folder(settings["out"])
    from yolo_distill.machine import usable_cores

    settings["ray_cpus"] = settings["ray_cpus"] or float(max(usable_cores() // settings["jobs"], 1))
    ours = cluster.take_cluster(settings, host.get("device"))
    from yolo_distill.tuning.space import read_space

    own = {key: value for key, value in given(settings).items() if key not in _OWN}
    space = read_space(settings["space"], {*own, *host})
    with importing_for("tune"):
        from yolo_distill.comparison.request import Request
        from yolo_distill.models.sizes import sized_student
        from yolo_distill.tuning.tune import tune
    out = Path(settings["out"])
    as_given = {key: settings[key] for key in ("teacher", "data", "seeds", "recipe", "jobs")}
    student = sized_student(settings["student"], {key: settings[key] for key in STUDENT_SIZES}, out.expanduser())
    request = Request(**as_given, student=student, out=out, arms="", own=own, host=host, equal_time=False, cluster=ours)
    return tune(request, space, trials=settings["trials"])


def run(settings: dict[str, Any], extra: dict[str, Any]) -> None:
    """Search, and say what came out."""
    found = call(settings, extra)
    print(f"{found.recipe}: mAP50-95 {found.map:.1f} on val, the best of {len(found.trials)} trials ({found.plot})")
    print(f"{found.verdict[:1].upper()}{found.verdict[1:]}.")
