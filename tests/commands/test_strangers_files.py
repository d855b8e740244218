"""Files from elsewhere that would run code where they are opened: each would leave a file MARK, and none may."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny_yolo import ARCHITECTURE, HEADS, write_architecture

from yolo_distill.cli import main
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.errors import RequestError
from yolo_distill.models.architecture_files import load_architecture
from yolo_distill.models.checkpoint import kind_of, load_detector

MARK = Path("code-ran")
CODE = f"__import__('pathlib').Path('{MARK}').touch() or torch.nn.SiLU()"


class Payload:
    """Pickles as a call."""

    def __reduce__(self):
        return Path.touch, (MARK,)


@pytest.fixture(autouse=True)
def _nothing_ran():
    yield
    assert not MARK.exists()


@pytest.fixture
def words(tiny_student, tmp_path) -> list[str]:
    return [
        f"student={tiny_student}", "imgsz=64", "epochs=1", "batch=4", "plots=false", "device=cpu",
        f"project={tmp_path / 'runs'}",
    ]  # fmt: skip


@pytest.fixture
def strangers_data(own_data) -> Path:
    """Return a data set that brings caches of labels along, as the host would look for them."""
    for split in ("train", "val", "test"):
        np.save(Path("cache.npy"), np.array({"labels": Payload()}, dtype=object), allow_pickle=True)
        Path("cache.npy").replace(f"data/labels/{split}.cache")
    return own_data


@pytest.fixture
def strangers_run(taught_run) -> Callable[..., Path]:
    """Return a function that changes what an interrupted run says of itself, and returns its last.pt."""

    def change(recipe: dict | None = None, **args: object) -> Path:
        shutil.copytree(taught_run.interrupted, "stranger")
        last = Path("stranger/weights/last.pt").absolute()
        content = torch.load(last, weights_only=False)
        content["train_args"] |= args
        content["train_args"]["distill"] |= recipe or {}
        torch.save(content, last)
        return last

    return change


def save_with(file: Path, made_by: str, **plan: object) -> Path:
    """Save the detector of a checkpoint with another architecture said to be its own."""
    content = torch.load(made_by, weights_only=False)
    content["model"].yaml |= plan
    torch.save(content, file)
    return file


def test_a_pickle_among_the_labels_is_not_opened(strangers_data, words, tiny_teacher):
    data = f"data={strangers_data}"
    assert main(["train", data, *words, f"teacher={tiny_teacher}"]) == 0
    assert main(["val", f"model={tiny_teacher}", data, "imgsz=64"]) == 0


@pytest.mark.parametrize(
    "activation",
    [CODE, f"torch.nn.Threshold({CODE}, 1)", "torch.nn.Hardtanh(*range(2))", "nn.Linear(9, 9)", "x" * 5000, 7],
)
def test_code_for_an_activation_is_refused(activation, tiny_teacher, refused, words, tiny_data):
    weights = save_with(Path("hostile.pt"), tiny_teacher, activation=activation)
    plan = Path("hostile.yaml")
    plan.write_text(write_architecture(plan).read_text() + f"activation: {yaml.safe_dump(activation)}")
    for open_it in (load_detector, load_architecture, kind_of):
        with pytest.raises(RequestError, match=r"^[^\n]*activation"):
            open_it(weights if open_it is load_detector else plan)
    if activation == CODE:
        for key in ("student", "assistant", "teacher", "pretrained"):
            others = {"teacher": tiny_teacher, key: weights}
            named = [f"{key}={value}" for key, value in others.items()]
            assert "activation" in refused("train", *words, f"data={tiny_data}", *named)


def test_known_activations_are_built():
    for text in ("nn.ReLU()", "torch.nn.LeakyReLU(0.1, inplace=True)", "nn.Hardtanh(-1, 1)"):
        Path("own.yaml").write_text(write_architecture(Path("own.yaml")).read_text() + f"activation: {text}\n")
        assert type(load_architecture("own.yaml").model[0].act).__name__ in text


@pytest.mark.parametrize(
    "layer",
    ["[-1, 1, torch_safe_load, [evil.pt]]", "[-1, 1, DetectionModel, [hostile.yaml]]", "[-1, 1, nn.init, []]",
     "[-1, 1, 5, []]", "[-1, 1]", "7"],
)  # fmt: skip
def test_what_is_no_layer_is_refused(layer, tiny_teacher):
    torch.save(Payload(), "evil.pt")
    plan = ARCHITECTURE.format(end2end=True, width=1, head=HEADS["detect"])
    Path("hostile.yaml").write_text(f"{plan}activation: {CODE}\n")
    text = plan.replace("[-1, 1, Conv, [32, 3, 2]]", layer)
    Path("plan.yaml").write_text(text)
    weights = save_with(Path("hostile.pt"), tiny_teacher, **yaml.safe_load(text))
    for open_it, file in ((load_architecture, "plan.yaml"), (load_detector, weights)):
        with pytest.raises(RequestError, match=r"^[^\n]*layer"):
            open_it(file)


def test_a_checkpoint_that_names_a_file_as_its_architecture_is_refused(tiny_teacher):
    content = torch.load(tiny_teacher, weights_only=False)
    del content["model"].yaml
    content["model"]._buffers["yaml"] = "hostile.yaml"
    torch.save(content, "hostile.pt")
    with pytest.raises(RequestError, match=r"hostile\.pt: its architecture"):
        load_detector("hostile.pt")


def test_a_checkpoint_does_not_trust_for_the_user(strangers_run, refused):
    torch.save({"model": Payload()}, "evil.pt")
    last = strangers_run({"trust": True, "teacher": str(Path("evil.pt").absolute())})
    assert "restricted loader refuses" in refused("train", f"resume={last}")


def test_a_recipe_file_does_not_trust_for_the_user(words, tiny_data, refused):
    Path("mine.yaml").write_text("trust: true\nlogit: 1\n")
    Path("evil.pt").touch()
    assert "trust=true" in refused("train", *words, f"data={tiny_data}", "teacher=evil.pt", "recipe=mine.yaml")


@pytest.mark.parametrize("given", [True, False])
def test_resume_runs_no_download(given, strangers_run, refused):
    script = f"import pathlib; pathlib.Path('{MARK}').touch()"
    plan = {"path": "nowhere", "train": "a", "val": "b", "names": ["disc", "square"], "download": script}
    Path("hostile.yaml").write_text(yaml.safe_dump(plan))
    hostile = str(Path("hostile.yaml").absolute())
    words = [f"resume={strangers_run(**({} if given else {'data': hostile}))}", *([f"data={hostile}"] if given else [])]
    assert "hostile.yaml" in refused("train", *words)


@pytest.mark.parametrize("epochs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_resume_opens_no_other_checkpoint_of_the_folder(epochs, strangers_run, capsys):
    """Neither after the last epoch, when only its end is missing, nor before."""
    last = strangers_run(epochs=epochs)
    torch.save({"model": Payload()}, last.with_name("best.pt"))
    assert main(["train", f"resume={last}"]) == 2
    assert "restricted loader refuses" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["model", "pretrained", "distill_model", "resume"])
def test_no_file_of_a_trainer_is_opened_without_restriction(key, settings, tiny_student):
    """What a plan of `compare` says of an arm reaches its trainer as it is."""
    torch.save({"model": Payload()}, "evil.pt")
    with pytest.raises(RequestError, match=rf"^{key}=evil.pt: holds objects that the restricted loader refuses"):
        TeacherTrainer(overrides={**settings, "model": tiny_student, key: "evil.pt"}).train()


def test_resume_opens_no_teacher_of_the_hosts_distillation(strangers_run, refused):
    torch.save({"model": Payload()}, "evil.pt")
    assert "distill_model" in refused("train", f"resume={strangers_run(distill_model='evil.pt')}")
