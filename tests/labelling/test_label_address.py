"""Sources and data sets at addresses: what is done lies there, and on no machine; the data set is that of folders."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import fsspec
import polars as pl
import pytest
from made_labelling import at, content, followed, opener, request, start, write_film, write_pictures

from yolo_distill.cli import main
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.labelling.finalise import merge
from yolo_distill.labelling.run import label
from yolo_distill.shard import Shard


def silent(line: str) -> None:
    pass


def rows(out: Path) -> pl.DataFrame:
    """Return what was said, but where the pictures lay."""
    return pl.read_parquet(out / "soft" / "part-*.parquet").sort("number", "frame").drop("source")


@pytest.mark.slow
def test_killed_at_an_address(tmp_path):
    source, whole, there = tmp_path / "in", tmp_path / "whole", tmp_path / "there"
    write_pictures(source, 150)
    (source / "0003.jpg").write_bytes(b"")
    write_film(source / "film.avi", 300, change=2)
    label(request(source, whole, every=2), opener=opener, say=silent)
    address, seen = f"file://{there}", {}
    for machine, wanted in (("a", 2), ("b", 5)):
        process = start(f"file://{source}", tmp_path / machine, slow=0.05, address=address, every=2)
        deadline = time.monotonic() + 240
        while len(list((there / "soft").glob("part-*"))) < wanted:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)  # into the next one
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (there / "data.yaml").exists()
        now = {part.name: part.stat().st_mtime_ns for part in (there / "soft").iterdir()}
        assert seen.items() <= now.items()  # what was done is not done again
        seen = now
    label(request(f"file://{source}", **at(address, tmp_path / "c", every=2)), opener=opener, say=silent)
    assert {part.name: part.stat().st_mtime_ns for part in (there / "soft").iterdir()}.items() >= seen.items()
    assert content(there) == followed(content(whole))
    assert rows(there).equals(rows(whole))
    assert (there / "data.yaml").read_bytes() == (whole / "data.yaml").read_bytes()
    assert (there / "contact-sheet.html").is_file()
    assert not list(there.rglob(".*"))
    assert not list((tmp_path / "c").rglob("*.txt"))


def test_pictures_from_an_address_are_copied_into_a_folder(tmp_path):
    write_pictures(tmp_path / "in", 3)
    (tmp_path / "in" / "0001.jpg").write_bytes(b"")
    (tmp_path / "in" / "notes.txt").touch()
    whole, out = tmp_path / "whole", tmp_path / "out"
    label(request(tmp_path / "in", whole), opener=opener, say=silent)
    found = label(request(f"file://{tmp_path}/in", out), opener=opener, say=silent)
    assert (found.pictures, found.unread) == (2, 1)
    assert content(out) == followed(content(whole))
    assert rows(out).equals(rows(whole))


def test_shards_at_an_address_from_machines_that_share_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(type(memory := fsspec.filesystem("memory")), "store", {})
    write_pictures(source := tmp_path / "in", 130)
    label(request(source, whole := tmp_path / "whole"), opener=opener, say=silent)
    asked = at("memory://set", tmp_path / "first", shard=Shard(1, 2))
    label(request(source, **asked), opener=opener, say=silent)
    with pytest.raises(DistillError, match="not done yet: shard 2/2"):
        merge(**at("memory://set", tmp_path / "merged"))
    asked = at("memory://set", tmp_path / "second", shard=Shard(2, 2))
    label(request(source, **asked), opener=opener, say=silent)
    found = merge(**at("memory://set", tmp_path / "merged"))
    assert (found.pictures, found.data) == (130, None)
    there = {name.removeprefix("/set/"): memory.cat(name) for name in memory.find("/set")}
    expected = followed(content(whole))
    assert {name.replace("/train/", "/"): there[name] for name in there if "/train/" in name} == expected
    assert there["data.yaml"] == (whole / "data.yaml").read_bytes()
    again = merge(**at("memory://set", tmp_path / "fourth"))
    assert again.boxes == found.boxes
    memory.rm("/set", recursive=True)
    with pytest.raises(RequestError, match="out=memory://set: its data set is gone; delete"):
        at("memory://set", tmp_path / "merged")
    memory.pipe_file("/set/notes.txt", b"x")
    with pytest.raises(RequestError, match=r"out=memory://set: holds something else \(notes.txt\)"):
        at("memory://set", tmp_path / "fifth")


@pytest.mark.slow
def test_from_s3_to_s3_and_what_it_says(bucket, tiny_teacher, tmp_path, capsys):
    write_pictures(tmp_path / "in", 2)
    bucket.put(str(tmp_path / "in"), "bucket/in/a", recursive=True)
    own = ["label", f"teacher={tiny_teacher}", "imgsz=64", "device=cpu"]
    for words, code, said in (
        (["source=s3://nobodys/in", "out=out"], 2, "source=s3://nobodys/in: no picture or video is there"),
        (["source=s3://bucket/in", "out=out"], 2, "(for folders below: s3://bucket/in/**/*)"),
        (["source=in", "out=s3://nobodys/set"], 1, "out=s3://nobodys/set: can't be reached (The specified bucket"),
    ):
        assert main([*own, *words]) == code
        assert said in capsys.readouterr().err.splitlines()[-1]
    for _ in range(2):
        assert main([*own, "source=s3://bucket/**/*", "out=s3://bucket/set"]) == 0
        assert "data set: s3://bucket/set/data.yaml" in capsys.readouterr().out
        there = {name.removeprefix("bucket/set/") for name in bucket.find("bucket/set")}
        pairs = {
            f"{kind}/train/0000000{n}-000{n}.{end}"
            for n in (0, 1)
            for kind, end in (("images", "jpg"), ("labels", "txt"))
        }
        more = {"contact-sheet.html", "data.yaml", "label.json", "shards/1-of-1.json", "soft/part-00000000.parquet"}
        assert there == pairs | more
