"""From fp32 to int8 and fp16: what is tried, in which order, and what happens when nothing is good enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from live_detector import draw, live_detector, save
from tiny_yolo import write_architecture
from ultralytics.data.augment import LetterBox

from yolo_distill.errors import DistillError
from yolo_distill.exporting import lower_precision as module
from yolo_distill.exporting.acceptance import Verdict
from yolo_distill.exporting.export import export
from yolo_distill.exporting.layer_sensitivity import _distance
from yolo_distill.exporting.lower_precision import to_fp16, to_int8

SIDE = 64


class Judge:
    """Stands for the guard: accepts what it is told to, and remembers what it saw."""

    def __init__(self, accepts: Callable[[int], bool], loss: Callable[[int], float]) -> None:
        self.seen: list[str] = []
        self._accepts, self._loss = accepts, loss

    def judge(self, file: Path) -> Verdict:
        self.seen.append(file.name)
        at = len(self.seen)
        loss = self._loss(at)
        return Verdict(self._accepts(at), loss, {"drop": loss}, f"{50 - loss:.1f} mAP50-95, {-loss:+.2f} to fp32")

    def wanted(self) -> str:
        return "at most 0.3"


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fp32")
    tiny = write_architecture(folder / "tiny.yaml", width=4, end2end=False)
    return Path(export(save(live_detector(str(tiny)), folder / "best.pt", SIDE)).path)


@pytest.fixture(scope="module")
def calibration() -> list[np.ndarray]:
    pictures = [LetterBox((SIDE, SIDE), scaleup=True)(image=one) for one in draw(4, 64, 80)]
    return [one[..., ::-1].transpose(2, 0, 1) for one in pictures]


SETTINGS = {"takes_pictures": False, "say": lambda text: None, "progress": lambda text: None}


def test_the_best_of_the_ranges_is_taken(fp32: Path, calibration: list[np.ndarray], tmp_path: Path) -> None:
    judge = Judge(lambda at: True, lambda at: {1: 0.2, 2: 0.1, 3: 0.15}[at])
    done = to_int8(fp32, tmp_path / "int8.onnx", judge, calibration, **SETTINGS)  # type: ignore[arg-type]
    assert (done.method, done.kept, done.pictures) == ("percentile 99.999", ("decoding", "model.0"), 4)
    assert len(judge.seen) == 3
    assert done.path.name == judge.seen[1]


@pytest.mark.slow  # a detector of many layers, each of which is looked at
def test_layers_are_kept_one_two_four_until_it_is_enough(calibration: list[np.ndarray], tmp_path: Path) -> None:
    fp32 = Path(export(save(live_detector("yolov8n.yaml"), tmp_path / "best.pt", SIDE)).path)
    said: list[str] = []
    judge = Judge(lambda at: at == 6, lambda at: 6.0 - at)
    done = to_int8(fp32, tmp_path / "int8.onnx", judge, calibration, **{**SETTINGS, "say": said.append})  # type: ignore[arg-type]
    assert [line.count("model.") for line in said] == [1, 1, 1, 2, 3, 5]
    assert len(done.kept) == 6
    assert done.kept[:3] == tuple(said[3].split("in fp32: ")[1].split("): ")[0].split(", "))
    graph = onnx.load(str(done.path)).graph
    made_by = {output: node for node in graph.node for output in node.output}
    whole = {node.name for node in graph.node if node.op_type == "Conv" and node.input[1] not in made_by}
    for layer in done.kept[1:]:
        prefix = "/" + layer.replace(".cv", "/cv")
        assert any(name.startswith(prefix) for name in whole), layer
    assert any(node.op_type == "Conv" and node.input[1] in made_by for node in graph.node)


def test_nothing_is_good_enough(
    fp32: Path, calibration: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [(f"model.{at}", [f"/model.{at}/conv/Conv"]) for at in (1, 3, 5, 7)]
    monkeypatch.setattr(module, "rank_layers", lambda *_: layers)
    judge = Judge(lambda at: False, lambda at: {5: 2.0}.get(at, 3.0))
    with pytest.raises(DistillError) as caught:
        to_int8(fp32, tmp_path / "int8.onnx", judge, calibration, **SETTINGS)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert f"best of {len(judge.seen)} attempts" in message
    assert "48.0 mAP50-95, -2.00 to fp32; wanted at most 0.3; no file is kept" in message


def test_fp16_is_judged_as_well(fp32: Path, tmp_path: Path) -> None:
    done = to_fp16(fp32, tmp_path / "a.onnx", Judge(lambda at: True, lambda at: 0.0))  # type: ignore[arg-type]
    assert done.path.stat().st_size < 0.6 * fp32.stat().st_size
    with pytest.raises(DistillError, match=r"precision=fp16: 49\.0 mAP50-95"):
        to_fp16(fp32, tmp_path / "b.onnx", Judge(lambda at: False, lambda at: 1.0))  # type: ignore[arg-type]


def test_distance_looks_at_what_is_sure() -> None:
    right = np.zeros((6, 3))
    right[:4] = [[10] * 3, [10] * 3, [4] * 3, [4] * 3]
    right[4] = [0.5, 0.01, 0.01]
    background, object_ = right.copy(), right.copy()
    background[:4, 1] += 1
    assert _distance(background, right) == 0
    object_[:4, 0] += 1  # a pixel off, of a box of 4 pixels, weighed by its score
    assert _distance(object_, right) == pytest.approx(0.5 * 0.25)
    object_[4, 0] = 0.7
    assert _distance(object_, right) == pytest.approx(0.7 * (0.2 + 0.25))


def test_distance_of_sorted_rows_does_not_mind_their_order() -> None:
    rows = np.random.default_rng(0).random((300, 6))
    assert _distance(rows[::-1], rows) == 0
    lower = rows.copy()
    lower[0, 4] -= 0.25
    assert _distance(lower, rows) > 0
