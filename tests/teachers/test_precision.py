"""Precisions of a teacher: what is asked is computed, what differs too much is not taken, and answers stay."""

from __future__ import annotations

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.teachers import precision
from yolo_distill.teachers.head import NeededHead, Needs
from yolo_distill.teachers.precision import Difference, choose_forward, difference, goes_on_here, machine_precisions
from yolo_distill.teachers.yolo import TorchForward, YoloTeacher

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
    params=["yolo26n", "yolov8n", *(pytest.param(f"yolo{v}n", marks=pytest.mark.slow) for v in ("v10", "11", "12"))],
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


def answers(model, needs, pictures):
    return YoloTeacher(model, needs=needs)(pictures)


@pytest.mark.parametrize(
    ("needs", "names"),
    [
        (Needs(boxes=False, maps=False, one2one=False), ["scores"]),
        (Needs(maps=False, one2one=False), ["scores", "boxes"]),
        (Needs(scores=False, boxes=False), ["map8", "map16", "map32"]),
    ],
)
def test_only_what_is_needed_is_there(model, needs, names, pictures):
    full, part = answers(model, Needs(), pictures[:1]), YoloTeacher(model, needs=needs)
    head = part.forward.model.model[-1]
    assert isinstance(head, NeededHead)
    assert head.names == names
    assert list(part.forward(pictures[:1])) == names
    answer = part(pictures[:1])
    assert (answer.one2many is not None) == needs.scores
    assert answer.one2one is None
    assert list(answer.maps) == ([8, 16, 32] if needs.maps else [])
    if answer.one2many is not None:
        torch.testing.assert_close(answer.one2many.logits, full.one2many.logits)
        assert (answer.one2many.sides is None) == (not needs.boxes)
    for stride, found in answer.maps.items():
        torch.testing.assert_close(found, full.maps[stride])


def test_the_parts_that_nobody_needs_are_not_kept(model):
    full = sum(p.numel() for p in YoloTeacher(model).forward.model.parameters())
    part = YoloTeacher(model, needs=Needs(boxes=False, one2one=False))
    assert sum(p.numel() for p in part.forward.model.parameters()) < full


def test_answers_can_be_kept_for_a_backward_pass(model, pictures):
    """Tensors of the inference mode could not."""
    answer = YoloTeacher(model)(pictures[:1])
    student = torch.zeros_like(answer.one2many.logits, requires_grad=True)
    (student * answer.one2many.logits).sum().backward()
    for tensor in (answer.one2many.logits, answer.one2many.sides, *answer.maps.values()):
        assert tensor.dtype == torch.float32
        assert not tensor.is_inference()


@pytest.mark.parametrize("wanted", ["bf16", "int8", "fp32"])
def test_answers_in_any_precision_stay_near_fp32(model, wanted, pictures, monkeypatch):
    monkeypatch.setattr(precision, "machine_precisions", lambda device: ("fp32", "bf16", "int8"))
    teacher = YoloTeacher(model, needs=Needs(maps=False))
    reference = teacher(pictures)
    choice = choose_forward(teacher, wanted, pictures, LONG if wanted == "fp32" else 1)
    assert choice.precision == wanted
    off = difference([teacher(pictures)], [reference])
    # What a run demands of them; fp32 by another library is fp32.
    assert off.bearable(wanted)
    bounds = {"fp32": (1e-5, 1e-4), "bf16": (0.005, 0.03), "int8": (0.02, 0.05)}[wanted]
    assert off.scores <= bounds[0]
    assert off.boxes <= bounds[1]


def test_onnx_runtime_takes_any_batch_and_size(pictures):
    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    teacher = YoloTeacher(model)
    choose_forward(teacher, "int8", pictures, LONG)
    for shape in ((1, 3, 64, 64), (3, 3, 96, 160)):
        answer = teacher(torch.rand(shape))
        cells = sum((shape[2] // s) * (shape[3] // s) for s in (8, 16, 32))
        assert answer.one2many.logits.shape == (shape[0], cells, 3)
        assert answer.one2one.sides.shape == (shape[0], cells, 4, 1)
        assert answer.maps[16].shape == (shape[0], 128, shape[2] // 16, shape[3] // 16)


def small_teacher():
    return YoloTeacher(DetectionModel("yolo26n.yaml", nc=3, verbose=False), needs=Needs(maps=False))


def test_auto_takes_the_fastest(pictures, monkeypatch):
    monkeypatch.setattr(precision, "machine_precisions", lambda device: ("fp32", "bf16"))
    for fastest in ("fp32", "bf16"):
        monkeypatch.setattr(
            precision, "_seconds", lambda teacher, ways, p, f=fastest: {w: 1 + (w[0] != f) for w in ways}
        )
        teacher = small_teacher()
        assert choose_forward(teacher, "auto", pictures, 1).precision == fastest
        assert teacher.forward.dtype == precision.DTYPES[fastest]


def test_auto_leaves_a_precision_whose_answers_are_off(pictures, monkeypatch):
    monkeypatch.setattr(precision, "machine_precisions", lambda device: ("fp32", "bf16"))
    monkeypatch.setattr(precision, "_seconds", lambda teacher, ways, p: {w: 1 + (w[0] == "fp32") for w in ways})
    monkeypatch.setattr(precision, "difference", lambda answer, reference: Difference(0.5, 0.0, 0.0))
    teacher = small_teacher()
    assert choose_forward(teacher, "auto", pictures, 1).precision == "fp32"
    assert teacher.forward.dtype == torch.float32
    # Who names it gets it, with the figures.
    choice = choose_forward(small_teacher(), "bf16", pictures, 1)
    assert choice.precision == "bf16"
    assert "0.5" in str(choice.difference)


def test_a_short_run_builds_no_file(pictures, monkeypatch):
    monkeypatch.setattr(precision, "machine_precisions", lambda device: ("fp32", "int8"))
    built = []
    monkeypatch.setattr(precision, "_by_onnx_runtime", lambda *args: built.append(args) or {})
    choose_forward(small_teacher(), "auto", pictures, 1)
    assert not built
    choose_forward(small_teacher(), "auto", pictures, LONG)
    assert built


def test_a_precision_that_the_machine_has_not():
    with pytest.raises(RequestError, match=r"teacher_precision=int8: .*mps has fp32, fp16"):
        precision.require_precision("int8", "mps")


def test_a_cpu_always_has_fp32_and_int8():
    assert {"fp32", "int8"} <= set(machine_precisions("cpu"))


def test_equal_answers_do_not_differ(model, pictures):
    answer = YoloTeacher(model)(pictures)
    off = difference([answer], [answer])
    assert off.scores == 0
    assert off.boxes == pytest.approx(0, abs=1e-4)
    assert off.maps == 0


def test_answers_that_are_not_finite_are_not_bearable(model, pictures):
    teacher = YoloTeacher(model)
    reference = teacher(pictures)
    plain = teacher.forward
    teacher.forward = lambda images: {k: v * float("nan") for k, v in plain(images).items()}
    assert not difference([teacher(pictures)], [reference]).bearable("int8")


def test_a_teacher_that_is_sure_of_nothing_is_compared_where_it_is_surest(pictures):
    teacher = small_teacher()
    reference = teacher(pictures)
    assert reference.one2many.logits.sigmoid().max() < precision.SURE
    plain = teacher.forward
    teacher.forward = lambda images: {k: v + 3 * k.endswith("scores") for k, v in plain(images).items()}
    assert not difference([teacher(pictures)], [reference]).bearable("int8")
    assert difference([reference], [reference]) == Difference(0.0, 0.0, 0.0)


def test_maps_in_int8_may_be_further_off():
    assert Difference(0.01, 0.03, 0.16).bearable("int8")
    assert not Difference(0.01, 0.03, 0.16).bearable("bf16")
    assert not Difference(0.01, 0.03, 0.25).bearable("int8")
    assert not Difference(0.03, 0.03, 0.0).bearable("int8")


def test_not_a_number_in_one_map_is_enough(pictures):
    teacher = YoloTeacher(DetectionModel("yolo26n.yaml", nc=3, verbose=False))
    reference = teacher(pictures)
    broken = teacher(pictures)
    broken.maps[32].fill_(float("nan"))
    assert not difference([broken], [reference]).bearable("int8")


def test_a_named_precision_whose_answers_are_broken(pictures, monkeypatch, caplog):
    monkeypatch.setattr(precision, "machine_precisions", lambda device: ("fp32", "bf16"))
    monkeypatch.setattr(precision, "difference", lambda *args: Difference(0.5, 0.0, 0.0))
    assert not choose_forward(small_teacher(), "bf16", pictures, 1).bearable
    assert "teacher_precision=bf16: its answers are off by scores 0.5" in caplog.text
    monkeypatch.setattr(precision, "difference", lambda *args: Difference(float("inf"), 0.0, 0.0))
    with pytest.raises(DistillError, match="not finite"):
        choose_forward(small_teacher(), "bf16", pictures, 1)


def test_an_architecture_that_can_not_be_quantised(pictures, monkeypatch, caplog):
    monkeypatch.setattr(precision, "machine_precisions", lambda device: ("fp32", "int8"))

    def fail(*args):
        raise RuntimeError("unknown\nlayer")

    monkeypatch.setattr("yolo_distill.teachers.onnx_forward.OnnxForward.__init__", fail)
    assert choose_forward(small_teacher(), "auto", pictures, LONG).engine == "torch"
    assert "going on with torch (unknown layer)" in caplog.text
    with pytest.raises(DistillError, match=r"teacher_precision=int8: .*\(unknown layer\)"):
        choose_forward(small_teacher(), "int8", pictures, LONG)


def test_a_copy_in_another_precision_leaves_the_original_alone():
    model = YoloTeacher(DetectionModel("yolo26n.yaml", nc=3, verbose=False)).forward.model
    TorchForward(model, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_precision_of_another_machine_is_chosen_anew():
    assert goes_on_here("int8", "cpu")
    assert not goes_on_here("fp16", "cpu")  # of a GPU, where it is fast
    assert not goes_on_here("int8", "mps")
