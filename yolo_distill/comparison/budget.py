"""`budget=equal-time`: plain gets the epochs that the time of distillation would have bought.

Of the first seed's two runs, plain's and ours, the mean cost of an epoch is compared, training and validation together.
On a CPU that is processor time, which does not count what other programs took meanwhile; elsewhere it is time by the
clock, in which an epoch that took more than three times the median counts as a median one (the machine slept, or was
lent to somebody else). What ours does before its first epoch beyond what plain does there, such as fitting the start,
counts as well; not the training of teachers and assistants and the trial of starts, which are done once for all
seeds.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from yolo_distill.comparison.arms import DISTILLED, EQUAL_TIME, PLAIN, Arm, prepares
from yolo_distill.files import write_bytes

FILE = "equal-time.json"

_ODD = 3.0


def arm_timed(arms: Iterable[Arm]) -> str | None:
    """Return the label of the arm whose time plain is given: `distilled`, else the first of ours."""
    ours = [arm.label for arm in arms if arm.kind == DISTILLED]
    return DISTILLED if DISTILLED in ours else next(iter(ours), None)


def seconds_an_epoch(record: Mapping[str, Any]) -> float:
    """Return what an epoch of a run cost on average, in seconds."""
    if record["machine"]["device"] == "cpu":
        return statistics.fmean(record["epoch_cpu_seconds"])
    usual = statistics.median(record["epoch_seconds"])
    return statistics.fmean(value if value <= _ODD * usual else usual for value in record["epoch_seconds"])


def time_ratio(ours: Mapping[str, Any], plain: Mapping[str, Any]) -> float | None:
    """Return how much longer an epoch of one run took than that of another; None without epochs on one machine."""
    if not ours["epoch_seconds"] or not plain["epoch_seconds"] or ours["machine"] != plain["machine"]:
        return None
    below = seconds_an_epoch(plain)
    return seconds_an_epoch(ours) / below if below > 0 else None


def _seconds_before(record: Mapping[str, Any]) -> float:
    """Return what a run took before its first epoch, in seconds, without what is done once for all seeds."""
    if prepares(record["recipe"]):
        return 0.0
    return float(record["setup_cpu_seconds" if record["machine"]["device"] == "cpu" else "setup_seconds"])


def decide(out: Path, ours: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """Work out the epochs from two finished runs of one seed, and write the decision down: it is made once."""
    ratio = time_ratio(ours, plain)
    if ratio is None:
        return None
    an_epoch = seconds_an_epoch(plain)
    before = max(_seconds_before(ours) - _seconds_before(plain), 0.0)
    decision = {
        "arm": ours["arm"],
        "seed": ours["seed"],
        "ratio": round(ratio, 4),
        "seconds_before": round(before, 3),
        "epochs": max(round(ours["epochs_done"] * ratio + before / an_epoch), plain["epochs"]),
        "measured": "processor time" if plain["machine"]["device"] == "cpu" else "time by the clock",
        "seconds_an_epoch": {"plain": round(an_epoch, 3), "ours": round(seconds_an_epoch(ours), 3)},
    }
    write_bytes(out / FILE, (json.dumps(decision, indent=2) + "\n").encode())
    return decision


def decided(out: Path) -> dict[str, Any] | None:
    """Return the decision of an earlier call."""
    try:
        decision = dict(json.loads((out / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return decision if isinstance(decision.get("epochs"), int) else None


def equal_time_arm(plain: Arm, decision: Mapping[str, Any]) -> Arm:
    """Return the arm that trains as long as ours did."""
    return Arm(EQUAL_TIME, PLAIN, {**plain.host, "epochs": decision["epochs"]})
