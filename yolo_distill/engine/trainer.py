"""The host's detection trainer with a teacher beside the student.

Every override says what of the host it relies on; `tests/engine/test_host_contract.py` checks those things one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, distributed, nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.class_mapping import match_classes, read_class_map, require_match, taught_names
from yolo_distill.data.stored_answers import stored_answers
from yolo_distill.distillation.criterion import LOSS_NAMES, DistillationCriterion
from yolo_distill.distillation.projectors import average_gradients, keep_projectors, make_projectors, restore_projectors
from yolo_distill.distillation.terms import Levels, Terms, needs_of
from yolo_distill.engine.atomic import AtomicCheckpoints
from yolo_distill.engine.gradient_shares import ShareReport
from yolo_distill.engine.optimizer_steps import EnoughSteps
from yolo_distill.engine.request_checks import require_teachable
from yolo_distill.engine.run_recipe import ARGS_KEY, given_recipe, resumed_recipe
from yolo_distill.engine.teacher_cost import PREFIX, TeacherPace
from yolo_distill.engine.teacher_stop import TEACHER_MAP_KEY
from yolo_distill.errors import RequestError
from yolo_distill.files import write_bytes
from yolo_distill.initialization.gentle_training import follow_closely
from yolo_distill.initialization.initialize import begin_inside
from yolo_distill.initialization.weight_selection import plan_start
from yolo_distill.models.checkpoint import rounded_imgsz
from yolo_distill.recipe import Recipe, check_recipe, is_recipe_key
from yolo_distill.teachers.answer import DenseAnswer
from yolo_distill.teachers.loading import Teachers, with_absolute_files
from yolo_distill.teachers.stored import StoredTeacher
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.yolo import YoloTeacher
from yolo_distill.vocabulary import FEATURE_TERMS


class DistillationTrainer(EnoughSteps, TeacherPace, ShareReport, AtomicCheckpoints, DetectionTrainer):
    """Trains a student on the ground truth and a teacher together.

    Takes the host's settings and those of `yolo_distill.recipe.Recipe` in `overrides`:

        YOLO("yolo26n.yaml").train(trainer=DistillationTrainer, teacher="best.pt", data="data.yaml", imgsz=320)

    Attributes:
        recipe: the resolved recipe.
        teachers: of the recipe.
        projectors: of the feature term, by stride; empty without one.
        criterion: the host's loss with the terms beside it; None until training is set up, or when all gains are 0.
    """

    recipe: Recipe
    projectors: nn.ModuleDict
    criterion: DistillationCriterion | None = None
    _resumed_recipe: dict[str, Any] | None = None
    _chosen: dict[int, Tensor] | None = None
    _missing: float | None = None

    def __init__(
        self,
        cfg: Any = DEFAULT_CFG,
        overrides: dict[str, Any] | None = None,
        _callbacks: Any = None,
        teachers: Teachers | None = None,
    ) -> None:
        """Take our own settings out of `overrides` before the host, which refuses unknown ones, sees them.

        Args:
            cfg: as the host has it.
            overrides: settings of the host, and our own.
            _callbacks: as the host has them.
            teachers: that were opened already; None: what the recipe names.

        Raises:
            RequestError: a recipe setting that is unknown, missing or wrong, or a teacher that can't be used.
        """
        overrides = dict(overrides or {})
        travelled = overrides.pop(ARGS_KEY, None)
        self.teacher_map = overrides.pop(TEACHER_MAP_KEY, None)
        own = {key: overrides.pop(key) for key in list(overrides) if is_recipe_key(key) or key == "recipe"}
        self.projectors = nn.ModuleDict()
        self._idle = {}

        if travelled is not None:  # a worker of several devices
            self.recipe = check_recipe(travelled)
        elif not overrides.get("resume"):
            if any(overrides.get(key) is not None for key in ("warmup_epochs", "warmup_bias_lr")):  # what is given wins
                own["init_warmup"] = 0.0
            self.recipe = given_recipe(own, str(own.pop("recipe", "default")))
            if self.recipe.assistant:
                raise RequestError(
                    f"assistant={self.recipe.assistant}: yolo-distill train distils one; a trainer can't"
                )
            if self.recipe.init == "try":
                raise RequestError("init=try: yolo-distill train tries both starts; a trainer can't")
        super().__init__(cfg, overrides, _callbacks)
        if travelled is None and self._resumed_recipe is not None:
            self.recipe = resumed_recipe(self._resumed_recipe, own)
        elif travelled is None and self.resume:
            raise RequestError(f"resume={self.args.resume}: not a checkpoint of a distillation run")
        if not self.resume:
            require_teachable(self.recipe, vars(self.args))
        self.recipe = with_absolute_files(self.recipe)  # a run may be resumed from another folder
        self.teachers = Teachers.of(self.recipe, teachers)
        self._write_recipe()

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Let the host restore its arguments, then take our recipe out of them.

        A run's folder may have been moved, and another one lie where it was: a run goes on beside its checkpoint.

        Relies on: `self.args` is rebuilt from the checkpoint's arguments with keys unknown to the host left in, among
        them `save_dir`, where the run was.
        """
        super().check_resume(overrides)
        if self.resume and "save_dir" not in overrides and (last := Path(self.args.resume)).parent.name == "weights":
            self.args.save_dir = str(last.absolute().parent.parent)  # which may hold links
        if self.resume and hasattr(self.args, ARGS_KEY):
            self._resumed_recipe = getattr(self.args, ARGS_KEY)
            delattr(self.args, ARGS_KEY)

    def train(self) -> Any:
        """Train; with several devices the host starts workers, which find the recipe in the arguments.

        Relies on: the workers' trainer is built with `overrides=vars(self.args)`.
        """
        if not self.ddp:
            return super().train()
        if isinstance(self.model, nn.Module) and self._chosen is not None:
            # From Python the host builds the student before it starts the workers, which get nothing but the model.
            self.model.start_in_teacher = (self._chosen, self._missing)  # type: ignore[assignment]
        with self._recipe_in_args():
            return super().train()

    @contextmanager
    def _recipe_in_args(self) -> Iterator[None]:
        """Put the recipe among the host's arguments; only where they are saved, as the host refuses unknown ones."""
        setattr(self.args, ARGS_KEY, self.recipe.model_dump())
        try:
            yield
        finally:
            delattr(self.args, ARGS_KEY)

    @property
    def teacher_model(self) -> DetectionModel | None:
        """The teacher that a student can start from, as its checkpoint holds it; None without one."""
        return self.teachers.start

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> DetectionModel:
        """Build the student, started from the teacher where the recipe says so.

        Relies on: the host builds the student here, with `weights` None when it has none of its own.
        """
        model = super().get_model(cfg, weights, verbose)
        init = self.recipe.init
        if self.resume or init == "student":
            return model
        if init == "auto" and weights is not None:
            self._say_choice(model)
            return model
        if self.teacher_model is None:
            if init == "teacher":
                raise RequestError(f"init=teacher: {self.recipe.teacher} is no YOLO that a student could start from")
            LOGGER.info(f"{PREFIX}student starts from random weights: {self.recipe.teacher} is no YOLO")
            return model
        self._check_channels()
        model.names = self.data["names"]
        report = begin_inside(
            model,
            self.teacher_model,
            self.recipe,
            args=self.args,
            data=self.data,
            imgsz=rounded_imgsz(model, self.args.imgsz),
            device=self.device,
        )
        if report is not None:
            self._chosen, self._missing = report.chosen, report.missing
        return model

    def _say_choice(self, model: DetectionModel) -> None:
        """Say that a student with weights of its own could start inside the teacher as well."""
        if self.teacher_model is not None and plan_start(model, self.teacher_model)[1].corresponds:
            LOGGER.info(
                f"{PREFIX}student starts from its own weights; init=teacher would start it inside the teacher, "
                "and init=try takes the better of the two"
            )

    def set_model_attributes(self) -> None:
        """Set up teacher, class match, levels and projectors, now that the student and its device are known.

        Relies on: the host calls this once in `_setup_train`, after the student is on its device and before the
        optimizer is built.
        """
        super().set_model_attributes()
        if (start := vars(unwrap_model(self.model)).pop("start_in_teacher", None)) is not None:
            self._chosen, self._missing = start
        why = self._settle_recipe()
        self._train_gently()
        gains = self.recipe.gains
        if not gains:
            LOGGER.info(f"{PREFIX}the student is trained without its teacher: {why}")
            return
        model = unwrap_model(self.model)
        head = model.model[-1]
        self._check_channels()
        teacher = self._make_teacher(head)
        self._teacher = teacher
        self._check_size(max(teacher.strides, default=0))
        self._set_pace()
        self._write_recipe()  # with the precision that was chosen
        dense = isinstance(teacher(self.samples(1).to(self.device)), DenseAnswer)
        class_map = read_class_map(self.recipe.class_map) if self.recipe.class_map else None
        classes = match_classes(self.data["names"], teacher.names, class_map)
        classes = classes.only(taught_names(self.data["names"], vars(self.args)))
        feature_terms = gains.keys() & set(FEATURE_TERMS)
        require_match(classes, some=self.recipe.match == "some", features_only_possible=dense and bool(feature_terms))
        strides = [int(s) for s in head.stride]
        # A set is laid out over the student's own anchors.
        levels = Levels.match(strides, teacher.strides if dense else strides)
        if not levels.common:
            raise RequestError(f"teacher and student have no level in common: {levels}")
        if feature_terms:
            self.projectors = self._make_projectors(levels, teacher).to(self.device)
        self._terms = Terms(self.recipe, classes, levels, self.projectors, maps=teacher.widths)
        rows = ", ".join(f"{name}={gain:g}" for name, gain in gains.items())
        LOGGER.info(f"{PREFIX}teacher {self.recipe.teacher}: {classes}\n{PREFIX}{levels}\n{PREFIX}gains: {rows}")
        if table := classes.table(teacher.names):
            LOGGER.info(table)

    def _settle_recipe(self) -> str:
        """Settle what the recipe leaves open until it is known where the student starts; says why it is taught."""
        if self.world_size > 1:  # each device fits for itself, and all have to be taught, or none
            box = [self._missing]
            distributed.broadcast_object_list(box, 0)
            self._missing = box[0]
        inside, missing = self._chosen is not None, self._missing
        if self.resume:
            return "as it was begun"
        taught, why = self.recipe.teaching(inside=inside, missing=missing)
        recipe = self.recipe.settled(inside=inside, missing=missing)
        if recipe != self.recipe:
            self.recipe = recipe
            self._write_recipe()
        if taught and missing is not None:
            LOGGER.info(f"{PREFIX}the student is taught by its teacher: {why}")
        return why

    def _train_gently(self) -> None:
        """Keep a student that starts fitted from falling far below its start, also where a run is resumed."""
        if not self.recipe.init_warmup:
            return
        follow_closely(unwrap_model(self.model))
        if not self.resume and not self.args.time:
            self.args.warmup_epochs = self.recipe.init_warmup * self.epochs
            self.args.warmup_bias_lr = 0.0  # biases come to their rate from below as well

    def _write_recipe(self) -> None:
        if RANK in {-1, 0}:
            text = yaml.safe_dump(self.recipe.model_dump(), sort_keys=False)
            write_bytes(self.save_dir / "recipe.yaml", text.encode())

    def _check_channels(self) -> None:
        """Refuse pictures of other channels than the teacher takes."""
        channels = self.data.get("channels", 3)
        model = self.teacher_model
        taken = 3 if model is None else int(next(p for p in model.parameters() if p.ndim == 4).shape[1])
        if channels != taken:
            raise RequestError(
                f"teacher={self.recipe.teacher}: takes pictures of {taken} channels, the data has {channels}"
            )

    def _make_projectors(self, levels: Levels, teacher: Teacher) -> nn.ModuleDict:
        """Return the projectors of the feature terms, for the levels of which the teacher shows a map."""
        shown = [stride for stride in levels.common if stride in teacher.widths]
        if not shown:
            raise RequestError(
                f"teacher={self.recipe.teacher}: shows no feature map of stride {', '.join(map(str, levels.common))}; "
                f"use {', '.join(f'{name}=0' for name in self.recipe.gains if name in FEATURE_TERMS)}"
            )
        head = unwrap_model(self.model).model[-1]
        widths = dict(zip(levels.student, (seq[0].conv.in_channels for seq in head.cv2), strict=True))
        return make_projectors(
            self.recipe,
            replace(levels, common=shown),
            widths,
            teacher.widths,
            seed=self.args.seed,
            chosen=self._chosen if isinstance(teacher, YoloTeacher) else None,
        )

    def _make_teacher(self, head: nn.Module) -> Teacher:
        """Open the teacher, and keep the YOLOs in it, whose precision is to be chosen."""
        recipe = self.recipe
        only = self.teacher_model if self.teachers.alone else None
        needs = needs_of(recipe, head, only.model[-1] if only is not None else None)
        opened = self.teachers.open(needs, self.device, self.rounded_imgsz, teacher_imgsz=recipe.teacher_imgsz)
        if isinstance(opened.teacher, StoredTeacher):
            self._stored = opened.teacher.answers = stored_answers(Path(recipe.teacher), Path(self.save_dir).parent)
        self._yolos = opened.yolos
        self._teacher_name = opened.name
        return opened.teacher

    def _check_size(self, stride: int) -> None:
        """Refuse pictures that a teacher with a coarser level than the student's does not take."""
        gs, size = max(int(unwrap_model(self.model).stride.max()), 32), self.rounded_imgsz
        if stride > gs and (size % stride or self.args.multi_scale or self.args.rect):
            raise RequestError(
                f"imgsz={size}: the teacher takes multiples of {stride} only; use imgsz={-(-size // stride) * stride}, "
                "multi_scale=0 and rect=False"
            )

    def build_optimizer(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Add the projectors, which are no part of the student, as one more parameter group.

        Relies on: the host's scheduler and warm-up treat every group alike, save those named "bias".
        """
        optimizer = super().build_optimizer(model, *args, **kwargs)
        if parameters := list(self.projectors.parameters()):
            plain = [g for g in optimizer.param_groups if not g.get("use_muon") and g.get("weight_decay") == 0]
            like = min(plain, key=lambda group: group["lr"])  # MuSGD has groups at three times the rate for the head
            settings = {k: v for k, v in like.items() if k not in {"params", "param_group"}}
            optimizer.add_param_group({"params": parameters, **settings, "param_group": "projector"})
        return optimizer

    def _setup_train(self) -> None:
        """Attach the criterion last, so that the EMA copy and validation keep the host's plain loss.

        Relies on: a model calls `self.criterion` when it has one, and the EMA copy has been made by now.
        """
        super()._setup_train()
        if self.resume and RANK in {-1, 0}:
            self._forget_lost_epochs()
        if not self.recipe.gains:
            self._keep_pace()
            return
        model = unwrap_model(self.model)
        head = model.model[-1]
        self.criterion = DistillationCriterion(
            getattr(model, "criterion", None) or model.init_criterion(),
            self._teacher,
            self._terms,
            strides=[int(s) for s in head.stride],
            reg_max=int(head.reg_max),
            balancer=self.make_balancer(),
        )
        self.warn_of_frozen_layers(model)
        if RANK == -1:
            self.measure_teacher()
        self._say_price()
        self._keep_pace()
        self._count_steps(self.start_epoch)
        model.criterion = self.criterion

    def _count_steps(self, epoch: int) -> None:
        """Tell the criterion where the run is, in batches of the current loader."""
        if self.criterion is not None:
            batches = len(self.train_loader)
            self.criterion.start_at(
                epoch * batches,
                course=self.course,
                until=self._last_taught,
                # A compiled graph frees its buffers in the first backward pass, so its shares can't be measured.
                measure_every=0 if self.args.compile else batches,
            )

    def _build_train_pipeline(self) -> None:
        """Count anew when the host, out of memory, builds the loaders again for half the batch.

        Relies on: the host starts the epoch again after that.
        """
        super()._build_train_pipeline()
        self._count_steps(self.start_epoch)

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        """Restore the projectors with the rest, on resume and when the host recovers from NaN."""
        super()._load_checkpoint_state(ckpt)
        epoch = int(ckpt["epoch"])
        self._count_steps(epoch + 1)
        self.restore_balance()
        if len(self.projectors):
            restore_projectors(self._projector_file, epoch, self.projectors)

    def optimizer_step(self) -> None:
        """Average the projectors' gradients over all devices, as DDP does for the student's.

        Relies on: the host steps the optimizer here and nowhere else.
        """
        if self.projectors and distributed.is_available() and distributed.is_initialized():
            average_gradients(self.projectors)
        super().optimizer_step()

    def save_model(self) -> bool:
        """Keep the projectors beside the checkpoint: they are needed for resume and are no part of the student."""
        if len(self.projectors):
            keep_projectors(self._projector_file, self.epoch, self.projectors)
        with self._recipe_in_args():
            return super().save_model()

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

    def _forget_lost_epochs(self) -> None:
        """Drop rows of results.csv that a killed run wrote for an epoch whose checkpoint it could not finish."""
        if self.csv.exists():
            header, *rows = self.csv.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [row for row in rows if int(row.split(",", 1)[0]) <= self.start_epoch]
            write_bytes(self.csv, "".join([header, *kept]).encode())

    @property
    def _projector_file(self) -> Path:
        return Path(self.save_dir) / "weights" / "projectors.pt"
