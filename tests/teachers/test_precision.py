"""Precisions of a teacher: what is asked is computed, what differs too much is not taken, and answers stay."""

from __future__ import annotations

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.teachers import precision
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.precision import Difference, choose_forward, difference, goes_on_here, machine_precisions
from yolo_distill.teachers.yolo import YoloTeacher

SIZE = 96
LONG = 10**9  # pictures: a run in which everything pays


@pytest.fixture(scope="module")
def pictures():
    torch.manual_seed(0)
    # Soft shapes rather than noise, which no activation of a detector is made for.
    small = torch.rand(12, 3, 6, 6)
    return torch.nn.functional.interpolate(small, size=(SIZE, SIZE), mode="bilinear").clamp(0, 1)


@pytest.fixture(
    scope="module",
    params=["yolo26n", *(pytest.param(f"yolo{v}n", marks=pytest.mark.slow) for v in ("v8", "v10", "11", "12"))],
)
def model(request):
    """A detector whose head is sure of something at about half of all anchors."""
    torch.manual_seed(0)
    model = DetectionModel(f"{request.param}.yaml", nc=3, verbose=False)
    head = model.model[-1]
    for layers in (head.cv3, getattr(head, "one2one_cv3", None) or []):
        for layer in layers:
            torch.nn.init.constant_(layer[-1].bias, -3.0)
    return model


@pytest.fixture
def small_teacher(tiny_student):
    """Return a function that makes a teacher that is sure of nothing."""
    torch.manual_seed(0)
    return lambda: YoloTeacher(DetectionModel(tiny_student, nc=3, verbose=False), needs=Needs(maps=False))


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes this a machine of some precisions, of which one is the fastest."""

    def has(*names: str, fastest: str | None = None, off: float | None = None) -> None:
        monkeypatch.setattr(precision, "machine_precisions", lambda device: names)
        if fastest:
            monkeypatch.setattr(precision, "_seconds", lambda _, ways, p: {w: 1 + (w[0] != fastest) for w in ways})
        if off is not None:
            monkeypatch.setattr(precision, "difference", lambda *_: Difference(off, 0.0, 0.0))

    return has


@pytest.mark.parametrize(
    ("wanted", "scores", "boxes"),
    [("bf16", 0.005, 0.03), ("int8", 0.02, 0.05), pytest.param("fp32", 1e-5, 1e-4, marks=pytest.mark.slow)],
)
def test_answers_in_any_precision_stay_near_fp32(model, wanted, scores, boxes, pictures, machine):
    machine("fp32", "bf16", "int8")
    teacher = YoloTeacher(model, needs=Needs(maps=False))
    reference = teacher(pictures)
    # In a long run fp32 is computed by another library.
    choice = choose_forward(teacher, wanted, pictures, LONG if wanted == "fp32" else 1)
    assert choice.precision == wanted
    off = difference([teacher(pictures)], [reference])
    assert off.bearable(wanted)  # what a run demands of them
    assert off.scores <= scores
    assert off.boxes <= boxes


def test_onnx_runtime_takes_any_batch_and_size(pictures, tiny_student):
    torch.manual_seed(0)
    teacher = YoloTeacher(DetectionModel(tiny_student, nc=3, verbose=False))
    choose_forward(teacher, "int8", pictures, LONG)
    for shape in ((1, 3, 64, 64), (3, 3, 96, 160)):
        answer = teacher(torch.rand(shape))
        cells = sum((shape[2] // s) * (shape[3] // s) for s in (8, 16, 32))
        assert answer.one2many.logits.shape == (shape[0], cells, 3)
        assert answer.one2one.sides.shape == (shape[0], cells, 4, 1)
        assert answer.maps[16].shape == (shape[0], teacher.widths[16], shape[2] // 16, shape[3] // 16)


@pytest.mark.parametrize("fastest", ["fp32", "bf16"])
def test_auto_takes_the_fastest_whose_answers_stay(pictures, machine, small_teacher, fastest):
    machine("fp32", "bf16", fastest=fastest)
    teacher = small_teacher()
    assert choose_forward(teacher, "auto", pictures, 1).precision == fastest
    assert teacher.forward.dtype == precision.DTYPES[fastest]
    machine("fp32", "bf16", off=0.5)
    assert choose_forward(teacher := small_teacher(), "auto", pictures, 1).precision == "fp32"
    assert teacher.forward.dtype == torch.float32


def test_a_named_precision_is_given_with_its_figures_unless_it_is_broken(pictures, machine, small_teacher, caplog):
    machine("fp32", "bf16", off=0.5)
    choice = choose_forward(small_teacher(), "bf16", pictures, 1)
    assert (choice.precision, choice.bearable) == ("bf16", False)
    assert "teacher_precision=bf16: its answers are off by scores 0.5" in caplog.text
    machine("fp32", "bf16", off=float("inf"))
    with pytest.raises(DistillError, match="not finite"):
        choose_forward(small_teacher(), "bf16", pictures, 1)


def test_a_short_run_builds_no_file(pictures, machine, small_teacher, monkeypatch):
    machine("fp32", "int8")
    built = []
    monkeypatch.setattr(precision, "_by_onnx_runtime", lambda *args: built.append(args) or {})
    choose_forward(small_teacher(), "auto", pictures, 1)
    assert not built
    choose_forward(small_teacher(), "auto", pictures, LONG)
    assert built


def test_an_architecture_that_can_not_be_quantised(pictures, machine, small_teacher, monkeypatch, caplog):
    machine("fp32", "int8")

    def fail(*args):
        raise RuntimeError("unknown\nlayer")

    monkeypatch.setattr("yolo_distill.teachers.onnx_forward.OnnxForward.__init__", fail)
    assert choose_forward(small_teacher(), "auto", pictures, LONG).engine == "torch"
    assert "going on with torch (unknown layer)" in caplog.text
    with pytest.raises(DistillError, match=r"teacher_precision=int8: .*\(unknown layer\)"):
        choose_forward(small_teacher(), "int8", pictures, LONG)


def test_what_a_machine_has():
    assert {"fp32", "int8"} <= set(machine_precisions("cpu"))
    with pytest.raises(RequestError, match=r"teacher_precision=int8: .*mps has fp32, fp16"):
        precision.require_precision("int8", "mps")
    # A run that goes on on another machine: fp16 is of a GPU, where it is fast.
    went_on = [goes_on_here(*one) for one in (("int8", "cpu"), ("fp16", "cpu"), ("int8", "mps"))]
    assert went_on == [True, False, False]


def test_differences_between_answers(model, pictures):
    teacher = YoloTeacher(model)
    reference, plain = teacher(pictures), teacher.forward
    off = difference([reference], [reference])
    assert (off.scores, off.maps) == (0, 0)
    assert off.boxes == pytest.approx(0, abs=1e-4)
    for broken in ("scores", "map32"):  # not a number in one of them is enough
        teacher.forward = lambda images, own=broken: {
            k: v * float("nan") if k.endswith(own) else v for k, v in plain(images).items()
        }
        assert not difference([teacher(pictures)], [reference]).bearable("int8")


def test_a_teacher_that_is_sure_of_nothing_is_compared_where_it_is_surest(pictures, small_teacher):
    teacher = small_teacher()
    reference, plain = teacher(pictures), teacher.forward
    assert reference.one2many.logits.sigmoid().max() < precision.SURE
    teacher.forward = lambda images: {k: v + 3 * k.endswith("scores") for k, v in plain(images).items()}
    assert not difference([teacher(pictures)], [reference]).bearable("int8")
    assert difference([reference], [reference]) == Difference(0.0, 0.0, 0.0)


def test_maps_in_int8_may_be_further_off():
    assert Difference(0.01, 0.03, 0.16).bearable("int8")
    for scores, maps, wanted in ((0.01, 0.16, "bf16"), (0.01, 0.25, "int8"), (0.03, 0.0, "int8")):
        assert not Difference(scores, 0.03, maps).bearable(wanted)
