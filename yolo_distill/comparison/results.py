"""Everything that the finished runs of a comparison say, as one dict of plain values: what comparison.json holds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from yolo_distill.comparison.arms import DISTILLED, EQUAL_TIME, HOST, PLAIN
from yolo_distill.comparison.budget import epochs_done, time_ratio
from yolo_distill.comparison.plan import Plan
from yolo_distill.comparison.runs import Run
from yolo_distill.comparison.statistics import difference, gap_recovered, verdict
from yolo_distill.version import __version__

#: What mAP50-95 and mAP50 are called in the evaluator's figures.
METRICS = {"mAP50-95": "map", "mAP50": "map50"}
#: The two branches of an end-to-end model, by the host's `nms=`.
BRANCHES = {"one-to-many": None, "one-to-one": "one_to_one"}

Values = dict[str, dict[int, float]]


def summarise(
    plan: Plan, teacher: Run, runs: Sequence[Run], asked: set[tuple[str, int]], decision: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what there is to say now, finished or not.

    Args:
        plan: of the comparison.
        teacher: its run.
        runs: all others, of this call and of earlier ones.
        asked: label and seed of those that this call is to finish.
        decision: the epochs of `budget=equal-time`, if they are known.
    """
    records = {(run.arm.label, run.seed): record for run in runs if (record := run.record())}
    # Also what an earlier call began and did not finish: a seed that failed must not drop out unsaid.
    kept = [run for run in runs if (run.arm.label, run.seed) in {*asked, *records} or run.begun]
    labels = list(dict.fromkeys(run.arm.label for run in kept))
    seeds = sorted({run.seed for run in kept})
    kinds = {run.arm.label: run.arm.kind for run in kept}
    missing = [run for run in kept if (run.arm.label, run.seed) not in records]
    master = teacher.record()
    headline = headline_arm(kinds)
    by_arm = {label: {seed: records[label, seed] for seed in seeds if (label, seed) in records} for label in labels}
    rivals = _rivals(headline, kinds, decision)
    differences = _differences(plan, by_arm, [*rivals, *_variants(headline, kinds)], master)
    verdicts = {label: _verdict(plan, by_arm, label, PLAIN, kept) for label in labels if label != PLAIN}
    further = [_verdict(plan, by_arm, arm, base, kept) for arm, base in rivals]
    said = verdicts.get(headline or "", "nothing to compare: plain is the only arm")
    if missing:
        said = f"unfinished, {len(kept) - len(missing)} of {len(kept)} runs are there: {said}"
    return {
        "format": 1,
        "verdict": said,
        "further": further,
        "verdicts": verdicts,
        "headline": {"arm": headline, "base": PLAIN, "split": plan.headline, "metric": "mAP50-95"},
        "finished": not missing and master is not None,
        "seeds": seeds,
        "plan": plan.as_dict(),
        "teacher": _of_record(master, plan.splits) if master else None,
        "arms": {label: _of_arm(label, kinds[label], by_arm[label], plan.splits) for label in labels},
        "differences": differences,
        "classes": _classes(plan, by_arm, master),
        "times": _times(by_arm),
        "equal_time": dict(decision) if decision else None,
        "pairing": _pairing(by_arm),
        "unchecked": _unchecked(by_arm),
        "missing": [
            {"arm": run.arm.label, "seed": run.seed, "error": run.error(), "log": f"{run.folder.name}/{run.log.name}"}
            for run in [*missing, *([] if master else [teacher])]
        ],
        "records": [*([master] if master else []), *records.values()],
        "versions": {"yolo_distill": __version__},
        "date": time.strftime("%Y-%m-%d"),
    }


def headline_arm(kinds: Mapping[str, str]) -> str | None:
    """Return the arm that the verdict is about: ours, else the first that is not plain."""
    if DISTILLED in kinds:
        return DISTILLED
    others = [label for label in kinds if label != PLAIN]
    return next((label for label in others if kinds[label] == DISTILLED), others[0] if others else None)


def values_of(by_arm: Mapping[str, Mapping[int, Any]], split: str, metric: str, branch: str) -> Values:
    """Return one figure of all runs, by arm and seed."""
    found: Values = {}
    for label, records in by_arm.items():
        for seed, record in records.items():
            value = figure_of(record, split, metric, branch)
            if value is not None:
                found.setdefault(label, {})[seed] = value
    return found


def figure_of(record: Mapping[str, Any] | None, split: str, metric: str, branch: str) -> float | None:
    """Return one figure of a run, or None where it was not measured."""
    owner = BRANCHES[branch]
    place = (record or {}).get(owner) if owner else record
    return (place or {}).get(split, {}).get(METRICS[metric])


def _verdict(plan: Plan, by_arm: Mapping[str, Mapping[int, Any]], arm: str, base: str, runs: Sequence[Run]) -> str:
    values = values_of(by_arm, plan.headline, "mAP50-95", "one-to-many")
    seeds = [run.seed for run in runs if run.arm.label == arm]
    return verdict(difference(arm, base, values), what=f"mAP50-95 on {plan.headline}", seeds=seeds)


def _differences(
    plan: Plan,
    by_arm: Mapping[str, Mapping[int, Any]],
    further: Sequence[tuple[str, str]],
    teacher: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    pairs = [*((label, PLAIN) for label in by_arm if label != PLAIN), *further]
    rows = []
    for split in reversed(plan.splits):
        for branch in BRANCHES:
            for metric in METRICS:
                values = values_of(by_arm, split, metric, branch)
                for arm, base in pairs:
                    found = difference(arm, base, values)
                    if not found.each:
                        continue
                    top = figure_of(teacher, split, metric, branch)
                    recovered = gap_recovered(arm, base, values, top) if base == PLAIN else None
                    said = {"split": split, "branch": branch, "metric": metric}
                    rows.append({**said, **found.as_dict(), "gap_recovered": recovered})
    return rows


def _rivals(
    headline: str | None, kinds: Mapping[str, str], decision: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    """Return with what else ours is compared: the host's distillation, and plain with as much time as ours had."""
    if headline is None or kinds[headline] != DISTILLED:
        return []
    as_long = {EQUAL_TIME} if decision and decision["arm"] == headline else set()
    return [(headline, label) for label, kind in kinds.items() if kind == HOST or label in as_long]


def _variants(headline: str | None, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the other arms of ours, each with the one that the verdict is about."""
    if headline is None or kinds[headline] != DISTILLED:
        return []
    return [(label, headline) for label, kind in kinds.items() if kind == DISTILLED and label != headline]


def _of_record(record: Mapping[str, Any], splits: list[str]) -> dict[str, Any]:
    return {
        "figures": {
            split: {
                branch: {metric: figure_of(record, split, metric, branch) for metric in METRICS} for branch in BRANCHES
            }
            for split in splits
        },
        "not_measured": record.get("not_measured"),
        "look": record.get("look"),  # older records have none
        # None of one that came with its weights.
        "epochs": record["epochs"],
        "epochs_done": {str(record["seed"]): epochs_done(record)},
        "seconds": record["train_seconds"] if record["epochs"] else None,
        "cpu_seconds": record["cpu_seconds"] if record["epochs"] else None,
    }


def _of_arm(label: str, kind: str, records: Mapping[int, Any], splits: list[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for split in splits:
        for branch in BRANCHES:
            for metric in METRICS:
                each = values_of({label: records}, split, metric, branch).get(label, {})
                if each:
                    figures.setdefault(split, {}).setdefault(branch, {})[metric] = {
                        "each": {str(seed): value for seed, value in each.items()},
                        "mean": statistics.fmean(each.values()),
                        "deviation": statistics.stdev(each.values()) if len(each) > 1 else None,
                    }
    return {
        "kind": kind,
        "epochs": next((r["epochs"] for r in records.values()), None),
        "epochs_done": {str(seed): epochs_done(record) for seed, record in records.items()},
        "figures": figures,
    }


def _classes(
    plan: Plan, by_arm: Mapping[str, Mapping[int, Any]], teacher: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return AP50-95 on the headline's split, a row a class; the mean over seeds for arms."""

    def ap(record: Mapping[str, Any] | None, name: str) -> float | None:
        rows = ((record or {}).get(plan.headline) or {}).get("classes", [])
        return next((row["map"] for row in rows if row["name"] == name), None)

    def boxes(name: str) -> int | None:
        records = [record for runs in by_arm.values() for record in runs.values()]
        rows = [row for record in records[:1] for row in record[plan.headline]["classes"]]
        return next((row["boxes"] for row in rows if row["name"] == name), None)

    rows = []
    for name in plan.names.values():
        means = {}
        for label, records in by_arm.items():
            found = [value for record in records.values() if (value := ap(record, name)) is not None]
            means[label] = statistics.fmean(found) if found else None
        rows.append({"name": name, "boxes": boxes(name), "teacher": ap(teacher, name), "arms": means})
    return rows


def _times(by_arm: Mapping[str, Mapping[int, Any]]) -> dict[str, Any]:
    """Return what a run of each arm took, and how much longer one of its epochs took than one of plain."""
    found: dict[str, Any] = {}
    for label, records in by_arm.items():
        if not records:
            continue
        plain = by_arm.get(PLAIN, {})
        ratios = [
            ratio for seed in records if seed in plain and (ratio := time_ratio(records[seed], plain[seed])) is not None
        ]
        found[label] = {
            "seconds": statistics.fmean(record["train_seconds"] for record in records.values()),
            "cpu_seconds": statistics.fmean(record["cpu_seconds"] for record in records.values()),
            "setup_seconds": statistics.fmean(record["setup_seconds"] for record in records.values()),
            "epoch_ratio": statistics.fmean(ratios) if ratios else None,
        }
    return found


def _pairing(by_arm: Mapping[str, Mapping[int, Any]]) -> dict[str, dict[str, dict[str, bool]]]:
    """Return for each run whether it began with plain's weights and saw plain's pictures in plain's order.

    A run with another number of epochs closes its mosaics at another time and is left out.
    """
    plain = by_arm.get(PLAIN, {})
    found: dict[str, dict[str, dict[str, bool]]] = {}
    for label, records in by_arm.items():
        for seed, record in records.items():
            base = plain.get(seed)
            if label == PLAIN or base is None or base["epochs"] != record["epochs"]:
                continue
            both = list(zip(record["pictures"], base["pictures"], strict=False))
            found.setdefault(label, {})[str(seed)] = {
                "pictures": all(one == other for one, other in both if one and other),
                "weights": record["initial_weights"] == base["initial_weights"],
            }
    return found


def _unchecked(by_arm: Mapping[str, Mapping[int, Any]]) -> list[str]:
    """Return the arms whose runs have another number of epochs than plain's, and are not looked at for that."""
    plain = by_arm.get(PLAIN, {})
    return [
        label
        for label, records in by_arm.items()
        if any(seed in plain and plain[seed]["epochs"] != record["epochs"] for seed, record in records.items())
    ]
