"""The proof of a file of the host's other formats: the host runs it beside torch, on the same letterboxed pictures."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ultralytics.data.augment import LetterBox
from ultralytics.engine import validator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER, MACOS
from ultralytics.utils.nms import non_max_suppression

from yolo_distill.data.dataset import check_data
from yolo_distill.errors import DistillError
from yolo_distill.evaluation.detection_agreement import LOW, MAX_SCORE_GAP, MIN_MATCHED, Agreement, agree
from yolo_distill.exporting.acceptance import measure
from yolo_distill.exporting.export_data import ExportData
from yolo_distill.exporting.parity import BOX_TOLERANCE, IOU, MAX_DET, SCORE_TOLERANCE, raw_difference
from yolo_distill.models.checkpoint import no_auto_install, one_line
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
_OWN_TOLERANCES = (16.0, 0.2)


@dataclasses.dataclass(frozen=True)
class HostProof:
    """What was measured.

    Attributes:
        pictures: names of the pictures that torch and the file were run on.
        box_px: largest difference of the boxes from torch's, in pixels of the input. For it and what is judged below
            OpenVINO and ncnn compute in fp32, also where they would take something faster on this processor: that is
            the processor's loss, not the file's.
        score: largest difference of the scores.
        tolerances: what the two were allowed to be; empty for fp16 and int8, which the detections are judged by.
        agreement: detections of the file beside torch's.
        accuracy: on `val` of the data: `torch` and the precision to `map` and `map50` in points; where the runtime
            computes in less than fp32 by itself, also what that gives.
        ms: milliseconds (the shortest time) of the bare network for one picture on this machine, `torch` and the
            precision in turns, each on the number of threads it takes by itself.
        computes_in: what the runtime computes in on this machine where it says so and it is not fp32, else "".
        as_run: the detections again, of the file as the host runs it here.
    """

    pictures: tuple[str, ...]
    box_px: float
    score: float
    tolerances: dict[str, float]
    agreement: Agreement
    accuracy: dict[str, dict[str, float]]
    ms: dict[str, float]
    computes_in: str
    as_run: Agreement


class _Rows(NamedTuple):
    """Detections in one picture, as `agree` takes them."""

    xyxy: Any
    confidence: Any
    class_id: Any


def why_not(format: str) -> str:
    """Return why files of a format cannot be run here, or an empty string where they can."""
    if format in {"coreml", "coreai"} and not MACOS:
        return "only macOS runs it"
    if format not in RUNTIMES:
        return "it runs on a device of its own"
    module, package = RUNTIMES[format]
    return "" if importlib.util.find_spec(module) else f"{package} is not installed: pip install {package}"


def prove_host_file(
    file: Path,
    model: DetectionModel,
    proving: ExportData,
    *,
    format: str,
    precision: str,
    size: tuple[int, int],
    end2end: bool,
    device: str,
    max_drop: float,
    progress: Callable[[str], None],
) -> HostProof:
    """Run a file beside the checkpoint it came from.

    Args:
        file: what the host exported, a file or a folder.
        model: the checkpoint; not changed.
        proving: pictures, and the data set with boxes if there is one.
        format: the host's word for the format.
        precision: `fp32` is judged by its raw answers; `fp16` and `int8` by mAP, without labelled data (or for an input
            that is no square, which the host does not measure torch on) by its detections.
        size: height and width of the input in pixels.
        end2end: whether the file holds the one-to-one branch.
        device: `cpu`, or `0` for the GPU.
        max_drop: points of mAP50-95 that may be lost.
        progress: told what is being done.

    Raises:
        DistillError: the file cannot be run, or does not answer like the checkpoint.
    """
    reference: Any = copy.deepcopy(model).cpu().float().eval()
    reference.end2end = end2end
    progress("running the file beside torch")
    with _runs():
        usual = open_file(file, device)
        strict = _in_fp32(open_file(file, device), file)
    if dict(usual.names) != dict(model.names):
        raise DistillError(f"the exported file says names {usual.names} where {model.names} is right; no file is kept")
    judged = precision == "fp32"
    allowed = _OWN_TOLERANCES if format in _OWN_PRECISION else (BOX_TOLERANCE, SCORE_TOLERANCE)
    box_px = score = 0.0
    computes_in = _computes_in(usual)
    findings, as_run = [], []
    for name, tensor in _tensors(proving, size):
        with _runs(), torch.inference_mode():
            theirs = reference(tensor)[0]
            ours, faster = (opened(tensor.to(opened.device)).cpu().float() for opened in (strict, usual))
        if ours.shape != theirs.shape:
            raise DistillError(
                f"the exported file answers {tuple(ours.shape)}, torch {tuple(theirs.shape)}; no file is kept"
            )
        boxes, scores = raw_difference(ours.numpy(), theirs.numpy(), end2end=end2end)
        # Written so that nan is a mismatch as well.
        if judged and not (boxes <= allowed[0] and scores <= allowed[1]):
            raise DistillError(
                f"the exported file does not answer like the checkpoint on {name}: boxes differ by {boxes:.3g} px "
                f"(allowed {allowed[0]:g}), scores by {scores:.3g} (allowed {allowed[1]:g}); no file is kept"
            )
        box_px, score = max(box_px, boxes), max(score, scores)
        wanted = _detections(theirs, end2end)
        findings.append((_detections(ours, end2end), wanted))
        as_run.append((_detections(faster, end2end), wanted))
    found = agree(findings)
    accuracy = {}
    if proving.labelled is not None:
        progress("measuring mAP on val")
        if size[0] == size[1]:
            accuracy["torch"] = measure(
                model, proving.labelled, imgsz=size[0], nms=False if end2end else None, device=device
            )
        accuracy[precision] = _measure_opened(strict, file, proving.labelled, size, end2end, device)
        if computes_in:
            accuracy[f"in {computes_in}"] = _measure_opened(usual, file, proving.labelled, size, end2end, device)
    if not judged or format in _OWN_PRECISION:
        _judge(found, accuracy, precision, max_drop)
    progress("measuring the time of one picture")
    return HostProof(
        pictures=tuple(name for name, _ in proving.pictures),
        box_px=box_px,
        score=score,
        tolerances={"box_px": allowed[0], "score": allowed[1]} if judged else {},
        agreement=found,
        accuracy=accuracy,
        ms=_latency(reference, usual, precision, size),
        computes_in=computes_in,
        as_run=agree(as_run),
    )


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


def _tensors(proving: ExportData, size: tuple[int, int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and pictures as the network takes them, (1, 3, H, W), red first, 0 to 1."""
    letterbox = LetterBox(size, auto=False, scaleup=True)
    for name, picture in proving.pictures:
        laid = letterbox(image=picture)[..., ::-1].transpose(2, 0, 1)
        yield name, torch.from_numpy(np.ascontiguousarray(laid[None])).float() / 255


def _detections(answer: torch.Tensor, end2end: bool) -> _Rows:
    """Return what the host makes of a raw answer, boxes in pixels of the input."""
    rows = non_max_suppression(answer.clone(), LOW, IOU, max_det=MAX_DET, nc=0, end2end=end2end)[0].numpy()
    return _Rows(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


def _measure_opened(
    opened: Any, file: Path, data: str, size: tuple[int, int], end2end: bool, device: str
) -> dict[str, float]:
    """Return `map` (50-95) and `map50` on `val` in points, by the host's evaluator, set as `evaluate` sets it.

    Relies on: the evaluator opens what it measures by the name `AutoBackend` of its module.
    """
    settings = {
        "task": "detect",
        "mode": "val",
        "data": str(check_data(data, "val")["yaml_file"]),
        "split": "val",
        "imgsz": max(size),
        "batch": 1,
        "device": device,
        "iou": 0.7,
        "nms": False if end2end else None,
        "rect": False,
        "plots": False,
        "save_json": False,
        "workers": 0,
    }
    with _runs(), tempfile.TemporaryDirectory() as folder:
        evaluator = DetectionValidator(save_dir=Path(folder), args=settings)
        validator.AutoBackend = lambda *_, **__: opened
        try:
            evaluator(model=str(file))  # a model itself it would copy, which runtimes do not allow
        finally:
            validator.AutoBackend = AutoBackend
    _, _, map50, map50_95 = map(float, evaluator.metrics.mean_results())
    return {"map": round(100 * map50_95, 3), "map50": round(100 * map50, 3)}


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


def _latency(reference: Any, opened: Any, precision: str, size: tuple[int, int]) -> dict[str, float]:
    folded = copy.deepcopy(reference).fuse(verbose=False)
    noise = torch.rand(1, 3, *size)
    moved = noise.to(opened.device)
    with _runs(), torch.inference_mode():
        return in_turns({"torch": lambda: folded(noise), precision: lambda: opened(moved)})
