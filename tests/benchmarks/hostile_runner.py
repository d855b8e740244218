"""Runs commands on bad files, each in a forked process, and says what became of them; see `attack_corpus.py`."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

# Before the host is imported, which reads them once.
os.environ |= {
    "YOLO_CONFIG_DIR": tempfile.mkdtemp(prefix="hostile-settings-"),
    **{"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
}
sys.path[:0] = [str(Path(__file__).parents[1])]

from yolo_distill import cli  # noqa: E402

#: What a file that ran code leaves, in the folder that a command runs in.
MARK = "code-ran"
#: A name of a file that would run where a page shows it as it is.
MARKUP = "<img src=x onerror=alert(1)>"
#: Seconds of the processor, as others may use it as well; a command that waits is ended after _PATIENCE.
LIMIT_SECONDS, LIMIT_MIB, _PATIENCE = 30, 2048, 900
#: No process may have more, so that the machine lives; some that asked for it says so, and counts as too much.
_ADDRESS_SPACE = 24 << 30
_SPENT = ("bad_alloc", "bad allocation", "MemoryError", "can't allocate", "Unable to allocate", "Failed to allocate")
_MODULES = ("benchmarking.run", "comparison.compare", "engine.run", "exporting.export", "runtime.detector")


@dataclass
class Case:
    """A bad file, or several for one purpose.

    Attributes:
        name: of the file.
        ways: words of the commands that meet it.
        shown: files, as a pattern, in which MARKUP must not stand as it is.
    """

    kind: str
    name: str
    ways: list[list[str]]
    shown: str = ""


@dataclass
class Outcome:
    code: int
    seconds: float
    mib: float
    said: str
    ran: bool

    @property
    def lines(self) -> list[str]:
        return [line for line in self.said.splitlines() if line.startswith("yolo-distill: ")]

    def faults(self) -> list[str]:
        """Return what must not be, in words."""
        named = self.code == 1 and "skipped" in self.said  # pictures, one by one
        wrong = {
            "executed": self.ran,
            "traceback": "Traceback (most recent call last)" in self.said,
            "debug=true": "debug=true shows where" in self.said,
            f"ended with {self.code}": self.code not in {0, 1, 2},
            f"{len(self.lines)} lines": self.code != 0 and len(self.lines) != 1 and not named,
            "a line of more than 1500 letters": any(len(line) > 1500 for line in self.lines),
            f"{self.seconds:.0f} s": self.code != 0 and self.seconds > LIMIT_SECONDS,
            f"{self.mib:.0f} MiB": self.mib > LIMIT_MIB,
            "asked for too much memory": any(word in self.said for word in _SPENT),
        }
        return [what for what, holds in wrong.items() if holds]


def words(command: str, **settings: Any) -> list[str]:
    """Return the words of a command."""
    return [command, *(f"{key}={value}" for key, value in settings.items())]


def options_of(given: list[str]) -> dict[str, str]:
    """Return the options of a script, and import what commands import, once for all forks."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for name in (*(f"commands.{one}" for one in cli.COMMANDS), *_MODULES):
        import_module(f"yolo_distill.{name}")
    return dict(word.split("=", 1) for word in given)


def in_fork(work: Callable[[], int], folder: Path, most: float = _PATIENCE) -> Outcome:
    """Run something in a fork, in a folder, and return what became of it."""
    log, start = folder / ".said", time.monotonic()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setsid()
            os.chdir(folder)
            # The host's listeners hold the streams that there are, so these are exchanged below Python.
            with log.open("wb") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
            code = work()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > most:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.01)
    code, spent = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
    return Outcome(code, spent, usage.ru_maxrss / 1024, log.read_text("utf-8", "replace"), (folder / MARK).exists())


def _run(given: list[str], shown: str, base: Path) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="case-", dir=base) as name:
        folder = Path(name)
        outcome = in_fork(lambda: cli.main(given), folder)
        if shown:
            pages = [path.read_text("utf-8") for path in folder.glob(shown)]
            outcome.ran |= not pages or any(MARKUP in page for page in pages)
        return outcome


def run_all(cases: Iterable[Case], base: Path, options: dict[str, str]) -> int:
    """Run cases, print what is wrong with each and a table by kind, and return an exit code."""
    rows: dict[str, list[tuple[Case, Outcome]]] = {}
    count = 0
    for number, case in enumerate(cases):
        ways = case.ways if options.get("ways") == "all" else [case.ways[number % len(case.ways)]]
        wanted = options.get("only", "").split(",")
        for given in (one for one in ways if any(word in " ".join([case.kind, case.name, *one]) for word in wanted)):
            outcome, count = _run(given, case.shown, base), count + 1
            rows.setdefault(case.kind, []).append((case, outcome))
            if faults := outcome.faults() or ["shown"] * ("show" in options):
                said = "\n    ".join((outcome.lines or outcome.said.splitlines())[-3:])
                asked = " ".join(given).replace(str(base), "")[:500]
                print(f"{case.name}: {', '.join(faults)} (code {outcome.code}; {asked})\n    {said}", flush=True)
            if count % 50 == 0:
                print(f"... {count} runs, at {case.name}", flush=True)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ultralytics", "torch", "onnxruntime"))
    print(
        f"\n{versions}\n\n| kind | files | runs | executed | refused in one line | nothing to refuse | faults |", end=""
    )
    print(" worst s | worst MiB |\n|---|---|---|---|---|---|---|---|---|")
    every = [pair for pairs in rows.values() for pair in pairs]
    for kind, pairs in [*rows.items(), ("all", every)]:
        ends = [outcome for _, outcome in pairs]
        counts = [
            len({(case.kind, case.name) for case, _ in pairs}),
            len(ends),
            sum(end.ran for end in ends),
            sum(end.code in {1, 2} and len(end.lines) == 1 for end in ends),
            sum(end.code == 0 for end in ends),
            sum(bool(end.faults()) for end in ends),
        ]
        worst = f"{max(end.seconds for end in ends):.1f} | {max(end.mib for end in ends):.0f}"
        print(f"| {kind} | {' | '.join(map(str, counts))} | {worst} |")
    shutil.rmtree(os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)
    return int(any(outcome.faults() for _, outcome in every))
