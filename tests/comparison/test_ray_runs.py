"""Runs on Ray: the same processes, begun again where they were killed, and the same figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from on_ray import called, figures, parent_of

from yolo_distill import cluster
from yolo_distill.address import Address, Mirror
from yolo_distill.cli import main
from yolo_distill.comparison import ray_runs
from yolo_distill.comparison.arms import Arm
from yolo_distill.comparison.ray_runs import RayRuns, do_job
from yolo_distill.comparison.runs import Job, Run, run_of
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.machine import usable_cores

WORKER = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]


def job_of(run: Run) -> Job:
    rest = {"recipe": None, "teacher_epochs": None, "precision": None, "threads": 1, "trust": False, "names": {}}
    files = {"folder": str(run.folder), "data": "d.yaml", "teacher": "t.pt", "student": "s.yaml", "imgsz": 64}
    return Job(label="plain", kind="plain", seed=run.seed, splits=["val"], host={"epochs": 2}, **files, **rest)


class PretendRay:
    """Does a task while it is waited for; one node after the other is lost with what it does."""

    class exceptions:
        class RayError(Exception):
            pass

        class LocalRayletDiedError(RayError):
            pass

    def __init__(self, lost: int = 0, dead: bool = False) -> None:
        self.lost, self.dead, self.options, self.said = lost, dead, {}, {}

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        self.options = options
        return lambda call: type("Task", (), {"remote": staticmethod(lambda *given: partial(call, *given))})

    def wait(self, tasks: list[Any], **how: Any) -> tuple[list[Any], list[Any]]:
        if not (self.dead or self.lost):
            self.said[tasks[0]] = str(tasks[0]())
        return tasks[:1], tasks[1:]

    def get(self, task: Any) -> str:
        if self.dead:
            raise self.exceptions.LocalRayletDiedError
        if self.lost:
            raise self.exceptions.RayError("Node is dead\nand more")
        return str(self.said[task])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    return run_of(tmp_path, Arm("plain", "plain", {"epochs": 2}), 0)


@pytest.mark.parametrize(
    ("behave", "lost", "error", "begun"),
    [
        ([0.4, 1.0], 0, None, 1),
        ("crash", 0, "RuntimeError: no luck", 1),
        ("die", 0, "its process was ended by SIGKILL, perhaps for want of memory", 4),
        ([0.4, 1.0], 1, "Node is dead", 0),
    ],
)
@pytest.mark.parametrize("address", [None, "memory://mine"])
def test_a_task_is_the_process_of_a_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, behave: Any, lost: int, error: str | None, begun: int, address: Any
) -> None:
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "store", {})
    mirror = Mirror(Address(address), run.folder.parent) if address else None
    monkeypatch.setenv("BEHAVE", json.dumps({"plain-s0": behave}))
    ray = PretendRay(lost)
    runs = RayRuns(ray, cluster.Cluster("local", 2, 0.5), WORKER, mirror)
    assert ray.options == {"num_cpus": 2, "num_gpus": 0.5, "max_retries": cluster.RETRIES}
    runs.start(runs.free or 0, run, job_of(run))
    assert [one for one, _ in runs.running] == [run]
    assert not runs.at_work
    assert runs.take_finished() == [run]
    assert not runs.running
    assert (run.error(), run.record() is None) == (error, error is not None)
    notes = Path(os.environ["NOTES"])
    assert (notes.read_text().count('"begins"') if notes.exists() else 0) == begun


def test_a_raylet_that_was_killed_is_started_again_for_runs_that_had_not_begun(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = PretendRay(dead=True)
    monkeypatch.setattr(ray_runs, "reconnect", lambda *given: setattr(ray, "dead", False))
    runs = RayRuns(ray, cluster.Cluster("local"), WORKER)
    runs.start(0, run, job_of(run))
    assert runs.take_finished() == []
    assert (run.error(), runs.running, runs.free) == (None, [], 0)
    runs.start(0, run, job_of(run))
    assert runs.take_finished() == [run]
    assert run.record() is not None
    theirs = RayRuns(PretendRay(dead=True), cluster.Cluster("auto"), WORKER)
    theirs.start(0, run, job_of(run))
    with pytest.raises(DistillError, match="ray=auto: its raylet on this machine was killed; what is done is kept"):
        theirs.take_finished()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_raylet_that_is_killed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray says that it is gone, of a run that it had not begun as well, and starts again in this process."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("WORK", "3")
    both, limit = [run, run_of(tmp_path, run.arm, 1)], time.monotonic() + 500
    with ray_runs.ray_runs(cluster.Cluster("local", usable_cores()), WORKER) as runs:
        for one in both:
            runs.start(0, one, job_of(one))
        while not run.trained:
            assert time.monotonic() < limit
            time.sleep(0.02)
        own = [one for one in Path("/proc").glob("[0-9]*") if "raylet/raylet" in called(one)]
        (raylet,) = [int(one.name) for one in own if parent_of(int(one.name)) == os.getpid()]
        assert not cluster.is_lost(ray)
        os.kill(raylet, signal.SIGKILL)
        while not cluster.is_lost(ray):
            assert time.monotonic() < limit
            time.sleep(0.1)
        while not all(one.record() for one in both):
            assert time.monotonic() < limit
            runs.take_finished()
            assert [one.error() for one in both] == [None, None]
            for one in both if runs.free == 0 else ():
                if one.record() is None:
                    runs.start(0, one, job_of(one))
            time.sleep(0.1)
    begun = [line["begins"] for line in map(json.loads, (tmp_path / "notes").open()) if "begins" in line]
    assert begun == ["plain-s0", "plain-s1"]


def test_a_node_that_has_not_got_the_folder_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path / "elsewhere", Arm("plain", "plain", {}), 0)
    said = do_job(job_of(run), WORKER)
    assert "out= has to be a folder that all nodes share" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ray=local"], "ray=local needs 'ray', which is not installed: pip install 'yolo-distill[ray]'"),
        (["ray=yes"], "ray=yes: expected local, auto, or HOST:PORT"),
        (["ray_gpus=1"], "ray_gpus=1: is for Ray; add ray=local"),
        (["shard=9/8"], "shard=9/8: out of range"),
        (["shard=1/8", "merge=true"], "merge=true: trains nothing"),
    ],
)
def test_what_cannot_be_asked_for(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert main(["compare", "teacher=t.yaml", "student=s.yaml", "data=coco8.yaml", *words]) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_devices_are_for_ray_to_give() -> None:
    for device, gpus in (("0", 1.0), ("cpu", 1.0), ("0,1", 0.0)):
        with pytest.raises(RequestError, match="Ray gives out the devices"):
            cluster.take_cluster({"ray": "auto", "ray_cpus": 1.0, "ray_gpus": gpus}, device)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ray_shards_and_the_plain_command_make_one_table(words: list[str], tmp_path: Path) -> None:
    """A worker of Ray is killed in the middle of a training, which goes on from its last epoch."""
    two = [*words, "seeds=0", "device=cpu"]
    assert main([*two, f"out={tmp_path / 'plain'}"]) == 0
    out = tmp_path / "ray"
    # As many threads as the plain command's runs have.
    command = [sys.executable, "-m", "yolo_distill", *two, "ray=local", f"ray_cpus={usable_cores()}", f"out={out}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines, limit = out / "plain-s0" / "epochs.jsonl", time.monotonic() + 300
    while not (lines.is_file() and '"epoch"' in lines.read_text()):
        assert time.monotonic() < limit
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    (job,) = [int(one.name) for one in Path("/proc").glob("[0-9]*") if str(lines.with_name("job.json")) in called(one)]
    parent = parent_of(job)
    assert "ray::" in called(Path(f"/proc/{parent}"))
    os.kill(parent, signal.SIGKILL)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    assert figures(out) == figures(tmp_path / "plain")
    assert json.loads((lines.with_name("run.json")).read_text())["parts"] == 2
    assert len(list(out.glob("teacher-*"))) == 1

    for index in (1, 2):
        assert main([*two, f"shard={index}/2", f"out={tmp_path / 'shards'}"]) == 0
        assert not (tmp_path / "shards" / "comparison.json").exists()
    assert main([*two, "merge=true", f"out={tmp_path / 'shards'}"]) == 0
    assert figures(tmp_path / "shards") == figures(tmp_path / "plain")
