"""What the tests of runs on Ray share: the figures of a comparison, and processes by what they were called with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def figures(out: Path) -> dict[str, Any]:
    found = json.loads((out / "comparison.json").read_text())
    assert found["missing"] == []
    losses = {record["arm"]: record["curve"] for record in found["records"]}
    return {"verdict": found["verdict"], "arms": {name: arm["figures"] for name, arm in found["arms"].items()}} | losses


def called(process: Path) -> str:
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:  # ended meanwhile
        return ""


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
