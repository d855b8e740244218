"""Exporting by the host: what is delivered and proved, what is refused, and that a failure leaves nothing behind."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
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

SIDE = 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes named as those of the tiny data set; as if trained on data that lie somewhere."""
    folder = tmp_path_factory.mktemp("weights")
    model = live_detector(str(write_architecture(folder / "tiny.yaml", width=2)), ["disc", "square"])
    model.args = {"imgsz": SIDE, "data": "/somewhere/private/data.yaml"}
    return save(model, folder / "best.pt", SIDE)


@pytest.fixture(scope="module")
def report(checkpoint: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> HostReport:
    return export_by_host(checkpoint, "torchscript", data=tiny_data, out=tmp_path_factory.mktemp("exported"))


def refusal(kind: type[DistillError], *args: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        export_by_host(*args, **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def needs(*modules: str) -> pytest.MarkDecorator:
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(lacking), reason=f"not installed: {', '.join(lacking)}")


# --- what comes out --------------------------------------------------------------------------------------------------


def test_the_file_and_its_proof_lie_side_by_side(report: HostReport, checkpoint: Path) -> None:
    file = Path(report.path)
    assert listing(file.parent) == ["best.torchscript", "best.torchscript.json"]
    said = json.loads(Path(report.note).read_text())
    assert said["sha256"] == {"best.torchscript": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert said["source_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert said["path"] == "best.torchscript"
    assert said["file_bytes"] == file.stat().st_size
    assert said["proof"]["box_px"] <= said["proof"]["tolerances"]["box_px"]
    assert said["not_proved"] == ""
    assert str(file.parent) not in Path(report.note).read_text()


def test_it_was_really_compared_measured_and_timed(report: HostReport) -> None:
    proof = report.proof
    assert proof is not None
    assert len(proof.pictures) == 4
    assert proof.agreement.detections > 0
    assert proof.agreement.matched == 1
    assert 0 < proof.score < 1e-3  # two programs never agree to the last bit
    assert proof.accuracy["torch"] == pytest.approx(proof.accuracy["fp32"], abs=0.1)
    assert set(proof.ms) == {"torch", "fp32"}
    assert "run beside torch on 4 pictures: boxes differ" in report.summary()
    assert "mAP50-95 on val: torch" in report.summary()


def test_what_the_file_says_of_itself(report: HostReport) -> None:
    opened = ultralytics_parity.open_file(Path(report.path), "cpu")
    notes = opened.metadata
    assert opened.names == {0: "disc", 1: "square"}
    assert notes["source_sha256"] == report.source_sha256
    assert tuple(notes["imgsz"]) == (SIDE, SIDE)
    assert "private" not in str(notes)


def test_one_to_one_rectangular_and_named(checkpoint: Path, tmp_path: Path) -> None:
    done = export_by_host(checkpoint, "TorchScript", nms=False, imgsz="64,96", out=tmp_path / "nano.torchscript")
    assert done.end2end
    assert done.imgsz == (64, 96)
    assert listing(tmp_path) == ["nano.torchscript", "nano.torchscript.json"]
    assert "one-to-one branch" in done.summary()


@pytest.mark.parametrize(
    "format",
    [
        pytest.param("openvino", marks=needs("openvino")),
        pytest.param("ncnn", marks=needs("ncnn", "pnnx")),
    ],
)
def test_folders_replace_older_ones_whole(format: str, checkpoint: Path, tiny_data: Path, tmp_path: Path) -> None:
    copied = tmp_path / "best.pt"
    copied.write_bytes(checkpoint.read_bytes())
    older = tmp_path / f"best_{format}_model"
    older.mkdir()
    (older / "metadata.yaml").write_text("older")
    (older / "older.bin").write_text("older")
    done = export_by_host(copied, format, data=tiny_data)
    assert done.proof is not None
    assert done.proof.accuracy["torch"] == pytest.approx(done.proof.accuracy["fp32"], abs=0.1)
    assert done.proof.tolerances == {"box_px": 0.1, "score": 1e-3}
    assert listing(tmp_path) == ["best.pt", older.name, f"{older.name}.json"]
    assert "older.bin" not in listing(older)
    assert not list(older.glob("*.py"))
    assert "private" not in (older / "metadata.yaml").read_text()
    assert str(tmp_path) not in "".join(file.read_text(errors="replace") for file in older.iterdir())
    assert set(done.sha256) == set(listing(older))


@needs("openvino")
def test_fp16_is_judged_by_its_detections_and_lies_beside_fp32(checkpoint: Path, tmp_path: Path) -> None:
    done = export_by_host(checkpoint, "openvino", precision="fp16", out=tmp_path)
    assert listing(tmp_path) == ["best_fp16_openvino_model", "best_fp16_openvino_model.json"]
    assert done.proof is not None
    assert done.proof.tolerances == {}
    assert done.file_bytes < 0.8 * checkpoint.stat().st_size


def test_a_file_that_cannot_be_run_here_is_delivered_unproved(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ultralytics_parity.RUNTIMES, "torchscript", ("no_such_runtime", "no-such-runtime"))
    assert main(["export", f"model={checkpoint}", "format=torchscript", f"out={tmp_path}"]) == 0
    assert "not proved: no-such-runtime is not installed: pip install no-such-runtime" in capsys.readouterr().out
    said = json.loads((tmp_path / "best.torchscript.json").read_text())
    assert said["proof"] is None
    assert said["not_proved"].startswith("no-such-runtime")


def test_who_can_be_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ultralytics_parity.why_not("torchscript") == ""
    assert "device of its own" in ultralytics_parity.why_not("hailo")
    monkeypatch.setattr(ultralytics_parity, "MACOS", False)
    assert ultralytics_parity.why_not("coreml") == "only macOS runs it"


# --- what the proof refuses ------------------------------------------------------------------------------------------


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the host trace a model with one weight scaled."""
    right = module.host_export

    def wrong(model: Any, *rest: Any) -> Path:
        weight = next(one for one in model.state_dict().values() if one.dim() == 4 and one.shape[0] > 16)
        kept = weight.clone()
        weight *= 1.5
        try:
            return right(model, *rest)
        finally:
            weight.copy_(kept)

    monkeypatch.setattr(module, "host_export", wrong)


def test_a_wrong_file_is_refused_and_an_older_one_stays(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    message = refusal(DistillError, checkpoint, "torchscript", out=tmp_path)
    assert "does not answer like the checkpoint" in message
    assert listing(tmp_path) == []
    (tmp_path / "best.torchscript").write_bytes(b"older")
    (tmp_path / "best.torchscript.json").write_bytes(b"older")
    refusal(DistillError, checkpoint, "torchscript", out=tmp_path)
    assert listing(tmp_path) == ["best.torchscript", "best.torchscript.json"]
    assert (tmp_path / "best.torchscript").read_bytes() == (tmp_path / "best.torchscript.json").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("accuracy", "matched", "says"),
    [
        ({"torch": {"map": 50.0}, "int8": {"map": 49.0}}, 1.0, "1.00 points below torch, where max_drop=0.3"),
        ({}, 0.9, "90.0 % of the detections the same"),
        ({"int8": {"map": 49.0}}, 0.9, "90.0 % of the detections"),
        ({"torch": {"map": float("nan")}, "int8": {"map": 49.0}}, 1.0, "below torch"),
    ],
)
def test_lower_precision_that_costs_too_much(accuracy: dict[str, Any], matched: float, says: str) -> None:
    with pytest.raises(DistillError, match=says):
        ultralytics_parity._judge(ultralytics_parity.Agreement(matched, 0.0, 10, 0.25), accuracy, "int8", 0.3)
    ultralytics_parity._judge(ultralytics_parity.Agreement(1.0, 0.0, 10, 0.25), {}, "int8", 0.3)


def test_a_file_that_cannot_be_run(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = module.host_export

    def cut(*args: Any) -> Path:
        file = right(*args)
        file.write_bytes(file.read_bytes()[:5000])
        return file

    monkeypatch.setattr(module, "host_export", cut)
    assert "the exported file cannot be run" in refusal(DistillError, checkpoint, "torchscript", out=tmp_path)
    assert listing(tmp_path) == []


# --- what the host refuses, and what is refused before it ------------------------------------------------------------


def test_unknown_formats(checkpoint: Path) -> None:
    assert "did you mean 'openvino'?" in refusal(RequestError, checkpoint, "openvin")
    assert "known: onnx, torchscript" in refusal(RequestError, checkpoint, "-")


def test_every_format_of_the_host_is_made_in_something() -> None:
    for row in host_formats().values():
        assert row.precisions()
        for precision in row.precisions():
            assert row.quantize(precision) in {32, 16, 8, "w8a16"}


@pytest.mark.parametrize(
    ("setting", "says"),
    [("target=phone", "target=phone"), ("opset=15", "opset=15"), ("input=pictures", "input="), ("calibrate=9", "=9")],
)
def test_settings_of_onnx_only(setting: str, says: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", f"model={checkpoint}", "format=torchscript", setting]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "is of format=onnx only" in said


def test_requests_that_cannot_be_met(checkpoint: Path, tmp_path: Path) -> None:
    assert "is made in fp32, fp16" in refusal(RequestError, checkpoint, "torchscript", precision="int8")
    assert "calibrated on" in refusal(RequestError, checkpoint, "openvino", precision="int8")
    assert "NMS is done by the runtime" in refusal(RequestError, checkpoint, "torchscript", nms=True)
    assert "a name that ends in .torchscript" in refusal(RequestError, checkpoint, "torchscript", out=tmp_path / "a")
    if importlib.util.find_spec("ncnn") and importlib.util.find_spec("pnnx"):
        assert "only has the one-to-many branch" in refusal(RequestError, checkpoint, "ncnn", nms=False, out=tmp_path)
    if not torch.cuda.is_available():
        assert "NVIDIA GPU" in refusal(RequestError, checkpoint, "tensorrt")
        says = refusal(DistillError, checkpoint, "torchscript", precision="fp16", out=tmp_path)
        assert "Ultralytics' exporter failed: FP16 TorchScript export" in says
    plain = save(live_detector("yolov8n.yaml"), tmp_path / "v8.pt", SIDE)
    assert "has no one-to-one branch" in refusal(RequestError, plain, "torchscript", nms=False)
    assert listing(tmp_path) == ["v8.pt"]


def test_somebody_elses_folder_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my_openvino_model"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    assert "not an exported one" in refusal(RequestError, checkpoint, "openvino", out=folder)
    assert listing(folder) == ["thesis.txt"]


def test_names_that_the_host_would_take_apart(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a.pt.d"
    folder.mkdir()
    assert "cannot write where a name holds '.pt'" in refusal(RequestError, checkpoint, "ncnn", out=folder)
    assert listing(folder) == []


def test_a_package_that_is_missing_is_named_and_never_installed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "AUTOINSTALL", True)
    usual = checks.check_requirements

    def needy(self: Any, *_: Any, **__: Any) -> str:
        checks.check_requirements(["torch", "no-such-package>=1.0"])
        raise AssertionError("the host went on without")

    monkeypatch.setattr(exporter.Exporter, "export_torchscript", needy)
    message = refusal(RequestError, checkpoint, "torchscript", out=tmp_path)
    assert message.endswith(
        "needs no-such-package>=1.0, which this environment lacks: pip install 'no-such-package>=1.0'"
    )
    assert listing(tmp_path) == []
    held = [vars(one).get("check_requirements") for name, one in sys.modules.items() if name.startswith("ultralytics.")]
    assert {*held} == {None, usual}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("it broke\nin many\nlines"), "exporter failed: RuntimeError: it broke"),
        (FileNotFoundError("no compiler on PATH"), "exporter failed: no compiler on PATH"),
        (OSError(28, "No space left on device"), "failed (No space left on device)"),
    ],
)
def test_a_converter_that_fails(
    error: Exception, says: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(exporter.Exporter, "export_torchscript", fail)
    assert says in refusal(DistillError, checkpoint, "torchscript", out=tmp_path)
    assert listing(tmp_path) == []


def test_an_interruption_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "prove_host_file", stop)
    with pytest.raises(KeyboardInterrupt):
        export_by_host(checkpoint, "torchscript", out=tmp_path)
    assert listing(tmp_path) == []
