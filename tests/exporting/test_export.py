"""Exporting: what the file says and answers, what is refused before it, and that a failure leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from exported import SIDE, listing, middle, refusal, scale
from live_detector import draw, live_detector, save
from tiny_yolo import write_architecture
from ultralytics import YOLO
from ultralytics.utils import checks

from yolo_distill import __version__
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.exporting import export as module
from yolo_distill.exporting import export_data, onnx_file, parity
from yolo_distill.exporting.export import export
from yolo_distill.exporting.request_checks import input_size
from yolo_distill.exporting.targets import load_target
from yolo_distill.exporting.ultralytics_formats import export_by_host
from yolo_distill.exporting.workspace import CARD_MARK, earlier_extras, put_in_place
from yolo_distill.runtime.detector import Detector

# --- what comes out --------------------------------------------------------------------------------------------------


def test_the_file_and_the_proof_lie_side_by_side(report, checkpoint):
    file = Path(report.path)
    assert listing(file.parent) == ["best.json", "best.md", "best.onnx"]
    proof = json.loads(Path(report.proof).read_text())
    assert proof["sha256"] == report.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert proof["source_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert proof["file_bytes"] == file.stat().st_size
    assert (proof["path"], proof["imgsz"]) == ("best.onnx", [SIDE, SIDE])
    assert proof["pictures"] == [f"{i}.png" for i in range(5)]
    assert proof["versions"]["yolo_distill"] == __version__
    assert {"ultralytics", "torch", "onnx", "onnxslim", "onnxruntime"} <= proof["versions"].keys()
    assert proof["box_px"] <= proof["tolerances"]["box_px"]
    assert proof["score"] <= proof["tolerances"]["score"]
    assert str(file.parent) not in Path(report.proof).read_text()


def test_detections_were_really_compared(report, one_to_one):
    for done, branch in ((report, "one-to-many branch"), (one_to_one, "one-to-one branch")):
        first = done.detections[0]
        assert first.conf == 0.25
        assert first.torch == first.file >= 20
        assert first.same + first.borderline >= first.torch
        assert first.missing == 0
        assert all(part in done.summary() for part in ("proved on 5 pictures", branch, done.proof))


def test_what_the_file_says_without_torch(report, one_to_one):
    detector = Detector(report.path)
    assert dict(detector.names) == {0: "round", 1: "square"}
    assert (detector.imgsz, detector.stride, detector.task) == ((SIDE, SIDE), 32, "detect")
    assert (detector.end2end, Detector(one_to_one.path).end2end) == (False, True)
    notes = detector.metadata
    assert (notes["yolo_distill"], notes["source"]) == (__version__, "best.pt")
    assert notes["source_sha256"] == report.source_sha256
    assert notes["license"].startswith("AGPL-3.0")
    assert "private" not in str(notes)
    assert str(Path(report.path).parent) not in str(notes)


def test_the_graph_is_static_fp32_simplified_and_of_the_opset(report, one_to_one):
    for done, opset in ((report, load_target("cpu").opset), (one_to_one, 15)):
        graph = onnx.load(done.path)
        onnx.checker.check_model(graph)
        assert [side.dim_value for side in graph.graph.input[0].type.tensor_type.shape.dim] == [1, 3, SIDE, SIDE]
        assert {one.data_type for one in graph.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
        assert not {"Identity", "Shape"} & {node.op_type for node in graph.graph.node}
        assert graph.opset_import[0].version == done.opset == opset


def test_the_host_reads_the_file_as_its_own(report):
    picture = draw(1, 64, 150)[0]
    theirs = YOLO(report.path, task="detect").predict(picture, imgsz=SIDE, verbose=False)[0].boxes
    ours = Detector(report.path)(picture)
    assert len(ours.confidence) == len(theirs.conf) > 0
    assert np.abs(ours.confidence - theirs.conf.numpy()).max() < 1e-3
    assert np.abs(ours.xyxy - theirs.xyxy.numpy()).max() < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture", ["yolo26n.yaml", "yolov8n.yaml", "yolov10n.yaml", "yolo11n.yaml", "yolo12n.yaml"]
)
def test_families(architecture, unlabelled, tmp_path):
    path = save(live_detector(architecture), tmp_path / "best.pt", SIDE)
    done = export(path, data=unlabelled)
    assert not done.end2end
    assert done.detections[-1].same > 0
    if architecture == "yolov10n.yaml":
        assert export(path, data=unlabelled, nms=False).end2end


def test_an_untrained_model_is_compared_at_a_lower_threshold(unlabelled, tmp_path):
    """Its classes may have names that a file is not shown with."""
    model = live_detector(str(write_architecture(tmp_path / "tiny.yaml")), ["round\r", "square"])
    for level in model.model[-1].cv3:
        level[-1].bias.data[:] = -9.0
        level[-1].weight.data *= 0.5
    done = export(save(model, tmp_path / "best.pt", SIDE), data=unlabelled)
    assert done.detections[0].torch < 20
    assert done.detections[1].conf < 0.25
    assert done.detections[1].same >= 20
    assert f"detections at conf {done.detections[1].conf:.3g}" in done.summary()
    assert Detector(done.path).names == {0: "round\N{REPLACEMENT CHARACTER}", 1: "square"}


def test_pictures_are_the_hosts_or_from_all_over_the_split(tmp_path, checkpoint, monkeypatch):
    assert [name for name, _ in export_data.proof_pictures(None)] == ["bus.jpg", "zidane.jpg"]
    (tmp_path / "images").mkdir()
    for i in range(70):
        cv2.imwrite(str(tmp_path / "images" / f"{i:02}.png"), np.full((32, 32, 3), i, np.uint8))
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    names = [name for name, _ in export_data.proof_pictures(tmp_path / "data.yaml")]
    assert (len(names), names[0], names[-1]) == (32, "00.png", "69.png")
    monkeypatch.setattr(export_data, "ROOT", tmp_path)
    assert "data= is missing" in refusal(RequestError, export, checkpoint)


# --- what a failure leaves behind ------------------------------------------------------------------------------------


def test_a_refused_export_leaves_nothing_and_an_older_file_stays(checkpoint, unlabelled, tmp_path, monkeypatch):
    trace = module.trace

    def spoiled(*args: Any) -> Path:
        scale(file := trace(*args), 1.05, middle)
        return file

    monkeypatch.setattr(module, "trace", spoiled)
    assert "no file is kept" in refusal(DistillError, export, checkpoint, data=unlabelled, out=tmp_path)
    assert listing(tmp_path) == []
    older = {"best.json": '{"source_sha256": "0", "extras": {}}', "best.md": CARD_MARK, "best.onnx": "older file"}
    for name, content in older.items():
        (tmp_path / name).write_text(content)
    refusal(DistillError, export, checkpoint, data=unlabelled, out=tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == older


@pytest.mark.parametrize(
    ("step", "error", "becomes", "says"),
    [
        ("annotate", OSError(28, "No space left"), DistillError, "No space left"),
        ("prove", KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_full_disk_and_an_interruption_leave_nothing(step, error, becomes, says, checkpoint, tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(becomes, match=says):
        export(checkpoint, out=tmp_path)
    assert listing(tmp_path) == []


def test_tracing_that_fails(checkpoint, tmp_path):
    assert "tracing the model failed" in refusal(DistillError, export, checkpoint, out=tmp_path, opset=8)
    assert listing(tmp_path) == []


def test_all_files_or_none_are_moved(tmp_path):
    (tmp_path / "work").mkdir()
    for name in ("a", "b", "old"):
        (tmp_path / name).write_text(f"{name} before")
        (tmp_path / "work" / name).write_text(f"{name} after")
    files = [(tmp_path / "work" / "a", tmp_path / "a"), (tmp_path / "work" / "missing", tmp_path / "b")]
    with pytest.raises(FileNotFoundError):
        put_in_place(files, tmp_path / "work", [tmp_path / "old"])
    assert [(tmp_path / name).read_text() for name in ("a", "b", "old")] == ["a before", "b before", "old before"]
    files = [(tmp_path / "work" / "old", tmp_path / "a"), (tmp_path / "work" / "b", tmp_path / "new")]
    put_in_place(files, tmp_path / "work", [tmp_path / "old"])
    assert listing(tmp_path) == ["a", "b", "new", "work"]
    assert (tmp_path / "a").read_text() == "old after"


def test_nothing_but_an_earlier_exports_own_files_is_obsolete(tmp_path):
    """Whatever the proof names: a checkpoint and a folder beside it stay."""
    (tmp_path / "pictures").mkdir()
    names = ["best.pt", "pictures", "../best.ort", "best.operators.config", "other.ort"]
    for name in ("best.pt", "best.ort", "other.ort"):
        (tmp_path / name).touch()
    extras = {str(number): {"path": name} for number, name in enumerate(names)}
    proof = tmp_path / "best.json"
    proof.write_text(json.dumps({"source_sha256": "0", "extras": extras}))
    assert earlier_extras(proof) == [tmp_path / "best.ort"]
    (tmp_path / "best.operators.config").touch()
    assert earlier_extras(proof) == [tmp_path / "best.ort", tmp_path / "best.operators.config"]
    proof.write_text('{"source_sha256": "0", "extras": {}}')
    assert earlier_extras(proof) == []


def test_a_stranger_s_json_is_not_overwritten(checkpoint, tmp_path):
    (tmp_path / "package.json").write_text('{"name": "app"}')
    out = tmp_path / "package.onnx"
    assert "would be overwritten by the proof" in refusal(RequestError, export, checkpoint, out=out)
    assert (tmp_path / "package.json").read_text() == '{"name": "app"}'


def test_a_page_of_ones_own_is_not_overwritten(checkpoint, tmp_path):
    for name, make in (("README", export), ("best.torchscript", partial(export_by_host, format="torchscript"))):
        (tmp_path / f"{name}.md").write_text("# My app")
        out = tmp_path / (name if "." in name else f"{name}.onnx")
        assert "would be overwritten by the model card" in refusal(RequestError, make, checkpoint, out=out)
        assert (tmp_path / f"{name}.md").read_text() == "# My app"


# --- what is refused before anything is traced -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("imgsz", "says"),
    [
        (100, "multiples of 32 up to 8192, such as 96 or 128"),
        (-64, "multiples of 32"),
        ("64,100", "imgsz=100"),
        (16, "such as 32 or 64"),
        (10_000_000, "up to 8192"),
        ("1,2,3", "expected a number of pixels, or height,width"),
        ("", "expected a number of pixels"),
    ],
)
def test_sizes_that_the_model_does_not_take(imgsz, says, checkpoint):
    assert says in refusal(RequestError, export, checkpoint, imgsz=imgsz)


def test_the_size_by_default():
    model = live_detector("yolov8n.yaml")
    for trained, expected in ((192, (192, 192)), (100, (128, 128)), ([64, 96], (64, 96)), (None, (640, 640))):
        model.args = {"imgsz": trained}
        assert input_size(None, model) == expected
    assert input_size(64, model) == input_size("64", model) == input_size([64], model) == (64, 64)
    assert input_size("64x96", model) == input_size((64, 96), model) == (64, 96)


def test_branches_that_are_not_there(checkpoint, tmp_path):
    plain = save(live_detector("yolov8n.yaml"), tmp_path / "v8.pt", SIDE)
    assert "has no one-to-one branch" in refusal(RequestError, export, plain, nms=False)
    assert "NMS is done by the runtime" in refusal(RequestError, export, checkpoint, nms=True)
    model = live_detector("yolo26n.yaml")
    model.end2end = True
    fused = save(model.fuse(verbose=False), tmp_path / "fused.pt", SIDE)
    assert "has only its one-to-one branch left" in refusal(RequestError, export, fused)


def test_places_that_cannot_be_written(checkpoint, tmp_path, monkeypatch):
    def full(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    for out, says in (
        ("nowhere/best.onnx", "there is no folder"),
        ("best.bin", "a name that ends in .onnx"),
        ("best.onnx", "cannot write into"),
    ):
        assert says in refusal(RequestError, export, checkpoint, out=tmp_path / out)


def test_the_host_never_installs_anything(checkpoint, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(checks, "AUTOINSTALL", True)
    trace = onnx_file.Exporter.__call__

    def watched(self: Any, model: Any) -> Any:
        seen.append(checks.AUTOINSTALL)
        return trace(self, model)

    monkeypatch.setattr(onnx_file.Exporter, "__call__", watched)
    monkeypatch.setattr(module, "prove", lambda *_, **__: (parity.Gap(0, 0), ()))
    export(checkpoint, out=tmp_path)
    assert seen == [False]
    assert checks.AUTOINSTALL is True


def test_data_that_cannot_be_used(checkpoint, unlabelled, tmp_path):
    def says(train: str = "images", val: str = "images", names: str = "[round, square]", **options: Any) -> str:
        (tmp_path / "data.yaml").write_text(f"train: {train}\nval: {val}\nnames: {names}\n")
        return refusal(RequestError, export, checkpoint, data=tmp_path / "data.yaml", **options)

    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    good = str(unlabelled.parent / "images")
    assert "none of the pictures of val can be read" in says()
    assert "none of the pictures of train can be read" in says(val=good, precision="int8")
    assert "has 3" in says(good, good, "[a, b, c]", precision="int8")
    assert "give data=" in refusal(RequestError, export, checkpoint, precision="int8")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target": "phone", "input": "pictures"}, "input=pictures"),
        ({"target": "phone", "nms": False}, "top-k"),
        ({"precision": "int"}, "did you mean 'int8'"),
    ],
)
def test_what_does_not_go_together(settings, says, checkpoint):
    assert says in refusal(RequestError, export, checkpoint, **settings)
