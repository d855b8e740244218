"""Files from elsewhere that would run code, or take all memory, where they are opened: none may.

    python tests/benchmarks/attack_corpus.py [folder=/tmp/attacks] [only=WORD]

Builds the files, runs commands over them, each in a forked process, and prints a table by kind. Ends with 1 where code
ran, or a command ended in anything but one line, took more than 30 s or 2 GiB.
"""

# ruff: noqa: E501
from __future__ import annotations

import builtins
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
from typing import Any

from hostile_runner import MARK, MARKUP, Case, import_everything, in_fork, run_all

import cv2  # isort: skip
import numpy as np  # isort: skip
import onnx  # isort: skip
import torch  # isort: skip
import yaml  # isort: skip
from live_detector import draw, live_detector, save  # isort: skip
from made_detector import dense, write_detector  # isort: skip
from tiny_yolo import ARCHITECTURE, write_architecture  # isort: skip

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
    "torch": Call(torch.load, "evil.pt", None, pickle, state={"weights_only": False}),
    "setstate": Call(object.__new__, Path, state={"a": Call(os.system, f"touch {MARK}")}),
}


class Assets:
    """What commands need besides a bad file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.student = write_architecture(folder / "tiny.yaml")
        wide = write_architecture(folder / "wide.yaml", width=2)
        self.teacher = save(live_detector(str(wide), ("disc", "square")), folder / "teacher.pt", 64)
        self.onnx = write_detector(
            folder / "good.onnx", dense((16, 32, 8, 8, 0.9, 0), anchors=40), names={0: "disc", 1: "square"}
        )
        self.data = self.write_data(folder / "data")
        self.pictures = self.data.parent / "images" / "val"

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

    def run_first(self) -> None:
        """Write what commands leave: answers of `label`, a finished run and an interrupted one, a comparison."""
        from yolo_distill.cli import main

        def work() -> int:
            train = [
                "train",
                f"teacher={self.teacher}",
                f"student={self.student}",
                f"data={self.data}",
                "teach=true",
                "pkd=1",
            ]
            short = ["imgsz=64", "epochs=1", "batch=4", "plots=false", "device=cpu", "workers=0", "force=true"]
            done = main(
                [
                    "label",
                    f"teacher={self.teacher}",
                    f"source={self.pictures}",
                    "out=answers",
                    "conf=0.01",
                    "device=cpu",
                ]
            )
            done |= main([*train, *short, f"project={self.folder / 'runs'}", "name=run"])
            compare = [
                "compare",
                f"teacher={self.teacher}",
                f"student={self.student}",
                f"data={self.data}",
                "arms=plain",
            ]
            return done | main([*compare, *short, "seeds=0", "out=comparison"])

        outcome = in_fork(work, self.folder, most=900)
        if outcome.code:
            sys.exit(outcome.said)
        (self.folder / ".said").unlink()
        last = self.folder / "runs" / "run" / "weights" / "last.pt"
        content = torch.load(last, weights_only=False)
        content |= {"epoch": 0, "model": content["ema"] or content["model"]}
        content["train_args"]["epochs"] = 2
        torch.save(content, last)

    def short(self, **changed: Any) -> list[str]:
        """Return the words of a short training."""
        words = {
            "teacher": self.teacher,
            "student": self.student,
            "data": self.data,
            "imgsz": 64,
            "epochs": 1,
            "batch": 4,
        }
        words |= {"plots": "false", "device": "cpu", "workers": 0, "project": "runs", "force": "true", **changed}
        return ["train", *(f"{key}={value}" for key, value in words.items())]

    def as_checkpoint(self, file: Path) -> list[list[str]]:
        """Return commands, one of each way into a checkpoint."""
        return [
            ["val", f"model={file}", f"data={self.data}", "device=cpu"],
            ["export", f"model={file}", "out=x.onnx"],
            ["benchmark", f"model={file}", "backends=host", "rounds=2", "seconds=0.1", "imgsz=64"],
            ["label", f"teacher={file}", f"source={self.pictures}", "out=out", "device=cpu"],
            *([*self.short(**{key: file})] for key in ("teacher", "student", "assistant", "pretrained")),
            ["train", f"resume={file}"],
            [
                "compare",
                f"teacher={file}",
                f"student={self.student}",
                f"data={self.data}",
                "epochs=1",
                "imgsz=64",
                "arms=plain",
                "seeds=0",
                "out=out",
            ],
            [
                "compare",
                f"teacher={self.teacher}",
                f"student={file}",
                f"data={self.data}",
                "epochs=1",
                "imgsz=64",
                "arms=plain",
                "seeds=0",
                "out=out",
            ],
            ["predict", f"model={file}", f"source={self.pictures}"],
        ]


def pickles(assets: Assets, folder: Path) -> Iterator[Case]:
    """Checkpoints that call something: as a whole, or in one of their entries, in every form that torch writes."""
    good = torch.load(assets.teacher, weights_only=False)
    torch.save(CALLS["touch"], folder / "evil.pt")
    number = 0
    for name, call in CALLS.items():
        contents = {
            "whole": call,
            "model": {**good, "model": call},
            "ema": {**good, "ema": call},
            "args": {**good, "train_args": {"imgsz": call}},
            "names": {**good, "names": call},
            "date": {**good, "date": call},
            "optimizer": {"model": call, "epoch": 1, "optimizer": call, "train_args": {}},
        }
        for place, content in contents.items():
            file = folder / f"{name}-{place}.pt"
            torch.save(content, file, _use_new_zipfile_serialization=number % 3 != 2)
            ways = assets.as_checkpoint(file)
            for step in (0, 5):
                yield Case("checkpoint", file.name, ways[(number + step) % len(ways)])
            number += 1
        forms = {"raw": pickle.dumps(call), "gz": gzip.compress(pickle.dumps(call)), "tar": as_tar(call)}
        for form, data in forms.items():
            file = folder / f"{name}-{form}.pt"
            file.write_bytes(data)
            yield Case("checkpoint", file.name, assets.as_checkpoint(file)[number % 12])
            number += 1
        file = folder / f"{name}.pth"
        torch.save({"state": call} if number % 2 else call, file)
        teacher = f"torchvision:ssdlite320_mobilenet_v3_large:{file}"
        yield Case("torchvision weights", file.name, assets.short(teacher=teacher))


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


def architectures(assets: Assets, folder: Path) -> Iterator[Case]:
    """Architectures with code where the host evaluates, or that build from files, as .yaml and inside checkpoints."""
    torch.save(CALLS["touch"], folder / "evil.pt")
    text = ARCHITECTURE.format(end2end=True, width=1, head="Detect, [nc]")
    (folder / "hostile.yaml").write_text(f"{text}activation: {EXPRESSION} or torch.nn.SiLU()\n")
    activations = [
        f"{EXPRESSION} or torch.nn.SiLU()", f"torch.nn.Threshold({EXPRESSION}, 1)", f"nn.SiLU(inplace={EXPRESSION})",
        "torch.nn.SiLU().__class__.__base__()", f"exec({SCRIPT!r})", f"[x for x in [{EXPRESSION}]]", f"nn.ReLU(*[{EXPRESSION}])",
        f"lambda: {EXPRESSION}", f"nn.SiLU()\n{EXPRESSION}", f"nn.SiLU(f'{{{EXPRESSION}}}')", "x" * 5000, "(" * 5000,
    ]  # fmt: skip
    layers = [
        "[-1, 1, torch_safe_load, [evil.pt]]", "[-1, 1, torch_load, [evil.pt]]", "[-1, 1, DetectionModel, [hostile.yaml]]",
        "[-1, 1, nn.init, []]", f"[-1, 1, Conv, [\"{EXPRESSION}\"]]", f"[\"{EXPRESSION}\", 1, Conv, [8, 3, 2]]",
        f"[-1, \"{EXPRESSION}\", Conv, [8, 3, 2]]", f"[-1, 1, \"{EXPRESSION}\", [8]]", "[-1, 1, load_checkpoint, [evil.pt]]",
        "[-1, 1, nn.modules.module.torch.load, [evil.pt]]", "[-1, 1, torchvision.ops.misc, []]", "[-1, 1, Conv, [.inf, 3, 2]]",
        "[-1, 1, Conv, [1.0e+300, 3, 2]]", "[-1, 1, Conv, [8, 99999, 2]]", "[-1, 1, Conv, [99999, 99, 2]]",
        "[-1, 99999, Conv, [8, 3, 1]]", "[-1, 99999, C3k2, [8]]", "[-1, 1, Conv, [-8, 3, 2]]", "[99999, 1, Conv, [8, 3, 2]]",
        "[-1, 1, nn.Linear, [99999, 99999]]", "[-1, 1, nn.Conv3d, [99999, 99999, 9]]", "[-1, 1, nn.Embedding, [99999, 99999]]",
    ]  # fmt: skip
    plans = {f"activation-{n}": f"{text}activation: {yaml.safe_dump(value)}" for n, value in enumerate(activations)}
    for n, layer in enumerate(layers):
        plans[f"layer-{n}"] = text.replace("[-1, 1, Conv, [32, 3, 2]]", layer)
    plans |= {
        "nc-1e7": text.replace("nc: 2", "nc: 10000000"), "nc-99999": text.replace("nc: 2", "nc: 99999"),
        "nc-minus": text.replace("nc: 2", "nc: -2"), "nc-text": text.replace("nc: 2", f"nc: \"{EXPRESSION}\""),
        "channels-1e8": text.replace("[32, 3", "[100000000, 3"), "repeats-1e9": text.replace("[-1, 1, Conv, [32", "[-1, 1000000000, Conv, [32"),
        "width-1e5": text.replace("width_multiple: 1", "width_multiple: 100000"),
        "depth-1e5": text.replace("width_multiple: 1", "depth_multiple: 100000\nwidth_multiple: 1").replace("[-1, 1, Conv, [16, 3, 2]]", "[-1, 9, C3k2, [16]]", 1),
        "scales": text + "scales: {n: [99999, 99999, 99999]}\nscale: n\n", "reg-max": text.replace("reg_max: 1", "reg_max: 99999"),
        "bomb": bomb() + text, "bomb-as-head": f"{bomb()}nc: 2\nbackbone: *h\nhead: *h\n", "tag": f"{text}activation: !!python/object/apply:os.system ['touch {MARK}']\n",
        "deep": "[" * 5000 + "]" * 5000, "letters": "a" * 5000, "binary": "\x00\x01\x02", "head-of-2": "nc: 2\nbackbone: 2\nhead: 2\n",
        "kpt": text + "kpt_shape: [99999, 99999]\n", "strides": text + "strides: [0, 0, 0]\n", "channels-0": text + "channels: 99999\n",
        "many-layers": text.replace("head:", "- [-1, 1, Conv, [32, 3, 1]]\n" * 20000 + "head:"),
    }  # fmt: skip
    good = torch.load(assets.teacher, weights_only=False)
    for number, (name, plan) in enumerate(plans.items()):
        file = folder / f"{name}.yaml"
        file.write_text(plan)
        for key in ("student", "teacher") if number % 2 else ("student", "assistant"):
            yield Case(
                "architecture",
                file.name,
                assets.short(**{key: file}, teacher_epochs=1) if key == "teacher" else assets.short(**{key: file}),
            )
        try:
            content = yaml.safe_load(plan)
        except Exception:
            continue
        good["model"].yaml = content
        file = folder / f"{name}.pt"
        torch.save(good, file)
        ways = assets.as_checkpoint(file)
        yield Case("architecture in a checkpoint", file.name, ways[number % len(ways)])
        yield Case("architecture in a checkpoint", file.name, ways[(number + 4) % len(ways)])


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
    "merge-bomb": "a: &a {x: 1}\n" + "\n".join(f"{c}: &{c} {{<<: [{', '.join([f'*{p}'] * 10)}]}}" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
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
    """Data sets, recipes, class maps, names and descriptions of outputs."""
    for name, text in YAMLS.items():
        file = folder / f"{name}.yaml"
        file.write_text(text)
        yield Case("recipe", file.name, assets.short(recipe=file))
        yield Case(
            "recipe",
            file.name,
            [
                "compare",
                f"teacher={assets.teacher}",
                f"student={assets.student}",
                f"data={assets.data}",
                f"recipe={file}",
                "out=out",
            ],
        )
        yield Case("class map", file.name, assets.short(class_map=file))
        yield Case("teacher_outputs", file.name, assets.short(teacher=assets.onnx, teacher_outputs=file))
        yield Case("teacher_names", file.name, assets.short(teacher=assets.onnx, teacher_names=file))
        yield Case("data", file.name, assets.short(data=file))
        yield Case("data", file.name, ["val", f"model={assets.teacher}", f"data={file}", "device=cpu"])
        yield Case(
            "data",
            file.name,
            ["benchmark", f"model={assets.onnx}", f"data={file}", "backends=ours", "rounds=2", "seconds=0.1"],
        )
        yield Case("data", file.name, ["export", f"model={assets.teacher}", f"data={file}", "out=x.onnx"])
        yield Case(
            "data",
            file.name,
            ["label", f"teacher={assets.teacher}", f"source={assets.pictures}", f"data={file}", "out=out"],
        )
    good = yaml.safe_load(assets.data.read_text())
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.yaml")
    (folder / "list.txt").write_text("/dev/zero\n/etc/passwd\n" + "a" * 5000 + ".png\n")
    changes: dict[str, dict[str, Any]] = {
        "script": {"download": SCRIPT, "train": "nowhere", "val": "nowhere"},
        "bash": {"download": f"bash touch {MARK}", "train": "nowhere", "val": "nowhere"},
        "address": {"download": "http://127.0.0.1:9/x.zip", "train": "nowhere", "val": "nowhere"},
        "nc": {"names": None, "nc": 10_000_000},
        "nc-1e300": {"names": None, "nc": 1e300},
        "nc-text": {"names": None, "nc": EXPRESSION},
        "nc-minus": {"names": None, "nc": -5},
        "names-text": {"names": "disc"},
        "names-number": {"names": 7},
        "names-sparse": {"names": {0: "a", 10_000_000: "b"}},
        "names-nested": {"names": [["a"], {"b": 1}]},
        "names-none": {"names": [None, None]},
        "path-list": {"path": ["a", "b"]},
        "path-number": {"path": 7},
        "path-null": {"path": "\0"},
        "path-long": {"path": "a" * 5000},
        "train-number": {"train": 7},
        "train-dict": {"train": {"a": 1}},
        "train-nested": {"train": [[1], ["a"]]},
        "train-fifo": {"train": str(folder / "pipe")},
        "train-zero": {"train": "/dev/zero"},
        "train-list": {"train": str(folder / "list.txt")},
        "train-proc": {"train": "/proc/self"},
        "train-null": {"train": "images\0/train"},
        "train-long": {"train": "a" * 5000},
        "channels-1": {"channels": 1},
        "channels-1e6": {"channels": 1_000_000},
        "channels-text": {"channels": "three"},
        "kpt": {"kpt_shape": [99999, 99999]},
    }
    for name, change in changes.items():
        file = folder / f"data-{name}.yaml"
        file.write_text(yaml.safe_dump({key: value for key, value in {**good, **change}.items() if value is not None}))
        yield Case("data", file.name, assets.short(data=file))
        yield Case("data", file.name, ["val", f"model={assets.teacher}", f"data={file}", "device=cpu"])
        yield Case("data", file.name, ["export", f"model={assets.teacher}", f"data={file}", "out=x.onnx"])
    for key in ("data", "recipe", "class_map", "student", "assistant"):
        yield Case("pipe", "pipe.yaml", assets.short(**{key: folder / "pipe.yaml"}))
    for name in ("pipe.pt", "pipe.onnx", "pipe.png", "pipe.mp4", "pipe.pth"):
        os.mkfifo(folder / name)
    for words in assets.as_checkpoint(folder / "pipe.pt"):
        yield Case("pipe", "pipe.pt", words)
    for name in ("pipe.png", "pipe.mp4"):
        yield Case("pipe", name, ["predict", f"model={assets.onnx}", f"source={folder / name}"])
        yield Case("pipe", name, ["label", f"teacher={assets.teacher}", f"source={folder / name}", "out=out"])
        yield Case("pipe", name, assets.short(unlabeled=folder / name))
    yield Case("pipe", "pipe.onnx", ["predict", f"model={folder / 'pipe.onnx'}", f"source={assets.pictures}"])
    yield Case("pipe", "pipe.onnx", assets.short(teacher=folder / "pipe.onnx"))
    yield Case(
        "pipe", "pipe.pth", assets.short(teacher=f"torchvision:ssdlite320_mobilenet_v3_large:{folder / 'pipe.pth'}")
    )


def onnx_files(assets: Assets, folder: Path) -> Iterator[Case]:
    """ONNX files with operators, data and sizes that are not theirs."""
    from onnx import TensorProto, helper

    def changed(name: str, change: Callable[[Any], None]) -> Path:
        model = onnx.load(assets.onnx)
        change(model)
        file = folder / f"{name}.onnx"
        file.write_bytes(model.SerializeToString())
        return file

    def outside(place: str, offset: int = 0, length: int = 960) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            raw = next(one for one in model.graph.initializer if one.name == "raw")
            raw.ClearField("raw_data")
            raw.data_location = TensorProto.EXTERNAL
            for key, value in {"location": place, "offset": offset, "length": length}.items():
                raw.external_data.add(key=key, value=str(value))

        return change

    def sized(*dims: int) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            node = helper.make_node("ConstantOfShape", ["huge"], ["filled"])
            model.graph.initializer.append(helper.make_tensor("huge", TensorProto.INT64, [len(dims)], dims))
            model.graph.node.insert(0, node)
            model.graph.node.insert(1, helper.make_node("ReduceMean", ["filled"], ["one"], keepdims=0))
            model.graph.node[-1].input[0] = "changed"
            model.graph.node.insert(len(model.graph.node) - 1, helper.make_node("Add", ["change", "one"], ["changed"]))

        return change

    def note(**notes: str) -> Callable[[Any], None]:
        return lambda model: (
            [setattr(one, "value", notes[one.key]) for one in model.metadata_props if one.key in notes] and None
        )

    def lying(model: Any) -> None:
        raw = next(one for one in model.graph.initializer if one.name == "raw")
        raw.dims[:] = [1, 2**17, 2**17]

    def dimensions(*dims: Any) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            shape = model.graph.input[0].type.tensor_type.shape
            for one, size in zip(shape.dim, dims, strict=True):
                one.dim_value = size

        return change

    def operator(domain: str, name: str) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            model.graph.node[2].op_type, model.graph.node[2].domain = name, domain
            model.opset_import.append(helper.make_opsetid(domain, 1))

        return change

    files = [
        changed("external-passwd", outside("../../../../../../etc/passwd")), changed("external-absolute", outside("/etc/passwd")),
        changed("external-zero", outside("/dev/zero", length=2**40)), changed("external-pipe", outside(str(folder / "pipe"))),
        changed("external-missing", outside("missing.bin")), changed("external-offset", outside("good.onnx", 2**62)),
        changed("external-minus", outside("good.onnx", -5, -5)), changed("external-address", outside("http://127.0.0.1:9/x")),
        changed("custom-op", operator("evil.domain", "Run")), changed("python-op", operator("ai.onnx.contrib", "PyOp")),
        changed("aten-op", operator("org.pytorch.aten", "ATen")), changed("python-op-2", operator("com.microsoft", "PythonOp")),
        changed("fills-48-gib", sized(12, 2**30)), changed("fills-447-gib", sized(120_000_000_000)), changed("fills-2-40", sized(2**40)),
        changed("fills-4-gib", sized(2**30)), changed("fills-minus", sized(-1)), changed("lies", lying),
        changed("takes-2-40", dimensions(1, 3, 2**40, 2**40)), changed("takes-99999", dimensions(1, 3, 99968, 99968)), changed("takes-20000", dimensions(1, 3, 32000, 32000)),
        changed("takes-many", dimensions(2**31, 3, 64, 64)), changed("takes-minus", dimensions(1, 3, -64, -64)), changed("takes-100000", dimensions(100_000, 3, 64, 64)),
        *(changed(f"note-{key}", note(**{key: value})) for key, value in {
            "names": EXPRESSION, "stride": EXPRESSION, "imgsz": EXPRESSION, "task": EXPRESSION, "batch": EXPRESSION, "end2end": EXPRESSION,
        }.items()),
        changed("note-imgsz-2-40", note(imgsz=f"[{2**40}, {2**40}]")), changed("note-stride-2-40", note(stride=str(2**40))),
        changed("note-names-deep", note(names="[" * 5000)), changed("note-names-letters", note(names="a" * 50_000)),
        changed("note-power", note(imgsz="9**9**9")), changed("note-names-mult", note(names="['a']*10**10")),
    ]  # fmt: skip
    os.mkfifo(folder / "pipe")
    (folder / "good.onnx").write_bytes(assets.onnx.read_bytes())
    (folder / "pickle.onnx").write_bytes(pickle.dumps(CALLS["touch"]))
    for file in [*files, folder / "pickle.onnx"]:
        yield Case("ONNX", file.name, ["predict", f"model={file}", f"source={assets.pictures}"])
        yield Case("ONNX", file.name, ["benchmark", f"model={file}", "rounds=2", "seconds=0.1", "backends=ours,host"])
        yield Case("ONNX", file.name, ["val", f"model={file}", f"data={assets.data}", "device=cpu"])
        yield Case("ONNX", file.name, assets.short(teacher=file, teach="true"))
        yield Case("ONNX", file.name, ["label", f"teacher={file}", f"source={assets.pictures}", "out=out"])
    for name, text in YAMLS.items():
        for kind in ("openvino", "ncnn"):
            model = folder / f"{name}_{kind}_model"
            model.mkdir()
            (model / "metadata.yaml").write_text(text)
            for ending in (".xml", ".bin", ".param"):
                (model / f"m{ending}").write_bytes(pickle.dumps(CALLS["touch"]))
            yield Case(
                "folders of OpenVINO, ncnn", model.name, ["benchmark", f"model={model}", "rounds=2", "seconds=0.1"]
            )


def beside_pictures(assets: Assets, folder: Path) -> Iterator[Case]:
    """Pickles that lie where the host keeps what it read: caches of labels, `.npy` beside pictures, settings."""
    for name, call in CALLS.items():
        root = folder / name
        shutil.copytree(assets.data.parent, root)
        data = root / "data.yaml"
        data.write_text(data.read_text().replace(str(assets.data.parent), str(root)))
        array = np.empty((), object)
        array[()] = {"labels": call, "hash": "", "version": "1.0.3"}
        for split in ("train", "val"):
            with (root / "labels" / f"{split}.cache").open("wb") as stream:
                np.save(stream, array, allow_pickle=True)
            np.save(root / "images" / split / "0.npy", array, allow_pickle=True)
        yield Case("caches beside labels", root.name, assets.short(data=data))
        yield Case("caches beside labels", root.name, ["val", f"model={assets.teacher}", f"data={data}", "device=cpu"])
        yield Case(
            "caches beside labels",
            root.name,
            ["export", f"model={assets.teacher}", f"data={data}", "precision=int8", "out=x.onnx", "max_drop=100"],
        )


def left_by_commands(assets: Assets, folder: Path) -> Iterator[Case]:
    """What commands write and read again: manifests, plans, records, Parquet, projectors, checkpoints that go on."""
    import polars as pl

    texts = {
        "brackets": "[" * 5000, "empty": "", "binary": "\x00\xff", "list": "[1, 2, 3]", "null": "null", "nan": '{"a": NaN}', "number": "1" * 5000,
        "braces": '{"a":' * 5000, "text": '"__import__"', "keys": "{}", "pickle": repr(pickle.dumps(CALLS["system"])),
    }  # fmt: skip
    assets.run_first()
    answers, comparison = assets.folder / "answers", assets.folder / "comparison"
    for name, text in texts.items():
        root = folder / f"answers-{name}"
        shutil.copytree(answers, root, symlinks=True)
        (root / "label.json").write_text(text)
        yield Case("answers of label", root.name, assets.short(teacher=root, teach="true"))
        yield Case("answers of label", root.name, assets.short(unlabeled=root))
        yield Case("answers of label", root.name, ["label", "merge=true", f"out={root}"])
        yield Case(
            "answers of label",
            root.name,
            [
                "label",
                f"teacher={assets.teacher}",
                f"source={assets.pictures}",
                f"out={root}",
                "conf=0.01",
                "device=cpu",
            ],
        )
        for file in (
            "plan.json",
            "comparison.json",
            "cost.json",
            "equal-time.json",
            "plain-s0/run.json",
            "teacher/run.json",
            "plain-s0/epochs.jsonl",
        ):
            root = folder / f"comparison-{name}-{file.replace('/', '-')}"
            shutil.copytree(comparison, root)
            if not (root / file).is_file() and "/" in file:
                continue
            (root / file).write_text(text)
            words = [
                "compare",
                f"teacher={assets.teacher}",
                f"student={assets.student}",
                f"data={assets.data}",
                "arms=plain",
                "seeds=0",
                f"out={root}",
            ]
            yield Case(
                "comparison",
                root.name,
                [*words, "imgsz=64", "epochs=1", "batch=4", "plots=false", "device=cpu", "workers=0", "force=true"],
            )
    for name, frame in {
        "columns": pl.DataFrame({"file": ["x"]}), "types": pl.DataFrame({"file": [1], "width": ["a"], "height": [2.0], "boxes": [3], "scores": [4]}),
        "escape": pl.DataFrame({"file": ["../../../etc/passwd"], "width": [1], "height": [0], "boxes": [[[1.0, 2.0, 3.0, 4.0]]], "scores": [[[1.0, 2.0]]]}),
    }.items():  # fmt: skip
        root = folder / f"parquet-{name}"
        shutil.copytree(answers, root, symlinks=True)
        for part in (root / "soft").glob("*.parquet"):
            frame.write_parquet(part)
        yield Case("Parquet", root.name, assets.short(teacher=root, teach="true"))
        yield Case("Parquet", root.name, ["label", "merge=true", f"out={root}"])
    for name, data in {
        "cut": b"PAR1" + bytes(50) + b"PAR1",
        "pickle": pickle.dumps(CALLS["touch"]),
        "empty": b"",
        "length": b"PAR1" + b"\xff\xff\xff\x7fPAR1",
    }.items():
        root = folder / f"parquet-{name}"
        shutil.copytree(answers, root, symlinks=True)
        for part in (root / "soft").glob("*.parquet"):
            part.write_bytes(data)
        yield Case("Parquet", root.name, assets.short(teacher=root, teach="true"))
        yield Case("Parquet", root.name, ["label", "merge=true", f"out={root}"])
    run = assets.folder / "runs" / "run"
    for name, call in CALLS.items():
        root = folder / f"run-{name}"
        shutil.copytree(run, root)
        torch.save({0: call, "pkd": call}, root / "weights" / "projectors.pt")
        yield Case("run that goes on", root.name, ["train", f"resume={root / 'weights' / 'last.pt'}"])
        root = folder / f"args-{name}"
        shutil.copytree(run, root)
        content = torch.load(run / "weights" / "last.pt", weights_only=False)
        content["train_args"] = {
            **content["train_args"],
            "imgsz": EXPRESSION,
            "distill": {**content["train_args"]["distill"], "trust": True, "teacher": str(folder / "evil.pt")},
        }
        torch.save(content, root / "weights" / "last.pt")
        torch.save({"model": call}, folder / "evil.pt")
        yield Case("run that goes on", root.name, ["train", f"resume={root / 'weights' / 'last.pt'}"])


def names_in_pages(assets: Assets, folder: Path) -> Iterator[Case]:
    """Names of files that would run in a page that shows them as they are."""
    root = assets.write_data(folder / "data").parent
    for split in ("train", "val"):
        for kind, ending in (("images", "png"), ("labels", "txt")):
            for number, file in enumerate(sorted((root / kind / split).iterdir())):
                file.rename(file.with_name(f"{MARKUP}{number}.{ending}"))
    data = root / f"{MARKUP}.yaml"
    data.write_text(
        yaml.safe_dump(
            {"path": str(root), "train": "images/train", "val": "images/val", "names": [f"{MARKUP} a", f"{MARKUP} b"]}
        )
    )
    teacher = save(
        live_detector(str(assets.folder / "wide.yaml"), (f"{MARKUP} a", f"{MARKUP} b")), folder / f"{MARKUP}.pt", 64
    )
    pages = "**/*.html"
    yield Case(
        "names in pages",
        teacher.name,
        ["label", f"teacher={teacher}", f"source={root / 'images' / 'val'}", "out=out", "conf=0.01", "device=cpu"],
        pages,
    )
    words = [
        "compare",
        f"teacher={teacher}",
        f"student={assets.student}",
        f"data={data}",
        "arms=plain,distilled",
        "seeds=0",
        f"out=out{MARKUP}",
    ]
    yield Case(
        "names in pages",
        data.name,
        [*words, "imgsz=64", "epochs=1", "batch=4", "device=cpu", "workers=0", "force=true", "teach=true"],
        pages,
    )


def main(words: list[str]) -> int:
    options = dict(word.split("=", 1) for word in words)
    with tempfile.TemporaryDirectory(prefix="attacks-") as made:
        base = Path(options.get("folder", made)).resolve()
        import_everything()
        base.mkdir(exist_ok=True)
        (base / "assets").mkdir()
        assets = Assets(base / "assets")
        kinds = (pickles, architectures, yamls, onnx_files, beside_pictures, left_by_commands, names_in_pages)

        def cases() -> Iterator[Case]:
            for kind in kinds:
                if options.get("kind", kind.__name__) == kind.__name__:
                    folder = base / kind.__name__
                    folder.mkdir()
                    yield from kind(assets, folder)

        return run_all(cases(), base, options.get("only", ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
