"""One process at a time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.lock import lock


def test_a_file_is_held_by_one_process_and_let_go_when_that_ends(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    code = (
        "import sys, pathlib\nfrom yolo_distill.lock import lock\n"
        "with lock(pathlib.Path(sys.argv[1]), 'taken'):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(RequestError, match=r"^taken$"), lock(file, "taken"):
            pass
        other.kill()
    for _ in range(2):
        with lock(file, "taken"):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="has no flock")
def test_a_disk_without_locks_is_not_taken_for_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with (
        pytest.raises(DistillError, match=r"cannot be locked .*give an out= on another disk"),
        lock(tmp_path / "lock", "taken"),
    ):
        pass
