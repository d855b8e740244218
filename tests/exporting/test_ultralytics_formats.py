"""Exporting by the host: what is delivered and proved, what is refused, and that a failure leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from exported import SIDE, listing, refusal
from live_detector import live_detector, save
from tiny_yolo import write_architecture
from ultralytics.engine import exporter
from ultralytics.utils import checks

from yolo_distill.cli import main
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.exporting import ultralytics_formats as module
from yolo_distill.exporting import ultralytics_parity
from yolo_distill.exporting.report import HostReport
from yolo_distill.exporting.ultralytics_formats import export_by_host, host_formats
from yolo_distill.exporting.workspace import CARD_MARK


@pytest.fixture(scope="module")
def host_report(checkpoint: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> HostReport:
    return export_by_host(checkpoint, "torchscript", data=labelled, out=tmp_path_factory.mktemp("exported"))


def needs(*modules: str) -> pytest.MarkDecorator:
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(lacking), reason=f"not installed: {', '.join(lacking)}")


no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")

# --- what comes out --------------------------------------------------------------------------------------------------


def test_the_file_and_its_proof_lie_side_by_side(host_report, checkpoint):
    file = Path(host_report.path)
    assert listing(file.parent) == ["best.torchscript", "best.torchscript.json", "best.torchscript.md"]
    said = json.loads(Path(host_report.note).read_text())
    assert said["sha256"] == {"best.torchscript": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert said["kpt_shape"] is None
    assert said["source_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (said["path"], said["file_bytes"], said["not_proved"]) == ("best.torchscript", file.stat().st_size, "")
    assert said["proof"]["box_px"] <= said["proof"]["tolerances"]["box_px"]
    assert str(file.parent) not in Path(host_report.note).read_text()
    opened = ultralytics_parity.open_file(file, "cpu")
    assert opened.names == {0: "round", 1: "square"}
    assert opened.metadata["source_sha256"] == host_report.source_sha256
    assert opened.metadata["license"].startswith("AGPL-3.0")
    assert "private" not in str(opened.metadata)


def test_it_was_really_compared_measured_and_timed(host_report):
    proof = host_report.proof
    assert proof is not None
    assert len(proof.pictures) == 5
    assert proof.agreement.detections > 0
    assert proof.agreement.matched == 1
    assert 0 < proof.score < 1e-3  # two programs never agree to the last bit
    assert proof.accuracy["torch"] == pytest.approx(proof.accuracy["fp32"], abs=0.1)
    assert set(proof.ms) == {"torch", "fp32"}
    assert "run beside torch on 5 pictures: boxes differ" in host_report.summary()
    assert "mAP50-95 on val: torch" in host_report.summary()


def test_one_to_one_rectangular_and_named_with_keypoints(tmp_path):
    model = live_detector(str(write_architecture(tmp_path / "tiny.yaml", width=4, task="pose")), task="pose")
    checkpoint, out = save(model, tmp_path / "best.pt", SIDE), tmp_path / "out"
    out.mkdir()
    done = export_by_host(checkpoint, "TorchScript", nms=False, imgsz="64,96", out=out / "nano.torchscript")
    assert (done.end2end, done.imgsz) == (True, (64, 96))
    assert listing(out) == ["nano.torchscript", "nano.torchscript.json", "nano.torchscript.md"]
    assert "one-to-one branch" in done.summary()
    assert json.loads(Path(done.note).read_text())["kpt_shape"] == [4, 3]


@pytest.mark.parametrize(
    "format", [pytest.param("openvino", marks=needs("openvino")), pytest.param("ncnn", marks=needs("ncnn", "pnnx"))]
)
def test_folders_replace_older_ones_whole(format, checkpoint, labelled, tmp_path):
    copied = tmp_path / "best.pt"
    copied.write_bytes(checkpoint.read_bytes())
    older = tmp_path / f"best_{format}_model"
    older.mkdir()
    for name in ("metadata.yaml", "older.bin"):
        (older / name).write_text("older")
    done = export_by_host(copied, format, data=labelled)
    assert done.proof is not None
    assert done.proof.accuracy["torch"] == pytest.approx(done.proof.accuracy["fp32"], abs=0.1)
    assert done.proof.tolerances == {"box_px": 0.1, "score": 1e-3}
    assert listing(tmp_path) == ["best.pt", older.name, f"{older.name}.json", f"{older.name}.md"]
    assert set(done.sha256) == set(listing(older))
    assert not {"older.bin", "model_ncnn.py"} & set(done.sha256)
    written = "".join(file.read_text(errors="replace") for file in older.iterdir())
    assert not [word for word in ("private", str(tmp_path)) if word in written]


@needs("openvino")
def test_fp16_is_judged_by_its_detections_and_lies_beside_fp32(checkpoint, tmp_path):
    done = export_by_host(checkpoint, "openvino", precision="fp16", out=tmp_path)
    assert listing(tmp_path) == [f"best_fp16_openvino_model{end}" for end in ("", ".json", ".md")]
    assert done.proof is not None
    assert done.proof.tolerances == {}
    assert done.file_bytes < 0.8 * checkpoint.stat().st_size


def test_a_file_that_cannot_be_run_here_is_delivered_unproved(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ultralytics_parity.RUNTIMES, "torchscript", ("no_such_runtime", "no-such-runtime"))
    assert main(["export", f"model={checkpoint}", "format=torchscript", f"out={tmp_path}"]) == 0
    assert "not proved: no-such-runtime is not installed: pip install no-such-runtime" in capsys.readouterr().out
    said = json.loads((tmp_path / "best.torchscript.json").read_text())
    assert said["proof"] is None
    assert said["not_proved"].startswith("no-such-runtime")
    assert "device of its own" in ultralytics_parity.why_not("hailo")
    monkeypatch.setattr(ultralytics_parity, "MACOS", False)
    assert ultralytics_parity.why_not("coreml") == "only macOS runs it"


# --- what the proof refuses ------------------------------------------------------------------------------------------


def test_a_wrong_file_is_refused_and_an_older_one_stays(checkpoint, tmp_path, monkeypatch):
    right = module.host_export

    def wrong(model: Any, *rest: Any) -> Path:
        """Trace a model with one weight scaled."""
        weight = next(one for one in model.state_dict().values() if one.dim() == 4 and one.shape[0] > 16)
        kept = weight.clone()
        weight *= 1.5
        try:
            return right(model, *rest)
        finally:
            weight.copy_(kept)

    monkeypatch.setattr(module, "host_export", wrong)
    for older in ([], ["best.torchscript", "best.torchscript.json", "best.torchscript.md"]):
        for name in older:
            (tmp_path / name).write_text(CARD_MARK)
        message = refusal(DistillError, export_by_host, checkpoint, "torchscript", out=tmp_path)
        assert "does not answer like the checkpoint" in message
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == dict.fromkeys(older, CARD_MARK)


@pytest.mark.parametrize(
    ("accuracy", "matched", "says"),
    [
        ({"torch": {"map": 50.0}, "int8": {"map": 49.0}}, 1.0, "1.00 points below torch, where max_drop=0.3"),
        ({"torch": {"map": float("nan")}, "int8": {"map": 49.0}}, 1.0, "below torch"),
        ({}, 0.9, "90.0 % of the detections the same"),
        ({"int8": {"map": 49.0}}, 0.9, "90.0 % of the detections"),
        ({}, 1.0, None),
    ],
)
def test_lower_precision_that_costs_too_much(accuracy, matched, says):
    found = ultralytics_parity.Agreement(matched, 0.0, 10, 0.25)
    with pytest.raises(DistillError, match=says) if says else contextlib.nullcontext():
        ultralytics_parity._judge(found, accuracy, "int8", 0.3)


def test_a_file_that_cannot_be_run(checkpoint, tmp_path, monkeypatch):
    right = module.host_export

    def cut(*args: Any) -> Path:
        file = right(*args)
        file.write_bytes(file.read_bytes()[:5000])
        return file

    monkeypatch.setattr(module, "host_export", cut)
    assert "the exported file cannot be run" in refusal(
        DistillError, export_by_host, checkpoint, "torchscript", out=tmp_path
    )
    assert listing(tmp_path) == []


# --- what the host refuses, and what is refused before it ------------------------------------------------------------


def test_every_format_of_the_host_is_made_in_something():
    for row in host_formats().values():
        assert row.precisions()
        for precision in row.precisions():
            assert row.quantize(precision) in {32, 16, 8, "w8a16"}


def test_a_full_disk_ends_no_process_and_leaves_nothing(checkpoint, tmp_path, full_disk):
    with full_disk(50_000), pytest.raises(DistillError, match=r"\.torchscript: cannot be written \(File too large\)"):
        export_by_host(checkpoint, "torchscript", imgsz=64, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "says"),
    [("target=phone", "target=phone"), ("opset=15", "opset=15"), ("input=pictures", "input="), ("calibrate=9", "=9")],
)
def test_settings_of_onnx_only(setting, says, checkpoint, capsys):
    assert main(["export", f"model={checkpoint}", "format=torchscript", setting]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "is of format=onnx only" in said


@pytest.mark.parametrize(
    ("format", "settings", "says"),
    [
        ("openvin", {}, "did you mean 'openvino'?"),
        ("-", {}, "known: onnx, torchscript"),
        ("torchscript", {"precision": "int8"}, "is made in fp32, fp16"),
        ("openvino", {"precision": "int8"}, "calibrated on"),
        ("torchscript", {"out": "a"}, "a name that ends in .torchscript"),
        ("openvino", {"out": "my_openvino_model"}, "not an exported one"),
        ("ncnn", {"out": "a.pt.d"}, "cannot write where a name holds '.pt'"),
        pytest.param("ncnn", {"nms": False}, "only has the one-to-many branch", marks=needs("ncnn", "pnnx")),
        pytest.param("tensorrt", {}, "NVIDIA GPU", marks=no_gpu),
    ],
)
def test_requests_that_cannot_be_met(format, settings, says, checkpoint, tmp_path):
    for folder in ("my_openvino_model", "a.pt.d"):
        (tmp_path / folder).mkdir()
    (tmp_path / "my_openvino_model" / "thesis.txt").write_text("mine")
    assert says in refusal(RequestError, export_by_host, checkpoint, format, **{"out": tmp_path, **settings})
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a.pt.d", "my_openvino_model", "thesis.txt"]


@no_gpu
def test_what_the_host_itself_refuses(checkpoint, tmp_path):
    says = refusal(DistillError, export_by_host, checkpoint, "torchscript", precision="fp16", out=tmp_path)
    assert "Ultralytics' exporter failed: FP16 TorchScript export" in says
    plain = save(live_detector("yolov8n.yaml"), tmp_path / "v8.pt", SIDE)
    assert "has no one-to-one branch" in refusal(RequestError, export_by_host, plain, "torchscript", nms=False)
    assert listing(tmp_path) == ["v8.pt"]


def test_a_package_that_is_missing_is_named_and_never_installed(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "AUTOINSTALL", True)
    usual = checks.check_requirements

    def needy(self: Any, *_: Any, **__: Any) -> str:
        checks.check_requirements(["torch", "no-such-package>=1.0"])
        raise AssertionError("the host went on without")

    monkeypatch.setattr(exporter.Exporter, "export_torchscript", needy)
    message = refusal(RequestError, export_by_host, checkpoint, "torchscript", out=tmp_path)
    assert message.endswith(
        "needs no-such-package>=1.0, which this environment lacks: pip install 'no-such-package>=1.0'"
    )
    assert listing(tmp_path) == []
    held = [vars(one).get("check_requirements") for name, one in sys.modules.items() if name.startswith("ultralytics.")]
    assert {*held} == {None, usual}


def test_mnns_converter_neither_installs_nor_reports(checkpoint, tmp_path, monkeypatch):
    def convert(self: Any, *_: Any, **__: Any) -> str:
        return str(importlib.import_module("MNN.tools.utils.log"))

    monkeypatch.setattr(exporter.Exporter, "export_mnn", convert)
    assert "import of MNN.tools.utils.log halted" in refusal(
        DistillError, export_by_host, checkpoint, "mnn", out=tmp_path
    )
    assert "MNN.tools.utils.log" not in sys.modules


@pytest.mark.parametrize(
    ("error", "becomes", "says"),
    [
        (RuntimeError("it broke\nin many\nlines"), DistillError, "exporter failed: RuntimeError: it broke$"),
        (FileNotFoundError("no compiler on PATH"), DistillError, "exporter failed: no compiler on PATH"),
        (OSError(28, "No space left on device"), DistillError, r"written \(No space left on device; "),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_failing_or_interrupted_converter_leaves_nothing(error, becomes, says, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter.Exporter, "export_torchscript", mock.Mock(side_effect=error))
    with pytest.raises(becomes, match=says):
        export_by_host(checkpoint, "torchscript", out=tmp_path)
    assert listing(tmp_path) == []
