"""Makes the data set of the README's table from a clone of https://github.com/Shenggan/BCCD_Dataset, in YOLO's format.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python tests/benchmarks/bccd.py BCCD_Dataset path/to/bccd

The split is its own: 205 pictures to train on, 87 for val, 72 for test. A third word, `segment`, `pose` or `obb`, makes
labels for that task out of the same boxes: a cell is nearly an ellipse, so its outline is the one that fills the box,
its keypoints are where it touches the sides, and its turned box is the box.
"""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

NAMES = ("RBC", "WBC", "Platelets")


def values(task: str, x: float, y: float, width: float, height: float) -> list[float]:
    """Return what stands behind the class in a label of this task; the box by its centre, in parts of the picture."""
    if task == "obb":
        return [v for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1)) for v in (x + dx * width / 2, y + dy * height / 2)]
    corners = 24 if task == "segment" else 4
    turns = [2 * math.pi * corner / corners for corner in range(corners)]
    outline = [v for turn in turns for v in (x + math.sin(turn) * width / 2, y - math.cos(turn) * height / 2)]
    return {"detect": [x, y, width, height], "segment": outline, "pose": [x, y, width, height, *outline]}[task]


def label(annotation: Path, task: str) -> str:
    """Return the label file of a picture."""
    root = ElementTree.parse(annotation).getroot()
    width, height = (float(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
    rows = []
    for one in root.iter("object"):
        x1, y1, x2, y2 = (float(one.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
        x1, x2, y1, y2 = max(x1, 0), min(x2, width), max(y1, 0), min(y2, height)
        if x2 > x1 and y2 > y1:
            box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            row = [str(NAMES.index(one.findtext("name", ""))), *(f"{value:.6f}" for value in values(task, *box))]
            rows.append(" ".join(row))
    return "".join(f"{row}\n" for row in rows)


def main(clone: str, to: str, task: str = "detect") -> None:
    """Copy pictures and write labels."""
    out = Path(to)
    source = Path(clone) / "BCCD" if (Path(clone) / "BCCD").is_dir() else Path(clone)
    for split in ("train", "val", "test"):
        images, labels = out / "images" / split, out / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for name in (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
            shutil.copy(source / "JPEGImages" / f"{name}.jpg", images)
            (labels / f"{name}.txt").write_text(label(source / "Annotations" / f"{name}.xml", task))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    points = "kpt_shape: [4, 2]\nflip_idx: [0, 3, 2, 1]\n" if task == "pose" else ""
    (out / "data.yaml").write_text(f"train: images/train\nval: images/val\ntest: images/test\n{points}names:\n{names}")


if __name__ == "__main__":
    main(*sys.argv[1:])
