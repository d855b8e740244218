"""What `label source=` stands for: every file once, in one order, on every machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_labelling import write_film, write_pictures

from yolo_distill.errors import RequestError
from yolo_distill.labelling.request import CHUNK, units
from yolo_distill.shard import Shard
from yolo_distill.sources import Sources, find_sources


def names(paths):
    return [Path(path).name for path in paths]


def test_pictures_first_then_videos_each_once(tmp_path):
    write_pictures(tmp_path / "a", 3)
    write_film(tmp_path / "a" / "0001.avi", 2)
    write_pictures(tmp_path / "b" / "deep", 2)
    found = find_sources(
        f"{tmp_path}/a, {tmp_path}/b/**/*,{tmp_path}/a/0001.jpg,{tmp_path}/b/../a/0002.jpg", Path("out")
    )
    assert names(found.pictures) == ["0000.jpg", "0001.jpg", "0002.jpg", "0000.jpg", "0001.jpg"]
    assert names(found.videos) == ["0001.avi"]
    assert len(found) == 6
    assert all(Path(path).is_absolute() for path in found.pictures + found.given)


def test_a_folder_that_was_moved_is_the_same_and_one_that_changed_is_not(tmp_path):
    write_pictures(tmp_path / "a", 3)
    first = find_sources(str(tmp_path / "a"), Path("out"))
    (tmp_path / "a").rename(tmp_path / "moved")
    moved = find_sources(str(tmp_path / "moved"), Path("out"))
    assert moved.digest == first.digest
    (tmp_path / "moved" / "0001.jpg").write_bytes(b"another")
    assert find_sources(str(tmp_path / "moved"), Path("out")).digest != first.digest


def test_hidden_files_are_pictures_only_where_they_are_named(tmp_path):
    write_pictures(tmp_path / "a", 1)
    (tmp_path / "a" / "._0000.jpg").write_bytes(b"what macOS leaves")
    for source in (f"{tmp_path}/a", f"{tmp_path}/a/*", f"file://{tmp_path}/a", f"file://{tmp_path}/a/*"):
        assert names(find_sources(source, Path("out")).pictures) == ["0000.jpg"]
        named = f"{source.removesuffix('/*')}/._0000.jpg"
        assert names(find_sources(named, Path("out")).pictures) == ["._0000.jpg"]


def test_odd_names_and_results_inside_a_source():
    for folder, count in (("2023", 1), ("2024", 2), ("one, two", 1)):  # no camera, no two sources
        write_pictures(Path(folder), count)
    assert names(find_sources("2023,2024", Path("out")).pictures) == ["0000.jpg", "0000.jpg", "0001.jpg"]
    assert names(find_sources("one, two", Path("out")).pictures) == ["0000.jpg"]
    write_pictures(Path("2023/out/images/train"), 2, first=5)
    assert names(find_sources("2023/**/*", Path("2023/out")).pictures) == ["0000.jpg"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "source=nowhere: no such file or folder"),
        ("empty", r"source=empty: the folder holds no pictures or videos \(for folders below: empty/\*\*/\*\)"),
        ("empty/*.jpg", r"source=empty/\*.jpg: no picture or video matches"),
        ("0", "source=0: a camera or stream has no end"),
        ("rtsp://a/b", "a camera or stream has no end"),
        (" , ", "names nothing"),
        ("a/0000.jpg,nowhere", "source=nowhere: no such file"),
    ],
)
def test_what_is_refused(tmp_path, source, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    write_pictures(tmp_path / "a", 1)
    with pytest.raises(RequestError, match=said):
        find_sources(source, Path("out"))


def test_a_name_in_a_folder_whose_own_name_looks_like_a_pattern(tmp_path, monkeypatch):
    (tmp_path / "set[1]").mkdir()
    monkeypatch.chdir(tmp_path / "set[1]")
    with pytest.raises(RequestError, match="source=nowhere: no such file or folder"):
        find_sources("nowhere", Path("out"))


@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_shards_share_the_work(count):
    sources = Sources([], [f"{n}.jpg" for n in range(5 * CHUNK + 3)], ["a.avi", "b.avi"], "")
    parts = [list(units(sources, Shard(index, count))) for index in range(1, count + 1)]
    every = sorted((unit for part in parts for unit in part), key=lambda unit: unit.first)
    assert [file for unit in every for file in unit.files] == sources.pictures + sources.videos
    assert [unit.first for unit in every if unit.video] == [5 * CHUNK + 3, 5 * CHUNK + 4]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_links_at_an_address_are_pictures_as_in_a_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(b"12345")
    (tmp_path / "links" / "a.jpg").symlink_to(tmp_path / "real" / "a.jpg")
    found = find_sources(f"file://{tmp_path}/links", Path("out"))
    assert found.pictures == [f"file://{tmp_path}/links/a.jpg"]
    assert found.digest == find_sources(str(tmp_path / "links"), Path("out")).digest
