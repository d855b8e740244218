"""Two processes with half a batch each: the same loss and gradients as one with all of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.distillation.projectors import average_gradients, make_projectors
from yolo_distill.distillation.terms import Levels, Terms
from yolo_distill.engine.teacher_stop import agree_on_epochs
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import read_head

SIZE, STRIDES, PICTURES = 64, [8, 16, 32], 4


def heads() -> tuple[dict, dict]:
    """Return raw outputs of a student and a teacher for four pictures, of which the first two hold little."""
    torch.manual_seed(0)
    anchors = sum((SIZE // s) ** 2 for s in STRIDES)

    def branch():
        return {
            "boxes": torch.rand(PICTURES, 4, anchors) * 2,
            "scores": torch.randn(PICTURES, 2, anchors),
            "feats": [torch.randn(PICTURES, 4, SIZE // s, SIZE // s) for s in STRIDES],
        }

    student, teacher = ({"one2many": branch(), "one2one": branch()} for _ in range(2))
    for part in teacher.values():
        part["scores"][:2] -= 3
    return student, teacher


def part_of(head: dict, pictures: slice, learns: bool) -> dict:
    def leaf(value):
        return value[pictures].clone().requires_grad_(learns)

    return {
        name: {key: [leaf(m) for m in v] if isinstance(v, list) else leaf(v) for key, v in branch.items()}
        for name, branch in head.items()
    }


def loss_and_gradients(pictures: slice, devices: int) -> tuple[dict, dict, nn.ModuleDict]:
    """Return terms and gradients as the host makes them: a sum over the batch, times the devices."""
    raw_student, raw_teacher = heads()
    student, teacher = part_of(raw_student, pictures, True), part_of(raw_teacher, pictures, False)
    names = {0: "a", 1: "b"}
    levels = Levels.match(STRIDES, STRIDES)
    recipe = make_recipe({"teacher": "-", "hinton": 1.0, "mimic": 1.0})
    projectors = make_projectors(recipe, levels, dict.fromkeys(STRIDES, 4), dict.fromkeys(STRIDES, 4), seed=0)
    terms = Terms(recipe, match_classes(names, names), levels, projectors)
    values = terms(read_head(student, STRIDES, 1), read_head(teacher, STRIDES, 1), 0.8, 0.2, (SIZE, SIZE))
    (sum(values.values()) * student["one2many"]["scores"].shape[0] * devices).backward()
    return {k: v.detach() for k, v in values.items()}, student, projectors


def _rank(rank: int, store: str, results) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    values, student, projectors = loss_and_gradients(slice(2 * rank, 2 * rank + 2), 2)
    projectors["idle"] = nn.Conv2d(1, 1, 1)
    average_gradients(projectors)
    idle = projectors.pop("idle").weight.grad
    run = SimpleNamespace(args=SimpleNamespace(time=1.0, epochs=10 + rank), epochs=10 + rank)
    agree_on_epochs(run)
    gradients = {f"{n}/{k}": student[n][k].grad.numpy() / 2 for n in student for k in ("boxes", "scores")}
    weights = {name: p.grad.numpy() for name, p in projectors.named_parameters()}
    losses = {k: float(v) for k, v in values.items()}
    results.put((rank, losses, gradients, weights, [run.epochs, run.args.epochs], idle))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_halves_are_the_whole(two_processes):
    halves = two_processes(_rank)
    whole, student, projectors = loss_and_gradients(slice(0, PICTURES), 1)
    for term in ("logit", "hinton", "localization", "mimic"):
        mean = sum(half[1][term] for half in halves) / 2
        torch.testing.assert_close(torch.tensor(mean), whole[term], rtol=1e-5, atol=1e-6)
    for rank, half in enumerate(halves):
        for key, gradient in half[2].items():
            branch, part = key.split("/")
            expected = student[branch][part].grad[2 * rank : 2 * rank + 2]
            torch.testing.assert_close(torch.from_numpy(gradient), expected, rtol=1e-4, atol=1e-6)
        # Terms that standardise over the pictures they have, as batch norm does, could not promise this.
        for name, parameter in projectors.named_parameters():
            torch.testing.assert_close(torch.from_numpy(half[3][name]), parameter.grad, rtol=1e-4, atol=1e-6)
        assert half[4] == [10, 10]  # by the first process's clock
        assert half[5] is None  # a projector without gradient in this step
