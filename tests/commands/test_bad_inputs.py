"""Files and values that nobody can use: each is refused in one line that says what was wrong, and where."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from made_detector import dense, write_detector
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.cli import main
from yolo_distill.data.unlabelled import _short
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import link
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.runtime.detector import Detector


@pytest.fixture
def words(tiny_student, tiny_teacher, tiny_data) -> dict[str, str]:
    """Return the words of a short training, by key."""
    short = {"imgsz": "64", "epochs": "1", "batch": "4", "plots": "false", "device": "cpu", "project": "runs"}
    return {"teacher": tiny_teacher, "student": tiny_student, "data": str(tiny_data), **short}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"\0\1\2", "is not YAML"),
        (b"\xff\xfe\xfd", "is not YAML"),
        (b"[" * 5000, "too many brackets"),
        (b"{a: " * 5000, "too many brackets"),
        (b"a" * 5000, ""),
        (b"a: 2001-99-99", "is not YAML"),
        (b"? [a, b]\n: c", "is not YAML"),
        (b"&a [*a]", "more than 1,000,000 values"),
        (BOMB.encode(), "more than 1,000,000 values"),
        (MERGED.encode(), "more than 1,000,000 values"),
        (None, "a device or a pipe"),
    ],
)
def test_yaml_that_cannot_be_read(text, says, words, refused):
    """Each text as the data, and one of them as each file that a training reads."""
    if text is not None:
        Path("bad.yaml").write_bytes(text)
    elif sys.platform == "win32":
        pytest.skip("Windows has no pipes that are files")
    else:
        os.mkfifo("bad.yaml")
    for key in ("data", "recipe", "class_map", "student", "teacher_outputs")[: 5 if text in {None, b"[" * 5000} else 1]:
        if key == "teacher_outputs":
            words["teacher"] = str(write_detector(Path("other.onnx"), dense()))
        said = refused("train", *(f"{name}={value}" for name, value in {**words, key: "bad.yaml"}.items()))
        assert "bad.yaml" in said
        assert says in said or (key in {"data", "recipe"} and says == "a device or a pipe")
        assert len(said) < 1000


@pytest.mark.parametrize("label", ["0 nan nan nan nan", "1e300 .5 .5 .1 .1", "disc .5 .5 .1 .1", "7 .5 .5 .1 .1"])
def test_labels_of_which_none_can_be_used(label, words, own_data, capsys):
    for file in own_data.parent.rglob("labels/*/*.txt"):
        file.write_text(label)
    words["data"] = str(own_data)
    assert main(["train", *(f"{key}={value}" for key, value in words.items())]) == 2
    assert main(["val", f"model={words['teacher']}", f"data={own_data}", "imgsz=64"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert label[0] != "7" or ("none of the 4 pictures" in said and "0.png: Label class 7 exceeds" in said)


def test_pictures_of_floats_are_left_out(own_data, tiny_teacher, capsys):
    picture = own_data.parent / "images" / "val" / "0.png"
    cv2.imwrite(str(picture.with_suffix(".tif")), cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE).astype(np.float32))
    picture.unlink()
    assert main(["val", f"model={tiny_teacher}", f"data={own_data}", "imgsz=64"]) == 0
    assert "all            3 " in capsys.readouterr().out


@pytest.mark.parametrize("nc", ["10000000", "1e300", "-2", "many"])
def test_classes_without_number(nc, own_data, tiny_teacher, refused):
    own_data.write_text(own_data.read_text().partition("names:")[0] + f"nc: {nc}\n")
    assert "nc is" in refused("val", f"model={tiny_teacher}", f"data={own_data}")


@pytest.mark.parametrize("changes", [{"logit": "1e300"}, {"recipe": "mine.yaml", "imgsz": None}])
def test_values_that_train_nothing(changes, words, refused):
    Path("mine.yaml").write_text("imgsz: big\n")
    said = refused("train", *(f"{key}={value}" for key, value in {**words, **changes}.items() if value))
    assert "logit=1e300: must be between 0 and 10000" in said or "imgsz=big: expected a whole number" in said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_args": [1]}, r"its training settings are \[1\]"),
        ({"train_args": {1: 2}}, r"its training settings are \{1: 2\}"),
        ({"train_args": {"imgsz": "big"}}, "trained at imgsz='big'"),
        ({"train_args": {"imgsz": 2**40}}, "trained at imgsz=1099511627776"),
        ({"names": 7}, "2 classes apart, and its names are 7"),
        ({"names": {"a": "b"}}, "its names are {'a': 'b'}"),
        ({"names": {0: "a"}}, "its names are {0: 'a'}"),
        ({"args": 7}, "its training settings are 7"),
        ({"stride": "x"}, "its stride is 'x'"),
        ({"stride": torch.tensor([0.0])}, "its stride is"),
    ],
)
def test_a_checkpoint_with_values_of_another_type(changes, says, tiny_teacher):
    content = torch.load(tiny_teacher, weights_only=False)
    for key, value in changes.items():
        if key == "train_args":
            content[key] = value
        else:
            setattr(content["model"], key, value)
    torch.save(content, "other.pt")
    with pytest.raises(RequestError, match=f"^model=other.pt: [^\n]*{says}"):
        load_detector("other.pt")


def _without_a_layer(model):
    model.model = torch.nn.Sequential(*(layer for number, layer in enumerate(model.model) if number != 2))


def _of_one_number(model):
    model.model[1].conv.weight = torch.nn.Parameter(torch.zeros(1).half().expand(10**6, 10**5))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda model: setattr(model.model[3], "f", "x"), "do not run on a picture"),
        (lambda model: setattr(model.model[-1], "reg_max", 16), "do not run on a picture"),
        (lambda model: setattr(model.model[1].conv, "padding", (10**5, 10**5)), "a map of"),
        (lambda model: model.yaml["backbone"][1].__setitem__(0, 99), "its architecture cannot be built"),
        (lambda model: model.model[1].conv.to("meta"), "on meta; expected floats"),
        (_without_a_layer, "do not run on a picture"),
        (_of_one_number, "100,000,[0-9,]* parameters"),
    ],
)
def test_a_checkpoint_whose_layers_do_not_fit_together(change, says, tiny_teacher):
    content = torch.load(tiny_teacher, weights_only=False)
    change(content["model"])
    torch.save(content, "other.pt")
    with pytest.raises(RequestError, match=f"^model=other.pt: [^\n]*{says}"):
        load_detector("other.pt")


def test_a_name_that_the_host_cannot_open(tiny_teacher):
    shutil.copyfile(tiny_teacher, "Bob's.pt")
    with pytest.raises(RequestError, match=r"^model=Bob's\.pt: .* rename file or folder"):
        load_detector("Bob's.pt")


@pytest.mark.parametrize("key", ["student", "assistant", "pretrained", "teacher"])
def test_a_fused_checkpoint_cannot_be_trained(key, tiny_teacher, words, refused):
    content = torch.load(tiny_teacher, weights_only=False)
    content["model"].model[-1].cv2 = None
    torch.save(content, "fused.pt")
    said = refused("train", *(f"{name}={value}" for name, value in {**words, key: "fused.pt"}.items()))
    assert f"{key}=fused.pt: was fused, and has lost what is trained" in said


def test_a_checkpoint_without_checksums(tiny_teacher):
    content = torch.load(tiny_teacher, weights_only=False)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, "other.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_detector("other.pt").names == load_detector(tiny_teacher).names


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Tile", "Expand"])
def test_an_onnx_file_gets_half_of_the_memory(kind, monkeypatch):
    file = write_detector(Path("best.onnx"), dense((16, 32, 8, 8, 0.9, 0, 0)))
    model = onnx.load(file)
    make, values = onnx.helper.make_node, onnx.numpy_helper.from_array
    model.graph.initializer.append(values(np.array([2**26], np.int64), "huge"))
    model.graph.initializer.append(values(np.ones(1, np.float32), "seed"))
    model.graph.node[-1].input[0] = "changed"
    model.graph.node.insert(0, make(kind, ["huge"] if kind == "ConstantOfShape" else ["seed", "huge"], ["filled"]))
    model.graph.node.insert(1, make("ReduceMean", ["filled"], ["one"], keepdims=0))
    model.graph.node.insert(len(model.graph.node) - 1, make("Add", ["change", "one"], ["changed"]))
    onnx.save(model, file)
    picture = np.zeros((64, 64, 3), np.uint8)
    Detector(file)(picture)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2**15, "SC_PAGE_SIZE": 4096}.get)
    with pytest.raises(DistillError, match="smaller than requested bytes"):
        Detector(file)(picture)


@pytest.mark.parametrize("changes", [{"imgsz": (99968, 99968)}, {"batch": 100_000}])
def test_an_onnx_file_that_takes_no_picture(changes, refused, words, own_data):
    picture = own_data.parent / "images" / "val" / "0.png"
    file = write_detector(Path("best.onnx"), dense((16, 32, 8, 8, 0.9, 0, 0)), **changes)
    assert "inputs of more than 134,217,728 pixels" in refused("predict", f"model={file}", f"source={picture}")
    words["teacher"] = str(file)
    refused("train", *(f"{name}={value}" for name, value in words.items()))


def test_a_picture_of_too_many_pixels():
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    side = 14_000
    content = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IEND", b"")]
    content.insert(1, (b"IDAT", zlib.compress(bytes((side // 8 + 1) * side))))
    Path("x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in content))
    asked = "from yolo_distill.runtime.pictures import as_picture; as_picture('x.png')"  # OpenCV reads its limit once
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert "cannot be decoded as a picture of at most 179 million pixels" in done.stderr


@pytest.mark.parametrize("epochs", ["1e300", "0", "1.5"])
def test_epochs_of_no_training(epochs, words, refused):
    words["epochs"] = epochs
    assert "epochs=" in refused("train", *(f"{name}={value}" for name, value in words.items()))


def test_an_unknown_optimizer(words, capsys):
    words |= {"optimizer": "other", "workers": "0"}
    assert main(["train", *(f"{name}={value}" for name, value in words.items())]) == 2
    assert "yolo-distill: optimizer=other: " in capsys.readouterr().err


def test_settings_of_another_type_in_a_run(tiny_teacher, refused):
    content = torch.load(tiny_teacher, weights_only=False)
    torch.save({**content, "train_args": {"epochs": "many", "distill": {}}}, "last.pt")
    assert "the settings in it are none of a training" in refused("train", "resume=last.pt")


def test_a_value_of_thousands_of_letters_is_shortened(words, refused):
    words["device"] = "a" * 5000
    assert len(refused("train", *(f"{name}={value}" for name, value in words.items()))) < 1500


@pytest.mark.parametrize("place", [0.05, 0.5, 0.9])
def test_a_checkpoint_with_flipped_bytes_is_damaged(place, tiny_teacher):
    data = bytearray(Path(tiny_teacher).read_bytes())
    at = int(len(data) * place)
    for place in range(at, at + 100):
        data[place] ^= 255
    Path("flipped.pt").write_bytes(data)
    with pytest.raises(RequestError, match=r"^model=flipped.pt: [^\n]*(damaged|cut off)"):
        load_detector("flipped.pt")


@pytest.mark.parametrize("key", ["resume", "teacher", "data", "recipe", "class_map"])
def test_a_value_too_long_for_a_name(key, words, refused):
    said = refused("train", *(f"{name}={value}" for name, value in {**words, key: f"{'a' * 5000}.yaml"}.items()))
    assert "too long" in said


def test_long_names(own_data):
    model = write_detector(Path("best.onnx"), dense((16, 32, 8, 8, 0.9, 0, 0)))
    long = Path("x" * 250 + ".png").absolute()
    shutil.copyfile(own_data.parent / "images" / "val" / "0.png", long)
    assert main(["predict", f"model={model}", f"source={long}", "out=out"]) == 0
    assert (Path("out") / long.name).is_file()
    link(long, Path(f"000000_{_short(long)}.png"))
    assert Path(f"000000_{'x' * 150}.png").exists()


@pytest.fixture
def grey(own_data, tiny_student):
    """Return a teacher of grey pictures, whose data the data set becomes."""
    own_data.write_text(own_data.read_text() + "channels: 1\n")
    model = DetectionModel(tiny_student, ch=1, nc=2, verbose=False)
    model.names = {0: "disc", 1: "square"}
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, "grey.pt")
    return "grey.pt"


def test_pictures_of_other_channels_than_the_models(grey, words, own_data, refused):
    data, teacher, source = f"data={own_data}", f"teacher={words['teacher']}", str(own_data.parent / "images" / "train")
    words["data"] = str(own_data)
    for asked in (
        ["val", f"model={words['teacher']}", data],
        ["train", *(f"{key}={value}" for key, value in words.items())],
        ["shrink", teacher, data, "width=0.5", "out=small.pt"],
        ["label", teacher, f"source={source}", data, "out=out"],
        ["benchmark", f"model={words['teacher']}", data],
    ):
        assert "takes pictures of 3 channels, the data has 1" in refused(*asked)
    for asked in (["label", f"teacher={grey}", f"source={source}", "out=out"], ["export", grey, "out=out"]):
        assert f"{grey}: takes pictures of 1 channels; {asked[0]} takes models of RGB pictures only" in refused(*asked)
    assert not Path("out").exists()


def test_grey_pictures_have_grey_models(grey, own_data):
    assert main(["val", f"model={grey}", f"data={own_data}"]) == 0
    assert main(["shrink", f"teacher={grey}", f"data={own_data}", "width=0.5", "out=small.pt"]) == 0
