"""What `balance=auto` costs with the usual three terms: a step that compares gradients beside one that does not.

    python tests/benchmarks/balance_cost.py teacher=best.pt student=yolo26n.yaml imgsz=192 batch=16

In processor time. The two alternate, and the least of each counts: what is above it is other processes.
"""

from __future__ import annotations

import sys
import time

import torch
from ultralytics.cfg import get_cfg

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.distillation.criterion import DistillationCriterion
from yolo_distill.distillation.gain_balance import MEASURE_EVERY, Balancer
from yolo_distill.distillation.gain_schedule import Course
from yolo_distill.distillation.projectors import make_projectors
from yolo_distill.distillation.terms import Levels, Terms, needs_of
from yolo_distill.engine.step_cost import made_batch
from yolo_distill.models.architecture_files import load_architecture
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.yolo import YoloTeacher

ROUNDS = 8


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    torch.set_num_threads(int(options.get("threads", 1)))
    teacher = load_detector(options["teacher"], role="teacher")
    student = load_architecture(options["student"], len(teacher.names), role="student").train()
    student.args = get_cfg()
    for parameter in student.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    # With the three terms that there are by default where the student starts inside its teacher and they are asked for.
    recipe = make_recipe({"teacher": options["teacher"], "balance": "auto"}).settled(inside=True)
    strides, theirs = ([int(s) for s in model.stride] for model in (student, teacher))
    answers = YoloTeacher(teacher, needs=needs_of(recipe, student.model[-1], teacher.model[-1]))
    levels = Levels.match(strides, theirs)
    channels = [seq[0].conv.in_channels for seq in student.model[-1].cv2]
    widths = dict(zip(levels.student, channels, strict=True))
    projectors = make_projectors(recipe, levels, widths, answers.widths, seed=0)
    terms = Terms(recipe, match_classes(teacher.names, teacher.names), levels, projectors, maps=answers.widths)
    criterion = DistillationCriterion(
        student.init_criterion(),
        answers,
        terms,
        strides,
        int(student.model[-1].reg_max),
        balancer=Balancer(recipe.share),
    )
    imgsz = int(options["imgsz"])
    batch = made_batch(torch.rand(int(options["batch"]), 3, imgsz, imgsz))

    def seconds(measure_every: int) -> float:
        criterion.start_at(0, course=Course(), until=None, measure_every=measure_every)
        started = time.process_time()
        criterion.prepare(batch)
        loss, _ = criterion(student(batch["img"]), batch)
        loss.sum().backward()
        student.zero_grad()
        return time.process_time() - started

    seconds(0), seconds(1)  # the first of each sets things up
    pairs = [(seconds(0), seconds(1)) for _ in range(ROUNDS)]
    plain, measured = (min(times) for times in zip(*pairs, strict=True))
    extra = measured / plain - 1
    print(f"a comparison takes {extra:.0%} of a step, {extra / MEASURE_EVERY:.1%} when every {MEASURE_EVERY}. has one")


if __name__ == "__main__":
    main(sys.argv[1:])
