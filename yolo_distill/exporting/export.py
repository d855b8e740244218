"""From a checkpoint to an ONNX file that is proved to answer like the checkpoint.

The host traces the model. What this module adds is the proof: the fp32 file is run by the runtime that will run it for
the user, on pictures, beside torch on the very same input; a file of lower precision is measured beside the fp32 file.
Only a file that passed appears under its name.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.util
import json
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from ultralytics import __version__ as host_version
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.errors import DistillError, RequestError, did_you_mean, missing_extra
from yolo_distill.exporting.acceptance import Guard, measure
from yolo_distill.exporting.export_data import ExportData, read_data
from yolo_distill.exporting.lower_precision import Calibration, Lowered, to_fp16, to_int8
from yolo_distill.exporting.onnx_file import annotate, sha256, trace
from yolo_distill.exporting.parity import BOX_TOLERANCE, SCORE_TOLERANCE, prove, prove_same
from yolo_distill.exporting.report import ExportReport
from yolo_distill.exporting.request_checks import input_size, require_branch
from yolo_distill.exporting.targets import INPUTS, Target, load_target
from yolo_distill.exporting.workspace import destination, earlier_extras, put_in_place, workspace
from yolo_distill.graphs.input_form import NOTES, take_pictures
from yolo_distill.graphs.mobile import PROVIDERS, check_suitability, suit_delegates, write_ort
from yolo_distill.models.checkpoint import load_detector, one_line
from yolo_distill.timing import in_turns, session_run
from yolo_distill.version import __version__


def _silent(text: str) -> None:
    """Say nothing."""


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is made of a checkpoint; the arguments of `export`, checked."""

    model: DetectionModel
    source: str
    target: Target
    precision: str
    input: str
    opset: int
    size: tuple[int, int]
    nms: bool | None
    max_drop: float
    say: Callable[[str], None]
    progress: Callable[[str], None]


def export(
    model_path: str | Path,
    *,
    imgsz: int | str | Sequence[int] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    nms: bool | None = None,
    target: str = "cpu",
    precision: str | None = None,
    input: str | None = None,
    opset: int | None = None,
    max_drop: float = 0.3,
    calibrate: int = 256,
    trust: bool = False,
    say: Callable[[str], None] = _silent,
    progress: Callable[[str], None] = _silent,
) -> ExportReport:
    """Export a checkpoint to ONNX and prove the file; a file that was there before stays until the new one passed.

    Args:
        model_path: a `.pt` file.
        imgsz: side of the square, or height and width, in pixels; by default what the model was trained at.
        data: data set file. Up to 32 pictures of its `val` are what the file is proved on; with labels, mAP is measured
            on all of `val`; int8 is calibrated on its `train`. Without it the pictures in the host's package are used,
            or drawn ones where there are none.
        out: the `.onnx` file, or a folder for it; by default beside the checkpoint and named like it, with the
            precision behind the name unless it is fp32.
        nms: None exports the one-to-many branch, whose boxes the runtime filters with NMS; False the one-to-one
            branch of an end-to-end model (v10, 26).
        target: name of a file in `export/`.
        precision: `fp32`, `fp16` or `int8`; the target's first when not given.
        input: `floats` or `pictures`; the target's when not given.
        opset: ONNX operator set; the target's when not given.
        max_drop: points of mAP50-95 that int8 or fp16 may lose.
        calibrate: how many pictures int8 is calibrated on, at most.
        trust: load the checkpoint without the allow-list.
        say: told what was found on the way, a line each.
        progress: told what is being done.

    Raises:
        RequestError: something about the checkpoint, the data or a setting has to change first.
        DistillError: tracing failed, or the file does not answer like the checkpoint; no file is left.
    """
    started = time.perf_counter()
    for package in ("onnx", "onnxslim", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "export")
    plan = _plan(model_path, target, precision, input, opset, imgsz, nms, max_drop, trust, say, progress)
    proving = read_data(data, plan.model, plan.size, plan.precision, calibrate)
    if proving.remark:
        say(proving.remark)
    path = destination(out, Path(str(plan.model.pt_path)), plan.precision)
    proof = path.with_suffix(".json")
    obsolete = earlier_extras(proof)
    with workspace(path, out) as folder:
        try:
            report, files = _make(plan, proving, folder, path)
            report = dataclasses.replace(report, seconds=round(time.perf_counter() - started, 2))
            note = folder / "proof.json"
            note.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
            put_in_place([(note, proof), *files], folder, obsolete)
        except OSError as error:
            raise DistillError(f"writing {path} failed ({error.strerror or one_line(error)})") from error
    return report


def _plan(
    model_path: str | Path,
    target: str,
    precision: str | None,
    input: str | None,
    opset: int | None,
    imgsz: int | str | Sequence[int] | None,
    nms: bool | None,
    max_drop: float,
    trust: bool,
    say: Callable[[str], None],
    progress: Callable[[str], None],
) -> _Plan:
    """Check what was asked for."""
    made = load_target(target)
    precision = precision or made.precisions[0]
    if precision not in made.precisions:
        raise RequestError(
            f"precision={precision}: target={target} is made in {', '.join(made.precisions)}"
            f"{did_you_mean(precision, made.precisions)}"
        )
    taken = input or made.input
    if taken not in INPUTS:
        raise RequestError(f"input={input}: expected {' or '.join(INPUTS)}{did_you_mean(taken, INPUTS)}")
    if not max_drop >= 0:
        raise RequestError(f"max_drop={max_drop}: expected points of mAP50-95 that may be lost, such as 0.3")
    if taken == "pictures" and made.delegates:
        raise RequestError(f"input=pictures: target={target} runs on GPU and NPU delegates, which take floats only")
    model = load_detector(model_path, trust=trust)
    if nms:
        raise RequestError(
            "nms=true: NMS is done by the runtime, not in the file; use nms=none, or nms=false (v10, 26)"
        )
    require_branch(model, nms, model_path)
    if nms is False and made.delegates:
        raise RequestError(
            f"nms=false: the one-to-one branch picks its boxes inside the file (top-k), which the delegates of "
            f"target={target} do not run; leave nms= out, NMS is done by the runtime"
        )
    size = input_size(imgsz, model)
    return _Plan(
        model, str(model_path), made, precision, taken, opset or made.opset, size, nms, max_drop, say, progress
    )


def _make(plan: _Plan, proving: ExportData, folder: Path, path: Path) -> tuple[ExportReport, list[tuple[Path, Path]]]:
    """Make the file and everything that belongs to it in `folder`.

    Returns:
        the report, and each further file with its place; the exported file is the last.
    """
    source = Path(str(plan.model.pt_path))
    fp32 = trace(plan.model, folder, path.stem, plan.size, plan.nms, plan.opset, plan.target.simplify)
    if plan.target.delegates:
        graph = onnx.load(str(fp32))
        suit_delegates(graph)
        onnx.save(graph, str(fp32))
    # The host's description holds the path of the training data.
    notes = {
        "description": f"{source.name}, exported by yolo-distill",
        "source": source.name,
        "source_sha256": sha256(source),
        "target": plan.target.name,
    }
    annotate(fp32, {**notes, "precision": "fp32"})
    box_px, score, detections = prove(fp32, plan.model, proving.pictures, nms=plan.nms)
    lowered, accuracy = _lower(plan, proving, fp32, folder / f"{path.stem}-{plan.precision}.onnx")
    notes["precision"] = plan.precision
    if lowered.kept:
        notes["kept_fp32"] = str(list(lowered.kept))
    annotate(lowered.path, notes)
    draft = folder / f"{path.stem}-draft.onnx"
    shutil.copyfile(lowered.path, draft)
    if plan.input == "pictures":
        graph = onnx.load(str(draft))
        take_pictures(graph)
        onnx.save(graph, str(draft))
        annotate(draft, NOTES)
        prove_same(draft, lowered.path, proving.pictures, rounded=plan.precision == "fp16")
    delegates = {}
    if plan.target.delegates:
        found = check_suitability(draft)
        delegates = {name: verdict._asdict() for name, verdict in found.items()}
        unfit = [name for name in PROVIDERS if name not in found or not found[name].suits]
        if unfit and plan.precision != "int8":
            raise DistillError(
                f"target={plan.target.name}: ONNX Runtime's usability check says that the file does not suit "
                f"{', '.join(unfit)}; no file is kept"
            )
    files, extras = _extras(plan, proving, draft, folder, path) if plan.target.ort else ([], {})
    plan.progress("measuring the time of one picture")
    threads = torch.get_num_threads()
    report = ExportReport(
        path=str(path),
        proof=str(path.with_suffix(".json")),
        source=plan.source,
        target=plan.target.name,
        audience=plan.target.audience,
        precision=plan.precision,
        imgsz=plan.size,
        end2end=plan.nms is False,
        names=dict(plan.model.names),
        opset=plan.opset,
        tensors=_tensors(draft, plan),
        file_bytes=draft.stat().st_size,
        fp32_bytes=fp32.stat().st_size,
        sha256=sha256(draft),
        source_sha256=notes["source_sha256"],
        pictures=tuple(name for name, _ in proving.pictures),
        box_px=box_px,
        score=score,
        detections=detections,
        tolerances={"box_px": BOX_TOLERANCE, "score": SCORE_TOLERANCE},
        accuracy=accuracy,
        calibration=_calibration(lowered),
        ms=_latency(plan, fp32, draft, threads),
        threads=threads,
        delegates=delegates,
        extras=extras,
        metadata={note.key: note.value for note in onnx.load(str(draft)).metadata_props},
        advice=plan.target.advice,
        versions=_versions(),
        seconds=0,
    )
    return report, [*files, (draft, path)]


def _extras(
    plan: _Plan, proving: ExportData, draft: Path, folder: Path, path: Path
) -> tuple[list[tuple[Path, Path]], dict[str, dict[str, Any]]]:
    """Write the file in ONNX Runtime's own format, proved like the rest, and its list of operators.

    Returns:
        each file with its place, and what the report says about them.
    """
    made = folder / "ort"
    made.mkdir()
    ort, operators = write_ort(draft, made, fused=plan.precision == "int8")
    prove_same(ort, draft, proving.pictures, rounded=plan.precision != "fp32")
    files = [(ort, path.with_suffix(".ort")), (operators, path.with_suffix(".operators.config"))]
    names = ("ORT format", "operators for a reduced runtime")
    return files, {
        name: {"path": str(place), "file_bytes": file.stat().st_size, "sha256": sha256(file)}
        for name, (file, place) in zip(names, files, strict=True)
    }


def _lower(plan: _Plan, proving: ExportData, fp32: Path, path: Path) -> tuple[Lowered, dict[str, dict[str, float]]]:
    """Make the precision that was asked for, measured.

    Returns:
        the file, and the accuracy of torch, the fp32 file and it.
    """
    accuracy: dict[str, dict[str, float]] = {}
    labelled = proving.labelled
    if labelled is not None:
        plan.progress("measuring mAP on val")
        if plan.size[0] == plan.size[1]:  # the host's evaluator gives a checkpoint squares only
            accuracy["torch"] = measure(plan.model, labelled, imgsz=plan.size[0], nms=plan.nms, device="cpu")
    if plan.precision == "fp32":
        if labelled is not None:
            accuracy["fp32"] = measure(fp32, labelled, device="cpu")
        # Never judged: it was proved beside torch.
        return Lowered(fp32, None), accuracy
    guard = Guard(fp32, proving.pictures, data=labelled, max_drop=plan.max_drop)
    if labelled is not None:
        accuracy["fp32"] = guard.reference
    if plan.precision == "fp16":
        lowered = to_fp16(fp32, path, guard)
    else:
        lowered = to_int8(
            fp32,
            path,
            guard,
            Calibration(proving.calibration, plan.input == "pictures"),
            plan.say,
            plan.progress,
        )
    assert lowered.verdict is not None
    return lowered, {**accuracy, plan.precision: lowered.verdict.figures}


def _calibration(lowered: Lowered) -> dict[str, Any]:
    if lowered.calibration is None:
        return {}
    return {"method": lowered.calibration, "pictures": lowered.pictures, "kept": list(lowered.kept)}


def _tensors(file: Path, plan: _Plan) -> dict[str, dict[str, Any]]:
    """Return what goes in and what comes out, so that a stranger's program can be written from it."""
    graph = onnx.load(str(file)).graph
    if plan.input == "pictures":
        meaning = "a picture, letterboxed: blue, green, red, 0 to 255"
    else:
        meaning = "a picture, letterboxed: red, green, blue, 0 to 1"
    if plan.nms is False:
        answer = "a row a box, best first: x1, y1, x2, y2 in pixels of the input, score, class"
    else:
        answer = (
            f"a column a box: centre x, y, width, height in pixels of the input, then {len(plan.model.names)} scores"
        )
    described = {}
    for key, value, text in (("input", graph.input[0], meaning), ("output", graph.output[0], answer)):
        kind = value.type.tensor_type
        described[key] = {
            "name": value.name,
            "type": onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
            "shape": [side.dim_value for side in kind.shape.dim],
            "meaning": text,
        }
    return described


def _latency(plan: _Plan, fp32: Path, draft: Path, threads: int) -> dict[str, float]:
    folded: Any = copy.deepcopy(plan.model).cpu().float().eval()
    folded.end2end = plan.nms is False
    folded = folded.fuse(verbose=False)
    noise = torch.rand(1, 3, *plan.size)

    def run_torch() -> Any:
        with torch.inference_mode():
            return folded(noise)

    programs = {"torch": run_torch, "fp32": session_run(fp32, threads)}
    if plan.precision != "fp32" or plan.input == "pictures":
        name = plan.precision if plan.precision != "fp32" else "fp32, pictures"
        programs[name] = session_run(draft, threads)
    return in_turns(programs)


def _versions() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxslim", "onnxruntime", "numpy")
    return {
        "yolo_distill": __version__,
        "ultralytics": host_version,
        "python": platform.python_version(),
        **{package: str(importlib.import_module(package).__version__) for package in packages},
    }
