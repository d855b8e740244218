"""Students of other tasks than detection: whose start, terms, figures and data are those of their task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from live_detector import live_detector, save
from tiny_yolo import write_architecture
from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load

from yolo_distill.cli import main
from yolo_distill.comparison.candidates import Deadline, smaller_networks
from yolo_distill.data.dataset import check_data
from yolo_distill.engine.gradient_shares import read_columns
from yolo_distill.engine.run import check_pair, default_student
from yolo_distill.engine.teacher_setup import measure_teachers
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.models.architecture_files import load_architecture
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.models.tasks import TASKS, task_of
from yolo_distill.recipe import make_recipe
from yolo_distill.teachers.answer import read_head
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.loading import Teachers
from yolo_distill.teachers.yolo import YoloTeacher

OTHERS = ("segment", "pose", "obb")
#: Where the terms of a task stand in results.csv.
OWN = {"segment": ["train/kd_masks"], "pose": ["train/kd_points"], "obb": ["train/local_loss"]}


def test_a_smaller_checkpoint_has_the_keypoints_of_the_data(of_task, tmp_path, capsys):
    plans = [write_architecture(Path(f"{name}.yaml"), width, task="pose") for name, width in (("s", 1), ("t", 2))]
    plans[0].write_text(plans[0].read_text().replace("kpt_shape: [4, 3]", "kpt_shape: [17, 3]"))
    save(live_detector(str(plans[1]), ["disc", "square"], task="pose"), tmp_path / "t.pt", 64)
    words = ["shrink", "teacher=t.pt", f"data={of_task('pose')}", "student=s.yaml", "device=cpu", "out=s.pt"]
    assert main(words) == 0
    assert "mAP50-95 " in capsys.readouterr().out
    assert load_detector("s.pt").model[-1].kpt_shape == [4, 3]
    plans[1].write_text(plans[1].read_text().replace("kpt_shape: [4, 3]", "kpt_shape: [5, 3]"))
    save(live_detector(str(plans[1]), ["disc", "square"], task="pose"), tmp_path / "t.pt", 64)
    assert main(words) == 2
    assert "has kpt_shape: [4, 3], and teacher=t.pt finds [5, 3]; use data with" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["seg", "pose", "obb"])
@pytest.mark.parametrize(
    "family", ["yolo26", *(pytest.param(f"yolo{v}", marks=pytest.mark.slow) for v in ("v8", "11"))]
)
def test_a_teacher_answers_like_the_host(family, kind):
    model = load_architecture(f"{family}n-{kind}.yaml", 2, kpt_shape=(4, 3))
    images = torch.rand(1, 3, 64, 96)
    answer = YoloTeacher(model, needs=Needs(extra=True))(images)
    head = model.model[-1]
    head.training = True  # it then decodes nothing
    with torch.no_grad():
        wanted = read_head(model(images), [int(s) for s in head.stride], int(head.reg_max))
    assert len(answer.branches) == len(wanted.branches)
    for branch, other in zip(answer.branches, wanted.branches, strict=True):
        assert (branch.proto is None) == (kind != "seg")
        for name in ("logits", "sides", "extra") + (() if branch.proto is None else ("proto",)):
            torch.testing.assert_close(getattr(branch, name), getattr(other, name), atol=1e-5, rtol=0)


@pytest.mark.parametrize("task", ["segment", pytest.param("pose", marks=pytest.mark.slow), "obb"])
def test_a_student_of_another_task_is_trained_and_measured(task, of_task, tmp_path, capsys):
    small = write_architecture(tmp_path / "small.yaml", task=task)
    wide = write_architecture(tmp_path / "large.yaml", width=2, task=task)
    large = save(live_detector(str(wide), ("disc", "square"), task=task), tmp_path / "large.pt", 64)
    words = [f"teacher={large}", f"student={small}", f"data={of_task(task)}", f"project={tmp_path}", "name=run"]
    short = ["imgsz=64", "epochs=1", "batch=4", "workers=0", "plots=False", "teach=true", "box_floor=0"]
    assert main(["train", *words, *short, "teacher_imgsz=128"]) == 0
    model = YOLO(tmp_path / "run" / "weights" / "best.pt").model
    assert type(model) is TASKS[task].model
    assert task_of(model) == task
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {"map", "parameters"} <= summary["student"].keys() & summary["teacher"].keys()
    assert ("of_boxes" in summary["student"]) == (task != "obb")
    header, values = (tmp_path / "run" / "results.csv").read_text().splitlines()
    losses = dict(zip(header.split(","), map(float, values.split(",")), strict=True))
    assert all(losses[name] > 0 for name in OWN[task])


@pytest.mark.slow
@pytest.mark.parametrize("task", OTHERS)
@pytest.mark.parametrize("family", ["yolov8", "yolo11"])
def test_each_family_is_taught_each_task(family, task, of_task, tmp_path):
    ending, data = TASKS[task].ending, of_task(task)
    plan = {**yaml_model_load(f"{family}s{ending}.yaml"), "kpt_shape": [4, 3]}
    large = save(live_detector(plan, ("disc", "square"), task=task), tmp_path / "large.pt", 64)
    words = [f"teacher={large}", f"student={family}n{ending}.yaml", f"data={data}"]
    short = ["imgsz=64", "epochs=1", "batch=4", "workers=0", "plots=false", "teach=true", "box_floor=0"]
    assert main(["train", *words, *short, f"project={tmp_path}", "name=run"]) == 0
    columns = read_columns(tmp_path / "run" / "results.csv")
    assert all(columns[name][0] > 0 for name in OWN[task])


def test_a_deadlines_candidates_are_of_the_teachers_task():
    asked = Deadline(15, 1, "fp32", None, [], None, "relu")
    found = smaller_networks(load_architecture("yolo26s-seg.yaml", 1), asked, {0: "hole"})
    assert [Path(name).stem for name in found] == [f"yolo26{size}-seg-relu" for size in "npf"]
    assert {task_of(model) for model in found.values()} == {"segment"}


@pytest.mark.slow
@pytest.mark.parametrize("task", OTHERS)
def test_a_deadline_takes_a_student_of_another_task(task, of_task, tmp_path):
    wide = write_architecture(tmp_path / "wide.yaml", width=4, task=task)
    teacher = save(live_detector(str(wide), ("disc", "square"), task=task), tmp_path / "wide.pt", 64)
    words = [f"teacher={teacher}", f"data={of_task(task)}", f"project={tmp_path}", "name=run", "student_act=relu"]
    assert main(["train", *words, "latency=1000", "imgsz=64", "epochs=1", "batch=4", "plots=false", "workers=0"]) == 0
    kept = json.loads((tmp_path / "run" / "latency.json").read_text())
    assert len(kept["candidates"]) == 3
    assert 0 < kept["taken"]["ms"] < 1000
    assert kept["taken"]["map"] is not None
    assert task_of(YOLO(tmp_path / "run" / "weights" / "best.pt").model) == task


@pytest.mark.parametrize(
    ("task", "of", "says"),
    [
        ("segment", "detect", "has a row of 5 values, and the model is for segment, which learns from outlines"),
        ("obb", "detect", "has a row of 5 values, and the model is for obb, which learns from turned boxes"),
        ("pose", "segment", "has no kpt_shape, and the model is for pose, which learns from boxes and keypoints"),
        ("detect", "pose", "has kpt_shape: [4, 3], and the model is for detect, which learns from boxes"),
    ],
)
def test_labels_of_another_task_are_refused(task, of, says, of_task, tiny_data, tmp_path, capsys):
    small = write_architecture(tmp_path / "small.yaml", task=task)
    large = write_architecture(tmp_path / "large.yaml", width=2, task=task)
    data = tiny_data if of == "detect" else of_task(of)
    assert main(["train", f"teacher={large}", f"student={small}", f"data={data}"]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "theirs", "changes", "says"),
    [
        (
            "pose",
            "pose",
            {"kpt_shape": [17, 3]},
            "finds keypoints of kpt_shape [17, 3], and the student's are [4, 3]; ",
        ),
        ("obb", "detect", {}, "localization=: the student's boxes are turned and the teacher's are not; "),
        ("detect", "obb", {}, "localization=: the teacher's boxes are turned and the student's are not; "),
    ],
)
def test_what_can_not_be_taught_is_refused_before_anything_is_trained(
    task, theirs, changes, says, of_task, tmp_path, capsys
):
    small = write_architecture(tmp_path / "small.yaml", task=task)
    plan = {**yaml.safe_load(write_architecture(tmp_path / "large.yaml", width=2, task=theirs).read_text()), **changes}
    large = save(live_detector(plan, ("disc", "square"), task=theirs), tmp_path / "large.pt", 64)
    words = [f"teacher={large}", f"student={small}", f"data={of_task('obb' if task == 'detect' else task)}", "epochs=1"]
    assert main(["train", *words, "teach=true", f"project={tmp_path}"]) == 2
    assert says in capsys.readouterr().err
    data = check_data(of_task("obb" if task == "detect" else task), ("train", "val"))
    for own in ({"teach": True, "keypoint": 0, "localization": 0}, {"teach": False}):
        recipe = make_recipe({"teacher": str(large), **own})
        check_pair(str(small), recipe, Teachers.of(recipe), data, {"imgsz": 64})


def test_a_teacher_of_another_task_is_measured_by_its_boxes(of_task, tmp_path):
    """As the student is then: by what both find; and one of other keypoints than the data's likewise."""
    where = {"imgsz": 64, "device": "cpu"}

    def teacher_of(task, **changes):
        plan = yaml.safe_load(write_architecture(tmp_path / f"{task}.yaml", task=task).read_text())
        file = save(live_detector({**plan, **changes}, ("disc", "square"), task=task), tmp_path / f"{task}.pt", 64)
        recipe = make_recipe({"teacher": str(file)})
        return file, recipe, Teachers.of(recipe)

    _, *segmenter = teacher_of("segment")
    assert measure_teachers(*segmenter, of_task("segment"), task="segment", **where)["task"] == "segment"
    assert measure_teachers(*segmenter, of_task("segment"), task="detect", **where)["task"] == "detect"
    with pytest.raises(RequestError, match="its upright boxes say little beside the student's turned ones"):
        measure_teachers(*segmenter, of_task("obb"), task="obb", **where)
    file, *other = teacher_of("pose", kpt_shape=[17, 3])
    assert measure_teachers(*other, of_task("pose"), task="pose", **where)["task"] == "detect"
    with pytest.raises(RequestError, match=r"has kpt_shape: \[4, 3\], and the model finds .*: \[17, 3\]"):
        evaluate(file, of_task("pose"), **where)


def test_a_teacher_that_can_not_be_trained_on_the_labels_is_refused_at_once(of_task, tmp_path):
    small = write_architecture(tmp_path / "small.yaml", task="pose")
    recipe = make_recipe({"teacher": "yolo26s.yaml"})
    data = check_data(of_task("pose"), ("train", "val"))
    with pytest.raises(RequestError, match=r"teacher=yolo26s\.yaml learns data=.*: has kpt_shape: \[4, 3\]"):
        check_pair(str(small), recipe, Teachers.of(recipe), data, {"imgsz": 64})


def test_a_task_that_is_not_the_students_is_refused(tiny_data, tiny_student, capsys):
    assert main(["train", "teacher=yolo26s.yaml", f"student={tiny_student}", f"data={tiny_data}", "task=pose"]) == 2
    assert f"task=pose: student={tiny_student} is a detect model; leave task= out" in capsys.readouterr().err
    assert main(["train", "teacher=yolo26s.yaml", f"student={tiny_student}", f"data={tiny_data}", "mask=1"]) == 2
    assert f"mask=1: student={tiny_student} is a detect model, which has no masks" in capsys.readouterr().err


@pytest.mark.slow
def test_a_set_of_boxes_teaches_a_segmenter_and_no_turned_boxes(two_stages, of_task, tmp_path, capsys):
    small = {task: write_architecture(tmp_path / f"{task}.yaml", task=task) for task in ("segment", "obb")}
    words = [f"teacher={two_stages}", f"project={tmp_path}", "imgsz=64", "epochs=1", "batch=4", "workers=0"]
    short = ["plots=false", "box_floor=0", "ramp_epochs=0"]
    asked = [f"student={small['segment']}", f"data={of_task('segment')}", "name=run"]
    assert main(["train", *words, *short, *asked]) == 0
    columns = read_columns(tmp_path / "run" / "results.csv")
    assert min(columns["train/logit_loss"] + columns["train/local_loss"]) > 0
    assert main(["train", *words, *short, f"student={small['obb']}", f"data={of_task('obb')}"]) == 2
    said = f"teacher={two_stages}: answers with a set of upright boxes, and the student's are turned; give one YOLO"
    assert said in capsys.readouterr().err


def test_a_trainer_is_that_of_the_models_task(of_task, tmp_path):
    model = write_architecture(tmp_path / "small.yaml", task="obb")
    own = {"model": str(model), "teacher": str(model), "data": str(of_task("obb")), "project": str(tmp_path)}
    trainer = DistillationTrainer(overrides=own)
    assert isinstance(trainer, TASKS["obb"].trainer)
    assert trainer.args.task == "obb"


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("yolo26s.yaml", "yolo26n.yaml"),
        ("yolo11m-seg.yaml", "yolo11n-seg.yaml"),
        ("yolov8l-obb.yaml", "yolov8n-obb.yaml"),
        ("yolo26s-p2.yaml", "yolo26n-p2.yaml"),
        ("yolov9c.yaml", "yolo26n.yaml"),  # which has no nano
        ("torchvision:ssd300_vgg16", "yolo26n.yaml"),
    ],
)
def test_a_student_of_which_nothing_is_said_is_the_nano_of_its_teachers_family(teacher, student):
    assert default_student(Teachers.of(make_recipe({"teacher": teacher}))) == student


def test_so_it_is_of_a_trained_teacher(make_teacher, names):
    trained = str(make_teacher("yolo11s.yaml", names))
    assert default_student(Teachers.of(make_recipe({"teacher": trained}))) == "yolo11n.yaml"
