"""Opening checkpoints and architectures: what comes back, and one line for everything that cannot be opened."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_rtdetr import live_rtdetr, write_architecture
from ultralytics import YOLO
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, RTDETRDetectionModel, SegmentationModel
from ultralytics.utils import DEFAULT_CFG, checks

from yolo_distill.errors import RequestError
from yolo_distill.models import checkpoint as module
from yolo_distill.models.checkpoint import (
    is_architecture,
    kind_of,
    load_architecture,
    load_detector,
    load_rtdetr,
    load_ultralytics,
    no_auto_install,
    trained_imgsz,
)


class Payload:
    """Pickles as a call, the way a hostile checkpoint would."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("the code in the checkpoint ran",)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the host saves one after training: half precision, EMA, and a plain dict among the settings."""
    model = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    model.names = {0: "red", 1: "white", 2: "plate"}
    args = {"imgsz": 96, "task": "detect", "yolo_distill": {"logit": 0.5, "student": "yolo26n.yaml"}}
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    torch.save({"epoch": -1, "model": None, "ema": model.half(), "train_args": args, "date": "today"}, path)
    return path


def save(model: Any, path: Path) -> Path:
    torch.save({"model": model}, path)
    return path


def refusal(path: str | Path, load: Callable[..., Any] = load_detector, **options: Any) -> str:
    """Return the one line with which a file is refused, which names it."""
    with pytest.raises(RequestError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{options.get('role', 'model')}={path}: ")
    return message


def test_a_trained_checkpoint_comes_back_as_a_float32_detector_in_eval_mode(plain: Path) -> None:
    model = load_detector(plain)
    assert type(model) is type(load_ultralytics(plain)) is DetectionModel
    assert not model.training
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert model.names == {0: "red", 1: "white", 2: "plate"}
    assert model.task == "detect"
    assert trained_imgsz(model) == 96
    assert model.args["yolo_distill"] == {"logit": 0.5, "student": "yolo26n.yaml"}
    saved, loaded = torch.load(plain, weights_only=False)["ema"].float().state_dict(), model.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64))[0].shape == (1, 7, 84)


def test_what_the_host_saves_itself_can_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "saved.pt"
    YOLO("yolov8n.yaml").save(path)
    assert len(load_detector(path).names) == 80


def test_the_student_is_taken_out_of_a_checkpoint_of_the_hosts_distillation(tmp_path: Path) -> None:
    student, teacher = (DetectionModel(f"yolo26{scale}.yaml", nc=2, verbose=False) for scale in "ns")
    student.args = teacher.args = DEFAULT_CFG
    wrapped = DistillationModel(teacher, student)
    # Trusted, because the allow-list of the oldest host lacks its own distillation.
    loaded = load_detector(save(wrapped, tmp_path / "host.pt"), trust=True)
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in student.parameters())
    assert not any(layer._forward_hooks for layer in loaded.modules())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere/yolo26n.pt", "no such file"),
        ("mine.pt", "no such file, and no official model of that name"),
        ("yolo26nn.pt", "did you mean 'yolo26n.pt'?"),
        ("yolo26n", "did you mean 'yolo26n.pt'?"),
        ("best.onnx", "is exported"),
        ("https://somewhere/best.pt", "is an address"),
        (".", "is a folder"),
    ],
)
def test_a_name_that_is_no_checkpoint(name: str, says: str) -> None:
    assert says in refusal(name)


def test_a_path_with_a_folder_is_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "attempt_download_asset", lambda name: pytest.fail(f"asked for {name}"))
    (tmp_path / "best.pt").write_bytes(b"")
    assert "did you mean 'best.pt'?" in refusal(tmp_path / "bets.pt")
    assert "no such file" in refusal(tmp_path / "yolo26n.pt")


def test_an_official_name_offline_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str) -> str:
        raise ConnectionError(f"❌ Download failure for {name}.\nTry again.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(module.SETTINGS, "weights_dir", str(tmp_path / "weights"))
    monkeypatch.setattr(module, "attempt_download_asset", offline)
    message = refusal("yolo26n.pt", role="teacher")
    assert message.startswith("teacher=yolo26n.pt: not on this machine")
    assert "Download failure" in message
    assert f"put yolo26n.pt into {tmp_path}" in message


def test_an_official_name_in_the_hosts_weights_folder_is_found(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(module.SETTINGS, "weights_dir", str(plain.parent))
    monkeypatch.setattr(module, "attempt_download_asset", lambda name: pytest.fail(f"asked for {name}"))
    assert load_detector(plain.name).pt_path == str(plain)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
def test_a_file_cut_off_in_the_middle_is_refused_and_not_deleted(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: float
) -> None:
    monkeypatch.chdir(tmp_path)
    size = int(len(plain.read_bytes()) * keep)
    Path("yolo26n.pt").write_bytes(plain.read_bytes()[:size])
    assert "is cut off in the middle" in refusal("yolo26n.pt")
    assert Path("yolo26n.pt").stat().st_size == size


def test_files_that_are_something_else(tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    for content, says in (
        (b"", "is empty (0 bytes)"),
        (b"not weights at all", "is not a PyTorch checkpoint"),
        (pickle.dumps({"model": 1}), "is not a PyTorch checkpoint"),
    ):
        file.write_bytes(content)
        assert says in refusal(file)
    with zipfile.ZipFile(file, "w") as stream:
        stream.writestr("readme.txt", "hello")
    assert "cannot be read as an Ultralytics checkpoint" in refusal(file)
    torch.save(torch.zeros(1), file)
    assert "cannot be read as an Ultralytics checkpoint" in refusal(file)
    torch.save({"conv.weight": torch.zeros(1)}, file)
    assert "holds no Ultralytics model (its keys: conv.weight)" in refusal(file)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(Payload(), tmp_path / "hostile.pt")
    message = refusal(path)
    assert "restricted loader refuses" in message
    assert "print" in message
    assert "trust=true" in message
    assert "ran" not in capsys.readouterr().out
    # The file is the hostile one it claims to be: without the allow-list the code does run.
    assert "holds no Ultralytics model" in refusal(path, trust=True)
    assert "the code in the checkpoint ran" in capsys.readouterr().out


def test_a_trusted_checkpoint_may_hold_foreign_classes(plain: Path, tmp_path: Path) -> None:
    content = torch.load(plain, weights_only=False)
    torch.save({**content, "note": zipfile.ZipInfo("foreign")}, tmp_path / "foreign.pt")
    assert "zipfile.ZipInfo" in refusal(tmp_path / "foreign.pt")
    assert load_detector(tmp_path / "foreign.pt", trust=True).names[0] == "red"


def test_a_module_named_by_a_checkpoint_is_not_installed(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def load(*_: Any, **__: Any) -> None:
        seen.append(checks.AUTOINSTALL)
        raise ModuleNotFoundError("No module named 'nosuch'", name="nosuch")

    monkeypatch.setattr(module, "torch_safe_load", load)
    assert "nosuch" in refusal(plain, trust=True)
    assert seen == [False]


def test_auto_install_comes_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "AUTOINSTALL", True)
    with no_auto_install():
        assert checks.AUTOINSTALL is False
    assert checks.AUTOINSTALL is True


def test_an_old_torch_is_refused_rather_than_trusted(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
    assert "needs torch 2.6" in refusal(plain)


@pytest.mark.parametrize(
    ("kind", "suffix", "said"), [(ClassificationModel, "cls", "classify"), (SegmentationModel, "seg", "segment")]
)
def test_models_that_are_no_detector(tmp_path: Path, kind: type, suffix: str, said: str) -> None:
    path = save(kind(f"yolo26n-{suffix}.yaml", verbose=False), tmp_path / "other.pt")
    assert f"is a {said} model, not a detector" in refusal(path, role="teacher")


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An RT-DETR's checkpoint as the host saves one."""
    path = tmp_path_factory.mktemp("transformers") / "best.pt"
    model = live_rtdetr(["red", "white"])
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))  # it keeps anchors, as one that was validated does
    args = {"imgsz": 96, "task": "detect"}
    torch.save({"epoch": -1, "model": None, "ema": model.half(), "train_args": args}, path)
    return path


def test_an_rtdetr_is_opened_by_who_asks_for_one(transformer: Path, tmp_path: Path) -> None:
    model = load_rtdetr(transformer)
    assert type(model) is type(load_ultralytics(transformer)) is RTDETRDetectionModel
    assert not model.training
    assert model.names == {0: "red", 1: "white"}
    assert trained_imgsz(model) == 96
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    built = load_architecture(write_architecture(tmp_path / "tiny.yaml"), nc=3, kinds=("yolo", "rtdetr"))
    assert type(built) is RTDETRDetectionModel
    assert built.names == {0: "0", 1: "1", 2: "2"}


def test_one_kind_in_place_of_the_other(transformer: Path, plain: Path) -> None:
    assert refusal(transformer, role="student").endswith(
        "is an RT-DETR, not a YOLO detector; an RT-DETR can teach, but can't be taught, measured or exported here"
    )
    assert refusal(plain, load_rtdetr, role="teacher").endswith("is a YOLO detector, not an RT-DETR")
    assert refusal("yolo26n.yaml", load_architecture, kinds=("rtdetr",)).endswith("is a YOLO detector, not an RT-DETR")


def test_which_kind_a_model_is_of_is_read_from_its_plan(
    transformer: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kind_of(transformer) == kind_of(load_rtdetr(transformer)) == "rtdetr"
    assert kind_of(plain) == kind_of(load_detector(plain)) == "yolo"
    for kind in (DetectionModel, RTDETRDetectionModel):
        monkeypatch.setattr(kind, "__init__", lambda *_, **__: pytest.fail("was built"))
    assert kind_of("yolo26n.yaml") == "yolo"
    assert kind_of("rtdetr-l.yaml") == kind_of(write_architecture(tmp_path / "tiny.yaml")) == "rtdetr"
    assert "is a segment model, not a detector" in refusal("yolo26n-seg.yaml", kind_of, role="teacher")


@pytest.mark.parametrize("name", ["yolo26n.yaml", "yolo12n.yaml", "yolov10n.yaml"])
def test_architectures_by_name(name: str) -> None:
    model = load_architecture(name, nc=3)
    assert model.names == {0: "0", 1: "1", 2: "2"}
    assert model.yaml["scale"] == "n"
    assert not model.training


def test_an_architecture_from_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "nc: 2\nbackbone:\n- [-1, 1, Conv, [8, 3, 8]]\n- [-1, 1, Conv, [16, 3, 2]]\n- [-1, 1, Conv, [16, 3, 2]]\n"
        "head:\n- [[0, 1, 2], 1, Detect, [nc]]\n"
    )
    assert load_architecture(path).model[-1].nc == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolo26q.yaml", "did you mean 'yolo26"),
        ("yolo62n.yaml", "did you mean 'yolo"),
        ("nowhere/yolo26n.yaml", "no such file"),
        ("yolo26n-seg.yaml", "is a segment model, not a detector"),
        ("yolo26n-cls.yaml", "is a classify model, not a detector"),
        ("rtdetr-l.yaml", "is an RT-DETR, not a YOLO detector; an RT-DETR can teach, but can't be taught"),
        ("yolov8s-world.yaml", "head WorldDetect are not supported yet"),
        ("yolo26n.pt", "an architecture is a .yaml file"),
    ],
)
def test_names_that_are_no_architecture(name: str, says: str) -> None:
    assert says in refusal(name, load_architecture, role="student")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: images\nval: images\nnames: [a]\n", "describes a data set"),
        ("just words", "is not a YAML file of keys and values"),
        ("a: [1\nb", "is not a YAML file of keys and values"),
        ("backbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead:\n- [-1, 1, Nosuch, [8]]\n", "no layer 'Nosuch'"),
        ("backbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead: [1]\n", "the last layer under 'head'"),
        ("nc: 1\nbackbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead:\n- [[5], 1, Detect, [nc]]\n", "cannot build"),
        ("", "describes no model"),
    ],
)
def test_yaml_files_that_are_no_architecture(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "other.yaml").write_text(text)
    assert says in refusal(tmp_path / "other.yaml", load_architecture)


def test_which_names_are_architectures() -> None:
    assert [is_architecture(name) for name in ("yolo26n.yaml", Path("a/b.yml"), "best.pt")] == [True, True, False]
