"""Views in turn: a picture looks the same each time its view comes, whatever came before."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch

from yolo_distill.engine.teacher_pace import owner_of
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.engine.views import ViewsInTurn
from yolo_distill.errors import RequestError
from yolo_distill.teachers.head import Needs


@pytest.fixture
def dataset(settings):
    trainer = TeacherTrainer(overrides={**settings, "model": "yolo26n.yaml", "mixup": 0.5, "copy_paste": 0.5})
    trainer.model = trainer.get_model("yolo26n.yaml", verbose=False)
    return ViewsInTurn.of(trainer.build_dataset(trainer.data["train"], "train", 4), 3, seed=1)


def test_views_come_again(dataset):
    seen = {}
    for epoch in range(6):
        dataset.start_epoch(epoch)
        for index in random.sample(range(len(dataset)), len(dataset)):  # in whatever order
            random.random()
            seen.setdefault((index, epoch % 3), []).append(dataset[index]["img"])
    assert all(torch.equal(first, second) for first, second in seen.values())
    for index in range(len(dataset)):
        views = [seen[index, view][0] for view in range(3)]
        assert not torch.equal(views[0], views[1])
        assert not torch.equal(views[1], views[2])
    assert not torch.equal(seen[0, 0][0], seen[1, 0][0])


def test_they_come_again_after_mosaic_is_closed(dataset):
    from copy import copy

    from ultralytics.cfg import get_cfg

    dataset.close_mosaic(copy(get_cfg(overrides={"mosaic": 1.0})))
    first, _ = dataset[2]["img"], dataset[3]
    assert torch.equal(dataset[2]["img"], first)


def test_chance_goes_on_as_if_nothing_was(dataset):
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    dataset[0]
    assert (random.random(), np.random.rand()) == expected


def test_another_kind_of_data_set():
    with pytest.raises(RequestError, match="views=3: not for a list"):
        ViewsInTurn.of([], 3, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["ram", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_reads_answers_back(kept, workers, settings, make_teacher, names, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    overrides = {
        **settings, "model": "yolo26n.yaml", "teacher": str(make_teacher("yolo26s.yaml", names)), "epochs": 4,
        "views": 2, "teacher_cache": kept, "workers": workers, "close_mosaic": 0,
    }  # fmt: skip
    trainer = DistillationTrainer(overrides=overrides)
    trainer.train()
    # 8 pictures, two views, four epochs. Workers fetch the first batches of an epoch while the last one's view is on.
    assert trainer.pace["asked"] + trainer.pace["read_back"] == 32
    assert trainer.pace["asked"] == 16 if not workers else 8 <= trainer.pace["asked"] <= 16
    assert f"teacher asked about {trainer.pace['asked']} pictures" in caplog.text
    assert "read back when one of the 2 views comes again" in caplog.text
    files = list((tmp_path / "teacher-cache").glob("*.sqlite"))
    assert len(files) == (kept == "disk")
    if kept == "disk" and not workers:
        again = DistillationTrainer(overrides={**overrides, "name": "again"})
        again.train()
        assert again.pace["asked"] == 0
        assert list((tmp_path / "teacher-cache").glob("*.sqlite")) == files


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher_cache": "ram"}, "teacher_cache=ram: pictures that are augmented anew never come twice; give views"),
        ({"teacher_cache": "ram", "views": 3, "cwd": 1.0}, "teacher_cache=ram: feature maps are too large"),
        ({"teacher_cache": "ram", "views": 3, "box_floor": 0.0}, "teacher_cache=ram: anchors .* give box_floor=0.01"),
        ({"teacher_cache": "memory"}, "teacher_cache=memory: input should be 'ram' or 'disk'"),
        ({"views": -1}, "views=-1"),
    ],
)
def test_what_can_not_be_kept(given, message, settings, make_teacher, names):
    teacher = str(make_teacher("yolo26s.yaml", names))
    with pytest.raises(RequestError, match=message):
        DistillationTrainer(overrides={**settings, "model": "yolo26n.yaml", "teacher": teacher, **given})._setup_train()


def test_answers_belong_to_a_teacher_and_the_way_it_is_asked(tmp_path):
    one, other = tmp_path / "one.pt", tmp_path / "other.pt"
    one.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    pictures = torch.rand(2, 3, 8, 8)
    owners = {
        owner_of(one, Needs(maps=False), "bf16", pictures),
        owner_of(other, Needs(maps=False), "bf16", pictures),
        owner_of(one, Needs(maps=False, one2one=False), "bf16", pictures),
        owner_of(one, Needs(maps=False, boxes=False), "bf16", pictures),
        owner_of(one, Needs(maps=False), "int8 by ONNX Runtime", pictures),
        owner_of(one, Needs(maps=False), "int8 by ONNX Runtime", pictures + 1),
    }
    assert len(owners) == 6
    assert owner_of(one, Needs(maps=False), "bf16", pictures + 1) in owners  # nothing is calibrated for it
