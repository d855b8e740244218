"""Trials of a search: Optuna proposes their settings, ASHA stops them, Ray runs them side by side.

A trial is a run of the comparison's worker in a process of its own. The first one is the default, without a change; the
others learn nothing from it but its figure. All are measured on val, after each epoch, and none on test.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_distill.cluster import connected
from yolo_distill.comparison.arms import DISTILLED, Arm, check_host_settings, prepares
from yolo_distill.comparison.plan import Plan, write_plan
from yolo_distill.comparison.processes import Processes
from yolo_distill.comparison.request import Request, check
from yolo_distill.comparison.run_record import read_curve
from yolo_distill.comparison.runs import JOB, Run, job_of, read_job, run_of, teacher_run
from yolo_distill.differences import changed_values, in_brief
from yolo_distill.errors import DistillError, RequestError, one_line
from yolo_distill.files import claim_folder, write_bytes
from yolo_distill.lock import lock
from yolo_distill.models.tasks import main_map
from yolo_distill.recipe import check_recipe, is_recipe_key, overlaid
from yolo_distill.runtime.progress import Progress
from yolo_distill.tuning.space import Space

#: Of all trials; those of the closing comparison are others, so that no luck of this one counts there.
SEED = 1000
TRIALS, SPACE, STATE = "trials.json", "space.json", "ray"
#: Of the trials that come as far as another rung, so many are stopped for one that goes on; rungs are that far apart.
_REDUCTION = 3
_POLL_SECONDS = 0.5
_RAY = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would end the search as if it were done
    "TUNE_GLOBAL_CHECKPOINT_S": "5",
}


def search(request: Request, space: Space, trials: int) -> list[dict[str, Any]]:
    """Do what is unfinished of a search and return its trials, the default first.

    Args:
        request: a comparison of the default alone, whose folder is the search's.
        space: what may vary.
        trials: how many.

    Returns:
        a dict a trial: `number`, `map` in points (None: it failed), `epochs`, `settings`, `error`.

    Raises:
        RequestError: something in the request is wrong; nothing has been written then.
        DistillError: the teacher or all trials failed.
    """
    plan, _, _ = check(request)
    _check_space(plan.arms[DISTILLED], space, request.jobs)
    asked = json.loads(json.dumps({"trials": trials, **{key: vars(one) for key, one in space.items()}}))
    noted = request.out / SPACE
    if noted.is_file() and (found := changed_values(json.loads(noted.read_text(encoding="utf-8")), asked)):
        said = f"holds a search with other settings ({in_brief(found)})"
        raise RequestError(f"out={request.out.parent}: {said}; give the same ones, or another out=")
    claim_folder(request.out, reuse=True)
    busy = f"out={request.out.parent}: another yolo-distill tune is at work there; wait for it"
    with lock(request.out / ".lock", busy):
        write_plan(request.out, plan)
        write_bytes(noted, json.dumps(asked, indent=1).encode())
        plan.splits = ["val"]
        if plan.trains_teacher:
            _train_teacher(request, plan)
        if not (done := request.out / TRIALS).is_file():
            rows = _fit(request, plan, space, trials)
            if all(row["map"] is None for row in rows):
                raise DistillError(f"all {len(rows)} trials failed, the first one: {rows[0]['error']}")
            write_bytes(done, json.dumps(rows, indent=1).encode())
    return list(json.loads(done.read_text(encoding="utf-8")))


def _check_space(base: Arm, space: Space, jobs: int) -> None:
    """Refuse values that Ultralytics or a recipe cannot take, each by itself."""
    for key, one in space.items():
        for value in one.ends:
            try:
                arm_of(base, {key: value}, 0)
            except RequestError as error:
                raise RequestError(f"space: {error}") from None
    optimizers = space["optimizer"].ends if "optimizer" in space else [base.host.get("optimizer", "auto")]
    if "auto" in optimizers and (idle := [key for key in ("lr0", "momentum") if key in space]):
        raise RequestError(f"space: {idle[0]} has no effect with optimizer=auto; give another, such as optimizer=AdamW")
    if jobs > 1 and (prepares(base.recipe) or ("init" in space and "try" in space["init"].ends)):
        raise RequestError(f"jobs={jobs}: with assistant= or init=try trials would wait for each other; give jobs=1")


def arm_of(base: Arm, settings: Mapping[str, Any], number: int) -> Arm:
    """Return the arm of a trial: the default with its own settings."""
    own = {key: value for key, value in settings.items() if is_recipe_key(key)}
    host = check_host_settings({key: value for key, value in settings.items() if key not in own})
    recipe = check_recipe(overlaid(base.recipe or {}, own)).model_dump()
    return replace(base, label=f"trial {number}", host={**base.host, **host}, recipe=recipe)


def _run_of(out: Path, plan: Plan, number: int, settings: Mapping[str, Any]) -> Run:
    base = plan.arms[DISTILLED]
    if number == 1:
        return run_of(out, base, SEED)
    return Run(arm_of(base, settings, number), SEED, out / f"trial-{number:03d}")


def _train_teacher(request: Request, plan: Plan) -> None:
    run = teacher_run(request.out.resolve())
    if run.record() is None:
        Progress().say(f"training the teacher first; its messages are in {run.log}")
        with Processes(1) as processes:
            device = request.devices[0]
            processes.start(0, run, job_of(run, plan, threads=request.threads, device=device, trust=request.trust))
            while not processes.take_finished():
                time.sleep(_POLL_SECONDS)
        if run.record() is None:
            raise DistillError(f"the run of the teacher failed: {run.error()} (log: {run.log})")


def teacher_of(out: Path, given: str) -> str:
    """Return the teacher that the trials of a finished search had."""
    record = teacher_run(out).record()  # none of weights that were given as they are
    return given if record is None else str(out / record["weights"])


def _fit(request: Request, plan: Plan, space: Space, trials: int) -> list[dict[str, Any]]:
    """Run the trials, or go on with them, and return what they came to."""
    assert request.cluster is not None
    os.environ.update(_RAY)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is said in a line
    out, cluster = request.out.resolve(), request.cluster
    asked = {"plan": plan, "out": out, "threads": cluster.threads, "device": cluster.device, "trust": request.trust}
    runs = tune.with_resources(tune.with_parameters(_run_trial, **asked), {"cpu": cluster.cpus, "gpu": cluster.gpus})
    try:
        with connected(cluster):
            found = _tuner(request, space, trials, runs, partial(_run_of, out, plan)).fit()
    except KeyboardInterrupt:
        Progress().say("stopped: the same command goes on, each unfinished trial from its last epoch")
        raise
    rows = [_row(dict(one.config), dict(one.metrics or {}), one.error) for one in found if one.config is not None]
    for row in rows:  # the settings are what is wanted of a trial
        shutil.rmtree(_run_of(out, plan, row["number"], row["settings"]).folder / "weights", ignore_errors=True)
    return sorted(rows, key=lambda row: row["number"])


def _tuner(
    request: Request, space: Space, trials: int, runs: Any, find_run: Callable[[int, Mapping[str, Any]], Run]
) -> tune.Tuner:
    """Return what does the trials, as it was left where there is one."""
    out = request.out.resolve()
    if tune.Tuner.can_restore(str(out / STATE)):
        return tune.Tuner.restore(str(out / STATE), runs, resume_unfinished=True, restart_errored=True)
    shutil.rmtree(out / STATE, ignore_errors=True)
    epochs = int(request.host.get("epochs") or DEFAULT_CFG_DICT["epochs"])
    said = _Said(trials, epochs, find_run)
    return tune.Tuner(
        runs,
        tune_config=tune.TuneConfig(
            metric="map",
            mode="max",
            num_samples=trials,
            max_concurrent_trials=request.jobs,
            search_alg=OptunaSearch(partial(_suggest, space), metric="map", mode="max", seed=0),
            scheduler=ASHAScheduler(max_t=epochs, grace_period=max(epochs // 9, 1), reduction_factor=_REDUCTION),
        ),
        run_config=tune.RunConfig(name=STATE, storage_path=str(out), verbose=0, callbacks=[said]),
    )


def _row(settings: dict[str, Any], metrics: Mapping[str, Any], error: Exception | None) -> dict[str, Any]:
    return {
        "number": settings.pop("number"),
        "map": None if error else metrics.get("map"),
        "epochs": metrics.get("training_iteration", 0),
        "settings": settings,
        "error": _why(error) if error else None,
    }


def _why(error: Any) -> str:
    """Return what a trial failed of; Ray puts its own story around that."""
    return one_line(getattr(error, "cause", None) or error)


def _suggest(space: Space, trial: Any) -> dict[str, Any]:
    """Return the settings of a trial; those of the first are the default's, which may lie outside the space."""
    settings = {key: one.suggest(key, trial) for key, one in space.items()} if trial.number else {}
    return {"number": trial.number + 1, **settings}


def _run_trial(config: Mapping[str, Any], *, plan: Plan, out: Path, threads: int, device: Any, trust: bool) -> None:
    """Do the run of a trial, or go on with it, and tell Tune after each epoch how good the best one was."""
    run = _run_of(out, plan, *_apart(config))
    job = job_of(run, plan, threads=threads, device=device, trust=trust)
    if (file := run.folder / JOB).is_file():
        there = read_job(file)
        if (there.recipe, there.host) != (job.recipe, job.host):  # of a proposal that was lost in a kill
            shutil.rmtree(run.folder)
    best: list[float] = []
    with Processes(1) as processes:
        if run.record() is None:
            processes.start(0, run, job)
        while True:
            ended = processes.take_finished() or not processes.running
            curve: Any = read_curve(run.folder / "results.csv")
            for value in main_map(curve)[len(best) :]:
                best.append(max([100 * (value or 0.0), *best[-1:]]))
                tune.report({"map": best[-1]})
            if ended:
                break
            time.sleep(_POLL_SECONDS)
    if run.record() is None:
        raise DistillError(f"{run.error()} (log: {run.log})")


def _apart(config: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the number of a trial, and its settings."""
    return config["number"], {key: value for key, value in config.items() if key != "number"}


class _Said(tune.Callback):
    """Says what came of each trial."""

    def __init__(self, trials: int, epochs: int, find_run: Callable[[int, Mapping[str, Any]], Run]) -> None:
        self._trials, self._epochs, self._find_run = trials, epochs, find_run

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        found = trial.last_result
        best = max(one.last_result.get("map", 0.0) for one in trials)
        after = f"{found['training_iteration']} of {self._epochs} epochs"
        self._say(trial, f"mAP50-95 {found['map']:.1f} on val after {after}; best {best:.1f}")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number, settings = _apart(trial.config)
        # Tune does not have its error yet; a run leaves its own in its folder.
        self._say(trial, f"failed: {self._find_run(number, settings).error() or 'its process is gone'}")

    def _say(self, trial: Any, text: str) -> None:
        number, settings = _apart(trial.config)
        shown = " ".join(f"{key}={value}" for key, value in settings.items()) or "the default"
        name = f"trial {number} of {self._trials} ({shown})"
        Progress().say(f"{name}: {text}")
