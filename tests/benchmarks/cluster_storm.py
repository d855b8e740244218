"""Kills parts of `ray=local` and of torchrun at random moments, and compares with what nobody disturbed.

    python tests/benchmarks/cluster_storm.py kills=5 seed=0 work=/tmp/storms           # everything; an hour on one core
    python tests/benchmarks/cluster_storm.py kills=10 cases=train:rank

A kill is SIGKILL to one process, at a moment drawn evenly over the time that the undisturbed command took, or two n-th
of it where a run is to be killed n times: of `compare` the driver (the command itself), the raylet, or a worker (Ray's,
or the training below it); of `label` driver, raylet or an actor; of `train` one of two ranks, or its worker, each rank
below a torchrun of its own. A command that ended is given again at once, `train` by `resume=` where it can. Up to
`each=3` kills a run. Equal: see `storm.py`, and of a comparison its table and curves as well; of ranks the names of
files and the numbers of epochs. Twice: a finished run, or chunk, was written again. In words: what ended early said
why, without a traceback, and of ranks within a minute of the kill; the slowest is named. Left: files that the plain
command has not, or processes a minute after. What nobody disturbed is kept in `work` for the next call. Linux.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storm import PATIENCE, TESTS, TRAINING, Case, begin, fresh, prepare, say, start, state, undisturbed, wait, words_in

sys.path[:0] = [str(TESTS / "comparison"), str(TESTS / "torchrun")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])  # of Ray's workers
MINUTE = 60.0
#: Two at a time also on one core, with one thread as the plain command has there.
RAY = ["ray=local", "ray_cpus=0.5"]
COMPARE = [
    "compare", "teacher=wide.pt", "student=tiny.yaml", *TRAINING, "arms=plain,distilled,taught", "force=true",
    "seeds=0,1", "epochs=2", "out=disk/set",
]  # fmt: skip
LABEL = ["label", "teacher=wide.pt", "source=many", "every=1", "copy=true", "imgsz=64", "out=disk/set"]
TRAIN = ["train", "teacher=wide.pt", "student=tiny.yaml", *TRAINING, "epochs=6", "project=disk/runs", "name=run"]
#: The command, whom the kills hit, by what its command line holds, and what is written once.
CASES = {
    "compare:driver": (COMPARE, (), "*/run.json"),
    "compare:worker": (COMPARE, ("ray::do_job", "comparison.worker"), "*/run.json"),
    "compare:raylet": (COMPARE, ("raylet/raylet",), "*/run.json"),
    "label:driver": (LABEL, (), "soft/part-*"),
    "label:actor": (LABEL, ("ray::Actor",), "soft/part-*"),
    "label:raylet": (LABEL, ("raylet/raylet",), "soft/part-*"),
    "train:rank": (TRAIN, (), ""),
}


@dataclass
class Trial:
    """What became of a command."""

    hits: int = 0
    finished: bool = False
    worded: bool = True
    twice: bool = False
    slowest: float = 0.0
    #: When what is written once was written, and all processes seen.
    written: dict[Path, int] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)

    def look(self, folder: Path, once: str) -> None:
        """See whether what was there is as it was."""
        now = {file: file.stat().st_mtime_ns for file in (folder / "disk" / "set").glob(once)}
        self.twice |= any(now.get(file) != then for file, then in self.written.items())
        self.written = now

    def ended(self, code: int | None, said: str, killed: float = 0.0) -> None:
        """Note how a command ended, what it said, and when one was killed of those that all others end with."""
        self.finished = code == 0
        self.slowest = max(self.slowest, time.monotonic() - killed if code and killed else 0.0)
        words = "\nyolo-distill: " in f"\n{said}" and "Traceback" not in said
        self.worded &= code == 0 or (code is not None and words and self.slowest < MINUTE)


def below(pid: int) -> list[int]:
    """Return all processes that a process has started, and those that they have."""
    from test_torchrun import children

    try:
        found = children(pid)
    except OSError:  # ended meanwhile
        return []
    return [one for child in found for one in (child, *below(child))]


def called(pid: int) -> str:
    """Return the command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def hit(pid: int, names: tuple[str, ...], seconds: float, rng: random.Random) -> tuple[int | None, set[int]]:
    """Kill a process of a command after so many seconds, or as soon as there is one.

    Return the exit code of the command, if it ended, and what ran when it was hit.
    """
    code = wait(pid, seconds)
    while code is None:
        ran = below(pid)
        if found := [one for one in ran if any(name in called(one) for name in names)] if names else [pid]:
            os.kill(rng.choice(found), signal.SIGKILL)
            return None if names else wait(pid, PATIENCE), {pid, *ran}
        code = wait(pid, 0.02)
    return code, set()


def trial(name: str, folder: Path, took: float, kills: int, rng: random.Random) -> Trial:
    """Give a command to its end, under so many kills."""
    words, names, once = CASES[name]
    case, log, found = Case([*words, *RAY]), folder.parent / "log.txt", Trial()
    for _ in range(kills + 3):
        said = log.stat().st_size if log.exists() else 0
        pid, code = start(words_in(folder, case), folder, RAY_TMPDIR=str(folder.parents[2] / "r")), None
        while found.hits < kills and code is None:
            code, ran = hit(pid, names, rng.uniform(0, min(2 / kills, 1) * took), rng)
            found.hits += bool(ran)
            found.started |= ran
            found.look(folder, once)
        if code is None:
            code = wait(pid, PATIENCE)
        if code is None:
            os.killpg(pid, signal.SIGKILL)
        if code != -signal.SIGKILL:
            found.ended(code, log.read_text(errors="replace")[said:])
        if found.finished:
            break
    found.look(folder, once)
    return found


def trial_of_ranks(folder: Path, took: float, kills: int, rng: random.Random) -> Trial:
    """Train by two torchruns as two machines, under so many kills of a rank or its worker."""
    from test_torchrun import Agents

    case, found = Case(TRAIN), Trial()
    for _ in range(kills + 3):
        if not (words := words_in(folder, case)):  # killed when all was done
            found.finished = True
            break
        paths = [word.replace("=data/", f"={folder}/data/").replace("=wide", f"={folder}/wide") for word in words[1:]]
        paths = [word.replace("=tiny", f"={folder}/tiny") for word in paths]
        agents, killed = Agents(folder.parent, 2, *paths, each=1), 0.0
        if found.hits < kills:
            time.sleep(rng.uniform(0, min(2 / kills, 1) * took))
            while all(agent.poll() is None for agent in agents.agents) and not (
                ran := [*itertools.chain(*agents.processes())]
            ):
                time.sleep(0.02)
            if all(agent.poll() is None for agent in agents.agents):
                os.kill(rng.choice(ran), signal.SIGKILL)
                found.hits, killed = found.hits + 1, time.monotonic()
                found.started |= set(ran)
        codes = agents.wait(PATIENCE)
        said = agents.said()
        (folder.parent / "log.txt").open("a").write(said)
        found.ended(max(map(abs, codes)), said.replace("Traceback", "torchrun's own"), killed)
        if found.finished:
            break
    return found


def left(pids: set[int]) -> bool:
    """Return whether one of some processes is there a minute after."""
    from test_torchrun import is_running

    ends = time.monotonic() + MINUTE
    while any(map(is_running, pids)) and time.monotonic() < ends:
        time.sleep(0.1)
    return any(map(is_running, pids))


def epochs(at: Path) -> list[float]:
    """Return the epochs of the training beside a folder, as it counts them."""
    from yolo_distill.engine.gradient_shares import read_columns

    return read_columns(at.parent / "runs" / "run" / "results.csv")["epoch"]


def known(at: Path, words: list[str]) -> dict[str, str]:
    """Return what the files say; of ranks their names, as only the first one's random numbers go on where they were."""
    found = {name: said for name, said in state(at).items() if not name.endswith(".ses")}  # ONNX Runtime's
    return dict.fromkeys(found, "") if words is TRAIN else found


def storm(name: str, kills: int, most: int, work: Path, rng: random.Random) -> None:
    """Kill one kind of a command's processes so often, at most so often a run, and say what came of it."""
    from test_ray_runs import figures

    words, command = CASES[name][0], name.partition(":")[0]
    attempt: Any = trial_of_ranks if words is TRAIN else lambda *given: trial(name, *given)
    table: Any = figures if words is COMPARE else epochs if words is TRAIN else lambda at: None
    place, counts, runs, slowest = work / command, [0] * 7, 0, 0.0
    if not (whole := place / "whole" / "at").exists():
        undisturbed(command, Case(words), work)
    files, plain, folder = known(whole, words), table(whole / "disk" / "set"), place / "now" / "at"
    took = float(seconds.read_text()) if (seconds := place / "seconds").exists() else 0.0
    while counts[0] < kills and runs <= 2 * kills:
        fresh(work / "made", folder.parent)
        begun = time.monotonic()
        found = attempt(folder, took, min(rng.randint(1, most), kills - counts[0]) if took else 0, rng)
        there, slowest = known(folder, words), max(slowest, found.slowest)
        equal = found.finished and table(folder / "disk" / "set") == plain
        differ = [one for one in files if there.get(one) != files[one]]
        more = sorted(there.keys() - files.keys())
        row = (found.hits, 1, found.finished, equal and not differ, found.twice, found.worded)
        row = (*row, bool(more) or left(found.started))
        if row[1:] != (1, True, True, False, True, False):
            kept = shutil.copytree(folder.parent, work / f"{name}-{runs}", symlinks=True, dirs_exist_ok=True)
            say(f"  {kept}: {row}, {more[:5]}, {differ[:5]}")
        if took:
            counts, runs = [sum(both) for both in zip(counts, row, strict=True)], runs + 1
        else:  # nobody was hit, for the time
            took = time.monotonic() - begun
            seconds.write_text(f"{took:.1f}")
            say(f"  {command}, undisturbed: {row}, {took:.0f} s")
    say(f"| {name} | {' | '.join(map(str, counts))} | {slowest:.0f} s |")


def main(argv: list[str]) -> int:
    """Do what the arguments say."""
    given, work = begin(argv, "storms")
    if not (prepared := os.fork()):
        prepare(work / "made")
        many = shutil.copytree(work / "made" / "mixed", work / "made" / "many", dirs_exist_ok=True)
        for picture in sorted(many.glob("*.jpg")):
            for number in range(0 if "-" in picture.name else 15):
                shutil.copy(picture, many / f"{picture.stem}-{number}.jpg")
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(prepared, 0)[1]):
        return 1
    import yolo_distill.comparison.compare
    import yolo_distill.engine.run
    import yolo_distill.labelling.run  # noqa: F401

    say(
        "| command, and who was killed | kills | runs | finished | equal | twice | in words | left | slowest |\n|"
        + "---|" * 9
    )
    for name in given.get("cases", ",".join(CASES)).split(","):
        rng = random.Random(f"{given.get('seed', '0')} {name}")
        storm(name, int(given.get("kills", 5)), int(given.get("each", 3)), work, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
