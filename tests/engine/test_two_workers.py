"""A whole run in two processes, as the host starts them for two GPUs: they stay alike, and one of them writes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.teacher_cost import read_cost

WORKER = Path(__file__).with_name("worker_of_two.py")


def train_together(settings: dict) -> list[dict]:
    """Return what each of two workers came to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(settings)],
            env={**place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [worker.communicate(timeout=300) for worker in workers]
    for worker, (_, errors) in zip(workers, said, strict=True):
        assert worker.returncode == 0, errors[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


@pytest.mark.slow
def test_they_end_with_the_same_student_projectors_and_gains(settings, make_teacher, names):
    teacher = str(make_teacher("yolo26s.yaml", names))
    own = {"teacher": teacher, "model": "yolo26n.yaml", "balance": "auto", "cwd": 1.0, "ramp_epochs": 0.0}
    first, second = train_together({**settings, **own, "epochs": 2, "exist_ok": True})
    digests = [[word for word in result["seen"] if len(word) == 64] for result in (first, second)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 2  # and they have learned in each epoch
    assert first["seen"].count("DistributedDataParallel") == 4  # 8 pictures, 2 in a batch of each
    assert first["gains"] == pytest.approx(second["gains"])
    assert first["gains"]["logit"] != 1.0
    assert read_cost(Path(settings["project"]) / "run")["step"] >= 1  # for who started them and has no trainer
    columns = read_columns(Path(settings["project"]) / "run" / "results.csv")
    assert len(columns["train/logit_loss"]) == 2
    assert all(columns[f"share/{term}"][-1] > 0 for term in ("logit", "localization", "cwd"))
