"""The host's detection trainer with a teacher beside the student.

Every override says what of the host it relies on; `tests/engine/test_host_contract.py` checks those things one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, distributed, nn
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.unlabelled import unlabelled_ratio
from yolo_distill.distillation.criterion import LOSS_NAMES, DistillationCriterion
from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.distillation.projectors import add_projectors, average_gradients, keep_projectors, restore_projectors
from yolo_distill.engine.dataloaders import TrainingPictures
from yolo_distill.engine.gradient_shares import ShareReport, draw_shares
from yolo_distill.engine.request_checks import require_larger, require_teachable
from yolo_distill.engine.run_recipe import given_recipe, resumed_recipe
from yolo_distill.engine.student_start import settle_start, start_student
from yolo_distill.engine.summary import SUMMARY, summarise
from yolo_distill.engine.teacher_cost import keep_cost, measure_cost
from yolo_distill.engine.teacher_setup import require_known_classes
from yolo_distill.engine.teacher_stop import TEACHER_MAP_KEY, TeacherStop, agree_on_epochs, last_taught
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.teaching import Teaching, WithTeacher
from yolo_distill.engine.temporarily import temporarily
from yolo_distill.errors import RequestError, one_line
from yolo_distill.files import write_bytes
from yolo_distill.host_keys import NOT_IN_TRAIN
from yolo_distill.losses.devices import alone, of_first_device, start_as_first_device
from yolo_distill.recipe import ARGS_KEY, Recipe, check_recipe, is_recipe_key
from yolo_distill.teachers.loading import Teachers, with_absolute_files

PREFIX = colorstr("distill: ")
RECIPE = "recipe.yaml"


class DistillationTrainer(TeacherTrainer):
    """Trains a student on the ground truth and a teacher together.

    Takes the host's settings and those of `yolo_distill.recipe.Recipe` in `overrides`:

        YOLO("yolo26n.yaml").train(trainer=DistillationTrainer, teacher="best.pt", data="data.yaml", imgsz=320)

    Attributes:
        recipe: the resolved recipe.
        teachers: of the recipe.
        teaching: the teacher as it is set up for the student; None until training is set up, or when all gains are 0.
        criterion: the host's loss with the terms beside it; None likewise.
        projectors: of the feature terms, by name and stride; empty without one.
        teacher_stop: when the teacher rests.
        teaching_cost: of a step, see `measure_cost`.
    """

    resumable = True
    recipe: Recipe
    teaching: Teaching | None = None
    criterion: DistillationCriterion | None = None
    teaching_cost: dict[str, Any] | None = None
    _shares: ShareReport
    _resumed_recipe: dict[str, Any] | None = None
    _chosen: dict[int, Tensor] | None = None

    def __init__(
        self,
        cfg: Any = DEFAULT_CFG,
        overrides: dict[str, Any] | None = None,
        _callbacks: Any = None,
        teachers: Teachers | None = None,
    ) -> None:
        """Take our own settings out of `overrides` before the host, which refuses unknown ones, sees them.

        `teachers` are those of the recipe where they were opened already.

        Raises:
            RequestError: a recipe setting that is unknown, missing or wrong, or a teacher that can't be used.
        """
        # Of the host's YOLO(), and not of a command, which has its own checks, or a worker of one of them.
        self._of_model = _callbacks is not None and RANK == -1
        overrides = dict(overrides or {})
        travelled = overrides.pop(ARGS_KEY, None)
        self.teacher_stop = TeacherStop(*overrides.pop(TEACHER_MAP_KEY, [None]))
        own = {key: overrides.pop(key) for key in list(overrides) if is_recipe_key(key) or key == "recipe"}
        self.projectors = nn.ModuleDict()
        if travelled is not None:  # a worker of several devices
            self.recipe = check_recipe(travelled)
        elif not overrides.get("resume"):
            self.recipe = given_recipe(own, overrides)
            if self._of_model and Teachers.of(self.recipe).trained_first:
                said = f"teacher={self.recipe.teacher}: is yet to be trained, which only yolo-distill train does"
                raise RequestError(f"{said}; give weights, and leave teacher_epochs= out")
        for key in ("distill_model", "quantize"):
            if overrides.get(key):
                raise RequestError(f"{key}= does not belong here: {NOT_IN_TRAIN[key]}")
        overrides["trust"] = (travelled or own).get("trust")
        super().__init__(cfg, overrides, _callbacks)
        if travelled is None and self._resumed_recipe is not None:
            self.recipe = resumed_recipe(self._resumed_recipe, own)
        elif travelled is None and self.resume:
            raise RequestError(f"resume={self.args.resume}: not a checkpoint of a distillation run")
        if not self.resume:
            require_teachable(self.recipe, vars(self.args))
        recipe = with_absolute_files(self.recipe)  # a run may be resumed from another folder
        self.teachers = Teachers.of(recipe, teachers)
        self._write_recipe(recipe)
        self._pictures = TrainingPictures(recipe)

    @property
    def unlabelled_ratio(self) -> float:
        """The same; pictures are gathered where that was not done yet."""
        return unlabelled_ratio(self.recipe, self.data, Path(self.save_dir).parent, self.args.fraction)

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Let the host restore its arguments, then take our recipe out of them.

        A run's folder may have been moved, and another one lie where it was: a run goes on beside its checkpoint.

        Relies on: `self.args` is rebuilt from the checkpoint's arguments with keys unknown to the host left in, among
        them `save_dir`, where the run was.
        """
        super().check_resume(overrides)
        if self.resume and "save_dir" not in overrides and (last := Path(self.args.resume)).parent.name == "weights":
            self.args.save_dir = str(last.absolute().parent.parent)  # which may hold links
        if self.resume:
            self._resumed_recipe = self.args.__dict__.pop(ARGS_KEY, None)

    def _write_recipe(self, recipe: Recipe) -> None:
        """Take a recipe on, and leave it in the run's folder."""
        self.recipe = recipe
        if RANK in {-1, 0}:
            text = yaml.safe_dump(recipe.model_dump(), sort_keys=False)
            write_bytes(self.save_dir / RECIPE, text.encode())

    def train(self) -> Any:
        """Train; with several devices the host starts workers, which find what is ours in the arguments.

        The teacher is measured before they start, as each has its part of val only. What is ours is in the arguments
        only where they are saved or handed on: the host refuses settings that it does not know.

        Relies on: the workers' trainer is built with `overrides=vars(self.args)`.
        """
        metrics = self._train()
        if self._of_model and self.best.exists():
            summarise(self.save_dir, self.recipe, self.teachers, self.args.data, vars(self.args))
        return metrics

    def _train(self) -> Any:
        if not self.ddp:
            return super().train()
        if isinstance(self.model, nn.Module) and self._chosen is not None:
            # From Python the host builds the student before it starts the workers, which get nothing but the model.
            vars(self.model)["start_in_teacher"] = self._chosen
        self.teacher_stop.measure_teacher(self.recipe, self.teachers, self.args)
        stop = self.teacher_stop
        ours = {ARGS_KEY: self.recipe.model_dump(), TEACHER_MAP_KEY: [stop.teacher_map, stop.by_boxes]}
        with temporarily(self.args, **ours):
            return super().train()

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> DetectionModel:
        """Build the student, started from the teacher where the recipe says so.

        Relies on: the host builds the student here, with `weights` None when it has none of its own.
        """
        model: DetectionModel = super().get_model(cfg, weights, verbose)
        if self._of_model and not self.resume:
            self._check_pair(model)
        if not self.resume and self.recipe.init != "student":
            chosen = None
            if RANK in {-1, 0}:  # the others get its weights when the host sets them up to train together
                with alone():
                    report = start_student(self, model, has_weights=weights is not None)
                chosen = report.chosen if report is not None else None
            self._chosen = of_first_device(chosen)
        return model

    def _check_pair(self, student: DetectionModel) -> None:
        """Refuse what the command refuses: a teacher that knows other classes, or is no larger than its student."""
        if self.teachers.alone and (teacher := self.teachers.start) is not None:
            require_larger(teacher, student, self.recipe, str(self.args.model))
        require_known_classes(self.recipe, self.teachers, self.data["names"], vars(self.args))

    def set_model_attributes(self) -> None:
        """Set up the teacher, now that the student and its device are known.

        Relies on: the host calls this once in `_setup_train`, after the student is on its device and before the
        optimizer is built.
        """
        super().set_model_attributes()
        start = vars(unwrap_model(self.model)).pop("start_in_teacher", None)
        if start is not None:
            self._chosen = start
        recipe, why = settle_start(self, inside=self._chosen is not None)
        self._write_recipe(recipe)
        if recipe.gains:
            self.teaching = Teaching(self)
            self.projectors = self.teaching.terms.projectors
            start_as_first_device(self.projectors)
            self._write_recipe(self.teaching.recipe)
            self._pictures = TrainingPictures(self.recipe, self.teaching.stored)
        else:
            LOGGER.info(f"{PREFIX}{'it' if self._chosen is not None else 'the student'} now trains alone: {why}")

    def auto_batch(self) -> int:
        """Count the teacher in when the host looks for the batch that fills the memory.

        Relies on: the host measures `self.model`, after `set_model_attributes`.
        """
        if self.teaching is None:
            return super().auto_batch()
        both = WithTeacher(unwrap_model(self.model), self.teaching.teacher, self.teaching.terms)
        with temporarily(self, model=both):
            found = super().auto_batch()
        self.projectors.zero_grad()
        return found

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
        """Build the host's data set, that of training as the recipe wants it."""
        build = super().build_dataset
        if mode != "train":
            return build(img_path, mode, batch)
        return self._pictures.build(self, lambda path: build(path, mode, batch), img_path)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Build the host's loader; one of labelled and unlabelled pictures mixes both in every batch."""
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        self._pictures.mix(self, loader)
        return loader

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Add the projectors, which are no part of the student.

        Relies on: the host gives `iterations`, from the number of its data set's pictures, by name.
        """
        if "iterations" in kwargs:
            kwargs["iterations"] = self._pictures.iterations(self, kwargs["iterations"])
        try:
            optimizer: torch.optim.Optimizer = super().build_optimizer(model, *args, **kwargs)
        except NotImplementedError as error:
            raise RequestError(f"optimizer={self.args.optimizer}: {one_line(error)}") from error
        add_projectors(self.projectors, optimizer)
        return optimizer

    def _setup_train(self) -> None:
        """Attach the criterion last, so that the EMA copy and validation keep the host's plain loss.

        Relies on: a model calls `self.criterion` when it has one, and the EMA copy has been made by now. Callbacks that
        are added here are not among those that the host hands to workers of several devices.
        """
        super()._setup_train()
        if self.teaching is not None:
            self._attach_criterion(self.teaching)
        if RANK in {-1, 0}:
            keep_cost(self.save_dir, self.teaching_cost)
            (self.save_dir / SUMMARY).unlink(missing_ok=True)  # of an earlier run in this folder
        self.add_callback("on_train_epoch_start", DistillationTrainer._start_epoch)
        self.add_callback("on_train_end", draw_shares)

    def _attach_criterion(self, teaching: Teaching) -> None:
        model = unwrap_model(self.model)
        head = model.model[-1]
        self._shares = ShareReport(self.recipe, self.csv)
        self.criterion = DistillationCriterion(
            getattr(model, "criterion", None) or model.init_criterion(),
            teaching.teacher,
            teaching.terms,
            strides=[int(s) for s in head.stride],
            reg_max=int(head.reg_max),
            balancer=self._shares.balancer(resume=self.resume),
        )
        self._shares.warn_of_frozen_layers(model)
        if RANK == -1:
            self.teacher_stop.measure_teacher(self.recipe, self.teachers, self.args)
        if RANK in {-1, 0}:
            self.teaching_cost = measure_cost(self)
        self._place(self.criterion, self.start_epoch)
        self.criterion.go_on_balancing(self.balance)  # results.csv has the gains rounded
        model.criterion = self.criterion

    def _start_epoch(self) -> None:
        """Look anew where the run's landmarks are, which `time=` moves.

        Relies on: the host calls back at the start of each epoch, also of one that it begins again: out of memory with
        half the batch, or after NaN from the last checkpoint.
        """
        agree_on_epochs(self)
        if self.criterion is not None:
            self.teacher_stop.compare(self.recipe, self.csv)
            self._place(self.criterion, self.epoch)

    def _place(self, criterion: DistillationCriterion, epoch: int) -> None:
        """Tell the criterion where the run is and where its landmarks are, in batches of the current loader."""
        batches, closing = len(self.train_loader), self.epochs - self.args.close_mosaic
        course = Course(round(self.recipe.ramp_epochs * batches), self.epochs * batches, closing * batches)
        criterion.start_at(
            epoch * batches,
            course=course,
            until=last_taught(self.recipe, course, batches, self.teacher_stop.passed_after),
            # A compiled graph frees its buffers in the first backward pass, so its shares can't be measured.
            measure_every=0 if self.args.compile else batches,
        )

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Ask the teacher as soon as the batch is on the device, before the student has its turn.

        Relies on: the host calls this for every batch of training, and hands what it returns to model and loss.
        """
        batch = super().preprocess_batch(batch)
        self._pictures.split(self, batch)
        if self.criterion is not None:
            self.criterion.prepare(batch)
        return batch

    def optimizer_step(self) -> None:
        """Average the projectors' gradients over all devices, as DDP does for the student's.

        Relies on: the host steps the optimizer here and nowhere else.
        """
        if self.projectors and distributed.is_available() and distributed.is_initialized():
            average_gradients(self.projectors)
        super().optimizer_step()

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the gradient shares into results.csv beside the losses.

        Relies on: the host calls this once an epoch.
        """
        shares = self._shares.columns(self.criterion) if self.criterion is not None else {}
        super().save_metrics({**metrics, **shares})

    def label_loss_items(self, loss_items: Any = None, prefix: str = "train") -> Any:
        """Leave our terms out of the validation losses, which are the host's alone.

        Relies on: the host asks here for the names of all losses in results.csv, also those of validation.
        """
        labelled = super().label_loss_items(loss_items, prefix)
        if prefix != "val":
            return labelled
        ours = {f"{prefix}/{name}" for name in LOSS_NAMES.values()}
        kept = [key for key in labelled if key not in ours]
        return {key: labelled[key] for key in kept} if isinstance(labelled, dict) else kept

    def save_model(self) -> bool:
        """Keep the projectors beside the checkpoint: they are needed for resume and are no part of the student."""
        if len(self.projectors):
            keep_projectors(self.wdir / "projectors.pt", self.epoch, self.projectors)
        with temporarily(self.args, **{ARGS_KEY: self.recipe.model_dump()}):
            return super().save_model()

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        """Restore projectors and gains with the rest, on resume and when the host recovers from NaN."""
        super()._load_checkpoint_state(ckpt)
        if self.criterion is not None and self.criterion.balancer is not None:
            self._shares.restore(self.criterion.balancer)
        if len(self.projectors):
            restore_projectors(self.wdir / "projectors.pt", int(ckpt["epoch"]), self.projectors)


class SegmentationDistillationTrainer(DistillationTrainer, SegmentationTrainer):
    """The same of the host's trainer for masks."""


class PoseDistillationTrainer(DistillationTrainer, PoseTrainer):
    """The same of the host's trainer for keypoints."""


class ObbDistillationTrainer(DistillationTrainer, OBBTrainer):
    """The same of the host's trainer for turned boxes."""


DistillationTrainer.of_task = {
    "segment": SegmentationDistillationTrainer,
    "pose": PoseDistillationTrainer,
    "obb": ObbDistillationTrainer,
}
