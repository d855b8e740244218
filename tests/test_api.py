"""The commands as functions: the same settings, checks and results."""

from __future__ import annotations

import json
import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from live_detector import draw
from made_detector import dense, write_detector

import yolo_distill
from yolo_distill import DistillError, RequestError


@pytest.fixture
def short(tiny_data, tiny_student, tmp_path) -> dict[str, Any]:
    """Settings of a training of a few steps."""
    return {
        "student": tiny_student, "data": tiny_data, "imgsz": 64, "epochs": 1, "batch": 4, "plots": False,
        "project": tmp_path / "runs", "device": "cpu",
    }  # fmt: skip


def test_train_takes_a_yolo_and_returns_weights_and_figures(short, tiny_teacher):
    from ultralytics import YOLO

    run = yolo_distill.train(YOLO(tiny_teacher), **short, share={"cwd": 0.1}, classes=[0, 1])
    assert run.folder == Path("runs/train").absolute()
    assert (run.best, run.last) == (run.folder / "weights" / "best.pt", run.folder / "weights" / "last.pt")
    assert run.best.is_file()
    summary = json.loads((run.folder / "summary.json").read_text())
    assert (run.student.map, run.teacher.map) == (summary["student"]["map"], summary["teacher"]["map"])
    assert run.student.parameters < run.teacher.parameters
    assert run.student.megabytes == summary["student"]["file_bytes"] / 1e6
    assert repr(run).startswith(f"TrainResult(best={str(run.best)!r}, student=Figures(map={run.student.map:.1f}, ")


def test_a_trainer_takes_a_yolo_as_its_teacher(tiny_data, tiny_student, tiny_teacher, tmp_path):
    from ultralytics import YOLO

    student = YOLO(tiny_student)
    where = {"data": str(tiny_data), "imgsz": 64, "epochs": 1, "batch": 4, "project": str(tmp_path), "plots": False}
    student.train(trainer=yolo_distill.DistillationTrainer, teacher=YOLO(tiny_teacher), device="cpu", **where)
    assert student.trainer.recipe.teacher == tiny_teacher


def test_export_val_and_benchmark(tiny_data, tiny_teacher, capsys):
    made = yolo_distill.export(tiny_teacher, data=tiny_data, out=Path(), imgsz=(64, 64), nms=None)
    assert (made.format, made.precision, made.imgsz) == ("onnx", "fp32", (64, 64))
    assert json.loads(made.proof.read_text())["file_bytes"] == made.megabytes * 1e6 == made.file.stat().st_size
    assert made.ms.keys() == {"torch", "fp32"}
    assert repr(made).startswith("ExportResult(file=")
    of_file = yolo_distill.val(made.file, tiny_data)
    assert (of_file.pictures, of_file.figures["model"]) == (4, str(made.file))
    assert made.map["fp32"] == pytest.approx(of_file.map, abs=1e-3)
    assert repr(of_file).startswith(f"ValResult(map={of_file.map:.1f}, map50=")
    assert capsys.readouterr().out == ""


def test_benchmark_returns_its_report():
    from yolo_distill import benchmark

    files = [write_detector(Path(f"{name}.onnx"), dense((32, 32, 40, 40, 0.9, 0.1, 0.0))) for name in ("a", "b")]
    fast = {"rounds": 2, "seconds": 0.05, "threads": [1], "backends": ["ours"]}
    found = benchmark(files, **fast)
    assert list(found.p50_ms) == ["a.onnx, ours", "b.onnx, ours"]
    assert found.files[0] == Path("runs/benchmark/benchmark.json")
    assert found.failed == {}
    assert json.loads(found.files[0].read_text())["rows"] == found.report["rows"]


def test_label_returns_what_it_made(tiny_teacher):
    Path("in").mkdir()
    for number, picture in enumerate(draw(3, 64, 64)):
        cv2.imwrite(f"in/{number}.png", picture)
    found = yolo_distill.label(tiny_teacher, ["in"], "out", device="cpu")
    assert (found.data, found.contact_sheet) == (Path("out/data.yaml"), Path("out/contact-sheet.html"))
    assert (found.pictures, found.unread, list(found.boxes)) == (3, 0, ["disc", "square"])
    part = yolo_distill.label(tiny_teacher, "in", "parts", device="cpu", shard="1/2")
    assert (part.folder, part.data, part.pictures) == (Path("parts"), None, None)
    assert yolo_distill.label(out="parts", merge=True).pictures == 3


def test_compare_returns_verdict_and_table(monkeypatch):
    from yolo_distill.comparison import compare, report

    asked = []
    monkeypatch.setattr(report, "markdown", lambda summary: "| table |")
    monkeypatch.setattr(compare, "compare", lambda request: asked.append(request) or {"verdict": "ahead"})
    Path("t.pt").touch()
    found = yolo_distill.compare(
        "t.pt", "s.yaml", "coco8.yaml", seeds=[0, 1], arms=["plain", "distilled"], epochs=3, logit=1
    )
    assert (found.verdict, found.table, found.page) == ("ahead", "| table |", Path("runs/compare/index.html"))
    assert (asked[0].seeds, asked[0].arms, asked[0].host, asked[0].own) == (
        "0,1", "plain,distilled", {"epochs": 3}, {"logit": 1.0},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: yolo_distill.train(data="coco8.yaml"), "teacher= is missing; give it, e.g. teacher=yolo26s.pt"),
        (lambda: yolo_distill.train({"a": 1}), "teacher=: takes text, a number, true or false, a path"),
        (lambda: yolo_distill.export("nowhere/best.pt"), "model=nowhere/best.pt: no such file"),
        (lambda: yolo_distill.label("yolo26s.pt", "in"), "out= is missing: folder of the data set"),
        (lambda: yolo_distill.benchmark(["a.onnx", "a.onnx"]), "model=a.onnx: is given twice"),
    ],
)
def test_what_is_refused_is_one_line(call, message, capsys):
    with pytest.raises(RequestError) as error:
        call()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, DistillError)
    assert capsys.readouterr().err == ""


def test_help_is_a_page_also_in_the_base_install():
    code = (
        "import sys\nsys.modules.update(dict.fromkeys(['torch', 'ultralytics', 'pydantic', 'cv2', 'onnxruntime']))\n"
        "import pydoc, yolo_distill\nprint(pydoc.render_doc(yolo_distill, renderer=pydoc.plaintext))"
    )
    page = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert len(page.splitlines()) < 150
    for name in yolo_distill.__all__:
        assert name.strip("_").lower() in page.lower()
    assert pydoc.render_doc(yolo_distill.train, renderer=pydoc.plaintext).count("\n") < 15
