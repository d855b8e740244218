"""What the processes of several devices have in common: what a loss divides by, and what one decides for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from torch import Tensor, distributed, nn

T = TypeVar("T")
_alone = ContextVar("alone", default=False)


def average_over_devices(total: Tensor) -> Tensor:
    """Return the mean of a sum, or of several, over all processes of the default group; as it is with one process.

    Each device's loss is a sum over its pictures divided by something that is summed over pictures as well, and
    gradients are averaged over devices. Divided by the mean over all devices, the average is what one device with the
    whole batch would get; divided by its own share, a device with few objects would count as much as one with many.
    """
    if _alone.get() or not (distributed.is_available() and distributed.is_initialized()):
        return total
    total = total.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


@contextmanager
def alone() -> Iterator[None]:
    """Leave the other processes out: for what one of them does by itself, as nobody would answer it."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def of_first_device(value: T) -> T:
    """Return what the first process of the default group has, in all of them; as it is with one process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    box = [value]
    distributed.broadcast_object_list(box, 0)
    return box[0]


def start_as_first_device(module: nn.Module) -> None:
    """Give a module the weights that it has in the first process of the default group; as it is with one process."""
    if distributed.is_available() and distributed.is_initialized():
        for value in module.state_dict().values():
            distributed.broadcast(value, 0)
