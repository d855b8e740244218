"""Files from elsewhere that would run code, or take all memory, where they are opened: none may.

    python tests/benchmarks/attack_corpus.py [folder=/tmp/attacks] [kind=pickles] [only=WORDS] [ways=all]

Builds the files, runs a command over each (ways=all: each command that opens such files), in a forked process, and
prints a table by kind. Ends with 1 where code ran, or a command ended in anything but one line, took more than 30 s or
2 GiB.
"""

from __future__ import annotations

import builtins
import functools
import gzip
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from struct import pack
from typing import Any
from zlib import crc32

from hostile_runner import MARK, MARKUP, Case, in_fork, options_of, run_all, words

import cv2  # isort: skip
import numpy as np  # isort: skip
import onnx  # isort: skip
import torch  # isort: skip
import yaml  # isort: skip
from live_detector import draw, live_detector, save  # isort: skip
from made_detector import dense, write_detector  # isort: skip
from tiny_yolo import ARCHITECTURE, HEADS, write_architecture  # isort: skip

SCRIPT = f"import pathlib; pathlib.Path({MARK!r}).touch()"
EXPRESSION = f"__import__('pathlib').Path({MARK!r}).touch()"


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.made = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self) -> Any:
        return self.made


#: What code a pickle may run, by different ways into Python.
CALLS = {
    "touch": Call(Path.touch, Path(MARK)),
    "exec": Call(builtins.exec, SCRIPT),
    "eval": Call(builtins.eval, EXPRESSION),
    "system": Call(os.system, f"touch {MARK}"),
    "popen": Call(os.popen, f"touch {MARK}"),
    "subprocess": Call(subprocess.check_call, ["touch", MARK]),
    "open": Call(open, MARK, "w"),
    "getattr": Call(builtins.__import__, "os"),
    "partial": Call(functools.partial(os.system, f"touch {MARK}")),
    "setstate": Call(object.__new__, Path, state={"a": Call(os.system, f"touch {MARK}")}),
}


class Assets:
    """What commands need besides a bad file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.student = write_architecture(folder / "tiny.yaml")
        wide = write_architecture(folder / "wide.yaml", width=2)
        self.teacher = save(live_detector(str(wide), ("disc", "square")), folder / "teacher.pt", 64)
        answer = dense((16, 32, 8, 8, 0.9, 0), anchors=40)
        self.onnx = write_detector(folder / "good.onnx", answer, names={0: "disc", 1: "square"})
        self.data = self.write_data(folder / "data")
        self.pictures = self.data.parent / "images" / "val"
        there = {"teacher": self.teacher, "student": self.student, "data": self.data}
        short = {"imgsz": 64, "epochs": 1, "batch": 4, "plots": "false", "workers": 0, "force": "true"}
        self.usual: dict[str, dict[str, Any]] = {
            "train": {**there, **short, "device": "cpu", "project": "runs"},
            "compare": {**there, **short, "device": "cpu", "arms": "plain", "seeds": 0, "out": "out"},
            "val": {"model": self.teacher, "data": self.data, "device": "cpu"},
            "predict": {"model": self.onnx, "source": self.pictures},
            "label": {"teacher": self.teacher, "source": self.pictures, "out": "out", "conf": 0.01, "device": "cpu"},
            "export": {"model": self.teacher, "out": "x.onnx"},
            "benchmark": {"model": self.onnx, "backends": "ours", "rounds": 2, "seconds": 0.1},
        }

    def ask(self, command: str, **changed: Any) -> list[str]:
        """Return the words of a short command."""
        return words(command, **{**self.usual[command], **changed})

    def as_checkpoint(self, file: Path) -> list[list[str]]:
        """Return commands, one of each way into a checkpoint."""
        return [
            self.ask("val", model=file),
            self.ask("export", model=file),
            self.ask("benchmark", model=file, backends="host", imgsz=64),
            self.ask("label", teacher=file),
            *(self.ask("train", **{key: file}) for key in ("teacher", "student", "assistant", "pretrained")),
            words("train", resume=file),
            self.ask("compare", student=file),
            self.ask("predict", model=file),
        ]

    def as_data(self, data: Path) -> list[list[str]]:
        """Return commands, one of each way into a data set."""
        return [
            self.ask("train", data=data),
            self.ask("val", data=data),
            self.ask("export", data=data, precision="int8", max_drop=100),
            self.ask("label", data=data),
            self.ask("benchmark", data=data),
        ]

    def write_data(self, root: Path) -> Path:
        for split, count in (("train", 6), ("val", 3)):
            (root / "images" / split).mkdir(parents=True)
            (root / "labels" / split).mkdir(parents=True)
            for number, picture in enumerate(draw(count, 64, 64, seed=count)):
                cv2.imwrite(str(root / "images" / split / f"{number}.png"), picture)
                (root / "labels" / split / f"{number}.txt").write_text("0 .3 .3 .2 .2\n1 .6 .6 .3 .3\n")
        data = root / "data.yaml"
        data.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [disc, square]\n")
        return data

    def copy_data(self, root: Path) -> Path:
        """Return a copy of the data set, to change."""
        shutil.copytree(self.data.parent, root)
        data = root / "data.yaml"
        data.write_text(data.read_text().replace(str(self.data.parent), str(root)))
        return data

    def run_first(self) -> None:
        """Write what commands leave: answers of `label`, a run that was interrupted, a comparison."""
        from yolo_distill.cli import main

        def work() -> int:
            run = {"project": self.folder / "runs", "name": "run", "epochs": 2, "save_period": 1}
            train = self.ask("train", teach="true", pkd=1, **run)
            compare = self.ask("compare", out="comparison")
            return main(self.ask("label", out="answers")) | main(train) | main(compare)

        outcome = in_fork(work, self.folder, most=900)
        if outcome.code:
            sys.exit(outcome.said)
        (self.folder / ".said").unlink()
        weights = self.folder / "runs" / "run" / "weights"
        (weights / "epoch0.pt").replace(weights / "last.pt")  # the last one that still can go on


def pickles(assets: Assets, folder: Path) -> Iterator[Case]:
    """Checkpoints that call something: as a whole, or in one of their entries, in every form that torch writes."""
    good = torch.load(assets.teacher, weights_only=False)
    torch.save(CALLS["touch"], folder / "evil.pt")
    for number, (name, call) in enumerate(CALLS.items()):
        contents = {
            "whole": call,
            **{key: {**good, key: call} for key in ("model", "ema", "names", "date")},
            "args": {**good, "train_args": {"imgsz": call}},
            "optimizer": {"model": call, "epoch": 1, "optimizer": call, "train_args": {}},
        }
        for place, content in contents.items():
            file = folder / f"{name}-{place}.pt"
            torch.save(content, file, _use_new_zipfile_serialization=(number + len(place)) % 3 != 2)
            yield Case("checkpoint", file.name, assets.as_checkpoint(file))
        forms = {"raw": pickle.dumps(call), "gz": gzip.compress(pickle.dumps(call)), "tar": as_tar(call)}
        for form, data in forms.items():
            file = folder / f"{name}-{form}.pt"
            file.write_bytes(data)
            yield Case("checkpoint", file.name, assets.as_checkpoint(file))
        file = folder / f"{name}.pth"
        torch.save({"state": call} if number % 2 else call, file)
        teacher = f"torchvision:ssdlite320_mobilenet_v3_large:{file}"
        yield Case("torchvision weights", file.name, [assets.ask("train", teacher=teacher)])


def as_tar(call: Call) -> bytes:
    """Return a file of torch 0.1.10."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            data = pickle.dumps(call, 2)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def insides(assets: Assets, folder: Path) -> Iterator[Case]:
    """Checkpoints whose layers are none, do not fit together, or ask for much memory."""
    head, tensor = "model.5", torch.nn.Parameter
    up = torch.nn.Upsample(scale_factor=4096)
    up.f, up.i, up.type = -1, 1, "Upsample"
    changes: dict[str, tuple[str, Any]] = {
        "f-99": ("model.3.f", 99), "f-text": ("model.3.f", "x"), "f-none": ("model.2.f", None), "i": ("model.3.i", "x"),
        "head-f": (f"{head}.f", [2, 3]), "head-f-99": (f"{head}.f", [99, 98, 97]), "reg-max": (f"{head}.reg_max", 16),
        "reg-max-1e9": (f"{head}.reg_max", 10**9), "nc": (f"{head}.nc", 99999), "nc-text": (f"{head}.nc", "two"),
        "nl": (f"{head}.nl", 99), "no": (f"{head}.no", 7), "stride-none": (f"{head}.stride", None),
        "stride-0": (f"{head}.stride", torch.zeros(3)), "model-stride": ("stride", None), "save": ("save", [99]),
        "save-none": ("save", None), "yaml-none": ("yaml", None), "max-det": (f"{head}.max_det", "x"),
        "no-boxes": (f"{head}.cv2", None), "no-scores": (f"{head}.cv3", torch.nn.ModuleList()), "names": ("names", 7),
        "no-conv": ("model.1.conv", None), "no-bn": ("model.1.bn", None), "no-act": ("model.1.act", None),
        "act": ("model.1.act", torch.nn.Linear(5, 5)), "conv-stride": ("model.1.conv.stride", (0, 0)),
        "conv-padding": ("model.1.conv.padding", (10**5, 10**5)), "conv-groups": ("model.1.conv.groups", 7),
        "weight-shape": ("model.1.conv.weight", tensor(torch.zeros(3, 3, 3, 3))), "task": ("task", "pose"),
        "weight-int": ("model.1.conv.weight", tensor(torch.zeros(32, 16, 3, 3, dtype=torch.int32), False)),
        "weight-meta": ("model.1.conv.weight", tensor(torch.empty(32, 16, 3, 3, device="meta"))),
        "weight-of-one": ("model.1.conv.weight", tensor(torch.zeros(1).half().expand(10**6, 10**5))),
        "weight-nan": ("model.1.conv.weight", tensor(torch.full((32, 16, 3, 3), float("nan")))),
        "upsample": ("model.1", up), "args": ("args", 7), "end2end": ("end2end", "x"),
        "empty": ("model", torch.nn.Sequential()),
        "layer-missing": ("model", None),
    }  # fmt: skip
    for name, (path, value) in changes.items():
        content = torch.load(assets.teacher, weights_only=False)
        owner, _, last = f"x.{path}".rpartition(".")
        model = content["model"]
        if name == "layer-missing":
            value = torch.nn.Sequential(*(layer for at, layer in enumerate(model.model) if at != 2))
        try:
            setattr(model.get_submodule(owner.removeprefix("x").removeprefix(".")), last, value)
        except AttributeError:  # a property
            continue
        file = folder / f"{name}.pt"
        torch.save(content, file)
        yield Case("layers in a checkpoint", file.name, assets.as_checkpoint(file))


def architectures(assets: Assets, folder: Path) -> Iterator[Case]:
    """Architectures with code where the host evaluates, or that build from files, as .yaml and inside checkpoints."""
    torch.save(CALLS["touch"], folder / "evil.pt")
    text = ARCHITECTURE.format(end2end=True, width=1, head=HEADS["detect"])
    (folder / "hostile.yaml").write_text(f"{text}activation: {EXPRESSION} or torch.nn.SiLU()\n")
    activations = [
        f"{EXPRESSION} or torch.nn.SiLU()", f"torch.nn.Threshold({EXPRESSION}, 1)", f"nn.SiLU(inplace={EXPRESSION})",
        "torch.nn.SiLU().__class__.__base__()", f"exec({SCRIPT!r})", f"[x for x in [{EXPRESSION}]]", "x" * 5000,
        f"nn.ReLU(*[{EXPRESSION}])", f"lambda: {EXPRESSION}", f"nn.SiLU()\n{EXPRESSION}", "(" * 5000,
        f"nn.SiLU(f'{{{EXPRESSION}}}')",
    ]  # fmt: skip
    layers = [
        "1, torch_safe_load, [evil.pt]]", "1, torch_load, [evil.pt]]", "1, DetectionModel, [hostile.yaml]]",
        "1, nn.init, []]", f"1, Conv, [\"{EXPRESSION}\"]]", f"\"{EXPRESSION}\", Conv, [8, 3, 2]]",
        f"1, \"{EXPRESSION}\", [8]]", "1, load_checkpoint, [evil.pt]]", "1, torchvision.ops.misc, []]",
        "1, nn.modules.module.torch.load, [evil.pt]]", "1, Conv, [.inf, 3, 2]]", "1, Conv, [1.0e+300, 3, 2]]",
        "1, Conv, [8, 99999, 2]]", "1, Conv, [99999, 99, 2]]", "99999, Conv, [8, 3, 1]]", "99999, C3k2, [8]]",
        "1, Conv, [-8, 3, 2]]", "1, nn.Linear, [99999, 99999]]", "1, nn.Conv3d, [99999, 99999, 9]]",
        "1, nn.Embedding, [99999, 99999]]", "1, Conv, [100000000, 3, 2]]", "1000000000, Conv, [32, 3, 2]]",
    ]  # fmt: skip
    plans = {f"activation-{n}": f"{text}activation: {yaml.safe_dump(value)}" for n, value in enumerate(activations)}
    third = "[-1, 1, Conv, [32, 3, 2]]"
    plans |= {f"layer-{n}": text.replace(third, f"[-1, {layer}") for n, layer in enumerate(layers)}
    deeper = text.replace("width_multiple: 1", "depth_multiple: 100000\nwidth_multiple: 1")
    plans |= {
        "from-99999": text.replace(third, "[99999, 1, Conv, [8, 3, 2]]"),
        "from-text": text.replace(third, f"[\"{EXPRESSION}\", 1, Conv, [8, 3, 2]]"),
        **{f"nc-{n}": text.replace("nc: 2", f"nc: {n}") for n in ("10000000", "99999", "-2", f'"{EXPRESSION}"')},
        "width-1e5": text.replace("width_multiple: 1", "width_multiple: 100000"),
        "depth-1e5": deeper.replace("[-1, 1, Conv, [16, 3, 2]]", "[-1, 9, C3k2, [16]]", 1),
        "scales": f"{text}scales: {{n: [99999, 99999, 99999]}}\nscale: n\n", "bomb": bomb() + text,
        "reg-max": text.replace("reg_max: 1", "reg_max: 99999"),
        "bomb-as-head": f"{bomb()}nc: 2\nbackbone: *h\nhead: *h\n",
        "tag": f"{text}activation: !!python/object/apply:os.system ['touch {MARK}']\n", "deep": "[" * 5000 + "]" * 5000,
        "letters": "a" * 5000, "binary": "\x00\x01\x02", "head-of-2": "nc: 2\nbackbone: 2\nhead: 2\n",
        "kpt": f"{text}kpt_shape: [99999, 99999]\n", "strides": f"{text}strides: [0, 0, 0]\n",
        "channels": f"{text}channels: 99999\n",
        "many-layers": text.replace("head:", "- [-1, 1, Conv, [32, 3, 1]]\n" * 20000 + "head:"),
    }  # fmt: skip
    good = torch.load(assets.teacher, weights_only=False)
    for number, (name, plan) in enumerate(plans.items()):
        file = folder / f"{number}-{name[:16]}.yaml"
        file.write_text(plan)
        ways = [assets.ask("train", **{key: file}, teacher_epochs=1) for key in ("teacher", "student", "assistant")]
        yield Case("architecture", file.name, [*ways, assets.ask("compare", student=file)])
        try:
            good["model"].yaml = yaml.safe_load(plan)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        file = file.with_suffix(".pt")
        torch.save(good, file)
        yield Case("architecture in a checkpoint", file.name, assets.as_checkpoint(file))


def bomb(levels: str = "abcdefgh") -> str:
    """Return YAML of a few lines that stands for ten million values."""
    lines = [f"{levels[0]}: &{levels[0]} [{', '.join(['lol'] * 10)}]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in pairwise(levels)]
    return "\n".join(lines) + "\n"


#: YAML that no setting takes.
YAMLS = {
    "tag-apply": f"!!python/object/apply:os.system ['touch {MARK}']",
    "tag-new": f"a: !!python/object/new:os.system ['touch {MARK}']",
    "tag-name": "a: !!python/name:os.system",
    "tag-module": "a: !!python/module:os",
    "tag-exec": f"a: !!python/object/apply:builtins.exec [{SCRIPT!r}]",
    "bomb": bomb(),
    "bomb-as-names": f"{bomb()}names: *h\ntrain: a\nval: b\n",
    "merge-bomb": "a: &a {x: 1}\n" + "".join(
        f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in pairwise("abcdefghi")
    ),
    "deep-brackets": "[" * 5000,
    "deep-braces": "{a: " * 5000,
    "deep-dashes": "- " * 5000 + "a",
    "letters": "a" * 5000,
    "a-number": "1" * 5000,
    "binary": "\x00\x01\x02\x7f",
    "date": "2001-99-99",
    "dates": "names: {0: 2001-99-99}\ntrain: a\nval: b\n",
    "list": "[1, 2]",
    "empty": "",
    "self": "&a [*a]",
    "self-as-names": "names: &a {0: *a}\ntrain: a\nval: b\n",
    "complex-key": "? [a, b]\n: c\n",
    "nan": ".nan: .nan",
}  # fmt: skip


def yamls(assets: Assets, folder: Path) -> Iterator[Case]:
    """Data sets, recipes, class maps, names and descriptions of outputs, and pipes in place of files."""
    for name, text in YAMLS.items():
        file = folder / f"{name}.yaml"
        file.write_text(text)
        given = [assets.ask("train", recipe=file), assets.ask("compare", recipe=file, arms="plain,distilled")]
        given.append(assets.ask("train", class_map=file))
        given += [assets.ask("train", teacher=assets.onnx, **{f"teacher_{key}": file}) for key in ("outputs", "names")]
        for kind, way in zip(("recipe", "recipe", "class map", "teacher_outputs", "teacher_names"), given, strict=True):
            yield Case(kind, file.name, [way])
        yield Case("data", file.name, assets.as_data(file))
        for kind in ("openvino", "ncnn"):
            model = folder / f"{name}_{kind}_model"
            model.mkdir()
            (model / "metadata.yaml").write_text(text)
            for ending in (".xml", ".bin", ".param"):
                (model / f"m{ending}").write_bytes(pickle.dumps(CALLS["touch"]))
            yield Case("folders of OpenVINO, ncnn", model.name, [assets.ask("benchmark", model=model)])
    good = yaml.safe_load(assets.data.read_text())
    pipes = {kind: folder / f"pipe.{kind}" for kind in ("yaml", "pt", "onnx", "png", "mp4", "pth", "none")}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    (folder / "list.txt").write_text("/dev/zero\n/etc/passwd\n" + "a" * 5000 + ".png\n")
    nowhere = {"train": "nowhere", "val": "nowhere"}
    changes: dict[str, dict[str, Any]] = {
        "script": {"download": SCRIPT, **nowhere}, "bash": {"download": f"bash touch {MARK}", **nowhere},
        "address": {"download": "http://127.0.0.1:9/x.zip", **nowhere},
        **{f"nc-{nc:.8}": {"names": None, "nc": nc} for nc in ("10000000", "1e300", EXPRESSION, "-5")},
        "nc-1e7": {"names": None, "nc": 10_000_000}, "names-text": {"names": "disc"}, "names-number": {"names": 7},
        "names-sparse": {"names": {0: "a", 10_000_000: "b"}}, "names-nested": {"names": [["a"], {"b": 1}]},
        "names-none": {"names": [None, None]}, "path-list": {"path": ["a", "b"]}, "path-number": {"path": 7},
        "path-null": {"path": "\0"}, "path-long": {"path": "a" * 5000}, "train-number": {"train": 7},
        "train-dict": {"train": {"a": 1}}, "train-nested": {"train": [[1], ["a"]]},
        "train-zero": {"train": "/dev/zero"},
        "train-pipe": {"train": str(pipes["none"])}, "train-list": {"train": str(folder / "list.txt")},
        "train-proc": {"train": "/proc/self"}, "train-null": {"train": "images\0/train"},
        "train-long": {"train": "a" * 5000},
        "channels-1": {"channels": 1}, "channels-1e6": {"channels": 1_000_000}, "channels-text": {"channels": "three"},
        "kpt": {"kpt_shape": [99999, 99999]},
    }  # fmt: skip
    for name, change in changes.items():
        file = folder / f"data-{name}.yaml"
        file.write_text(yaml.safe_dump({key: value for key, value in {**good, **change}.items() if value is not None}))
        yield Case("data", file.name, assets.as_data(file))
    for key in ("data", "recipe", "class_map", "student", "assistant"):
        yield Case("pipe", f"{key}.yaml", [assets.ask("train", **{key: pipes["yaml"]})])
    for number, way in enumerate(assets.as_checkpoint(pipes["pt"])):
        yield Case("pipe", f"{number}.pt", [way])
    for kind in ("png", "mp4"):
        yield Case("pipe", f"predict.{kind}", [assets.ask("predict", source=pipes[kind])])
        yield Case("pipe", f"label.{kind}", [assets.ask("label", source=pipes[kind])])
        yield Case("pipe", f"unlabeled.{kind}", [assets.ask("train", unlabeled=pipes[kind])])
    yield Case("pipe", "pipe.onnx", [assets.ask("predict", model=pipes["onnx"])])
    yield Case("pipe", "teacher.onnx", [assets.ask("train", teacher=pipes["onnx"])])
    teacher = f"torchvision:ssdlite320_mobilenet_v3_large:{pipes['pth']}"
    yield Case("pipe", "pipe.pth", [assets.ask("train", teacher=teacher)])


def onnx_files(assets: Assets, folder: Path) -> Iterator[Case]:
    """ONNX files with operators, data and sizes that are not theirs."""
    from onnx import TensorProto, helper

    def raw_of(model: Any) -> Any:
        return next(one for one in model.graph.initializer if one.name == "raw")

    def outside(place: str, offset: int = 0, length: int = 960) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            raw = raw_of(model)
            raw.ClearField("raw_data")
            raw.data_location = TensorProto.EXTERNAL
            for key, value in {"location": place, "offset": offset, "length": length}.items():
                raw.external_data.add(key=key, value=str(value))

        return change

    def sized(kind: str, *dims: int) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            model.graph.initializer.append(helper.make_tensor("huge", TensorProto.INT64, [len(dims)], dims))
            model.graph.initializer.append(helper.make_tensor("seed", TensorProto.FLOAT, [1] * len(dims), [1.0]))
            node = helper.make_node(kind, ["huge"] if kind == "ConstantOfShape" else ["seed", "huge"], ["filled"])
            model.graph.node.insert(0, node)
            model.graph.node.insert(1, helper.make_node("ReduceMean", ["filled"], ["one"], keepdims=0))
            model.graph.node[-1].input[0] = "changed"
            model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Add", ["change", "one"], ["changed"]))

        return change

    def note(key: str, value: str) -> Callable[[Any], None]:
        return lambda model: [setattr(one, "value", value) for one in model.metadata_props if one.key == key] and None

    def lying(model: Any) -> None:
        raw_of(model).dims[:] = [1, 2**17, 2**17]

    def takes(*dims: int) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            for one, size in zip(model.graph.input[0].type.tensor_type.shape.dim, dims, strict=True):
                one.dim_value = size

        return change

    def operator(domain: str, name: str) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            model.graph.node[2].op_type, model.graph.node[2].domain = name, domain
            model.opset_import.append(helper.make_opsetid(domain, 1))

        return change

    sizes = {"48-gib": (12, 2**30), "447-gib": (120_000_000_000,), "2-40": (2**40,), "minus": (-1,)}
    changes = {
        **{f"external-{n}": outside(place) for n, place in enumerate([
            "../../../../../../etc/passwd", "/etc/passwd", str(folder / "pipe"), "missing.bin", "http://127.0.0.1:9/x",
        ])},
        "external-zero": outside("/dev/zero", length=2**40), "external-offset": outside("good.onnx", 2**62),
        "external-minus": outside("good.onnx", -5, -5), "custom": operator("evil.domain", "Run"), "lies": lying,
        "python": operator("ai.onnx.contrib", "PyOp"), "aten": operator("org.pytorch.aten", "ATen"),
        "python-2": operator("com.microsoft", "PythonOp"),
        **{f"{kind}-{name}": sized(kind, *dims) for name, dims in sizes.items()
           for kind in ("ConstantOfShape", "Tile", "Expand")},
        **{f"takes-{n}": takes(*dims) for n, dims in enumerate([
            (1, 3, 2**40, 2**40), (1, 3, 99968, 99968), (1, 3, 32000, 32000), (2**31, 3, 64, 64), (1, 3, -64, -64),
            (100_000, 3, 64, 64),
        ])},
        **{f"note-{key}": note(key, EXPRESSION) for key in ("names", "stride", "imgsz", "task", "batch", "end2end")},
        "imgsz": note("imgsz", f"[{2**40}, {2**40}]"), "stride": note("stride", str(2**40)),
        "names-deep": note("names", "[" * 5000), "names-letters": note("names", "a" * 50_000),
        "power": note("imgsz", "9**9**9"), "names-many": note("names", "['a']*10**10"),
    }  # fmt: skip
    os.mkfifo(folder / "pipe")
    (folder / "good.onnx").write_bytes(assets.onnx.read_bytes())
    contents = {"pickle": pickle.dumps(CALLS["touch"])}
    for name, change in changes.items():
        model = onnx.load(assets.onnx)
        change(model)
        contents[name] = model.SerializeToString()
    for name, content in contents.items():
        file = folder / f"{name}.onnx"
        file.write_bytes(content)
        ways = [assets.ask("predict", model=file), assets.ask("val", model=file), assets.ask("label", teacher=file)]
        ways.append(assets.ask("benchmark", model=file, backends="ours,host"))
        ways.append(assets.ask("train", teacher=file, teach="true"))
        yield Case("ONNX", file.name, ways)


def beside_pictures(assets: Assets, folder: Path) -> Iterator[Case]:
    """Pickles where the host and this package keep what they read, and pictures that say they are huge."""
    for name, call in CALLS.items():
        data = assets.copy_data(folder / name)
        array = np.empty((), object)
        array[()] = {"labels": call, "hash": "", "version": "1.0.3"}
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=True)
        for split in ("train", "val"):
            (data.parent / "labels" / f"{split}.cache").write_bytes(stream.getvalue())
            (data.parent / "images" / split / "0.npy").write_bytes(stream.getvalue())
        yield Case("caches beside labels", name, assets.as_data(data))

        from yolo_distill.data import label_cache

        label_cache.FOLDER.mkdir(parents=True, exist_ok=True)
        for split in ("train", "val"):
            kept = label_cache._file_of(assets.data.parent / "labels" / f"{split}.cache")
            np.savez(kept, **dict.fromkeys(("text", "shape", "boxes", "cls"), array))
        yield Case("the host's settings folder", name, assets.as_data(assets.data))
    for name, content in {
        "png-2-30": png(2**15 - 1, 2**15), "png-2-40": png(2**20, 2**20), "png-14000": png(14000, 14000),
        "text": b"a" * 99,
        "bmp": b"BM" + pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
        "pickle": pickle.dumps(CALLS["touch"]), "ppm": b"P6 99999 99999 255\n",
        "pgm": b"P5 2147483647 2147483647 255\n",
    }.items():  # fmt: skip
        data = assets.copy_data(folder / name)
        for split in ("train", "val"):
            (data.parent / "images" / split / "0.png").write_bytes(content)
        pictures = data.parent / "images" / "val"
        shown = [assets.ask("predict", source=pictures), assets.ask("label", source=pictures)]
        for kind, ways in {"data": assets.as_data(data)[:3], "source": shown}.items():
            yield Case("pictures", f"{name} as {kind}", ways)


def png(width: int, height: int) -> bytes:
    """Return the start of a PNG file of so many pixels."""
    head = b"IHDR" + pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + pack(">I", 13) + head + pack(">I", crc32(head)) + pack(">I", 10**6) + b"IDATx\x9c"


def left_by_commands(assets: Assets, folder: Path) -> Iterator[Case]:
    """What commands write and read again: manifests, plans, records, Parquet, projectors, checkpoints that go on."""
    import polars as pl

    from yolo_distill.recipe import ARGS_KEY

    assets.run_first()
    texts = {
        "brackets": "[" * 5000, "empty": "", "binary": "\x00\xff", "list": "[1, 2, 3]", "null": "null",
        "nan": '{"a": NaN}',
        "number": "1" * 5000, "braces": '{"a":' * 5000, "text": '"__import__"', "keys": "{}",
        "pickle": repr(pickle.dumps(CALLS["system"])),
    }  # fmt: skip
    answers, comparison = assets.folder / "answers", assets.folder / "comparison"
    run = assets.folder / "runs" / "run"

    def copied(name: str, source: Path) -> Path:
        return Path(shutil.copytree(source, folder / name, symlinks=True))

    def as_answers(root: Path) -> list[list[str]]:
        train = [assets.ask("train", teacher=root, teach="true"), assets.ask("train", unlabeled=root)]
        return [*train, words("label", merge="true", out=root), assets.ask("label", out=root)]

    files = ["plan.json", "comparison.json", "cost.json", "equal-time.json"]
    files += ["plain-s0/run.json", "teacher/run.json", "plain-s0/epochs.jsonl"]
    for number, (name, text) in enumerate(texts.items()):
        root = copied(f"answers-{name}", answers)
        (root / "label.json").write_text(text)
        yield Case("answers of label", root.name, as_answers(root))
        root = copied(f"merge-{name}", answers)
        copied(f"merge-{name}/shards/0", answers)
        (root / "shards" / "0" / "label.json").write_text(text)
        yield Case("label merges", root.name, [words("label", merge="true", out=root)])
        for file in (files[number % len(files)], files[(number + 3) % len(files)]):  # each trains a little
            if (comparison / file).is_file() or "/" not in file:
                root = copied(f"comparison-{name}-{file.replace('/', '-')}", comparison)
                (root / file).write_text(text)
                yield Case("comparison", root.name, [assets.ask("compare", out=root)])
    whole = {"width": [1], "height": [0], "boxes": [[[1.0, 2.0, 3.0, 4.0]]], "scores": [[[1.0, 2.0]]]}
    parquet: dict[str, Any] = {
        "columns": {"file": ["x"]}, "types": {"file": [1], "width": ["a"], "height": [2.0], "boxes": [3],
        "scores": [4]},
        "escape": {"file": ["../../../etc/passwd"], **whole}, "cut": b"PAR1" + bytes(50) + b"PAR1", "none": b"",
        "pickled": pickle.dumps(CALLS["touch"]), "length": b"PAR1" + b"\xff\xff\xff\x7fPAR1",
    }  # fmt: skip
    for name, content in parquet.items():
        root = copied(f"parquet-{name}", answers)
        for part in (root / "soft").glob("*.parquet"):
            if isinstance(content, bytes):
                part.write_bytes(content)
            else:  # in a fork: after it, those of a process that used polars hang
                in_fork(lambda part=part, content=content: pl.DataFrame(content).write_parquet(part) or 0, root)
        yield Case("Parquet", root.name, as_answers(root))
    projectors: dict[str, Any] = {name: {0: call, "pkd": call} for name, call in CALLS.items()}
    projectors |= {"number": 7, "keys": {}, "shapes": {"pkd.0.weight": torch.zeros(3)}, "cut": None}
    for name, content in projectors.items():
        root = copied(f"projectors-{name}", run)
        torch.save(content, root / "weights" / "projectors.pt")
        if content is None:
            (root / "weights" / "projectors.pt").write_bytes((run / "weights" / "projectors.pt").read_bytes()[:200])
        yield Case("run that goes on", root.name, [words("train", resume=root / "weights" / "last.pt")])
    torch.save({"model": CALLS["touch"]}, folder / "evil.pt")
    own = torch.load(run / "weights" / "last.pt", weights_only=False)
    evil = {**own["train_args"][ARGS_KEY], "trust": True, "teacher": str(folder / "evil.pt")}
    changes = {
        "trust": {ARGS_KEY: evil}, "imgsz": {"imgsz": EXPRESSION}, "epochs": {"epochs": "many"}, "data": {"data": 7},
        "distill": {ARGS_KEY: 7}, "teacher": {ARGS_KEY: {**evil, "teacher": 7}},
        "optimizer": {"optimizer": EXPRESSION},
        "batch": {"batch": 10**12}, "name": {"name": "../../../x"}, "model": {"model": str(folder / "evil.pt")},
    }  # fmt: skip
    for name, change in changes.items():
        root = copied(f"args-{name}", run)
        torch.save({**own, "train_args": {**own["train_args"], **change}}, root / "weights" / "last.pt")
        yield Case("run that goes on", root.name, [words("train", resume=root / "weights" / "last.pt")])


def names_in_pages(assets: Assets, folder: Path) -> Iterator[Case]:
    """Names of files that would run in a page that shows them as they are."""
    root = assets.copy_data(folder / "data").parent
    for file in [file for file in root.rglob("*/*/*") if file.is_file()]:
        file.rename(file.with_name(f"{MARKUP}{file.name}"))
    data, names = root / f"{MARKUP}.yaml", (f"{MARKUP} a", f"{MARKUP} b")
    data.write_text(
        yaml.safe_dump({"path": str(root), "train": "images/train", "val": "images/val", "names": [*names]})
    )
    teacher = save(live_detector(str(assets.folder / "wide.yaml"), names), folder / f"{MARKUP}.pt", 64)
    label = assets.ask("label", teacher=teacher, source=root / "images" / "val")
    yield Case("names in pages", teacher.name, [label], "**/*.html")
    given = {"teacher": teacher, "data": data, "arms": "plain,distilled", "teach": "true", "plots": "true"}
    yield Case("names in pages", data.name, [assets.ask("compare", **given, out=f"out{MARKUP}")], "**/*.html")


KINDS = (pickles, insides, architectures, yamls, onnx_files, beside_pictures, left_by_commands, names_in_pages)


def main(given: list[str]) -> int:
    options = options_of(given)
    with tempfile.TemporaryDirectory(prefix="attacks-") as made:
        base = Path(options.get("folder", made)).resolve()
        assets = Assets(base / "assets")

        def cases() -> Iterator[Case]:
            for kind in KINDS:
                if kind.__name__ in options.get("kind", kind.__name__).split(","):
                    folder = base / kind.__name__
                    folder.mkdir()
                    yield from kind(assets, folder)

        return run_all(cases(), base, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
