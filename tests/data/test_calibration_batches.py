"""Labelled batches of the training split, for the host's loss."""

import random

import numpy as np
import pytest
import torch
from ultralytics.cfg import get_cfg

from yolo_distill.data.calibration_batches import labelled_batches
from yolo_distill.data.dataset import check_data
from yolo_distill.errors import RequestError


@pytest.fixture
def data(tiny_data):
    return check_data(tiny_data, ("train", "val"))


def test_all_boxes_of_all_pictures_and_random_states_stay(data):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    batches = labelled_batches(get_cfg(), data, data["names"], imgsz=64, size=3)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert [len(batch["img"]) for batch in batches] == [3, 3, 2]
    assert all(batch["img"].shape[1:] == (3, 64, 64) for batch in batches)
    assert all(0 <= batch["img"].min() < batch["img"].max() <= 1 for batch in batches)
    labels = (data["path"] / "labels" / "train").glob("*.txt")
    assert sum(len(batch["bboxes"]) for batch in batches) == sum(len(f.read_text().splitlines()) for f in labels)
    assert all(len(b["cls"]) == len(b["bboxes"]) == len(b["batch_idx"]) for b in batches)
    assert set(torch.cat([batch["cls"] for batch in batches]).flatten().tolist()) == {0.0, 1.0}


def test_classes_are_the_models(data):
    ours = labelled_batches(get_cfg(), data, data["names"], imgsz=64, count=5)[0]
    assert len(ours["img"]) == 5
    theirs = labelled_batches(get_cfg(), data, {0: "dog", 5: "Square"}, imgsz=64, count=5)[0]
    squares = ours["cls"].flatten() == 1
    assert theirs["cls"].flatten().tolist() == [5.0] * int(squares.sum())
    torch.testing.assert_close(theirs["bboxes"], ours["bboxes"][squares], rtol=0, atol=0)
    torch.testing.assert_close(theirs["batch_idx"], ours["batch_idx"][squares], rtol=0, atol=0)


def test_a_model_that_knows_no_class_is_refused(data):
    says = r"knows none of the data's classes \(disc, square\); use init_channels=norm"
    with pytest.raises(RequestError, match=says):
        labelled_batches(get_cfg(), data, {0: "dog"}, imgsz=64)
