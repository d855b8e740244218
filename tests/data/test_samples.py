"""A few pictures of the run, as the student will see them."""

import cv2
import numpy as np
import pytest
import torch
from ultralytics.data import YOLODataset

from yolo_distill.data.samples import sample_pictures


@pytest.fixture
def pictures(tmp_path):
    """Return a data set of three pictures of one colour each, one wide, one tall, one small."""
    for name, (height, width), colour in (("a", (40, 80), (255, 0, 0)), ("b", (80, 40), 0), ("c", (20, 20), 255)):
        picture = np.empty((height, width, 3), np.uint8)
        picture[:] = colour
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    return {"train": str(tmp_path), "channels": 3}


def test_they_are_letterboxed_rgb_in_0_to_1(pictures):
    found = sample_pictures(pictures, 64, 8)
    assert found.shape == (3, 3, 64, 64)
    assert found.dtype == torch.float32
    assert found[0, :, 32, 32].tolist() == [0, 0, 1]  # blue, which the file has first
    assert found[0, :, 2, 32].tolist() == pytest.approx([114 / 255] * 3)
    assert (found[2] == 1).all()
    few = sample_pictures(pictures, 64, 2)  # from all over
    assert [bool((picture == 1).all()) for picture in few] == [False, True]
    for fraction, count in ((0.67, 2), (2, 2), ([0.1], 1), (9, 3)):  # the first ones, as the host has it
        found = sample_pictures(pictures, 64, 8, fraction)
        own = YOLODataset(
            img_path=pictures["train"], data={"names": {0: "a"}, "channels": 3}, augment=False, fraction=fraction
        )
        assert len(found) == len(own) == count


def test_a_file_that_can_not_be_read_is_left_to_the_host(pictures, tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"")
    assert sample_pictures(pictures, 64, 8).shape == (1, 3, 64, 64)


def test_grey_pictures_and_many_channels(pictures, tmp_path):
    assert sample_pictures({**pictures, "channels": 1}, 64, 8).shape == (3, 1, 64, 64)
    pages = [np.full((20, 20), 20 * (page + 1), np.uint8) for page in range(5)]
    (tmp_path / "deep").mkdir()
    cv2.imwritemulti(str(tmp_path / "deep" / "a.tiff"), pages)
    found = sample_pictures({"train": str(tmp_path / "deep"), "channels": 5}, 64, 8)
    assert found.shape == (1, 5, 64, 64)
    assert found[0, :, 32, 32].mul(255).round().tolist() == [20, 40, 60, 80, 100]
