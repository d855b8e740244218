"""Labelled by actors of Ray, one of which is killed: the data set of the plain command, whoever did what."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from made_labelling import MadeTeacher, at, content, followed, opener, request, write_film, write_pictures

from yolo_distill.cluster import Cluster
from yolo_distill.errors import DistillError
from yolo_distill.labelling.ray_labellers import Actor, _answers
from yolo_distill.labelling.request import Unit
from yolo_distill.labelling.run import label


class Deadly(MadeTeacher):
    """Ends its process, without a word, at the first answer that any of its kind gives."""

    def __call__(self, images):
        died = Path(os.environ["DIED"])
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(images)


def open_deadly(asked):
    return Deadly(), 64


def rows(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "soft" / "part-*.parquet").sort("number", "frame")


def test_pictures_that_a_node_has_not_got_are_not_taken_for_unreadable(tmp_path):
    actor = Actor(lambda throughput, progress: pytest.fail("opened"), 1)
    done, skipped, lines, error = actor.do(Unit(0, [str(tmp_path / "0.jpg")]))
    assert (done, skipped, lines) == (0, 0, [])
    assert "source= has to be there on all nodes" in error


def test_without_the_raylet_nobody_waits_for_ever():
    class Ray:
        def wait(self, tasks, **how):
            return [], tasks

        def get_runtime_context(self):
            return SimpleNamespace(get_node_id=lambda: "here")

        def nodes(self):
            return [{"NodeID": "here", "Alive": False}, {"NodeID": "there", "Alive": True}]

    actor = SimpleNamespace(do=SimpleNamespace(remote=lambda unit: unit.first))
    with pytest.raises(DistillError, match="raylet on this machine was killed; what is done is kept, and the same"):
        next(_answers(Ray(), [actor], [Unit(0, ["0.jpg"])]))


@pytest.mark.slow
@pytest.mark.parametrize("address", [False, True])
def test_actors_make_the_data_set_of_the_plain_command(tmp_path, monkeypatch, capsys, address):
    """At an address, each actor works in a folder of its own."""
    source, whole, out = tmp_path / "in", tmp_path / "whole", tmp_path / "out"
    write_pictures(source, 200)
    (source / "0003.jpg").write_bytes(b"")
    write_film(source / "film.avi", 200, change=2)
    plain = label(request(source, whole, every=2), opener=opener, say=lambda line: None)
    capsys.readouterr()
    monkeypatch.setenv("DIED", str(tmp_path / "died"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    changes = {"every": 2, "cluster": Cluster("local", 0.5)}
    if address:
        asked = request(f"file://{source}", **at(f"file://{out}", tmp_path / "driver", **changes))
    else:
        asked = request(source, out, **changes)
    found = label(asked, opener=open_deadly, say=lambda line: None)
    assert (tmp_path / "died").exists()
    assert found.unread == plain.unread == 1
    assert "0003.jpg" in capsys.readouterr().err
    assert content(out) == (followed(content(whole)) if address else content(whole))
    assert rows(out).drop("source").equals(rows(whole).drop("source"))
    assert (out / "data.yaml").read_text() == (whole / "data.yaml").read_text()
