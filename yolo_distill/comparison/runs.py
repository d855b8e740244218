"""The runs of a comparison: where each lies, and the job that is handed to a process of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_distill.comparison.arms import PLAIN, TEACHER, Arm, folder_name, prepares
from yolo_distill.comparison.plan import Plan
from yolo_distill.comparison.run_monitor import read_lines
from yolo_distill.engine.teacher_training import STUDENTS_OWN
from yolo_distill.files import write_bytes
from yolo_distill.validation import read_json

#: Files in a run's folder.
JOB, RECORD, ERROR, EPOCHS, LOG = "job.json", "run.json", "error.txt", "epochs.jsonl", "log.txt"
#: Teachers, and assistants between teacher and student, are the same for all seeds.
TEACHER_SEED = 0


@dataclass(frozen=True, eq=False)
class Run:
    """One arm with one seed, or the teacher, whose arm has no settings of its own."""

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
    def prepares(self) -> bool:
        """Whether it first trains what other runs want as well."""
        return prepares(self.arm.recipe)

    @property
    def log(self) -> Path:
        """Where its messages go."""
        return self.folder / LOG

    def record(self) -> dict[str, Any] | None:
        """Return what it came to, or None while it is not finished."""
        try:
            record = dict(json.loads((self.folder / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return record if {"format", "epochs", "machine"} <= record.keys() else None

    @property
    def trained(self) -> bool:
        """Whether its training has begun: one that failed before, say for want of a file, may be asked for anew."""
        return any((self.folder / name).is_file() for name in (RECORD, EPOCHS))

    @property
    def begun(self) -> bool:
        """Whether there is anything of it, finished or not."""
        return self.trained or (self.folder / ERROR).is_file()

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


def trained_arms(out: Path, plan: Plan) -> set[str]:
    """Return the arms of which a run has begun its training, and `teacher` once that is trained or measured."""
    found = {TEACHER} if (teacher_run(out).folder / RECORD).is_file() else set()
    return found | {
        label for label, arm in plan.arms.items() if any(run_of(out, arm, seed).trained for seed in plan.seeds)
    }


@dataclass(frozen=True)
class Job:
    """What `job.json` tells the process of one run.

    What is not named here is as the arm, the plan or the request has it.

    Attributes:
        teacher: weights; for the teacher's own run an architecture as well.
        names: what data, teacher and student are called in the record.
        host: all settings of Ultralytics.
        teacher_epochs: of a teacher that is trained; None: as `host` has them.
        reading: settings of the recipe that say how the teacher is read: whose its classes are, and the like.
    """

    label: str
    kind: str
    seed: int
    folder: str
    data: str
    splits: list[str]
    imgsz: int
    teacher: str
    student: str
    names: dict[str, str]
    host: dict[str, Any]
    recipe: dict[str, Any] | None
    teacher_epochs: int | None
    precision: str | None
    threads: int
    trust: bool
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return Path(self.folder)

    @property
    def epochs(self) -> int:
        """Epochs that the run is to have."""
        own = self.teacher_epochs if self.kind == TEACHER else None
        return int(own or self.host.get("epochs") or DEFAULT_CFG_DICT["epochs"])

    def moved(self, out: Path) -> Job:
        """Return the job as it is in a comparison that lies in another folder."""
        before = self.path.parent
        places: dict[str, Any] = {
            key: str(out / path.relative_to(before))
            for key in ("folder", "teacher", "student")
            if (path := Path(getattr(self, key))).is_relative_to(before)
        }
        return replace(self, host={**self.host, "project": str(out)}, **places)

    def write(self) -> Path:
        """Write the job into its folder and return the file."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / JOB
        write_bytes(file, json.dumps(asdict(self), indent=2).encode())
        return file


def read_job(file: Path) -> Job:
    """Return what `Job.write` wrote.

    Raises:
        RequestError: the file is damaged, or none of ours; names the field.
    """
    return read_json(file, Job, "the job of a run")


def job_of(run: Run, plan: Plan, *, threads: int, device: Any, trust: bool) -> Job:
    """Return the job of a run's process, which has so many threads and that device (None: as the host chooses)."""
    out = run.folder.parent
    shared = {"data": plan.data.file, "project": str(out), "exist_ok": True}
    shared |= {"device": device} if device is not None else {}
    # A plan without nbs is one of enough steps.
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
    open_arms = [arm for arm in plan.arms.values() if (arm.recipe or {}).get("teacher_precision") == "auto"]
    others = [run_of(run.folder.parent, arm, seed) for seed in plan.seeds for arm in open_arms]
    for one in (run, *others):
        if (file := one.folder / "recipe.yaml").is_file():
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
