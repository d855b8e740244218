"""The proof of a file of the host's other formats: the host runs it beside torch, on the same letterboxed pictures."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.data.augment import LetterBox
from ultralytics.engine import validator as host_validator
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import LOGGER, MACOS

from yolo_distill.data.dataset import check_data
from yolo_distill.errors import DistillError, one_line
from yolo_distill.evaluation import validator
from yolo_distill.evaluation.detection_agreement import LOW, MAX_SCORE_GAP, MIN_MATCHED, Agreement, agree
from yolo_distill.exporting.acceptance import measure, points
from yolo_distill.exporting.detection_parity import IOU, MAX_DET, TOLERANCES, Gap
from yolo_distill.exporting.parity import check_raw, float_copy, torch_run, widest
from yolo_distill.exporting.report import HostProof
from yolo_distill.exporting.request_checks import Plan
from yolo_distill.exporting.task_parity import as_raw
from yolo_distill.models.checkpoint import no_auto_install
from yolo_distill.models.tasks import task_of
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.letterbox import Transform
from yolo_distill.runtime.postprocess import Postprocess, Raw
from yolo_distill.timing import in_turns

#: Format to the module that runs it and the package that holds the module.
RUNTIMES = {
    "torchscript": ("torch", "torch"),
    "openvino": ("openvino", "openvino"),
    "ncnn": ("ncnn", "ncnn"),
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "mnn": ("MNN", "MNN"),
    "coreml": ("coremltools", "coremltools"),
    "engine": ("tensorrt", "tensorrt"),
    "executorch": ("executorch", "executorch"),
    "paddle": ("paddle", "paddlepaddle"),
    "saved_model": ("tensorflow", "tensorflow"),
    "pb": ("tensorflow", "tensorflow"),
}

# What these compute in is their own choice, on some processors numbers of 16 bits: that moved single boxes of BCCD by
# up to 7.9 pixels, and single scores by 0.1. A conversion that is wrong shows in the detections, which are judged too.
_OWN_PRECISION = {"mnn", "engine", "coreml"}
_OWN_TOLERANCES = Gap(box_px=16, score=0.2)


def why_not(format: str) -> str:
    """Return why files of a format cannot be run here, or an empty string where they can."""
    if format in {"coreml", "coreai"} and not MACOS:
        return "only macOS runs it"
    if format not in RUNTIMES:
        return "it runs on a device of its own"
    module, package = RUNTIMES[format]
    return "" if importlib.util.find_spec(module) else f"{package} is not installed: pip install {package}"


def prove_host_file(file: Path, plan: Plan, format: str, device: str, *, end2end: bool) -> HostProof:
    """Run a file or folder that the host exported beside the checkpoint it came from.

    fp32 is judged by its raw answers; fp16 and int8 by mAP, without labelled data (or for an input that is no square,
    which the host does not measure torch on) by their detections.

    Args:
        file: what the host exported.
        plan: what was asked for.
        format: the host's word for the format.
        device: `cpu`, or `0` for the GPU.
        end2end: whether the file holds the one-to-one branch.

    Raises:
        DistillError: the file cannot be run, or does not answer like the checkpoint.
    """
    plan.progress("running the file beside torch")
    with _runs():
        usual = open_file(file, device)
        strict = _in_fp32(open_file(file, device), file)
    names = dict(plan.model.names)
    if dict(usual.names) != names:
        raise DistillError(f"the exported file says names {usual.names} where {names} is right; no file is kept")
    tolerances = _OWN_TOLERANCES if format in _OWN_PRECISION else TOLERANCES
    allowed = tolerances if plan.precision == "fp32" else None
    reference = float_copy(plan.model, end2end=end2end)
    shape = getattr(plan.model.model[-1], "kpt_shape", None)
    means = Postprocess(names, task_of(plan.model), tuple(shape) if shape else None, end2end)
    gaps, findings, as_run = [], [], []
    for name, tensor in _tensors(plan):
        with _runs(), torch.inference_mode():
            theirs = as_raw(reference(tensor)[0])
            ours, faster = (as_raw(opened(tensor.to(opened.device))) for opened in (strict, usual))
        gaps.append(check_raw(ours, theirs, name, means, allowed=allowed))
        wanted = _detections(theirs, means, plan.size)
        findings.append((_detections(ours, means, plan.size), wanted))
        as_run.append((_detections(faster, means, plan.size), wanted))
    found, computes_in = agree(findings), _computes_in(usual)
    measured = {plan.precision: strict, **({f"in {computes_in}": usual} if computes_in else {})}
    accuracy = _accuracy(plan, file, measured, device, end2end=end2end)
    if allowed is None or format in _OWN_PRECISION:
        _judge(found, accuracy, plan.precision, plan.max_drop)
    plan.progress("measuring the time of one picture")
    noise = torch.rand(1, 3, *plan.size).to(usual.device)
    programs = {"torch": torch_run(plan.model, plan.size, end2end=end2end), plan.precision: lambda: usual(noise)}
    with _runs(), torch.inference_mode():
        ms = in_turns(programs)
    return HostProof(
        pictures=tuple(name for name, _ in plan.data.pictures),
        **widest(gaps)._asdict(),
        tolerances=allowed._asdict() if allowed else {},
        agreement=found,
        accuracy=accuracy,
        ms=ms,
        computes_in=computes_in,
        as_run=agree(as_run),
    )


def _accuracy(
    plan: Plan, file: Path, opened: Mapping[str, Any], device: str, *, end2end: bool
) -> dict[str, dict[str, float]]:
    """Return mAP of torch and of the file as it was opened, by name, all set as `evaluate` sets it; see `HostProof`.

    Relies on: the host's evaluator opens what it measures by the name `AutoBackend` of its module.
    """
    data = plan.data.labelled
    if data is None:
        return {}
    plan.progress("measuring mAP on val")
    nms = False if end2end else None
    accuracy = {}
    if plan.size[0] == plan.size[1]:
        accuracy["torch"] = measure(plan.model, data, imgsz=plan.size[0], nms=nms, device=device)
    settings = {
        "task": task_of(plan.model),
        "model": str(file), "data": str(check_data(data, "val")["yaml_file"]), "split": "val", "imgsz": max(plan.size),
        "batch": 1, "device": device, "iou": IOU, "nms": nms, "rect": False, "workers": 0,
    }  # fmt: skip
    for name, one in opened.items():
        with _runs():
            host_validator.AutoBackend = lambda *_, one=one, **__: one
            try:  # by the file: a model itself it would copy, which runtimes do not allow
                figures = validator.measure(str(file), data, dict(plan.model.names), settings)
            finally:
                host_validator.AutoBackend = AutoBackend
        accuracy[name] = points(figures)
    return accuracy


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what the host and converters written in C++ print off the terminal: we say ourselves what came of it."""
    before = LOGGER.level
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    LOGGER.setLevel(max(before, logging.ERROR))
    try:
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, was in zip((1, 2), kept, strict=True):
            os.dup2(was, stream)
            os.close(was)
        os.close(nowhere)
        LOGGER.setLevel(before)


@contextlib.contextmanager
def _runs() -> Iterator[None]:
    """Turn whatever a runtime raises into one line."""
    try:
        with silence(), no_auto_install():
            yield
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise DistillError(f"the exported file cannot be run: {reason}; no file is kept") from error


def open_file(file: Path, device: str) -> Any:
    """Open a file as the host does."""
    where = torch.device("cpu" if device == "cpu" else f"cuda:{device}")
    return AutoBackend(str(file), device=where, verbose=False).eval()


def _in_fp32(opened: Any, file: Path) -> Any:
    """Have a runtime compute in fp32, also where the processor has something faster.

    Relies on: the host keeps OpenVINO's compiled model in `backend.ov_compiled_model`, ncnn's in `backend.net`.
    """
    if opened.format == "openvino":
        openvino: Any = importlib.import_module("openvino")
        core = openvino.Core()
        graph = core.read_model(str(next(file.glob("*.xml"))))
        opened.backend.ov_compiled_model = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    elif opened.format == "ncnn":
        net = importlib.import_module("ncnn").Net()
        for faster in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(net.opt, faster, False)
        weights = next(file.glob("*.param"))
        net.load_param(str(weights))
        net.load_model(str(weights.with_suffix(".bin")))
        opened.backend.net = net
    return opened


def _computes_in(opened: Any) -> str:
    if opened.format != "openvino":
        return ""
    kind = opened.backend.ov_compiled_model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return {"f32": "", "f16": "fp16"}.get(kind, str(kind))


def _tensors(plan: Plan) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and pictures as the network takes them, (1, 3, H, W), red first, 0 to 1."""
    letterbox = LetterBox(plan.size, auto=False, scaleup=True)
    for name, picture in plan.data.pictures:
        laid = letterbox(image=picture)[..., ::-1].transpose(2, 0, 1)
        yield name, torch.from_numpy(np.ascontiguousarray(laid[None])).float() / 255


def _detections(answer: Raw, means: Postprocess, size: tuple[int, int]) -> Detections:
    """Return what a raw answer says, in pixels of the input."""
    settings = {"conf": LOW, "iou": IOU, "max_det": MAX_DET, "classes": None, "agnostic": False}
    return means(answer, [Transform(size, size, size, 0, 0)], **settings)[0]


def _judge(found: Agreement, accuracy: Mapping[str, dict[str, float]], precision: str, max_drop: float) -> None:
    """Refuse a file that loses more than it may.

    Raises:
        DistillError: by mAP where it was measured for both sides, else by the detections.
    """
    if "torch" in accuracy:
        figures = accuracy[precision]
        figures["drop"] = round(accuracy["torch"]["map"] - figures["map"], 3)
        if not figures["drop"] <= max_drop:
            raise DistillError(
                f"{precision}: {figures['map']:.1f} mAP50-95 on val, {figures['drop']:.2f} points below torch, where "
                f"max_drop={max_drop:g} are allowed; no file is kept: give another precision=, or a larger max_drop="
            )
    elif not found.good_enough:
        raise DistillError(
            f"{precision}: beside torch {found} (at least {100 * MIN_MATCHED:g} % and at most {MAX_SCORE_GAP:g} are "
            "asked for); no file is kept: give another precision=, or labelled data= and the max_drop= that you accept"
        )
