"""The feature term's projectors: made, kept beside the checkpoint, and averaged over devices.

They learn with the student and are no part of it, so what the host does for a model's weights is done for them here.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import distributed, nn

from yolo_distill.engine.terms import Levels
from yolo_distill.errors import RequestError
from yolo_distill.files import write_bytes


def make_projectors(levels: Levels, student: dict[int, int], teacher: dict[int, int], *, seed: int) -> nn.ModuleDict:
    """Return one linear 1x1 projector a common level, from the student's to the teacher's channels.

    Args:
        levels: matched levels.
        student: channels of the student's map at each stride.
        teacher: channels of the teacher's.
        seed: of their initial weights; the global random state stays as it is, so that a run with projectors sees the
            same pictures in the same order as one without.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reseed the GPUs as well
        return nn.ModuleDict({str(s): nn.Conv2d(student[s], teacher[s], 1, bias=False) for s in levels.common})


def average_gradients(modules: nn.Module) -> None:
    """Average the gradients of `modules` over all processes of the default group."""
    for parameter in modules.parameters():
        if parameter.grad is not None:
            distributed.all_reduce(parameter.grad)
            parameter.grad /= distributed.get_world_size()


def keep_projectors(file: Path, epoch: int, projectors: nn.ModuleDict) -> None:
    """Write the projectors of an epoch, beside those of the epoch before.

    The checkpoint that they belong to is the previous epoch's until the host has replaced it.
    """
    kept = {epoch: projectors.state_dict()}
    if file.exists():
        previous = torch.load(file, map_location="cpu", weights_only=True)
        kept |= {old: state for old, state in previous.items() if old == epoch - 1}
    buffer = io.BytesIO()
    torch.save(kept, buffer)
    write_bytes(file, buffer.getvalue())


def restore_projectors(file: Path, epoch: int, projectors: nn.ModuleDict) -> None:
    """Load the projectors of an epoch.

    Raises:
        RequestError: the file does not have them.
    """
    try:
        projectors.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)[epoch])
    except (OSError, KeyError, RuntimeError) as error:
        raise RequestError(
            f"{file}: no projectors for epoch {epoch + 1} ({type(error).__name__}), which the feature term needs to go "
            "on; start the run again, or go on from a checkpoint that has them"
        ) from None
