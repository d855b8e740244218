"""Figures, notes and tables of times that were made up."""

from __future__ import annotations

import re
from typing import Any

import pytest
from made_rows import made_row

from yolo_distill.benchmark.engines import OurEngine
from yolo_distill.benchmark.report import arm_figures, model_figures, notes_of, row_figures
from yolo_distill.benchmark.rounds import Arm
from yolo_distill.benchmark.tables import markdown_page, tables_of

PROCESS = {"memory_bytes": 123_000_000, "import_ms": 5.0, "ready_ms": 40.0}


def arm(label: str, times: list[list[float]], backend: str = "ours", found: int = 3, **made: Any) -> Arm:
    networks = [[one / 2 for one in part] for part in times]
    return Arm(made_row(label, backend, **made), 1, None, times, networks, [found] * len(times))


def report_of(*arms: Arm, data: str | None = None, base: Arm | None = None, **changed: Any) -> dict[str, Any]:
    """Return a report in which every arm is a row, compared with the first."""
    first = [base or arms[0]]
    accuracies = {one.row.model.label: {"map": 0.5} if data else None for one in arms}
    report = {
        "date": "2026-11-01T12:00:00+0000",
        "settings": {"threads": [1], "rounds": 2, "conf": 0.25, "device": "cpu", "data": data},
        "machine": {"cpu": "a processor", "cores": 4, "usable_cores": 2},
        "versions": {"yolo_distill": "1", "numpy": "2", "onnxruntime": "3"},
        "pictures": {"source": "drawn noise", "count": 2},
        "models": [
            model_figures(model, accuracies[model.label])
            for model in {one.row.model.label: one.row.model for one in arms}.values()
        ],
        "rows": [row_figures(one.row, [one], first, PROCESS, accuracies[one.row.model.label]) for one in arms],
        "left_out": [],
        "failed": [],
        **changed,
    }
    return {**report, "notes": notes_of(report)}


def test_figures_of_an_arm():
    base = arm("a.onnx", [[10.0, 10.0], [20.0]])
    figures = arm_figures(arm("b.onnx", [[15.0, 15.0], [50.0]]), base)
    assert figures["p50_ms"] == 15.0
    assert figures["p95_ms"] == 46.5  # place 1.9 of 15, 15, 50
    assert figures["fps"] == 37.5  # three pictures in 80 ms
    assert figures["network_p50_ms"] == 7.5
    assert figures["ratio_each_round"] == [1.5, 2.5]
    assert figures["ratio"] == 2.0
    assert figures["ratio_quartiles"] == [1.75, 2.25]
    assert figures["ratio_noisy"] is True


def test_quiet_rounds_need_no_note():
    assert report_of(arm("a.onnx", [[10.0], [30.0]]), arm("b.onnx", [[20.0], [60.0]]))["notes"] == []


@pytest.mark.parametrize(
    ("others", "says"),
    [
        (
            {"b.onnx": [[20.0], [30.0]], "c.onnx": [[20.0], [90.0]]},
            r"2 of 2 ratios are doubtful, the worst is c.onnx by yolo-distill \(1 thr.\).*3.75 to 7.25",
        ),
        ({"b.onnx": [[9.9], [10.1]]}, r"not to be told apart from the first: b.onnx by yolo-distill \(1 thr.\)$"),
    ],
)
def test_doubtful_ratios_are_said(others, says):
    (note,) = report_of(arm("a.onnx", [[10.0], [10.0]]), *(arm(*one) for one in others.items()))["notes"]
    assert re.search(says, note)


def test_one_file_that_two_read_differently_is_said():
    times = [[10.0], [10.0]]
    report = report_of(arm("a.onnx", times, found=7), arm("a.onnx", [[20.0], [20.0]], "host", found=0))
    (note,) = report["notes"]
    assert note.startswith("a.onnx: ultralytics finds 0.0 boxes a picture, yolo-distill 7.0")


def test_sizes_threads_and_folders_are_said():
    times = [[10.0], [10.0]]
    twice = [[20.0], [20.0]]
    report = report_of(
        arm("a.onnx", times),
        arm("b_ncnn_model", twice, "ncnn", kind="ncnn", side=96),
        arm("c.pt", twice, "host", kind="pt"),
        data="data.yaml",
    )
    report["settings"]["threads"] = [1, 8]
    notes = "\n".join(notes_of(report))
    assert "8 threads share the 2 cores" in notes
    assert "different sizes: a.onnx 64x64, b_ncnn_model 96x96, c.pt 64x64" in notes
    assert "smallest rectangle" in notes
    assert "no mAP of b_ncnn_model" in notes


def test_without_the_first_the_lack_of_ratios_is_said():
    alone = arm("b.onnx", [[20.0], [20.0]])
    rows = [row_figures(alone.row, [alone], [], PROCESS, None)]
    report = report_of(alone, rows=rows, failed=[{"name": "a.onnx by yolo-distill", "error": "broke"}])
    assert report["notes"][0] == "a.onnx by yolo-distill failed: broke"
    assert report["notes"][1].startswith("no ratios")


def test_a_lower_precision_has_no_accuracy():
    faster = arm("a.onnx", [[5.0], [5.0]], "openvino")
    faster.engine = object.__new__(OurEngine)  # never opened; only its precision is asked for
    faster.engine.precision = "bf16"
    report = report_of(arm("a.onnx", [[10.0], [10.0]]), faster, data="data.yaml")
    assert [row["map"] for row in report["rows"]] == [0.5, None]
    assert [row["precision"] for row in report["rows"]] == ["fp32", "bf16"]
    (note,) = report["notes"]
    assert note.startswith("openvino computes a.onnx in bf16")
    assert "openvino-fp32" in note


def test_tables_for_the_terminal_and_in_markdown():
    report = report_of(arm("a.onnx", [[10.0], [10.0]]), arm("b|c.onnx", [[25.0], [25.0]]), data="data.yaml")
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
    report = report_of(arm("a.onnx", [[123.4], [123.4]]))
    report["settings"]["threads"] = [1, 2]
    overview, by_threads = tables_of(report)
    assert by_threads.rows == [["a.onnx", "yolo-distill", "123", "1", "-", "-"]]  # three digits are enough
    assert overview.rows[0][overview.header.index("FPS, 2 thr.")] == "-"
