"""A teacher of torchvision's, trained on the student's data with torchvision's own losses, and found again later.

Pictures and boxes come from the host's data set with its augmentation; what happens to a picture is a matter of seed,
epoch and picture alone, and so are the order of the pictures, the learning rate and torch's random numbers. A run that
was killed therefore needs the epoch, the weights and the optimizer's memory to go on as if nothing had happened.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models import MobileNet_V3_Large_Weights, ResNet50_Weights, VGG16_Weights, detection
from torchvision.ops import box_convert
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_yolo_dataset, seed_worker
from ultralytics.utils import LOGGER, TQDM, colorstr
from ultralytics.utils.torch_utils import init_seeds, parse_device, select_device

from yolo_distill.data.dataset import pictures_of
from yolo_distill.engine.repeatable import RepeatablePictures
from yolo_distill.engine.run_folder import held_run, runs_folder
from yolo_distill.engine.teacher_training import content_key
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.evaluation.evaluate_teacher import evaluate_teacher
from yolo_distill.files import write_bytes
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.torchvision_detector import TorchvisionTeacher, known_name, make_detector
from yolo_distill.teachers.torchvision_weights import fetch_weights, read_weights, save_detector

PREFIX = colorstr("teacher: ")

#: Learning rate of AdamW after the warm-up, share of it that is left at the end, share of the run that is warm-up.
RATE, LEFT, WARM = 3e-4, 0.01, 0.05
#: Norm of the gradient above which it is shortened; the host's own.
LONGEST = 10.0
#: Validation pictures up to which every epoch is measured; with more of them, ten times a run.
FEW = 200
#: Pictures at a time where the host would try out how many fit.
BATCH = 16
#: Weights for ImageNet of the backbones, by what an architecture's name has in it.
_BACKBONES = {
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "mobilenet_v3_large": MobileNet_V3_Large_Weights.IMAGENET1K_V1,
    "vgg16": VGG16_Weights.IMAGENET1K_FEATURES,
}


def train_torchvision(
    name: str, data: Mapping[str, Any], settings: Mapping[str, Any], epochs: int | None = None
) -> Path:
    """Train a teacher, go on with one that was interrupted, or find one that is finished.

    Args:
        name: torchvision's name of the detector, see `ARCHITECTURES`.
        data: the checked data set, as the host describes it.
        settings: the host's settings of the student's run. The teacher's run takes those over that are about pictures,
            their number, the device and the seed; its optimizer is its own.
        epochs: the teacher's own number of epochs; the student's when None.

    Returns:
        the teacher's best weights, as `load_detector_file` opens them.

    Raises:
        RequestError: no such detector, one of masks or keypoints, pictures that are not RGB, or too few of them at a
            time.
        DistillError: the losses are no numbers any more.
    """
    if name.startswith(("maskrcnn", "keypointrcnn")):
        raise RequestError(
            f"teacher=torchvision:{name}: learns from more than boxes, and is not trained here; give its weights with "
            "teacher_weights=file.pth"
        )
    settings = {**settings, **({"epochs": epochs} if epochs else {})}
    key = content_key(f"torchvision:{known_name(name)}", data, settings)
    folder = runs_folder(settings) / f"teacher-{name}-{key}"
    best, done = folder / "weights" / "best.pth", folder / "teacher.json"
    if done.is_file() and best.is_file():
        LOGGER.info(f"{PREFIX}found finished: {best}")
        return best
    training = TorchvisionTraining(name, data, settings, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with held_run(folder):
        training.train()
        write_bytes(done, json.dumps({"architecture": name, "weights": "weights/best.pth"}).encode())
    return best


class TorchvisionTraining:
    """One run, from where its folder says it is.

    Attributes:
        model: the detector that learns.
        epoch: the next one, from 0.
        rows: what came out of each epoch so far: its number, the means of its losses, its mAP50-95 if measured.
        highest: the best mAP50-95 so far, 0..1; -1 before the first.
    """

    def __init__(self, name: str, data: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
        """Build the detector and its pictures, and take over what `folder` holds of an interrupted run.

        Raises:
            RequestError: see `train_torchvision`.
        """
        self.name, self.data, self.folder = name, dict(data), folder
        self.args: Any = get_cfg(overrides=dict(settings))
        side = self.args.imgsz if isinstance(self.args.imgsz, int) else max(self.args.imgsz)
        self.args.imgsz = -(-side // 32) * 32
        self.args.batch = int(self.args.batch) if self.args.batch >= 1 else BATCH
        self.args.device = parse_device(self.args.device)  # once: -1 may be another GPU when it is asked for again
        self.device = select_device(self.args.device, verbose=False)
        self.names = {int(column): str(word) for column, word in data["names"].items()}
        if (channels := int(data.get("channels", 3))) != 3:
            raise RequestError(f"teacher=torchvision:{name}: takes RGB pictures, these have {channels} channels")
        if (together := min(self.args.batch, len(pictures_of(self.data, "train")))) < 2:
            raise RequestError(
                f"batch={together}: the batch norms of torchvision's detectors need pictures to compare; "
                f"teacher=torchvision:{name} trains on 2 or more at a time"
            )
        # On a GPU torchvision would look at regions by a slow way of its own that is deterministic.
        init_seeds(self.args.seed, self.args.deterministic and self.device.type == "cpu")
        self.model: Any = make_detector(name, len(self.names), self.args.imgsz)
        self.epoch, self.highest, self.rows = 0, -1.0, list[dict[str, Any]]()
        saved = self._interrupted()
        self.still: list[str] = saved["still"] if saved else start_from_imagenet(self.model, name)
        keep_still(self.model, self.still)
        self.model.to(self.device)
        self.optimizer = _optimizer(self.model)
        if saved:
            self.model.load_state_dict(saved["state"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.epoch, self.highest, self.rows = saved["epoch"], saved["highest"], saved["rows"]
        self._closed, self._order = False, torch.Generator()
        self.args.rect = False  # squares
        dataset = build_yolo_dataset(copy(self.args), data["train"], self.args.batch, self.data, mode="train")
        self.pictures = RepeatablePictures.of(dataset, self.args.seed)
        self.loader = self._load()

    @property
    def last(self) -> Path:
        """The weights of the last epoch, with all that is needed to go on."""
        return self.folder / "weights" / "last.pth"

    def train(self) -> None:
        """Train the epochs that are left."""
        self.last.parent.mkdir(parents=True, exist_ok=True)
        doing = f"going on at epoch {self.epoch + 1}" if self.epoch else f"training torchvision's {self.name} first"
        LOGGER.info(f"{PREFIX}{doing}, for {self.args.epochs} epochs, into {self.folder}")
        while self.epoch < self.args.epochs:
            losses = self._train_epoch()
            accuracy = self._measure() if self._is_measured() else None
            self.rows.append({"epoch": self.epoch + 1, **losses, "mAP50-95": accuracy})
            self.epoch += 1
            # Of equals the later one: it has seen more.
            if accuracy is not None and accuracy >= self.highest:
                self.highest = accuracy
                self._save(self.last.with_name("best.pth"))
            progress = {"epoch": self.epoch, "highest": self.highest, "rows": self.rows, "still": self.still}
            self._save(self.last, **progress, optimizer=self.optimizer.state_dict())
            write_bytes(self.folder / "results.csv", _as_csv(self.rows))
        self._save(self.last)  # the optimizer's memory is twice as large as the weights
        LOGGER.info(f"{PREFIX}{self.name}, mAP50-95 {self.highest:.3f} on val: {self.last.with_name('best.pth')}")

    def _train_epoch(self) -> dict[str, float]:
        """Train one epoch and return the mean of each loss, by torchvision's name."""
        self._start_epoch()
        self.model.train()
        keep_still(self.model, self.still)
        sums: dict[str, float] = {}
        bar = TQDM(self.loader, total=len(self.loader))
        for count, batch in enumerate(bar, 1):
            rate = rate_at(self.epoch + (count - 1) / len(self.loader), self.args.epochs)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            images = batch["img"].to(self.device).float() / 255
            losses = self.model(list(images), targets_of(batch, self.device))
            total = torch.stack(list(losses.values())).sum()
            if not total.isfinite():
                raise DistillError(
                    f"teacher=torchvision:{self.name}: its losses are no numbers in epoch {self.epoch + 1} "
                    f"({', '.join(f'{key} {value.item():.3g}' for key, value in losses.items())}); train another one"
                )
            self.optimizer.zero_grad()
            torch.autograd.backward(total)
            nn.utils.clip_grad_norm_(self.model.parameters(), LONGEST)
            self.optimizer.step()
            for key, value in losses.items():
                sums[key] = sums.get(key, 0.0) + value.item()
            shown = "  ".join(f"{key} {value / count:.4g}" for key, value in sums.items())
            bar.set_description(f"{self.epoch + 1}/{self.args.epochs}  {shown}")
        self.optimizer.zero_grad()
        return {key: value / len(self.loader) for key, value in sums.items()}

    def _is_measured(self) -> bool:
        number, few = self.epoch + 1, len(pictures_of(self.data, "val")) <= FEW
        return few or number == self.args.epochs or number % max(1, self.args.epochs // 10) == 0

    def _measure(self) -> float:
        """Return the mAP50-95 on the validation split, 0..1."""
        answers = Needs(scores=True, boxes=True, one2one=False, maps=False)
        teacher = TorchvisionTeacher(self.model, self.names, self.device, answers)
        where = {"imgsz": self.args.imgsz, "batch": self.args.batch, "device": self.args.device}
        where |= {"single_cls": bool(self.args.single_cls), "classes": self.args.classes}
        measured = evaluate_teacher(teacher, self.data["yaml_file"], **where)
        return float(measured["map"])

    def _start_epoch(self) -> None:
        """Make the epoch's pictures, their order and torch's random numbers those of this epoch."""
        if self.args.close_mosaic and not self._closed and self.epoch >= self.args.epochs - self.args.close_mosaic:
            self.pictures.close_mosaic(copy(self.args))
            self._closed = True
            self.loader = self._load()  # workers have their own copy of what makes the pictures
        self.pictures.start_epoch(self.epoch)
        seed = self.args.seed * 1_000_003 + self.epoch
        self._order.manual_seed(seed)
        torch.manual_seed(seed)

    def _load(self) -> DataLoader[dict[str, Any]]:
        pictures, batch = len(self.pictures), self.args.batch
        workers = min(os.cpu_count() or 1, self.args.workers, math.ceil(pictures / batch) - 1)
        return DataLoader(
            self.pictures,
            batch_size=batch,
            shuffle=True,
            generator=self._order,
            drop_last=pictures % batch == 1,  # a batch norm has nothing to compare one picture with
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=seed_worker,
            collate_fn=self.pictures.collate_fn,
            pin_memory=self.device.type == "cuda",
        )

    def _save(self, file: Path, **more: Any) -> None:
        save_detector(file, self.model, self.name, self.names, self.args.imgsz, **more)

    def _interrupted(self) -> dict[str, Any] | None:
        """Return what an interrupted run left, if there was one and it can be read."""
        if not self.last.is_file():
            return None
        try:
            saved = read_weights(self.last, str(self.last))
        except RequestError as error:
            LOGGER.warning(f"{PREFIX}{error}; training from the start")
            return None
        return saved if "optimizer" in saved else None


def start_from_imagenet(model: Any, name: str) -> list[str]:
    """Give a detector's backbone the weights that torchvision trained on ImageNet, where they can be had.

    They are taken wherever they fit: the last blocks of `ssdlite320_mobilenet_v3_large` are half as wide in a detector.

    Returns:
        paths of the layers that are to stay as they are then: the first stages, as torchvision has it, and batch norms
        with statistics from ImageNet, which few pictures at a time can't better. None of them without weights.
    """
    weights = next(found for part, found in _BACKBONES.items() if part in name)
    if fetch_weights(weights) is None:
        LOGGER.info(f"{PREFIX}{name} from scratch: weights for ImageNet are not on this machine ({weights.url})")
        return []
    LOGGER.info(f"{PREFIX}{name} with a backbone from ImageNet")
    # torchvision reads the file once more, without the restriction; it has just been seen to hold nothing but weights.
    source = getattr(detection, name)(weights=None, weights_backbone=weights, num_classes=2).backbone
    own, other = model.backbone.state_dict(), source.state_dict()
    fitting = {key: value for key, value in other.items() if own[key].shape == value.shape}
    model.backbone.load_state_dict(fitting, strict=False)
    still = []
    for path, layer in source.named_modules():
        parameters = list(layer.parameters(recurse=False))
        frozen = bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
        # A fresh one expects a mean of 0.
        mean = fitting.get(f"{path}.running_mean")
        if frozen or (mean is not None and bool(mean.any())):
            still.append(f"backbone.{path}")
    return still


def keep_still(model: nn.Module, paths: Sequence[str]) -> None:
    """Freeze layers, also their statistics; `model.train()` has to be followed by this."""
    layers = dict(model.named_modules())
    for path in paths:
        layers[path].eval().requires_grad_(False)


def rate_at(epoch: float, epochs: int) -> float:
    """Return the learning rate at a moment of the run: a linear warm-up, then half a cosine."""
    warm = WARM * epochs
    if epoch < warm:
        return RATE * epoch / warm
    share = (epoch - warm) / (epochs - warm)
    return RATE * (LEFT + (1 - LEFT) * (1 + math.cos(math.pi * share)) / 2)


def targets_of(batch: Mapping[str, Any], device: torch.device) -> list[dict[str, Tensor]]:
    """Return what torchvision's detectors are trained towards, from a batch of the host's.

    Args:
        batch: `img` (B, 3, H, W), `bboxes` (N, 4) as shares of the picture (centre, size), `cls` (N, 1), `batch_idx`
            (N,).
        device: where the targets go.

    Returns:
        for each picture `boxes` (M, 4), xyxy in pixels, and `labels` (M,), where 0 is the background. Boxes of which
        less than a pixel is left are not among them; there may be none.
    """
    height, width = batch["img"].shape[-2:]
    scale = torch.tensor([width, height, width, height])
    boxes = (box_convert(batch["bboxes"], "cxcywh", "xyxy") * scale).clamp_(min=0).minimum(scale)
    labels = batch["cls"].view(-1).long() + 1
    some = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    found = []
    for picture in range(len(batch["img"])):
        own = some & (batch["batch_idx"] == picture)
        found.append({"boxes": boxes[own].to(device), "labels": labels[own].to(device)})
    return found


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW over what learns, which draws the weights of layers towards 0, but no bias and no norm."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learning if p.ndim > 1]},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=RATE, weight_decay=0.01)


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    cells = [
        [f"{cell:.5g}" if isinstance(cell, float) else str("" if cell is None else cell) for cell in row.values()]
        for row in rows
    ]
    return "".join(",".join(row) + "\n" for row in [list(rows[0]), *cells]).encode()
