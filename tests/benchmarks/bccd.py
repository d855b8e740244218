"""Makes the data set of the README's table from a clone of https://github.com/Shenggan/BCCD_Dataset, in YOLO's format.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python tests/benchmarks/bccd.py BCCD_Dataset path/to/bccd

The split is its own: 205 pictures to train on, 87 for val, 72 for test.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

NAMES = ("RBC", "WBC", "Platelets")


def label(annotation: Path) -> str:
    """Return the label file of a picture: class, centre, width and height, in parts of the picture."""
    root = ElementTree.parse(annotation).getroot()
    width, height = (float(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
    rows = []
    for one in root.iter("object"):
        x1, y1, x2, y2 = (float(one.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
        x1, x2, y1, y2 = max(x1, 0), min(x2, width), max(y1, 0), min(y2, height)
        if x2 > x1 and y2 > y1:
            box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            rows.append(" ".join([str(NAMES.index(one.findtext("name", ""))), *(f"{value:.6f}" for value in box)]))
    return "".join(f"{row}\n" for row in rows)


def main(clone: Path, out: Path) -> None:
    """Copy pictures and write labels."""
    source = clone / "BCCD" if (clone / "BCCD").is_dir() else clone
    for split in ("train", "val", "test"):
        images, labels = out / "images" / split, out / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for name in (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split():
            shutil.copy(source / "JPEGImages" / f"{name}.jpg", images)
            (labels / f"{name}.txt").write_text(label(source / "Annotations" / f"{name}.xml"))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    (out / "data.yaml").write_text(f"train: images/train\nval: images/val\ntest: images/test\nnames:\n{names}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
