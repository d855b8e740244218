"""What the tests of all commands share: a request that is refused, and what is in the working folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from yolo_distill.cli import main

#: Commands that may say something else before.
_NOT_ALONE = {"train", "compare", "benchmark"}


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that gives a bad request, checks that nothing is written, and returns the one line it gets."""

    def request(*words: object, code: int = 2) -> str:
        before = files()
        assert main([str(word) for word in words]) == code
        said = capsys.readouterr().err.splitlines()
        ours = [line for line in said if line.startswith("yolo-distill: ")]
        assert len(ours) == 1
        assert ours == said or words[0] in _NOT_ALONE
        assert files() == before
        return ours[0].removeprefix("yolo-distill: ")

    return request


@pytest.fixture
def interrupted() -> Callable[..., str]:
    """Return a function that starts a command, ends it by a signal once something is so, and returns what it said."""

    def run(*words: str, once: Callable[[], object], sent: int = signal.SIGINT) -> str:
        command = [sys.executable, "-m", "yolo_distill.cli", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 120
        while not once() and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(sent)
        said, complained = process.communicate(timeout=120)
        assert process.returncode == 130, complained
        assert complained.endswith("yolo-distill: interrupted\n")
        assert not [name for name in files() if ".part" in name]
        return said

    return run


def files(folder: Path | str = ".") -> list[str]:
    """Return all that is below a folder, hidden files too."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
