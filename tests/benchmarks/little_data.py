"""Little data: one training picture in four is labelled, the rest is not; what does each use of the rest give?

    python tests/benchmarks/little_data.py data=path/to/bccd/data.yaml imgsz=192 epochs=60 seeds=0,1,2 \
        out=runs/little results=runs/little.jsonl

The labelled quarter (`of=16`: one picture in sixteen) is drawn so that its share of each class is that of the whole,
always the same pictures (kept in `tests/benchmarks/lists/`). The teacher sees only them, unless `teacher=` names one
that knows more. Every arm takes as many steps as `epochs` over all pictures are, and is looked at on val equally often:
an epoch shows a labelled picture as often as it takes.

- `plain, quarter`: the student on the labelled quarter;
- `init, quarter` (`init, 1 in 16`): the same, started from the teacher;
- `taught, quarter`: the same with all terms (in the kept runs, as cut, it is called `distilled`);
- `plain`, `init` and `taught, hard labels`: on the quarter, and the rest as `yolo-distill label` labels it,
  thresholds chosen on val;
- `distilled, unlabelled, ratio 1` and `ratio 3`: the default with `unlabeled=` the rest, so many for each labelled one;
  `conf=0.4`: and once more with that as `unlabeled_conf=`;
- `plain, all`: the student on all pictures with their real labels, the ceiling.

Everything is done by `yolo-distill compare` and `label`, and goes on where it stopped. `only=` names some of the steps.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml
from evidence import keep, read, table
from ultralytics.data.utils import img2label_paths

from yolo_distill.data.dataset import check_data, pictures_of

#: Unlabelled pictures for each labelled one, by the name of the comparison.
RATIOS = {"unlabelled-1": 1, "unlabelled-3": 3}
#: Arms on the quarter alone, and on the quarter and the rest with the teacher's labels.
COMPARED = ("plain", "init", "taught")
STEPS = ("quarter", "hard", *RATIOS, "all")


def stratified(pictures: list[str], classes: int, count: int, seed: int = 0) -> list[str]:
    """Return `count` pictures whose boxes are spread over the classes as those of all pictures are.

    Greedy: of the pictures that are left, in an order drawn once, the one that brings the counts closest.
    """
    boxes = np.zeros((len(pictures), classes))
    for row, label in enumerate(img2label_paths(pictures)):
        lines = Path(label).read_text().splitlines() if Path(label).is_file() else []
        for line in filter(None, map(str.split, lines)):
            boxes[row, int(line[0])] += 1
    wanted = boxes.sum(0) * count / len(pictures)
    left = np.random.default_rng(seed).permutation(len(pictures)).tolist()
    chosen, have = [], np.zeros(classes)
    for number in range(1, count + 1):
        aim = wanted * number / count
        best = min(left, key=lambda row: float((((have + boxes[row] - aim) / (wanted + 1)) ** 2).sum()))
        left.remove(best)
        chosen.append(best)
        have += boxes[best]
    return [pictures[row] for row in sorted(chosen)]


def prepare(data: str, out: Path, of: int) -> None:
    """Write data files of the labelled pictures, one of so many, by how often an epoch shows each, and the rest."""
    found = check_data(data, ("train", "val", "test"))
    pictures = pictures_of(found, "train")
    count = len(pictures) // of
    name = Path(data).resolve().parent.name
    file = Path(__file__).parent / "lists" / (f"{name}.txt" if of == 4 else f"{name}-{of}.txt")
    if file.is_file():
        names = set(file.read_text().split())
        quarter = [picture for picture in pictures if Path(picture).name in names]
        assert len(quarter) == len(names), f"{file} names pictures that {data} has not"
    else:
        quarter = stratified(pictures, found["nc"], count)
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"{Path(picture).name}\n" for picture in quarter))
    rest = sorted(set(pictures) - set(quarter))
    (out / "rest").mkdir(parents=True, exist_ok=True)
    for picture in rest:
        link = out / "rest" / Path(picture).name
        if not link.is_symlink():  # a second process may go on with another step
            link.symlink_to(picture)
    splits = {name: str(found[name]) for name in ("val", "test")}
    plan = {"path": str(out), **splits, "names": dict(found["names"])}
    for times in {1, of, *(of // (1 + ratio) for ratio in RATIOS.values())}:
        listed = "".join(f"{picture}\n" for picture in quarter * times)
        (out / f"quarter-{times}.txt").write_text(listed)
        (out / f"quarter-{times}.yaml").write_text(yaml.safe_dump({**plan, "train": f"quarter-{times}.txt"}))
    both = [str(out / "quarter-1.txt"), str(out / "hard" / "images" / "train")]
    (out / "hard.yaml").write_text(yaml.safe_dump({**plan, "train": both}))
    for name, ratio in RATIOS.items():  # recipes
        recipe = {"unlabeled": str(out / "rest"), "unlabeled_ratio": float(ratio)}
        (out / f"{name}.yaml").write_text(yaml.safe_dump(recipe))


def run(*words: str) -> None:
    """Run a command of yolo-distill."""
    print("yolo-distill", *words, flush=True)
    subprocess.run([sys.executable, "-m", "yolo_distill.cli", *words], check=True)


def collect(folder: Path, results: Path, names: dict[str, str]) -> None:
    """Keep the runs of a comparison under other names; arms without one are left out."""
    staged = results.with_suffix(".part")
    staged.unlink(missing_ok=True)
    keep(folder, staged)
    known = {(one["arm"], one["seed"]) for one in read(results)}
    with results.open("a") as stream:
        for one in read(staged):
            one["arm"] = names.get(one["arm"], "")
            if one["arm"] and (one["arm"], one["seed"]) not in known:
                stream.write(json.dumps(one) + "\n")
    staged.unlink()


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    data, out, results = options.pop("data"), Path(options.pop("out")).resolve(), Path(options.pop("results"))
    only = options.pop("only", ",".join(STEPS)).split(",")
    teacher, of = options.pop("teacher", "yolo26s.yaml"), int(options.pop("of", "4"))
    sure = f"@unlabeled_conf={options.pop('conf')}" if "conf" in options else ""
    prepare(data, out, of)
    common = [*(f"{key}={value}" for key, value in options.items()), "student=yolo26n.yaml"]

    def compare(folder: str, train_on: str | Path, arms: Iterable[str]) -> None:
        place = (f"data={train_on}", f"out={out / folder}")
        run("compare", f"teacher={teacher}", f"arms={','.join(arms)}", *place, *common)

    if "quarter" in only:
        compare("quarter", out / f"quarter-{of}.yaml", COMPARED)
    if teacher.endswith(".yaml"):
        teacher = str(next(iter(sorted((out / "quarter").glob("teacher-*/weights/best.pt")))))
    for name, ratio in RATIOS.items():
        if name in only:
            recipes = [f"{out / name}.yaml", *([f"{out / name}.yaml{sure}"] if sure else [])]
            compare(name, out / f"quarter-{of // (1 + ratio)}.yaml", ("plain", *recipes))
    if "hard" in only:
        place = (f"source={out / 'rest'}", f"data={out / 'quarter-1.yaml'}", f"out={out / 'hard'}")
        run("label", f"teacher={teacher}", f"imgsz={options['imgsz']}", *place)
        compare("plain-hard", out / "hard.yaml", COMPARED)
    if "all" in only:
        compare("all", data, ["plain"])
    few = "quarter" if of == 4 else f"1 in {of}"
    collect(out / "quarter", results, {"teacher": "teacher", **{arm: f"{arm}, {few}" for arm in COMPARED}})
    collect(out / "plain-hard", results, {arm: f"{arm}, hard labels" for arm in COMPARED})
    for name, ratio in RATIOS.items():
        called = f"distilled, unlabelled, ratio {ratio}"
        collect(out / name, results, {name: called, f"{name}{sure}": f"{called}{sure}"})
    collect(out / "all", results, {"plain": "plain, all"})
    for base in (f"plain, {few}", "plain, hard labels"):
        print(f"\n{table(read(results), base)}")


if __name__ == "__main__":
    main(sys.argv[1:])
