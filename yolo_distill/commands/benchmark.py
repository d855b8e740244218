"""`yolo-distill benchmark`: models side by side on this machine: latency, throughput, memory, size, accuracy."""

from __future__ import annotations

import sys
from typing import Any

from yolo_distill.results import BenchmarkResult
from yolo_distill.settings import Setting
from yolo_distill.spelling import DATA, NO_DATA, WEIGHTS

SUMMARY = "time models side by side: latency, FPS, memory, size and mAP, beside Ultralytics, OpenVINO, ncnn"

SETTINGS = {
    "model": Setting(
        str,
        "with commas between: .onnx, .pt, *_openvino_model, *_ncnn_model; the first is 1",
        required=True,
        alone=NO_DATA,
        several=True,
    ),
    "data": Setting(str, "data set file (.yaml): mAP as well, and its pictures to time on", alone=DATA),
    "split": Setting(str, "split of data=", "val"),
    "source": Setting(str, "picture or folder to time on; not set: pictures of data=, else drawn ones"),
    "imgsz": Setting(str, "input size in pixels, or height,width, for .pt and files with a dynamic input"),
    "threads": Setting(str, "numbers of threads, as 1,2; not set: one, and all cores"),
    "rounds": Setting(int, "turns that each model has", 20, low=2, high=10_000),
    "seconds": Setting(float, "of each measurement (a model, who runs it, on so many threads)", 5.0, low=0, high=3600),
    "conf": Setting(float, "scores have to be above", 0.25, low=0, high=1),
    "device": Setting(str, "cpu, or 0 for the first GPU (ours: where onnxruntime has CUDA)", "cpu"),
    "backends": Setting(
        str, "who runs them: auto, or some of ours,host,openvino,openvino-fp32,ncnn; auto: whatever is there", "auto"
    ),
    "out": Setting(
        str, "folder for the results (benchmark2, ... where it is taken), or a .json file", "runs/benchmark"
    ),
    "trust": Setting(bool, "load checkpoints without the restricted loader; they can then run code", False),
}

NOTES = """\
All are measured in one process, in rounds: each round takes one picture and gives every model its turn on it, another
one first each time. Ratios are taken within rounds, so that what else the machine does leaves them alone; in brackets
stand their quartiles. Memory and time to be ready (load, and first answer) are those of a process that runs one model.
Everyone has the same threads, OpenCV's too. Pictures are in memory before. Also: pip install openvino ncnn.

  yolo-distill benchmark model=best.onnx,best.pt data=my_data.yaml"""


ALSO = WEIGHTS


def call(settings: dict[str, Any]) -> BenchmarkResult:
    """Measure, and write the results."""
    from yolo_distill.benchmarking.output import write_results
    from yolo_distill.benchmarking.run import Request, benchmark
    from yolo_distill.commands.predict import read_imgsz
    from yolo_distill.runtime.progress import Progress

    request = Request(**{**settings, "imgsz": read_imgsz(settings["imgsz"])})
    report = benchmark(request, Progress())
    files, lacking = write_results(report, request.out)
    report["notes"] += filter(None, [lacking])
    first = str(report["settings"]["threads"][0])
    medians = {f"{row['model']}, {row['backend']}": row["threads"].get(first, {}) for row in report["rows"]}
    return BenchmarkResult(
        files=files,
        p50_ms={name: figures["p50_ms"] for name, figures in medians.items() if figures},
        failed={one["name"]: one["error"] for one in report["failed"]},
        report=report,
    )


def run(settings: dict[str, Any]) -> int:
    """Measure, print the tables; return 1 if a model failed while others were measured."""
    from yolo_distill.benchmarking.tables import setting_line, tables_of

    result = call(settings)
    report = result.report
    print("\n\n".join(table.text() for table in tables_of(report)), end="\n\n")
    for note in report["notes"]:
        print(f"note: {note}")
    print(setting_line(report))
    print(f"results: {', '.join(map(str, result.files))}")
    if result.failed:
        print(f"yolo-distill: failed: {', '.join(result.failed)}", file=sys.stderr)
        return 1
    return 0
