"""Keeps the runs of comparisons as JSON lines, and makes the tables of README and MEASURED.md and plots from them.

    yolo-distill compare teacher=yolo26s.yaml student=yolo26n.yaml data=... out=runs/bccd ...
    python tests/benchmarks/evidence.py keep out=runs/bccd results=tests/benchmarks/results/bccd_26_60.jsonl
    python tests/benchmarks/evidence.py table results=tests/benchmarks/results/bccd_26_60.jsonl
    python tests/benchmarks/evidence.py ablation results=tests/benchmarks/results/ablation_bccd_128.jsonl
    python tests/benchmarks/evidence.py reach results=tests/benchmarks/results/steps_bccd_128.jsonl
    python tests/benchmarks/evidence.py plot picture=.github/gain.png arms=plain,host@dis=0.6,init,taught \
        results=tests/benchmarks/results/fitted_bccd_128_again.jsonl,tests/benchmarks/results/fitted_bccd_128.jsonl
    python tests/benchmarks/evidence.py pooled one.jsonl:taught:init other.jsonl:distilled@init=teacher:init:0+3

A line is the `run.json` of one run without what would only make it long. Runs that are there already stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from yolo_distill.comparison.statistics import Difference, difference, gap_recovered

Runs = list[dict[str, Any]]
#: mAP50-95 in points by arm and seed.
Values = dict[str, dict[int, float]]
#: What the columns of results.csv that a line keeps begin with; of several the last one is the task's own.
CURVE = "metrics/mAP50-95("
#: Order of the arms in a table; others come behind.
FIRST = ("teacher", "plain", "plain (equal time)", "host")


def keep(out: Path, results: Path) -> None:
    """Append the finished runs of a comparison's folder that `results` does not have."""
    known = {(run["arm"], run["seed"]) for run in read(results)}
    lines = []
    for file in sorted(out.glob("*/run.json")):
        run = json.loads(file.read_text(encoding="utf-8"))
        if (run["arm"], run["seed"]) in known:
            continue
        run["curve"] = {key: values for key, values in run["curve"].items() if key.startswith(CURVE)}
        for bulky in ("epoch_seconds", "epoch_cpu_seconds"):
            run.pop(bulky, None)
        # One digest for those of all epochs, which says whether a run that came out otherwise saw the same pictures.
        run["pictures"] = hashlib.sha256("".join(filter(None, run["pictures"])).encode()).hexdigest()[:8]
        lines.append(json.dumps(run))
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)
    print(f"{results}: {len(lines)} runs more, {len(known) + len(lines)} in all")


def read(results: Path) -> Runs:
    """Return the runs of a file of JSON lines; none when there is no such file."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def curve_of(run: dict[str, Any]) -> list[float]:
    """Return the mAP50-95 of a run's task on val, 0..1, by epoch; empty where it was not trained."""
    found = [values for key, values in run["curve"].items() if key.startswith(CURVE)]
    return found[-1] if found else []


def read_all(results: str) -> Runs:
    """Return the runs of several files, with commas; of an arm that more than one has, those of the first that does."""
    found: Runs = []
    for file in results.split(","):
        known = {run["arm"] for run in found}
        found += [run for run in read(Path(file)) if run["arm"] not in known]
    return found


def values(runs: Runs, split: str, branch: str = "dense") -> Values:
    """Return mAP50-95 in points by arm and seed.

    Args:
        runs: as read.
        split: `val` or `test`.
        branch: `dense`, or `one_to_one` for that of an end-to-end model.
    """
    found: Values = {}
    for run in runs:
        figures = run if branch == "dense" else run["one_to_one"]
        if figures and split in figures:
            found.setdefault(run["arm"], {})[run["seed"]] = 100 * figures[split]["map"]
    order = [arm for arm in FIRST if arm in found] + [arm for arm in found if arm not in FIRST]
    return {arm: found[arm] for arm in order}


def table(runs: Runs, base: str = "plain") -> str:
    """Return accuracy, paired difference to an arm, and share of the teacher's lead, as Markdown.

    All on test, or on val of a set without it.

    Args:
        runs: as read.
        base: what the arms are compared with.
    """
    split = "test" if any("test" in run for run in runs) else "val"
    test, val, single = values(runs, split), values(runs, "val"), values(runs, split, "one_to_one")
    teacher = next(iter(test.get("teacher", {}).values()), None)
    ratios = time_ratios(runs, base)
    lines = [
        f"| arm | seeds | {split} (val) | each seed, {split} | ahead of {base} on {split} (95 % interval) "
        f"| seeds ahead | of the teacher's lead | {split}, one-to-one branch | time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, by_seed in test.items():
        mean = f"{statistics.fmean(by_seed.values()):.1f} ({statistics.fmean(val[arm].values()):.1f})"
        each = ", ".join(f"{by_seed[seed]:.1f}" for seed in sorted(by_seed))
        own = f"{statistics.fmean(single[arm].values()):.1f}" if arm in single else ""
        time = f"{ratios[arm]:.2f}" if arm in ratios else ""
        ahead = signs = lead = ""
        if arm != base and not arm.startswith("teacher"):  # "teacher of seeds 2 and 3"
            found = difference(arm, base, test)
            recovered = gap_recovered(arm, base, test, teacher)
            ahead, signs = interval(found), f"{found.ahead} of {found.count}"
            lead = "" if recovered is None else f"{100 * recovered:.0f} %"
        lines.append(f"| {arm} | {len(by_seed)} | {mean} | {each} | {ahead} | {signs} | {lead} | {own} | {time} |")
    return "\n".join(lines)


def ablation(runs: Runs, base: str = "init") -> str:
    """Return what each arm adds to an arm, on val first, by which one chooses, as Markdown.

    Args:
        runs: as read; of models with a one-to-one branch.
        base: what the arms are compared with.
    """
    columns = [values(runs, "val"), values(runs, "test"), values(runs, "test", "one_to_one")]
    lines = [
        f"| arm | seeds | val | ahead of {base} on val (95 % interval) | test | ahead on test "
        "| test, one-to-one branch | ahead there |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by_seed = columns[0]
    for arm in sorted(by_seed, key=lambda arm: -statistics.fmean(by_seed[arm].values())):
        cells = [arm, str(len(by_seed[arm]))]
        for column in columns:
            ahead = "" if arm in {base, "teacher"} else interval(difference(arm, base, column))
            cells += [f"{statistics.fmean(column[arm].values()):.1f}", ahead] if arm in column else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pooled(words: list[str]) -> str:
    """Return paired differences over all seeds of several comparisons, as Markdown.

    Args:
        words: `FILE:ARM:BASE`, of each comparison which arm is compared with which; `FILE:ARM:BASE:0+3` of some seeds.
            One for each teacher, with commas where two files have the same: pairs that share theirs are no independent
            samples, so that the interval over the teachers' means is told as well.
    """
    lines = ["| | mean [95 % interval] | ahead in | each | over teachers |", "|---|---|---|---|---|"]
    for split in ("val", "test"):
        for branch, name in (("dense", "one-to-many"), ("one_to_one", "one-to-one")):
            each: dict[int, float] = {}
            means: list[float] = []
            for word in words:
                own: list[float] = []
                for part in word.split(","):
                    file, arm, base, *seeds = part.split(":")
                    found = difference(arm, base, values(read(Path(file)), split, branch)).each
                    # Of a branch that a model has not, there are none.
                    asked = [int(seed) for seed in seeds[0].split("+")] if seeds and found else sorted(found)
                    own += [found[seed] for seed in asked]
                each |= dict(enumerate(own, len(each)))
                means += [statistics.fmean(own)] if own else []
            over = Difference("", "", each)
            listed = ", ".join(f"{value:+.1f}" for value in each.values())
            across = interval(Difference("", "", dict(enumerate(means))))
            lines.append(f"| {split}, {name} | {interval(over)} | {over.ahead} of {over.count} | {listed} | {across} |")
    return "\n".join(lines)


def reach(runs: Runs, base: str = "plain") -> str:
    """Return after how many epochs and minutes of processor time each arm is where `base` is at its best, as Markdown.

    On val, seed by seed. What comes before the first epoch, such as fitting the start, is counted; of the teacher's
    training nothing is.

    Args:
        runs: as read.
        base: whose best epoch on val is to be reached.
    """
    found: dict[str, list[tuple[int | None, float]]] = {}
    best = {run["seed"]: max(curve_of(run)) for run in runs if run["arm"] == base}
    for run in runs:
        if run["seed"] in best and run["arm"] != "teacher":
            curve = curve_of(run)
            epoch = next((at for at, value in enumerate(curve, 1) if value >= best[run["seed"]]), None)
            seconds = run["setup_cpu_seconds"] + (epoch or 0) * run["cpu_seconds"] / len(curve)
            found.setdefault(run["arm"], []).append((epoch, seconds / 60))
    lines = [f"| arm | epochs until {base}'s best on val | minutes of one core |", "|---|---|---|"]
    for arm, each in found.items():
        epochs = ", ".join("never" if epoch is None else str(epoch) for epoch, _ in each)
        minutes = ", ".join("never" if epoch is None else f"{minutes:.1f}" for epoch, minutes in each)
        lines.append(f"| {arm} | {epochs} | {minutes} |")
    return "\n".join(lines)


def interval(found: Difference) -> str:
    """Return a paired difference of points with its interval."""
    if found.mean is None:
        return ""
    span = f" [{found.interval[0]:+.1f}, {found.interval[1]:+.1f}]" if found.interval else ""
    return f"{found.mean:+.1f}{span}"


def time_ratios(runs: Runs, base: str) -> dict[str, float]:
    """Return by arm the processor time of an epoch as a multiple of `base`'s, over the seeds that both have.

    By seed and day, as other seeds, and arms that were added later, may have been run on another machine of the same
    name; processor time, as wall time counts other processes.
    """
    taken = {
        (run["arm"], run["seed"], run["date"]): run["cpu_seconds"] / done
        for run in runs
        if (done := run.get("epochs_done", run["epochs"]))
    }
    found: dict[str, float] = {}
    for arm in {arm for arm, _, _ in taken if not arm.startswith("teacher")}:
        ratios = [
            value / taken[base, seed, day]
            for (one, seed, day), value in taken.items()
            if one == arm and (base, seed, day) in taken
        ]
        if ratios:
            found[arm] = statistics.fmean(ratios)
    return found


def plot(runs: Runs, picture: Path, arms: list[str]) -> None:
    """Draw each arm's val mAP50-95 over the epochs: its mean as a line, its seeds as a band.

    Args:
        runs: as read.
        picture: what to write.
        arms: those to draw beside the teacher; empty: all.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axis = plt.subplots(figsize=(8, 5), tight_layout=True)
    for arm in ["teacher", *arms] if arms else values(runs, "val"):
        curves = [curve_of(run) for run in runs if run["arm"] == arm]
        lengths = {len(curve) for curve in curves}
        if len(lengths) != 1 or not curves[0]:
            print(f"{arm}: no curves of one length, left out")
            continue
        stacked = 100 * np.array(curves, float)
        epochs = np.arange(1, stacked.shape[1] + 1)
        style = {"color": "black", "linestyle": "--"} if arm == "teacher" else {}
        (line,) = axis.plot(epochs, stacked.mean(0), label=f"{arm} ({len(curves)})", **style)
        axis.fill_between(epochs, stacked.min(0), stacked.max(0), color=line.get_color(), alpha=0.15)
    axis.set(xlabel="epoch", ylabel="mAP50-95 on val")
    axis.legend(title="arm (seeds)")
    axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def main(words: list[str]) -> None:
    command, *rest = words
    if command == "pooled":
        print(pooled(rest))
        return
    options = dict(word.split("=", 1) for word in rest)
    if command == "keep":
        keep(Path(options["out"]), Path(options["results"]))
        return
    runs = read_all(options["results"])
    if command == "table":
        print(table(runs, options.get("base", "plain")))
    elif command == "ablation":
        print(ablation(runs, options.get("base", "init")))
    elif command == "reach":
        print(reach(runs, options.get("base", "plain")))
    elif command == "plot":
        plot(runs, Path(options["picture"]), [arm for arm in options.get("arms", "").split(",") if arm])
    else:
        raise SystemExit(f"{command}: not one of keep, table, ablation, reach, plot, pooled")


if __name__ == "__main__":
    main(sys.argv[1:])
