"""From a checkpoint to an ONNX file that is proved to answer like the checkpoint.

The host traces the model. What this module adds is the proof: the fp32 file is run by the runtime that will run it for
the user, on pictures, beside torch on the very same input; a file of lower precision is measured beside the fp32 file.
Only a file that passed appears under its name.
"""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxslim  # noqa: F401 - the host looks for it only when it slims
import torch

from yolo_distill.errors import DistillError
from yolo_distill.exporting.acceptance import Guard, measure
from yolo_distill.exporting.detection_parity import TOLERANCES
from yolo_distill.exporting.export_data import read_data
from yolo_distill.exporting.lower_precision import Lowered, to_fp16, to_int8
from yolo_distill.exporting.model_card import write_card
from yolo_distill.exporting.onnx_file import annotate, notes_of_source, sha256, trace
from yolo_distill.exporting.parity import prove, prove_same, torch_run
from yolo_distill.exporting.report import ExportReport, base_versions
from yolo_distill.exporting.request_checks import Plan, open_checkpoint
from yolo_distill.exporting.targets import Target, load_target
from yolo_distill.exporting.workspace import EXTRAS, check_card, destination, earlier_extras, put_in_place, workspace
from yolo_distill.graphs.input_form import NOTES, take_pictures
from yolo_distill.graphs.mobile import check_suitability, suit_delegates, write_ort
from yolo_distill.machine import busy, cpu_name
from yolo_distill.models.tasks import task_of
from yolo_distill.timing import in_turns, session_run

Accuracy = dict[str, dict[str, float]]

#: The delegates that a precision is made for and has to suit.
_DELEGATES = {"fp32": ("NNAPI", "CoreML MLProgram"), "fp16": ("CoreML MLProgram",)}


@dataclasses.dataclass(frozen=True)
class _Plan(Plan):
    """An export to ONNX: for which target, what it takes (`floats` or `pictures`), and whom to tell what was found."""

    target: Target
    input: str
    opset: int
    tune: bool
    say: Callable[[str], None]


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
    tune: bool = False,
    trust: bool = False,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[str], None] = lambda text: None,
) -> ExportReport:
    """Export a checkpoint to ONNX and prove the file; a file that was there before stays until the new one passed.

    Args:
        model_path: a `.pt` file.
        imgsz: side of the square, or height and width, in pixels; by default what the model was trained at.
        data: data set file. Up to 32 pictures of its `val` are what the file is proved on; with labels, mAP is measured
            on all of `val`; int8 is calibrated on its `train`. Without it the pictures in the host's package are used.
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
        tune: whether an int8 file that loses more is trained, taught by the fp32 file.
        trust: load the checkpoint without the allow-list.
        say: called with what was found on the way, a line each.
        progress: called with what is being done.

    Raises:
        RequestError: something about the checkpoint, the data or a setting has to change first.
        DistillError: tracing failed, or the file does not answer like the checkpoint; no file is left.
    """
    started = time.perf_counter()
    made = load_target(target)
    precision, form = precision or made.precisions[0], input or made.input
    made.check(precision, form, nms, data)
    model, size = open_checkpoint(model_path, imgsz, nms, trust)
    found = read_data(data, model, size, precision, calibrate)
    if found.remark:
        say(found.remark)
    path = destination(out, Path(str(model.pt_path)), ".onnx", "" if precision == "fp32" else f"_{precision}")
    plan = _Plan(
        model=model, source=str(model_path), precision=precision, size=size, nms=nms, max_drop=max_drop, data=found,
        path=path, progress=progress, target=made, input=form, opset=opset or made.opset, tune=tune, say=say,
    )  # fmt: skip
    obsolete = earlier_extras(path.with_suffix(".json"))
    check_card(path.with_suffix(".md"))
    with workspace(path, out) as folder:
        report, files = _make(plan, folder)
        report = dataclasses.replace(report, seconds=round(time.perf_counter() - started, 2))
        put_in_place([report.write(folder), write_card(report, folder), *files], folder, obsolete)
    return report


def _make(plan: _Plan, folder: Path) -> tuple[ExportReport, list[tuple[Path, Path]]]:
    """Make the file and everything that belongs to it in `folder`.

    Returns:
        the report, and each further file with its place; the exported file is the last.
    """
    notes = {**notes_of_source(plan.file), "target": plan.target.name}
    fp32 = trace(plan.model, folder, plan.path.stem, plan.size, plan.nms, plan.opset, plan.target.simplify)
    if plan.target.delegates:
        _rewrite(fp32, suit_delegates)
    annotate(fp32, {**notes, "precision": "fp32"})
    plan.progress(f"running the file beside torch on {len(plan.data.pictures)} pictures")
    gap, detections = prove(fp32, plan.model, plan.data.pictures, nms=plan.nms)
    lowered, accuracy = _lower(plan, fp32, folder / f"{plan.path.stem}-{plan.precision}.onnx")
    draft = _finish(plan, lowered.path if lowered else fp32, notes, lowered.kept if lowered else ())
    delegates = _suitability(plan, draft) if plan.target.delegates else {}
    files, extras = _extras(plan, draft, folder) if plan.target.ort and plan.precision != "fp16" else ([], {})
    plan.progress("measuring the time of one picture")
    threads = torch.get_num_threads()
    metadata = {note.key: note.value for note in onnx.load(str(draft)).metadata_props}
    report = ExportReport(
        **plan.report_fields(),
        proof=str(plan.path.with_suffix(".json")),
        license=metadata["license"],
        processor=cpu_name(),
        doubt=busy(),
        target=plan.target.name,
        audience=plan.target.audience,
        opset=plan.opset,
        tensors=_tensors(draft, plan),
        file_bytes=draft.stat().st_size,
        fp32_bytes=fp32.stat().st_size,
        sha256=sha256(draft),
        source_sha256=notes["source_sha256"],
        pictures=tuple(name for name, _ in plan.data.pictures),
        **gap._asdict(),
        detections=detections,
        tolerances=TOLERANCES._asdict(),
        accuracy=accuracy,
        calibration=lowered.calibration if lowered else {},
        ms=_latency(plan, fp32, draft, threads),
        threads=threads,
        delegates=delegates,
        extras=extras,
        metadata=metadata,
        advice=plan.target.advice,
        versions=_versions(),
        seconds=0,
    )
    return report, [*files, (draft, plan.path)]


def _finish(plan: _Plan, file: Path, notes: dict[str, str], kept: Sequence[str]) -> Path:
    """Return the file as it is delivered: a copy that says what it is, and takes what it is to take."""
    annotate(file, {**notes, "precision": plan.precision, **({"kept_fp32": str(list(kept))} if kept else {})})
    draft = file.with_name(f"{plan.path.stem}-draft.onnx")
    shutil.copyfile(file, draft)
    if plan.input == "pictures":
        _rewrite(draft, take_pictures)
        annotate(draft, NOTES)
        prove_same(draft, file, plan.data.pictures, rounded=plan.precision == "fp16")
    return draft


def _rewrite(file: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    graph = onnx.load(str(file))
    change(graph)
    onnx.save(graph, str(file))


def _suitability(plan: _Plan, draft: Path) -> dict[str, dict[str, Any]]:
    """Return what delegates make of the file; nothing for int8, which is made for the CPU."""
    if plan.precision not in _DELEGATES:
        return {}
    found = check_suitability(draft)
    unfit = [
        f"{provider} ({', '.join(found[provider]['why'])})"
        for provider in _DELEGATES[plan.precision]
        if found[provider]["suits"] != "yes"
    ]
    if unfit:
        act = "no HardSigmoid" in " ".join(unfit)  # the only activation of `student_act=` that is not taken: hardswish
        advice = "; train the student with student_act=relu, or give target=cpu" if act else ""
        raise DistillError(
            f"target={plan.target.name}: ONNX Runtime's usability check says that the file does not suit "
            f"{', '.join(unfit)}; no file is kept{advice}"
        )
    return found


def _extras(plan: _Plan, draft: Path, folder: Path) -> tuple[list[tuple[Path, Path]], dict[str, dict[str, Any]]]:
    """Write the file in ONNX Runtime's own format, proved like the rest, and its list of operators.

    Returns:
        each file with its place, and what the report says about them.
    """
    made = folder / "ort"
    made.mkdir()
    ort, operators = write_ort(draft, made, fused=plan.precision == "int8")
    prove_same(ort, draft, plan.data.pictures, rounded=plan.precision != "fp32")
    files = [(file, plan.path.with_suffix(suffix)) for file, suffix in zip((ort, operators), EXTRAS, strict=True)]
    names = ("ORT format", "operators for a reduced runtime")
    return files, {
        name: {"path": str(place), "file_bytes": file.stat().st_size, "sha256": sha256(file)}
        for name, (file, place) in zip(names, files, strict=True)
    }


def _lower(plan: _Plan, fp32: Path, path: Path) -> tuple[Lowered | None, Accuracy]:
    """Make the precision that was asked for, measured.

    Returns:
        the file, or None for fp32, which was proved beside torch; and the accuracy of torch, the fp32 file and it.
    """
    accuracy: Accuracy = {}
    labelled = plan.data.labelled
    if labelled is not None:
        plan.progress("measuring mAP on val")
        if plan.size[0] == plan.size[1]:  # the host's evaluator gives a checkpoint squares only
            accuracy["torch"] = measure(plan.model, labelled, imgsz=plan.size[0], nms=plan.nms, device="cpu")
    if plan.precision == "fp32":
        if labelled is not None:
            accuracy["fp32"] = measure(fp32, labelled, device="cpu")
        return None, accuracy
    guard = Guard(fp32, plan.data, plan.max_drop)
    if labelled is not None:
        accuracy["fp32"] = guard.reference
    if plan.precision == "fp16":
        lowered = to_fp16(fp32, path, guard)
    else:
        as_pictures = plan.input == "pictures"
        pictures = plan.data.calibration
        lowered = to_int8(
            fp32, path, guard, pictures,
            takes_pictures=as_pictures, tune=plan.tune, say=plan.say, progress=plan.progress,
        )  # fmt: skip
    return lowered, {**accuracy, plan.precision: lowered.verdict.figures}


def _tensors(file: Path, plan: _Plan) -> dict[str, dict[str, Any]]:
    """Return what goes in and what comes out, so that a stranger's program can be written from it."""
    graph = onnx.load(str(file)).graph
    colours = "blue, green, red, 0 to 255" if plan.input == "pictures" else "red, green, blue, 0 to 1"
    task, centre = task_of(plan.model), "centre x, y, width, height in pixels of the input"
    count = len(plan.model.names)
    answer = f"a column a box: {centre}, then {count} score{'s' * (count > 1)}"
    if plan.end2end:
        box = centre if task == "obb" else "x1, y1, x2, y2 in pixels of the input"
        answer = f"a row a box, best first: {box}, score, class"
    if task == "pose":
        answer += f", then keypoints {'x'.join(map(str, plan.model.model[-1].kpt_shape))}: x, y in pixels, visibility"
    answer += {"segment": ", then a weight for each prototype", "obb": ", then the angle in radians"}.get(task, "")
    given = f"a picture, letterboxed: {colours}"
    parts = [("input", graph.input[0], given), ("output", graph.output[0], answer)]
    if task == "segment":
        parts.append(("prototypes", graph.output[1], "the weighed sum is above 0 where the object is, inside its box"))
    described = {}
    for key, value, text in parts:
        kind = value.type.tensor_type
        described[key] = {
            "name": value.name,
            "type": onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
            "shape": [side.dim_value for side in kind.shape.dim],
            "meaning": text,
        }
    return described


def _latency(plan: _Plan, fp32: Path, draft: Path, threads: int) -> dict[str, float]:
    programs = {"torch": torch_run(plan.model, plan.size, end2end=plan.end2end), "fp32": session_run(fp32, threads)}
    if plan.precision != "fp32" or plan.input == "pictures":
        name = plan.precision if plan.precision != "fp32" else "fp32, pictures"
        programs[name] = session_run(draft, threads)
    return in_turns(programs)


def _versions() -> dict[str, str]:
    packages = ("onnx", "onnxslim", "onnxruntime", "numpy")
    return {
        **base_versions(),
        **{package: str(importlib.import_module(package).__version__) for package in packages},
    }
