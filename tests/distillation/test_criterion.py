"""When the teacher is asked, what its answer adds, and that nobody has to wait for a GPU because of it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from made_criterion import SIZE, STRIDES, Counting, head_output, make_criterion, make_terms
from torch import nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.distillation.criterion import gradient_shares
from yolo_distill.distillation.gain_balance import Balancer
from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.distillation.projectors import make_projectors
from yolo_distill.distillation.terms import Levels
from yolo_distill.engine.step_cost import FullPrecisionLoss, cost_of_teaching, made_batch
from yolo_distill.engine.teaching import WithTeacher
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import DenseAnswer, each_tensor, read_head
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.yolo import YoloTeacher


@pytest.fixture(scope="module")
def student(tiny_student):
    torch.manual_seed(0)
    model = DetectionModel(tiny_student, nc=3, verbose=False).train()
    model.args = get_cfg()
    return model


@pytest.fixture(scope="module")
def teacher(tiny_student):
    torch.manual_seed(1)
    model = DetectionModel(tiny_student, nc=3, verbose=False)
    for layers in (model.model[-1].cv3, model.model[-1].one2one_cv3):
        for layer in layers:
            nn.init.constant_(layer[-1].bias, -2.5)
    return YoloTeacher(model, needs=Needs(maps=True))


@pytest.fixture
def begin(student, teacher):
    """Return a function that makes a criterion and says where its run is."""

    def make(steps=0, *, course=Course(), until=None, measure_every=0, **more):  # noqa: B008
        criterion = make_criterion(student, teacher, **more)
        criterion.start_at(steps, course=course, until=until, measure_every=measure_every)
        return criterion

    return make


@pytest.fixture
def walk(student):
    """Return a function that returns the class term of each of some steps."""

    def found(criterion, steps):
        for _ in range(steps):
            batch = made_batch(torch.rand(2, 3, SIZE, SIZE))
            criterion.prepare(batch)
            loss, items = criterion(student(batch["img"]), batch)
            assert torch.isfinite(loss).all()
            assert len(loss) == 3 + 2
            assert criterion._answer is None  # nothing is kept for longer than needed
            yield float(items["logit_loss"]) > 0

    return lambda *given: list(found(*given))


def test_the_teacher_rests_after_its_last_batch_also_where_a_run_goes_on(begin, walk):
    criterion = begin(until=2, measure_every=1)
    assert walk(criterion, 1) == [True]
    assert criterion.shares.keys() == criterion.cosines.keys() == {"logit", "localization"}
    assert walk(criterion, 3) == [True, False, False]
    assert criterion.teacher.asked == 2
    assert not criterion.teaches
    assert set(criterion.shares.values()) == {0.0}
    assert criterion.cosines == {}
    assert walk(begin(5, until=2), 1) == [False]


@pytest.mark.parametrize(("steps", "measure_every"), [(24, 12)])
def test_measuring_begins_anew_where_a_run_does(begin, walk, monkeypatch, steps, measure_every):
    criterion = begin(measure_every=10)
    measured: list[int] = []
    measure = criterion._measure
    monkeypatch.setattr(criterion, "_measure", lambda *given: measured.append(criterion.steps) or measure(*given))
    for epoch in range(2):
        criterion.start_at(10 * epoch, course=Course(), until=None, measure_every=10)  # where it is anyway
        walk(criterion, 10)
    assert measured == [9, 19]  # by the last batch of each epoch
    assert criterion.shares["logit"] > 0
    criterion.start_at(steps, course=Course(), until=None, measure_every=measure_every)
    walk(criterion, measure_every)
    assert measured[2:] == [steps + measure_every - 1]


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


def test_a_batch_that_was_not_prepared_is_taught_as_well(student, begin):
    batch = made_batch(torch.rand(2, 3, SIZE, SIZE))
    assert begin()(student(batch["img"]), batch)[1]["logit_loss"] > 0


def test_the_share_that_a_student_feels_becomes_what_was_wanted(student, begin, monkeypatch):
    wanted = {"logit": 0.3, "localization": 0.05}
    course = Course(ramp=4)
    criterion = begin(course=course, measure_every=100, balancer=Balancer(wanted), logit=50.0, localization=0.001)
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


def test_every_epoch_can_say_its_shares_however_short(begin, walk, monkeypatch):
    balancer = Balancer({"logit": 0.2, "localization": 0.1})
    criterion = begin(measure_every=5, balancer=balancer, logit=1.0, localization=1.0)
    looked: list[int] = []
    monkeypatch.setattr(balancer, "observe", lambda _: looked.append(criterion.steps))
    walk(criterion, 20)
    assert {step // 5 for step in looked} == {0, 1, 2, 3}


def test_losses_of_a_student_in_bf16_are_those_in_fp32(student):
    batch = made_batch(torch.rand(2, 3, SIZE, SIZE))
    host = student.init_criterion()
    with torch.autocast("cpu", torch.bfloat16):
        preds = student(batch["img"])
        assert preds["one2many"]["scores"].dtype == torch.bfloat16
        loss, items = FullPrecisionLoss(host)(preds, batch)
    assert loss.dtype == torch.float32
    expected, _ = host(each_tensor(preds, torch.Tensor.float), batch)
    torch.testing.assert_close(loss, expected)
    assert {value.dtype for value in items.values()} == {torch.float32}
    loss.sum().backward()
    copied = deepcopy(FullPrecisionLoss(host))
    assert copied.o2m == host.o2m
    with pytest.raises(AttributeError, match="nothing"):
        copied.nothing  # noqa: B018


def test_measuring_the_cost_leaves_student_and_criterion_as_they_are(student, begin):
    criterion = begin(7, course=Course(ramp=3), measure_every=4)
    student.zero_grad()
    before, chance = {key: value.clone() for key, value in student.state_dict().items()}, torch.get_rng_state()
    pictures = torch.full((2, 3, SIZE, SIZE), 0.5)
    cost_of_teaching(student, criterion, pictures, "fp32")
    assert torch.equal(torch.get_rng_state(), chance)
    assert (criterion.steps, criterion.course.ramp, criterion.measure_every) == (7, 3, 4)
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())
    assert all(p.grad is None for p in student.parameters())


def test_one_of_several_devices_measures_the_cost_by_itself(student, begin, walk, monkeypatch):
    def nobody_answers(tensor):
        raise AssertionError("the other devices are not here")

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", nobody_answers)
    criterion = begin()
    cost_of_teaching(student, criterion, torch.rand(2, 3, SIZE, SIZE), "fp32")
    with pytest.raises(AssertionError, match="not here"):
        walk(criterion, 1)


def test_automatic_batch_size_sees_teacher_and_terms_and_copies_only_the_student(student, teacher):
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

    student, answer = (
        read_head(head_output(3, reg_max, end2end=single, device="meta"), STRIDES, reg_max)
        for single in (True, teacher_single)
    )
    values = terms(student, answer, 0.8, 0.2, (SIZE, SIZE))
    assert all(value.device.type == "meta" for value in values.values())
    sum(values.values()).backward()
    for needs_a_value in (lambda t: t.nonzero(), float, bool):  # the device does notice
        with pytest.raises(RuntimeError):
            needs_a_value(torch.empty((), device="meta"))
