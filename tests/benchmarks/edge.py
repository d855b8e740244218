"""What int8 and fp16 cost and gain on this CPU, for trained students.

    python tests/benchmarks/edge.py models=a.pt@bccd.yaml,b.pt@aquarium.yaml imgsz=320 results=runs/edge.jsonl

Each checkpoint is exported in each precision by the exporter, which measures mAP on val itself; then all files of one
model take turns on one picture of noise, for each number of threads. mAP on test is measured as well where the data has
one. A setting that is in `results=` is not measured again; `table=true` only prints the table of what is there.
`precisions=fp32,int8`, `threads=1,2`, `seconds=20`, `max_drop=0.3` by default.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.exporting.export import export
from yolo_distill.exporting.report import ExportReport
from yolo_distill.machine import machine, versions
from yolo_distill.timing import in_turns, session_run


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    results = Path(options["results"])
    if options.get("table") == "true":
        print(table(results))
        return
    imgsz = int(options.get("imgsz", 320))
    results.parent.mkdir(parents=True, exist_ok=True)
    for entry in options["models"].split(","):
        checkpoint, data = entry.rsplit("@", 1)
        precisions = options.get("precisions", "fp32,int8").split(",")
        key = (name(checkpoint, data), imgsz)
        done = {line["precision"] for line in read(results) if (line["model"], line["imgsz"]) == key}
        if done >= set(precisions):
            continue
        with tempfile.TemporaryDirectory() as folder, results.open("a") as stream:
            drop = float(options.get("max_drop", 0.3))
            reports = {one: make(checkpoint, data, imgsz, one, drop, Path(folder)) for one in precisions}
            threads = [int(one) for one in options.get("threads", "1,2").split(",")]
            times = {count: timed(reports, count, float(options.get("seconds", 20))) for count in threads}
            for precision, report in reports.items():
                line = {
                    "model": name(checkpoint, data),
                    "imgsz": imgsz,
                    "precision": precision,
                    "map": {"val": report.accuracy[precision]["map"], **on_test(report.path, data)},
                    "file_bytes": report.file_bytes,
                    "ms": {str(count): ms[precision] for count, ms in times.items()},
                    "calibration": report.calibration,
                    "versions": versions(),
                    "machine": machine(),
                }
                stream.write(json.dumps(line) + "\n")
        print(table(results), flush=True)


def name(checkpoint: str, data: str) -> str:
    """Return what a line is about: the checkpoint and the data set, without where they lie."""
    return f"{Path(checkpoint).stem} ({Path(data).parent.name})"


def make(checkpoint: str, data: str, imgsz: int, precision: str, max_drop: float, folder: Path) -> ExportReport:
    """Export into a file named after the precision."""
    return export(
        checkpoint,
        data=data,
        imgsz=imgsz,
        precision=precision,
        max_drop=max_drop,
        out=folder / f"{precision}.onnx",
        say=print,
    )


def on_test(file: str, data: str) -> dict[str, float]:
    """Return mAP50-95 on test in points, if there is a test split."""
    if not yaml.safe_load(Path(data).read_text()).get("test"):
        return {}
    return {"test": round(100 * evaluate(file, data, split="test")["map"], 2)}


def timed(reports: dict[str, ExportReport], threads: int, seconds: float) -> dict[str, float]:
    """Return milliseconds of each file, in turns."""
    programs = {precision: session_run(Path(report.path), threads) for precision, report in reports.items()}
    return in_turns(programs, seconds=seconds, most=1000)


def read(results: Path) -> Iterator[dict[str, Any]]:
    if results.is_file():
        yield from map(json.loads, results.read_text().splitlines())


def table(results: Path) -> str:
    """Return the results as a Markdown table: each precision beside fp32."""
    lines = list(read(results))
    whole = {(line["model"], line["imgsz"]): line for line in lines if line["precision"] == "fp32"}
    rows = [
        "| model | px | precision | test (val) | to fp32 | faster, by threads | size | in fp32 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        base, points = whole[line["model"], line["imgsz"]], line["map"]
        shown = "test" if "test" in points else "val"
        drop = gain = ""
        if line is not base:
            drop = f"{points[shown] - base['map'][shown]:+.1f} ({points['val'] - base['map']['val']:+.1f})"
            gain = ", ".join(f"{count}: {base['ms'][count] / ms:.2f}x" for count, ms in line["ms"].items())
        cells = [
            line["model"],
            str(line["imgsz"]),
            line["precision"],
            f"{points[shown]:.1f} ({points['val']:.1f})",
            drop,
            gain,
            f"{line['file_bytes'] / base['file_bytes']:.2f}",
            ", ".join(line["calibration"].get("kept", [])),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
