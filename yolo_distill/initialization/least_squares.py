"""Least-squares reconstruction: each convolution of a started student is fitted to give what the teacher's gives.

A convolution that keeps half of its inputs misses what the others carried, though those that stay can tell much of it.
So, from the picture to the head, its weights become those that predict the teacher's output z at the chosen channels
best from x, the patch that the student itself hands it (which makes up for what the layers before get wrong):

    min over W, b  of  E[||W x + b - z||^2] + ridge * mean(Var[x]) * ||W - D W0||^2

with W0 the selected weights, D a scale for each row (what suits it best alone), and E over pictures and places. This is
linear regression, so nothing is trained. How much the selected weights count is chosen for each convolution on pictures
held out, for a deep map has fewer places than a convolution has inputs. The batch norm behind then does to W x + b what
the teacher's does to z, with statistics that are the student's own.

Sources: He et al., ICCV 2017, arXiv 1707.06168 (what pruned channels carried is made up for by least squares); Zhang et
al., TPAMI 2016, arXiv 1505.06798 (from the smaller network's own inputs: asymmetric reconstruction).

The error of a convolution is the mean over its channels of E[(W x + b - z)^2] / Var[z]: 0 is the teacher's map, 1 what
its mean alone would give.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from yolo_distill.initialization.weight_selection import StartReport

#: How strongly a fit may be drawn to the selected weights, by the mean variance of what a convolution reads.
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
#: One in so many pictures is held out when a ridge is chosen: the last ones, as neighbours may be frames of one film.
HELD_OUT = 4
#: Moves of what goes into an activation that is not the teacher's: what is below 0 in a SiLU still tells something.
SHIFTS = (-0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_FEW_PLACES = 3_000  # where a channel is fitted by itself
_SAY_EVERY = 15.0  # seconds
_TINY = 1e-9  # the variance of a channel that never changes


@dataclass(frozen=True)
class Reconstruction:
    """How far the fitted convolutions are from the teacher's.

    Attributes:
        before: error of each, by path, with the selected weights (each row at its best scale) behind fitted layers.
        after: error as fitted. Both on pictures held out.
    """

    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)

    @property
    def missing(self) -> float | None:
        """Mean error of the fits; None where there are none."""
        return sum(self.after.values()) / len(self.after) if self.after else None

    def __str__(self) -> str:
        if not self.after:
            return f"no convolution, which takes {HELD_OUT} pictures or more"
        before = sum(self.before.values()) / len(self.before)
        return f"{len(self.after)} convolutions, mean error {before:.3f} -> {self.missing:.3f}"


@torch.no_grad()
def reconstruct(
    student: DetectionModel,
    teacher: DetectionModel,
    report: StartReport,
    pictures: Tensor,
    *,
    places: int = 10_000,
    seed: int = 0,
    device: torch.device | None = None,
    prefix: str = "",
) -> Reconstruction:
    """Fit the convolutions and batch norms of a started student, in place.

    Depthwise convolutions keep the weights they have (a pico student with these fitted as well found 28.4 for 28.5
    mAP50-95, with ReLU 27.9 for 27.8), class convolutions where a class has no counterpart in the
    teacher, and all layers that have none. With fewer than `HELD_OUT` pictures nothing is fitted. Modes and devices are
    as before afterwards. The teacher stays as it is, and so does the global random state.

    Args:
        student: started with what `plan_start` selected.
        teacher: what it was started from.
        report: of that selection.
        pictures: of the training split, shape (N, C, H, W); they go through both networks at once, layer by layer.
        places: how many of each map's N * H * W are looked at, chosen at random.
        seed: of that choice.
        device: where to compute; None: where the student is.
        prefix: of the lines that say how far it is, where it takes long.
    """
    if len(pictures) < HELD_OUT:
        return Reconstruction()
    device = device or next(student.parameters()).device
    fitting = _Fitting(student, teacher, report, places, torch.Generator().manual_seed(seed))
    with _prepared(student, teacher, device), fitting.hooked():
        # In step, so that the teacher's maps inside a layer need not be kept.
        said = time.monotonic()
        for at, _ in enumerate(zip(*(run_in_steps(m, pictures.to(device)) for m in (teacher, student)), strict=False)):
            fitting.forget()
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                LOGGER.info(f"{prefix}fitting the start: layer {at + 1} of {len(student.model)}")
    return fitting.done


def regress(patches: Tensor, targets: Tensor, prior: Tensor, held: Tensor) -> tuple[Tensor, Tensor, float, float]:
    """Fit the rows of a linear map with a bias, by ridge regression towards other rows.

    Of the ridges in `RIDGES`, and none at all but the other rows, the one is taken that predicts best what was held
    out; it is then fitted on everything. Means and scales are those of all places.

    Args:
        patches: what it reads, shape (places, inputs).
        targets: what it should give, shape (places, rows).
        prior: rows that the fit is drawn to, each times the scale (1/4 to 4) that suits it best, shape (rows, inputs).
        held: which places are held out, bool, shape (places,).

    Returns:
        weights (rows, inputs), bias (rows,), and the error (see above) of the scaled prior and of the fit where held
        out.
    """
    center, middle = patches.mean(0), targets.mean(0)
    x, z = patches - center, targets - middle
    found = x @ prior.T
    scale = (found * z).sum(0) / found.square().sum(0).clamp_min(_TINY)
    rows = prior * scale.clamp(0.25, 4.0)[:, None]
    missing = z - x @ rows.T
    spread = z.square().mean(0).clamp_min(_TINY)

    def error(change: Tensor) -> float:
        return float(((missing[held] - x[held] @ change.T).square().mean(0) / spread).mean())

    fits = {None: torch.zeros_like(rows)} | dict(zip(RIDGES, _ridge(x[~held], missing[~held], RIDGES), strict=True))
    errors = {ridge: error(change) for ridge, change in fits.items() if torch.isfinite(change).all()}
    best = min(errors, key=lambda ridge: errors[ridge])
    if best is not None:
        change = next(_ridge(x, missing, [best]))
        rows = rows + (change if torch.isfinite(change).all() else fits[best])
    return rows, middle - rows @ center, errors[None], errors[best]


def behind_activation(before: Tensor, own: nn.Module, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Fit what goes into an activation, so that it gives what another one gave.

    Of a few shifts, each with the scale that suits it best, the one is taken for each channel behind which the
    activation is nearest to what is wanted, but for a constant, which the layers behind make up for.

    Args:
        before: what goes into it, shape (places, channels).
        own: the activation.
        wanted: what should come out of it, shape (places, channels).

    Returns:
        scale and shift of `before` (first shifted, then scaled), each of shape (channels,).
    """
    goal = wanted - wanted.mean(0)

    def error(inputs: Tensor) -> Tensor:
        given = own(inputs.clone())  # in place
        return (given - given.mean(0) - goal).square().mean(0)

    scale, shift = torch.ones_like(goal[0]), torch.zeros_like(goal[0])
    least = error(before)
    for moved in SHIFTS:
        given = own(before + moved)
        given = given - given.mean(0)
        factor = ((given * goal).sum(0) / given.square().sum(0).clamp_min(_TINY)).clamp(0.25, 4.0)
        found = error((before + moved) * factor)
        better = found < least
        scale, shift = torch.where(better, factor, scale), torch.where(better, torch.full_like(shift, moved), shift)
        least = torch.where(better, found, least)
    return scale, shift


def _ridge(x: Tensor, z: Tensor, ridges: Iterable[float]) -> Iterator[Tensor]:
    """Yield (X'X + r I)^-1 X'Z for each ridge, rows by inputs; not a number where it cannot be solved.

    That is X' (X X' + r I)^-1 Z as well, so the smaller system is solved: on the CPU, in double precision, which not
    every device has.
    """
    wide = x.shape[0] < x.shape[1]
    gram = (x @ x.T if wide else x.T @ x).cpu().double()
    wanted = (z if wide else x.T @ z).cpu().double()
    unit = (x.square().sum() / x.shape[1]).clamp_min(_TINY).item()
    for ridge in ridges:
        system = gram.clone()
        system.diagonal().add_(ridge * unit)
        factor, failed = torch.linalg.cholesky_ex(system)
        found = torch.full_like(wanted, torch.nan) if failed else torch.cholesky_solve(wanted, factor)
        yield (x.T @ found.to(z) if wide else found.to(z)).T


class _Fitting:
    """Hooks on both networks: what the teacher's convolutions give is kept, and the student's are fitted to it."""

    def __init__(
        self,
        student: DetectionModel,
        teacher: DetectionModel,
        report: StartReport,
        places: int,
        generator: torch.Generator,
    ) -> None:
        self._mine, self._theirs = dict(student.named_modules()), dict(teacher.named_modules())
        self._chosen = report.outputs
        self._places, self._generator = places, generator
        self._looked_at: dict[torch.Size, Tensor] = {}  # indices of places, by the map's N, H, W
        self._targets: dict[str, Tensor] = {}  # of the layer that is running, (places, channels)
        self._sizes: dict[str, torch.Size] = {}
        self.done = Reconstruction()

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = []
        for path, module in self._mine.items():
            if isinstance(module, nn.Conv2d) and path in self._chosen:
                handles.append(self._theirs[path].register_forward_hook(self._keep(path)))
                handles.append(module.register_forward_pre_hook(self._fit(path)))
            elif isinstance(module, nn.BatchNorm2d):
                handles.append(module.register_forward_pre_hook(self._follow(path)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forget(self) -> None:
        self._targets.clear()

    def _keep(self, path: str) -> Callable[..., None]:
        def keep(convolution: nn.Conv2d, args: Any, output: Tensor) -> None:
            index, size = self._chosen[path].to(output.device), _size(output)
            picture, y, x = _whereabouts(self._at(size, output.device), size)
            self._targets[path] = output[picture, :, y, x][:, index]
            self._sizes[path] = size

        return keep

    def _fit(self, path: str) -> Callable[..., None]:
        def fit(convolution: nn.Conv2d, args: tuple[Tensor]) -> None:
            maps, size = args[0], _size_behind(convolution, args[0])
            if self._sizes.get(path) != size:  # the two read maps of different strides
                self._targets.pop(path, None)
            elif convolution.groups == 1:
                at = self._at(size, maps.device)
                held = _whereabouts(at, size)[0] >= size[0] - size[0] // HELD_OUT
                patches, rows = _patches(convolution, maps, size, at), convolution.weight.flatten(1)
                weight, bias, before, after = regress(patches, self._targets[path], rows, held)
                convolution.weight.copy_(weight.view_as(convolution.weight))
                if convolution.bias is not None:
                    convolution.bias.copy_(bias)
                self.done.before[path], self.done.after[path] = before, after

        return fit

    def _follow(self, path: str) -> Callable[..., None]:
        place = path.rpartition(".")[0]
        convolution = f"{place}.conv"

        def follow(norm: nn.BatchNorm2d, args: tuple[Tensor]) -> None:
            mean, variance = args[0].mean((0, 2, 3)), args[0].var((0, 2, 3), unbiased=False)
            theirs, target = self._theirs.get(path), self._targets.get(convolution)
            assert norm.running_mean is not None  # all of the host's keep them
            assert norm.running_var is not None
            if isinstance(theirs, nn.BatchNorm2d) and theirs.running_var is not None and target is not None:
                # a student's map of the mean m and the deviation s becomes what the teacher's norm makes of it:
                # gamma (y - m) / s + beta = gamma' (y - m + E[z] - mu') / sigma' + beta'
                index = self._chosen[convolution].to(mean.device)
                scale = theirs.weight[index] / (theirs.running_var[index] + theirs.eps).sqrt()
                moved = target.mean(0) - theirs.running_mean[index]  # type: ignore[index]
                weight = scale * (variance + norm.eps).sqrt()
                norm.weight.copy_(torch.where(variance > _TINY, weight, theirs.weight[index]))  # else all is the bias
                norm.bias.copy_(theirs.bias[index] + scale * moved)
                own, other = (getattr(modules[place], "act", None) for modules in (self._mine, self._theirs))
                if own is not None and other is not None and type(own) is not type(other):
                    size = _size(args[0])
                    picture, y, x = _whereabouts(self._at(size, mean.device)[:_FEW_PLACES], size)
                    given = (args[0][picture, :, y, x] - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
                    goal = theirs.bias[index] + scale * (target[: len(y)] - target.mean(0) + moved)
                    factor, shift = behind_activation(given, own, other(goal))
                    norm.bias.copy_((norm.bias + shift) * factor)
                    norm.weight.mul_(factor)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)

        return follow

    def _at(self, size: torch.Size, device: torch.device) -> Tensor:
        """Return which of a map's N * H * W places are looked at; the same for all maps of that size."""
        if size not in self._looked_at:
            order = torch.randperm(size.numel(), generator=self._generator)
            self._looked_at[size] = order[: self._places].to(device)
        return self._looked_at[size]


def _size(maps: Tensor) -> torch.Size:
    return torch.Size([maps.shape[0], *maps.shape[2:]])


def _size_behind(convolution: nn.Conv2d, maps: Tensor) -> torch.Size:
    """Return N, H, W of what a convolution gives for the maps."""

    def side(at: int) -> int:
        reach = convolution.dilation[at] * (convolution.kernel_size[at] - 1)
        return (maps.shape[2 + at] + 2 * int(convolution.padding[at]) - reach - 1) // convolution.stride[at] + 1

    return torch.Size([maps.shape[0], side(0), side(1)])


def _whereabouts(at: Tensor, size: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
    """Return picture, row and column of places that are numbered through."""
    _, height, width = size
    return at // (height * width), at % (height * width) // width, at % width


def _patches(convolution: nn.Conv2d, maps: Tensor, size: torch.Size, at: Tensor) -> Tensor:
    """Return what a convolution reads for some places of what it gives, shape (places, inputs * kernel)."""
    top, left = (int(margin) for margin in convolution.padding)
    maps = pad(maps, (left, left, top, top))
    picture, y, x = _whereabouts(at, size)
    cells = [
        maps[picture, :, y * convolution.stride[0] + i, x * convolution.stride[1] + j]
        for i in range(0, convolution.kernel_size[0] * convolution.dilation[0], convolution.dilation[0])
        for j in range(0, convolution.kernel_size[1] * convolution.dilation[1], convolution.dilation[1])
    ]
    return torch.stack(cells, -1).flatten(1)


def run_in_steps(model: DetectionModel, pictures: Tensor) -> Iterator[Any]:
    """Run a detector a layer at a time; yields what each gives.

    Relies on: what the host's forward pass does with each layer's `f` (where it reads from) and the model's `save`.
    """
    given: list[Any] = []
    maps: Any = pictures
    for layer in model.model:
        if layer.f != -1:
            maps = given[layer.f] if isinstance(layer.f, int) else [maps if at == -1 else given[at] for at in layer.f]
        maps = layer(maps)
        given.append(maps if layer.i in model.save else None)
        yield maps


@contextmanager
def _prepared(student: DetectionModel, teacher: DetectionModel, device: torch.device) -> Iterator[None]:
    """Bring both to the device and into eval mode."""
    homes = [(model, next(model.parameters()).device) for model in (student, teacher)]
    modes = [(module, module.training) for model in (student, teacher) for module in model.modules()]
    for model in (student, teacher):
        model.to(device).eval()
        model.model[-1].training = True  # the head itself, not what is in it: it then decodes nothing
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for model, home in homes:
            model.to(home)
