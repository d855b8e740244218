"""Bad inputs by chance: whatever they are, a command ends in one line, soon, and in little memory.

    python tests/benchmarks/fuzz_inputs.py [count=500] [seed=0] [folder=/tmp/fuzz] [only=WORD]

Changes good files (YAML, checkpoints, ONNX, pictures, labels) and command lines at places that the seed chooses, and
runs a command over each, as `attack_corpus.py` does; the same table, the same exit code.
"""

# ruff: noqa: E501
from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attack_corpus import Assets
from hostile_runner import Case, import_everything, run_all

import numpy as np  # isort: skip

#: What stands in YAML, labels and command lines where something else should.
ODD = [
    "", "-1", "0", "nan", "inf", "1e300", "-1e300", "9" * 400, "null", "true", "[", "{", "[[[[", "{a: {b: c}}", "'", '"', "\\", "\0",
    "\x7f", "\ud800", "é" * 50, "a" * 5000, "../..", "/dev/zero", "/dev/null", "/", "~", "%s%n", "${HOME}", "!!python/none", "*", "&a", "<<", "0x10",
    "2001-13-01", "1,2", "1 2", "[1, 2]", "٣", "²", "1_000", "-0", "0.5.5", "true,false", "?", "#", ":", "-", "|", ">",
]  # fmt: skip


def changed(data: bytes, chance: np.random.Generator) -> bytes:
    """Return a file with bytes flipped, cut out, doubled, or with its end cut off."""
    found = bytearray(data)
    for _ in range(int(chance.integers(1, 20))):
        at = int(chance.integers(0, max(len(found), 1)))
        length = int(chance.integers(1, 200))
        match chance.integers(0, 5):
            case 0:
                found[at : at + 1] = bytes([int(chance.integers(0, 256))])
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = found[at : at + length]
            case 3:
                found[at : at + length] = chance.bytes(length)
            case _:
                found[at : at + 8] = b"\xff\xff\xff\xff\xff\xff\xff\x7f"
    return bytes(found[: int(chance.integers(0, len(found) + 1))] if chance.random() < 0.2 else found)


def changed_text(text: str, chance: np.random.Generator) -> bytes:
    """Return text with words in place of others."""
    if chance.random() < 0.3:
        return changed(text.encode(), chance)
    lines = text.splitlines()
    for _ in range(int(chance.integers(1, 4))):
        at = int(chance.integers(0, len(lines)))
        words = lines[at].split(" ")
        words[int(chance.integers(0, len(words)))] = ODD[int(chance.integers(0, len(ODD)))]
        lines[at] = " ".join(words)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def cases(assets: Assets, base: Path, count: int, seed: int) -> Iterator[Case]:
    """Yield bad inputs, of every kind in turn."""
    for number in range(count):
        chance = np.random.default_rng([seed, number])
        root = base / "inputs"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()

        def pick(ways: list[list[str]], chance: np.random.Generator = chance) -> list[str]:
            return ways[int(chance.integers(0, len(ways)))]

        kind = ("checkpoint", "architecture", "data", "recipe", "ONNX", "picture", "label", "words")[number % 8]
        name = f"{kind}-{number}"
        if kind == "checkpoint":
            file = root / "x.pt"
            file.write_bytes(changed(assets.teacher.read_bytes(), chance))
            yield Case(kind, name, pick(assets.as_checkpoint(file)))
        elif kind == "architecture":
            file = root / "x.yaml"
            file.write_bytes(changed_text(assets.student.read_text(), chance))
            yield Case(kind, name, assets.short(**{"student" if chance.random() < 0.5 else "assistant": file}))
        elif kind == "data":
            file = root / "data.yaml"
            file.write_bytes(changed_text(assets.data.read_text(), chance))
            ways = [assets.short(data=file), ["val", f"model={assets.teacher}", f"data={file}", "device=cpu"]]
            ways.append(["label", f"teacher={assets.teacher}", f"source={assets.pictures}", f"data={file}", "out=out"])
            yield Case(kind, name, pick(ways))
        elif kind == "recipe":
            file = root / "x.yaml"
            text = "logit: 1\nlocalization: 1.5\nramp_epochs: 3\nbalance: fixed\nschedule: {logit: ramp}\nteach: true\n"
            file.write_bytes(changed_text(text, chance))
            given = {"recipe": file} if chance.random() < 0.5 else {"class_map": file}
            yield Case(kind, name, assets.short(**given))
        elif kind == "ONNX":
            file = root / "x.onnx"
            file.write_bytes(changed(assets.onnx.read_bytes(), chance))
            ways = [["predict", f"model={file}", f"source={assets.pictures}"], assets.short(teacher=file)]
            ways.append(["val", f"model={file}", f"data={assets.data}", "device=cpu"])
            yield Case(kind, name, pick(ways))
        elif kind in {"picture", "label"}:
            shutil.copytree(assets.data.parent, root / "data")
            data = root / "data" / "data.yaml"
            data.write_text(data.read_text().replace(str(assets.data.parent), str(root / "data")))
            for file in sorted((root / "data").rglob("*.png" if kind == "picture" else "*.txt")):
                if chance.random() < 0.5:  # where all are bad, every command stops at the same check
                    continue
                content = file.read_bytes()
                file.write_bytes(
                    changed(content, chance) if kind == "picture" else changed_text(content.decode(), chance)
                )
            pictures = root / "data" / "images" / "val"
            ways = [assets.short(data=data), ["val", f"model={assets.teacher}", f"data={data}", "device=cpu"]]
            ways.append(
                ["export", f"model={assets.teacher}", f"data={data}", "precision=int8", "max_drop=100", "out=x.onnx"]
            )
            if kind == "picture":
                ways.append(["predict", f"model={assets.onnx}", f"source={pictures}"])
                ways.append(["label", f"teacher={assets.teacher}", f"source={pictures}", "out=out", "device=cpu"])
                ways.append(assets.short(unlabeled=pictures))
            yield Case(kind, name, pick(ways))
        else:
            words = pick(
                [
                    assets.short(),
                    *assets.as_checkpoint(assets.teacher),
                    ["predict", f"model={assets.onnx}", f"source={assets.pictures}"],
                ]
            )
            at = int(chance.integers(1, len(words)))
            odd = ODD[int(chance.integers(0, len(ODD)))].replace("\0", "")
            key = words[at].partition("=")[0]
            words[at] = odd if chance.random() < 0.2 else f"{key}={odd}"
            yield Case(kind, name, words)


def main(words: list[str]) -> int:
    options = dict(word.split("=", 1) for word in words)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        base = Path(options.get("folder", made)).resolve()
        import_everything()
        (base / "assets").mkdir(parents=True)
        assets = Assets(base / "assets")
        every = cases(assets, base, int(options.get("count", 500)), int(options.get("seed", 0)))
        return run_all(every, base, options.get("only", ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
