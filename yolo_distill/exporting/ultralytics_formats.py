"""The host's other export formats: made by its own exporter, proved where their runtime can be run, then delivered.

ONNX is this package's own format (`export`). What is added to the host's exporter here: nothing is installed behind the
user's back, what lacks is said in one line, the file is run beside torch, and only a file that passed takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from ultralytics import __version__ as host_version
from ultralytics.engine import exporter
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import checks

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.errors import DistillError, RequestError, did_you_mean
from yolo_distill.exporting.export_data import read_data
from yolo_distill.exporting.onnx_file import host_export, sha256
from yolo_distill.exporting.parity import MAX_DET
from yolo_distill.exporting.request_checks import input_size, require_branch
from yolo_distill.exporting.ultralytics_parity import RUNTIMES, prove_host_file, silence, why_not
from yolo_distill.exporting.ultralytics_report import HostReport
from yolo_distill.exporting.workspace import put_in_place, workspace
from yolo_distill.models.checkpoint import load_detector, one_line
from yolo_distill.version import __version__

#: What everyone calls a format that the host calls otherwise.
_ALIASES = {"tflite": "litert", "tensorrt": "engine"}
#: What the host looks for only after the long work.
_ASKED_LATE = {("litert", "int8"): "ai-edge-quantizer", ("coreml", "int8"): "scikit-learn"}
#: As many pictures as the host recommends for calibration; it would take all.
_CALIBRATE = 300
#: Each of the host's folders holds one of these.
_MARKS = ("metadata.yaml", "metadata.json", "Manifest.json")


@dataclasses.dataclass(frozen=True)
class _Row:
    """A line of the host's table of formats."""

    format: str
    suffix: str
    cpu: bool
    gpu: bool
    takes: tuple[str, ...]

    @property
    def device(self) -> str:
        return "0" if self.gpu and not self.cpu else "cpu"

    def precisions(self) -> list[str]:
        """Return what it can be made in; the first is made when nothing is said."""
        offers = {
            "fp32": self.format not in exporter.FP32_UNSUPPORTED_FORMATS,
            "fp16": self.format in exporter.FP16_FORMATS,
            "int8": self.format in exporter.INT8_FORMATS | exporter.W8A16_FORMATS,
        }
        return [precision for precision, made in offers.items() if made]

    def quantize(self, precision: str) -> int | str:
        """Return the host's word for a precision."""
        if precision == "int8":
            return 8 if self.format in exporter.INT8_FORMATS else "w8a16"
        return 16 if precision == "fp16" else 32


def host_formats() -> dict[str, _Row]:
    """Return the host's formats but for its own and ONNX, by the word its `format=` takes."""
    table = exporter.export_formats()
    columns = [table[key] for key in ("Argument", "Suffix", "CPU", "GPU", "Arguments")]
    rows = [_Row(word, suffix, cpu, gpu, tuple(takes)) for word, suffix, cpu, gpu, takes in zip(*columns, strict=True)]
    return {row.format: row for row in rows if row.format not in {"-", "onnx"}}


def export_by_host(
    model_path: str | Path,
    format: str,
    *,
    imgsz: int | str | Sequence[int] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    nms: bool | None = None,
    precision: str | None = None,
    max_drop: float = 0.3,
    trust: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> HostReport:
    """Let the host export a checkpoint, and prove what comes out where it can be run.

    A file or folder that was there before stays until the new one passed.

    Args:
        model_path: a `.pt` file.
        format: a word of `host_formats`, or `tflite` or `tensorrt`.
        imgsz: side of the square, or height and width, in pixels; by default what the model was trained at.
        data: data set file. Up to 32 pictures of its `val` are what the file is proved on; with labels, mAP is measured
            on all of `val`; the host calibrates int8 on its `train`. Without it the pictures in the host's package.
        out: a folder that exists, or a name with the format's suffix; by default beside the checkpoint.
        nms: None exports the one-to-many branch, False the one-to-one branch of an end-to-end model (v10, 26).
        precision: `fp32`, `fp16` or `int8`; the format's first when not given.
        max_drop: points of mAP50-95 that fp16 or int8 may lose.
        trust: load the checkpoint without the allow-list.
        progress: told what is being done.

    Raises:
        RequestError: something about the checkpoint, the data or a setting has to change, or a package is missing.
        DistillError: the host failed, or the file does not answer like the checkpoint; no file is left.
    """
    started = time.perf_counter()
    row = _find(format)
    precision = _precision(row, precision)
    if row.device != "cpu" and not torch.cuda.is_available():
        raise RequestError(f"format={row.format}: is made on an NVIDIA GPU, and torch sees none here")
    model = load_detector(model_path, trust=trust)
    if nms:
        raise RequestError("nms=true: NMS is not put into the file; use nms=none, or nms=false (v10, 26)")
    require_branch(model, nms, model_path)
    size = input_size(imgsz, model)
    source = Path(str(model.pt_path))
    infix = "" if precision == row.precisions()[0] else f"_{precision}"
    place = _destination(out, source, infix, row)
    settings, calibration = _settings(row, precision, size, nms, data)
    proving = read_data(data, model, size, "fp32", 0)  # the host reads by itself what it calibrates on
    if proving.remark:
        progress(proving.remark)
    notes = {
        "description": f"{source.name}, exported by yolo-distill",
        "author": "yolo-distill",
        "yolo_distill": __version__,
        "source": source.name,
        "source_sha256": sha256(source),
    }
    # Named by the format, as the host takes any ".pt" in the path of the workspace for the checkpoint's suffix.
    with workspace(place.with_name(row.format), out) as folder:
        stem = place.name[: -len(row.suffix)]
        if ".pt" in str(folder / stem):
            raise RequestError(
                f"out={place}: Ultralytics' exporter cannot write where a name holds '.pt'; give another"
            )
        try:
            progress(f"Ultralytics exports {row.format}")
            said: dict[str, Any] = {}
            with silence(), _told(row.format, precision):
                made = _made(model, folder, stem, settings, row.format, _noted(notes, row.format, nms, said))
            if row.format == "ncnn":
                (made / "model_ncnn.py").unlink(missing_ok=True)  # an example that only runs in the workspace
            lacks, proof = why_not(row.format), None
            if not lacks:
                proof = prove_host_file(
                    made,
                    model,
                    proving,
                    format=row.format,
                    precision=precision,
                    size=size,
                    end2end=bool(said["end2end"]),
                    device=row.device,
                    max_drop=max_drop,
                    progress=progress,
                )
            files = {made.name: made}
            if made.is_dir():
                files = {str(file.relative_to(made)): file for file in sorted(made.rglob("*")) if file.is_file()}
            report = HostReport(
                path=str(place),
                note=str(place.with_name(f"{place.name}.json")),
                source=str(model_path),
                format=row.format,
                precision=precision,
                imgsz=size,
                end2end=bool(said["end2end"]),
                names=dict(model.names),
                file_bytes=sum(file.stat().st_size for file in files.values()),
                sha256={name: sha256(file) for name, file in files.items()},
                source_sha256=notes["source_sha256"],
                calibration=calibration,
                proof=proof,
                not_proved=lacks,
                versions=_versions(row.format),
                seconds=round(time.perf_counter() - started, 2),
            )
            note = folder / "proof.json"
            note.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
            put_in_place([(note, Path(report.note)), (made, place)], folder)
        except OSError as error:
            raise DistillError(f"writing {place} failed ({error.strerror or one_line(error)})") from error
    return report


def _find(format: str) -> _Row:
    known = host_formats()
    word = _ALIASES.get(format.lower(), format.lower())
    if word not in known:
        words = ["onnx", *known, *_ALIASES]
        raise RequestError(f"format={format}: unknown{did_you_mean(word, words)} (known: {', '.join(words)})")
    return known[word]


def _precision(row: _Row, precision: str | None) -> str:
    made = row.precisions()
    if precision is not None and precision not in made:
        raise RequestError(f"precision={precision}: format={row.format} is made in {', '.join(made)}")
    return precision or made[0]


def _destination(out: str | Path | None, source: Path, infix: str, row: _Row) -> Path:
    """Return where the file or folder goes; precisions but the first have it in their name and so lie side by side."""
    path = source.parent if out is None else Path(out).expanduser()
    if not path.name.endswith(row.suffix) or len(path.name) == len(row.suffix):
        if not path.is_dir():
            raise RequestError(f"out={out}: give a folder that exists, or a name that ends in {row.suffix}")
        path = path / f"{source.stem}{infix}{row.suffix}"
    if path.is_dir() and any(path.iterdir()) and not any((path / mark).is_file() for mark in _MARKS):
        raise RequestError(f"out={path}: is a folder, but not an exported one; give another name")
    return path


def _settings(
    row: _Row, precision: str, size: tuple[int, int], nms: bool | None, data: str | Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of the host's exporter, and what the report says of int8's calibration."""
    settings: dict[str, Any] = {
        "task": "detect",
        "mode": "export",
        "format": row.format,
        "imgsz": list(size),
        "batch": 1,
        "dynamic": False,
        "nms": nms,
        "quantize": row.quantize(precision),
        "device": row.device,
        "max_det": MAX_DET,
    }
    if precision != "int8" or "data" not in row.takes:
        return settings, {}
    if data is None:
        raise RequestError("precision=int8: give data=, a data set file whose train pictures it is calibrated on")
    found = check_data(data, ["train", "val"], need_labels=False)
    count = len(pictures_of(found, "train", f"data={data}"))
    taken = min(count, _CALIBRATE)
    # The host would calibrate on val, where the file is measured.
    settings |= {"data": str(found["yaml_file"]), "split": "train", "fraction": taken / count}
    return settings, {"split": "train", "pictures": taken}


def _made(
    model: DetectionModel,
    folder: Path,
    stem: str,
    settings: dict[str, Any],
    format: str,
    on_start: Callable[[Any], None],
) -> Path:
    """Let the host export, and say in one line what it failed at."""
    try:
        return host_export(model, folder, stem, settings, on_start)
    except (DistillError, OSError) as error:
        # An error of the disk has a number; what the host raises of that kind by itself does not.
        cause = error.__cause__ if isinstance(error, DistillError) else error
        if cause is None or isinstance(cause, DistillError) or getattr(cause, "errno", None):
            raise cause or error from None
        kind = "" if isinstance(cause, (AssertionError, ValueError, OSError)) else f"{type(cause).__name__}: "
        raise DistillError(f"format={format}: Ultralytics' exporter failed: {kind}{one_line(cause)}") from error


@contextlib.contextmanager
def _told(format: str, precision: str) -> Iterator[None]:
    """Stop the host at the first package that it lacks; it would go on without and fail in a way that says nothing.

    Relies on: the host looks for packages by `checks.check_requirements`, which some of its modules hold by name.

    Raises:
        RequestError: what to install.
    """
    original = checks.check_requirements

    def check(requirements: Any, exclude: Any = (), install: bool = True, cmds: str = "", **rest: Any) -> bool:
        wanted = [requirements] if isinstance(requirements, str) else list(requirements)
        lacking = [one for one in wanted if not original([one], install=False)]
        if lacking and install:
            words = [one if isinstance(one, str) else one[0] for one in lacking]
            raise RequestError(
                f"format={format}: Ultralytics' exporter needs {' and '.join(words)}, which this environment lacks: "
                f"pip install {' '.join([*filter(None, [cmds]), *map(shlex.quote, words)])}"
            )
        return not lacking

    _swap(original, check)
    try:
        if late := _ASKED_LATE.get((format, precision)):
            check(late)
        yield
    finally:
        _swap(check, original)


def _swap(old: Any, new: Any) -> None:
    """Put a function in the place of `check_requirements`, also in modules that were imported meanwhile."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ultralytics.") and vars(module).get("check_requirements") is old:
            module.check_requirements = new  # type: ignore[attr-defined]


def _noted(notes: dict[str, str], format: str, nms: bool | None, said: dict[str, Any]) -> Callable[[Any], None]:
    """Return what has the file say who made it from what, and not where the data set lies.

    Args:
        notes: what it is to say.
        format: the host's word.
        nms: the branch that was asked for; the call raises RequestError where the host gave it up.
        said: filled with all that the file says of itself.
    """

    def note(host: Any) -> None:
        if nms is False and not host.metadata["end2end"]:
            raise RequestError(f"nms=false: format={format} only has the one-to-many branch; leave nms= out")
        host.metadata.update(notes)
        host.metadata["args"].pop("data", None)
        said.update(host.metadata)

    return note


def _versions(format: str) -> dict[str, str]:
    versions = {
        "yolo_distill": __version__,
        "ultralytics": host_version,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    with contextlib.suppress(KeyError, importlib.metadata.PackageNotFoundError):
        package = RUNTIMES[format][1]
        versions.setdefault(package, importlib.metadata.version(package))
    return versions
