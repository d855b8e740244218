"""Keeps the runs of a seed comparable, and writes down what shows it.

Every arm of a seed should see the same pictures in the same order. The host augments with Python's and numpy's global
random state and shuffles with a generator that it seeds when a process begins. No arm draws from these before the loop
(tried: plain, host and ours with projectors see the same without what follows), but a run that is interrupted goes on
with the pictures of its first epoch, and one more draw in an arm would shift all pictures behind it. So here both are
seeded at the start of every epoch, from the seed and the number of the epoch. Figures are therefore not those of the
same seed with `yolo-distill train`, to the last digit. What is left after an interruption: without `cache=ram` the
host's mosaics draw from the latest few pictures, which a new process does not have.

That the pictures are the same is not taken on trust either: a digest of the first batches of each epoch and one of the
initial weights go into the run's record.

Relies on: the host copies `default_callbacks` into every trainer that is built afterwards, calls them by name at the
points used here, and asks `trainer.preprocess_batch` for each batch of training. Its loaders seed their workers from
`generator`, and start them anew after `reset`.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import RandomSampler
from ultralytics.utils.callbacks.base import default_callbacks
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.mixed_batches import MixedSampler
from yolo_distill.files import write_bytes

#: Batches of an epoch that are digested.
_BATCHES = 4


class RunMonitor:
    """Follows the training of one run and writes a line of JSON an epoch.

    A line that begins a part of the run has `start` (the epoch it begins at, from 0), `source`, `setup_seconds` and
    `setup_cpu_seconds` and, at 0, `weights`; that of an epoch has `epoch` (from 1), `seconds`, `cpu_seconds`,
    `batch` (which the host halves where memory runs out) and `pictures`.
    """

    def __init__(self, file: Path, folder: Path | None, seed: int, precision: str | None) -> None:
        """Make a monitor.

        Args:
            file: where the lines go.
            folder: of the run that is followed; other trainings of this process are only seeded. None: any.
            seed: of the run.
            precision: in which trainers of this process compute on a CPU; None: as they choose.
        """
        self._file, self._folder, self._seed, self._precision = file, folder, seed, precision
        self._clock = self._cpu = 0.0
        self._batches = 0
        self._digest = hashlib.sha256()
        self._open = False
        self._source = source_digest()

    def attach(self) -> None:
        """Follow all trainers that are built from now on."""
        self._start_clock()
        calls: dict[str, Callable[[Any], None]] = {
            "on_pretrain_routine_start": self._set_precision,
            "on_train_start": self._start,
            "on_train_epoch_start": self._start_epoch,
            "on_fit_epoch_end": self._end_epoch,
        }
        for event, call in calls.items():
            # The host copies its table deeply: a bound method would bring a copy of this object along.
            default_callbacks[event].append(lambda trainer, call=call: call(trainer))

    def _mine(self, trainer: Any) -> bool:
        return self._folder is None or Path(trainer.save_dir) == self._folder

    def _set_precision(self, trainer: Any) -> None:
        if self._precision is not None:
            trainer.args.amp = self._precision if self._precision != "fp32" else False

    def _start(self, trainer: Any) -> None:
        if not self._mine(trainer):
            return
        kept = [row for row in read_lines(self._file) if row.get("epoch", row.get("start", 0)) <= trainer.start_epoch]
        kept = kept if trainer.start_epoch else []
        line: dict[str, Any] = {"start": trainer.start_epoch, "source": self._source, **self._elapsed("setup_")}
        if not trainer.start_epoch:
            line["weights"] = digest_of_weights(trainer.model)
        write_bytes(self._file, "".join(json.dumps(row) + "\n" for row in [*kept, line]).encode())
        prepare = trainer.preprocess_batch

        def watched(batch: dict[str, Any]) -> dict[str, Any]:
            self._add(batch)
            return dict(prepare(batch))

        trainer.preprocess_batch = watched

    def _start_epoch(self, trainer: Any) -> None:
        seed_epoch(trainer.train_loader, self._seed, trainer.epoch)
        if self._mine(trainer):
            self._digest, self._batches, self._open = hashlib.sha256(), 0, True
            self._start_clock()

    def _add(self, batch: dict[str, Any]) -> None:
        if self._batches < _BATCHES:
            self._digest.update(json.dumps([Path(name).name for name in batch["im_file"]]).encode())
            for key in ("img", "bboxes", "cls"):
                self._digest.update(batch[key].contiguous().cpu().numpy().tobytes())
        self._batches += 1

    def _end_epoch(self, trainer: Any) -> None:
        if not self._open or not self._mine(trainer):  # the host calls once more when it measures its best epoch
            return
        self._open = False
        line = {"epoch": trainer.epoch + 1, **self._elapsed(""), "batch": trainer.batch_size}
        line["pictures"] = self._digest.hexdigest()[:16]
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def _start_clock(self) -> None:
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def _elapsed(self, prefix: str) -> dict[str, float]:
        return {
            f"{prefix}seconds": round(time.perf_counter() - self._clock, 3),
            f"{prefix}cpu_seconds": round(time.process_time() - self._cpu, 3),
        }


def seed_epoch(loader: Any, seed: int, epoch: int) -> None:
    """Let the pictures of an epoch depend on nothing but seed and epoch."""
    number = seed * 1_000_003 + epoch
    random.seed(number)
    np.random.seed(number % 2**32)
    if isinstance(loader.sampler, (RandomSampler, MixedSampler)):
        # One of its own: the loader draws from its generator for other purposes as well, once a part of a run.
        loader.sampler.generator = torch.Generator().manual_seed(number)
    if loader.num_workers:  # beside a GPU: they have random states of their own, and are some batches ahead
        loader.generator.manual_seed(number)
        loader.reset()


def source_digest() -> str:
    """Return a short hash of this package's code: of two checkouts of one version only one may have a change."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def digest_of_weights(model: torch.nn.Module) -> str:
    """Return a short hash of a student's weights; of the host's distillation, which wraps it, the student's as well."""
    student = unwrap_model(model)
    student = getattr(student, "student_model", student)
    digest = hashlib.sha256()
    for name, tensor in student.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous(memory_format=torch.contiguous_format).numpy().tobytes())
    return digest.hexdigest()[:16]


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a run; one that a killed process could not finish is left out."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            continue
    return rows
