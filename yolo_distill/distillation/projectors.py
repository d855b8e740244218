"""The feature terms' projectors: made, kept beside the checkpoint, and averaged over devices.

They learn with the student and are no part of it, so what the host does for a model's weights is done for them here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, distributed, nn

from yolo_distill.distillation.terms import Levels
from yolo_distill.errors import RequestError
from yolo_distill.files import write_bytes
from yolo_distill.losses.mgd import Generator
from yolo_distill.recipe import Recipe
from yolo_distill.terms_table import FEATURE_TERMS, TABLE

#: Distance of two runs' seeds. Were it the number of terms, another term would start all projectors elsewhere.
SEEDS = 4


def make_projectors(
    recipe: Recipe,
    levels: Levels,
    student: Mapping[int, int],
    teacher: Mapping[int, int],
    *,
    seed: int,
    chosen: Mapping[int, Tensor] | None = None,
) -> nn.ModuleDict:
    """Return a projector for each feature term with a gain and each common level, as `cwd_8`, `cwd_16`, ...

    Of the kinds, as the table of terms and `mimic_projector` name them, `linear` is a 1x1 projector from the student's
    to the teacher's channels, `mlp` what Ultralytics' own distillation has, and `generator` that of `mgd`.

    Args:
        recipe: which terms there are, and their settings.
        levels: matched levels.
        student: channels of the student's map at each stride.
        teacher: channels of the teacher's.
        seed: of their initial weights, which do not depend on what other terms there are. The global random state stays
            as it is, so that a run with projectors sees the same pictures in the same order as one without.
        chosen: for a student that starts from the teacher's channels, by stride: the teacher's channel that each of
            the student's channels is, int64, shape (student's channels,). Linear projectors then start as that: each
            channel is passed on to where it came from, and the teacher's other channels start at 0.
    """
    projectors = nn.ModuleDict()
    for number, term in enumerate(FEATURE_TERMS):
        if term not in recipe.gains:
            continue
        with torch.random.fork_rng(devices=[]):
            # The CPU's alone: torch.manual_seed would reseed the GPUs as well.
            torch.default_generator.manual_seed(seed * SEEDS + number)
            for stride in levels.common:
                projector = _make_projector(term, recipe, student[stride], teacher[stride])
                if chosen is not None and stride in chosen and isinstance(projector, nn.Conv2d):
                    _start_as_selection(projector, chosen[stride])
                projectors[f"{term}_{stride}"] = projector
    return projectors


def _make_projector(term: str, recipe: Recipe, student: int, teacher: int) -> nn.Module:
    row = TABLE[term]
    kind = getattr(recipe, row.projector) if row.projector in row.settings else row.projector
    if kind == "generator":
        return Generator(student, teacher)
    if kind == "mlp":
        return nn.Sequential(nn.Conv2d(student, teacher, 1), nn.ReLU(), nn.Conv2d(teacher, teacher, 1))
    assert kind == "linear", kind
    return nn.Conv2d(student, teacher, 1, bias=False)


def _start_as_selection(projector: nn.Conv2d, chosen: Tensor) -> None:
    """Set the weight, shape (teacher's channels, student's channels, 1, 1), to 1 where the two are the same channel."""
    assert len(chosen) == projector.in_channels
    with torch.no_grad():
        projector.weight.zero_()
        projector.weight[chosen.cpu(), torch.arange(len(chosen))] = 1.0


def add_projectors(projectors: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> None:
    """Add the projectors to an optimizer of the host's, as one more parameter group.

    Relies on: the host's scheduler and warm-up treat every group alike, save those named "bias".
    """
    if parameters := list(projectors.parameters()):
        plain = [g for g in optimizer.param_groups if not g.get("use_muon") and g.get("weight_decay") == 0]
        like = min(plain, key=lambda group: group["lr"])  # MuSGD has groups at three times the rate for the head
        settings = {k: v for k, v in like.items() if k not in {"params", "param_group"}}
        optimizer.add_param_group({"params": parameters, **settings, "param_group": "projector"})


def average_gradients(modules: nn.Module) -> None:
    """Average the gradients of `modules` over all processes of the default group."""
    gradients = [parameter.grad for parameter in modules.parameters() if parameter.grad is not None]
    if not gradients:
        return
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(joined)  # once: each call waits for all processes
    joined /= distributed.get_world_size()
    for gradient, mean in zip(gradients, torch.split(joined, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


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
        state = torch.load(file, map_location="cpu", weights_only=True)[epoch]
        projectors.load_state_dict(state)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, EOFError, UnpicklingError) as error:
        raise RequestError(
            f"{file}: no projectors for epoch {epoch + 1} ({type(error).__name__}), which the feature terms need to "
            "go on; start the run again, or go on from a checkpoint that has them"
        ) from None
