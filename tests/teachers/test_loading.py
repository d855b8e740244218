"""What `teacher=` names is read once, and its files are opened once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.errors import RequestError
from yolo_distill.exporting.onnx_file import trace
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers import loading, onnx_detector
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.loading import Teachers, named, with_absolute_paths
from yolo_distill.teachers.torchvision_detector import make_detector
from yolo_distill.teachers.torchvision_weights import save_detector

NAMES = {0: "cat", 1: "dog"}
SMALLEST = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_student) -> Path:
    """Return a folder with a checkpoint, and weights of torchvision's."""
    folder = tmp_path_factory.mktemp("teachers")
    model = DetectionModel(tiny_student, nc=2, verbose=False)
    model.names = NAMES
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, folder / "t.pt")
    save_detector(folder / "t.pth", make_detector(SMALLEST, 2, 64), SMALLEST, NAMES, 64)
    return folder


@pytest.fixture
def count(monkeypatch):
    """Return a function that counts the calls of another from now on."""

    def watch(where, name: str) -> list[str]:
        calls: list[str] = []
        real = getattr(where, name)

        def counted(*args, **kwargs):
            calls.append(str(args[0]))
            return real(*args, **kwargs)

        monkeypatch.setattr(where, name, counted)
        return calls

    return watch


def test_a_checkpoint_is_opened_once_whoever_asks(files, count, monkeypatch):
    opened = count(loading, "load_ultralytics")
    monkeypatch.chdir(files)
    teachers = Teachers("t.pt")
    assert opened == []
    assert teachers.is_one_yolo
    weights = {key: value.clone() for key, value in teachers.start.state_dict().items()}
    one, other = (teachers.open(Needs(), "cpu", 64).teacher for _ in range(2))
    one(torch.rand(1, 3, 64, 64))
    assert one is not other
    assert opened == ["t.pt"]
    # Who asks it has a copy, with its batch norms folded.
    assert weights.keys() == teachers.start.state_dict().keys()
    assert all(torch.equal(value, weights[key]) for key, value in teachers.start.state_dict().items())


def test_the_same_recipe_has_the_same_teachers_and_another_one_what_is_open(files, count, monkeypatch):
    opened = count(loading, "load_ultralytics")
    monkeypatch.chdir(files)
    recipe = make_recipe({"teacher": "t.pt"})
    teachers = Teachers.of(recipe)
    model = teachers.start
    teachers.figures["somewhere"] = {"map": 0.5}
    assert Teachers.of(recipe.model_copy(update={"logit": 1.0}), teachers) is teachers
    whole = Teachers.of(make_recipe({"teacher": str(files / "t.pt")}), teachers)
    assert whole.start is model
    assert Teachers.of(make_recipe({"teacher": str(files / "t.pth")}), whole)._opened == {}
    # What the restricted loader has not seen may not come from the other one.
    assert Teachers.of(recipe.model_copy(update={"trust": True}), teachers).start is not model
    assert len(opened) == 2


def test_weights_of_torchvision_are_read_once(files, count):
    read = count(loading, "read_weights")
    teachers = Teachers(f"torchvision:{SMALLEST}:{files / 't.pth'}")
    first, again = (teachers.torchvision(teachers.members[0], imgsz) for imgsz in (64, 96))
    assert read == [str(files / "t.pth")]
    assert first[1] == again[1] == NAMES
    one, other = (dict(model.named_parameters()) for model, _ in (first, again))
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key])
        assert value.data_ptr() != other[key].data_ptr()


def test_copies_of_an_onnx_teacher_ask_one_session(files, tmp_path, count):
    file = trace(load_detector(files / "t.pt"), tmp_path, "t", (64, 64), None, 17, True)
    sessions = count(onnx_detector, "OnnxSession")
    teachers = Teachers(str(file))
    scores, boxes = (
        teachers.open(Needs(scores=True, boxes=wanted, one2one=False, maps=False), "cpu", 64).teacher
        for wanted in (False, True)
    )
    pictures = torch.rand(1, 3, 64, 64)
    assert scores(pictures).one2many.sides is None
    assert boxes(pictures).one2many.sides is not None
    assert sessions == [str(file)]


def test_a_folder_with_a_comma_in_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "data, v2"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("a.pt", "b.pt"):
        Path(name).touch()
    whole = with_absolute_paths("a.pt")
    assert [one.file for one in named(whole)] == [whole] == [str(folder / "a.pt")]
    for several in ("a.pt,b.pt", "torchvision:ssd300_vgg16:a.pt"):
        with pytest.raises(RequestError, match=r"lies in a folder with a comma in its name .*; move it"):
            with_absolute_paths(several)
