"""Unlabelled pictures are gathered without their labels, and none on which the student is measured is among them."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_distill.data import unlabelled
from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.data.unlabelled import check_unlabelled, gather_unlabelled, unlabelled_ratio
from yolo_distill.errors import RequestError
from yolo_distill.recipe import make_recipe


@pytest.fixture
def data(tiny_data):
    return check_data(tiny_data, ("train", "val", "test"))


def gather(data, source, **settings):
    return gather_unlabelled(make_recipe({"teacher": "-", "unlabeled": str(source), **settings}), data, Path("runs"))


def check(data, source):
    check_unlabelled(make_recipe({"teacher": "-", "unlabeled": str(source)}), data, Path("runs"))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def picture(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.random.default_rng(seed).integers(0, 255, (32, 40, 3), dtype=np.uint8))
    return file


def test_labels_beside_the_pictures_are_not_taken_along(data, tmp_path):
    for number in range(3):
        file = picture(tmp_path / "images" / "raw" / f"{number}.jpg", number)
        label = tmp_path / "labels" / "raw" / f"{file.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.2 0.2\n")
    folder = gather(data, tmp_path / "images" / "raw")
    assert names(folder) == ["000000_0.jpg", "000001_1.jpg", "000002_2.jpg"]
    assert [label.read_text() for label in folder.parent.rglob("*.txt")] == [""] * 3


def test_folders_with_the_same_names_patterns_and_videos(data, tmp_path):
    for folder in "ab":
        picture(tmp_path / folder / "same.jpg", ord(folder))
        video = cv2.VideoWriter(str(tmp_path / folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, (48, 32))
        for number in range(7):
            video.write(np.full((32, 48, 3), 30 * number, np.uint8))
        video.release()
    folder = gather(data, f"{tmp_path / '*' / 'same.jpg'},{tmp_path / '*' / 'clip.mp4'}", unlabeled_every=3)
    films = [f"00000{film}_clip_00000{frame}.jpg" for film in (2, 3) for frame in (0, 3, 6)]
    assert names(folder) == ["000000_same.jpg", "000001_same.jpg", *films]


def test_the_ratio_is_that_of_the_pictures_that_a_run_sees(data, tmp_path):
    for number in range(2):
        picture(tmp_path / "raw" / f"{number}.jpg", number)
    folder = gather(data, tmp_path / "raw")
    (folder / "000000_0.npy").touch()  # of cache=disk
    labelled = len(pictures_of(data, "train"))
    for fraction, shown in ((1.0, labelled), (0.5, round(labelled / 2)), (1, labelled), ([3], 3)):
        recipe = make_recipe({"teacher": "-", "unlabeled": str(tmp_path / "raw")})
        assert unlabelled_ratio(recipe, data, Path("runs"), fraction) == min(1, 2 / shown)
    recipe = make_recipe({"teacher": "-", "unlabeled": str(tmp_path / "raw"), "unlabeled_ratio": 3.0})
    assert unlabelled_ratio(recipe, data, Path("runs"), 1.0) == 3
    assert unlabelled_ratio(make_recipe({"teacher": "-"}), data, Path("runs"), 1.0) == 0


def test_two_runs_side_by_side_share_one_folder(data, tmp_path, monkeypatch):
    picture(tmp_path / "raw" / "0.jpg", 0)
    look = unlabelled._without_known
    done = []

    def slowly(*given):
        found = look(*given)
        if not done:
            done.append(None)
            done[0] = gather(data, tmp_path / "raw")  # the other run begins, and is finished first
        return found

    monkeypatch.setattr(unlabelled, "_without_known", slowly)
    folder = gather(data, tmp_path / "raw")
    assert folder == done[0]
    assert names(folder) == ["000000_0.jpg"]
    assert names(folder.parent.parent) == [folder.parent.name]


def test_it_is_found_again_and_made_anew_when_something_changed_or_a_copy_was_cut_off(data, tmp_path):
    picture(tmp_path / "raw" / "0.jpg", 0)
    first = gather(data, tmp_path / "raw")
    assert gather(data, tmp_path / "raw") == first
    (first.parent / "unlabeled.json").unlink()
    (first / "000000_0.jpg").unlink()
    assert names(gather(data, tmp_path / "raw")) == ["000000_0.jpg"]
    picture(tmp_path / "raw" / "1.jpg", 1)
    assert gather(data, tmp_path / "raw") != first


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_picture_of_val_or_test_is_refused_whatever_it_is_called(split, data, tmp_path):
    picture(tmp_path / "raw" / "fine.jpg", 0)
    held_out = sorted(Path(data[split]).iterdir())[1]
    shutil.copy(held_out, tmp_path / "raw" / "renamed.png")
    for look in (check, gather):
        with pytest.raises(RequestError, match=rf"renamed\.png is .*{held_out.name}, on which the student is measured"):
            look(data, tmp_path / "raw")
        assert not Path("runs").exists()


def test_what_a_data_set_names_and_has_not_is_no_reason_to_fail(data, tmp_path):
    picture(tmp_path / "raw" / "0.jpg", 0)
    train = tmp_path / "train.txt"
    train.write_text("\n".join([*map(str, sorted(Path(data["train"]).iterdir())), str(tmp_path / "gone.png")]))
    less = {**data, "train": str(train), "test": str(tmp_path / "nowhere")}
    assert names(gather(less, tmp_path / "raw")) == ["000000_0.jpg"]
    # And of what `label` wrote its pictures are taken.
    made = tmp_path / "made"
    picture(made / "images" / "train" / "0.jpg", 0)
    (made / "label.json").write_text("{}")
    assert names(gather(less, made)) == ["000000_0.jpg"]


def test_no_pictures(data, tmp_path):
    (tmp_path / "empty").mkdir()
    for source in ("nowhere", tmp_path / "empty", " ", "s3://bucket/pictures"):
        with pytest.raises(RequestError, match="unlabeled"):
            gather(data, source)


def test_broken_pictures_and_those_of_train_are_left_out_and_said(data, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(unlabelled.LOGGER, "warning", said.append)
    monkeypatch.setattr(unlabelled.LOGGER, "info", said.append)
    for number in range(2):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / "raw" / f"broken{number}.jpg").write_bytes(b"no picture")
    with pytest.raises(RequestError, match="none of its 2 pictures can be read"):
        gather(data, tmp_path / "raw")
    picture(tmp_path / "raw" / "whole.jpg", 5)
    (tmp_path / "raw" / "broken.mp4").write_bytes(b"no video")
    shutil.copy(pictures_of(data, "train")[0], tmp_path / "raw" / "known.png")
    folder = gather(data, tmp_path / "raw")
    assert names(folder) == ["000000_whole.jpg"]
    assert any("broken.mp4 left out: no frame of it can be read" in line for line in said)
    for look in (gather, check):
        with pytest.raises(RequestError, match="in train already"):
            look(data, data["train"])
    assert any("1 pictures left out that are in train" in line for line in said)
    assert any("2 pictures left out that can't be read" in line and "broken1.jpg" in line for line in said)
