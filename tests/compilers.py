"""Compilers of other languages, for the programs in export/programs/."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[1] / "export" / "programs"
KOTLINC = ["kotlinc", "-Werror"]


def compile_with(command: list[str], *more: object) -> None:
    """Run a compiler, and fail with what it says; skip where there is none."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    heap = {"JAVA_OPTS": "-Xmx400m"}  # kotlinc's: it runs beside other tests
    done = subprocess.run(
        [*command, *map(str, more)], capture_output=True, text=True, timeout=500, env={**os.environ, **heap}
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
