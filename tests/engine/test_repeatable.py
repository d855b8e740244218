"""Pictures by seed, epoch and index: the same ones each time, whatever came before."""

from __future__ import annotations

import random

import pytest
import torch

from yolo_distill.engine.repeatable import RepeatablePictures
from yolo_distill.engine.teacher_training import TeacherTrainer


@pytest.fixture
def dataset(settings):
    trainer = TeacherTrainer(overrides={**settings, "model": "yolo26n.yaml", "mixup": 0.5, "copy_paste": 0.5})
    trainer.model = trainer.get_model("yolo26n.yaml", verbose=False)
    return RepeatablePictures.of(trainer.build_dataset(trainer.data["train"], "train", 4), seed=1)


def test_an_epoch_comes_again(dataset):
    seen = {}
    for epoch in (0, 1, 2, 0, 1, 2):
        dataset.start_epoch(epoch)
        for index in random.sample(range(len(dataset)), len(dataset)):  # in whatever order
            random.random()
            seen.setdefault((index, epoch), []).append(dataset[index]["img"])
    assert all(torch.equal(first, second) for first, second in seen.values())
    for index in range(len(dataset)):
        epochs = [seen[index, epoch][0] for epoch in range(3)]
        assert not torch.equal(epochs[0], epochs[1])
        assert not torch.equal(epochs[1], epochs[2])
    assert not torch.equal(seen[0, 0][0], seen[1, 0][0])
