"""What the host's checkpoint rounds or leaves out, so that a run that goes on is the one that was never stopped.

The host keeps half-precision copies of averaged weights and optimizer, and goes on from the averaged weights with fresh
random numbers. Here weights, average, optimizer, random numbers, the order of the pictures and those that mosaics draw
from are kept as they are, in a file that goes when the run is finished. On a CPU alone, where a training can be
repeated at all; and where an optimizer step takes several batches (`nbs` above `batch`), the first one does not.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.engine.step_cost import without_criterion
from yolo_distill.files import write_bytes


def keep_exact(trainer: Any) -> None:
    """Write the state behind an epoch, beside that of the epoch before, whose checkpoint is there still."""
    if not _can_be_exact(trainer):
        return
    model = unwrap_model(trainer.model)
    numbers: Any = np.random.get_state()
    with without_criterion(model):
        state = {
            "model": model.state_dict(),
            "ema": trainer.ema.ema.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "python": random.getstate(),
            "numpy": [numbers[0], torch.from_numpy(numbers[1].astype(np.int64)), *map(float, numbers[2:])],
            "torch": torch.get_rng_state(),
            "balance": trainer.criterion.balance() if getattr(trainer, "criterion", None) else {},
            "mosaic": list(_buffer(trainer) or ()),
        }
        memory = io.BytesIO()
        torch.save(state, memory)
    write_bytes(_file(trainer.wdir, trainer.epoch), memory.getvalue())


def forget_exact(folder: Path, but: int | None = None) -> None:
    """Remove the states of a folder of weights, but for that of an epoch whose checkpoint is there."""
    for file in folder.glob("exact-*.pt"):
        if but is None or file != _file(folder, but):
            file.unlink()


def restore_exact(trainer: Any) -> dict[str, Any]:
    """Take the state of the last epoch on, where it was kept, and return where its gains are balanced.

    Relies on: the host makes the iterator of its loader when the first batch is asked for, and anew where mosaic is
    closed; it and its order draw from a generator of the loader's own, which has the run's seed.
    """
    file = _file(trainer.wdir, trainer.start_epoch - 1)
    if not _can_be_exact(trainer) or not file.is_file():
        return {}
    state = torch.load(file, map_location="cpu", weights_only=True)
    model = unwrap_model(trainer.model)
    with without_criterion(model):
        model.load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["ema"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    if _buffer(trainer) is not None:
        for index in state["mosaic"]:
            trainer.train_loader.dataset.load_image(index)
    _go_on_in_order(trainer)
    if RANK in {-1, 0}:  # it is the first process's, and each draws its own
        _set_random(state)
    return dict(state["balance"])


def _go_on_in_order(trainer: Any) -> None:
    """Give the loader the iterator that it would have, or once mosaic is closed get, in a run that was not stopped."""
    loader, done = trainer.train_loader, trainer.start_epoch
    closed_at = max(trainer.epochs - trainer.args.close_mosaic, 0) if trainer.args.close_mosaic else trainer.epochs
    loader.iterator = loader._get_iterator()
    _pass_by(loader.iterator, min(done, closed_at) * len(loader))
    if done <= closed_at:
        return
    later = loader._get_iterator() if closed_at else loader.iterator
    _pass_by(later, (done - closed_at) * len(loader))

    def once() -> Any:  # the host closes mosaic again
        del loader._get_iterator
        return later

    loader._get_iterator = once


def _pass_by(iterator: Any, batches: int) -> None:
    """Draw the numbers of pictures of so many batches, and not the pictures."""
    for _ in range(batches):
        next(iterator._sampler_iter)


def _set_random(state: dict[str, Any]) -> None:
    name, keys, place, has, cached = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(place), int(has), cached))
    torch.set_rng_state(state["torch"])


def _can_be_exact(trainer: Any) -> bool:
    loader = trainer.train_loader
    return trainer.device.type == "cpu" and loader.num_workers == 0 and isinstance(loader.generator, torch.Generator)


def _buffer(trainer: Any) -> list[int] | None:
    """Return the numbers of the pictures that mosaics draw from; None where the data set keeps none."""
    buffer = getattr(trainer.train_loader.dataset, "buffer", None)
    return None if buffer is None or isinstance(buffer, Tensor) else buffer


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"exact-{epoch}.pt"
