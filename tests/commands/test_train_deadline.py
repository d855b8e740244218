"""`yolo-distill train latency=`: which student is taken, and that its file is the one that was timed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import pytest
import torch

from yolo_distill.cli import main
from yolo_distill.errors import RequestError

WIDE = "tiny-wide"
#: Made times: at 64 px from 2 to 7 ms, at 96 px twice that; ReLU takes 1 ms less than SiLU.
TIMES = {
    f"{WIDE}-w{width}{act}-{side}-fp32.onnx": side / 64 * (base - (act == "-relu"))
    for width, base in (("1.0", 7), ("0.75", 5), ("0.5", 3))
    for act in ("", "-relu")
    for side in (64, 96)
}


@pytest.fixture
def words(tiny_data, tiny_teacher, tmp_path) -> list[str]:
    return [
        f"teacher={tiny_teacher}", f"data={tiny_data}", "epochs=1", "batch=4", "plots=false", "device=cpu",
        f"project={tmp_path / 'runs'}", "imgsz=64",
    ]  # fmt: skip


def measured(times: Mapping[str, float], threads: int = 1, notes: Sequence[str] = ()) -> Path:
    """Write what `benchmark` writes, as far as it counts here."""
    rows = [{"model": name, "backend": "ours", "threads": {f"{threads}": {"p50_ms": ms}}} for name, ms in times.items()]
    others = [{**row, "backend": "host", "threads": {f"{threads}": {"p50_ms": 0.1}}} for row in rows]
    Path("device.json").write_text(json.dumps({"rows": [*rows, *others], "notes": notes}))
    return Path("device.json")


@pytest.fixture
def starts(monkeypatch) -> list[tuple[str, int]]:
    """Give fitted starts made figures, the best one ReLU at 64 px, and return those that were asked for."""
    from yolo_distill.comparison import deadline

    asked: list[tuple[str, int]] = []

    def start(model, teacher, recipe, side, settings, data) -> float:
        name = Path(str(model.yaml["yaml_file"])).stem
        asked.append((name, side))
        return 20.0 + 5 * name.endswith("relu") + (side == 64)

    monkeypatch.setattr(deadline, "_start", start)
    return asked


@pytest.mark.parametrize(
    ("extra", "fitted", "taken"),
    [
        (["latency=6.5"], [("w1.0-relu", 64), ("w0.75", 64)], "w1.0-relu"),
        (["latency=5.5"], [("w0.75", 64)], "w0.75"),  # ReLU of the same width ends lower
        (["latency=5.5", "student_act=silu"], [("w0.75-silu", 64)], "w0.75-silu"),
        (["latency=5.5", "imgsz=96,64"], [("w0.75", 64), ("w0.5", 96)], "w0.75"),
        (["latency=5.5", "init=student"], [], "w0.75"),  # nothing to measure: the most that there is time for
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value and isinstance(value[0], str) else "",
)
def test_the_best_start_within_the_deadline_is_taken(
    words, extra, fitted, taken, starts, monkeypatch, tmp_path, capsys
):
    from yolo_distill.engine import run

    def stop(student, task, *rest):
        raise RequestError(student)

    monkeypatch.setattr(run, "require_task", stop)
    times = {**TIMES, f"{WIDE}-w0.75-silu-64-fp32.onnx": 5.0}
    times |= {f"{WIDE}-w{width}-silu-64-fp32.onnx": ms for width, ms in (("1.0", 7.0), ("0.5", 3.0))}
    assert main(["train", *words, f"latency_on={measured(times)}", *extra]) == 2
    assert capsys.readouterr().err.endswith(f"{tmp_path}/runs/candidates/{WIDE}-{taken}.yaml\n")
    assert sorted(starts) == sorted((f"{WIDE}-{name}", side) for name, side in fitted)


def test_the_run_that_follows(words, tmp_path, caplog):
    noisy = "the machine was not quiet: 3 of 12 ratios are doubtful"
    file = measured(TIMES, threads=2, notes=["another note", noisy])
    assert main(["train", *words, "latency=2.5", "threads=2", f"latency_on={file}", "imgsz=96,64"]) == 0
    run = tmp_path / "runs" / "train"
    kept = json.loads((run / "latency.json").read_text())
    assert (kept["taken"]["file"], kept["taken"]["ms"]) == (f"{WIDE}-w0.5-relu-64-fp32.onnx", 2.0)
    assert len(kept["candidates"]) == 12
    assert kept["doubt"] == f"device.json: {noisy}"
    assert f"{kept['doubt']}\n" in caplog.text
    assert kept["taken"]["map"] is not None
    held = torch.load(run / "weights" / "best.pt", weights_only=False)
    assert (held["model"].yaml["width_multiple"], held["train_args"]["imgsz"]) == (0.5, 64)
    assert type(held["model"].model[0].act).__name__ == "ReLU"
    assert f"takes {WIDE}-w0.5-relu at 64 px: 2.0 of 2.5 ms a picture (fp32, 2 threads on device.json)" in caplog.text
    assert "best.pt" in (said := caplog.text[caplog.text.index("Promised: 2.0 ms") :])
    assert "precision=fp32" in said


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["latency=1.9"], "latency=1.9: nothing meets it; the fastest of 6 candidates, tiny-wide-w0.5-relu at 64 px, "),
        (["latency=1.9"], "takes 2.0 ms a picture (fp32, 1 thread on device.json); give latency=2 or more"),
        (["latency=0"], "latency=0: must be above 0"),
        (["latency=5", "student_width=0.5"], "latency=5: chooses the size; leave student_width= out"),
        (["latency=5", "imgsz=64,50"], "imgsz=50: the model takes multiples of 32"),
        (["latency=5", "imgsz=64,big"], "imgsz="),
        (["latency=5", "resume=last.pt"], "latency=5: resume= goes on with the student that the run has"),
        (["latency=5", "teacher=yolo26s.yaml"], "latency=5: teacher=yolo26s.yaml is yet to be trained; do that"),
        (["latency=5", "teacher={teacher},{teacher}"], "is not one YOLO, inside which candidates could start"),
        (["latency=5", "student={wide}"], "latency=5: no candidate is smaller than the teacher"),
        (["latency=5", "student={segments}"], "and the model is for segment, which learns from outlines"),
        (["latency=5", "teacher={dog}"], "teacher and data have no class in common: the data has disc, square, the "),
        (["latency=5", "student=yolo26n.pt"], "student=yolo26n.pt: latency= chooses among architectures, such as"),
        (["latency=5", "student=nowhere/s.yaml"], "student=nowhere/s.yaml: no such file"),
        (["latency=5", "latency_on=odd.json"], "latency_on=odd.json: is not what yolo-distill benchmark writes"),
        ([], "latency_on=device.json: belongs to latency=, such as latency=15"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_requests(words, extra, message, tiny_teacher, make_teacher, refused: Callable[..., str], tmp_path, starts):
    from tiny_yolo import write_architecture

    wide = write_architecture(tmp_path / "wide.yaml", width=4)
    Path("odd.json").write_text('{"rows": [{"model": "a.onnx"}]}')
    segments = write_architecture(tmp_path / "segments.yaml", task="segment")
    dog = make_teacher(str(write_architecture(tmp_path / "tiny-dog.yaml", width=2)), {0: "dog"})
    extra = [word.format(teacher=tiny_teacher, wide=wide, segments=segments, dog=dog) for word in extra]
    assert message in refused("train", *words, f"latency_on={measured(TIMES)}", *extra)


@pytest.fixture
def wider(words, make_teacher) -> list[str]:
    """Return the words with a teacher whose candidates are large enough for the host, which takes 0.1 MB for broken."""
    from tiny_yolo import write_architecture

    teacher = make_teacher(str(write_architecture(Path("tiny-wide4.yaml"), width=4)), {0: "disc", 1: "square"})
    return [f"teacher={teacher}", *words[1:]]


def test_what_is_to_be_timed_elsewhere(wider, tmp_path, capsys):
    """Without times the files are made, and the command to type is the one whose results are then taken."""
    words = [*wider, "student_act=relu", "latency=1000", "latency_on=there/benchmark.json", "threads=1"]
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    names = [f"tiny-wide4-w{width}-relu-64-fp32.onnx" for width in ("2.0", "1.5", "1.0")]
    folder = tmp_path / "runs" / "candidates"
    assert f"has no times of 3 candidates on 1 thread; copy {', '.join(names)} from {folder} to the machine" in said
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    command = said.partition("yolo-distill benchmark ")[2].partition(", and bring")[0].split()
    assert command[0] == f"model={','.join(names)}"
    models = ",".join(str(folder / name) for name in names)
    assert main(["benchmark", f"model={models}", *command[1:], "rounds=2", "seconds=0"]) == 0
    assert command[-1] == "out=benchmark.json"
    measured = json.loads(Path("benchmark.json").read_text())
    Path("there").mkdir()
    (Path("there") / "benchmark.json").write_text(json.dumps({"rows": measured["rows"][1:]}))
    assert main(["train", *words, "latency_on=there"]) == 2
    assert f"has no times of 1 candidate on 1 thread; copy {names[0]} from" in capsys.readouterr().err
    assert {name: (folder / name).stat().st_mtime_ns for name in names} == before


@pytest.mark.slow
def test_the_file_that_was_timed_is_the_file_that_is_exported(wider, tmp_path, tiny_data):
    assert main(["train", *wider, "student_act=relu", "latency=1000", "precision=int8"]) == 0
    run = tmp_path / "runs" / "train"
    kept = json.loads((run / "latency.json").read_text())
    assert kept["processor"]
    assert 0 < kept["taken"]["ms"] < 1000
    out = tmp_path / "best_int8.onnx"
    export = [f"model={run / 'weights' / 'best.pt'}", f"data={tiny_data}", "precision=int8", "max_drop=100"]
    assert main(["export", *export, f"out={out}"]) == 0
    assert shape_of(out) == shape_of(tmp_path / "runs" / "candidates" / kept["taken"]["file"])


def shape_of(file: Path) -> tuple[Counter[str], Counter[tuple[int, ...]]]:
    """Return what takes time: operators, and the shapes of weights; equal biases are kept once."""
    graph = onnx.load(str(file)).graph
    weights = (tuple(one.dims) for one in graph.initializer)
    return Counter(node.op_type for node in graph.node), Counter(shape for shape in weights if len(shape) > 1)
