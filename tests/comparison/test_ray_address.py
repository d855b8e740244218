"""Machines that share an address and no folder, of which one is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from on_ray import called, figures, parent_of

from yolo_distill.cli import main
from yolo_distill.machine import usable_cores


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_machines_that_share_no_folder_make_the_table_at_an_address(
    words: list[str], bucket: Any, tmp_path: Path
) -> None:
    """A worker of Ray is killed in the middle; another one knows of the training by what was put alone."""
    both = [*words, "epochs=40", "teacher_epochs=2", "arms=plain,distilled@epochs=2", "seeds=0", "device=cpu"]
    assert main([*both, f"out={tmp_path / 'plain'}"]) == 0
    own = {"TMPDIR": str(tmp_path / "node"), "RAY_TMPDIR": tempfile.gettempdir()}
    (tmp_path / "node").mkdir()
    command = [sys.executable, "-m", "yolo_distill", *both, "ray=local", f"ray_cpus={usable_cores()}"]
    with (tmp_path / "said").open("w") as stream:
        process = subprocess.Popen(
            [*command, "out=s3://bucket/mine"], stdout=stream, stderr=stream, cwd=tmp_path, env={**os.environ, **own}
        )
    limit = time.monotonic() + 600
    while not bucket.exists("bucket/mine/plain-s0/weights/last.pt"):
        assert time.monotonic() < limit
        assert process.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.1)
    jobs = [one for one in Path("/proc").glob("[0-9]*") if "/plain-s0/job.json" in called(one)]
    (job,) = [int(one.name) for one in jobs if str(tmp_path / "node") in called(one)]
    assert "ray::" in called(Path(f"/proc/{parent_of(job)}"))
    os.kill(parent_of(job), signal.SIGKILL)
    assert process.wait(timeout=600) == 0, (tmp_path / "said").read_text()
    out = tmp_path / "runs" / "s3" / "bucket" / "mine"
    assert figures(out) == figures(tmp_path / "plain")
    assert json.loads((out / "plain-s0" / "run.json").read_text())["parts"] == 2
    assert not json.loads((out / "plain-s0" / "job.json").read_text())["folder"].startswith(str(out))
    assert len(list(out.glob("teacher-*"))) == 1
    assert bucket.cat("bucket/mine/comparison.json") == (out / "comparison.json").read_bytes()
    assert not [name for name in bucket.find("bucket/mine") if "exact-" in name or "/." in name]
