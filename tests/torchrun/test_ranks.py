"""What torchrun sets, and what is refused where it started several processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from yolo_distill.engine.request_checks import for_all_ranks
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.torchrun import ranks

AS_TORCHRUN = {"TORCHELASTIC_RUN_ID": "7", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
SERVE = (
    "import json, sys; from yolo_distill.torchrun import ranks; sys.exit(ranks.serve(ranks.Place(*json.loads('{}'))))"
)


@pytest.fixture
def place(monkeypatch) -> ranks.Place:
    """Return the place of the first of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(ranks, "_by_torchrun", False)
    for name, value in {**AS_TORCHRUN, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    found = ranks.take_place()
    assert found is not None
    return found


def second(place: ranks.Place) -> subprocess.Popen[str]:
    """Start the second process."""
    where = json.dumps(place._replace(rank=1))
    return subprocess.Popen([sys.executable, "-c", SERVE.format(where)], stderr=subprocess.PIPE, text=True)


def test_the_environment_of_torchrun_is_taken_out_so_that_the_host_sees_one_process(place):
    assert place[:5] == (0, 0, 2, 1, "127.0.0.1")
    assert not {*AS_TORCHRUN, "MASTER_ADDR", "MASTER_PORT"} & os.environ.keys()
    assert ranks.take_place() is None


def test_processes_of_one_machine_can_not_be_reached_from_others(monkeypatch):
    one = {**AS_TORCHRUN, "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a.name.of.the.network", "MASTER_PORT": "29500"}
    monkeypatch.setattr(ranks, "_by_torchrun", False)
    for name, value in one.items():
        monkeypatch.setenv(name, value)
    found = ranks.take_place()
    with ranks._listening(found) as door:
        assert (found.address, door.getsockname()[0]) == ("127.0.0.1", "127.0.0.1")


def test_the_others_end_with_the_first_and_as_it_does(place):
    other = second(place)
    with pytest.raises(RequestError), ranks.Team(place):
        raise RequestError
    assert other.wait(20) == 1
    assert other.stderr.read() == ""  # it was said by the first


def test_a_process_that_is_gone_ends_the_first_in_words(place, capsys):
    other = second(place)

    def wait() -> None:
        with ranks.Team(place):
            other.kill()
            for _ in range(90):
                time.sleep(0.1)

    with pytest.raises(SystemExit) as ended:
        wait()
    assert ended.value.code == 1
    assert f"rank 1 on {socket.gethostname()} is gone, so all end; the same command" in capsys.readouterr().err


def test_a_first_process_that_is_gone_ends_the_others_in_words(place):
    other = second(place)
    links, _ = ranks._meet(place)
    links[1].close()
    assert other.wait(20) == 1
    assert "rank 0 on 127.0.0.1 is gone, so all end; the same command" in other.stderr.read()


@pytest.mark.slow
def test_a_worker_that_fails_ends_the_training_in_words(place):
    other = second(place)
    with (
        pytest.raises(DistillError, match=r"the worker of rank [01] on .* failed with exit code 1"),
        ranks.Team(place) as team,
    ):
        team.train(b"no pickle", 1, None)
    assert other.wait(20) == 1


def test_who_does_not_come_is_named(place, monkeypatch):
    monkeypatch.setattr(ranks, "MEETING", 0.2)
    with pytest.raises(DistillError, match="rank 1 did not come"):
        ranks.Team(place)


def test_who_has_not_come_is_named_where_torchrun_ends_the_first(place, monkeypatch, capsys):
    def accept(self):
        raise KeyboardInterrupt  # what its SIGTERM becomes

    monkeypatch.setattr(ranks.socket.socket, "accept", accept)
    with pytest.raises(KeyboardInterrupt):
        ranks.Team(place)
    assert "rank 1 had not come yet; start all again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "cpu", "batch": 6}, "batch=6: is divided among 4 processes; give a multiple, as batch=8"),
        ({"device": "cpu", "batch": -1}, "batch=-1: is divided among 4"),
        ({"device": "0"}, "device=0: torchrun started 2 processes on this machine; name 2 devices"),
    ],
)
def test_what_can_not_be_divided_among_all_is_refused(settings, said, monkeypatch):
    where = ranks.Place(0, 0, 4, 2, "127.0.0.1", "")
    monkeypatch.setattr(ranks, "_team", SimpleNamespace(place=where))
    with pytest.raises(RequestError, match=said):
        for_all_ranks(settings)
    assert for_all_ranks({"device": "0,1", "batch": 8})["device"] == "0,1"


def test_no_other_command_is_started_by_torchrun(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--master-port=0",
        "-m",
        "yolo_distill",
    ]
    ended = subprocess.run([*command, "val", "best.pt"], capture_output=True, text=True, check=False)
    assert ended.stderr.count("yolo-distill: torchrun starts train, and no val") == 1
