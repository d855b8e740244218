"""Labelled and unlabelled pictures in one batch: who is in it, and what the task's loss sees of it."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter

import pytest
import torch
from live_detector import live_detector
from made_criterion import SIZE, make_criterion
from tiny_yolo import write_architecture
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_dataloader
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.mixed_batches import LABELLED, MixedPictures, MixedSampler, labelled_part, mix
from yolo_distill.engine.step_cost import made_batch
from yolo_distill.models.architecture_files import load_architecture
from yolo_distill.teachers.yolo import YoloTeacher


class Few:
    """A data set of numbers."""

    def __init__(self, count, start=0):
        self.count, self.start, self.closed = count, start, False
        self.labels = [{"cls": index} for index in range(count)]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert 0 <= index < self.count
        picture = torch.full((3, 2, 2), self.start + index)
        return {"img": picture, "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4), "batch_idx": torch.zeros(0)}

    def close_mosaic(self, hyp):
        self.closed = True


@pytest.mark.parametrize(
    ("few", "many", "batch", "ratio"), [(5, 20, 8, 3.0), (7, 3, 4, 1.0), (1, 1, 2, 1.0), (9, 30, 4, 9.0)]
)
def test_every_batch_has_both_kinds_and_an_epoch_every_labelled_picture(few, many, batch, ratio):
    loader = build_dataloader(MixedPictures(Few(few), Few(many, start=100)), batch, workers=0)
    sampler = mix(loader, ratio, rank=-1, world=1, seed=0)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader) == -(-few // sampler.share)
        labelled = Counter()
        for one in batches:
            numbers = one["img"][:, 0, 0, 0].tolist()
            assert [number < 100 for number in numbers] == list(one[LABELLED])
            assert any(one[LABELLED])
            assert not all(one[LABELLED])
            labelled.update(number for number in numbers if number < 100)
        assert labelled == Counter(range(few))
    assert len(loader.sampler) == sum(len(one[LABELLED]) for one in batches)


@pytest.mark.parametrize(("many", "share"), [(2, 10), (10, 8), (1000, 8)])
def test_the_share_follows_what_there_is_up_to_one_for_one(many, share):
    loader = build_dataloader(MixedPictures(Few(10), Few(many)), 16, workers=0)
    assert mix(loader, None, rank=-1, world=1, seed=0).share == share


@pytest.mark.parametrize(("few", "many", "ratio", "world"), [(10, 50, 3.0, 3), (100, 103, 1.0, 2)])
def test_devices_share_the_labelled_pictures_in_every_epoch(few, many, ratio, world):
    """Also where one of them has read past the end of the unlabelled pictures, and another has not."""
    dataset = MixedPictures(Few(few), Few(many))
    samplers = [MixedSampler(dataset, 8, ratio, rank=rank, world=world, seed=5) for rank in range(world)]
    seen = []
    for _ in range(4):
        orders = [list(sampler) for sampler in samplers]
        assert {len(order) for order in orders} == {len(samplers[0])}
        shown = [index for order in orders for index in order if index < few]
        assert set(shown) == set(range(few))
        assert len(shown) == -(-few // world) * world  # padded to the same number everywhere
        if world == 3:  # there are enough for all
            others = [index for order in orders for index in order if index >= few]
            assert len(set(others)) == len(others)
        seen.append(orders)
    assert all(one != other for one, other in itertools.combinations(seen, 2))


def test_it_answers_as_the_labelled_set_does_and_survives_a_worker_process():
    dataset = MixedPictures(Few(3), Few(4, start=100))
    copied = pickle.loads(pickle.dumps(dataset))
    assert (len(copied), len(copied.labels)) == (7, 3)
    assert (copied[2][LABELLED], copied[3][LABELLED]) == (True, False)
    dataset.close_mosaic(None)
    assert dataset.labelled.closed
    assert dataset.unlabelled.closed


def test_the_pictures_that_mosaics_draw_from_are_numbered_as_all_are():
    loaded = []
    dataset = MixedPictures(Few(3), Few(4))
    dataset.labelled.buffer, dataset.unlabelled.buffer = [2, 0], [1, 3]
    dataset.labelled.load_image = lambda index: loaded.append(("labelled", index))
    dataset.unlabelled.load_image = lambda index: loaded.append(("unlabelled", index))
    assert dataset.buffer == [2, 0, 4, 6]
    for index in dataset.buffer:
        dataset.load_image(index)
    assert loaded == [("labelled", 2), ("labelled", 0), ("unlabelled", 1), ("unlabelled", 3)]


def mixed_batch(kinds):
    batch = made_batch(torch.rand(len(kinds), 3, SIZE, SIZE), objects=2)
    keep = torch.tensor([kinds[int(index)] for index in batch["batch_idx"]])
    for key in ("batch_idx", "cls", "bboxes"):
        batch[key] = batch[key][keep]
    return {**batch, LABELLED: tuple(kinds), "im_file": [f"{index}.jpg" for index in range(len(kinds))]}


@pytest.mark.parametrize("name", ["yolo26n.yaml", "yolov8n.yaml"])
@pytest.mark.parametrize("kinds", [(True, False), (False, True, False), (True, False, True)], ids=str)
def test_the_task_gives_an_unlabelled_picture_a_gradient_of_exactly_zero(name, kinds):
    torch.manual_seed(0)
    model = DetectionModel(name, nc=3, verbose=False).train()
    model.args = get_cfg()
    host = model.init_criterion()
    batch = mixed_batch(kinds)
    preds = model(batch["img"])
    outputs = [preds[name] for name in ("one2many", "one2one")] if "one2many" in preds else [preds]
    for output in outputs:
        output["scores"].retain_grad()
        output["boxes"].retain_grad()
    part = labelled_part(preds, batch)
    loss, _ = host(*part)
    loss.sum().backward()
    for output in outputs:
        for index, labelled in enumerate(kinds):
            assert (output["scores"].grad[index].abs().sum() > 0) == labelled
            assert (output["boxes"].grad[index].abs().sum() > 0) == labelled
    # It is the loss of these pictures alone.
    rows = [index for index, labelled in enumerate(kinds) if labelled]
    alone, _ = host(part[0], {**batch, "img": batch["img"][rows], "batch_idx": part[1]["batch_idx"]})
    torch.testing.assert_close(loss, alone)
    assert labelled_part(preds, {**batch, LABELLED: (True,) * len(kinds)}) is None  # left as it is


@pytest.mark.parametrize("overlap", [True, False])
def test_masks_are_those_of_the_labelled_pictures(overlap, tmp_path):
    """As many objects as pictures, so that the number of masks does not say which of the two they are of."""
    model = load_architecture(write_architecture(tmp_path / "small.yaml", task="segment"), 2).train()
    model.args = get_cfg(overrides={"overlap_mask": overlap})
    pictures = torch.rand(3, 3, SIZE, SIZE)
    alone = made_batch(pictures[1:2], objects=3, model=model)
    assert len(alone["masks"]) == (1 if overlap else 3)
    around = torch.zeros(1, *alone["sem_masks"].shape[1:])
    masks = torch.cat([around, alone["masks"], around]) if overlap else alone["masks"]
    batch = {**alone, "img": pictures, "masks": masks, "batch_idx": alone["batch_idx"] + 1}
    batch |= {"sem_masks": torch.cat([around, alone["sem_masks"] + 1, around])}
    batch |= {LABELLED: (False, True, False), "im_file": ["0", "1", "2"]}
    preds = model(pictures)
    criterion = make_criterion(model, None)
    criterion.until = 0
    loss, _ = criterion(preds, batch)
    part, _ = labelled_part(preds, batch, overlap=overlap)
    wanted, _ = criterion.host(part, {**alone, "sem_masks": alone["sem_masks"] + 1})
    torch.testing.assert_close(loss[: len(wanted)], wanted * 3)


def test_terms_teach_all_pictures_and_the_task_keeps_its_proportion():
    torch.manual_seed(0)
    student = DetectionModel("yolo26n.yaml", nc=3, verbose=False).train()
    student.args = get_cfg()
    teacher = YoloTeacher(live_detector("yolo26n.yaml", "abc"))
    criterion = make_criterion(student, teacher, ramp_epochs=0)
    batch = mixed_batch((True, False, False, False))
    preds = student(batch["img"])
    preds["one2many"]["scores"].retain_grad()
    loss, _ = criterion(preds, batch)
    (part, own) = labelled_part(preds, batch)
    alone, _ = criterion.host(part, own)
    torch.testing.assert_close(loss[:3], alone * 4)  # as many pictures speak, as the terms count
    loss[3:].sum().backward()
    assert all(gradient.abs().sum() > 0 for gradient in preds["one2many"]["scores"].grad)
