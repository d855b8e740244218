"""Each picture is taught by a teacher that has not seen it, and no mosaic mixes what different teachers know."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from live_detector import live_detector
from ultralytics.cfg import get_cfg
from ultralytics.data import YOLODataset

from yolo_distill.engine.data import check_data, pictures_of
from yolo_distill.engine.folds import WithinFolds, classes_in, deal, read_folds, train_folds
from yolo_distill.engine.views import walk_transforms
from yolo_distill.errors import RequestError
from yolo_distill.teachers.folded import FoldedTeacher
from yolo_distill.teachers.yolo import YoloTeacher

SIZE = 64


@pytest.fixture
def data(tiny_data):
    return check_data(tiny_data, ("train", "val"))


@pytest.fixture
def dataset(data):
    hyp = get_cfg(overrides={"mosaic": 1.0, "mixup": 1.0, "cutmix": 0.0})
    return YOLODataset(img_path=data["train"], data=data, imgsz=SIZE, augment=True, hyp=hyp, task="detect")


def folds_of(dataset):
    return {file: index % 2 for index, file in enumerate(dataset.im_files)}


def test_every_mixture_stays_within_the_fold_of_its_first_picture(dataset):
    within = WithinFolds.of(dataset, folds_of(dataset))
    loaded: list[int] = []
    host = YOLODataset.get_image_and_label
    within.get_image_and_label = lambda index: (loaded.append(index), host(within, index))[1]
    for index in (0, 3, 6):
        loaded.clear()
        for _ in range(6):
            within[index]
        assert len(set(loaded)) > 2  # it does mix
        assert {i % 2 for i in loaded} == {index % 2}


def test_it_still_does_after_the_transforms_are_built_anew_and_after_a_pickle(dataset):
    within = WithinFolds.of(dataset, folds_of(dataset))
    within.transforms = within.build_transforms(get_cfg(overrides={"mosaic": 1.0}))
    copied = pickle.loads(pickle.dumps(within))
    for one in (within, copied):
        chooser = next(t for t in walk_transforms(one.transforms) if hasattr(t, "get_indexes")).get_indexes
        one._current = 1
        assert {i % 2 for i in chooser()} == {1}
        assert chooser.dataset is one


def test_a_mixed_listing_is_dealt_in_stretches_one_a_fold():
    assert deal([frozenset({0, 1})] * 7, 3) == [0, 0, 0, 1, 1, 2, 2]
    assert deal([frozenset()] * 4, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_listing_sorted_by_class_keeps_no_teacher_from_a_class(count):
    classes = [frozenset({0})] * 30 + [frozenset({1})] * 50 + [frozenset({2, 1})] * 20
    folds = deal(classes, count)
    assert set(folds) == set(range(count))
    for fold in range(count):
        seen = [found for found, own in zip(classes, folds, strict=True) if own != fold]
        for one in range(3):
            share = sum(one in found for found in seen) / sum(one in found for found in classes)
            assert share >= (count - 1) / count / 2
    # In stretches all the same: no more seams between folds than that takes.
    assert sum(a != b for a, b in pairwise(folds)) < 50


def test_a_class_of_one_picture_does_not_cut_the_rest_into_pieces():
    assert deal([frozenset({0})] * 9 + [frozenset({1})], 2) == [0] * 5 + [1] * 5


def test_classes_of_label_files(tmp_path):
    label = tmp_path / "a.txt"
    assert classes_in(label) == frozenset()
    label.write_text("2 0.5 0.5 0.1 0.1\n\n0.0 0.1 0.1 0.2 0.1 0.2 0.2\nx\n2 0.4 0.4 0.1 0.1\n")
    assert classes_in(label) == {0, 2}


def test_pictures_without_a_fold_are_refused(dataset):
    with pytest.raises(RequestError, match="in no fold; the data has changed"):
        WithinFolds.of(dataset, {})


def teacher(seed):
    return YoloTeacher(live_detector("yolo26n.yaml", ["a", "b"], seed=seed))


def test_each_picture_gets_the_answer_of_its_own_teacher():
    teachers = [teacher(0), teacher(1)]
    images = torch.rand(4, 3, SIZE, SIZE)
    folded = FoldedTeacher(teachers, {"a": 1, "b": 0, "c": 1, "d": 0})
    answer = folded.of_batch({"img": images, "im_file": ["a", "b", "c", "d"]})
    for place, number in enumerate((1, 0, 1, 0)):
        alone = teachers[number](images[place : place + 1])
        for branch in ("one2many", "one2one"):
            got, expected = getattr(answer, branch), getattr(alone, branch)
            torch.testing.assert_close(got.logits[place : place + 1], expected.logits, atol=5e-3, rtol=1e-3)
            torch.testing.assert_close(got.sides[place : place + 1], expected.sides, atol=5e-3, rtol=1e-3)
    other = folded.of_batch({"img": images, "im_file": ["b", "a", "d", "c"]})
    assert not torch.allclose(other.one2many.logits, answer.one2many.logits, atol=1e-3)


def test_a_picture_of_no_fold_is_an_error_and_no_file_at_all_is_the_first_teachers():
    folded = FoldedTeacher([teacher(0), teacher(1)], {"a": 1})
    images = torch.rand(1, 3, SIZE, SIZE)
    with pytest.raises(RequestError, match=r"z\.jpg is in no fold"):
        folded.of_batch({"img": images, "im_file": ["z.jpg"]})
    torch.testing.assert_close(
        folded.of_batch({"img": images}).one2many.logits, folded.teachers[0](images).one2many.logits
    )


@pytest.mark.slow
def test_fold_teachers_are_trained_without_their_pictures_and_found_again(data, settings, tmp_path, train, monkeypatch):
    best = tmp_path / "teacher" / "weights" / "best.pt"
    short = {k: v for k, v in settings.items() if k not in {"name"}}
    train_folds("yolo26n.yaml", data, short, None, 2, best)
    teachers, fold_of = read_folds(best, 2)
    pictures = pictures_of(data, "train")
    assert list(fold_of.values()) == [0] * 4 + [1] * 4
    for fold in range(2):
        seen = (tmp_path / "teacher" / "folds-2" / f"fold-{fold}.txt").read_text().split()
        assert seen == [p for p in pictures if fold_of[p] != fold]
        assert Path(teachers[fold]).is_file()
    before = [Path(t).stat().st_mtime_ns for t in teachers]
    train_folds("yolo26n.yaml", data, short, None, 2, best)
    assert [Path(t).stat().st_mtime_ns for t in teachers] == before

    best.parent.mkdir(parents=True)
    best.write_bytes(Path(teachers[0]).read_bytes())
    asked: list[int] = []
    call = YoloTeacher.__call__
    monkeypatch.setattr(
        YoloTeacher, "__call__", lambda self, images: (asked.append(len(images)), call(self, images))[1]
    )
    trainer = train(model="yolo26n.yaml", teacher=best, teacher_folds=2, teacher_precision="fp32")
    assert type(trainer.train_loader.dataset) is WithinFolds
    assert sum(asked) >= 8
    assert isinstance(trainer.criterion.teacher, FoldedTeacher)


def test_folds_that_nobody_trained(tmp_path):
    with pytest.raises(RequestError, match="no fold teachers beside it"):
        read_folds(tmp_path / "weights" / "best.pt", 3)


def test_more_folds_than_pictures(data, settings, tmp_path):
    with pytest.raises(RequestError, match="only 8 pictures"):
        train_folds("yolo26n.yaml", data, settings, None, 9, tmp_path / "weights" / "best.pt")
