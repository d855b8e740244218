"""Labels of other tasks: as the host predicts, read back by its data set, and thresholds by the task's own F1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
import yaml
from live_detector import draw, live_detector, save
from made_labelling import IMGSZ, MadeTeacher, request, soft_answers, write_pictures
from tiny_yolo import write_architecture
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_yolo_dataset
from ultralytics.data.utils import check_det_dataset

from yolo_distill.engine.request_checks import require_task
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.box_matching import Boxes
from yolo_distill.labelling import truth
from yolo_distill.labelling.contact_sheet import FILE
from yolo_distill.labelling.objects import FINDS, Form, Found
from yolo_distill.labelling.run import label, open_teacher
from yolo_distill.labelling.thresholds import Calibration
from yolo_distill.labelling.truth import read_truth, right
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.recipe import make_recipe
from yolo_distill.runtime.masks import Piece, mask_iou, piece_of

TASKS = ["segment", "pose", "obb"]
SIZES = [(96, 128), (150, 100), (128, 128)]
CONF = 0.3


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Return a teacher's file by task."""
    folder, found = tmp_path_factory.mktemp("teachers"), {}
    for task in TASKS:
        model = live_detector(str(write_architecture(folder / f"{task}.yaml", end2end=False, task=task)), task=task)
        found[task] = save(model, folder / f"{task}.pt", 128)
    return found


def labelled(teacher, **changes):
    """Label pictures of different shapes, and return their files in the data set."""
    Path("in").mkdir(exist_ok=True)
    for number, size in enumerate(SIZES):
        cv2.imwrite(f"in/{number}.png", draw(1, *size, seed=number)[0])
    label(request("in", Path("out"), teacher=str(teacher), conf=CONF, **changes), say=lambda line: None)
    return sorted(Path("out/images/train").iterdir())


def as_the_host_reads(task):
    """Return labels by the picture's name, as the host's data set hands them to its augmentation."""
    data = check_det_dataset("out/data.yaml")
    dataset = build_yolo_dataset(get_cfg(overrides={"task": task}), data["train"], 1, data)
    return {Path(label["im_file"]).name: label for label in dataset.labels}


def filled(mask):
    """Return a mask without its holes."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return Piece(0, 0, cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, -1) > 0)


def parts(piece):
    return cv2.connectedComponents(piece.bits.astype(np.uint8))[0] - 1


def far(task, told, label, place, candidates):
    """Return by how much a label differs from each candidate of the host's: pixels, or one minus the IoU of masks."""
    side = np.array(told.orig_shape[::-1])
    if task == "segment":
        own = label["segments"][place] * side
        wanted = [filled(told.masks.data[one].numpy()) for one in candidates]
        # Lines of a pixel join the parts of a mask to one outline; of these small masks that is up to a fifth.
        return [1 - mask_iou(piece_of(own), one) * (1.25 if parts(one) > 1 else 1) for one in wanted]
    if task == "obb":
        gaps = label["segments"][place] * side - told.obb.xyxyxyxy[candidates].numpy()
        return np.abs(gaps).max((1, 2))
    points, known = label["keypoints"][place], told.keypoints[candidates]
    seen = known.conf.numpy() >= 0.25
    gaps = np.where(seen[..., None], points[:, :2] * side - known.xy.numpy(), points[:, :2])
    assert points[:, 2].max() == 2
    wrong = (seen != (points[:, 2] == 2)).any(1)
    boxes = np.abs(label["bboxes"][place] * np.tile(side, 2) - told.boxes.xywh[candidates].numpy()).max(1)
    return np.abs(gaps).max((1, 2)) + boxes + 100 * wrong


@pytest.mark.parametrize(("task", "most"), [("segment", 1e-6), ("pose", 0.1), ("obb", 0.1)])
def test_the_host_reads_what_it_would_have_predicted(teachers, task, most):
    files, count = labelled(teachers[task]), 0
    read = as_the_host_reads(task)
    assert len(read) == len(SIZES)
    for file in files:
        settings = {"imgsz": (128, 128), "rect": False, "conf": CONF, "retina_masks": True, "verbose": False}
        (told,) = YOLO(teachers[task]).predict(file, device="cpu", **settings)
        classes = (told.boxes if task != "obb" else told.obb).cls.numpy()
        label = read[file.name]
        for place, column in enumerate(label["cls"].ravel()):
            assert min(far(task, told, label, place, np.flatnonzero(classes == column))) < most
        # What is thinner than a pixel, or there twice, is left out.
        assert 0.5 * len(classes) <= len(label["cls"]) <= len(classes)
        count += len(classes)
    assert count > 10


@pytest.mark.parametrize("task", TASKS)
def test_the_sheet_and_soft_answers_hold_them(teachers, task):
    (first, *_) = labelled(teachers[task])
    assert f"{FINDS[task]} by" in Path("out", FILE).read_text()
    found = soft_answers(Path("out"))[first.name]
    assert found.scores.shape == (len(found.boxes), 2)
    assert len(found.own) == len(found.boxes) > 0
    widths = {"pose": {12}, "obb": {5}}.get(task)
    assert widths is None or {len(one) for one in found.own} == widths


@pytest.mark.parametrize("task", TASKS)
def test_a_picture_in_which_nothing_is_found(teachers, task, tmp_path):
    model = load_detector(teachers[task])
    for branch in model.model[-1].cv3:
        branch[-1].bias.data -= 50
    quiet = save(model, tmp_path / "quiet.pt", 128)
    files = labelled(quiet)
    assert len(files) == len(SIZES)
    assert [file.read_text() for file in Path("out/labels/train").iterdir()] == [""] * len(SIZES)


def test_keypoints_of_the_data_file(teachers, tmp_path):
    data = {"train": "in", "val": "in", "names": ["round", "square"], "kpt_shape": [4, 3], "flip_idx": [0, 3, 2, 1]}
    (tmp_path / "in").mkdir()
    (tmp_path / "labels").mkdir()
    file = tmp_path / "data.yaml"

    def said(**changes):
        file.write_text(yaml.safe_dump({**data, **changes, "path": str(tmp_path)}))
        return str(file)

    cv2.imwrite(str(tmp_path / "in" / "a.png"), draw(1, 96, 128)[0])
    (tmp_path / "in" / "a.txt").write_text("0 0.5 0.5 0.2 0.2" + " 0.5 0.5 2" * 4)
    with mock.patch.object(truth, "kpt_iou", wraps=truth.kpt_iou) as near:
        labelled(teachers["pose"], data=said(kpt_oks_sigmas=[0.1, 0.2, 0.3, 0.4]))
    assert near.call_args.args[3] == [0.1, 0.2, 0.3, 0.4]
    made = yaml.safe_load(Path("out/data.yaml").read_text())
    assert (made["kpt_shape"], made["flip_idx"]) == ([4, 3], [0, 3, 2, 1])
    (tmp_path / "in" / "a.txt").write_text("0 0.5 0.5 0.2 0.2" + " 0.5 0.5" * 4)
    with pytest.raises(RequestError, match=r"finds keypoints of kpt_shape \[4, 3\], and the data has \[4, 2\]"):
        labelled(teachers["pose"], data=said(kpt_shape=[4, 2]))
    with pytest.raises(RequestError, match="the model is for segment"):
        labelled(teachers["segment"], data=said())


def test_answers_that_were_stored_teach_detectors_alone(teachers):
    labelled(teachers["segment"])
    with pytest.raises(RequestError, match="is a segment model; give the teacher itself, or train on its labels"):
        require_task(str(teachers["segment"]), None, make_recipe({"teacher": "out"}), {})


def test_several_teachers_of_another_task_are_refused(teachers):
    both = ",".join(str(teachers[task]) for task in ("segment", "obb"))
    with pytest.raises(RequestError, match="several teachers label boxes only"):
        open_teacher(request("in", Path("out"), teacher=both))


#: Labels of a picture of 100 x 200, and of two classes; what is found once like the first, and once in its box alone.
LABELS = {
    "segment": (
        "1 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5",
        [20, 10, 100, 10, 100, 50, 20, 50],
        [20, 10, 100, 50, 98, 50, 20, 12],
    ),
    "pose": (
        "1 0.3 0.3 0.4 0.4 0.1 0.1 2 0.5 0.5 2 0 0 0",
        [20, 10, 1, 100, 50, 1, 7, 7, 1],
        [100, 50, 1, 20, 10, 1, 0, 0, 1],
    ),
    "obb": ("1 0.1 0.1 0.5 0.5 0.485 0.56 0.085 0.16", None, [58, 33, 89, 7, -0.46]),
}


@pytest.mark.parametrize("task", TASKS)
def test_thresholds_are_by_the_measure_of_the_task(task, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    file = tmp_path / "images" / "a.png"
    cv2.imwrite(str(file), np.zeros((100, 200, 3), np.uint8))
    line, good, bad = LABELS[task]
    (tmp_path / "labels" / "a.txt").write_text(line + "\n")
    form = Form(task, (3, 3) if task == "pose" else None)
    boxes, own = read_truth(str(file), (100, 200), 2, form)
    good = own.turned[0] if good is None else np.array(good, np.float32)
    gathered = Calibration(2, form)
    scores = np.array([[0.1, 0.6]], np.float32)
    for _ in range(10):
        gathered.add(Found(boxes.xyxy, scores, [good]), boxes, own)
        gathered.add(Found(boxes.xyxy, scores / 2, [np.array(bad, np.float32)]), boxes, own)
    assert gathered.choose(0.25)[1].at == pytest.approx(0.45)


def test_keypoints_are_as_near_as_the_data_says():
    """Two pixels off, which is near by the usual constants and far by a tenth of them."""
    box, points = np.array([[20, 10, 100, 50]], np.float32), [np.array([20, 10, 1, 100, 50, 1], np.float32)]
    labels, form = Boxes(box, np.array([0])), Form("pose", (2, 3))
    one = Found(box, np.ones((1, 1), np.float32), points)
    told = form.detections(one, labels.classes, (100, 200))
    moved = replace(one, own=[points[0] + np.array([2, 0, 0] * 2, np.float32)])
    for sigmas, near in ((None, True), ([0.01, 0.01], False)):
        assert right(moved, labels, told, replace(form, sigmas=sigmas)).tolist() == [near]


class Halves(MadeTeacher):
    """Answers in sets, as the R-CNNs of torchvision do: the upper half of each box, or two of its corners.

    The disc's box lies in the padding above the picture.
    """

    def __init__(self, task):
        super().__init__()
        self.task, self.kpt_shape = task, (2, 3) if task == "pose" else None

    def __call__(self, images):
        answer = super().__call__(images)
        boxes = answer.boxes
        boxes[:, 0, 1::2] *= 0.1
        masks = (torch.arange(28) < 14).float()[:, None].expand(*boxes.shape[:2], 28, 28)
        points = torch.cat(
            [boxes.view(*boxes.shape[:2], 2, 2), torch.tensor([[0.9], [0.1]]).expand(*boxes.shape[:2], 2, 1)], -1
        )
        return replace(answer, extra=masks if self.task == "segment" else points)


@pytest.mark.parametrize("task", ["segment", "pose"])
def test_a_set_in_which_nothing_is_found(task):
    write_pictures(Path("in"), 1)
    teacher, see = Halves(task), MadeTeacher.__call__

    def blind(self, images):
        answer = see(self, images)
        return replace(answer, scores=torch.zeros_like(answer.scores))

    with mock.patch.object(MadeTeacher, "__call__", blind):
        label(request("in", Path("out")), opener=lambda _: (teacher, IMGSZ), say=lambda line: None)
    assert [file.read_text() for file in Path("out/labels/train").iterdir()] == [""]


@pytest.mark.parametrize("task", ["segment", "pose"])
def test_of_sets(task):
    write_pictures(Path("in"), 1)
    label(request("in", Path("out")), opener=lambda _: (Halves(task), IMGSZ), say=lambda line: None)
    assert [len(one.boxes) for one in soft_answers(Path("out")).values()] == [1]
    numbers = np.array(Path("out/labels/train/00000000-0000.txt").read_text().splitlines()[0].split(), float)
    # The square of 64 pixels shows the picture of 64 x 48 from row 8 on; the box is at 35.2 to 48, 19.2 to 44.8 in it.
    left, top, right, bottom = 35.2 / 64, 11.2 / 48, 48 / 64, 36.8 / 48
    if task == "pose":
        assert numbers[5:].tolist() == pytest.approx([left, top, 2, 0, 0, 0], abs=1e-4)
    else:
        points = numbers[1:].reshape(-1, 2)
        ends = [*points.min(0), *points.max(0)]
        assert ends == pytest.approx([left, top, right, (top + bottom) / 2], abs=1.5 / 48)
