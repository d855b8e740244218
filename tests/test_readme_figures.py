"""The table of what distillation gives is that of the kept runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_is_what_the_script_makes_of_the_kept_runs() -> None:
    place = importlib.util.spec_from_file_location("evidence", ROOT / "tests" / "benchmarks" / "evidence.py")
    assert place is not None
    assert place.loader is not None
    evidence = importlib.util.module_from_spec(place)
    place.loader.exec_module(evidence)
    lines = (ROOT / evidence.OVERVIEW).read_text(encoding="utf-8").splitlines()
    table = evidence.overview()
    start = lines.index(table[0])
    assert lines[start : start + len(table) + 1] == [*table, ""]
