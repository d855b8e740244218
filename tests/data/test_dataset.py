"""Which pictures a data set has: those that the host finds there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from ultralytics.data.dataset import YOLODataset

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.engine.teacher_training import content_key
from yolo_distill.errors import RequestError


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


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"kpt_shape": [4]}, "kpt_shape is [4]; expected keypoints and values of each, as [17, 3]"),
        ({"kpt_shape": "4x3"}, "kpt_shape is '4x3'; "),
        ({"kpt_shape": [4, 1]}, "kpt_shape is [4, 1]; "),
        ({"kpt_shape": [1_000_000_000, 3]}, "kpt_shape is [1000000000, 3]; "),
        ({"kpt_shape": [4, 3], "flip_idx": [0, 1]}, "flip_idx is [0, 1]; expected each number from 0 to 3 once"),
        ({"kpt_shape": [2, 3], "flip_idx": [1, 1]}, "flip_idx is [1, 1]; "),
        ({"kpt_shape": [2, 3], "flip_idx": "10"}, "flip_idx is '10'; "),
        ({"kpt_shape": [2, 3], "flip_idx": [[0], 1]}, "flip_idx is [[0], 1]; "),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1]}, "kpt_oks_sigmas is [0.1]; expected 2 numbers above 0"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1, "a"]}, "kpt_oks_sigmas is [0.1, 'a']; "),
    ],
)
def test_keys_about_keypoints_are_read_before_the_host_reads_them(
    keys: dict[str, Any], says: str, own_data: Path
) -> None:
    own_data.write_text(yaml.safe_dump({**yaml.safe_load(own_data.read_text()), **keys}))
    with pytest.raises(RequestError) as caught:
        check_data(own_data)
    assert f"data={own_data}: {says}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n \n", "0\n"])
def test_label_files_without_a_box_are_no_labels(text: str, own_data: Path) -> None:
    labels = sorted((own_data.parent / "labels" / "test").glob("*.txt"))
    for label in labels:
        label.write_text(text)
    with pytest.raises(RequestError, match="none of the 4 pictures of test has a label"):
        check_data(own_data, "test")
    labels[-1].write_text(f"{text}\n0 0.5 0.5 0.1 0.1")
    check_data(own_data, "test")


def test_a_list_of_pictures_that_is_none(own_data: Path) -> None:
    """A picture in its place, and one in another encoding, which the host reads as UTF-8 too."""
    picture = own_data.parent / "images" / "train" / "0.png"
    (own_data.parent / "list.txt").write_bytes("./images/train/höhe.png\n".encode("latin-1"))
    for name in (str(picture), "list.txt"):
        own_data.write_text(yaml.safe_dump({**yaml.safe_load(own_data.read_text()), "train": name}))
        with pytest.raises(
            RequestError, match=r"data=.*: \S+(0\.png|list\.txt) of train is no list of pictures in UTF-8"
        ):
            check_data(own_data, "train")


@pytest.mark.parametrize("nc", ["2", 2.0])
def test_classes_are_counted_as_the_host_counts_them(nc: Any, own_data: Path) -> None:
    own_data.write_text(yaml.safe_dump({**yaml.safe_load(own_data.read_text()), "nc": nc}))
    assert check_data(own_data)["nc"] == 2
