"""What each term's gradient is beside the task's: kept in results.csv, said each epoch, drawn at the end.

So that "the term does nothing" and "the term drowns the task" are both visible; neither can be seen in its loss.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, RANK, colorstr

from yolo_distill.engine.balance import Balancer
from yolo_distill.engine.criterion import DistillationCriterion
from yolo_distill.errors import RequestError
from yolo_distill.recipe import Recipe

PREFIX = colorstr("distill: ")
#: A term whose gradient is below this share of the task's does nothing that could be measured.
NOTHING = 0.002


class ShareReport:
    """Mixin for a host trainer that distils."""

    recipe: Recipe
    criterion: DistillationCriterion | None
    args: Any
    csv: Path
    resume: bool
    _idle: set[str]

    def make_balancer(self) -> Balancer | None:
        """Return what moves the gains, where the recipe wants that; on resume with the gains that it had."""
        if self.recipe.balance == "fixed":
            return None
        require_measurable(self.recipe, self.args.compile)
        gains = self.recipe.gains
        balancer = Balancer({name: self.recipe.share[name] for name in gains})
        if self.resume and self.csv.exists():
            last = read_columns(self.csv)
            balancer.restore({n: last[f"gain/{n}"][-1] / gains[n] for n in gains if last.get(f"gain/{n}")})
        return balancer

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the gradient shares, and gains that move, into results.csv beside the losses; say them.

        Relies on: the host calls this once an epoch, and writes one column a key in the order of the first epoch.
        """
        criterion = self.criterion
        if criterion is not None and criterion.measure_every:
            shares = {name: criterion.shares.get(name, 0.0) for name in self.recipe.gains}
            metrics = {**metrics, **{f"share/{name}": round(share, 5) for name, share in shares.items()}}
            gains = criterion.gains()
            if criterion.balancer is not None:
                metrics |= {f"gain/{name}": float(f"{gain:.6g}") for name, gain in gains.items()}
            LOGGER.info(
                f"{PREFIX}gradient by the task's: {_listed(shares, gains, moved=criterion.balancer is not None)}"
            )
            self._warn_of_idle(criterion, shares)
        super().save_metrics(metrics)  # type: ignore[misc]

    def _warn_of_idle(self, criterion: DistillationCriterion, shares: Mapping[str, float]) -> None:
        """Warn once of each term that has had no effect for an epoch although it is meant to have one."""
        strengths = criterion.strengths()
        resting = criterion.until is not None and criterion.steps >= criterion.until
        self._idle = getattr(self, "_idle", set())
        for name, share in shares.items():
            if share < NOTHING and strengths[name] > 0.5 and not resting and name not in self._idle:
                self._idle.add(name)
                LOGGER.warning(
                    f"{PREFIX}{name} had no effect in this epoch: its gradient is {share:.2g} of the task's; raise "
                    f"{name}=, use balance=auto, or switch it off with {name}=0"
                )

    def plot_metrics(self) -> None:
        """Draw the shares beside the host's results.png.

        Relies on: the host calls this at the end of a run when `plots` is on.
        """
        super().plot_metrics()  # type: ignore[misc]
        if RANK in {-1, 0}:
            plot_shares(self.csv, self.csv.with_name("shares.png"))


def require_measurable(recipe: Recipe, compiled: Any) -> None:
    """Raise if gains are to follow gradients that can't be measured.

    Raises:
        RequestError: the student is compiled, and a compiled graph frees its buffers in its first backward pass.
    """
    if recipe.balance == "auto" and recipe.gains and compiled:
        raise RequestError(
            f"balance=auto: the gradients of a compiled student can't be measured; leave compile={compiled}"
            " out, or give balance=fixed"
        )


def read_columns(file: Path) -> dict[str, list[float]]:
    """Return the columns of a results.csv by name; empty for a file without rows."""
    with file.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {key.strip(): [float(row[key]) for row in rows] for key in (rows[0] if rows else ())}


def plot_shares(file: Path, picture: Path) -> bool:
    """Draw the `share/` and `gain/` columns of a results.csv.

    Returns:
        whether there was anything to draw.
    """
    columns = read_columns(file)
    panels = {
        "gradient at the neck, by the task's": _named(columns, "share/"),
        "gain": _named(columns, "gain/"),
    }
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return False
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
    return True


def _named(columns: Mapping[str, Sequence[float]], prefix: str) -> dict[str, Sequence[float]]:
    return {key.removeprefix(prefix): values for key, values in columns.items() if key.startswith(prefix)}


def _listed(shares: Mapping[str, float], gains: Mapping[str, float], *, moved: bool) -> str:
    return ", ".join(
        f"{name} {share:.3f}" + (f" (gain {gains[name]:.3g})" if moved else "") for name, share in shares.items()
    )
