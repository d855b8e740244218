"""`yolo-distill benchmark` from the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_detector import dense, write_detector

from yolo_distill import files
from yolo_distill.cli import main

FAST = ["rounds=2", "seconds=0.05", "threads=1"]
NAMES = {0: "disc", 1: "square"}
RAW = dense((32, 32, 40, 40, 0.9, 0.1), (50, 50, 10, 10, 0.1, 0.8))


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Return two small files, of one answer."""
    return [write_detector(tmp_path / f"{name}.onnx", RAW, names=NAMES) for name in ("a", "b")]


def model(paths: list[Path]) -> str:
    return f"model={','.join(map(str, paths))}"


def test_files_side_by_side(two, tmp_path, capsys):
    words = [model(two), "backends=ours", "rounds=3", "seconds=0.05", "threads=1,2", "out=found"]
    assert main(["benchmark", *words]) == 0
    out = capsys.readouterr().out
    assert "One picture at a time; latency on 1 thread\n" in out
    assert "Latency by threads\n" in out
    assert sorted(file.name for file in Path("found").iterdir()) == ["benchmark.json", "latency.png", "table.md"]
    assert cv2.imread("found/latency.png") is not None
    report = json.loads(Path("found/benchmark.json").read_text())
    assert [one["sha256"] for one in report["models"]] == [hashlib.sha256(one.read_bytes()).hexdigest() for one in two]
    first, second = report["rows"]
    assert first["boxes_per_picture"] == second["boxes_per_picture"] == 2
    assert first["memory_bytes"] > 10**7
    for threads in ("1", "2"):
        assert first["threads"][threads]["ratio"] == 1
        assert 0 < second["threads"][threads]["network_p50_ms"] < second["threads"][threads]["p50_ms"]
        assert len(second["threads"][threads]["ratio_each_round"]) == 3
    assert report["failed"] == []
    assert {"onnxruntime", "opencv", "python"} <= report["versions"].keys()

    assert main(["benchmark", model(two[:1]), "backends=ours", "out=found", *FAST]) == 0
    assert Path("found2/table.md").is_file()


@pytest.mark.slow
def test_accuracy_of_file_and_checkpoint_beside_the_host(tiny_data, tiny_teacher):
    from yolo_distill.exporting.export import export

    shutil.copy(tiny_teacher, "best.pt")
    export("best.pt")
    assert main(["benchmark", "model=best.onnx,best.pt", f"data={tiny_data}", "backends=ours,host", *FAST]) == 0
    report = json.loads(Path("runs/benchmark/benchmark.json").read_text())
    assert [(row["model"], row["backend"]) for row in report["rows"]] == [
        ("best.onnx", "ours"), ("best.onnx", "host"), ("best.pt", "host"),
    ]  # fmt: skip
    by_file, by_host, by_checkpoint = (row["map"] for row in report["rows"])
    assert by_file == by_host == report["models"][0]["accuracy"]["map"]
    assert by_file == pytest.approx(by_checkpoint, abs=0.01)
    assert report["models"][0]["accuracy"]["pictures"] == 4
    assert report["pictures"] == {"source": f"{tiny_data}, val", "count": 2, "sizes": ["96x96"]}
    assert cv2.imread("runs/benchmark/accuracy_latency.png") is not None
    assert "mAP50-95" in Path("runs/benchmark/table.md").read_text()


def test_the_base_install_measures_files_and_says_what_is_missing(two, tmp_path):
    code = (
        "import sys\n"
        "absent = 'torch ultralytics onnx openvino ncnn matplotlib filelock'\n"
        "sys.modules.update(dict.fromkeys(absent.split()))\n"
        "from yolo_distill.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "benchmark", model(two), *FAST], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("note: ultralytics is not in the table: ultralytics is not installed") == 1
    assert "note: no picture: matplotlib is not installed" in done.stdout
    assert sorted(file.name for file in Path("runs/benchmark").iterdir()) == ["benchmark.json", "table.md"]


def test_one_that_fails_is_named_and_the_others_are_measured(two, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    broken = onnx.load(str(write_detector(tmp_path / "broken.onnx", RAW, names=NAMES, batch=None, dynamic=True)))
    shape = next(one for one in broken.graph.initializer if one.name == "shape")
    # Loads, and cannot be run: the one number of one picture is no array of two.
    shape.CopyFrom(onnx.numpy_helper.from_array(np.array([2, 1, 1], np.int64), "shape"))
    onnx.save(broken, str(tmp_path / "broken.onnx"))
    assert main(["benchmark", model([*two, tmp_path / "broken.onnx"]), "backends=ours", "out=one.json", *FAST]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == "yolo-distill: failed: broken.onnx by yolo-distill"
    report = json.loads(Path("one.json").read_text())
    assert [row["model"] for row in report["rows"]] == ["a.onnx", "b.onnx"]
    (failed,) = report["failed"]
    assert "running the model failed" in failed["error"]
    assert "note: broken.onnx by yolo-distill failed" in captured.out

    assert main(["benchmark", f"model={tmp_path / 'broken.onnx'}", "backends=ours", "out=two.json", *FAST]) == 1
    assert "nothing could be measured; broken.onnx by yolo-distill" in capsys.readouterr().err
    assert not Path("two.json").exists()


def test_a_disk_that_refuses_leaves_nothing_behind(two, monkeypatch, capsys):
    def refuse(partial: Path, path: Path) -> None:
        if path.name == "table.md":
            raise OSError(28, "No space left on device")
        partial.replace(path)

    monkeypatch.setattr(files, "move_into_place", refuse)
    assert main(["benchmark", model(two), "backends=ours", "out=found", *FAST]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not Path("found").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model="], "model= is missing"),
        (["model=c.onnx"], "model=c.onnx: no such file"),
        (["model=a.onnx,a.onnx"], "is given twice"),
        (["threads=1,two"], "threads=1,two: expected numbers"),
        (["rounds=1"], "rounds=1: must be between 2 and"),
        (["backends=onnx"], "backends=onnx: not one of auto, ours, host, openvino, openvino-fp32, ncnn"),
        (["source=nowhere.jpg"], "source=nowhere.jpg: no such file"),
        (["source=video.mp4"], "give a picture or a folder of pictures"),
        (["source=text.png"], "none of its 1 pictures can be decoded"),
        (["data=nowhere.yaml"], "data=nowhere.yaml: no such file"),
        (["model=pets.onnx", "data={data}", *FAST], "the classes of pets.onnx and"),
        (["imgsz=96"], "takes 64,64"),
        (["out=nowhere/one.json"], "there is no folder nowhere"),
        (["out=text.png"], "out=text.png: text.png is a file"),
    ],
)
def test_bad_requests(words, says, two, tiny_data, refused):
    for name in ("video.mp4", "text.png"):
        Path(name).write_text("no picture")
    write_detector(Path("pets.onnx"), RAW, names={0: "cat", 1: "dog"})
    words = [word.format(data=tiny_data) for word in words]
    assert says in refused("benchmark", "model=a.onnx", "backends=ours", *words)


def test_an_out_that_cannot_be_written(two, monkeypatch, refused):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "out=found: cannot write into" in refused("benchmark", "model=a.onnx", "out=found")
