"""kill -9 in the middle, then the same command again: nothing is lost, nothing is there twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import polars as pl
import pytest
from made_labelling import content, opener, request, start, write_film, write_pictures

from yolo_distill.labelling.run import label


def rows(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "soft" / "part-*.parquet").sort("number", "frame")


def into_the_next_chunk(out: Path) -> bool:
    """Return whether there are more pictures and labels than the chunks that are done have."""
    return len(content(out)) > 2 * rows(out)["file"].drop_nulls().len()


@pytest.mark.slow
def test_killed_among_pictures_and_in_a_video(tmp_path):
    source, out, whole = tmp_path / "in", tmp_path / "out", tmp_path / "whole"
    write_pictures(source, 150)
    (source / "0003.jpg").write_bytes(b"")
    write_film(source / "film.avi", 300, change=2)
    label(request(source, whole, every=2), opener=opener, say=lambda line: None)
    every_part = sorted(path.name for path in (whole / "soft").iterdir())
    assert len(every_part) == 6
    for wanted in (2, 5):
        process = start(source, out, slow=0.05, every=2)
        deadline = time.monotonic() + 120
        while len(list((out / "soft").glob("part-*"))) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        while not into_the_next_chunk(out):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (out / "data.yaml").exists()
        done = sorted(path.name for path in (out / "soft").glob("part-*"))
        assert done == every_part[: len(done)]
    label(request(source, out, every=2), opener=opener, say=lambda line: None)
    assert content(out) == content(whole)
    assert rows(out).equals(rows(whole))
    assert rows(out).select("number", "frame").is_unique().all()
    assert (out / "data.yaml").read_bytes() == (whole / "data.yaml").read_bytes()
    assert not [path for path in out.rglob(".*") if path.suffix != ".lock"]


@pytest.mark.parametrize("when", ["pictures", "film"])
def test_interrupted(tmp_path, capsys, when):
    source, out = tmp_path / "in", tmp_path / "out"
    if when == "pictures":
        write_pictures(source, 100)
    else:
        source.mkdir()
        write_film(source / "film.avi", 100)

    class Stopped(type(opener(request(source, out))[0])):
        def __call__(self, images):
            if len(self.sizes) == 5:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        label(request(source, out, every=1), opener=lambda asked: (Stopped(), 64), say=lambda line: None)
    assert capsys.readouterr().err.endswith("what is done is kept, and the same command goes on\n")
    assert len(list((out / "soft").iterdir())) == 1
