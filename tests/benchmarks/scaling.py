"""Works out where the time of a torchrun training goes on 1 to 64 machines: a simulation, not a measurement.

    python tests/benchmarks/scaling.py pictures=118000 batch=16 step=0.23 gpus=8    # with your own figures

What is simulated: every rank does the same steps at the same time on its share of each epoch, then waits until the
gradients are averaged, which nothing overlaps (torch overlaps most of it with the backward pass). A ring of n machines
takes 2 (n - 1) / n times the gradients' bytes at the speed of the slowest link, and 2 (n - 1) delays; ranks of one
machine share its link and are averaged inside it for nothing. What is left out: disks, data loaders that do not keep
up, machines that differ, and that more ranks are a larger batch, which may need other settings and more epochs.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields

NODES = (1, 2, 4, 8, 16, 32, 64)
LINKS = (1.0, 100.0)  # Gbit/s


@dataclass(frozen=True)
class Inputs:
    """What is put in, in seconds of one rank where nothing else is said.

    The defaults were measured on one core of an Intel Xeon, as processor time: `train` of a `yolo26n` below a `yolo26s`
    on BCCD, 128 px, batch 16, `teach=true`, torch 2.13, two epochs. Delay and joining are guesses.
    """

    pictures: int = 118_000  # of an epoch
    val: int = 5_000  # pictures of val, shared by all ranks
    epochs: int = 100
    gpus: int = 1  # ranks of a machine
    batch: int = 16  # of a rank
    step: float = 0.56  # student and teacher, forward and backward, of a rank's batch
    answer: float = 0.012  # of val, a picture
    imports: float = 11.4  # until a rank and its worker can begin, side by side on all
    joining: float = 0.01  # of each rank, one after the other at the first one
    looking: float = 4.1  # rank 0 looks at teacher and student before anything begins
    fit: float = 14.0  # rank 0 fits the start
    choosing: float = 8.3  # rank 0 tries the teacher's precisions
    ending: float = 5.4  # rank 0 measures both at the end
    parameters: float = 2.4e6
    delay: float = 50e-6  # of a message between machines


@dataclass(frozen=True)
class Times:
    """Where the time goes with so many machines, in seconds."""

    begin: float
    steps: int
    work: float
    val: float
    average: tuple[float, ...]

    def epoch(self, link: int) -> float:
        """Return the time of an epoch over a link."""
        return self.work + self.val + self.average[link]


def simulate(given: Inputs, nodes: int) -> Times:
    """Return where the time goes with so many machines."""
    ranks = nodes * given.gpus
    steps = math.ceil(given.pictures / (given.batch * ranks))
    once = given.looking + given.fit + given.choosing + given.ending
    sent = 2 * (nodes - 1) / nodes * given.parameters * 4 * 8  # bits in fp32
    average = tuple(steps * (sent / (link * 1e9) + 2 * (nodes - 1) * given.delay) for link in LINKS)
    begin = given.imports + given.joining * ranks + once
    return Times(begin, steps, steps * given.step, math.ceil(given.val / ranks) * given.answer, average)


def table(given: Inputs) -> str:
    """Return the table in Markdown."""
    names = [
        f"{name}, {link:g} Gbit/s" for name in ("gradients", "epoch", "whole run: times as fast") for link in LINKS
    ]
    columns = ["machines", "once", "steps", "work", "val", *names]
    rows = [" | ".join(columns), "|".join(["---"] * len(columns))]
    alone = simulate(given, 1)
    for nodes in NODES:
        at = simulate(given, nodes)
        links = range(len(LINKS))
        whole = [at.begin + given.epochs * at.epoch(link) for link in links]
        faster = [(alone.begin + given.epochs * alone.epoch(0)) / one for one in whole]
        cells = [f"{nodes}", f"{at.begin:.0f}", f"{at.steps:,}", f"{at.work:.1f}", f"{at.val:.1f}"]
        cells += [f"{one:.2f}" for one in at.average] + [f"{at.epoch(link):.1f}" for link in links]
        rows.append(" | ".join(cells + [f"{one:.1f}" for one in faster]))
    return "\n".join(f"| {row} |" if "---" not in row else f"|{row}|" for row in rows)


def main(argv: list[str]) -> int:
    """Print the table for what the arguments say."""
    words = dict(word.split("=", 1) for word in argv)
    kinds = {field.name: type(field.default) for field in fields(Inputs)}
    print(table(Inputs(**{name: kinds[name](float(value)) for name, value in words.items()})))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
