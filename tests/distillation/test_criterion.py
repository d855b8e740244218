"""When the teacher is asked, what its answer adds, and that nobody has to wait for a GPU because of it."""

from __future__ import annotations

import pytest
import torch
from made_criterion import SIZE, STRIDES, Counting, make_criterion, make_terms
from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.distillation.criterion import DistillationCriterion, gradient_shares
from yolo_distill.distillation.gain_balance import Balancer
from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.distillation.projectors import make_projectors
from yolo_distill.distillation.terms import Levels
from yolo_distill.engine.auto_batch import WithTeacher
from yolo_distill.engine.step_cost import (
    FullPrecisionLoss,
    made_batch,
    cost_of_teaching,
    single_precision,
    without_criterion,
)
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import DenseAnswer, read_head
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.yolo import YoloTeacher


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", nc=3, verbose=False).train()
    model.args = get_cfg()
    return model


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(1)
    model = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    for layers in (model.model[-1].cv3, model.model[-1].one2one_cv3):
        for layer in layers:
            nn.init.constant_(layer[-1].bias, -2.5)
    return YoloTeacher(model, needs=Needs(maps=True))


def walk(criterion, student, steps):
    """Return the class term of each of some steps."""
    found = []
    for _ in range(steps):
        batch = made_batch(torch.rand(2, 3, SIZE, SIZE))
        criterion.prepare(batch)
        loss, items = criterion(student(batch["img"]), batch)
        assert torch.isfinite(loss).all()
        assert len(loss) == 3 + 2
        assert criterion._answer is None  # nothing is kept for longer than needed
        found.append(float(items["logit_loss"]))
    return found


def test_the_teacher_rests_after_its_last_batch(student, teacher):
    criterion = make_criterion(student, teacher)
    criterion.start_at(0, course=Course(), until=2, measure_every=0)
    terms = walk(criterion, student, 4)
    assert [term > 0 for term in terms] == [True, True, False, False]
    assert criterion.teacher.asked == 2
    assert not criterion.teaches


def test_no_share_is_reported_while_the_teacher_rests(student, teacher):
    criterion = make_criterion(student, teacher)
    criterion.start_at(0, course=Course(), until=1, measure_every=1)
    walk(criterion, student, 1)
    assert criterion.shares
    assert criterion.cosines.keys() == criterion.shares.keys()
    walk(criterion, student, 1)
    assert set(criterion.shares.values()) == {0.0}
    assert criterion.cosines == {}


def test_a_resumed_run_knows_that_the_teacher_rests(student, teacher):
    criterion = make_criterion(student, teacher)
    criterion.start_at(5, course=Course(), until=2, measure_every=0)
    assert walk(criterion, student, 1) == [0]


def test_shares_are_measured_by_the_last_batch_of_each_epoch(student, teacher, monkeypatch):
    criterion = make_criterion(student, teacher)
    criterion.start_at(0, course=Course(), until=None, measure_every=10)
    measured: list[int] = []
    measure = criterion._measure

    def look(*given):
        measured.append(criterion.steps)
        measure(*given)

    monkeypatch.setattr(criterion, "_measure", look)
    walk(criterion, student, 40)
    assert measured == [9, 19, 29, 39]
    assert criterion.shares["logit"] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("factor", [1e-4, 0.5, 3.0])
def test_a_gradient_has_a_size_and_a_direction(dtype, factor, monkeypatch):
    torch.manual_seed(0)
    maps = {s: torch.randn(2, 4, SIZE // s, SIZE // s).to(dtype).requires_grad_() for s in STRIDES}
    task = sum(m.float().sin().mean() for m in maps.values())
    kept = torch.randn(())
    terms = {
        "along": factor * task,
        "against": -factor * task,
        "aside": factor * maps[8].float()[:, 0].cos().mean(),
        "nowhere": factor * (kept * 1.0).requires_grad_(),
        "off": torch.zeros(()),
    }
    passes: list[int] = []
    gradient = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *given, **rest: (passes.append(1), gradient(*given, **rest))[1])
    shares, cosines = gradient_shares(task, terms, DenseAnswer(None, None, maps, {}))
    assert len(passes) == 1 + 4  # one of the task, one of each term that has a graph
    loose = 1e-5 if dtype == torch.float32 else 1e-2
    assert [shares["along"], shares["against"]] == pytest.approx([factor, factor], rel=loose)
    assert cosines.keys() == {"along", "against", "aside"}  # without a gradient there is no direction
    assert [cosines["along"], cosines["against"]] == pytest.approx([1, -1], rel=loose)
    assert abs(cosines["aside"]) < 0.9
    assert [shares["nowhere"], shares["off"]] == [0, 0]


def test_a_batch_that_was_not_prepared_is_taught_as_well(student, teacher):
    criterion = make_criterion(student, teacher)
    batch = made_batch(torch.rand(2, 3, SIZE, SIZE))
    assert criterion(student(batch["img"]), batch)[1]["logit_loss"] > 0


def test_the_share_that_a_student_feels_becomes_what_was_wanted(student, teacher, monkeypatch):
    wanted = {"logit": 0.3, "localization": 0.05}
    terms = make_terms(logit=50.0, localization=0.001)
    criterion = DistillationCriterion(
        student.init_criterion(), Counting(teacher), terms, STRIDES, 1, balancer=Balancer(wanted)
    )
    criterion.start_at(0, course=Course(ramp=4), until=None, measure_every=100)
    torch.manual_seed(0)
    batch = made_batch(torch.rand(2, 3, SIZE, SIZE))
    looked: list[int] = []
    observe = Balancer.observe
    monkeypatch.setattr(Balancer, "observe", lambda *given: (looked.append(criterion.steps), observe(*given)))
    seen = []
    for _ in range(70):
        criterion.prepare(batch)
        criterion(student(batch["img"]), batch)
        seen.append(dict(criterion.shares))
    assert seen[0] == {}  # the ramp begins at 0: nothing to measure
    assert seen[1]["logit"] != pytest.approx(wanted["logit"], rel=0.2)
    assert seen[-1] == pytest.approx(wanted, rel=0.2)
    assert looked == [1, 2, 4, 8, 16, 32, 64]


def test_every_epoch_can_say_its_shares_however_short(student, teacher, monkeypatch):
    balancer = Balancer({"logit": 0.2, "localization": 0.1})
    criterion = DistillationCriterion(
        student.init_criterion(), Counting(teacher), make_terms(logit=1.0, localization=1.0), STRIDES, 1, balancer
    )
    criterion.start_at(0, course=Course(), until=None, measure_every=5)
    looked: list[int] = []
    monkeypatch.setattr(balancer, "observe", lambda _: looked.append(criterion.steps))
    batch = made_batch(torch.rand(2, 3, SIZE, SIZE))
    for _ in range(20):
        criterion(student(batch["img"]), batch)
    assert {step // 5 for step in looked} == {0, 1, 2, 3}


def test_a_term_at_the_end_of_its_schedule_is_not_computed(student, teacher):
    criterion = make_criterion(student, teacher, schedule="mosaic")
    criterion.start_at(0, course=Course(mosaic=2), until=None, measure_every=0)
    assert [term > 0 for term in walk(criterion, student, 4)] == [True, True, False, False]


def test_losses_of_a_student_in_bf16_are_those_in_fp32(student):
    batch = made_batch(torch.rand(2, 3, SIZE, SIZE))
    host = student.init_criterion()
    with torch.autocast("cpu", torch.bfloat16):
        preds = student(batch["img"])
        assert preds["one2many"]["scores"].dtype == torch.bfloat16
        loss, items = FullPrecisionLoss(host)(preds, batch)
    assert loss.dtype == torch.float32
    expected, _ = host(single_precision(preds), batch)
    torch.testing.assert_close(loss, expected)
    assert {value.dtype for value in items.values()} == {torch.float32}
    loss.sum().backward()
    assert FullPrecisionLoss(host).o2m == host.o2m


def test_the_price_leaves_student_and_criterion_as_they_are(student, teacher):
    criterion = make_criterion(student, teacher)
    criterion.start_at(7, course=Course(ramp=3), until=None, measure_every=4)
    student.zero_grad()
    before = {key: value.clone() for key, value in student.state_dict().items()}
    torch.manual_seed(2)
    expected = torch.rand(2)
    torch.manual_seed(2)
    assert cost_of_teaching(student, criterion, torch.rand(2, 3, SIZE, SIZE), "fp32") > 0
    torch.manual_seed(2)
    assert torch.equal(torch.rand(2), expected)
    assert (criterion.steps, criterion.course.ramp, criterion.measure_every) == (7, 3, 4)
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
    assert all(p.grad is None for p in student.parameters())


def test_one_of_several_devices_measures_the_price_by_itself(student, teacher, monkeypatch):
    def nobody_answers(tensor):
        raise AssertionError("the other devices are not here")

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", nobody_answers)
    criterion = make_criterion(student, teacher)
    cost_of_teaching(student, criterion, torch.rand(2, 3, SIZE, SIZE), "fp32")
    with pytest.raises(AssertionError, match="not here"):
        walk(criterion, student, 1)


def test_the_loss_in_single_precision_can_be_copied(student):
    from copy import deepcopy

    copied = deepcopy(FullPrecisionLoss(student.init_criterion()))
    assert copied.o2m == 0.8
    with pytest.raises(AttributeError, match="nothing"):
        copied.nothing  # noqa: B018


def test_a_copy_without_criterion_leaves_the_criterion_where_it_is(student, teacher):
    from copy import deepcopy

    student.criterion = make_criterion(student, teacher)
    try:
        with without_criterion(student):
            assert getattr(deepcopy(student), "criterion", None) is None
        assert isinstance(student.criterion, DistillationCriterion)
    finally:
        del student.criterion


def test_automatic_batch_size_sees_teacher_and_terms_and_copies_only_the_student(student, teacher):
    from copy import deepcopy

    student.zero_grad()
    counting = Counting(teacher)
    recipe = make_recipe({"teacher": "-", "cwd": 1.0})
    projectors = make_projectors(recipe, Levels.match(STRIDES, STRIDES), teacher.widths, teacher.widths, seed=0)
    watched = WithTeacher(student, counting, make_terms(projectors, cwd=1.0))
    copy = deepcopy(watched)
    images = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    raw, terms = copy(images)
    assert counting.asked == 1
    assert set(terms) == {"logit", "localization", "cwd"}
    sum(terms.values()).backward()
    assert copy.student is not student
    assert any(p.grad is not None for p in copy.student.parameters())
    assert all(p.grad is None for p in student.parameters())
    assert copy.stride is not None
    assert raw["one2many"]["scores"].shape[0] == 2


@pytest.mark.parametrize("teacher_single", [True, False], ids=["end-to-end teacher", "dense teacher"])
@pytest.mark.parametrize("reg_max", [1, 16])
def test_no_step_makes_the_host_wait_for_a_gpu(teacher_single, reg_max):
    """On tensors that only know their shape, whatever needs a value on the host is an error."""
    terms = make_terms(nn.ModuleDict(), logit=1.0, localization=1.0)

    def head(single):
        maps = [torch.empty(2, 4, SIZE // s, SIZE // s, device="meta", requires_grad=True) for s in STRIDES]
        anchors = sum((SIZE // s) ** 2 for s in STRIDES)

        def branch():
            boxes = torch.empty(2, 4 * reg_max, anchors, device="meta", requires_grad=True)
            return {
                "boxes": boxes,
                "scores": torch.empty(2, 3, anchors, device="meta", requires_grad=True),
                "feats": maps,
            }

        return {"one2many": branch(), "one2one": branch()} if single else branch()

    student, answer = read_head(head(True), STRIDES, reg_max), read_head(head(teacher_single), STRIDES, reg_max)
    values = terms(student, answer, 0.8, 0.2, (SIZE, SIZE))
    assert all(value.device.type == "meta" for value in values.values())
    sum(values.values()).backward()
    for needs_a_value in (lambda t: t.nonzero(), float, bool):  # the device does notice
        with pytest.raises(RuntimeError):
            needs_a_value(torch.empty((), device="meta"))
