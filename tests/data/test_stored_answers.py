"""Answers that were stored: they stay on their objects through every augmentation, and teach without the teacher."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.data import YOLODataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.utils.ops import xywh2xyxy

from yolo_distill.data.stored_answers import stored_answers, take_stored_boxes, with_stored_boxes
from yolo_distill.engine.run import train
from yolo_distill.errors import RequestError
from yolo_distill.labelling.objects import Found
from yolo_distill.labelling.parquet import FOLDER, KEPT, Row, write_part
from yolo_distill.teachers.stored import DATA, PICTURES, PLAN, StoredTeacher, lay_out

NAMES = ["disc", "square"]
#: Of a box that is known to be there, in its own class and in the other one.
SURE, OTHER = 0.75, 0.125


def write_folder(out: Path, pictures: list[Path], labels: list[np.ndarray]) -> Path:
    """Write what `yolo-distill label` would, had the teacher said what the labels (N, 5) say."""
    (out / PICTURES).mkdir(parents=True)
    (out / FOLDER).mkdir()
    rows = []
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        height, width = cv2.imread(str(picture)).shape[:2]
        (out / PICTURES / f"{number:08d}-{picture.name}").symlink_to(picture)
        boxes = xywh2xyxy(label[:, 1:]) * np.array([width, height, width, height])
        scores = np.where(label[:, :1] == np.arange(2), SURE, OTHER)
        found, file = Found(boxes.astype(np.float32), scores.astype(np.float32)), f"{number:08d}-{picture.name}"
        rows.append(Row(number, str(picture), KEPT, found, file=file, width=width, height=height))
    half = len(rows) // 2
    for part in (rows[:half], rows[half:]):
        write_part(out / FOLDER / f"part-{part[0].number:08d}.parquet", part, len(NAMES))
    (out / PLAN).write_text(json.dumps({"names": NAMES}))
    (out / DATA).write_text("train: images/train\n")
    return out


@pytest.fixture
def labelled(tiny_data, tmp_path) -> Path:
    pictures = sorted((tiny_data.parent / "images" / "train").iterdir())
    labels = [np.loadtxt(tiny_data.parent / "labels" / "train" / f"{p.stem}.txt", ndmin=2) for p in pictures]
    return write_folder(tmp_path / "answers", pictures, labels)


def host_pictures(data: Path, **changes) -> YOLODataset:
    checked = check_det_dataset(str(data))
    args = get_cfg(overrides={"imgsz": 96, "mixup": 0.5, "degrees": 10.0, "flipud": 0.5, **changes})
    return YOLODataset(checked["train"], data=checked, imgsz=96, augment=True, hyp=args, rect=False, batch_size=4)


@pytest.mark.parametrize(
    ("mosaic", "workers"), [(0.0, 0), (1.0, 0), pytest.param(1.0, 2, marks=pytest.mark.slow, id="in workers")]
)
def test_a_stored_box_stays_on_its_object(mosaic, workers, tiny_data, labelled, tmp_path):
    """Said to be where the labels are, the boxes are where the labels are after the augmentation, too."""
    answers = stored_answers(labelled, tmp_path / "runs")
    (dataset,) = with_stored_boxes([host_pictures(tiny_data, mosaic=mosaic)], answers, 2)
    teacher = StoredTeacher(dict(enumerate(NAMES)))
    teacher.answers = answers
    seen = 0
    how = {"num_workers": workers, "multiprocessing_context": "spawn"} if workers else {}
    for batch in DataLoader(dataset, 4, collate_fn=YOLODataset.collate_fn, **how):
        take_stored_boxes(batch, 2)
        found = teacher.of_batch(batch)
        for place in range(4):
            own = batch["batch_idx"] == place
            boxes, classes = xywh2xyxy(batch["bboxes"][own]) * 96, batch["cls"][own].view(-1)
            there = found.present[place]
            order, said = boxes[:, 0].argsort(), found.boxes[place][there]
            again = said[:, 0].argsort()
            torch.testing.assert_close(said[again], boxes[order], atol=1e-3, rtol=0)
            assert (found.scores[place][there][again].argmax(-1) == classes[order]).all()
            assert set(found.scores[place][there].flatten().tolist()) <= {SURE, OTHER}
            seen += len(boxes)
    assert seen > 16


def test_the_task_sees_its_own_labels_alone(tiny_data, labelled, tmp_path):
    plain, told = host_pictures(tiny_data, mosaic=0.0), host_pictures(tiny_data, mosaic=0.0)
    answers = stored_answers(labelled, tmp_path / "runs")
    with_stored_boxes([told], answers, 2)
    for index in range(len(plain)):
        before, after = plain.get_image_and_label(index), told.get_image_and_label(index)
        before["instances"].convert_bbox("xyxy")
        own = len(before["cls"])
        assert len(after["cls"]) == 2 * own
        assert (after["cls"][:own] == before["cls"]).all()
        np.testing.assert_allclose(after["instances"].bboxes[:own], before["instances"].bboxes, atol=1e-6)


def test_pictures_of_which_nothing_is_known_have_no_box(tiny_data, labelled, tmp_path):
    for _ in range(2):
        answers = stored_answers(labelled, tmp_path / "runs")
    assert len(list((tmp_path / "runs").iterdir())) == 1  # laid out once
    numbers, boxes = answers.about(str(tiny_data.parent / "images" / "val" / "0.png"))
    assert numbers.shape == (0,)
    assert boxes.shape == (0, 4)
    assert not StoredTeacher({0: "a"})(torch.zeros(2, 3, 32, 32)).present.any()
    dataset = host_pictures(tiny_data)
    dataset.im_files = [f"{file}-other" for file in dataset.im_files]
    with pytest.raises(RequestError, match="about none of the 8 training pictures"):
        with_stored_boxes([dataset], answers, 2)


def test_two_runs_at_once_lay_them_out_once(labelled, tmp_path, monkeypatch):
    begun = []

    def beside(folder, into):
        if not begun:  # the other run begins and ends while this one is at it
            begun.append(True)
            stored_answers(labelled, tmp_path / "runs")
        lay_out(folder, into)

    monkeypatch.setattr("yolo_distill.data.stored_answers.lay_out", beside)
    stored_answers(labelled, tmp_path / "runs")
    (laid,) = (tmp_path / "runs").iterdir()
    assert not list(laid.glob("answers*"))


def test_an_answer_without_a_box_is_none(tiny_data, tmp_path):
    picture = tiny_data.parent / "images" / "train" / "0.png"
    out = write_folder(tmp_path / "out", [picture, picture], [np.zeros((0, 5))] * 2)
    (tmp_path / "into").mkdir()
    with pytest.raises(RequestError, match="holds no box"):
        lay_out(out, tmp_path / "into")


@pytest.mark.slow
def test_a_run_learns_from_them_and_goes_on_after_a_kill(settings, labelled, killed_and_resumed):
    host = {**settings, "epochs": 2, "plots": True, "name": "run"}
    own = {"teacher": str(labelled), "unlabeled": str(labelled / ".." / "more"), "ramp_epochs": 0.0}
    (labelled.parent / "more").mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(labelled.parent / "more" / f"{number}.png"), noise)
    folder = killed_and_resumed(own, host)
    with (folder / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2
    assert all(float(row["train/logit_loss"]) > 0 and float(row["train/local_loss"]) > 0 for row in rows)
    assert YOLO(folder / "weights" / "best.pt").names == {0: "disc", 1: "square"}


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"teacher_imgsz": 128}, "teacher_imgsz=128 means nothing"),
        ({"cwd": 1.0}, "shows no feature maps; use cwd=0"),
        ({"init": "teacher"}, "no YOLO that a student could start from"),
    ],
    ids=str,
)
def test_what_answers_can_not_do(own, message, settings, labelled, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RequestError, match=message):
        train({"teacher": str(labelled), **own}, settings, student="yolo26n.yaml")
    assert sorted(tmp_path.rglob("*")) == before


def test_unfinished_and_in_company(settings, labelled):
    with pytest.raises(RequestError, match="can only teach alone"):
        train({"teacher": f"{labelled},b.pt"}, settings, student="yolo26n.yaml")
    (labelled / DATA).unlink()
    with pytest.raises(RequestError, match="has not finished it"):
        train({"teacher": str(labelled)}, settings, student="yolo26n.yaml")
