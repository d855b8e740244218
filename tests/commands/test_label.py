"""`yolo-distill label` as a person types it."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from live_detector import draw
from made_detector import write_video

from yolo_distill import cli


@pytest.fixture
def weights(tiny_teacher):
    """Return a checkpoint of discs and squares that was made for 64 px."""
    return tiny_teacher


@pytest.fixture(autouse=True)
def _pictures(tmp_path):
    """Put pictures and a video into the working folder."""
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(draw(5, 80, 120)):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), picture)
    write_video(tmp_path / "film.avi")


def label(weights, *words):
    return cli.main(["label", f"teacher={weights}", "out=out", "device=cpu", *words])


def test_a_teacher_pictures_and_a_video(weights, capsys):
    assert label(weights, "source=in,film.avi", "every=4", "similar=0") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("warning: without data= there are no true labels")
    assert said[1] == "thresholds: disc 0.25 (conf=), square 0.25 (conf=)"
    assert said[2].startswith("8 pictures (3 of them frames of videos)")
    assert said[3:] == [f"data set: {Path('out/data.yaml')}", f"look at it first: {Path('out/contact-sheet.html')}"]
    assert yaml.safe_load(Path("out/label.json").read_text())["settings"]["imgsz"] == 64
    assert yaml.safe_load(Path("out/data.yaml").read_text())["names"] == {0: "disc", 1: "square"}
    assert len(list(Path("out/labels/train").iterdir())) == 8
    assert label(weights, "source=in,film.avi", "every=4", "similar=0") == 0
    assert "is finished already" in capsys.readouterr().out


def test_what_cannot_be_read_is_named(weights, capsys):
    Path("in/cut.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))[1].tobytes()[:200])
    Path("in/no.mp4").write_bytes(b"no video")
    assert label(weights, "source=in") == 1
    said = capsys.readouterr()
    assert "5 pictures, " in said.out
    assert "2 unread" in said.out
    for name in ("cut.jpg: cannot be decoded as a picture", "no.mp4: cannot be opened as a video"):
        assert f"{Path('in').absolute()}/{name}" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["source=in", "teacher=none.pt"], "teacher=none.pt: no such file"),
        (["source=in", "teacher=yolo26n.yaml"], "teacher=yolo26n.yaml: is not a checkpoint"),
        ([], "source= is missing: pictures, folders"),
        (["source=in", "teacher="], "teacher= is missing: "),
        (["source=nowhere"], "source=nowhere: no such file or folder"),
        (["source=in", "shard=3/2"], "shard=3/2: out of range; give one of 1/2 to 2/2"),
        (["source=in", "imgsz=33"], "imgsz=33: does not fit the strides of the teacher; give 64"),
        (["source=in", "device=77"], "device=77: is not on this machine"),
        (["source=in", "empty=maybe"], "empty=maybe: not one of keep, drop"),
        (["source=in", "out=in"], "out=in: holds something else (0.png)"),
        (["source=in", "class_map=map.yaml"], "class_map: the teacher has no class 'cat'"),
        (["source=in", "data=none.yaml"], "data=none.yaml: no such file"),
        (["merge=true"], "out=out: holds no shards to merge"),
    ],
)
def test_bad_requests(weights, refused, words, said):
    Path("map.yaml").write_text("cat: animal\n")
    assert said in refused("label", f"teacher={weights}", "out=out", "device=cpu", *words)


def test_without_the_extra(weights, refused, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("yolo_distill.labelling")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "polars", None)
    line = refused("label", f"teacher={weights}", "out=out", "source=in")
    assert line == "label needs 'polars', which is not installed: pip install 'yolo-distill[train]'"
