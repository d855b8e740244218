"""torchvision's detectors as teachers: what they say is what torchvision says, about every class and not only the best.

The first two tests are the contract with torchvision's inside: an upgrade that changes it breaks here first.
"""

from __future__ import annotations

import cv2
import pytest
import torch
from made_teachers import liven
from torchvision.models.detection.roi_heads import paste_masks_in_image
from ultralytics.data.augment import LetterBox

from yolo_distill.errors import RequestError
from yolo_distill.teachers import torchvision_detector
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.torchvision_detector import ARCHITECTURES, TorchvisionTeacher, make_detector

SIDE = 96
NAMES = {0: "RBC", 1: "WBC", 2: "Platelets"}
SMALL = "ssdlite320_mobilenet_v3_large"
TWO_STAGES = "fasterrcnn_mobilenet_v3_large_fpn"


@pytest.fixture(scope="module")
def pictures(shared_data):
    """Return two real pictures, letterboxed, shape (2, 3, SIDE, SIDE), RGB in 0..1."""
    files = sorted((shared_data / "bccd" / "images" / "test").glob("*.jpg"))[:2]
    squares = [LetterBox((SIDE, SIDE))(image=cv2.imread(str(file)))[..., ::-1].copy() for file in files]
    return torch.stack([torch.from_numpy(square).permute(2, 0, 1) for square in squares]).float() / 255


def answers(name, classes, images, monkeypatch):
    """Return what the teacher says, and what its own model says by torchvision's `forward`."""
    monkeypatch.setattr(torchvision_detector, "MOST", 80)
    torch.manual_seed(0)
    model = liven(make_detector(name, classes, SIDE), images)
    teacher = TorchvisionTeacher(model, dict(enumerate("abc"[:classes])))
    with torch.inference_mode():
        return teacher(images), teacher.model(list(images))


def found_in(boxes, scores, labels, theirs):
    """Return for each of our boxes whether torchvision has one with the same place, label and score."""
    apart = (boxes[:, None] / SIDE - theirs["boxes"][None] / SIDE).abs().amax(-1)
    same = (apart < 1e-4) & (labels[:, None] == theirs["labels"][None] - 1)
    return (same & ((scores[:, None] - theirs["scores"][None]).abs() < 1e-4)).any(1)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in {SMALL, TWO_STAGES} else pytest.mark.slow) for name in ARCHITECTURES],
)
def test_with_one_class_the_answer_is_torchvisions(name, pictures, monkeypatch):
    ours, theirs = answers(name, 1, pictures, monkeypatch)
    for own, scores, present, their in zip(ours.boxes, ours.scores[..., 0], ours.present, theirs, strict=True):
        # Boxes without area teach nothing and are left out here; Faster R-CNN leaves them out itself.
        some = (their["boxes"][:, 2:] - their["boxes"][:, :2] > 1e-2).all(1)
        count = min(int(present.sum()), int(some.sum()))
        assert count >= 5
        torch.testing.assert_close(own[:count] / SIDE, their["boxes"][some][:count] / SIDE, rtol=0, atol=1e-4)
        torch.testing.assert_close(scores[:count], their["scores"][some][:count], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"])
def test_masks_and_keypoints_are_torchvisions(name, pictures, monkeypatch):
    monkeypatch.setattr(torchvision_detector, "MOST", 20)
    torch.manual_seed(0)
    model = liven(make_detector(name, 1, SIDE), pictures)
    teacher = TorchvisionTeacher(model, {0: "person"}, needs=Needs(maps=False, extra=True))
    with torch.inference_mode():
        ours, theirs = teacher(pictures), teacher.model(list(pictures))
    for boxes, own, present, their in zip(ours.boxes, ours.extra, ours.present, theirs, strict=True):
        count = min(int(present.sum()), len(their["boxes"]))
        assert count >= 5
        if name.startswith("mask"):
            own = paste_masks_in_image(own[:count, None], boxes[:count], (SIDE, SIDE))
            torch.testing.assert_close(own, their["masks"][:count], rtol=0, atol=1e-3)
        else:
            torch.testing.assert_close(own[:count, :, :2], their["keypoints"][:count, :, :2], rtol=0, atol=1e-2)
            seen = their["keypoints_scores"][:count] >= 2  # from which on torchvision's own examples draw one
            assert ((own[:count, :, 2] >= 0.25) == seen).float().mean() > 0.99


@pytest.mark.parametrize(
    "name",
    [
        TWO_STAGES,
        SMALL,
        *(pytest.param(f"{name}_resnet50_fpn", marks=pytest.mark.slow) for name in ("retinanet", "fcos")),
    ],
)
def test_with_several_classes_each_box_has_torchvisions_score_of_its_best_one(name, pictures, monkeypatch):
    """torchvision lists a box once a class, and lets each of these hide other boxes; a box is one thing here.

    So boxes that are not their own likeliest class are only in its list, and some that such a one hides there are only
    in ours. All others are the same in both.
    """
    ours, theirs = answers(name, 3, pictures, monkeypatch)
    kept = []
    for boxes, scores, present, their in zip(ours.boxes, ours.scores, ours.present, theirs, strict=True):
        best, label = scores[present].max(-1)
        # Its list is cut at as many boxes as ours, of which more than one may be the same.
        sure = best >= their["scores"].min()
        kept.append(found_in(boxes[present][sure], best[sure], label[sure], their))
    assert torch.cat(kept).float().mean() > 0.8
    assert len(torch.cat(kept)) >= 10
    if name.startswith(("fasterrcnn", "ssd")):
        assert (ours.scores.sum(-1) < 1 + 1e-5).all()
    assert (ours.scores[ours.present].max(-1).values > torchvision_detector.CONF).all()
    assert (ours.scores[ours.present] > 1e-3).sum() > ours.present.sum()  # more than a label


@pytest.mark.parametrize(
    ("name", "widths"), [("fcos_resnet50_fpn", {8: 256, 16: 256, 32: 256}), (TWO_STAGES, {32: 256}), (SMALL, {})]
)
def test_the_maps_are_those_of_the_students_strides_on_the_students_grid(name, widths):
    teacher = TorchvisionTeacher(make_detector(name, 3, SIDE), NAMES)
    assert teacher.widths == widths
    assert teacher.strides == list(widths)
    answer = teacher(torch.rand(1, 3, 100, 72))
    grids = {8: (13, 9), 16: (7, 5), 32: (4, 3)}
    assert {s: tuple(m.shape[1:]) for s, m in answer.maps.items()} == {s: (w, *grids[s]) for s, w in widths.items()}
    silent = TorchvisionTeacher(teacher.model, NAMES, needs=Needs(maps=False))
    assert (silent.strides, silent.widths, silent(torch.rand(1, 3, 64, 64)).maps) == ([], {}, {})


def test_pictures_in_which_nothing_is_found_or_even_proposed():
    teacher = TorchvisionTeacher(make_detector(SMALL, 3, 64), NAMES)
    teacher.model.score_thresh = 1.0
    # What the host warms a GPU up with is memory as it is found.
    proposes = TorchvisionTeacher(make_detector(TWO_STAGES, 3, 64), NAMES)
    for answer in (teacher(torch.rand(2, 3, 64, 64)), proposes(torch.full((2, 3, 64, 64), torch.nan))):
        assert answer.boxes.shape == (2, 0, 4)
        assert answer.scores.shape == (2, 0, 3)


def test_what_is_not_needed_is_not_computed():
    teacher = TorchvisionTeacher(make_detector(TWO_STAGES, 3, SIDE), NAMES, needs=Needs(scores=False, boxes=False))
    teacher.model.rpn = teacher.model.roi_heads = None
    answer = teacher(torch.rand(2, 3, 64, 64))
    assert answer.boxes.shape == (2, 0, 4)
    assert answer.scores.shape == (2, 0, 3)
    assert list(answer.maps) == [32]


@pytest.mark.parametrize(("wanted", "warns"), [(True, True), (False, False)])
def test_regions_are_pooled_by_any_algorithm_and_nothing_else_is(wanted, warns, monkeypatch):
    teacher = TorchvisionTeacher(make_detector(TWO_STAGES, 3, 64), NAMES)
    pool, seen = teacher.model.roi_heads.box_roi_pool.forward, []

    def watched(*given):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return pool(*given)

    monkeypatch.setattr(teacher.model.roi_heads.box_roi_pool, "forward", watched)
    torch.use_deterministic_algorithms(wanted, warn_only=warns)
    try:
        teacher(torch.rand(1, 3, 64, 64))
        after = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [False]
    assert after == (wanted, warns)


def test_a_detector_that_there_is_not():
    with pytest.raises(RequestError, match=r"did you mean 'ssd300_vgg16'\? \(there are"):
        make_detector("ssd300_vgg", 2, 64)


def test_its_anchors_grow_with_the_pictures():
    def smallest(**how):
        return make_detector(TWO_STAGES, 2, **how).rpn.anchor_generator.sizes[0][0]

    assert smallest(imgsz=200) == 8
    assert smallest(imgsz=400) == 16
    assert smallest(imgsz=1600) == 32
    assert smallest(imgsz=200, anchors_for=torchvision_detector.USUAL_SIDE) == 32
