"""Which pictures a data set has: those that the host finds there."""

from __future__ import annotations

import shutil
from pathlib import Path

from ultralytics.data.dataset import YOLODataset

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.engine.teacher_training import content_key


def test_linked_folders_count_and_hidden_files_do_not(own_data: Path, tmp_path: Path) -> None:
    train = own_data.parent / "images" / "train"
    (tmp_path / "elsewhere [old]").mkdir()
    shutil.move(train / "0.png", tmp_path / "elsewhere [old]" / "0.png")
    (train / "part").symlink_to(tmp_path / "elsewhere [old]")
    shutil.copy(train / "1.png", train / "._1.png")  # as macOS leaves them
    found = check_data(own_data, "train")
    host = YOLODataset(img_path=found["train"], data=found, task="detect", imgsz=64)
    assert pictures_of(found, "train") == sorted(host.get_img_files(found["train"]))
    assert len(pictures_of(found, "train")) == 8


def test_a_link_to_nothing_is_no_error_here(own_data: Path) -> None:
    (own_data.parent / "images" / "train" / "gone.png").symlink_to("nowhere.png")
    found = check_data(own_data, ("train", "val"))
    assert len(content_key("yolo26s.yaml", found, {})) == 8
