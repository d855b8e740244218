"""Figures, notes and tables of times that were made up."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from made_rows import made_row

from yolo_distill.benchmarking.report import arm_figures, model_figures, notes_of, row_figures
from yolo_distill.benchmarking.rounds import Arm
from yolo_distill.benchmarking.tables import markdown_page, tables_of

PROCESS = {"memory_bytes": 123_000_000, "import_ms": 5.0, "ready_ms": 40.0}
TEN = [[10.0], [10.0]]
TWENTY = [[20.0], [20.0]]


def arm(label: str, times: list[list[float]], backend: str = "ours", found: int = 3, **made: Any) -> Arm:
    networks = [[one / 2 for one in part] for part in times]
    return Arm(made_row(label, backend, **made), 1, None, times, networks, [found] * len(times))


def report_of(*arms: Arm, data: str | None = None, threads: tuple[int, ...] = (1,)) -> dict[str, Any]:
    """Return a report in which every arm is a row, compared with the first."""
    accuracies = {one.row.model.label: {"map": 50.0} if data else None for one in arms}
    models = {one.row.model.label: one.row.model for one in arms}.values()
    report = {
        "date": "2026-11-01T12:00:00+0000",
        "settings": {"threads": [*threads], "rounds": 2, "conf": 0.25, "device": "cpu", "data": data},
        "machine": {"cpu": "a processor", "cores": 4, "usable_cores": 2},
        "versions": {"yolo_distill": "1", "numpy": "2", "onnxruntime": "3"},
        "pictures": {"source": "drawn noise", "count": 2},
        "models": [model_figures(model, accuracies[model.label]) for model in models],
        "rows": [row_figures(one.row, [one], arms[:1], PROCESS, accuracies[one.row.model.label]) for one in arms],
        "left_out": [],
        "failed": [],
    }
    return {**report, "notes": notes_of(report)}


def test_the_front_is_named():
    """Neither what is slower and no better, nor what has no mAP, is on it."""
    report = report_of(arm("a.onnx", TWENTY), arm("b.onnx", TEN), arm("c.onnx", TEN), arm("d.onnx", TWENTY), data="d")
    for row, found in zip(report["rows"], (50.0, 40.0, 39.0, None), strict=True):
        row["map"] = found
    assert [note for note in notes_of({**report, "left_out": []}) if "front" in note] == [
        "on the front of time and mAP, fastest first: b.onnx by yolo-distill, a.onnx by yolo-distill"
    ]


def test_figures_of_an_arm():
    figures = arm_figures(arm("b.onnx", [[15.0, 15.0], [50.0]]), arm("a.onnx", [[10.0, 10.0], [20.0]]))
    assert figures["p50_ms"] == 15.0
    assert figures["p95_ms"] == 46.5  # place 1.9 of 15, 15, 50
    assert figures["fps"] == 37.5  # three pictures in 80 ms
    assert figures["network_p50_ms"] == 7.5
    # Within rounds: the slow second round, slow for both, is as good as the first.
    assert figures["ratio_each_round"] == [1.5, 2.5]
    assert (figures["ratio"], figures["ratio_quartiles"], figures["ratio_noisy"]) == (2.0, [1.75, 2.25], True)


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ([arm("a.onnx", [[10.0], [30.0]]), arm("b.onnx", [[20.0], [60.0]])], []),  # quiet
        (
            [arm("a.onnx", TEN), arm("b.onnx", [[20.0], [30.0]]), arm("c.onnx", [[20.0], [90.0]])],
            [r"2 of 2 ratios are doubtful, the worst is c.onnx by yolo-distill \(1 thr.\), .* 3.75 to 7.25"],
        ),
        (
            [arm("a.onnx", TEN), arm("b.onnx", [[9.9], [10.1]])],
            [r"^not to be told apart from the first: b.onnx by yolo-distill \(1 thr.\)$"],
        ),
        (
            [arm("a.onnx", TEN, found=7), arm("a.onnx", TWENTY, "host", found=0)],
            ["^a.onnx: ultralytics finds 0.0 boxes a picture, yolo-distill 7.0"],
        ),
        (
            [arm("a.onnx", TEN), arm("b_ncnn_model", TWENTY, "ncnn", kind="ncnn", side=96)],
            ["different sizes: a.onnx 64x64, b_ncnn_model 96x96"],
        ),
        ([arm("c.pt", TEN, "host", kind="pt")], ["smallest rectangle"]),
    ],
)
def test_what_has_to_be_said_is_said(arms, says):
    notes = report_of(*arms)["notes"]
    assert len(notes) == len(says)
    assert all(re.search(*pair) for pair in zip(says, notes, strict=True))


def test_threads_and_folders_are_said():
    report = report_of(arm("b_ncnn_model", TEN, "ncnn", kind="ncnn"), data="data.yaml", threads=(1, 8))
    assert report["notes"] == [
        "8 threads share the 2 cores there are for them", "no mAP of b_ncnn_model: only .pt and .onnx are measured",
    ]  # fmt: skip


def test_without_the_first_the_lack_of_ratios_is_said():
    alone = arm("b.onnx", TWENTY)
    report = report_of(alone)
    report["rows"] = [row_figures(alone.row, [alone], [], PROCESS, None)]
    report["failed"] = [{"name": "a.onnx by yolo-distill", "error": "broke"}]
    failed, lacking = notes_of(report)
    assert failed == "a.onnx by yolo-distill failed: broke"
    assert lacking.startswith("no ratios")


def test_a_lower_precision_has_no_accuracy():
    faster = arm("a.onnx", [[5.0], [5.0]], "openvino")
    faster.engine = SimpleNamespace(precision="bf16")  # type: ignore[assignment]
    report = report_of(arm("a.onnx", TEN), faster, data="data.yaml")
    assert [(row["map"], row["precision"]) for row in report["rows"]] == [(50.0, "fp32"), (None, "bf16")]
    (note,) = report["notes"]
    assert note.startswith("openvino computes a.onnx in bf16")
    assert "openvino-fp32" in note


def test_tables_for_the_terminal_and_in_markdown():
    report = report_of(arm("a.onnx", TEN), arm("b|c.onnx", [[25.0], [25.0]]), data="data.yaml")
    (table,) = tables_of(report)
    title, header, first, second = table.text().splitlines()
    assert title == "One picture at a time; latency on 1 thread"
    assert header.split("  ")[0] == "model"
    assert first.split() == [
        "a.onnx", "yolo-distill", "fp32", "64", "1.0", "10.0", "10.0", "5.00", "1", "100.0", "123", "40", "50.0",
    ]  # fmt: skip
    assert "2.50 [2.50, 2.50]" in second
    page = markdown_page(report)
    assert r"| b\|c.onnx | yolo-distill |" in page
    assert page.endswith("a processor, 2 of 4 cores; 2 pictures (drawn noise), 2 rounds, conf 0.25, device cpu; "
                         "onnxruntime 3; 2026-11-01\n")  # fmt: skip


def test_a_number_of_threads_that_failed_is_a_dash():
    overview, by_threads = tables_of(report_of(arm("a.onnx", [[123.4], [123.4]]), threads=(1, 2)))
    assert by_threads.rows == [["a.onnx", "yolo-distill", "123", "1", "-", "-"]]  # three digits are enough
    assert overview.rows[0][overview.header.index("FPS, 2 thr.")] == "-"
