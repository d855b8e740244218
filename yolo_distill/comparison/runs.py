"""The runs of a comparison: where each lies, and what it is handed to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_distill.comparison.arms import PLAIN, TEACHER, Arm, folder_name
from yolo_distill.comparison.job import EPOCHS, ERROR, LOG, RECORD, Job
from yolo_distill.comparison.plan import Plan
from yolo_distill.comparison.run_monitor import read_lines
from yolo_distill.engine.teacher_training import STUDENTS_OWN

#: Teachers, and assistants between teacher and student, are the same for all seeds.
TEACHER_SEED = 0


@dataclass(frozen=True, eq=False)
class Run:
    """One arm with one seed, or the teacher.

    Attributes:
        arm: the arm; the teacher's has no settings of its own.
        seed: of the run.
        folder: where it lies.
    """

    arm: Arm
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return TEACHER if self.arm.kind == TEACHER else f"{self.arm.label} seed {self.seed}"

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher has to be there first."""
        return self.arm.kind not in {TEACHER, PLAIN}

    @property
    def log(self) -> Path:
        """Where its messages go."""
        return self.folder / LOG

    def record(self) -> dict[str, Any] | None:
        """Return what it came to, or None while it is not finished."""
        try:
            return dict(json.loads((self.folder / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    @property
    def begun(self) -> bool:
        """Whether there is anything of it, finished or not."""
        return any((self.folder / name).is_file() for name in (RECORD, EPOCHS, ERROR))

    def error(self) -> str | None:
        """Return why its last attempt failed, if it did."""
        file = self.folder / ERROR
        return file.read_text(encoding="utf-8").strip() if file.is_file() else None

    def epochs_done(self) -> list[float]:
        """Return the seconds that each finished epoch took."""
        return [line["seconds"] for line in read_lines(self.folder / EPOCHS) if "epoch" in line]


def teacher_run(out: Path) -> Run:
    """Return the run that trains, or only measures, the teacher."""
    return Run(Arm(TEACHER, TEACHER, {}), 0, out / TEACHER)


def run_of(out: Path, arm: Arm, seed: int) -> Run:
    """Return the run of an arm with a seed."""
    return Run(arm, seed, out / folder_name(arm.label, seed))


def job_of(run: Run, plan: Plan, *, threads: int, device: str | None, trust: bool) -> Job:
    """Return the job of a run's process.

    Args:
        run: the run.
        plan: of the comparison.
        threads: of the process.
        device: that the process has; None: as the host chooses.
        trust: load given checkpoints without restriction.
    """
    out = run.folder.parent
    shared = {"data": plan.data.file, "project": str(out), "exist_ok": True}
    shared |= {"device": device} if device is not None else {}
    # A plan of an older version has no nbs, and its runs had the host's own.
    usual = {"plots": False, "nbs": DEFAULT_CFG_DICT["nbs"]}
    given, own = run.arm.host, {"seed": run.seed, "name": run.folder.name}
    if run.arm.kind == TEACHER:
        given, own = {k: v for k, v in plan.settings.items() if k not in STUDENTS_OWN}, {"seed": TEACHER_SEED}
    trained = weights_of(teacher_run(out), plan) if run.needs_teacher else None
    return Job(
        label=run.arm.label,
        kind=run.arm.kind,
        seed=run.seed,
        folder=str(run.folder),
        data=plan.data.file,
        splits=plan.splits,
        imgsz=plan.imgsz,
        teacher=str(trained or plan.teacher.file),
        student=plan.student.file,
        names={"data": plan.data.name, "teacher": plan.teacher.name, "student": plan.student.name},
        host={**usual, **given, **shared, **own},
        recipe=_recipe(run, plan),
        teacher_epochs=plan.teacher_epochs,
        precision=plan.precision,
        threads=threads,
        trust=trust,
        reading=_reading(plan),
    )


def _recipe(run: Run, plan: Plan) -> dict[str, Any] | None:
    """Return the recipe of a run; the teacher's precision, where it is open, as the run itself or another one chose.

    Each would measure for itself, and what it finds depends on who else uses the processor.
    """
    recipe = run.arm.recipe
    if recipe is None or recipe.get("teacher_precision") != "auto":
        return recipe
    out = run.folder.parent
    open_arms = [arm for arm in plan.arms.values() if (arm.recipe or {}).get("teacher_precision") == "auto"]
    others = [run_of(out, arm, seed) for seed in plan.seeds for arm in open_arms]
    for folder in (run.folder, *(other.folder for other in others)):
        if (file := folder / "recipe.yaml").is_file():
            chosen = yaml.safe_load(file.read_text(encoding="utf-8"))["teacher_precision"]
            if chosen != "auto":  # a run that is not taught never chose
                return {**recipe, "teacher_precision": chosen}
    return recipe


def _reading(plan: Plan) -> dict[str, Any]:
    """Return what the first recipe of the arms says of how the teacher is read."""
    recipe = next((arm.recipe for arm in plan.arms.values() if arm.recipe is not None), {})
    found = {key: recipe[key] for key in ("class_map", "teacher_names", "teacher_outputs") if recipe.get(key)}
    return found | ({"match": "some"} if recipe.get("match") == "some" else {})


def weights_of(run: Run, plan: Plan) -> Path | None:
    """Return the best weights of a finished run."""
    record = run.record()
    if record is None:
        return None
    if record["weights"] is not None:
        return run.folder.parent / str(record["weights"])
    return Path(plan.teacher.file) if run.arm.kind == TEACHER else None
