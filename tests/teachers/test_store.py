"""Kept answers: shared, checked, and given up rather than wrong."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.teachers.store import FileStore, MemoryStore

ANSWERS = {b"one": b"1" * 500, b"two": b"2" * 700}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cache" / "owner.sqlite"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_put_is_got(kind, file):
    store = MemoryStore() if kind == "memory" else FileStore(file, "a")
    assert store.get([b"one"]) == {}
    store.put(ANSWERS)
    assert store.get([b"two", b"one", b"three"]) == ANSWERS


def test_a_file_outlives_the_run(file):
    FileStore(file, "a").put(ANSWERS)
    assert FileStore(file, "a").get(list(ANSWERS)) == ANSWERS


def test_a_file_of_another_teacher_is_made_anew(file, caplog):
    FileStore(file, "a").put(ANSWERS)
    assert FileStore(file, "b").get(list(ANSWERS)) == {}
    assert "belongs to another teacher; starting it anew" in caplog.text


def test_a_damaged_answer_is_dropped_and_said(file, caplog):
    store = FileStore(file, "a")
    store.put(ANSWERS)
    with sqlite3.connect(file) as base:
        base.execute("UPDATE answers SET answer = ? WHERE key = ?", (b"x" * 500, b"one"))
    assert store.get(list(ANSWERS)) == {b"two": ANSWERS[b"two"]}
    assert "1 damaged answers, asking the teacher again" in caplog.text
    store.put({b"one": ANSWERS[b"one"]})
    assert store.get(list(ANSWERS)) == ANSWERS


@pytest.mark.parametrize("left", [0, 700, 5000])
def test_a_file_that_was_cut_off_is_made_anew(left, file, caplog):
    store = FileStore(file, "a")
    store.put({str(i).encode(): os.urandom(2000) for i in range(50)})
    store._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store._base.close()
    file.write_bytes(file.read_bytes()[:left])
    again = FileStore(file, "a")
    again.get([str(i).encode() for i in range(50)])  # damage may lie further inside
    again.put(ANSWERS)
    assert again.get(list(ANSWERS)) == ANSWERS
    assert ("starting it anew" in caplog.text) == (left > 0)  # an empty file is an empty base


def test_something_else_under_its_name_is_made_anew(file):
    file.parent.mkdir()
    file.write_text("hello, I am no base at all" * 100)
    store = FileStore(file, "a")
    store.put(ANSWERS)
    assert store.get(list(ANSWERS)) == ANSWERS


def test_a_place_that_can_not_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(RequestError, match=r"teacher_cache=disk: .*can't be written .*use teacher_cache=ram"):
        FileStore(tmp_path / "cache" / "owner.sqlite", "a")
    (tmp_path / "taken.sqlite").mkdir()
    with pytest.raises(RequestError, match=r"can't be written"):
        FileStore(tmp_path / "taken.sqlite", "a")


def test_a_full_disk_is_said_once_and_what_is_there_stays(file, caplog):
    store = FileStore(file, "a")
    store.put(ANSWERS)
    pages = store._base.execute("PRAGMA page_count").fetchone()[0]
    store._base.execute(f"PRAGMA max_page_count={pages}")  # what SQLite reports as a full disk
    for i in range(3):
        store.put({f"more{i}".encode(): os.urandom(50_000)})
    assert caplog.text.count("no more answers are kept (database or disk is full)") == 1
    assert store.get(list(ANSWERS)) == ANSWERS


def _write(file, who) -> None:
    store = FileStore(file, "a")
    for i in range(40):
        store.put({f"{who}-{i}".encode(): f"{who}{i}".encode() * 50, b"shared": b"the same"})


def test_two_runs_at_once(file):
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=_write, args=(file, who)) for who in "ab"]
    for run in runs:
        run.start()
    for run in runs:
        run.join(timeout=120)
        assert run.exitcode == 0
    keys = [f"{who}-{i}".encode() for who in "ab" for i in range(40)]
    found = FileStore(file, "a").get([*keys, b"shared"])
    assert len(found) == 81
    assert found[b"b-7"] == b"b7" * 50
