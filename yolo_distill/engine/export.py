"""From a checkpoint to an ONNX file that is proved to answer like the checkpoint.

The host traces the model. What this module adds is the proof: the file is run by the runtime that will run it for the
user, on pictures, beside torch on the very same input. Only a file that passed appears under its name.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import hashlib
import importlib
import importlib.util
import json
import logging
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from ultralytics import __version__ as host_version
from ultralytics.engine.exporter import Exporter
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from yolo_distill import __version__
from yolo_distill.engine.checkpoint import load_detector, no_auto_install, one_line, trained_imgsz
from yolo_distill.engine.proof import BOX_TOLERANCE, MAX_DET, SCORE_TOLERANCE, Comparison, proof_pictures, prove
from yolo_distill.errors import DistillError, RequestError, did_you_mean, missing_extra
from yolo_distill.paths import export_dir

_LARGEST_SIDE = 8192


@dataclasses.dataclass(frozen=True)
class Target:
    """What a file in `export/` says.

    Attributes:
        name: the file's name without `.yaml`.
        audience: who the exported file is for.
        opset: ONNX operator set.
        simplify: whether the traced graph is slimmed.
    """

    name: str
    audience: str
    opset: int
    simplify: bool


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was exported and how it was proved; `best.json` beside the file holds the same.

    Attributes:
        path: the exported file.
        proof: the JSON file beside it.
        source: the checkpoint.
        target: name of the target.
        imgsz: height and width of the input, in pixels.
        end2end: whether the file holds the one-to-one branch, which needs no NMS.
        names: class index to name.
        opset: ONNX operator set.
        file_bytes: size of the file.
        sha256: of the file.
        source_sha256: of the checkpoint.
        pictures: names of the pictures it was proved on.
        box_px: largest difference of the raw output's boxes, in pixels of the input.
        score: largest difference of the raw output's scores.
        detections: what came out after post-processing, at one or two thresholds.
        tolerances: what `box_px` and `score` were allowed to be.
        versions: of everything that had a part in it.
        seconds: wall-clock time.
    """

    path: str
    proof: str
    source: str
    target: str
    imgsz: tuple[int, int]
    end2end: bool
    names: dict[int, str]
    opset: int
    file_bytes: int
    sha256: str
    source_sha256: str
    pictures: tuple[str, ...]
    box_px: float
    score: float
    detections: tuple[Comparison, ...]
    tolerances: dict[str, float]
    versions: dict[str, str]
    seconds: float

    def summary(self) -> str:
        """Return the report in a few lines for a terminal."""
        branch = "one-to-one branch, no NMS needed" if self.end2end else "one-to-many branch, NMS in the runtime"
        lines = [
            f"{self.path}: {self.file_bytes / 1e6:.1f} MB, {self.imgsz[0]}x{self.imgsz[1]} px, opset {self.opset}",
            branch,
            f"proved on {len(self.pictures)} pictures: boxes differ by at most {self.box_px:.2g} px "
            f"(allowed {BOX_TOLERANCE:g}), scores by {self.score:.2g} (allowed {SCORE_TOLERANCE:g})",
        ]
        for part in self.detections:
            edge = f", {part.borderline} on a threshold" if part.borderline else ""
            lines.append(
                f"detections at conf {part.conf:.3g}: {part.same} of {max(part.torch, part.file)} the same{edge}, "
                f"within {part.box_px:.2g} px and {part.score:.2g}"
            )
        return "\n".join([*lines, f"proof: {self.proof}"])


def export(
    model_path: str | Path,
    *,
    imgsz: int | str | Sequence[int] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    nms: bool | None = None,
    target: str = "cpu",
    opset: int | None = None,
    trust: bool = False,
) -> ExportReport:
    """Export a checkpoint to ONNX and prove the file; a file that was there before stays until the new one passed.

    Args:
        model_path: a `.pt` file.
        imgsz: side of the square, or height and width, in pixels; by default what the model was trained at.
        data: data set file whose `val` pictures (up to 32, evenly picked) it is proved on; without it the pictures
            in the host's package, or drawn ones where there are none.
        out: the `.onnx` file, or a folder for it; by default beside the checkpoint and named like it.
        nms: None exports the one-to-many branch, whose boxes the runtime filters with NMS; False the one-to-one
            branch of an end-to-end model (v10, 26).
        target: name of a file in `export/`.
        opset: ONNX operator set; the target's when not given.
        trust: load the checkpoint without the allow-list.

    Raises:
        RequestError: something about the checkpoint, the data or a setting has to change first.
        DistillError: tracing failed, or the file does not answer like the checkpoint; no file is left.
    """
    started = time.perf_counter()
    for package in ("onnx", "onnxslim", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "export")
    plan = load_target(target)
    model = load_detector(model_path, trust=trust)
    if nms:
        raise RequestError(
            "nms=true: NMS is done by the runtime, not in the file; use nms=none, or nms=false (v10, 26)"
        )
    head = model.model[-1]
    if nms is False and getattr(head, "one2one_cv2", None) is None:
        raise RequestError(f"nms=false: {model_path} has no one-to-one branch; leave nms= out")
    if nms is None and getattr(head, "cv2", None) is None:
        raise RequestError(f"nms=none: {model_path} was fused and has only its one-to-one branch left; use nms=false")
    size = input_size(imgsz, model)
    pictures = proof_pictures(data)
    path = _destination(out, Path(model.pt_path))
    with _workspace(path, out) as folder:
        try:
            draft = _trace(model, folder, path.stem, size, nms, opset or plan.opset, plan.simplify)
            source_sha256 = _sha256(Path(model.pt_path))
            _annotate(draft, Path(model.pt_path).name, source_sha256)
            box_px, score, detections = prove(draft, model, pictures, nms=nms)
            report = ExportReport(
                path=str(path),
                proof=str(path.with_suffix(".json")),
                source=str(model_path),
                target=plan.name,
                imgsz=size,
                end2end=nms is False,
                names=dict(model.names),
                opset=opset or plan.opset,
                file_bytes=draft.stat().st_size,
                sha256=_sha256(draft),
                source_sha256=source_sha256,
                pictures=tuple(name for name, _ in pictures),
                box_px=box_px,
                score=score,
                detections=detections,
                tolerances={"box_px": BOX_TOLERANCE, "score": SCORE_TOLERANCE},
                versions=_versions(),
                seconds=round(time.perf_counter() - started, 2),
            )
            note = folder / "proof.json"
            note.write_text(json.dumps(dataclasses.asdict(report), indent=2) + "\n", encoding="utf-8")
            draft.replace(path)
            note.replace(path.with_suffix(".json"))
        except OSError as error:
            raise DistillError(f"writing {path} failed ({error.strerror or one_line(error)})") from error
    return report


def load_target(name: str) -> Target:
    """Read a target file of `export/`.

    Raises:
        RequestError: there is no such target, or this exporter cannot make what it asks for.
    """
    known = {file.stem: file for file in export_dir().glob("*.yaml")}
    if name not in known:
        raise RequestError(f"target={name}: unknown{did_you_mean(name, known)} (known: {', '.join(sorted(known))})")
    plan = yaml.safe_load(known[name].read_text(encoding="utf-8"))
    made = {"format": "onnx", "precision": "fp32", "dynamic": False}
    for key, value in made.items():
        if plan.get(key) != value:
            raise RequestError(
                f"target={name}: {key} is {plan.get(key)!r} in {known[name]}, only {value!r} is made here"
            )
    return Target(name, str(plan["for"]), int(plan["opset"]), bool(plan["simplify"]))


def input_size(imgsz: int | str | Sequence[int] | None, model: DetectionModel) -> tuple[int, int]:
    """Return height and width of the network's input in pixels.

    Args:
        imgsz: a number, `"h,w"`, two numbers, or None for what `model` was trained at (640 where it does not say).
        model: gives the stride that both sides have to be multiples of.

    Raises:
        RequestError: not one or two whole numbers, or sizes that the model does not take.
    """
    stride = max(int(model.stride.max()), 32)
    if imgsz is None:
        trained = trained_imgsz(model) or 640
        sides = [trained] if isinstance(trained, int) else list(trained)
        sides = [-(-side // stride) * stride for side in sides]  # the host trains at the next multiple as well
    else:
        try:
            words = imgsz.strip("[]() ").replace("x", ",").split(",") if isinstance(imgsz, str) else imgsz
            sides = [int(side) for side in (words if isinstance(words, Sequence) else [words])]
        except (TypeError, ValueError):
            sides = []
        if len(sides) not in {1, 2}:
            raise RequestError(f"imgsz={imgsz}: expected a number of pixels, or height,width")
    for side in sides:
        if not 0 < side <= _LARGEST_SIDE or side % stride:
            below = min(max(stride, side // stride * stride), _LARGEST_SIDE - stride)
            raise RequestError(
                f"imgsz={side}: the model takes multiples of {stride} up to {_LARGEST_SIDE}, "
                f"such as {below} or {below + stride}"
            )
    return sides[0], sides[-1]


def _trace(
    model: DetectionModel, folder: Path, stem: str, size: tuple[int, int], nms: bool | None, opset: int, simplify: bool
) -> Path:
    """Let the host trace `model` into `folder`."""
    settings = {
        "task": "detect",
        "mode": "export",
        "format": "onnx",
        "imgsz": list(size),
        "batch": 1,
        "dynamic": False,
        "simplify": simplify,
        "nms": nms,
        "opset": opset,
        "device": "cpu",
        "max_det": MAX_DET,
    }
    traced: Any = copy.deepcopy(model)
    traced.pt_path = str(folder / f"{stem}.pt")  # the host writes beside it
    before = LOGGER.level
    LOGGER.setLevel(max(before, logging.ERROR))
    try:
        with no_auto_install(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Path(Exporter(overrides=settings)(model=traced))
    except OSError:
        raise
    except Exception as error:
        raise DistillError(f"tracing the model failed: {type(error).__name__}: {one_line(error)}") from error
    finally:
        LOGGER.setLevel(before)
    if not file.is_file():
        raise DistillError(f"the host's exporter left no file at {file.name}")
    return file


def _annotate(file: Path, source: str, source_sha256: str) -> None:
    """Add to the metadata who made the file, and from what."""
    import onnx

    graph = onnx.load(str(file))
    notes = {note.key: note.value for note in graph.metadata_props}
    notes |= {
        # The host's description holds the path of the training data.
        "description": f"{source}, exported by yolo-distill",
        "author": "yolo-distill",
        "yolo_distill": __version__,
        "ultralytics": host_version,
        "source": source,
        "source_sha256": source_sha256,
    }
    with contextlib.suppress(ValueError, SyntaxError):
        # Settings that were meant for the host's exporter; the data set's path is nobody's business.
        notes["args"] = str({key: value for key, value in ast.literal_eval(notes["args"]).items() if key != "data"})
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, notes)
    onnx.save(graph, str(file))


def _destination(out: str | Path | None, source: Path) -> Path:
    if out is None:
        return source.with_suffix(".onnx")
    path = Path(out).expanduser()
    if path.is_dir():
        return path / f"{source.stem}.onnx"
    if path.suffix.lower() != ".onnx":
        raise RequestError(f"out={out}: give the name of an .onnx file, or a folder that exists")
    return path


@contextlib.contextmanager
def _workspace(path: Path, out: str | Path | None) -> Iterator[Path]:
    """Give a temporary folder on the same disk as `path`, so that the finished file can be moved in one step."""
    said = f"out={out}" if out is not None else f"{path}"
    if not path.parent.is_dir():
        raise RequestError(f"{said}: there is no folder {path.parent}; make it first")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-export-", dir=path.parent))
    except OSError as error:
        raise RequestError(f"{said}: cannot write into {path.parent} ({error.strerror}); give another out=") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxslim", "onnxruntime", "numpy")
    return {
        "yolo_distill": __version__,
        "ultralytics": host_version,
        "python": platform.python_version(),
        **{package: str(importlib.import_module(package).__version__) for package in packages},
    }
