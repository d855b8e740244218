"""Weights of torchvision's detectors: which files are taken, and what is said of the others."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, get_model_weights, mobilenet_v3_large
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList

from yolo_distill.errors import RequestError
from yolo_distill.teachers.torchvision_detector import TorchvisionTeacher, make_detector
from yolo_distill.teachers.torchvision_weights import load_detector_file, pretrained, save_detector

NAMES = {0: "RBC", 1: "WBC", 2: "Platelets"}
SMALL = "ssdlite320_mobilenet_v3_large"
TWO_STAGES = "fasterrcnn_mobilenet_v3_large_fpn"


class Runs:
    """What a pickle can do: run something when it is opened."""

    def __reduce__(self):
        return os.getcwd, ()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a file of ours."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("made") / "own.pth"
    save_detector(file, make_detector(TWO_STAGES, 3, 64), TWO_STAGES, NAMES, 64)
    return file


@pytest.fixture
def saved(made, tmp_path):
    """Return a file of ours in a folder that a test may write to."""
    return Path(shutil.copy(made, tmp_path))


def test_a_file_of_ours_says_all_that_is_needed(saved):
    model, name, names = load_detector_file(saved, None, None, 256)
    assert (name, names) == (TWO_STAGES, NAMES)
    assert model.transform.max_size == 256
    # Its anchors are those that it was trained with, not those of the size that it is asked about.
    assert model.rpn.anchor_generator.sizes[0][0] == pytest.approx(32 * 64 / 800)
    original = torch.load(saved, weights_only=True)["state"]
    assert all(torch.equal(value, original[key]) for key, value in model.state_dict().items())
    assert [file.name for file in saved.parent.iterdir()] == ["own.pth"]


def test_bare_weights_are_taken_with_names_and_torchvisions_own_anchors(tmp_path):
    theirs = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None, num_classes=4)
    torch.save(theirs.state_dict(), tmp_path / "bare.pth")
    model, name, names = load_detector_file(tmp_path / "bare.pth", TWO_STAGES, NAMES, 64)
    assert (name, names) == (TWO_STAGES, NAMES)
    assert model.rpn.anchor_generator.sizes == theirs.rpn.anchor_generator.sizes
    with pytest.raises(RequestError, match="does not say which detector"):
        load_detector_file(tmp_path / "bare.pth", None, NAMES, 64)
    with pytest.raises(RequestError, match="does not say what its classes are called"):
        load_detector_file(tmp_path / "bare.pth", TWO_STAGES, None, 64)


@pytest.mark.slow
def test_a_keypoint_rcnn_has_as_many_keypoints_as_its_weights():
    state = make_detector("keypointrcnn_resnet50_fpn", 1, 96, keypoints=4).state_dict()
    model, _, names = load_detector_file("own.pth", "keypointrcnn_resnet50_fpn", {0: "cell"}, 96, dict(state))
    assert TorchvisionTeacher(model, names).kpt_shape == (4, 3)
    claimed = {**state, "roi_heads.keypoint_predictor.kps_score_lowres.bias": torch.zeros(1).expand(10**9)}
    with pytest.raises(RequestError, match="layers of other sizes"):
        load_detector_file("own.pth", "keypointrcnn_resnet50_fpn", {0: "cell"}, 96, claimed)


def test_an_ssdlite_whose_backbone_began_with_imagenet_is_taken(tmp_path, monkeypatch):
    """torchvision builds it wider than one from scratch."""
    weights = MobileNet_V3_Large_Weights.IMAGENET1K_V1
    fill_hub(monkeypatch, tmp_path, weights, mobilenet_v3_large(weights=None).state_dict())
    theirs = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=weights, num_classes=4).eval()
    torch.save(theirs.state_dict(), tmp_path / "bare.pth")
    ours = load_detector_file(tmp_path / "bare.pth", SMALL, NAMES, 64)[0]
    features = theirs.backbone(images := torch.rand(1, 3, 320, 320))
    for own, other in zip(ours.backbone(images).values(), features.values(), strict=True):
        torch.testing.assert_close(own, other)
    raw = [model.head(list(features.values())) for model in (ours, theirs)]
    torch.testing.assert_close(*raw)
    both = [m.anchor_generator(ImageList(images, [(320, 320)]), list(features.values())) for m in (ours, theirs)]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize(
    ("make", "name", "names", "error"),
    [
        ("own", SMALL, None, f"holds a {TWO_STAGES}, not a {SMALL}; name what it holds, teacher="),
        ("missing", None, None, "no such file; did you mean 'own.pth'?"),
        ("text", None, None, "is no file of torch's, or is cut off or damaged"),
        ("cut", None, None, "is no file of torch's, or is cut off or damaged"),
        ("pickle", None, None, "holds more than weights, which could run code"),
        ("keys", None, None, "holds no weights by name (its keys: epoch)"),
        ("list", None, None, "holds no weights by name (its keys: none)"),
        ("bare", TWO_STAGES, {0: "a"}, f"is a {TWO_STAGES} for 3 classes besides the background, and 1 are named (a)"),
        ("bare", SMALL, NAMES, f"holds the weights of a {TWO_STAGES}, not of a {SMALL}"),
        ("strange", SMALL, NAMES, f"holds no weights of a {SMALL} (its keys: fc.weight, fc.bias, ...)"),
        ("wide", SMALL, NAMES, "with layers of other sizes than torchvision's"),
    ],
)
def test_files_that_can_not_be_used(make, name, names, error, saved):
    file = saved.with_name({"own": "own.pth", "missing": "owm.pth"}.get(make, "file.pth"))
    state = torch.load(saved, weights_only=True)["state"]
    if make == "text":
        file.write_text("not a checkpoint")
    elif make == "cut":
        file.write_bytes(saved.read_bytes()[:100_000])
    elif make == "wide":
        state = make_detector(SMALL, 3, 64).state_dict()
        torch.save({key: value.flatten().repeat(2) if value.ndim else value for key, value in state.items()}, file)
    elif make not in ("own", "missing"):
        content = {
            "pickle": {"model": Runs()},
            "keys": {"epoch": 3},
            "list": [1, 2],
            "bare": state,
            "strange": {"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)},
        }
        torch.save(content[make], file)
    with pytest.raises(RequestError, match=re.escape(error)) as caught:
        load_detector_file(file, name, names, 64)
    assert str(caught.value).startswith(f"teacher_weights={file}: ")
    assert "\n" not in str(caught.value)


def fill_hub(monkeypatch, folder, weights, state):
    """Put weights where torch hub would have downloaded them to."""
    monkeypatch.setenv("TORCH_HOME", str(folder))
    file = folder / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file)


@pytest.mark.parametrize("name", [SMALL, "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_columns_of_the_pretrained_detector_are_those_of_its_names(name, tmp_path, monkeypatch):
    torch.manual_seed(0)
    theirs = make_detector(name, 90, 64)
    weights = get_model_weights(name).DEFAULT
    fill_hub(monkeypatch, tmp_path, weights, theirs.state_dict())
    ours, names = pretrained(name, 64)
    words = weights.meta["categories"]
    assert (len(names), names[0], names[11], names[79]) == (80, "person", "stop sign", "toothbrush")
    rows = [0, *(words.index(word) for word in names.values())]
    assert rows[12] == 13  # column 12 is "N/A"
    images = ImageList(torch.rand(1, 3, 64, 64), [(64, 64)])
    with torch.no_grad():
        raw = []
        for model in (theirs, ours):
            features = model.backbone(images.tensors)
            if name == SMALL:
                raw.append([model.head(list(features.values()))["cls_logits"]])
                continue
            places = [torch.tensor([[0.0, 0.0, 40.0, 40.0]])]
            pooled = model.roi_heads.box_roi_pool(features, places, images.image_sizes)
            logits, places = model.roi_heads.box_predictor(model.roi_heads.box_head(pooled))
            raw.append([logits, places.view(1, -1, 4).transpose(1, 2)])
    for full, own in zip(*raw, strict=True):
        torch.testing.assert_close(own, full[..., rows])
    assert TorchvisionTeacher(ours, names).names == names


def test_old_weights_are_read_as_they_were_trained(tmp_path, monkeypatch):
    """With batch norms that are frozen, and count no batches."""
    name = "retinanet_resnet50_fpn"
    state = make_detector(name, 90, 64).state_dict()
    frozen = {key: value for key, value in state.items() if "num_batches" not in key}
    fill_hub(monkeypatch, tmp_path, get_model_weights(name).DEFAULT, frozen)
    model, _ = pretrained(name, 64)
    assert {norm.eps for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.0}
    assert model.anchor_generator.sizes[0][0] == 32


def test_pretrained_weights_that_can_not_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(RequestError, match="cannot be had") as caught:
        pretrained(SMALL)
    assert "teacher_weights=file.pth" in str(caught.value)
    weights = get_model_weights(SMALL).DEFAULT
    fill_hub(monkeypatch, tmp_path, weights, {})
    file = next((tmp_path / "hub" / "checkpoints").iterdir())
    file.write_bytes(b"half of it")
    with pytest.raises(RequestError, match="cannot be had"):
        pretrained(SMALL)
