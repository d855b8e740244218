"""The host's other export formats: made by its own exporter, proved where their runtime can be run, then delivered.

ONNX is this package's own format (`export`). What is added to the host's exporter here: nothing is installed behind the
user's back, what lacks is said in one line, the file is run beside torch, and only a file that passed takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from ultralytics.engine import exporter
from ultralytics.utils import checks

from yolo_distill.data.dataset import check_data, pictures_of
from yolo_distill.errors import DistillError, RequestError, one_line
from yolo_distill.exporting.export_data import read_data
from yolo_distill.exporting.model_card import write_card
from yolo_distill.exporting.onnx_file import MADE_BY, host_export, notes_of_source, sha256
from yolo_distill.exporting.report import HostReport, base_versions
from yolo_distill.exporting.request_checks import Plan, open_checkpoint
from yolo_distill.exporting.ultralytics_parity import RUNTIMES, prove_host_file, silence, why_not
from yolo_distill.exporting.workspace import check_card, destination, put_in_place, workspace
from yolo_distill.host_keys import check_calibration, check_format
from yolo_distill.machine import busy, cpu_name

#: What the host looks for only after the long work.
_ASKED_LATE = {("litert", "int8"): "ai-edge-quantizer", ("coreml", "int8"): "scikit-learn"}
_REPORTS = "MNN.tools.utils.log"
#: As many pictures as the host recommends for calibration; it would take all.
_CALIBRATE = 300


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
        model_path: this one and those that are not named here are as in `export`.
        format: a word of `host_formats`, or `tflite` or `tensorrt`.
        out: a folder that exists, or a name with the format's suffix; by default beside the checkpoint.
        precision: the format's first when not given.

    Raises:
        RequestError: something about the checkpoint, the data or a setting has to change, or a package is missing.
        DistillError: the host failed, or the file does not answer like the checkpoint; no file is left.
    """
    started = time.perf_counter()
    row = _find(format)
    precision = _precision(row, precision)
    if row.device != "cpu" and not torch.cuda.is_available():
        raise RequestError(f"format={row.format}: is made on an NVIDIA GPU, and torch sees none here")
    model, size = open_checkpoint(model_path, imgsz, nms, trust)
    file = Path(str(model.pt_path))
    path = destination(out, file, row.suffix, "" if precision == row.precisions()[0] else f"_{precision}")
    check_card(path.with_name(f"{path.name}.md"))
    calibration, settings = _calibration(row, precision, data)
    found = read_data(data, model, size, "fp32", 0)  # the host reads by itself what it calibrates on
    if found.remark:
        progress(found.remark)
    plan = Plan(model, str(model_path), precision, size, nms, max_drop, found, path, progress)
    with workspace(path, out) as folder:
        if ".pt" in str(folder / path.name):
            raise RequestError(f"out={path}: Ultralytics' exporter cannot write where a name holds '.pt'; give another")
        report, made = _make(plan, row, folder, settings)
        report = dataclasses.replace(report, calibration=calibration, seconds=round(time.perf_counter() - started, 2))
        put_in_place([report.write(folder), write_card(report, folder), (made, path)], folder)
    return report


def _make(plan: Plan, row: _Row, folder: Path, settings: dict[str, Any]) -> tuple[HostReport, Path]:
    """Let the host make the file or folder, and prove it where that can be done."""
    plan.progress(f"Ultralytics exports {row.format}")
    notes = notes_of_source(plan.file)
    said: dict[str, Any] = {}
    refused = _missing_packages_refused(row.format, plan.precision)
    with silence(), refused, _scripts_saved_by_python(), _unreported():
        made = _converted(plan, row, folder, settings, _noting({**MADE_BY, **notes}, row.format, plan.nms, said))
    if row.format == "ncnn":
        (made / "model_ncnn.py").unlink(missing_ok=True)  # an example that only runs in the workspace
    lacks, end2end = why_not(row.format), bool(said["end2end"])
    files = {made.name: made}
    if made.is_dir():
        files = {str(file.relative_to(made)): file for file in sorted(made.rglob("*")) if file.is_file()}
    report = HostReport(
        **{**plan.report_fields(), "end2end": end2end},
        note=str(plan.path.with_name(f"{plan.path.name}.json")),
        format=row.format,
        kpt_shape=said.get("kpt_shape"),
        license=said["license"],
        processor=cpu_name() if row.device == "cpu" else f"{torch.cuda.get_device_name(0)}; torch: {cpu_name()}",
        doubt=busy(),
        file_bytes=sum(file.stat().st_size for file in files.values()),
        sha256={name: sha256(file) for name, file in files.items()},
        source_sha256=notes["source_sha256"],
        calibration={},
        proof=None if lacks else prove_host_file(made, plan, row.format, row.device, end2end=end2end),
        not_proved=lacks,
        versions=_versions(row.format),
        seconds=0,
    )
    return report, made


def _find(format: str) -> _Row:
    known = host_formats()
    return known[check_format(format, known)]


def _precision(row: _Row, precision: str | None) -> str:
    made = row.precisions()
    if precision is not None and precision not in made:
        raise RequestError(f"precision={precision}: format={row.format} is made in {', '.join(made)}")
    return precision or made[0]


def _calibration(row: _Row, precision: str, data: str | Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the report says of int8's calibration, and the settings of the host for it."""
    check_calibration(precision, row.takes, data)
    if data is None or precision != "int8" or "data" not in row.takes:
        return {}, {}
    found = check_data(data, ["train", "val"], need_labels=False)
    count = len(pictures_of(found, "train", f"data={data}"))
    taken = min(count, _CALIBRATE)
    # The host would calibrate on val, where the file is measured.
    settings = {"data": str(found["yaml_file"]), "split": "train", "fraction": taken / count}
    return {"split": "train", "pictures": taken}, settings


def _converted(plan: Plan, row: _Row, folder: Path, settings: dict[str, Any], on_start: Callable[[Any], None]) -> Path:
    """Let the host export, and say in one line what it failed at."""
    shape = {"format": row.format, "imgsz": list(plan.size), "nms": plan.nms, "device": row.device}
    stem = plan.path.name[: -len(row.suffix)]
    try:
        return host_export(
            plan.model, folder, stem, {**shape, "quantize": row.quantize(plan.precision), **settings}, on_start
        )
    except (DistillError, OSError) as error:
        # An error of the disk has a number; what the host raises of that kind by itself does not.
        cause = error.__cause__ if isinstance(error, DistillError) else error
        if cause is None or isinstance(cause, DistillError) or getattr(cause, "errno", None):
            raise cause or error from None
        kind = "" if isinstance(cause, (AssertionError, ValueError, OSError)) else f"{type(cause).__name__}: "
        raise DistillError(f"format={row.format}: Ultralytics' exporter failed: {kind}{one_line(cause)}") from error


@contextlib.contextmanager
def _missing_packages_refused(format: str, precision: str) -> Iterator[None]:
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


@contextlib.contextmanager
def _scripts_saved_by_python() -> Iterator[None]:
    """Have TorchScript written by Python, which raises where the disk is full; by itself it ends the process then.

    Relies on: the host saves what it traced by `save`, with keywords that `save_to_buffer` takes as well.
    """
    script: Any = torch.jit.ScriptModule
    original = script.save

    def save(self: Any, file: str | Path, **rest: Any) -> None:
        Path(file).write_bytes(self.save_to_buffer(**rest))

    script.save = save
    try:
        yield
    finally:
        script.save = original


@contextlib.contextmanager
def _unreported() -> Iterator[None]:
    """Keep MNN's converter from asking its makers' server, for which it installs a package by pip as it is imported.

    Relies on: it does so in `MNN.tools.utils.log`, and goes on without where that cannot be imported.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault(_REPORTS, None)
    try:
        yield
    finally:
        if modules[_REPORTS] is None:
            del modules[_REPORTS]


def _swap(old: Any, new: Any) -> None:
    """Put a function in the place of `check_requirements`, also in modules that were imported meanwhile."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ultralytics.") and vars(module).get("check_requirements") is old:
            module.check_requirements = new  # type: ignore[attr-defined]


def _noting(notes: dict[str, str], format: str, nms: bool | None, said: dict[str, Any]) -> Callable[[Any], None]:
    """Return what has the file say `notes`, and not where the data set lies.

    The call fills `said` with all that the file says of itself, and raises RequestError where the host gave up the
    branch that was asked for.
    """

    def note(host: Any) -> None:
        if nms is False and not host.metadata["end2end"]:
            raise RequestError(f"nms=false: format={format} only has the one-to-many branch; leave nms= out")
        host.metadata.update(notes)
        host.metadata["args"].pop("data", None)
        said.update(host.metadata)

    return note


def _versions(format: str) -> dict[str, str]:
    versions = base_versions()
    with contextlib.suppress(KeyError, importlib.metadata.PackageNotFoundError):
        package = RUNTIMES[format][1]
        versions.setdefault(package, importlib.metadata.version(package))
    return versions
