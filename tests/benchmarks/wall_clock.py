"""Accuracy against time: what the runs of `four_arms.py` reached, and what each epoch of them cost.

    python tests/benchmarks/wall_clock.py results=tests/benchmarks/results/bccd_192_pace.jsonl plot=pace.png

Time is processor time of whole runs (training, validation after each epoch, start-up), as machines are shared. In the
table it is compared with plain's of the same seed; in the plot an arm's is the least of its seeds, spread evenly over
its epochs. The table gives test mAP50-95 of the epoch chosen on val.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from four_arms import arms_in, interval, read


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    arms = by_arm(read(Path(options["results"])))
    print(table(arms))
    if "plot" in options:
        plot(arms, Path(options["plot"]))


def by_arm(runs: list[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    return {arm: {r["seed"]: r for r in runs if r["arm"] == arm} for arm in arms_in(runs)}


def epoch_seconds(runs: dict[int, dict[str, Any]]) -> dict[int, float]:
    """Return what an epoch of an arm costs, by seed."""
    return {seed: r["cpu_seconds"] / len(r["curve"]) for seed, r in runs.items() if r["cpu_seconds"]}


def times_plain(runs: dict[int, dict[str, Any]], plain: dict[int, dict[str, Any]]) -> float:
    """Return the mean, over the seeds of both, of what an epoch costs by what one of plain does."""
    ours, below = epoch_seconds(runs), epoch_seconds(plain)
    return statistics.mean(ours[seed] / below[seed] for seed in ours.keys() & below.keys())


def table(arms: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Return time and accuracy of each arm, and the paired difference to plain."""
    plain = arms["plain"]
    lines = [
        "| arm | seeds | time an epoch, by plain's | test (val) mAP50-95 | ahead of plain, paired (95 % interval) |",
        "|---|---|---|---|---|",
    ]
    for arm, runs in arms.items():
        test, val = (100 * statistics.mean(r[split]["map"] for r in runs.values()) for split in ("test", "val"))
        common = sorted(runs.keys() & plain.keys())
        ahead = [100 * (runs[s]["test"]["map"] - plain[s]["test"]["map"]) for s in common]
        lines.append(
            f"| {arm} | {', '.join(map(str, sorted(runs)))} | {times_plain(runs, plain):.2f} | "
            f"{test:.1f} ({val:.1f}) | {'' if arm == 'plain' else interval(ahead)} |"
        )
    return "\n".join(lines)


def plot(arms: dict[str, dict[int, dict[str, Any]]], file: Path) -> None:
    """Draw the mean curve of each arm over time, with the range over its seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
    for arm, runs in arms.items():
        curves = [[100 * value for value in r["curve"]] for r in runs.values()]
        least = min(epoch_seconds(runs).values())
        minutes = [least * (epoch + 1) / 60 for epoch in range(len(curves[0]))]
        epochs = list(zip(*curves, strict=True))
        label = f"{arm} ({len(runs)} seed{'s' * (len(runs) > 1)})"
        (line,) = axes.plot(minutes, [statistics.mean(values) for values in epochs], label=label)
        axes.fill_between(
            minutes, [min(v) for v in epochs], [max(v) for v in epochs], alpha=0.15, color=line.get_color()
        )
    axes.set_xlabel("processor time, minutes")
    axes.set_ylabel("val mAP50-95")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)


if __name__ == "__main__":
    main(sys.argv[1:])
