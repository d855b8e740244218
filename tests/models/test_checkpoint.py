"""Opening checkpoints and architectures: what comes back, and one line for everything that cannot be opened."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_rtdetr import live_rtdetr, write_architecture
from tiny_yolo import ARCHITECTURE, HEADS
from ultralytics import YOLO
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, RTDETRDetectionModel
from ultralytics.utils import DEFAULT_CFG, checks

from yolo_distill.errors import RequestError
from yolo_distill.models import checkpoint as module
from yolo_distill.models.architecture_files import is_architecture, load_architecture
from yolo_distill.models.checkpoint import kind_of, load_detector, load_ultralytics, no_auto_install
from yolo_distill.models.imgsz import trained_imgsz

TINY = ARCHITECTURE.format(end2end=True, width=1, head=HEADS["detect"])
ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))


class Payload:
    """Pickles as a call, the way a hostile checkpoint would."""

    def __reduce__(self):
        return print, ("the code in the checkpoint ran",)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a function that saves a model as the host does after training: half precision, EMA, a dict among args."""

    def save(model):
        path = tmp_path_factory.mktemp("weights") / "best.pt"
        args = {"imgsz": 96, "task": "detect", "yolo_distill": {"logit": 0.5}}
        torch.save({"epoch": -1, "model": None, "ema": model.half(), "train_args": args, "date": "today"}, path)
        return path

    return save


@pytest.fixture(scope="module")
def plain(saved):
    model = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    model.names = {0: "red", 1: "white", 2: "plate"}
    return saved(model)


@pytest.fixture(scope="module")
def transformer(saved):
    model = live_rtdetr(["red", "white", "plate"])
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))  # it keeps anchors, as one that was validated does
    return saved(model)


def refusal(path, load=load_detector, **options):
    """Return the one line with which a file is refused, which names it."""
    with pytest.raises(RequestError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{options.get('role', 'model')}={path}: ")
    return message


@pytest.mark.parametrize(
    ("name", "kind", "built"), [("plain", "yolo", DetectionModel), ("transformer", "rtdetr", RTDETRDetectionModel)]
)
def test_a_trained_checkpoint_comes_back_as_a_float32_detector_in_eval_mode(name, kind, built, request):
    file = request.getfixturevalue(name)
    model = load_detector(file, kinds=(kind,))
    assert type(model) is type(load_ultralytics(file)) is built
    assert not model.training
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert model.names == {0: "red", 1: "white", 2: "plate"}
    assert model.task == "detect"
    assert trained_imgsz(model) == 96
    assert model.args["yolo_distill"] == {"logit": 0.5}
    written, loaded = torch.load(file, weights_only=False)["ema"].float().state_dict(), model.state_dict()
    assert written.keys() == loaded.keys()
    assert all(torch.equal(written[key], loaded[key]) for key in written)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))


def test_what_the_host_saves_itself_can_be_opened():
    YOLO("yolov8n.yaml").save("saved.pt")
    assert len(load_detector("saved.pt").names) == 80


def test_the_student_is_taken_out_of_a_checkpoint_of_the_hosts_distillation():
    student, teacher = (DetectionModel(f"yolo26{scale}.yaml", nc=2, verbose=False) for scale in "ns")
    student.args = teacher.args = DEFAULT_CFG
    torch.save({"model": DistillationModel(teacher, student)}, "host.pt")
    # Trusted, because the allow-list of the oldest host lacks its own distillation.
    loaded = load_detector("host.pt", trust=True)
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
        ("torchvision:ssd300_vgg16:best.pth", "torchvision's detectors teach and label"),
        (".", "is a folder"),
        ("here/bets.pt", "did you mean 'best.pt'?"),
        ("here/yolo26n.pt", "no such file"),  # with a folder it is never downloaded
    ],
)
def test_a_name_that_is_no_checkpoint(name, says, monkeypatch):
    monkeypatch.setattr(module, "attempt_download_asset", lambda name: pytest.fail(f"asked for {name}"))
    Path("here").mkdir()
    Path("here/best.pt").write_bytes(b"")
    assert says in refusal(name)


def test_an_official_name_is_looked_for_in_the_hosts_folder_and_said_where_to_put(plain, tmp_path, monkeypatch):
    def offline(name):
        raise ConnectionError(f"❌ Download failure for {name}.\nTry again.")

    monkeypatch.setattr(module, "attempt_download_asset", offline)
    monkeypatch.setitem(module.SETTINGS, "weights_dir", "weights")
    message = refusal("yolo26n.pt", role="teacher")
    assert message.startswith("teacher=yolo26n.pt: not on this machine")
    assert "Download failure" in message
    assert f"put yolo26n.pt into {tmp_path}" in message
    monkeypatch.setitem(module.SETTINGS, "weights_dir", str(plain.parent))
    assert load_detector(plain.name).pt_path == str(plain)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.999])
def test_a_file_cut_off_in_the_middle_is_refused_and_not_deleted(plain, keep):
    part = plain.read_bytes()[: int(plain.stat().st_size * keep)]
    Path("yolo26n.pt").write_bytes(part)
    assert "is cut off in the middle" in refusal("yolo26n.pt")
    assert Path("yolo26n.pt").read_bytes() == part


def test_files_that_are_something_else():
    for content, says in (
        (b"", "is empty (0 bytes)"),
        (b"not weights at all", "is not a PyTorch checkpoint"),
        (pickle.dumps({"model": 1}), "is not a PyTorch checkpoint"),
    ):
        Path("other.pt").write_bytes(content)
        assert says in refusal("other.pt")
    with zipfile.ZipFile("other.pt", "w") as stream:
        stream.writestr("readme.txt", "hello")
    assert "cannot be read as an Ultralytics checkpoint" in refusal("other.pt")
    for content, says in (
        (torch.zeros(1), "cannot be read as an Ultralytics checkpoint"),
        ({"conv.weight": torch.zeros(1)}, "holds no Ultralytics model (its keys: conv.weight)"),
        ({"model": ClassificationModel("yolo26n-cls.yaml", verbose=False)}, "is a classify model; give one with"),
    ):
        torch.save(content, "other.pt")
        assert says in refusal("other.pt")


def test_code_in_a_checkpoint_does_not_run_unless_it_is_trusted(plain, capsys):
    torch.save({"model": Payload()}, "hostile.pt")
    message = refusal("hostile.pt")
    assert all(part in message for part in ("restricted loader refuses", "print", "trust=true"))
    assert "ran" not in capsys.readouterr().out
    assert "holds no Ultralytics model" in refusal("hostile.pt", trust=True)
    assert "the code in the checkpoint ran" in capsys.readouterr().out
    content = torch.load(plain, weights_only=False)
    torch.save({**content, "note": zipfile.ZipInfo("foreign")}, "foreign.pt")
    assert "zipfile.ZipInfo" in refusal("foreign.pt")
    assert load_detector("foreign.pt", trust=True).names[0] == "red"


def test_a_module_named_by_a_checkpoint_is_not_installed(plain, monkeypatch):
    seen = []

    def load(*_, **__):
        seen.append(checks.AUTOINSTALL)
        raise ModuleNotFoundError("No module named 'nosuch'", name="nosuch")

    monkeypatch.setattr(module, "torch_safe_load", load)
    monkeypatch.setattr(checks, "AUTOINSTALL", True)
    assert "nosuch" in refusal(plain, trust=True)
    with no_auto_install():
        seen.append(checks.AUTOINSTALL)
    assert [*seen, checks.AUTOINSTALL] == [False, False, True]


def test_an_old_torch_is_refused_rather_than_trusted(plain, monkeypatch):
    monkeypatch.delattr(torch.serialization, "get_unsafe_globals_in_checkpoint")
    assert "needs torch 2.6" in refusal(plain)


@pytest.mark.parametrize("end2end", [True, False])
def test_a_fused_model_neither_learns_nor_teaches(end2end, saved, tmp_path):
    plan = tmp_path / "tiny.yaml"
    plan.write_text(ARCHITECTURE.format(end2end=end2end, width=1, head=HEADS["detect"]))
    file = saved(load_architecture(plan, 2).fuse(verbose=False))
    for role in ("student", "teacher"):
        says = "was fused, and has lost what is trained; give the checkpoint it came from"
        assert refusal(file, load_ultralytics, role=role).endswith(says)
    assert load_detector(file).task == "detect"  # it can be measured


def test_one_kind_in_place_of_the_other(transformer, plain):
    assert refusal(transformer, role="student").endswith(
        "is an RT-DETR, not a YOLO detector; an RT-DETR can teach, but can't be taught, measured or exported here"
    )
    assert refusal(plain, kinds=("rtdetr",), role="teacher").endswith("is a YOLO detector, not an RT-DETR")
    assert refusal("yolo26n.yaml", load_architecture, kinds=("rtdetr",)).endswith("is a YOLO detector, not an RT-DETR")


def test_which_kind_a_model_is_of_is_read_from_its_plan(transformer, plain, monkeypatch):
    assert kind_of(load_ultralytics(transformer)) == "rtdetr"
    assert kind_of(load_detector(plain)) == "yolo"
    for kind in (DetectionModel, RTDETRDetectionModel):
        monkeypatch.setattr(kind, "__init__", lambda *_, **__: pytest.fail("was built"))
    assert kind_of("yolo26n.yaml") == "yolo"
    assert kind_of("rtdetr-l.yaml") == kind_of(write_architecture(Path("tiny.yaml"))) == "rtdetr"
    with pytest.raises(RequestError, match=r"^teacher=yolo26n-cls\.yaml: is a classify model"):
        kind_of("yolo26n-cls.yaml")


@pytest.mark.parametrize("name", ["yolo26n.yaml", "yolo12n.yaml", "yolov10n.yaml", "own.yaml", "tiny.yml"])
def test_architectures_by_name(name):
    Path("own.yaml").write_text(
        "nc: 2\nbackbone:\n- [-1, 1, Conv, [8, 3, 8]]\n- [-1, 1, Conv, [16, 3, 2]]\n- [-1, 1, Conv, [16, 3, 2]]\n"
        "head:\n- [[0, 1, 2], 1, Detect, [nc]]\n"
    )
    write_architecture(Path("tiny.yml"))
    assert is_architecture(name)
    model = load_architecture(name, nc=3, kinds=("yolo", "rtdetr"))
    assert model.names == {0: "0", 1: "1", 2: "2"}
    assert not model.training
    assert not name.startswith("yolo") or model.yaml["scale"] == "n"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolo26q.yaml", "did you mean 'yolo26"),
        ("yolo62n.yaml", "did you mean 'yolo"),
        ("nowhere/yolo26n.yaml", "no such file"),
        ("yolo26n-cls.yaml", "is a classify model; give one with task"),
        ("rtdetr-l.yaml", "is an RT-DETR, not a YOLO detector; an RT-DETR can teach, but can't be taught"),
        ("yolov8s-world.yaml", "head WorldDetect are not supported yet"),
        ("yolo26n.pt", "an architecture is a .yaml file"),
    ],
)
def test_names_that_are_no_architecture(name, says):
    assert says in refusal(name, load_architecture, role="student")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: images\nval: images\nnames: [a]\n", "describes a data set"),
        ("just words", "is not a YAML file of keys and values"),
        ("a: [1\nb", "is not YAML"),
        ("backbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead:\n- [-1, 1, Nosuch, [8]]\n", "no layer 'Nosuch'"),
        ("backbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead: [1]\n", "the last layer under 'head'"),
        (TINY.replace("nc: 2", "nc: 10000000"), "the number 1e+07"),
        (TINY.replace("[8, 3, 2]", "['100000000', 3, 2]"), "the number 1e+08"),
        (TINY.replace("1, Conv", "1000000000, Conv"), "the number 1e+09"),
        (TINY + ALIASES, "more than 1,000,000 values"),
        (TINY.replace("1, Conv", "600, Conv"), "at most 1000 are built"),
        (TINY.replace("[32, 3, 2]", "[9999, 99, 2]"), "parameters; at most"),
        (TINY.replace("[8, 3, 2]", "[9999, 3, 1]"), "has a map of 10000x256x256"),
        ("backbone: 5\nhead:\n- [[5], 1, Detect, [nc]]\n", "backbone and head are not lists"),
        ("nc: 1\nbackbone:\n- [-1, 1, Conv, [8, 3, 2]]\nhead:\n- [[5], 1, Detect, [nc]]\n", "cannot build"),
        ("", "describes no model"),
    ],
)
def test_yaml_files_that_are_no_architecture(text, says):
    Path("other.yaml").write_text(text)
    assert says in refusal("other.yaml", load_architecture)
