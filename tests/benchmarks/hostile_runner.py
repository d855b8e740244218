"""Runs commands on bad files, each in a forked process, and says what became of them; see `attack_corpus.py`."""

# ruff: noqa: E501
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
from pathlib import Path

# Before the host is imported, which reads them once.
os.environ |= {
    "YOLO_CONFIG_DIR": tempfile.mkdtemp(prefix="hostile-settings-"),
    **dict.fromkeys(("YOLO_OFFLINE",), "true"),
    **{"YOLO_AUTOINSTALL": "false", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
}
sys.path[:0] = [str(Path(__file__).parents[1])]

from yolo_distill import cli  # noqa: E402

#: What a file that ran code leaves, in the folder that a command runs in.
MARK = "code-ran"
LIMIT_SECONDS, LIMIT_MIB = 30, 2048
#: No process may have more, so that the machine lives; some that asked for it says so, and counts as too much.
_ADDRESS_SPACE = 24 << 30
_SPENT = ("bad_alloc", "bad allocation", "MemoryError", "can't allocate", "Unable to allocate", "Failed to allocate")


@dataclass
class Case:
    """A bad file, or several for one purpose, and the words of a command that meets it.

    Attributes:
        name: of the file.
        words: of the command.
        shown: files, as a pattern, in which MARKUP must not stand as it is.
    """

    kind: str
    name: str
    words: list[str]
    shown: str = ""


#: A name of a file that would run where a page shows it as it is.
MARKUP = "<img src=x onerror=alert(1)>"


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
        found = ["executed"] if self.ran else []
        found += ["traceback"] if "Traceback (most recent call last)" in self.said else []
        found += ["debug=true"] if "debug=true shows where" in self.said else []
        found += [f"ended with {self.code}"] if self.code not in {0, 1, 2} else []
        named = self.code == 1 and "skipped" in self.said  # pictures, one by one
        found += [f"{len(self.lines)} lines"] if self.code and len(self.lines) != 1 and not named else []
        found += [f"a line of {len(line)} letters" for line in self.lines if len(line) > 1500]
        found += [f"{self.seconds:.0f} s"] if self.code and self.seconds > LIMIT_SECONDS else []
        found += [f"{self.mib:.0f} MiB"] if self.mib > LIMIT_MIB else []
        found += ["asked for too much memory"] if any(word in self.said for word in _SPENT) else []
        return found


def import_everything() -> None:
    """Import what commands import, once for all forks."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    for command in cli.COMMANDS:
        cli._load(command)
    import onnx  # noqa: F401

    import yolo_distill.benchmarking.run
    import yolo_distill.comparison.compare
    import yolo_distill.engine.run
    import yolo_distill.exporting.export
    import yolo_distill.runtime.detector  # noqa: F401


def in_fork(work: Callable[[], int], folder: Path, most: float = 4 * LIMIT_SECONDS) -> Outcome:
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
    said = log.read_text("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, time.monotonic() - start, usage.ru_maxrss / 1024, said, (folder / MARK).exists())


def run(case: Case, base: Path) -> Outcome:
    """Run one case in a folder of its own, which is removed."""
    with tempfile.TemporaryDirectory(prefix="case-", dir=base) as name:
        folder = Path(name)
        outcome = in_fork(lambda: cli.main(case.words), folder)
        if case.shown:
            pages = [path.read_text("utf-8") for path in folder.glob(case.shown)]
            outcome.ran |= not pages or any(MARKUP in page for page in pages)
        return outcome


def run_all(cases: Iterable[Case], base: Path, only: str = "") -> int:
    """Run cases, print what is wrong with each and a table by kind, and return an exit code."""
    rows: dict[str, list[tuple[Case, Outcome]]] = {}
    for case in cases:
        if only in f"{case.kind} {case.name} {' '.join(case.words)}":
            outcome = run(case, base)
            rows.setdefault(case.kind, []).append((case, outcome))
            if faults := outcome.faults() or ([] if os.environ.get("SHOW") is None else ["shown"]):
                said = "\n    ".join((outcome.lines or outcome.said.splitlines())[-3:])
                print(
                    f"{case.name}: {', '.join(faults)} (code {outcome.code}; {' '.join(case.words).replace(str(base), '')})\n    {said}",
                    flush=True,
                )
    print(
        "\n| kind | files | runs | executed | refused in one line | nothing to refuse | faults | worst s | worst MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    every = [pair for pairs in rows.values() for pair in pairs]
    for kind, pairs in [*rows.items(), ("all", every)]:
        ends = [outcome for _, outcome in pairs]
        files = len({case.name for case, _ in pairs})
        counts = [
            sum(end.ran for end in ends),
            sum(end.code in {1, 2} and len(end.lines) == 1 for end in ends),
            sum(end.code == 0 for end in ends),
            sum(bool(end.faults()) for end in ends),
        ]
        worst = f"{max(end.seconds for end in ends):.1f} | {max(end.mib for end in ends):.0f}"
        print(f"| {kind} | {files} | {len(ends)} | {' | '.join(map(str, counts))} | {worst} |")
    shutil.rmtree(os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)
    return int(any(outcome.faults() for _, outcome in every))
