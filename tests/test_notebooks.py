"""The notebooks, run from their first cell to their last, offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {
    "cfg/train_and_compare.ipynb": "distilling/compared/index.html",
    "export/export_and_run.ipynb": "exporting/found.jpg",
}


@pytest.mark.slow
@pytest.mark.timeout(1300)  # a minute each on two free cores
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_runs_from_its_first_cell_to_its_last(notebook: str, tmp_path: Path) -> None:
    cells = json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not [cell for cell in cells if cell.get("outputs")]  # of another machine
    (tmp_path / "cells.py").write_text("\n\n".join(code), encoding="utf-8")
    offline = {**os.environ, "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=tmp_path,
        env=offline,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / NOTEBOOKS[notebook]).is_file()
