"""Measuring: the same figures for a checkpoint and its ONNX file, what a picture costs, data that cannot be used."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from live_detector import draw, live_detector, save
from made_data import NAMES, SIDE, labels_of, write_data
from matplotlib.figure import Figure
from tiny_yolo import write_architecture
from ultralytics import YOLO
from ultralytics.utils import LOGGER

from yolo_distill.data.dataset import check_data
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.evaluation.evaluate import class_table, cost, evaluate, in_points, side_by_side
from yolo_distill.evaluation.validator import AS_ONE, check_names, warnings_only
from yolo_distill.exporting.export import export
from yolo_distill.exporting.export_data import read_data
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.teachers.yolo import YoloTeacher

HIGH = 48


@pytest.fixture(scope="module")
def pictures() -> dict[str, Any]:
    """Six pictures, wider than high, so that padding matters."""
    return {f"picture{i}": picture for i, picture in enumerate(draw(6, HIGH, SIDE))}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, Any]) -> tuple[Path, Path]:
    """A checkpoint, and data labelled with what it detects."""
    folder = tmp_path_factory.mktemp("measured")
    model = live_detector(str(write_architecture(folder / "tiny.yaml", width=2)), NAMES.values())
    checkpoint = save(model, folder / "best.pt", SIDE)
    return checkpoint, write_data(folder, pictures, labels_of(YoloTeacher(model), pictures, most=20))


@pytest.fixture(scope="module")
def exported(measured: tuple[Path, Path]) -> Path:
    return Path(export(measured[0]).path)


@pytest.fixture(scope="module")
def files(
    measured: tuple[Path, Path], exported: Path, pictures: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Return models and data sets, most of which are not to be measured, by name."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "text.onnx").write_text("no model")
    (folder / "cut.onnx").write_bytes(exported.read_bytes()[:100_000])
    graph = onnx.load(str(exported))
    del graph.metadata_props[:]
    onnx.save(graph, str(folder / "bare.onnx"))
    save(live_detector("yolov8n.yaml"), folder / "v8.pt", SIDE)
    label = dict.fromkeys(pictures, "0 0.5 0.5 0.2 0.2")
    return {
        **{name: folder / name for name in ("text.onnx", "cut.onnx", "bare.onnx", "v8.pt")},
        **{"best.pt": measured[0], "best.onnx": exported, "bets.onnx": exported.with_name("bets.onnx")},
        "data": measured[1],
        "swapped": write_data(folder / "swapped", pictures, label, names={0: "square", 1: "round"}),
        "more": write_data(folder / "more", pictures, label, names=["round", "square", "star"]),
        "empty": write_data(folder / "empty", pictures, dict.fromkeys(pictures, "")),
        "damaged": write_data(folder / "damaged", pictures, dict.fromkeys(pictures, "7 0.5 0.5 0.2 0.2")),
    }


def test_a_checkpoint_and_its_file_get_the_same_figures(measured: tuple[Path, Path], exported: Path) -> None:
    checkpoint, data = measured
    torch_figures, file_figures = evaluate(checkpoint, data), evaluate(exported, data)
    assert torch_figures["map"] > 0.1
    assert torch_figures["imgsz"] == file_figures["imgsz"] == SIDE
    for key in ("map", "map50", "precision", "recall"):
        assert file_figures[key] == pytest.approx(torch_figures[key], abs=1e-2)
    for ours, theirs in zip(torch_figures["classes"], file_figures["classes"], strict=True):
        assert (ours["name"], ours["pictures"], ours["boxes"]) == (theirs["name"], theirs["pictures"], theirs["boxes"])
        # Two detections that are equally sure may change places, which moves one class of six pictures by this much on
        # some processors.
        assert ours["map"] == pytest.approx(theirs["map"], abs=2e-2)
    # What training validates with pads otherwise: without the same letterbox the figures would not be the same.
    assert abs(evaluate(checkpoint, data, rect=True)["map"] - torch_figures["map"]) > 0.02


def test_the_figures_are_those_of_the_host_and_a_loaded_model_is_left_alone(
    measured: tuple[Path, Path], tmp_path: Path
) -> None:
    checkpoint, data = measured
    theirs = YOLO(checkpoint).val(data=str(data), imgsz=SIDE, rect=False, plots=False, project=str(tmp_path), workers=0)
    model = load_detector(checkpoint)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for given in (checkpoint, model):
        ours = evaluate(given, data)
        assert ours["map"] == pytest.approx(float(theirs.box.map), abs=1e-6)
        assert ours["map50"] == pytest.approx(float(theirs.box.map50), abs=1e-6)
    cost(model, SIDE)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_class_that_the_split_lacks_has_no_figures(
    measured: tuple[Path, Path], pictures: dict[str, Any], tmp_path: Path
) -> None:
    figures = evaluate(measured[0], write_data(tmp_path, pictures, dict.fromkeys(pictures, "1 0.5 0.5 0.2 0.2")))
    assert (figures["classes"][0]["map"], figures["classes"][0]["boxes"]) == (None, 0)
    assert class_table(in_points(figures)).splitlines()[2].split() == ["round", "0", "0", "-", "-", "-", "-"]


def test_the_branches_of_an_end_to_end_model(measured: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, data = measured
    one_to_one = evaluate(checkpoint, data, nms=False)
    assert one_to_one["map"] != evaluate(checkpoint, data)["map"]
    file = export(checkpoint, nms=False, out=tmp_path / "e2e.onnx").path
    assert evaluate(file, data)["map"] == pytest.approx(one_to_one["map"], abs=1e-2)
    with pytest.raises(RequestError, match="exported with its one-to-one branch"):
        evaluate(file, data, nms=True)


def test_plots_on_a_full_disk_are_whole_or_not_there(measured: tuple[Path, Path], tmp_path: Path, full_disk) -> None:
    with full_disk(1000), pytest.raises(DistillError, match=r"curves: cannot be written \(File too large\)"):
        evaluate(measured[0].absolute(), measured[1].absolute(), plots="curves")
    assert not list((tmp_path / "curves").iterdir())


def test_a_picture_that_the_disk_did_not_take_is_no_mere_warning(
    measured: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(figure: Figure, file: Path, **settings: Any) -> None:
        if Path(file).stem == "confusion_matrix":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        usual(figure, file, **settings)

    usual = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", failing)
    with pytest.raises(DistillError, match=r"curves/\*\.png: cannot be written \(No space left on device"):
        evaluate(measured[0].absolute(), measured[1].absolute(), plots="curves")
    assert not list((tmp_path / "curves").iterdir())


def test_nothing_is_written_but_what_is_asked_for(measured: tuple[Path, Path], tmp_path: Path) -> None:
    evaluate(measured[0].absolute(), measured[1].absolute(), plots="curves")
    assert list(tmp_path.iterdir()) == [tmp_path / "curves"]
    assert list((tmp_path / "curves").glob("*.png"))


@pytest.mark.parametrize(
    ("model", "data", "options", "says"),
    [
        ("best.pt", "data", {"split": "vla"}, "has no split 'vla'; did you mean 'val'?"),
        ("best.pt", "data", {"split": "test"}, "has no split 'test'"),
        ("best.pt", "data", {"imgsz": 0}, "takes multiples of 32"),
        ("best.pt", "data", {"nosuch": 1}, "the host refuses these settings"),
        ("best.pt", "data", {"plots": "/dev/null/x"}, "plots=/dev/null/x: cannot be written to"),
        ("v8.pt", "data", {"nms": False}, "has no one-to-one branch"),
        ("best.pt", "swapped", {}, "0 is 'round' there and 'square' here"),
        ("best.pt", "more", {}, "has 2 classes (round, square)"),
        ("best.pt", "more", {}, "has 3 (round, square, star)"),
        ("best.pt", "empty", {}, "none of the 6 pictures of val has a label"),
        ("best.pt", "damaged", {}, "none of the 6 pictures in"),
        ("bets.onnx", "data", {}, "no such file; did you mean 'best.onnx'?"),
        ("text.onnx", "data", {}, "is not an ONNX model; give an .onnx file"),
        ("cut.onnx", "data", {}, "is damaged or cut off"),
        ("bare.onnx", "data", {}, "metadata lacks task, names, stride, imgsz"),
        ("best.onnx", "data", {"imgsz": 128}, "was made for 96x96"),
    ],
)
def test_what_can_not_be_measured(
    model: str, data: str, options: dict[str, Any], says: str, files: dict[str, Path]
) -> None:
    with pytest.raises(RequestError) as caught:
        evaluate(files[model], files[data], **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_are_only_numbers_are_no_contradiction(measured: tuple[Path, Path]) -> None:
    assert evaluate(live_detector("yolo26n.yaml", "01"), measured[1], imgsz=SIDE)["pictures"] == 6


# --- data ------------------------------------------------------------------------------------------------------------


def data_refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        check_data(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("data.yaml", None, "no such file"),
        ("data.txt", "train: a", "is described by a .yaml file, this is a .txt one"),
        ("data.yaml", "train: [a\nval", "is not YAML"),
        ("data.yaml", "only words", "is not a YAML file of keys and values"),
        ("data.yaml", "", "is not a YAML file of keys and values"),
        ("data.yaml", "names: [a]\n", "lacks train and val"),
        ("data.yaml", "train: a\nval: a\n", "lacks names"),
        ("data.yaml", "backbone: []\nhead: []\n", "is it an architecture?"),
        ("data.yaml", "train: a\nval: nowhere\nnames: [a]\n", "nowhere"),
        ("data.yaml", "train: .\nval: .\nnames: [a]\n", "no pictures for val"),
        ("data.yaml", "train: .\nval: .\nnames: [a]\nnc: 3\n", "must match"),
        ("data.yaml", "train: .\nval: .\nnames: [a]\nchannels: 1000000\n", "channels is 1000000; expected those of a"),
        ("data.yaml", "train: .\nval: 3\nnames: [a]\n", "must be str or list"),
    ],
)
def test_files_that_are_no_data_set(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert says in data_refusal(tmp_path / name)


def test_a_folder_or_a_misspelt_name(measured: tuple[Path, Path], tmp_path: Path) -> None:
    assert f"did you mean '{measured[1]}'?" in data_refusal(measured[1].parent)
    assert "give the .yaml file" in data_refusal(tmp_path)
    assert "did you mean 'data.yaml'?" in data_refusal(measured[1].with_name("dat.yaml"))
    assert "did you mean 'coco8.yaml'?" in data_refusal("cocco8.yaml")


def test_what_was_trained_with_single_cls_is_measured_so(measured: tuple[Path, Path], tmp_path: Path) -> None:
    """Of a checkpoint and of the file exported from it, on the data of more classes that it was trained on."""
    model = live_detector(str(write_architecture(tmp_path / "tiny.yaml")), AS_ONE.values())
    data = measured[1]
    other = save(model, tmp_path / "other.pt", SIDE)  # of a set whose one class happens to be called so
    with pytest.raises(RequestError, match="has 1 classes"):
        evaluate(other, data, device="cpu")
    checkpoint = save(model, tmp_path / "best.pt", SIDE, single_cls=True)
    boxes = evaluate(measured[0], data, device="cpu")["boxes"]
    for file in (checkpoint, export(checkpoint).path):
        (row,) = evaluate(file, data, device="cpu")["classes"]
        assert (row["name"], row["boxes"]) == ("item", boxes)
    assert read_data(data, load_detector(checkpoint), (SIDE, SIDE), "int8", 4).labelled == str(data)


@pytest.mark.parametrize("single_cls", [True, False])
def test_a_warning_of_the_host_that_is_untrue_is_not_heard(single_cls: bool) -> None:
    said = [("Skipping labels of classes the model (nc=1) cannot predict.", not single_cls), ("damaged", True)]
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(handler)
    try:
        with warnings_only(single_cls=single_cls):
            for text, _ in said:
                LOGGER.warning(text)
    finally:
        LOGGER.removeHandler(handler)
    assert [any(text in line for line in heard) for text, _ in said] == [true for _, true in said]


def test_pictures_without_labels(pictures: dict[str, Any], tmp_path: Path) -> None:
    bare = write_data(tmp_path / "bare", pictures, {})
    assert "none of the 6 pictures of val has a label" in data_refusal(bare)
    assert check_data(bare, need_labels=False)["nc"] == 2


# --- cost ------------------------------------------------------------------------------------------------------------


def test_what_a_picture_costs(measured: tuple[Path, Path]) -> None:
    small, large = cost(measured[0], SIDE), cost(measured[0], [2 * SIDE, 2 * SIDE])
    assert small["imgsz"] == [SIDE, SIDE]
    assert small["file_bytes"] == measured[0].stat().st_size
    assert large["gflops"] == pytest.approx(4 * small["gflops"], rel=0.03)
    assert small["ms"] > 0
    model = load_detector(measured[0])
    model.end2end = False
    folded = model.fuse(verbose=False)
    assert small["parameters"] == large["parameters"] == sum(p.numel() for p in folded.parameters())
    assert cost(live_detector("yolov8n.yaml"), 64)["file_bytes"] is None


def test_models_under_each_other() -> None:
    teacher = {"map": 51.8, "map50": 80.0, "parameters": 9_950_000, "gflops": 1.98, "file_bytes": 20e6, "ms": 60}
    nano = {"map": 47.0, "parameters": 2_375_421, "gflops": None}
    lines = side_by_side({"teacher": teacher, "yolo26n": nano}).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["teacher", "51.8", "80.0", "9,950,000", "1.98", "20.0", "60.0"]
    assert lines[2].split() == ["yolo26n", "47.0", "-", "2,375,421", "-", "-", "-"]
    assert lines[0].index("parameters") + len("parameters") == lines[1].index("9,950,000") + len("9,950,000")


def test_a_name_that_a_file_shows_otherwise_is_the_same() -> None:
    check_names({0: "cat\N{REPLACEMENT CHARACTER}", 1: "dog"}, {0: "cat\r", 1: "dog"}, "best.onnx", "data.yaml")
    with pytest.raises(RequestError, match="differ: 0 is"):
        check_names({0: "cat", 1: "dog"}, {0: "cat\r", 1: "dog"}, "best.onnx", "data.yaml")


@pytest.mark.slow
def test_a_rectangular_file_is_measured_at_its_own_size(measured: tuple[Path, Path], tmp_path: Path) -> None:
    file = export(measured[0], imgsz=(64, 96), out=tmp_path).path
    try:
        figures = evaluate(file, measured[1])
    except DistillError as error:
        if "invalid dimensions" in str(error):
            pytest.skip("this release of the host gives every file a square")
        raise
    assert figures["imgsz"] == [64, 96]
    assert figures["map"] > 0
