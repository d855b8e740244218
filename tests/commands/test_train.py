"""`yolo-distill train` as a person types it: what works, and what bad input gets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tiny_yolo import write_architecture

from yolo_distill.cli import main
from yolo_distill.errors import RequestError
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.terms_table import TERMS


@pytest.fixture
def words(tiny_data, tiny_student, tmp_path) -> list[str]:
    return [
        f"data={tiny_data}", "imgsz=64", "epochs=1", "batch=4", "plots=false", f"project={tmp_path / 'runs'}",
        "device=cpu", f"student={tiny_student}",
    ]  # fmt: skip


@pytest.fixture
def teacher(tiny_teacher) -> Path:
    return Path(tiny_teacher)


@pytest.fixture
def larger() -> str:
    """Return the architecture of a teacher that has to be trained first."""
    return str(write_architecture(Path("larger.yaml").absolute(), width=2))


@pytest.fixture
def checkpoint(make_teacher, tiny_student) -> Callable[..., Path]:
    """Return a function that saves a model of the student's architecture, of other classes if they are given."""
    return lambda *names: make_teacher(tiny_student, dict(enumerate(names or ("disc", "square"))))


def test_the_whole_run(words, larger, tmp_path, capsys):
    """An architecture as teacher: trained first, found again; the run ends with the table of both."""
    words = [*words, f"teacher={larger}", "teacher_epochs=1"]
    assert main(["train", *words]) == 0
    run = tmp_path / "runs" / "train"
    summary = json.loads((run / "summary.json").read_text())
    for who in ("teacher", "student"):
        assert {"map", "map50", "parameters", "gflops", "file_bytes", "ms"} <= summary[who].keys()
    assert summary["student"]["parameters"] < summary["teacher"]["parameters"] / 2
    assert summary["pace"] is None  # inside its teacher, the student is trained alone
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recipe["teacher"].endswith("best.pt")
    assert {recipe[name] for name in TERMS} == {0}
    (folder,) = (tmp_path / "runs").glob("teacher-larger-*")
    stamp = (folder / "weights" / "best.pt").stat().st_mtime_ns

    assert main(["train", *words, "logit=0.5", "name=second"]) == 0  # another recipe, the same teacher
    assert [p.name for p in (tmp_path / "runs").glob("teacher-*")] == [folder.name]
    assert (folder / "weights" / "best.pt").stat().st_mtime_ns == stamp
    assert (tmp_path / "runs" / "second" / "weights" / "best.pt").exists()
    summary = json.loads((tmp_path / "runs" / "second" / "summary.json").read_text())
    assert summary["pace"]["teacher"].startswith("larger, ")


def test_weights_that_are_given_epochs_learn_the_data_first(words, larger, make_teacher, tmp_path):
    assert main(["train", *words, f"teacher={make_teacher(larger, {0: 'dog'})}", "teacher_epochs=1"]) == 0
    recipe = yaml.safe_load((tmp_path / "runs" / "train" / "recipe.yaml").read_text())
    assert recipe["teacher_epochs"] is None  # what it names has been trained
    assert list(load_detector(recipe["teacher"]).names.values()) == ["disc", "square"]


def test_a_teacher_that_learns_the_data_needs_no_map_of_its_classes(words, larger, tmp_path, capsys):
    (tmp_path / "map.yaml").write_text("dog: disc\n")
    assert main(["train", *words, f"teacher={larger}", f"class_map={tmp_path / 'map.yaml'}"]) == 2
    assert "map.yaml: the teacher learns the data's own classes; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_teacher_that_was_interrupted_goes_on(words, larger, tmp_path, monkeypatch):
    from yolo_distill.engine.teacher_training import TeacherTrainer

    words = [*words, f"teacher={larger}", "teacher_epochs=2"]
    save = TeacherTrainer.save_model

    def once(self):
        save(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(TeacherTrainer, "save_model", once)
    assert main(["train", *words]) == 130
    monkeypatch.setattr(TeacherTrainer, "save_model", save)
    (folder,) = (tmp_path / "runs").glob("teacher-*")
    with (folder / "results.csv").open("a") as results:
        results.write("2,0\n")  # of an epoch whose checkpoint was not written any more
    assert main(["train", *words]) == 0
    epochs = [line.split(",")[0] for line in (folder / "results.csv").read_text().splitlines()[1:]]
    assert epochs == ["1", "2"]


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(words, teacher, tmp_path):
    code = (
        "import sys, os, signal\n"
        "from yolo_distill.engine.trainer import DistillationTrainer as T\n"
        "save = T.save_model\n"
        "def stop(self):\n"
        "    save(self)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "T.save_model = stop\n"
        "from yolo_distill.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = [*[w for w in words if not w.startswith("epochs")], "epochs=3", f"teacher={teacher}"]
    done = subprocess.run([sys.executable, "-c", code, "train", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130
    assert not re.search("Traceback|\x1b", done.stderr + done.stdout)  # nor colour codes of the host, in a file
    last = tmp_path / "runs" / "train" / "weights" / "last.pt"
    assert f"yolo-distill train resume={last}" in done.stdout + done.stderr
    assert main(["train", f"resume={last}"]) == 0
    assert (last.parent.parent / "summary.json").exists()


def test_a_full_disk_names_the_file(words, teacher, tmp_path, full_disk, capsys):
    with full_disk(50_000):
        assert main(["train", *words, f"teacher={teacher}"]) == 1
    weights = tmp_path / "runs" / "train" / "weights"
    assert f"yolo-distill: {weights / 'exact-0.pt'}: cannot be written (File too large)" in capsys.readouterr().err
    assert list(weights.rglob("*")) == []


def test_ctrl_c_before_the_first_checkpoint_leaves_nothing(words, teacher, tmp_path, monkeypatch):
    from yolo_distill.engine.trainer import DistillationTrainer

    def stop(self):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(DistillationTrainer, "optimizer_step", stop)
    assert main(["train", *words, "nbs=4", f"teacher={teacher}"]) == 130
    assert not (tmp_path / "runs" / "train").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["epocs=3"], "unknown key 'epocs'; did you mean 'epochs'?"),
        (["logt=1"], "unknown key 'logt'; did you mean 'logit'?"),
        (["logit=-1"], "logit=-1: must be between 0 and 10000"),
        (["balance=auto", "share=0.5"], "share.logit=0.5, share.localization=0.5"),
        (["amp=fp16"], "amp=fp16: on a CPU a student trains in fp32 or bf16"),
        (["epochs=0.5"], "epochs=0.5"),
        (["model=yolo26n.pt"], "model= does not belong here: the student is given as student="),
        (["save=false"], "save=False: checkpoints are what a run goes on from"),
        (["task=segment"], "is a detect model; leave task= out"),
        (["teacher="], "teacher= is missing"),
        (["teacher=nowhere/t.pt"], "teacher=nowhere/t.pt: no such file"),
        (["teacher=text.pt"], "teacher=text.pt: is not a PyTorch checkpoint"),
        (["teacher={dog}", "force=true"], "the teacher does not know"),
        (["teacher={pets}", "force=true"], "teacher and data have no class in common"),
        (["teacher={larger}", "student=yolov8n.yaml", "init=teacher", "force=true"], "init=teacher: only"),
        (["teacher={larger}", "student=yolov8n.yaml"], "heads); swap the two, or give force=true"),
        (["teacher={dog}"], "(10,760 and 10,760 parameters without the heads); take a smaller student, or give force="),
        (["imgsz=100"], "imgsz=100: the model takes multiples of 32 up to 8192, such as 96 or 128"),
        (["student_width=0"], "student_width=0: must be above 0"),
        (["student=yolo26n.pt", "student_act=relu"], "student_act=relu: student=yolo26n.pt has a size of its own;"),
        (["student=yolo26n.pt"], "cannot be downloaded"),
        (["student=yolo26n.pt"], "give student=yolo26n.yaml, which needs no download, or put yolo26n.pt into "),
        (["best.pt"], "'best.pt' is one too many: teacher="),
        (["weights=best.pt"], "weights= does not belong here: the student is given as student=, the teacher as"),
        (["student=nowhere/s.yaml"], "student=nowhere/s.yaml: no such file"),
        (["pretrained=nowhere/s.pt"], "pretrained=nowhere/s.pt: no such file"),
        (["data=nowhere.yaml"], "data=nowhere.yaml: no such file"),
        (["resume=nowhere/last.pt"], "resume=nowhere/last.pt: no such file"),
        (["resume={teacher}"], "not an interrupted distillation run"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_requests(words, teacher, larger, checkpoint, refused, extra, message):
    Path("text.pt").write_text("hello")
    files = {"larger": larger, "teacher": teacher, "dog": checkpoint("disc", "dog"), "pets": checkpoint("cat", "dog")}
    extra = [word.format(**files) for word in extra]
    assert message in refused("train", *words, f"teacher={teacher}", *extra)


def test_a_student_of_any_size(words, teacher, tmp_path, caplog, capsys):
    words = [*words, f"teacher={teacher}"]
    assert main(["train", *words, "student_width=0.5", "student_act=relu"]) == 0
    assert "and fitted to its answers" in caplog.text
    model = torch.load(tmp_path / "runs" / "train" / "weights" / "best.pt", weights_only=False)["model"]
    assert (type(model.model[0].act).__name__, model.yaml["width_multiple"]) == ("ReLU", 0.5)
    assert (tmp_path / "runs" / "tiny-w0.5-relu.yaml").is_file()
    assert main(["train", *words, "student_width=4"]) == 2
    said = capsys.readouterr().err
    assert "tiny.yaml with student_width=4.0 is larger than its teacher=" in said
    assert "heads); give a smaller size, or give force=true" in said
    assert not (tmp_path / "runs" / "tiny-w4.0.yaml").exists()


def test_a_folder_that_cannot_be_written(words, teacher, tmp_path, refused):
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(
        "train", *words, f"teacher={teacher}", f"project={tmp_path / 'file' / 'runs'}"
    )


def test_some_classes_may_go_without_a_teacher(words, checkpoint, tmp_path, caplog):
    words = [*words, f"teacher={checkpoint('dog', 'disc')}", "match=some", "recipe=taught", "force=true"]
    assert main(["train", *words]) == 0
    for said in ("1 of 2 classes taught", "not taught: square"):
        assert said in caplog.text
    assert "map" in json.loads((tmp_path / "runs" / "train" / "summary.json").read_text())["teacher"]


def test_single_cls(words, larger, tmp_path):
    assert main(["train", *words, f"teacher={larger}", "single_cls=true"]) == 0
    summary = json.loads((tmp_path / "runs" / "train" / "summary.json").read_text())
    for row in ("teacher", "student"):
        assert [one["name"] for one in summary[row]["classes"]] == ["item"]


@pytest.mark.parametrize(
    "stopped",
    ["trainer.DistillationTrainer.final_eval", pytest.param("summary.evaluate", marks=pytest.mark.slow)],
)
def test_a_run_stopped_after_its_last_epoch_is_finished_by_resume(stopped, words, teacher, tmp_path, monkeypatch):
    """While the host strips and measures its checkpoints, and while teacher and student are measured."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"yolo_distill.engine.{stopped}", stop)
        assert main(["train", *words, f"teacher={teacher}"]) == 130
    last = tmp_path / "runs" / "train" / "weights" / "last.pt"
    assert main(["train", f"resume={last}"]) == 0
    assert torch.load(last, weights_only=False)["epoch"] == -1
    assert (last.parent.parent / "summary.json").exists()


def test_weights_by_pretrained_are_the_students_own(words, teacher, checkpoint, refused, monkeypatch):
    from yolo_distill.engine import run

    good, seen = checkpoint(), []

    def refuse(found, student, data, **rest):
        seen.append(student)
        raise RequestError("the teacher is worse than the student already is")

    monkeypatch.setattr(run, "require_better", refuse)
    line = refused("train", *words, f"teacher={teacher}", f"pretrained={good}")
    assert line == "the teacher is worse than the student already is"
    weights = torch.load(good, weights_only=False)["model"].float().state_dict()
    assert all(torch.equal(value.float(), weights[name]) for name, value in seen[0].state_dict().items())


@pytest.mark.slow
def test_a_teacher_that_is_trained_first_does_not_begin_with_the_students_weights(
    words, larger, checkpoint, tmp_path, monkeypatch
):
    from yolo_distill.engine import run

    own = checkpoint()
    monkeypatch.setattr(run, "look_at_both", lambda *_: None)
    assert main(["train", *words, f"teacher={larger}", f"pretrained={own}"]) == 0
    (trained,) = (tmp_path / "runs").glob("teacher-*/args.yaml")
    assert yaml.safe_load(trained.read_text())["pretrained"] is True
    assert yaml.safe_load((tmp_path / "runs" / "train" / "args.yaml").read_text())["pretrained"] == str(own)


def test_a_label_that_is_corrected_asks_for_another_teacher(own_data):
    from yolo_distill.data.dataset import check_data
    from yolo_distill.engine.teacher_training import content_key

    found = check_data(own_data, ("train", "val"))
    before = content_key("yolo26s.yaml", found, {"epochs": 1})
    assert content_key("yolo26s.yaml", found, {"epochs": 1, "device": "cpu", "name": "other"}) == before
    assert content_key("yolo26n.yaml", found, {"epochs": 1}) != before
    label = next((own_data.parent / "labels" / "train").glob("*.txt"))
    text = label.read_text()
    label.write_text(("1" if text[0] == "0" else "0") + text[1:])  # as long as before
    assert content_key("yolo26s.yaml", found, {"epochs": 1}) != before
