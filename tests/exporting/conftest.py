"""A checkpoint of a tiny detector that looks at pictures, pictures for it, and its export."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from exported import SIDE
from live_detector import draw, live_detector, save
from tiny_yolo import write_architecture

from yolo_distill.exporting.export import export
from yolo_distill.exporting.report import ExportReport


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As if trained on data that lie somewhere."""
    folder = tmp_path_factory.mktemp("weights")
    model = live_detector(str(write_architecture(folder / "tiny.yaml", width=4)))
    model.args = {"imgsz": SIDE, "data": "/somewhere/private/data.yaml"}
    return save(model, folder / "best.pt", SIDE)


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures of two shapes; no labels, which a proof does not need."""
    folder = tmp_path_factory.mktemp("unlabelled")
    (folder / "images").mkdir()
    for number, picture in enumerate([*draw(3, 64, 150), *draw(2, 130, 70, seed=2)]):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [round, square]\n")
    return folder / "data.yaml"


@pytest.fixture(scope="session")
def labelled(unlabelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures with a box each."""
    folder = tmp_path_factory.mktemp("labelled")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number, picture in enumerate((unlabelled.parent / "images").iterdir()):
        (folder / "images" / picture.name).write_bytes(picture.read_bytes())
        (folder / "labels" / f"{picture.stem}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text(unlabelled.read_text())
    return folder / "data.yaml"


@pytest.fixture(scope="session")
def report(checkpoint: Path, unlabelled: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The checkpoint as an fp32 file."""
    return export(checkpoint, data=unlabelled, out=tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def one_to_one(checkpoint: Path, unlabelled: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The same of its one-to-one branch, in another operator set."""
    return export(checkpoint, data=unlabelled, nms=False, opset=15, out=tmp_path_factory.mktemp("one_to_one"))
