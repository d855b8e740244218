"""Exporting: what the file says and answers, what the proof refuses, and that a failure leaves nothing behind."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from live_detector import draw, live_detector, save
from onnx import numpy_helper
from tiny_yolo import write_architecture
from ultralytics.utils import checks

from yolo_distill import __version__
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.exporting import export as module
from yolo_distill.exporting import export_data, onnx_file, parity
from yolo_distill.exporting.export import export
from yolo_distill.exporting.report import ExportReport
from yolo_distill.exporting.request_checks import input_size
from yolo_distill.exporting.targets import load_target
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.runtime.detector import Detector

SIDE = 96


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    return save(live_detector(str(write_architecture(folder / "tiny.yaml"))), folder / "best.pt", SIDE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two shapes; no labels, which a proof does not need."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    for i, picture in enumerate([*draw(3, 64, 150), *draw(2, 130, 70, seed=2)]):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), picture)
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [round, square]\n")
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def report(checkpoint: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export(checkpoint, data=data, out=tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def one_to_one(checkpoint: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export(checkpoint, data=data, nms=False, out=tmp_path_factory.mktemp("one_to_one"))


def refusal(kind: type[DistillError], *args: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        export(*args, **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# --- what comes out --------------------------------------------------------------------------------------------------


def test_the_file_and_the_proof_lie_side_by_side(report: ExportReport, checkpoint: Path) -> None:
    file = Path(report.path)
    assert listing(file.parent) == ["best.json", "best.onnx"]
    proof = json.loads(Path(report.proof).read_text())
    assert proof["sha256"] == report.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert proof["source_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert proof["file_bytes"] == file.stat().st_size
    assert proof["imgsz"] == [SIDE, SIDE]
    assert proof["pictures"] == [f"{i}.png" for i in range(5)]
    assert proof["versions"]["yolo_distill"] == __version__
    assert {"ultralytics", "torch", "onnx", "onnxslim", "onnxruntime"} <= proof["versions"].keys()
    assert proof["box_px"] == report.box_px <= proof["tolerances"]["box_px"]
    assert proof["score"] == report.score <= proof["tolerances"]["score"]


def test_by_default_the_file_lies_beside_the_checkpoint(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "nano.pt"
    moved.write_bytes(checkpoint.read_bytes())
    assert export(moved, data=data).path == str(tmp_path / "nano.onnx")
    assert listing(tmp_path) == ["nano.json", "nano.onnx", "nano.pt"]


def test_detections_were_really_compared(report: ExportReport, one_to_one: ExportReport) -> None:
    for one in (report, one_to_one):
        first = one.detections[0]
        assert first.conf == 0.25
        assert first.torch == first.file
        assert first.torch >= 20
        assert first.same + first.borderline >= first.torch
        assert first.missing == 0


def test_what_the_file_says_without_torch(report: ExportReport, one_to_one: ExportReport) -> None:
    detector = Detector(report.path)
    assert dict(detector.names) == {0: "round", 1: "square"}
    assert (detector.imgsz, detector.stride, detector.task) == ((SIDE, SIDE), 32, "detect")
    assert detector.end2end is False
    assert Detector(one_to_one.path).end2end is True
    notes = {note.key: note.value for note in onnx.load(report.path).metadata_props}
    assert notes["yolo_distill"] == __version__
    assert notes["source_sha256"] == report.source_sha256
    assert notes["source"] == "best.pt"
    assert str(Path(report.path).parent) not in str(notes)


def test_the_graph_is_static_fp32_and_simplified(report: ExportReport) -> None:
    graph = onnx.load(report.path)
    onnx.checker.check_model(graph)
    shape = [side.dim_value for side in graph.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, 3, SIDE, SIDE]
    assert graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 6
    assert {one.data_type for one in graph.graph.initializer} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert graph.opset_import[0].version == report.opset == load_target("cpu").opset
    assert not {"Identity", "Shape"} & {node.op_type for node in graph.graph.node}


def test_the_host_reads_the_file_as_its_own(report: ExportReport, checkpoint: Path) -> None:
    from ultralytics import YOLO

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
def test_families(architecture: str, data: Path, tmp_path: Path) -> None:
    path = save(live_detector(architecture), tmp_path / "best.pt", SIDE)
    done = export(path, data=data)
    assert not done.end2end
    assert done.detections[-1].same > 0
    if architecture == "yolov10n.yaml":
        assert export(path, data=data, nms=False).end2end


def test_an_untrained_model_is_compared_at_a_lower_threshold(data: Path, tmp_path: Path) -> None:
    model = live_detector(str(write_architecture(tmp_path / "tiny.yaml")))
    for level in model.model[-1].cv3:
        level[-1].bias.data[:] = -9.0
        level[-1].weight.data *= 0.5
    done = export(save(model, tmp_path / "best.pt", SIDE), data=data)
    assert done.detections[0].torch < 20
    assert done.detections[1].conf < 0.25
    assert done.detections[1].same >= 20
    assert f"detections at conf {done.detections[1].conf:.3g}" in done.summary()


def test_a_rectangle(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    done = export(checkpoint, imgsz="64,128", data=data, out=tmp_path)
    assert done.imgsz == (64, 128)
    assert Detector(done.path).imgsz == (64, 128)


def test_without_data_the_hosts_pictures_serve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoint: Path
) -> None:
    assert [name for name, _ in export_data.proof_pictures(None)] == ["bus.jpg", "zidane.jpg"]
    monkeypatch.setattr(export_data, "ROOT", tmp_path)
    assert "data= is missing" in refusal(RequestError, checkpoint)


def test_at_most_32_pictures_from_all_over_the_split(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(70):
        cv2.imwrite(str(tmp_path / "images" / f"{i:02}.png"), np.full((32, 32, 3), i, np.uint8))
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    names = [name for name, _ in export_data.proof_pictures(tmp_path / "data.yaml")]
    assert len(names) == 32
    assert (names[0], names[-1]) == ("00.png", "69.png")


def test_the_summary_says_what_was_proved(report: ExportReport, one_to_one: ExportReport) -> None:
    assert "proved on 5 pictures" in report.summary()
    assert "one-to-many branch" in report.summary()
    assert "one-to-one branch" in one_to_one.summary()
    assert report.proof in report.summary()


# --- what the proof refuses ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prove(checkpoint: Path, data: Path) -> Callable[..., str]:
    """Return a function that proves a file, or a changed one, and returns what the proof complains of."""
    model, pictures = load_detector(checkpoint), export_data.proof_pictures(data)

    def complaint(done: ExportReport, change: Callable[[onnx.ModelProto], None] | None, folder: Path) -> str:
        graph = onnx.load(done.path)
        if change:
            change(graph)
        onnx.save(graph, str(folder / "changed.onnx"))
        nms = False if done.end2end else None
        try:
            parity.prove(folder / "changed.onnx", model, pictures, nms=nms)
        except DistillError as error:
            return f"exit code {error.exit_code}: {error}"
        return ""

    return complaint


def one_weight(graph: onnx.ModelProto) -> None:
    """Scale one convolution in the middle by a twentieth."""
    convolutions = [one for one in graph.graph.initializer if len(one.dims) == 4 and one.dims[0] > 16]
    middle = convolutions[len(convolutions) // 2]
    middle.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(middle) * np.float32(1.05), middle.name))


def not_a_number(graph: onnx.ModelProto) -> None:
    one = next(one for one in graph.graph.initializer if len(one.dims) == 4)
    one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) * np.float32("nan"), one.name))


def note(key: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(graph: onnx.ModelProto) -> None:
        for one in graph.metadata_props:
            if one.key == key:
                one.value = value

    return change


def test_an_unchanged_file_passes_and_the_model_stays_as_it_was(
    report: ExportReport,
    one_to_one: ExportReport,
    prove: Callable[..., str],
    checkpoint: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    assert prove(report, None, tmp_path) == ""
    assert prove(one_to_one, None, tmp_path) == ""
    model = load_detector(checkpoint)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    parity.prove(Path(report.path), model, export_data.proof_pictures(data))
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("change", [one_weight, not_a_number])
def test_a_file_with_a_wrong_weight_is_refused(
    change: Callable[[onnx.ModelProto], None],
    report: ExportReport,
    one_to_one: ExportReport,
    prove: Callable[..., str],
    tmp_path: Path,
) -> None:
    for done in (report, one_to_one):
        assert "exit code 1: the exported file does not answer like the checkpoint" in prove(done, change, tmp_path)


def test_the_other_branch_is_refused(
    report: ExportReport, checkpoint: Path, data: Path, one_to_one: ExportReport
) -> None:
    model, pictures = load_detector(checkpoint), export_data.proof_pictures(data)
    with pytest.raises(DistillError, match="end2end"):
        parity.prove(Path(report.path), model, pictures, nms=False)
    with pytest.raises(DistillError, match="end2end"):
        parity.prove(Path(one_to_one.path), model, pictures)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", "{0: 'square', 1: 'round'}"),
        ("stride", "64"),
        ("end2end", "True"),
        ("imgsz", "[64, 64]"),
        ("task", "segment"),
    ],
)
def test_a_file_with_wrong_metadata_is_refused(
    key: str, value: str, report: ExportReport, prove: Callable[..., str], tmp_path: Path
) -> None:
    assert key in prove(report, note(key, value), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: dataclasses.replace(found, xyxy=found.xyxy + 3),
        lambda found: dataclasses.replace(found, confidence=found.confidence * np.float32(0.98)),
        lambda found: dataclasses.replace(found, class_id=1 - found.class_id),
        lambda found: dataclasses.replace(
            found, xyxy=found.xyxy[1:], confidence=found.confidence[1:], class_id=found.class_id[1:]
        ),
        lambda found: dataclasses.replace(
            found,
            xyxy=np.repeat(found.xyxy, 2, 0),
            confidence=np.repeat(found.confidence, 2),
            class_id=np.repeat(found.class_id, 2),
        ),
    ],
    ids=["boxes moved", "scores lower", "classes swapped", "one less", "all twice"],
)
def test_a_runtime_that_detects_otherwise_is_refused(
    change: Callable[[Any], Any],
    report: ExportReport,
    one_to_one: ExportReport,
    prove: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = Detector.postprocess
    monkeypatch.setattr(Detector, "postprocess", lambda *args, **options: [change(right(*args, **options)[0])])
    for done in (report, one_to_one):
        assert "does not detect like the checkpoint" in prove(done, None, tmp_path)


def test_a_runtime_that_filters_otherwise_is_refused(
    report: ExportReport, prove: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Detector.postprocess

    def other(*args: Any, **options: Any) -> Any:
        return right(*args, **{**options, "iou": 0.5})

    monkeypatch.setattr(Detector, "postprocess", other)
    monkeypatch.setattr(parity, "CONF", 0.01)
    assert "does not detect like the checkpoint" in prove(report, None, tmp_path)


def test_a_refused_export_leaves_nothing_and_an_older_file_stays(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = module.trace

    def spoiled(*args: Any) -> Path:
        file = trace(*args)
        graph = onnx.load(str(file))
        one_weight(graph)
        onnx.save(graph, str(file))
        return file

    monkeypatch.setattr(module, "trace", spoiled)
    message = refusal(DistillError, checkpoint, data=data, out=tmp_path)
    assert "no file is kept" in message
    assert listing(tmp_path) == []
    older = '{"source_sha256": "0", "extras": {}}'
    (tmp_path / "best.onnx").write_bytes(b"older file")
    (tmp_path / "best.json").write_text(older)
    refusal(DistillError, checkpoint, data=data, out=tmp_path)
    assert listing(tmp_path) == ["best.json", "best.onnx"]
    assert (tmp_path / "best.onnx").read_bytes() == b"older file"
    assert (tmp_path / "best.json").read_text() == older


def test_ties_and_thresholds_are_no_mismatch() -> None:
    box = [0.0, 0.0, 10.0, 10.0]
    settings = {"conf": 0.25, "margin": 1e-5, "wobble": 1e-4, "full": 300, "scores": np.array([[0.8, 0.3], [0.8, 0.6]])}

    def excused(row: list[float], others: list[list[float]], paired: bool = False, **changes: Any) -> int:
        """Return how many of the rows, none of which has a partner unless `paired`, are excused."""
        rows, rest = np.array([row]), np.array(others).reshape(-1, 6)
        alone = [] if paired else list(range(len(rest)))
        return parity._borderline(rows, rest, [0], alone, **{**settings, **changes})

    assert excused([*box, 0.250001, 0], []) == 1  # at the threshold
    assert excused([*box, 0.26, 0], []) == 0
    assert excused([*box, 0.8, 0], [[1, 0, 11, 10, 0.8, 0]]) == 2  # either of two equal boxes may stay
    assert excused([*box, 0.8, 0], [[1, 0, 11, 10, 0.8, 0]], paired=True) == 0  # but not both
    assert excused([*box, 0.8, 0], [[1, 0, 11, 10, 0.9, 0]]) == 0
    assert excused([*box, 0.8, 0], [[*box, 0.8, 1]]) == 2  # either of two classes that are equal in the raw answer
    assert excused([*box, 0.6, 0], [[*box, 0.6, 1]]) == 0
    assert excused([*box, 0.8, 0], [[0, 0, 7.0, 10, 0.9, 0]], paired=True) == 1  # overlaps by what NMS just allows
    assert excused([*box, 0.8, 0], [[50, 50, 60, 60, 0.8, 0]], paired=True, full=1) == 1  # last place of a full list
    assert excused([*box, 0.8, 0], [[50, 50, 60, 60, 0.8, 0]], paired=True) == 0


def test_a_box_that_stays_because_of_a_tie_is_no_mismatch() -> None:
    left, middle, right = [0.0, 0, 10, 10, 0.8, 0], [1.0, 0, 11, 10, 0.8, 0], [2.4, 0, 12.4, 10, 0.5, 0]
    # One side kept the left box, so the right one stays as well; the other kept the middle one, which drops both.
    count = parity._borderline(
        np.array([left, right]),
        np.array([middle]),
        [0, 1],
        [0],
        conf=0.25,
        margin=1e-5,
        wobble=1e-4,
        full=300,
        scores=None,
    )
    assert count == 3


# --- what is refused before anything is traced -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("imgsz", "says"),
    [
        (100, "multiples of 32 up to 8192, such as 96 or 128"),
        (0, "multiples of 32"),
        (-64, "multiples of 32"),
        ("64,100", "imgsz=100"),
        (16, "such as 32 or 64"),
        (10_000_000, "up to 8192"),
        ("large", "expected a number of pixels, or height,width"),
        ("1,2,3", "expected a number of pixels, or height,width"),
        ("", "expected a number of pixels"),
    ],
)
def test_sizes_that_the_model_does_not_take(imgsz: Any, says: str, checkpoint: Path) -> None:
    assert says in refusal(RequestError, checkpoint, imgsz=imgsz)


def test_the_size_by_default() -> None:
    model = live_detector("yolov8n.yaml")
    for trained, expected in ((192, (192, 192)), (100, (128, 128)), ([64, 96], (64, 96)), (None, (640, 640))):
        model.args = {"imgsz": trained}
        assert input_size(None, model) == expected
    assert input_size(64, model) == input_size("64", model) == input_size([64], model) == (64, 64)
    assert input_size("64x96", model) == input_size((64, 96), model) == (64, 96)


def test_branches_that_are_not_there(checkpoint: Path, tmp_path: Path) -> None:
    plain = save(live_detector("yolov8n.yaml"), tmp_path / "v8.pt", SIDE)
    assert "has no one-to-one branch" in refusal(RequestError, plain, nms=False)
    assert "NMS is done by the runtime" in refusal(RequestError, checkpoint, nms=True)
    model = live_detector("yolo26n.yaml")
    model.end2end = True
    fused = save(model.fuse(verbose=False), tmp_path / "fused.pt", SIDE)
    assert "has only its one-to-one branch left" in refusal(RequestError, fused)


def test_places_that_cannot_be_written(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no folder" in refusal(RequestError, checkpoint, out=tmp_path / "nowhere" / "best.onnx")
    assert "a name that ends in .onnx" in refusal(RequestError, checkpoint, out=tmp_path / "best.bin")

    def full(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    assert "cannot write into" in refusal(RequestError, checkpoint, out=tmp_path / "best.onnx")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(checkpoint: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot write into" in refusal(RequestError, checkpoint, out=tmp_path / "best.onnx")


def test_a_disk_that_fills_up(checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "annotate", full)
    assert "No space left on device" in refusal(DistillError, checkpoint, data=data, out=tmp_path)
    assert listing(tmp_path) == []


def test_an_interruption_leaves_nothing(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prove", stop)
    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, data=data, out=tmp_path)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("package", ["onnx", "onnxslim"])
def test_a_package_that_is_missing(package: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else there(name, *rest)
    )
    message = refusal(RequestError, checkpoint)
    assert f"needs {package!r}" in message
    assert "pip install" in message


def test_the_host_never_installs_anything(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(checks, "AUTOINSTALL", True)
    trace = onnx_file.Exporter.__call__

    def watched(self: Any, model: Any) -> Any:
        seen.append(checks.AUTOINSTALL)
        return trace(self, model)

    monkeypatch.setattr(onnx_file.Exporter, "__call__", watched)
    monkeypatch.setattr(module, "prove", lambda *_, **__: (parity.Gap(0, 0), ()))
    export(checkpoint, data=data, out=tmp_path)
    assert seen == [False]
    assert checks.AUTOINSTALL is True


def test_what_else_is_no_checkpoint(tmp_path: Path, report: ExportReport) -> None:
    assert "no such file" in refusal(RequestError, tmp_path / "best.pt")
    assert "is exported" in refusal(RequestError, report.path)
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    assert "is cut off" in refusal(RequestError, tmp_path / "cut.pt")


def test_data_that_cannot_be_used(checkpoint: Path, tmp_path: Path) -> None:
    assert "no such file" in refusal(RequestError, checkpoint, data=tmp_path / "data.yaml")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    assert "none of the pictures of val can be read" in refusal(RequestError, checkpoint, data=tmp_path / "data.yaml")


def test_tracing_that_fails(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    assert "tracing the model failed" in refusal(DistillError, checkpoint, data=data, out=tmp_path, opset=8)
    assert listing(tmp_path) == []


# --- settings ---------------------------------------------------------------------------------------------------------


def test_opset_on_request(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    done = export(checkpoint, data=data, out=tmp_path, opset=15)
    assert onnx.load(done.path).opset_import[0].version == done.opset == 15
