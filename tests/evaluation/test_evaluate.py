"""Measuring: the same figures for a checkpoint and its ONNX file, what a picture costs, data that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
import yaml
from live_detector import draw, live_detector, save
from tiny_yolo import write_architecture
from ultralytics.utils.nms import non_max_suppression

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.evaluation.evaluate import class_table, cost, evaluate, side_by_side
from yolo_distill.exporting.export import export
from yolo_distill.models.checkpoint import load_detector

NAMES = {0: "round", 1: "square"}
SIDE, HIGH = 96, 48


def write_data(folder: Path, pictures: dict[str, Any], labels: dict[str, str], **keys: Any) -> Path:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            cv2.imwrite(str(folder / "images" / split / f"{name}.png"), picture)
            if name in labels:
                (folder / "labels" / split / f"{name}.txt").write_text(labels[name])
    plan = {"train": "images/train", "val": "images/val", "names": NAMES, **keys}
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in plan.items() if value is not None}))
    return path


@pytest.fixture(scope="module")
def pictures() -> dict[str, Any]:
    """Six pictures, wider than high, so that padding matters."""
    return {f"picture{i}": picture for i, picture in enumerate(draw(6, HIGH, SIDE))}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, pictures: dict[str, Any]) -> tuple[Path, Path]:
    """A checkpoint, and data labelled with what it detects, a little off: figures that are neither 0 nor 1."""
    folder = tmp_path_factory.mktemp("measured")
    model = live_detector(str(write_architecture(folder / "tiny.yaml", width=2)), NAMES.values())
    save(model, folder / "best.pt", SIDE)
    labels = {}
    random = np.random.default_rng(1)
    for name, picture in pictures.items():
        pad = (SIDE - HIGH) // 2  # as wide as the input, so that nothing is resampled
        square = cv2.copyMakeBorder(picture, pad, pad, 0, 0, cv2.BORDER_CONSTANT, value=(114,) * 3)
        tensor = torch.from_numpy(square[..., ::-1].transpose(2, 0, 1).copy())[None].float() / 255
        model.end2end = False
        with torch.no_grad():
            found = non_max_suppression(model(tensor)[0].clone(), 1e-4, 0.5)[0].numpy()
        rows = []
        for x1, y1, x2, y2, _, index in found:
            x1, y1, x2, y2 = np.array([x1, y1 - pad, x2, y2 - pad]) / [SIDE, HIGH, SIDE, HIGH]
            inside = min(x1, y1, 1 - x2, 1 - y2) >= 0 and min(x2 - x1, y2 - y1) > 0.1
            if inside and len(rows) < 20:
                x, y = np.array([x1 + x2, y1 + y2]) / 2 + random.uniform(-0.01, 0.01, 2)
                rows.append(f"{int(index)} {x:.5f} {y:.5f} {x2 - x1:.5f} {y2 - y1:.5f}")
        labels[name] = "\n".join(rows)
    return folder / "best.pt", write_data(folder, pictures, labels)


@pytest.fixture(scope="module")
def exported(measured: tuple[Path, Path]) -> Path:
    return Path(export(measured[0]).path)


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        evaluate(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


def test_the_figures_are_those_of_the_host(measured: tuple[Path, Path], tmp_path: Path) -> None:
    from ultralytics import YOLO

    checkpoint, data = measured
    theirs = YOLO(checkpoint).val(data=str(data), imgsz=SIDE, rect=False, plots=False, project=str(tmp_path), workers=0)
    ours = evaluate(checkpoint, data)
    assert ours["map"] == pytest.approx(float(theirs.box.map), abs=1e-6)
    assert ours["map50"] == pytest.approx(float(theirs.box.map50), abs=1e-6)


def test_counts_names_and_json(measured: tuple[Path, Path]) -> None:
    checkpoint, data = measured
    figures = evaluate(checkpoint, data, split="train")
    rows = [line for file in (data.parent / "labels" / "train").glob("*.txt") for line in file.read_text().splitlines()]
    assert figures["pictures"] == 6
    assert figures["boxes"] == len(rows) == sum(row["boxes"] for row in figures["classes"])
    assert [row["name"] for row in figures["classes"]] == ["round", "square"]
    assert figures["split"] == "train"
    assert json.loads(json.dumps(figures)) == figures
    assert set(figures["ms"]) == {"preprocess", "inference", "postprocess"}
    lines = class_table(figures).splitlines()
    assert lines[0].split() == ["class", "pictures", "boxes", "P", "R", "mAP50", "mAP50-95"]
    assert lines[1].split()[:3] == ["all", "6", str(len(rows))]


def test_a_class_that_the_split_lacks_has_no_figures(
    measured: tuple[Path, Path], pictures: dict[str, Any], tmp_path: Path
) -> None:
    data = write_data(tmp_path, pictures, dict.fromkeys(pictures, "1 0.5 0.5 0.2 0.2"))
    figures = evaluate(measured[0], data)
    assert figures["classes"][0]["map"] is None
    assert figures["classes"][0]["boxes"] == 0
    assert class_table(figures).splitlines()[2].split() == ["round", "0", "0", "-", "-", "-", "-"]


def test_the_branches_of_an_end_to_end_model(measured: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, data = measured
    one_to_one = evaluate(checkpoint, data, nms=False)
    assert one_to_one["map"] != evaluate(checkpoint, data)["map"]
    file = export(checkpoint, nms=False, out=tmp_path / "e2e.onnx").path
    assert evaluate(file, data)["map"] == pytest.approx(one_to_one["map"], abs=1e-2)
    assert "exported with its one-to-one branch" in refusal(file, data, nms=True)


def test_a_loaded_model_is_measured_and_left_alone(measured: tuple[Path, Path]) -> None:
    checkpoint, data = measured
    model = load_detector(checkpoint)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert evaluate(model, data)["map"] == pytest.approx(evaluate(checkpoint, data)["map"], abs=1e-6)
    cost(model, SIDE)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


# The host draws in a thread, and does not like the boxes of an untrained model.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nothing_is_written_unless_asked_for(
    measured: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluate(measured[0].absolute(), measured[1].absolute())
    assert not list(tmp_path.iterdir())
    evaluate(measured[0].absolute(), measured[1].absolute(), plots="curves")
    assert list(tmp_path.iterdir()) == [tmp_path / "curves"]
    assert list((tmp_path / "curves").glob("*.png"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "vla"}, "has no split 'vla'; did you mean 'val'?"),
        ({"split": "test"}, "has no split 'test'"),
        ({"imgsz": 100}, "takes multiples of 32, such as 96 or 128"),
        ({"imgsz": -32}, "takes multiples of 32"),
        ({"device": "gpu7"}, "the host refuses these settings"),
        ({"nosuch": 1}, "the host refuses these settings"),
    ],
)
def test_settings_that_are_refused(measured: tuple[Path, Path], options: dict[str, Any], says: str) -> None:
    assert says in refusal(*measured, **options)


def test_a_model_without_the_branch(measured: tuple[Path, Path], tmp_path: Path) -> None:
    path = save(live_detector("yolov8n.yaml"), tmp_path / "v8.pt", SIDE)
    assert "has no one-to-one branch" in refusal(path, measured[1], nms=False)


def test_classes_that_differ(measured: tuple[Path, Path], pictures: dict[str, Any], tmp_path: Path) -> None:
    label = dict.fromkeys(pictures, "0 0.5 0.5 0.2 0.2")
    swapped = write_data(tmp_path / "swapped", pictures, label, names={0: "square", 1: "round"})
    assert "0 is 'round' there and 'square' here" in refusal(measured[0], swapped)
    more = write_data(tmp_path / "more", pictures, label, names=["round", "square", "star"])
    message = refusal(measured[0], more)
    assert "has 2 classes (round, square)" in message
    assert "has 3 (round, square, star)" in message


def test_names_that_are_only_numbers_are_no_contradiction(measured: tuple[Path, Path]) -> None:
    assert evaluate(live_detector("yolo26n.yaml", "01"), measured[1], imgsz=SIDE)["pictures"] == 6


def test_files_that_are_no_onnx_model(measured: tuple[Path, Path], exported: Path, tmp_path: Path) -> None:
    data = measured[1]
    assert "no such file; did you mean 'best.onnx'?" in refusal(exported.with_name("bets.onnx"), data)
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:100_000])
    assert "is not an ONNX file, or is cut off" in refusal(tmp_path / "text.onnx", data)
    assert "is not an ONNX file, or is cut off" in refusal(tmp_path / "cut.onnx", data)


def test_a_file_without_metadata(measured: tuple[Path, Path], exported: Path, tmp_path: Path) -> None:
    graph = onnx.load(str(exported))
    del graph.metadata_props[:]
    onnx.save(graph, str(tmp_path / "bare.onnx"))
    assert "its metadata lacks names, imgsz, stride, task" in refusal(tmp_path / "bare.onnx", measured[1])


def test_a_file_made_for_another_size(measured: tuple[Path, Path], exported: Path) -> None:
    assert "was made for 96x96" in refusal(exported, measured[1], imgsz=128)


# --- data ------------------------------------------------------------------------------------------------------------


def data_refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        check_data(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_a_data_set_gives(measured: tuple[Path, Path]) -> None:
    found = check_data(measured[1], ["train", "val"])
    assert found["names"] == NAMES
    assert found["nc"] == 2
    assert [Path(file).name for file in pictures_of(found, "val")] == [f"picture{i}.png" for i in range(6)]


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
        ("data.yaml", "train: .\nval: 3\nnames: [a]\n", "must be str or list"),
    ],
)
def test_files_that_are_no_data_set(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    assert says in data_refusal(tmp_path / name)


def test_data_that_is_a_folder(measured: tuple[Path, Path], tmp_path: Path) -> None:
    assert f"did you mean '{measured[1]}'?" in data_refusal(measured[1].parent)
    assert "give the .yaml file" in data_refusal(tmp_path)


def test_a_misspelt_name(measured: tuple[Path, Path]) -> None:
    assert "did you mean 'data.yaml'?" in data_refusal(measured[1].with_name("dat.yaml"))
    assert "did you mean 'coco8.yaml'?" in data_refusal("cocco8.yaml")


def test_pictures_without_labels(measured: tuple[Path, Path], pictures: dict[str, Any], tmp_path: Path) -> None:
    bare = write_data(tmp_path / "bare", pictures, {})
    assert "none of the 6 pictures of val has a label" in data_refusal(bare)
    assert check_data(bare, need_labels=False)["nc"] == 2
    empty = write_data(tmp_path / "empty", pictures, dict.fromkeys(pictures, ""))
    assert "none of the 6 pictures of val has a label" in refusal(measured[0], empty)


def test_labels_of_which_none_can_be_read(
    measured: tuple[Path, Path], pictures: dict[str, Any], tmp_path: Path
) -> None:
    damaged = write_data(tmp_path, pictures, dict.fromkeys(pictures, "7 0.5 0.5 0.2 0.2"))
    assert "the host can use no picture of val" in refusal(measured[0], damaged)


def test_a_download_script_in_a_data_file_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "data.yaml"
    path.write_text(f"train: no\nval: no\nnames: [a]\ndownload: open({str(mark)!r}, 'w').close()\n")
    data_refusal(path)
    assert not mark.exists()


# --- cost ------------------------------------------------------------------------------------------------------------


def test_what_a_picture_costs(measured: tuple[Path, Path]) -> None:
    small, large = cost(measured[0]), cost(measured[0], [2 * SIDE, 2 * SIDE])
    assert small["imgsz"] == [SIDE, SIDE]
    assert small["file_bytes"] == measured[0].stat().st_size
    assert large["gflops"] == pytest.approx(4 * small["gflops"], rel=0.03)
    assert small["ms"] > 0
    model = load_detector(measured[0])
    model.end2end = False
    folded = model.fuse(verbose=False)
    assert small["parameters"] == large["parameters"] == sum(p.numel() for p in folded.parameters())


def test_a_model_without_a_file_costs_no_bytes() -> None:
    assert cost(live_detector("yolov8n.yaml"), 64)["file_bytes"] is None


def test_models_under_each_other() -> None:
    table = side_by_side(
        {
            "teacher": {
                "map": 0.518,
                "map50": 0.8,
                "parameters": 9_950_000,
                "gflops": 1.98,
                "file_bytes": 20e6,
                "ms": 60,
            },
            "yolo26n": {"map": 0.47, "parameters": 2_375_421, "gflops": None},
        }
    )
    lines = table.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["teacher", "51.8", "80.0", "9,950,000", "1.98", "20.0", "60.0"]
    assert lines[2].split() == ["yolo26n", "47.0", "-", "2,375,421", "-", "-", "-"]
    assert lines[0].index("parameters") + len("parameters") == lines[1].index("9,950,000") + len("9,950,000")


@pytest.mark.slow
def test_real_pictures_give_the_same_figures_for_both(shared_data: Path, tmp_path: Path) -> None:
    save(live_detector("yolo26n.yaml", ["RBC", "WBC", "Platelets"]), tmp_path / "best.pt", 64)
    listed = sorted((shared_data / "bccd" / "images" / "test").glob("*.jpg"))[:6]
    (tmp_path / "few.txt").write_text("\n".join(map(str, listed)))
    data = tmp_path / "data.yaml"
    data.write_text("train: few.txt\nval: few.txt\nnames: [RBC, WBC, Platelets]\n")
    file = export(tmp_path / "best.pt", data=data).path
    torch_figures, file_figures = evaluate(tmp_path / "best.pt", data), evaluate(file, data)
    assert torch_figures["pictures"] == 6
    assert file_figures["map"] == pytest.approx(torch_figures["map"], abs=1e-3)
    assert file_figures["boxes"] == torch_figures["boxes"] > 0


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
