"""One run of a comparison, as it is handed to a process of its own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from yolo_distill.files import write_bytes
from yolo_distill.validation import read_json

#: Files in a run's folder.
JOB, RECORD, ERROR, EPOCHS, LOG = "job.json", "run.json", "error.txt", "epochs.jsonl", "log.txt"


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        label: of its arm, or `teacher`.
        kind: `teacher`, `plain`, `host` or `distilled`.
        seed: of the run.
        folder: of the run.
        data: the data set file.
        splits: to measure on.
        imgsz: side of the pictures in pixels.
        teacher: weights; for the teacher's own run an architecture as well.
        student: weights or architecture.
        names: what data, teacher and student are called in the record.
        host: all settings of Ultralytics.
        recipe: all settings of the recipe; None for an arm that is not ours.
        teacher_epochs: of a teacher that is trained; None: as `host` has them.
        precision: in which to train on a CPU; None on other devices.
        threads: of the process.
        trust: load given checkpoints without restriction.
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
        own = self.teacher_epochs if self.kind == "teacher" else None
        return int(own or self.host.get("epochs") or 100)  # the host's own default

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
