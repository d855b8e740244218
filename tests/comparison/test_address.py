"""Comparisons at an address: what is finished there is fetched, by whatever machine, and what is new is put."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile

from yolo_distill.address import Address, Mirror
from yolo_distill.cli import main
from yolo_distill.comparison import compare as compare_module
from yolo_distill.comparison import report
from yolo_distill.errors import DistillError
from yolo_distill.lock import lock

WORKER = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]


@pytest.fixture
def on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: Path, tiny_student: str, tiny_data: Path
) -> Callable[..., tuple[int, list[str]]]:
    """Return a function that gives a command on a machine; it returns the exit code, and which runs were begun."""
    notes = tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(notes))
    monkeypatch.setattr(compare_module, "compare", functools.partial(compare_module.compare, worker=WORKER))
    monkeypatch.setattr(report, "html_report", lambda summary, shown: "the page")
    own = ["compare", f"teacher={untrained}", f"student={tiny_student}", f"data={tiny_data}", "arms=plain,distilled"]
    own += ["epochs=2", "imgsz=64", "device=cpu", "amp=false", "teacher_precision=fp32", "force=true"]

    def give(machine: str, *words: str) -> tuple[int, list[str]]:
        (tmp_path / machine).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / machine)
        notes.write_text("")
        code = main([*own, *words])
        return code, [row["begins"] for row in map(json.loads, notes.read_text().splitlines()) if "begins" in row]

    return give


@pytest.mark.slow
def test_another_machine_goes_on_with_what_is_in_a_bucket(on: Any, bucket: Any, tmp_path: Path, capsys: Any) -> None:
    address = "out=s3://bucket/all/mine"
    assert on("first", address, "seeds=0") == (0, ["teacher", "plain-s0", "distilled-s0"])
    there = {name.removeprefix("bucket/all/mine/") for name in bucket.find("bucket/all/mine")}
    assert {"plan.json", "index.html", "table.md", "plain-s0/run.json", "distilled-s0/run.json"} <= there
    assert not [name for name in there if name.startswith(".")]
    assert on("second", address, "seeds=0,1") == (0, ["plain-s1", "distilled-s1"])
    assert on("first", address, "seeds=0,1", "merge=true") == (0, [])
    first, second = (tmp_path / one / "runs" / "s3" / "bucket" / "all" / "mine" for one in ("first", "second"))
    assert (first / "plain-s1" / "run.json").read_bytes() == (second / "plain-s1" / "run.json").read_bytes()
    assert json.loads((first / "comparison.json").read_text())["missing"] == []
    capsys.readouterr()
    assert on("third", "out=s3://nobodys/mine", "seeds=0") == (1, [])
    assert "out=s3://nobodys/mine: can't be reached (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["out=s3://bucket/all", "shard=1/2"], "out=s3://bucket/all: is an address; mount it as a folder"),
        (["out=never://bucket/all"], "out=never://bucket/all: can't be opened (Protocol not known: never"),
    ],
)
def test_what_cannot_be_at_an_address(on: Any, capsys: Any, words: list[str], says: str) -> None:
    assert on("first", *words) == (2, [])
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a file system that has nothing yet, and is only of this test."""
    system = fsspec.filesystem("memory")
    monkeypatch.setattr(type(system), "store", {})
    return system


def test_what_goes_here_goes_there_and_does_not_come_back(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mirror = Mirror(Address("memory://all/mine"))
    weights = mirror.folder / "plain-s0" / "weights"
    weights.mkdir(parents=True)
    for epoch in (1, 2):  # as a run keeps its state behind each epoch, and forgets that of the one before
        (weights / f"exact-{epoch - 1}.pt").unlink(missing_ok=True)
        (weights / f"exact-{epoch}.pt").write_bytes(b"state")
        mirror.put()
    assert memory.find("/all/mine") == ["/all/mine/plain-s0/weights/exact-2.pt"]
    other = Mirror(mirror.address, tmp_path / "other")
    for one in (Mirror(mirror.address), other):
        one.fetch(mirror.address.find())
        assert [file.name for file in one.folder.rglob("*.pt")] == ["exact-2.pt"]
    (weights / "exact-2.pt").rename(weights / "exact-3.pt")
    mirror.put()
    other.fetch(mirror.address.find())
    assert [file.name for file in other.folder.rglob("*.pt")] == ["exact-3.pt"]


def test_what_is_put_can_be_gone_on_from_at_every_moment(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch ends whenever something is put; lines of later epochs do no harm, lines that are missing would."""
    names = ["results.csv", "weights/best.pt", "weights/last.pt"]
    mirror, epoch, put = Mirror(Address("memory://mine"), tmp_path / "here"), 0, Address.put

    def ends(mirror: Mirror) -> None:
        nonlocal epoch
        epoch += 1
        for name in names:
            (file := mirror.folder / "plain-s0" / name).parent.mkdir(parents=True, exist_ok=True)
            file.write_text(str(epoch).zfill(epoch))

    def watched(address: Address, file: Path, name: str) -> str:
        version = put(address, file, name)
        found = [int(memory.cat(f"/mine/plain-s0/{one}")) for one in names if memory.exists(f"/mine/plain-s0/{one}")]
        assert found == sorted(found, reverse=True)
        ends(mirror)
        return version

    monkeypatch.setattr(Address, "put", watched)
    for _ in range(3):
        ends(mirror)
        mirror.put()
    assert [name.removeprefix("/mine/plain-s0/") for name in memory.find("/mine")] == names


def test_files_of_a_command_that_is_at_work_are_not_written_over(on: Any, memory: Any, tmp_path: Path) -> None:
    memory.pipe_file("/mine/teacher/log.txt", b"older")
    folder = tmp_path / "first" / "runs" / "memory" / "mine"
    folder.mkdir(parents=True)
    with lock(folder / ".lock", "is held here"):
        assert on("first", "out=memory://mine") == (2, [])
    assert not (folder / "teacher").exists()


def test_an_address_that_cannot_be_reached_is_not_asked_again_and_again(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mirror = Mirror(Address("memory://mine"))
    mirror.folder.mkdir(parents=True)
    (mirror.folder / "plan.json").touch()
    monkeypatch.setattr(type(memory), "put_file", lambda *given: 1 / 0)
    mirror._due = 0.0
    with pytest.raises(DistillError, match="out=memory://mine: can't be reached"):
        mirror.put(at_once=False)
    mirror.put(at_once=False)


def test_a_name_there_cannot_leave_the_folder_here(on: Any, memory: Any, tmp_path: Path, capsys: Any) -> None:
    memory.store["/stranger/../../evil"] = MemoryFile(data=b"x")
    assert on("first", "out=memory://stranger") == (1, [])
    assert "../../evil would be written outside the folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("evil"))
