"""Everything that the finished runs of a comparison say, as one dict of plain values: what comparison.json holds.

Shares of 1, which each run's own run.json has, are points of 100 here.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from yolo_distill.comparison.arms import DISTILLED, EQUAL_TIME, HOST, PLAIN, Arm
from yolo_distill.comparison.budget import arm_timed, time_ratio
from yolo_distill.comparison.plan import Plan
from yolo_distill.comparison.runs import Run
from yolo_distill.comparison.statistics import difference, gap_recovered, verdict
from yolo_distill.evaluation.evaluate import in_points
from yolo_distill.models.tasks import TASKS, metric_of
from yolo_distill.version import __version__

#: What mAP50-95 and mAP50 are called in the evaluator's figures.
METRICS = {"mAP50-95": "map", "mAP50": "map50"}
#: The two branches of an end-to-end model, by the host's `nms=`.
BRANCHES = {"one-to-many": None, "one-to-one": "one_to_one"}

Records = Mapping[str, Mapping[int, Mapping[str, Any]]]  # by arm and seed


def summarise(
    plan: Plan, teacher: Run, runs: Sequence[Run], asked: set[tuple[str, int]], decision: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what there is to say now, finished or not.

    Args:
        plan: of the comparison.
        teacher: its run.
        runs: all others, of this call and of earlier ones.
        asked: label and seed of those that this call is to finish.
        decision: of `budget=equal-time`, if it was made.
    """
    records = {(run.arm.label, run.seed): record for run in runs if (record := run.record())}
    # Also what an earlier call began and did not finish: a seed that failed must not drop out unsaid.
    kept = [run for run in runs if (run.arm.label, run.seed) in {*asked, *records} or run.begun]
    arms = {run.arm.label: run.arm for run in kept}
    seeds = sorted({run.seed for run in kept})
    missing = [run for run in kept if (run.arm.label, run.seed) not in records]
    master = teacher.record()
    headline = headline_arm(arms.values())
    task = next((found for record in records.values() if (found := task_of(record, plan))), "detect")
    if master and (own := task_of(master, plan) or task) != task:
        why = f"it finds {TASKS[own].finds}, and its students find {TASKS[task].finds}"
        master = {key: value for key, value in master.items() if key not in plan.splits}
        master |= {"one_to_one": None, "not_measured": why}
    metric = metric_of(task)
    by_arm = {label: {seed: records[label, seed] for seed in seeds if (label, seed) in records} for label in arms}
    rivals, variants = _further(headline, arms, decision)
    pairing, unchecked = _pairing(by_arm)

    def said(arm: str, base: str) -> str:
        values = values_of(by_arm, plan.headline, "mAP50-95", "one-to-many")
        wanted = [run.seed for run in kept if run.arm.label == arm]
        return verdict(difference(arm, base, values), what=f"{metric} on {plan.headline}", seeds=wanted)

    pairs = [(label, PLAIN) for label in arms if label != PLAIN]
    verdicts = {arm: said(arm, base) for arm, base in pairs}
    first = verdicts.get(headline or "", "nothing to compare: plain is the only arm")
    if missing:
        first = f"unfinished, {len(kept) - len(missing)} of {len(kept)} runs are there: {first}"
    return {
        "format": 1,
        "verdict": first,
        "further": [said(*pair) for pair in rivals],
        "verdicts": verdicts,
        "headline": {"arm": headline, "base": PLAIN, "split": plan.headline, "metric": metric},
        "finished": not missing and master is not None,
        "seeds": seeds,
        "plan": plan.as_dict(),
        "teacher": _of_teacher(master, plan.splits) if master else None,
        "arms": {label: _of_arm(arm, by_arm[label], plan.splits) for label, arm in arms.items()},
        "differences": _differences(plan, by_arm, [*pairs, *rivals, *variants], master),
        "classes": _classes(plan, by_arm, master),
        "times": {label: _times(found, by_arm.get(PLAIN, {})) for label, found in by_arm.items() if found},
        "equal_time": dict(decision) if decision else None,
        "pairing": pairing,
        "unchecked": unchecked,
        "missing": [
            {"arm": run.arm.label, "seed": run.seed, "error": run.error(), "log": f"{run.folder.name}/{run.log.name}"}
            for run in [*missing, *([] if master else [teacher])]
        ],
        "records": [_in_points(record, plan.splits) for record in [*([master] if master else []), *records.values()]],
        "versions": {"yolo_distill": __version__},
        "date": time.strftime("%Y-%m-%d"),
    }


def task_of(record: Mapping[str, Any], plan: Plan) -> str | None:
    """Return the task of a run's model; None where it was not measured."""
    found: str | None = record.get(plan.headline, {}).get("task")
    return found


def headline_arm(arms: Iterable[Arm]) -> str | None:
    """Return the arm that the verdict is about: ours, else the host's distillation, else the first but plain."""
    arms = list(arms)
    others = [arm.label for arm in sorted(arms, key=lambda arm: arm.kind != HOST) if arm.label != PLAIN]
    return arm_timed(arms) or next(iter(others), None)


def _further(
    headline: str | None, arms: Mapping[str, Arm], decision: Mapping[str, Any] | None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what else ours is compared with, and what is compared with ours.

    The former are the host's distillation and plain with as much time as ours had, the latter the other arms of ours.
    """
    if headline is None or arms[headline].kind != DISTILLED:
        return [], []
    as_long = {EQUAL_TIME} if decision and decision["arm"] == headline else set()
    rivals = [(headline, label) for label, arm in arms.items() if arm.kind == HOST or label in as_long]
    return rivals, [(label, headline) for label, arm in arms.items() if arm.kind == DISTILLED and label != headline]


def values_of(by_arm: Records, split: str, metric: str, branch: str) -> dict[str, dict[int, float]]:
    """Return one figure of all runs, by arm and seed."""
    found: dict[str, dict[int, float]] = {}
    for label, records in by_arm.items():
        for seed, record in records.items():
            if (value := figure_of(record, split, metric, branch)) is not None:
                found.setdefault(label, {})[seed] = value
    return found


def figure_of(record: Mapping[str, Any] | None, split: str, metric: str, branch: str) -> float | None:
    """Return one figure of a run in points, or None where it was not measured."""
    owner = BRANCHES[branch]
    measured = (record or {}).get(owner) if owner else record
    value = (measured or {}).get(split, {}).get(METRICS[metric])
    return None if value is None else 100 * value


def _in_points(record: Mapping[str, Any], splits: Sequence[str]) -> dict[str, Any]:
    """Return a record with all figures in points, also those of Ultralytics by epoch."""

    def measured(found: Mapping[str, Any]) -> dict[str, Any]:
        return {split: in_points(found[split]) for split in splits if split in found}

    curve = {
        key: [None if value is None else 100 * value for value in values] if key.startswith("metrics/") else values
        for key, values in record["curve"].items()
    }
    ends = record.get("one_to_one")
    changed = {"curve": curve, "look": _look(record), "one_to_one": measured(ends) if ends else None}
    return {**record, **measured(record), **changed}


def _look(record: Mapping[str, Any]) -> dict[str, float] | None:
    """Return in points how good a teacher is on some pictures of train and of val, where that was looked at."""
    return {split: 100 * value for split, value in look.items()} if (look := record.get("look")) else None


def _differences(
    plan: Plan, by_arm: Records, pairs: Sequence[tuple[str, str]], teacher: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    rows = []
    for split, branch, metric in product(reversed(plan.splits), BRANCHES, METRICS):
        values = values_of(by_arm, split, metric, branch)
        top = figure_of(teacher, split, metric, branch)
        for arm, base in pairs:
            found = difference(arm, base, values)
            if found.each:
                recovered = gap_recovered(arm, base, values, top) if base == PLAIN else None
                where = {"split": split, "branch": branch, "metric": metric}
                rows.append({**where, **found.as_dict(), "gap_recovered": recovered})
    return rows


def _of_teacher(record: Mapping[str, Any], splits: list[str]) -> dict[str, Any]:
    return {
        "figures": {
            split: {
                branch: {metric: figure_of(record, split, metric, branch) for metric in METRICS} for branch in BRANCHES
            }
            for split in splits
        },
        "not_measured": record.get("not_measured"),
        "look": _look(record),
        # None of one that came with its weights.
        "epochs": record["epochs"],
        "epochs_done": {str(record["seed"]): record["epochs_done"]},
        "seconds": record["train_seconds"] if record["epochs"] else None,
        "cpu_seconds": record["cpu_seconds"] if record["epochs"] else None,
    }


def _of_arm(arm: Arm, records: Mapping[int, Mapping[str, Any]], splits: list[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for split, branch, metric in product(splits, BRANCHES, METRICS):
        each = values_of({arm.label: records}, split, metric, branch).get(arm.label, {})
        if each:
            figures.setdefault(split, {}).setdefault(branch, {})[metric] = {
                "each": {str(seed): value for seed, value in each.items()},
                "mean": statistics.fmean(each.values()),
                "deviation": statistics.stdev(each.values()) if len(each) > 1 else None,
            }
    return {
        "kind": arm.kind,
        "epochs": next((record["epochs"] for record in records.values()), None),
        "epochs_done": {str(seed): record["epochs_done"] for seed, record in records.items()},
        "figures": figures,
    }


def _classes(plan: Plan, by_arm: Records, teacher: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return AP50-95 on the headline's split, a row a class; the mean over seeds for arms.

    Two classes may have one name; they are told apart by their order.
    """

    def of(record: Mapping[str, Any] | None, at: int, key: str) -> Any:
        rows = ((record or {}).get(plan.headline) or {}).get("classes", [])
        values = [row[key] for row in rows if row["name"] == names[at]]
        value = next(iter(values[names[:at].count(names[at]) :]), None)
        return 100 * value if key == "map" and value is not None else value

    def mean(records: Iterable[Mapping[str, Any]], at: int) -> float | None:
        found = [value for record in records if (value := of(record, at, "map")) is not None]
        return statistics.fmean(found) if found else None

    names = list(plan.names.values())

    first = next((record for records in by_arm.values() for record in records.values()), None)
    return [
        {
            "name": name,
            "boxes": of(first, at, "boxes"),
            "teacher": of(teacher, at, "map"),
            "arms": {label: mean(records.values(), at) for label, records in by_arm.items()},
        }
        for at, name in enumerate(names)
    ]


def _times(records: Mapping[int, Mapping[str, Any]], plain: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a run of an arm took, and how much longer one of its epochs took than one of plain."""
    ratios = [time_ratio(record, plain[seed]) for seed, record in records.items() if seed in plain]
    found = [ratio for ratio in ratios if ratio is not None]
    kept = {"seconds": "train_seconds", "cpu_seconds": "cpu_seconds", "setup_seconds": "setup_seconds"}
    return {
        **{key: statistics.fmean(record[name] for record in records.values()) for key, name in kept.items()},
        "epoch_ratio": statistics.fmean(found) if found else None,
    }


def _pairing(by_arm: Records) -> tuple[dict[str, dict[str, dict[str, bool]]], list[str]]:
    """Return for each run whether it began with plain's weights and saw plain's pictures in plain's order.

    Then the arms that have other epochs than plain: they close their mosaics at another time, so they are left out.
    """
    plain = by_arm.get(PLAIN, {})
    found: dict[str, dict[str, dict[str, bool]]] = {}
    unchecked = []
    for label, records in by_arm.items():
        pairs = {seed: (record, plain[seed]) for seed, record in records.items() if seed in plain and label != PLAIN}
        alike = {seed: pair for seed, pair in pairs.items() if pair[0]["epochs"] == pair[1]["epochs"]}
        unchecked += [label] if len(alike) < len(pairs) else []
        for seed, (record, base) in alike.items():
            both = zip(record["pictures"], base["pictures"], strict=False)
            found.setdefault(label, {})[str(seed)] = {
                "pictures": all(one == other for one, other in both if one and other),
                "weights": record["initial_weights"] == base["initial_weights"],
            }
    return found, unchecked
