"""What each term's gradient is beside the task's: kept in results.csv, said each epoch, its size drawn at the end.

So that "the term does nothing", "the term drowns the task" and "the term pulls against the task" are visible; none of
them can be seen in its loss.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, RANK, colorstr

from yolo_distill.distillation.criterion import DistillationCriterion
from yolo_distill.distillation.gain_balance import Balancer
from yolo_distill.losses.devices import of_first_device
from yolo_distill.recipe import Recipe
from yolo_distill.terms_table import FEATURE_TERMS

PREFIX = colorstr("distill: ")
#: A term whose gradient is below this share of the task's does nothing that could be measured.
NOTHING = 0.002


class ShareReport:
    """Says and keeps what each term's gradient is."""

    def __init__(self, recipe: Recipe, results: Path) -> None:
        self._recipe, self._results = recipe, results
        self._idle: dict[str, int] = {}

    def balancer(self, *, resume: bool) -> Balancer | None:
        """Return what moves the gains, where the recipe wants that; on resume with the gains that it had."""
        if self._recipe.balance == "fixed":
            return None
        balancer = Balancer({name: self._recipe.share[name] for name in self._recipe.gains})
        if resume:
            self.restore(balancer)
        return balancer

    def restore(self, balancer: Balancer) -> None:
        """Go on with the gains of the last finished epoch, by those of the recipe; the first device reads for all."""
        gains, factors = self._recipe.gains, {}
        if RANK in {-1, 0} and self._results.exists():
            last = read_columns(self._results)
            factors = {n: last[f"gain/{n}"][-1] / gains[n] for n in gains if last.get(f"gain/{n}")}
        balancer.restore(of_first_device(factors))

    def columns(self, criterion: DistillationCriterion) -> dict[str, float]:
        """Say an epoch's gradient shares, their cosines and gains that move, and return them for results.csv.

        Relies on: the host writes one column a key, in the order of the first epoch.
        """
        if not criterion.measure_every:
            return {}
        # What was not measured in this epoch, as no batch of it was due, is unknown and not 0.
        shares = {name: criterion.shares.get(name, math.nan) for name in self._recipe.gains}
        cosines = {name: criterion.cosines.get(name, math.nan) for name in self._recipe.gains}
        gains = criterion.gains() if criterion.balancer is not None else {}
        found = {f"share/{name}": round(share, 5) for name, share in shares.items()}
        found |= {f"gain/{name}": float(f"{gain:.6g}") for name, gain in gains.items()}
        found |= {f"cosine/{name}": round(cosine, 5) for name, cosine in cosines.items()}
        LOGGER.info(f"{PREFIX}gradient by the task's: {_listed(shares, cosines, gains)}")
        self._warn_of_idle(criterion, shares)
        criterion.shares, criterion.cosines = {}, {}
        return found

    def warn_of_frozen_layers(self, model: DetectionModel) -> None:
        """Warn of feature terms that reach nothing which learns, for `freeze=` covers all that makes the maps."""
        idle = [name for name in FEATURE_TERMS if name in self._recipe.gains]
        if idle and RANK in {-1, 0} and not any(p.requires_grad for p in model.model[:-1].parameters()):
            LOGGER.warning(
                f"{PREFIX}{', '.join(idle)} teach nothing: freeze= covers all layers that the maps come from; freeze "
                f"fewer, or switch off with {' '.join(f'{name}=0' for name in idle)}"
            )

    def _warn_of_idle(self, criterion: DistillationCriterion, shares: Mapping[str, float]) -> None:
        """Warn once of each term that has had no effect for an epoch although it is meant to have one.

        Seen at the end of two epochs, as one batch of an epoch is measured, and may have nothing to teach.
        """
        strengths = criterion.strengths()
        auto = "" if criterion.balancer else " use balance=auto,"
        for name, share in shares.items():
            if math.isnan(share):
                continue  # an epoch about which nothing is known
            idle = share < NOTHING and strengths[name] > 0.5 and criterion.teaches
            self._idle[name] = self._idle.get(name, 0) + 1 if idle else 0
            if self._idle[name] == 2:
                LOGGER.warning(
                    f"{PREFIX}{name} has had no effect for an epoch: its gradient is {share:.2g} of the task's; raise "
                    f"{name}=,{auto} or switch it off with {name}=0"
                )


def draw_shares(trainer: Any) -> None:
    """Draw the shares beside the host's results.png; called back at the end of a run."""
    if trainer.args.plots:
        plot_shares(trainer.csv, trainer.csv.with_name("shares.png"))


def read_columns(file: Path) -> dict[str, list[float]]:
    """Return the columns of a results.csv by name; empty for a file without rows."""
    with file.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {key.strip(): [float(row[key]) for row in rows] for key in (rows[0] if rows else ())}


def plot_shares(file: Path, picture: Path) -> None:
    """Draw the `share/` and `gain/` columns of a results.csv that has any."""
    columns = read_columns(file)
    panels = {
        "gradient at the neck, by the task's": _named(columns, "share/"),
        "gain": _named(columns, "gain/"),
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 4), squeeze=False, tight_layout=True)
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for name, values in lines.items():
            axis.plot(columns["epoch"], values, marker=".", label=name)
        axis.set_yscale("log" if any(v > 0 for values in lines.values() for v in values) else "linear")
        axis.set(title=title, xlabel="epoch")
        axis.legend()
    figure.savefig(picture, dpi=150)
    plt.close(figure)


def _named(columns: Mapping[str, Sequence[float]], prefix: str) -> dict[str, Sequence[float]]:
    return {key.removeprefix(prefix): values for key, values in columns.items() if key.startswith(prefix)}


def _listed(shares: Mapping[str, float], cosines: Mapping[str, float], gains: Mapping[str, float]) -> str:
    """Return the epoch's line, with gains where they move."""
    lines = []
    for name, share in shares.items():
        line = f"{name} not measured" if math.isnan(share) else f"{name} {share:.3f}"
        if not math.isnan(cosines[name]):
            line += f" at cosine {cosines[name]:.2f}"
        lines.append(line + (f" (gain {gains[name]:.3g})" if gains else ""))
    return ", ".join(lines)
