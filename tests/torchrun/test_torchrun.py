"""Two agents of torchrun as two machines, with two processes each: one training, and an end in words."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DistributedSampler
from ultralytics.utils.patches import torch_load

from yolo_distill.engine.gradient_shares import read_columns

COMMAND = Path(__file__).with_name("rank_of_four.py")
RANKS, PICTURES, EPOCHS = 4, 8, 3
#: As many as it takes for the host's loss to be divided by what is in a rank's pictures, which is 1 at least.
OBJECTS = [(16 * column + 8, 16 * row + 8) for row in range(4) for column in range(4)]
SHORT = (
    "device=cpu imgsz=64 batch=8 nbs=8 plots=False teacher_precision=fp32 amp=False warmup_epochs=0 cwd=1 force=true"
)
AS_THEY_ARE = "mosaic=0 hsv_h=0 hsv_s=0 hsv_v=0 translate=0 scale=0 fliplr=0 erasing=0"


class Agents:
    """As many agents of torchrun as machines, with so many processes each; what they say is in `folder`."""

    def __init__(self, folder: Path, machines: int, *words: str, keep: Path | None = None, each: int = 2) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        meet = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"]
        run = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={machines}", f"--nproc-per-node={each}", *meet]
        start = ["-m", "yolo_distill"] if keep is None else [str(COMMAND)]
        self.files = [folder / f"said-{port}-{number}.txt" for number in range(machines)]
        self.agents = []
        for file in self.files:
            with file.open("w") as said:
                self.agents.append(
                    subprocess.Popen(
                        [*run, *start, "train", *words],
                        env=os.environ | ({} if keep is None else {"KEEP": str(keep)}),
                        stdout=said,
                        stderr=subprocess.STDOUT,
                    )
                )

    def wait(self, seconds: float) -> list[int]:
        ends = time.monotonic() + seconds
        try:
            return [agent.wait(timeout=max(ends - time.monotonic(), 0.1)) for agent in self.agents]
        finally:
            for agent in self.agents:
                agent.kill()

    def said(self) -> str:
        return "\n".join(file.read_text(errors="replace") for file in self.files)

    def processes(self) -> tuple[list[int], list[int]]:
        """Return those that torchrun started, and their workers."""
        ranks = [child for agent in self.agents for child in children(agent.pid)]
        return ranks, [worker for rank in ranks for worker in children(rank)]


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in threads for child in file.read_text().split()]


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.is_file() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def halves() -> tuple[int, list[int]]:
    """Return a seed, and which of the pictures are of a first kind, so that each rank has one of both in every epoch.

    Batch norm then sees in each what it sees in all of them.
    """
    for seed in range(1000):
        shares = []
        for epoch, rank in itertools.product(range(EPOCHS), range(RANKS)):
            sampler = DistributedSampler(range(PICTURES), RANKS, rank, shuffle=True, seed=seed)
            sampler.set_epoch(epoch)
            shares.append(set(sampler))
        for first in itertools.combinations(range(PICTURES), PICTURES // 2):
            if all(len(share & set(first)) == 1 for share in shares):
                return seed, list(first)
    raise AssertionError


@pytest.mark.slow
def test_two_machines_come_to_the_weights_of_one_process(tmp_path, tiny_student, tiny_teacher, make_teacher):
    seed, first = halves()
    for split, count in (("train", PICTURES), ("val", 2)):
        for number in range(count):
            kind = number in first
            picture = np.full((64, 64, 3), 90 if kind else 60, np.uint8)
            for x, y in OBJECTS:
                cv2.circle(picture, (x, y), 5 + 2 * kind, (230, 210, 200), -1)
            for part in ("images", "labels"):
                (tmp_path / part / split).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "images" / split / f"{number}.png"), picture)
            (tmp_path / "labels" / split / f"{number}.txt").write_text(
                "".join(f"{int(kind)} {x / 64} {y / 64} {0.17 + 0.06 * kind} 0.2\n" for x, y in OBJECTS)
            )
    data = tmp_path / "data.yaml"
    data.write_text(f"path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: [disc, square]\n")
    student = make_teacher(tiny_student, {0: "disc", 1: "square"})
    words = [f"teacher={tiny_teacher}", f"student={student}", f"data={data}", f"seed={seed}", "optimizer=SGD"]
    words += [f"epochs={EPOCHS}", f"project={tmp_path}", "ramp_epochs=0", "init=student", "lr0=0.003"]
    words += [*SHORT.split(), *AS_THEY_ARE.split()]
    agents = Agents(tmp_path, 2, *words, "name=four", keep=tmp_path / "four.pt")
    assert agents.wait(500) == [0, 0], agents.said()[-3000:]
    alone = [sys.executable, str(COMMAND), "train", *words, "name=alone"]
    subprocess.run(alone, env=os.environ | {"KEEP": str(tmp_path / "alone.pt")}, check=True)
    four, one = (torch_load(tmp_path / f"{name}.pt") for name in ("four", "alone"))
    assert four.keys() == one.keys()
    assert any(name.startswith("cwd_") for name in four)
    start = torch_load(student)["model"].float().state_dict()["model.0.conv.weight"]
    assert (one["model.0.conv.weight"] - start).abs().max() > 1e-4  # it has learned
    for name, value in one.items():
        torch.testing.assert_close(
            four[name], value, rtol=1e-4, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}"
        )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes as Linux lists them")
@pytest.mark.parametrize(("victim", "seed"), [("rank", 0), ("worker", 1)])
def test_a_killed_process_ends_all_in_words_and_another_number_of_machines_goes_on(
    tmp_path, tiny_data, tiny_student, tiny_teacher, victim, seed
):
    words = [f"teacher={tiny_teacher}", f"student={tiny_student}", f"data={tiny_data}", "epochs=30", *SHORT.split()]
    agents = Agents(tmp_path, 2, *words, f"project={tmp_path}", "name=run")
    last = tmp_path / "run" / "weights" / "last.pt"
    while not last.is_file():
        time.sleep(0.1)
        assert all(agent.poll() is None for agent in agents.agents), agents.said()[-3000:]
    ranks, workers = agents.processes()
    os.kill(random.Random(seed).choice(ranks if victim == "rank" else workers), signal.SIGKILL)
    assert 0 not in agents.wait(60)
    assert "yolo-distill: " in agents.said()
    assert f"train resume={last}" in agents.said()
    ends = time.monotonic() + 10
    while any(map(is_running, ranks + workers)):
        assert time.monotonic() < ends
    done = len(read_columns(last.parents[1] / "results.csv")["epoch"])
    again = Agents(tmp_path, 1, f"resume={last}")
    assert again.wait(500) == [0], again.said()[-3000:]
    epochs = read_columns(last.parents[1] / "results.csv")["epoch"]
    assert epochs == list(range(1, 31))
    assert 0 < done < 30
    assert (last.parents[1] / "summary.json").is_file()
