"""Bad inputs by chance: whatever they are, a command ends in one line, soon, and in little memory.

    python tests/benchmarks/fuzz_inputs.py [count=500] [first=0] [seed=0] [folder=/tmp/fuzz] [only=WORD]

Changes good files (YAML, checkpoints, ONNX, pictures, labels) and command lines at places that the seed chooses, and
runs a command over each, as `attack_corpus.py` does; the same table, the same exit code.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attack_corpus import Assets
from hostile_runner import Case, options_of, run_all

import numpy as np  # isort: skip

#: What stands in YAML, labels and command lines where something else should.
ODD = [
    "", "-1", "0", "nan", "inf", "1e300", "-1e300", "9" * 400, "null", "true", "[", "{", "[[[[", "{a: {b: c}}", "'",
    '"', "\\", "\0", "\x7f", "\udcff", "é" * 50, "a" * 5000, "../..", "/dev/zero", "/dev/null", "/", "~", "%s%n",
    "${HOME}", "!!python/none", "*", "&a", "<<", "0x10", "2001-13-01", "1,2", "1 2", "[1, 2]", "٣", "²", "1_000", "-0",
    "0.5.5", "true,false", "?", "#", ":", "-", "|", ">",
]  # fmt: skip
RECIPE = "logit: 1\nlocalization: 1.5\nramp_epochs: 3\nbalance: fixed\nschedule: {logit: ramp}\nteach: true\n"


def changed(data: bytes, chance: np.random.Generator) -> bytes:
    """Return a file with bytes flipped, cut out, doubled, or with its end cut off."""
    found = bytearray(data)
    for _ in range(int(chance.integers(1, 20))):
        at, length = int(chance.integers(0, max(len(found), 1))), int(chance.integers(1, 200))
        new = [chance.bytes(1), b"", 2 * bytes(found[at : at + length]), chance.bytes(length), b"\xff" * 7 + b"\x7f"]
        way = int(chance.integers(0, len(new)))
        found[at : at + [1, length, length, length, 8][way]] = new[way]
    return bytes(found[: int(chance.integers(0, len(found) + 1))] if chance.random() < 0.2 else found)


def changed_text(data: bytes, chance: np.random.Generator) -> bytes:
    """Return text with words in place of others."""
    if chance.random() < 0.3:
        return changed(data, chance)
    lines = [line.split(" ") for line in data.decode().splitlines()]
    for _ in range(int(chance.integers(1, 4))):
        line = lines[int(chance.integers(0, len(lines)))]
        line[int(chance.integers(0, len(line)))] = ODD[int(chance.integers(0, len(ODD)))]
    return "\n".join(map(" ".join, lines)).encode("utf-8", "surrogateescape")


def bad_input(assets: Assets, root: Path, number: int, chance: np.random.Generator) -> Case:
    """Return a bad input; kinds take turns."""
    kind = ("checkpoint", "architecture", "data", "recipe", "ONNX", "picture", "label", "words")[number % 8]
    file, text = root / "x.yaml", b""
    if kind in {"picture", "label"}:
        file = assets.copy_data(root / "data")
        for one in sorted(file.parent.rglob("*.png" if kind == "picture" else "*.txt")):
            if chance.random() < 0.5:  # where all are bad, every command stops at the same check
                one.write_bytes((changed if kind == "picture" else changed_text)(one.read_bytes(), chance))
        pictures = file.parent / "images" / "val"
        ways = assets.as_data(file)[:3]
        if kind == "picture":
            ways += [assets.ask("predict", source=pictures), assets.ask("label", source=pictures)]
            ways.append(assets.ask("train", unlabeled=pictures))
    elif kind == "words":
        ways = [assets.ask(command) for command in assets.usual]
        for words in ways:
            at, odd = int(chance.integers(1, len(words))), ODD[int(chance.integers(0, len(ODD)))].replace("\0", "")
            words[at] = odd if chance.random() < 0.2 else f"{words[at].partition('=')[0]}={odd}"
    elif kind == "checkpoint":
        file, text = root / "x.pt", changed(assets.teacher.read_bytes(), chance)
        ways = assets.as_checkpoint(file)
    elif kind == "ONNX":
        file, text = root / "x.onnx", changed(assets.onnx.read_bytes(), chance)
        ways = [assets.ask("predict", model=file), assets.ask("train", teacher=file), assets.ask("val", model=file)]
    elif kind == "architecture":
        text = changed_text(assets.student.read_bytes(), chance)
        ways = [assets.ask("train", **{key: file}) for key in ("student", "assistant")]
    elif kind == "data":
        text = changed_text(assets.data.read_bytes(), chance)
        ways = assets.as_data(file)
    else:
        text = changed_text(RECIPE.encode(), chance)
        ways = [assets.ask("train", recipe=file), assets.ask("train", class_map=file)]
    if kind not in {"picture", "label", "words"}:
        file.write_bytes(text)
    return Case(kind, f"{kind}-{number}", [ways[int(chance.integers(0, len(ways)))]])


def main(given: list[str]) -> int:
    options = options_of(given)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        base = Path(options.get("folder", made)).resolve()
        assets = Assets(base / "assets")

        def cases() -> Iterator[Case]:
            first = int(options.get("first", 0))
            for number in range(first, first + int(options.get("count", 500))):
                shutil.rmtree(base / "inputs", ignore_errors=True)
                (base / "inputs").mkdir()
                chance = np.random.default_rng([int(options.get("seed", 0)), number])
                yield bad_input(assets, base / "inputs", number, chance)

        return run_all(cases(), base, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
