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
from compilers import KOTLINC, PROGRAMS, compile_with
from live_detector import draw, live_detector, save
from made_detector import dense, write_detector
from tiny_yolo import write_architecture

from yolo_distill.exporting.export import export
from yolo_distill.exporting.report import ExportReport
from yolo_distill.graphs.input_form import NOTES
from yolo_distill.paths import export_dir
from yolo_distill.runtime.detector import Detections, Detector

EXPORT = Path(__file__).resolve().parents[1] / "export"
README = (EXPORT / "README.md").read_text(encoding="utf-8")
STUBS = Path(__file__).parent / "export_programs" / "stubs"
TARGETS = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in export_dir().glob("*.yaml")}
PLACES = [*os.environ.get("NODE_PATH", "").split(os.pathsep), str(EXPORT / "web" / "node_modules")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    folder = tmp_path_factory.mktemp("exported")
    tiny = str(write_architecture(folder / "tiny.yaml"))
    model = live_detector(tiny, ["round", "it's square"])
    for branch in ("cv2", "one2one_cv2"):
        for level in getattr(model.model[-1], branch):
            level[-1].bias.data[:] = 4.0  # boxes of eight cells: neighbours are for NMS
    checkpoint = save(model, folder / "best.pt", 64)
    (folder / "images").mkdir()
    for number, picture in enumerate(draw(3, 64, 96)):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [round, it's square]\n")
    return export(checkpoint, data=folder / "data.yaml", imgsz="64,96", target="browser", out=folder)


def programs(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def program(language: str) -> str:
    (code,) = programs(language)
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
    assert keys("## Metadata") == report.metadata.keys() | NOTES.keys() | {"kept_fp32", "kpt_shape"}


def test_the_programs_for_phones_read_what_exists(report: ExportReport) -> None:
    kotlin, swift = (PROGRAMS.joinpath(f"Detector.{end}").read_text("utf-8") for end in ("kt", "swift"))
    noted = set(re.findall(r'notes(?:\.getValue\(|\[)"(\w+)"', kotlin))
    noted |= set(re.findall(r'wholes\("(\w+)"', kotlin))
    assert noted == {"names", "imgsz", "task", "end2end", "kpt_shape"} <= report.metadata.keys() | {"kpt_shape"}
    about = {"names", "imgsz", "task", "end2end", "tensors"}
    written = {field.name for field in dataclasses.fields(ExportReport)}
    assert set(re.findall(r"\babout\.(\w+)", swift)) == {*about, "metadata"} <= written
    assert re.findall(r'about\.metadata\["(\w+)"', swift) == ["kpt_shape"]
    assert set(re.findall(r'about\.tensors\["(\w+)"', swift)) == {"input", "output", "prototypes"}
    for tensor in ("input", "output"):
        assert {"name", "type", "shape"} <= report.tensors[tensor].keys()


def as_rows(found: Detections) -> np.ndarray:
    return np.column_stack([found.class_id, found.confidence, found.xyxy])


def read_rows(text: str, names: dict[int, str]) -> np.ndarray:
    """Return class, score and corners of the lines that a program prints."""
    lines = [line.rsplit(" ", 5) for line in text.strip().split("\n")]
    indices = {name: index for index, name in names.items()}
    return np.array([[indices[name], *map(float, rest)] for name, *rest in lines])


def check_rows(found: np.ndarray, expected: np.ndarray) -> None:
    """Assert that a program found what `Detector` finds, which is several objects of both classes."""
    assert found.shape == expected.shape
    assert min(np.bincount(expected[:, 0].astype(int), minlength=2)) > 1
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    np.testing.assert_allclose(found[:, 1], expected[:, 1], atol=1e-3)
    np.testing.assert_allclose(found[:, 2:], expected[:, 2:], atol=0.1)


def test_the_program_for_browsers_answers_like_the_detector(report: ExportReport, tmp_path: Path) -> None:
    packages = next((Path(place) for place in PLACES if place and (Path(place) / "onnxruntime-web").is_dir()), None)
    if not shutil.which("node") or packages is None:
        pytest.skip("no node with onnxruntime-web (npm ci in export/web, or NODE_PATH says where it is)")
    (picture,) = draw(1, 100, 180, seed=11)
    rgba = cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA)
    (tmp_path / "picture.json").write_text(json.dumps({"height": 100, "width": 180, "rgba": rgba.ravel().tolist()}))
    (tmp_path / "node_modules").symlink_to(packages)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copytree(EXPORT / "web" / "js", tmp_path / "js")
    (tmp_path / "program.mjs").write_text(program("js"))
    shutil.copy(report.path, tmp_path)
    (tmp_path / "page.mjs").write_text(PAGE)
    done = subprocess.run(["node", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    detector = Detector(report.path)
    check_rows(read_rows(done.stdout, detector.names), as_rows(detector(picture)))
    assert len(detector(picture)) < len(detector(picture, iou=1.0))  # NMS had something to do


def build_cpp(code: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Compile a program as the README says, in a folder that becomes the current one."""
    monkeypatch.chdir(folder)
    Path("export").mkdir()
    Path("export/programs").symlink_to(PROGRAMS)
    Path("find.cpp").write_text(code)
    (command,) = re.findall(r"^g\+\+.*?-o find$", README, re.DOTALL | re.MULTILINE)
    headers = [Path("/usr/include/onnxruntime/onnxruntime_cxx_api.h"), Path("/usr/include/opencv4/opencv2")]
    if missing := [str(header) for header in headers if not header.exists()]:
        pytest.skip(f"no {', '.join(missing)} here (Debian's libonnxruntime-dev and libopencv-imgcodecs-dev)")
    compile_with(command.replace("\\\n", " ").split())


@pytest.mark.slow
def test_the_program_in_cpp_answers_like_the_detector(
    report: ExportReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cpp(program("cpp"), monkeypatch, tmp_path)
    (picture,) = draw(1, 100, 180, seed=11)
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    (tmp_path / "picture.png").rename(tmp_path / "picture.jpg")  # without losses, under the program's name

    def run(file: Path) -> subprocess.CompletedProcess[str]:
        shutil.copy(file, tmp_path / "best.onnx")
        return subprocess.run(["./find"], capture_output=True, text=True, timeout=100)

    folder = Path(report.path).parent
    out = tmp_path / "one2one.onnx"
    final = export(folder / "best.pt", data=folder / "data.yaml", imgsz="64,96", nms=False, out=out)
    for file in map(Path, (report.path, final.path)):
        done = run(file)
        assert done.returncode == 0, done.stderr
        detector = Detector(file)
        check_rows(read_rows(done.stdout, detector.names), as_rows(detector(picture)))
    for bad, said in (
        (write_detector(tmp_path / "half.onnx", dense(), half=True), "takes no float32: export it with input=floats"),
        (write_detector(tmp_path / "other.onnx", dense(), task="classify"), "is for classify"),
        (write_detector(tmp_path / "short.onnx", dense(), task="obb"), "answers in another shape than its notes say"),
    ):
        done = run(bad)
        assert done.returncode != 0
        assert f"the model {said}" in done.stderr


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a small exported file of each other task."""
    files = {}
    for task in ("segment", "pose", "obb"):
        folder = tmp_path_factory.mktemp(task)
        tiny = str(write_architecture(folder / "tiny.yaml", width=4, task=task))
        checkpoint = save(live_detector(tiny, task=task), folder / "best.pt", 64)
        (folder / "images").mkdir()
        cv2.imwrite(str(folder / "images" / "0.png"), draw(1, 64, 96)[0])
        (folder / "data.yaml").write_text("train: images\nval: images\nnames: [round, square]\n")
        files[task] = Path(export(checkpoint, data=folder / "data.yaml", imgsz="64,96", out=folder).path)
    return files


@pytest.mark.slow
def test_the_detector_in_cpp_finds_what_other_tasks_add(
    tasks: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = """
        for (const float number : found.own) std::cout << number << " ";
        std::cout << std::count(found.mask.bits.begin(), found.mask.bits.end(), 1) << " ";"""
    build_cpp(
        program("cpp").replace("found : detector(pixels)) {", "found : detector(pixels)) {" + more),
        monkeypatch,
        tmp_path,
    )
    (picture,) = draw(1, 100, 180, seed=11)
    cv2.imwrite("picture.png", picture)
    Path("picture.png").rename("picture.jpg")
    for task, file in tasks.items():
        shutil.copy(file, "best.onnx")
        done = subprocess.run(["./find"], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        detector = Detector(file)
        found = detector(picture)
        own, area = np.zeros((len(found), 0)), np.zeros(len(found))
        if task == "segment":
            area = found.masks.data.sum((1, 2))
        else:
            own = found.turned if task == "obb" else found.keypoints.data.reshape(len(found), -1)
        lines = [line.split(" ") for line in done.stdout.strip().split("\n")]
        assert len(lines) == len(found) > 5
        said = np.array([one[: own.shape[1] + 1] for one in lines], float)
        np.testing.assert_allclose(said[:, :-1], own, atol=0.1)
        np.testing.assert_allclose(said[:, -1], area, rtol=0.01, atol=2)
        check_rows(
            read_rows("\n".join(" ".join(one[own.shape[1] + 1 :]) for one in lines), detector.names), as_rows(found)
        )


@pytest.mark.slow
def test_the_program_in_kotlin_compiles(tmp_path: Path) -> None:
    (tmp_path / "Finder.kt").write_text(program("kotlin"))
    sources = [*PROGRAMS.glob("*.kt"), *STUBS.glob("*.kt"), tmp_path / "Finder.kt"]
    compile_with(KOTLINC, *sources, "-d", tmp_path / "classes")


@pytest.mark.slow
def test_the_programs_in_swift_compile(tmp_path: Path) -> None:
    for name in ("CoreGraphics", "OnnxRuntimeBindings", "CoreVideo", "CoreML"):
        module = ["-emit-module", "-module-name", name, "-emit-module-path", tmp_path / f"{name}.swiftmodule"]
        compile_with(["swiftc", "-parse-as-library"], *module, "-I", tmp_path, STUBS / f"{name}.swift")
    check = ["swiftc", "-typecheck", "-warnings-as-errors", "-parse-as-library", "-I", str(tmp_path)]
    for code in programs("swift"):
        (tmp_path / "app.swift").write_text(code)
        needed = ["Yolo"] if "import CoreML" in code else ["Yolo", "Masks", "Detector"]
        compile_with(check, *(PROGRAMS / f"{name}.swift" for name in needed), tmp_path / "app.swift")


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_what_swift_reads_of_a_file_alone(
    task: str, report: ExportReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if task == "segment":
        model = live_detector(str(write_architecture(Path("tiny.yaml"), task=task)), task=task)
        report = export(save(model, Path("seg.pt"), 64))
    shutil.copy(report.path, "best.onnx")
    (code,) = [code for code in programs("python") if "custom_metadata_map" in code]
    exec(code, {})
    about, whole = json.loads(Path("best.json").read_text()), json.loads(Path(report.proof).read_text())
    ends = whole["tensors"].items()
    tensors = {end: {key: found[key] for key in ("name", "type", "shape")} for end, found in ends}
    assert about == {
        **{key: whole[key] for key in ("names", "imgsz", "end2end", "task", "metadata")},
        "tensors": tensors,
    }


# The parts of a browser that the program needs.
PAGE = """
import { readFileSync } from "node:fs";
globalThis.fetch = async (name) => ({
  arrayBuffer: async () => new Uint8Array(readFileSync(name)).buffer,
  blob: async () => JSON.parse(readFileSync("picture.json")),
});
globalThis.createImageBitmap = async (picture) => picture;
globalThis.OffscreenCanvas = class {
  constructor(width, height) { Object.assign(this, { width, height, canvas: this }); }
  getContext() { return this; }
  drawImage(picture, left, top, width, height) { Object.assign(this, { picture, drawn: [left, top, width, height] }); }
  getImageData(...place) {
    const { width, height, rgba } = this.picture;
    if (`${place}` !== `0,0,${width},${height}` || `${this.drawn}` !== `${place}`) throw new Error(`${place}`);
    return { width, height, data: Uint8ClampedArray.from(rgba) };
  }
};
await import("./program.mjs");
"""
