"""A whole search: trials, the best as a recipe, and a comparison that says over other seeds how far it is ahead."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_distill.comparison.arms import DISTILLED, PLAIN, read_seeds
from yolo_distill.comparison.compare import compare
from yolo_distill.comparison.request import Request
from yolo_distill.comparison.statistics import Difference, verdict
from yolo_distill.errors import RequestError
from yolo_distill.files import check_folder, write_bytes
from yolo_distill.recipe import overlaid, read_recipe_file
from yolo_distill.results import TuneResult
from yolo_distill.tuning.search import SEED, search, teacher_of
from yolo_distill.tuning.space import Space

RECIPE, PLOT = "best.yaml", "trials.png"


def tune(request: Request, space: Space, *, trials: int) -> TuneResult:
    """Search, write `best.yaml` and `trials.png`, and compare the best with the default.

    Args:
        request: the closing comparison; its arms are chosen here.
        space: what may vary.
        trials: of the search.

    Raises:
        RequestError: something in the request is wrong; nothing has been written then.
        DistillError: the teacher, all trials, or runs of the comparison failed.
    """
    out = request.out.expanduser().absolute()
    if {",", "@"} & set(str(out)):
        raise RequestError(f"out={request.out}: arms of a comparison have no , and no @ in their paths; give another")
    if SEED in read_seeds(request.seeds):
        raise RequestError(f"seeds={request.seeds}: {SEED} is the search's own; give others")
    check_folder(out, f"out={request.out}")
    folder = out / "search"
    alone = replace(request, out=folder, arms=f"{PLAIN},{DISTILLED}", seeds=str(SEED))
    rows = search(alone, space, trials)
    best = max((row for row in rows if row["map"] is not None), key=lambda row: row["map"])
    recipe = out / RECIPE
    write_bytes(recipe, _recipe(request, rows, best).encode())
    write_bytes(out / PLOT, _plot(rows, best, space))
    said, page = f"none of the other trials was ahead of the default, mAP50-95 {best['map']:.1f} on val", None
    if best["settings"]:
        arms, teacher = f"{PLAIN},{DISTILLED},{recipe}", teacher_of(folder, request.teacher)
        own = {**request.own, "teacher_epochs": None}  # it has been trained
        summary = compare(replace(request, out=out / "compare", arms=arms, teacher=teacher, own=own))
        said, page = _verdict(summary, recipe.stem), out / "compare"
    return TuneResult(recipe, best["map"], best["settings"], said, out, out / PLOT, page, rows)


def _recipe(request: Request, rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> str:
    """Return the best trial as a recipe, which names what it changes."""
    usual, _ = read_recipe_file("default")
    values, host = read_recipe_file(request.recipe, DEFAULT_CFG_DICT)
    own = {key: value for key, value in request.own.items() if key not in {"trust", "force"}}
    values = overlaid(
        overlaid(values, own), {key: value for key, value in best["settings"].items() if key in usual or "." in key}
    )
    host |= {key: value for key, value in best["settings"].items() if key in DEFAULT_CFG_DICT}
    values["teacher_epochs"] = None  # of a run, not of how it teaches
    changed = {key: value for key, value in values.items() if key not in usual or value != usual[key]}
    default = next((row["map"] for row in rows if row["number"] == 1), None)
    return (
        f"# Trial {best['number']} of {len(rows)}, the best on val: mAP50-95 {best['map']:.1f} with one seed, which "
        f"flatters it; the default: {'failed' if default is None else f'{default:.1f}'}.\n"
        f"# {Path(request.teacher).name} to {Path(request.student).name} on {Path(request.data).name}, "
        f"{request.host.get('imgsz', DEFAULT_CFG_DICT['imgsz'])} px, "
        f"{request.host.get('epochs', DEFAULT_CFG_DICT['epochs'])} epochs. Take it by recipe={RECIPE}.\n"
        + yaml.safe_dump({**changed, **host}, sort_keys=False)
    )


def _plot(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], space: Space) -> bytes:
    """Return a picture of all trials: mAP by number, and by each setting; hollow: stopped early."""
    longest = max(row["epochs"] for row in rows)
    across = min(len(space) + 1, 4)
    down = -(-(len(space) + 1) // across)
    figure = Figure(figsize=(3.2 * across, 2.8 * down), layout="constrained")
    axes = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    for key, panel in zip([None, *space], axes, strict=False):
        for row in rows:
            if row["map"] is None or (key and key not in row["settings"]):
                continue
            at = row["number"] if key is None else row["settings"][key]
            colour = "C3" if row is best else "black" if row["number"] == 1 else "C0"
            face = colour if row["epochs"] == longest else "none"
            at = str(at) if key and space[key].choices else at
            panel.scatter([at], [row["map"]], edgecolors=colour, facecolors=face)
        panel.set_xlabel(key or "trial (black: the default, red: the best)")
        if key and not space[key].choices:
            ends = space[key].ends
            panel.set_xscale("log" if space[key].log else "linear")
            panel.set_xlim(*ends)
            panel.set_xticks(ends, labels=[f"{end:g}" for end in ends])
            panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
    for panel in axes[len(space) + 1 :]:
        panel.set_axis_off()
    figure.supylabel("mAP50-95 on val; hollow: stopped early")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _verdict(summary: Mapping[str, Any], arm: str) -> str:
    """Return how far the best is ahead of the default over the seeds of a comparison."""
    split, metric = (summary["headline"][key] for key in ("split", "metric"))
    wanted = {"arm": arm, "base": DISTILLED, "split": split, "branch": "one-to-many", "metric": "mAP50-95"}
    row = next((row for row in summary["differences"] if wanted.items() <= row.items()), None)
    each = {int(seed): value for seed, value in row["each"].items()} if row else {}
    return verdict(Difference(arm, DISTILLED, each), what=f"{metric} on {split}", seeds=summary["seeds"])
