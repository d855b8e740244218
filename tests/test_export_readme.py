"""What export/README.md tells the writers of apps: every target, key and note, and programs that use what exists."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from live_detector import draw, live_detector, save
from tiny_yolo import write_architecture

from yolo_distill.exporting.export import export
from yolo_distill.exporting.report import ExportReport
from yolo_distill.graphs.input_form import NOTES
from yolo_distill.paths import export_dir
from yolo_distill.runtime.detector import Detector

EXPORT = Path(__file__).resolve().parents[1] / "export"
README = (EXPORT / "README.md").read_text(encoding="utf-8")
TARGETS = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in export_dir().glob("*.yaml")}
PLACES = [*os.environ.get("NODE_PATH", "").split(os.pathsep), str(EXPORT / "web" / "node_modules")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    folder = tmp_path_factory.mktemp("exported")
    tiny = str(write_architecture(folder / "tiny.yaml"))
    checkpoint = save(live_detector(tiny, ["round", "it's square"]), folder / "best.pt", 64)
    (folder / "images").mkdir()
    for number, picture in enumerate(draw(3, 64, 96)):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [round, it's square]\n")
    return export(checkpoint, data=folder / "data.yaml", imgsz="64,96", target="browser", out=folder)


def program(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    return code


def keys(heading: str) -> set[str]:
    """Return what the first column of a section's table names."""
    section = README.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return {key for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for key in re.findall(r"`(.+?)`", row)}


def test_every_target_and_every_key_of_a_target_is_named() -> None:
    asked = set().union(*TARGETS.values())
    assert keys("## Targets") == TARGETS.keys() | asked


def test_the_table_of_targets_says_what_the_files_say() -> None:
    for name, says in TARGETS.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*", README, re.MULTILINE)
        assert f"| {', '.join(says['precisions'])} | {says['input']}" in row
        assert ("best.ort" in row) == says["ort"]


def test_the_metadata_in_the_table_is_what_a_file_carries(report: ExportReport) -> None:
    assert keys("## Metadata") == report.metadata.keys() | NOTES.keys() | {"kept_fp32"}


def test_the_programs_read_what_exists(report: ExportReport) -> None:
    written = {field.name for field in dataclasses.fields(ExportReport)}
    for language in ("js", "swift"):
        assert set(re.findall(r"\babout\.(\w+)", program(language))) == {"names", "imgsz", "tensors"} <= written
    for language, call in (("cpp", "LookupCustomMetadataMapAllocated"), ("kotlin", "notes.getValue")):
        found = set(re.findall(rf'{re.escape(call)}\("(\w+)"', program(language)))
        assert found == {"names", "imgsz"} <= report.metadata.keys()


def test_the_program_for_browsers_answers_like_the_detector(report: ExportReport, tmp_path: Path) -> None:
    packages = next((Path(place) for place in PLACES if place and (Path(place) / "onnxruntime-web").is_dir()), None)
    if not shutil.which("node") or packages is None:
        pytest.skip("no node with onnxruntime-web (npm ci in export/web, or NODE_PATH says where it is)")
    (picture,) = draw(1, 41, 96, seed=7)  # as wide as the input, so that the canvas below need not resize
    rgba = cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA)
    (tmp_path / "picture.json").write_text(json.dumps({"height": 41, "width": 96, "rgba": rgba.ravel().tolist()}))
    (tmp_path / "node_modules").symlink_to(packages)
    (tmp_path / "program.mjs").write_text(program("js"))
    for file in (report.path, report.proof):
        shutil.copy(file, tmp_path)
    (tmp_path / "page.mjs").write_text(PAGE)
    done = subprocess.run(["node", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    label, score = done.stdout.strip().rsplit(" ", 1)
    wanted = Detector(report.path)(picture, conf=0)
    assert label == wanted.names[wanted.class_id[0]]
    assert float(score) == pytest.approx(wanted.confidence[0], abs=1e-4)
    assert np.ptp(wanted.confidence) > 0.1


# The parts of a browser that the program needs; the canvas does not resize.
PAGE = """
import { readFileSync } from "node:fs";
globalThis.fetch = async (name) => ({
  json: async () => JSON.parse(readFileSync(name)),
  arrayBuffer: async () => new Uint8Array(readFileSync(name)).buffer,
  blob: async () => JSON.parse(readFileSync("picture.json")),
});
globalThis.createImageBitmap = async (picture) => picture;
globalThis.OffscreenCanvas = class {
  constructor(width, height) { Object.assign(this, { width, data: new Uint8ClampedArray(4 * width * height) }); }
  getContext() { return this; }
  fillRect() { this.data.fill(Number(this.fillStyle.match(/\\d+/)[0])); }
  drawImage(picture, left, top, columns, rows) {
    if (columns !== picture.width || rows !== picture.height) throw new Error(`${columns} x ${rows}`);
    for (let y = 0; y < rows; y++) {
      this.data.set(picture.rgba.slice(4 * columns * y, 4 * columns * (y + 1)), 4 * ((top + y) * this.width + left));
    }
  }
  getImageData() { return this; }
};
await import("./program.mjs");
"""
