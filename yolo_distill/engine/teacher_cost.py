"""The pace of a run: how the teacher computes, how long it is asked, and what this costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, distributed
from ultralytics.utils import LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.dataset import pictures_of
from yolo_distill.data.samples import sample_pictures
from yolo_distill.distillation.criterion import DistillationCriterion
from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.distillation.terms import Terms
from yolo_distill.engine.auto_batch import WithTeacher
from yolo_distill.engine.cpu_precision import CpuPrecision
from yolo_distill.engine.dataloaders import RunPictures
from yolo_distill.engine.step_cost import price_of_teaching
from yolo_distill.engine.teacher_stop import Passing
from yolo_distill.files import write_bytes
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.precision import Choice, choose_forward, goes_on_here
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.yolo import YoloTeacher
from yolo_distill.timing import AT_A_TIME_ON_GPU, timed_pictures

#: Pictures that the teacher's precision is chosen on: enough for the ranges of its activations in int8, and read in a
#: second.
SAMPLES = 32
#: A teacher that takes more than this many of the student's own steps is warned of.
DEAR = 2.0
#: Of a run's folder, where its pace is kept.
PACE = "pace.json"
PREFIX = colorstr("distill: ")


class TeacherPace(Passing, RunPictures, CpuPrecision):
    """Mixin for a host trainer that distils.

    Attributes:
        pace: precision of student and teacher, and how much longer than the student's own a step takes; how far the
            teacher's answers are off where that is too far.
    """

    recipe: Recipe
    criterion: DistillationCriterion | None
    pace: dict[str, Any] | None = None
    _off: tuple[str, ...] = ()
    _teacher: Teacher
    _yolos: list[YoloTeacher]
    _teacher_name: str
    _terms: Terms
    batch_size: int
    epoch: int
    epochs: int
    resume: bool
    save_dir: Path
    train_loader: Any
    world_size: int

    def auto_batch(self) -> int:
        """Count the teacher in when the host looks for the batch that fills the memory.

        Relies on: the host measures `self.model`, after `set_model_attributes`.
        """
        if not self.recipe.gains:
            return int(super().auto_batch())  # type: ignore[misc]
        student = self.model
        self.model = WithTeacher(unwrap_model(student), self._teacher, self._terms)
        try:
            return int(super().auto_batch())  # type: ignore[misc]
        finally:
            self.model = student
            self._terms.projectors.zero_grad()

    def _set_pace(self) -> None:
        """Choose how the teacher computes."""
        samples = sample_pictures(self.data, self.recipe.teacher_imgsz or self.rounded_imgsz, SAMPLES)
        chosen = self._choose_precision(samples)
        self._teacher_name = ", ".join([self._teacher_name, *dict.fromkeys(map(str, chosen))])
        if len({choice.precision for choice in chosen}) == 1:  # a run that is resumed does not choose again
            self.recipe = self.recipe.model_copy(update={"teacher_precision": chosen[0].precision})
        self._off = tuple(str(choice.difference) for choice in chosen if not choice.bearable)

    def _choose_precision(self, samples: Tensor) -> list[Choice]:
        """Set up how each YOLO among the teachers computes; with several devices as on the first of them."""
        recipe = self.recipe
        answers = len(pictures_of(self.data, "train")) * self.epochs * (recipe.kd_until or 1.0)
        batch = self._pictures_a_step

        def choose(wanted: Sequence[str]) -> list[Choice]:
            return [
                choose_forward(teacher, one, samples, answers, batch=batch)
                for teacher, one in zip(self._yolos, wanted, strict=True)
            ]

        lost = self.resume and not goes_on_here(recipe.teacher_precision, self.device.type)
        wanted = ["auto" if lost else recipe.teacher_precision] * len(self._yolos)
        if self.world_size <= 1:
            return choose(wanted)
        first = choose(wanted) if RANK == 0 else None
        box = [[choice.precision for choice in first] if first else None]
        distributed.broadcast_object_list(box, 0)
        return first or choose(box[0] or [])

    @property
    def _pictures_a_step(self) -> int:
        """Pictures in a batch of one device; a guess as long as the host is still to find out how many fit."""
        return max(1, int(self.batch_size) // max(1, self.world_size)) if self.batch_size >= 1 else AT_A_TIME_ON_GPU

    def _say_price(self) -> None:
        """Say what teaching costs here, and warn where it costs more than the student itself is worth."""
        assert self.criterion is not None
        if RANK not in {-1, 0}:
            return
        if self.device.type == "cpu":
            precision = self.precision
        else:
            precision = ("bf16" if self.args.amp == "bf16" else "fp16") if self.amp else "fp32"
        model = unwrap_model(self.model)
        samples = self.samples(timed_pictures(self.device, self._pictures_a_step)).to(self.device)
        price = price_of_teaching(model, self.criterion, samples, precision)
        self.pace = {"student": precision, "teacher": self._teacher_name, "step": round(1 + price, 3)}
        if self._off:
            self.pace["off"] = "; ".join(self._off)
        rests = self.teacher_map is not None
        rest = ", until the student is better than it on val (kd_until=1: to the end)" if rests else ""
        LOGGER.info(f"{PREFIX}teacher: {self._teacher_name}, +{price:.0%} per step{rest}")
        if price > DEAR:
            LOGGER.warning(
                f"{PREFIX}the teacher takes {price:.1f} times the student's own step; a smaller teacher is cheaper and "
                "often teaches as well, and kd_until=0.5 asks it for half of the epochs"
            )

    def _keep_pace(self) -> None:
        """Leave the pace in the run's folder, for the process that started those of several GPUs as well."""
        if RANK not in {-1, 0}:
            return
        file = Path(self.save_dir) / PACE
        if self.pace is None:
            file.unlink(missing_ok=True)  # of an earlier run in this folder
        else:
            write_bytes(file, json.dumps(self.pace).encode())

    @property
    def _last_taught(self) -> int | None:
        """Batches after which the teacher rests; None for never. With `time=` the host corrects `epochs` as it goes."""
        share, batches = self.recipe.kd_until or 1.0, len(self.train_loader)
        if all(self.recipe.schedule.get(name) == "mosaic" for name in self.recipe.gains):
            share = min(share, 1 - self.args.close_mosaic / self.epochs)
        ends = [] if share == 1 else [max(1, round(share * self.epochs * batches))]
        ends += [] if self.passed_after is None else [self.passed_after * batches]
        return min(ends, default=None)

    @property
    def course(self) -> Course:
        """The run's landmarks, in batches of the current loader."""
        batches = len(self.train_loader)
        return Course(
            ramp=round(self.recipe.ramp_epochs * batches),
            total=self.epochs * batches,
            mosaic=(self.epochs - self.args.close_mosaic) * batches,
        )

    def _model_train(self) -> None:
        """Look anew where the run's landmarks are, which `time=` moves.

        Relies on: the host calls this once at the start of each epoch.
        """
        super()._model_train()  # type: ignore[misc]
        if self.args.time and self.world_size > 1:
            # The host counts the epochs that are left by each process's own clock; what is taught until when has to be
            # the same in all of them.
            box = [self.epochs]
            distributed.broadcast_object_list(box, 0)
            self.epochs = self.args.epochs = box[0]
        if self.criterion is not None:
            self.look_whether_passed()
            self.criterion.until, self.criterion.course = self._last_taught, self.course

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ask the teacher as soon as the batch is on the device, before the student has its turn.

        Relies on: the host calls this for every batch of training, and hands what it returns to model and loss.
        """
        batch = super().preprocess_batch(batch)
        if self.criterion is not None:
            self.criterion.prepare(batch)
        return batch


def read_pace(folder: Path) -> dict[str, Any] | None:
    """Return the pace of the run in a folder; see `TeacherPace.pace`. None of one that had no teacher."""
    file = folder / PACE
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
