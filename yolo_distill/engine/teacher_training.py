"""A teacher that is trained first, on the same data, and found again by the next run."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from copy import copy
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from torch import distributed, nn
from torch.utils.data import Dataset
from ultralytics.data.build import build_yolo_dataset
from ultralytics.data.utils import img2label_paths
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.nn.tasks import DetectionModel, torch_safe_load
from ultralytics.utils import DEFAULT_CFG, LOGGER, RANK, WORLD_SIZE, colorstr
from ultralytics.utils.dist import find_free_network_port
from ultralytics.utils.torch_utils import strip_optimizer, unset_deterministic, unwrap_model

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.data.label_tasks import require_labels_of
from yolo_distill.engine.atomic import forget_lost_epochs, whole_checkpoints
from yolo_distill.engine.cpu_precision import CpuPrecision
from yolo_distill.engine.exact_resume import forget_exact, keep_exact, restore_exact
from yolo_distill.engine.optimizer_steps import EnoughSteps
from yolo_distill.engine.run_folder import held_run, runs_folder
from yolo_distill.engine.step_cost import without_criterion
from yolo_distill.engine.temporarily import temporarily
from yolo_distill.evaluation.validator import say_figures, warnings_only
from yolo_distill.files import is_address, replacing, size_of, write_bytes
from yolo_distill.models.architecture_files import is_architecture, read_plan
from yolo_distill.models.checkpoint import kind_of, load_ultralytics, task_of_file
from yolo_distill.torchrun import ranks

PREFIX = colorstr("teacher: ")

#: Host settings that change where and how fast a run goes, but not what it learns.
_NO_MATTER = {
    "name", "project", "save_dir", "exist_ok", "resume", "model", "data", "device", "workers", "plots", "verbose",
    "save_period", "cache", "show", "task", "mode",
}  # fmt: skip

#: How long a worker waits for another on a CPU, as the host's do on GPUs.
LONGEST_WAIT = timedelta(hours=3)
#: Host settings that are meant for the student: weights of its own, and layers of these that stay as they are.
STUDENTS_OWN = {"pretrained", "freeze"}
# Where Ray is installed the host asks it each epoch for the trial that it is in, and Ray remarks that there is none.
warnings.filterwarnings("ignore", message="`get_trial_id` is meant")


class TeacherTrainer(DetectionTrainer):
    """The host's trainer with enough optimizer steps, fast on a CPU, and with whole checkpoints.

    Of teachers, and of students that have none; a trainer with a teacher is one of these. An instance is of the class
    for its task: the one that `overrides` says, else that of its model.

    Attributes:
        precision: in which it trains on a CPU.
        trust: open checkpoints without the allow-list; `trust` among the overrides.
        balance: of the gains of a run that goes on exactly where it was.
        resumable: `resume=` goes on with it; with a teacher the command that trains it does.
    """

    resumable: ClassVar[bool] = False

    balance: Mapping[str, Any] = MappingProxyType({})
    #: The class of this trainer for each task but detection.
    of_task: ClassVar[dict[str, type[TeacherTrainer]]] = {}

    def __new__(cls, cfg: Any = None, overrides: Mapping[str, Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Take the class for the task."""
        given = overrides or {}
        task = given.get("task")
        if task is None and cls.of_task and isinstance(model := given.get("model"), (str, Path)):
            task = task_of_file(model, trust=bool(given.get("trust")))
        return super().__new__(cls.of_task.get(str(task), cls))

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: Any = None) -> None:
        overrides = dict(overrides or {})
        self.trust = bool(overrides.pop("trust", False))
        self._steps, self.precision = EnoughSteps(overrides), CpuPrecision()
        super().__init__(cfg, overrides, _callbacks)
        if RANK != -1:
            self.world_size = WORLD_SIZE  # by its devices the host counts those of this machine
        elif (team := ranks.team()) is not None:
            self.world_size = team.place.world
        self._steps.settle(self)

    @property
    def unlabelled_ratio(self) -> float:
        """Unlabelled pictures that the run shows for each labelled one."""
        return 0.0

    @property
    def ddp(self) -> bool:
        """Whether workers train, and this one waits for them.

        Relies on: the host sets it by its devices, and where it is true leaves loggers to the workers.
        """
        return self._ddp or ranks.team() is not None

    @ddp.setter
    def ddp(self, several: bool) -> None:
        self._ddp = several

    def train(self) -> Any:
        """Train, in the processes that torchrun started where there are any.

        Relies on: the host's workers of several devices are built and started as `worker.py` does it.
        """
        team = ranks.team()
        if team is None:
            return super().train()
        import cloudpickle

        self.args.rect = False  # as the host has it with several devices
        names = {"args": vars(self.args), "model": self.model, "callbacks": self.callbacks}
        state = cloudpickle.dumps({"trainer": type(self), **names})
        try:
            team.train(state, find_free_network_port(), self.last if self.resumable else None)
        finally:
            unset_deterministic()
        return None

    def _setup_ddp(self) -> None:
        """Let processes find each other, on a CPU as the host does it for GPUs."""
        if self.device.type == "cpu":
            distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
        else:
            super()._setup_ddp()

    def check_resume(self, overrides: dict[str, Any]) -> None:
        """Let the host open the checkpoint that a run goes on from."""
        self._require_restricted(resume=self.args.resume)
        super().check_resume(overrides)

    def setup_model(self) -> Any:
        """Let the host open or build the model, and at the end of a run that goes on its best checkpoint so far.

        Relies on: beside these files it opens those of `pretrained` and `distill_model`, here.
        """
        args, best = vars(self.args), self.best if self.resume and self.best.exists() else None
        given = {key: args.get(key) for key in ("pretrained", "distill_model")}
        self._require_restricted(model=self.model, resume=best, **given)
        return super().setup_model()

    def get_model(self, cfg: Any = None, weights: nn.Module | None = None, verbose: bool = True) -> DetectionModel:
        """Build the model, of our own architectures as well, with the data's classes: the host would remark on them.

        Relies on: the host builds from what an architecture says as it does from its file.
        """
        plan = read_plan(cfg) if isinstance(cfg, (str, Path)) else cfg
        own = {key: self.data[key] for key in ("nc", "kpt_shape") if key in self.data}
        model: DetectionModel = super().get_model({**plan, **own}, weights, verbose)
        return model

    def _require_restricted(self, **files: Any) -> None:
        """Open checkpoints, by what named them, with the restricted loader: the host opens them without.

        Raises:
            RequestError: it refuses one.
        """
        for role, file in files.items():
            if isinstance(file, (str, Path)) and (str(file).lower().endswith(".pt") or is_address(file)):
                load_ultralytics(file, trust=self.trust, role=role)

    def get_dataset(self) -> Any:
        """Read the data set as the host does, once it is known that none of its own scripts would run.

        Relies on: the host runs a data file's `download:` only where pictures are missing.
        """
        check_data(self.args.data, ("train", self.args.split), need_labels=False)
        return super().get_dataset()

    def get_validator(self) -> Any:
        """Have the validator say on which scale its figures are, and of which branch.

        Relies on: it prints them by its own `print_results`.
        """
        validator = super().get_validator()
        validator.print_results = partial(say_figures, validator)
        return validator

    def auto_batch(self) -> int:
        """Find the batch size, and with it the number of steps."""
        self.batch_size = int(super().auto_batch())
        self._steps.settle(self)
        return self.batch_size

    def set_model_attributes(self) -> None:
        """Choose order and precision, now that model and device are known."""
        super().set_model_attributes()
        self.precision.choose(self)

    def _setup_train(self) -> None:
        """Set up training.

        Relies on: the host wraps a model by `nn.parallel.DistributedDataParallel` with `device_ids=`; a CPU has none.
        """
        wrap: Any = nn.parallel.DistributedDataParallel
        if self.device.type == "cpu":
            wrap = partial(_wrap_on_cpu, wrap)
        with temporarily(nn.parallel, DistributedDataParallel=wrap):
            super()._setup_train()
        self.precision.apply(self)
        if RANK in {-1, 0}:
            forget_lost_epochs(self.csv, self.start_epoch)

    def save_model(self) -> bool:
        """Save as the host does, and what makes going on exact."""
        if RANK in {-1, 0}:
            keep_exact(self)
        with whole_checkpoints(self), self.precision.saved_in(self.args):
            saved = bool(super().save_model())
        if RANK in {-1, 0}:
            forget_exact(self.wdir, but=self.epoch)
        return saved

    def resume_training(self, ckpt: Any) -> None:
        """Go on as the host does, and then exactly where the run was."""
        super().resume_training(ckpt)
        if self.start_epoch:
            self.balance = restore_exact(self)

    def final_eval(self) -> None:
        """Strip the optimizer from the finished checkpoints and validate the best one, as the host does.

        What it says of that is left out: figures of yet another kind, in a folder that is gone by then. In several
        processes on a CPU they are stripped alone: the host asks there which GPU it is on.
        """
        if self.world_size > 1 and self.device.type == "cpu":
            if RANK == 0:
                strip_checkpoints(self.last, trust=self.trust)
            return
        LOGGER.info("Drawing curves and sample pictures of the best epoch on val")
        with warnings_only(single_cls=bool(self.args.single_cls)), whole_checkpoints(self, rewritten=True):
            super().final_eval()
        if RANK in {-1, 0}:
            forget_exact(self.wdir)

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        """Restore a checkpoint, on resume and when the host recovers from NaN.

        Relies on: the host makes a new EMA copy of the model here. Our criterion must not be in it: validation would
        have our loss.
        """
        with without_criterion(unwrap_model(self.model)):
            super()._load_checkpoint_state(ckpt)


def _wrap_on_cpu(wrap: Any, model: nn.Module, device_ids: list[Any], **settings: Any) -> nn.Module:
    wrapped: nn.Module = wrap(model, **settings)
    return wrapped


class RtdetrTrainer(TeacherTrainer, RTDETRTrainer):
    """The same of the host's trainer of RT-DETRs.

    On a CPU it trains in channels-last order, which is a quarter faster, and in single precision whatever `amp` says:
    the host warns that less can upset the matching of queries to objects, and stops at some of its other values.
    """

    def set_model_attributes(self) -> None:
        """Choose the order."""
        if self.device.type == "cpu":
            self.args.amp = False
        super().set_model_attributes()

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Dataset[Any]:
        """Build what the host builds for a YOLO, in squares.

        For an RT-DETR it stretches every picture to a square. A student sees pictures in their proportions, and about
        those its teacher will be asked.

        Relies on: the host's validator for RT-DETRs takes boxes for shares of a square of `imgsz` pixels.
        """
        settings = copy(self.args)
        settings.rect = False
        dataset: Dataset[Any] = build_yolo_dataset(settings, img_path, batch, self.data, mode=mode)
        return dataset


class SegmentationTeacherTrainer(TeacherTrainer, SegmentationTrainer):
    """The same of the host's trainer for masks."""


class PoseTeacherTrainer(TeacherTrainer, PoseTrainer):
    """The same of the host's trainer for keypoints."""


class ObbTeacherTrainer(TeacherTrainer, OBBTrainer):
    """The same of the host's trainer for turned boxes."""


TeacherTrainer.of_task = {"segment": SegmentationTeacherTrainer, "pose": PoseTeacherTrainer, "obb": ObbTeacherTrainer}
RtdetrTrainer.of_task = {}


def strip_checkpoints(last: Path, *, trust: bool) -> None:
    """Strip the optimizer from the checkpoints of a run that had all its epochs, where the host did not come to it."""
    for file in (last, last.with_name("best.pt")):
        load_ultralytics(file, trust=trust, role="resume")  # the host opens it without restriction
        with replacing(file) as partial:
            strip_optimizer(file, s=str(partial))
    forget_exact(last.parent)


def train_teacher(
    teacher: str,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    epochs: int | None = None,
    *,
    trust: bool = False,
) -> Path:
    """Train a teacher, go on with one that was interrupted, or find one that is finished.

    It takes over the host's `settings` of the student's run, and its epochs or time where it has no number of its own.

    Args:
        teacher: an architecture, or weights that it begins with.
        data: as `check_data` found it.
        settings: the host's, of the student's run.
        epochs: of its own.
        trust: open weights without the allow-list.

    Returns:
        the teacher's best weights.

    Raises:
        RequestError: the host can't train such a teacher.
    """
    weights = None if is_architecture(teacher) else load_ultralytics(teacher, trust=trust)
    trainer = RtdetrTrainer if kind_of(teacher if weights is None else weights) == "rtdetr" else TeacherTrainer
    task = task_of_file(teacher, role="teacher") if weights is None else str(weights.task)
    require_labels_of(task, data, "train", f"teacher={teacher}: data={data['yaml_file']}")
    settings = {**settings, "task": task}
    if epochs:  # of its own: time= is the student's, and the host would go by that
        settings = {key: value for key, value in settings.items() if key != "time"} | {"epochs": epochs}
    file = teacher if weights is None else str(weights.pt_path)  # which the host may have downloaded
    begins = teacher if weights is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    folder = runs_folder(settings) / f"teacher-{Path(teacher).stem}-{content_key(begins, data, settings)}"
    best, last, done = folder / "weights" / "best.pt", folder / "weights" / "last.pt", folder / "teacher.json"
    if done.is_file() and best.is_file():
        LOGGER.info(f"{PREFIX}found finished: {best}")
        return best
    place = {"project": str(folder.parent), "name": folder.name, "exist_ok": True}
    folder.mkdir(parents=True, exist_ok=True)
    with held_run(folder):
        left = _epochs_left(last) if last.is_file() and best.is_file() else None
        if left is None:
            LOGGER.info(f"{PREFIX}training {teacher} first, into {folder}")
            trainer(overrides={**settings, "model": file, "trust": trust, **place}).train()
        elif left:
            LOGGER.info(f"{PREFIX}going on with {last}")
            # The folder may have been moved, and the machine be another one than that which the checkpoint remembers.
            moved: dict[str, Any] = {key: settings[key] for key in ("data", "device", "workers") if key in settings}
            trainer(overrides={**moved, "model": str(last), "resume": str(last), "save_dir": str(folder)}).train()
        else:
            strip_checkpoints(last, trust=False)
        write_bytes(done, json.dumps({"teacher": teacher, "weights": "weights/best.pt"}).encode())
    return best


def _epochs_left(last: Path) -> int:
    """Return how many epochs a run of ours has left; the host marks a finished checkpoint with epoch -1."""
    checkpoint, _ = torch_safe_load(last, safe_only=True)
    return int(checkpoint["train_args"]["epochs"]) - 1 - checkpoint["epoch"] if checkpoint["epoch"] >= 0 else 0


def content_key(begins: str, data: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return a short hash of all that decides what a model learns: its beginning, pictures, labels, settings.

    Its beginning is an architecture, the name of one, or a hash of weights.
    """
    pictures = [picture for split in ("train", "val") for picture in pictures_of(dict(data), split)]
    # Labels by what they say: a class that is corrected leaves their size as it was.
    labels = [Path(label) for label in img2label_paths(pictures)]
    digest = hashlib.sha256(b"".join(label.read_bytes() if label.is_file() else b"-" for label in labels)).hexdigest()
    files = [[Path(picture).name, size_of(picture)] for picture in pictures]
    matters = {key: value for key, value in settings.items() if key not in _NO_MATTER}
    plan = read_plan(begins) if is_architecture(begins) else None
    content = json.dumps([begins, plan, data["names"], files, digest, matters], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:8]
