"""Who can run which kind of model, and who does."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from yolo_distill.benchmarking.models import Model
from yolo_distill.errors import RequestError, did_you_mean, missing_extra


@dataclass(frozen=True)
class Backend:
    """Something that runs models.

    Attributes:
        title: what it is called in tables.
        reads: the kinds of models that it takes.
        needs: the modules that have to be installed.
        gpu: whether it can run elsewhere than on the CPU.
        automatic: whether `backends=auto` takes it.
    """

    title: str
    reads: frozenset[str]
    needs: tuple[str, ...]
    gpu: bool = False
    automatic: bool = True


BACKENDS = {
    "ours": Backend("yolo-distill", frozenset({"onnx"}), ("onnxruntime",), gpu=True),
    "host": Backend("ultralytics", frozenset({"pt", "onnx"}), ("ultralytics", "torch"), gpu=True),
    "openvino": Backend("openvino", frozenset({"onnx", "openvino"}), ("openvino",)),
    # OpenVINO computes in bf16 or fp16 where the processor can; this keeps it from doing so.
    "openvino-fp32": Backend("openvino fp32", frozenset({"onnx", "openvino"}), ("openvino",), automatic=False),
    "ncnn": Backend("ncnn", frozenset({"ncnn"}), ("ncnn",)),
}

_AUTO = "auto"


@dataclass(frozen=True)
class Row:
    """A model run by a backend: one row of the tables.

    Attributes:
        model: what is run.
        backend: key of `BACKENDS`.
        optional: nobody asked for it by name, so that it is left out, and said, where it cannot be opened.
    """

    model: Model
    backend: str
    optional: bool

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return f"{self.model.label} by {BACKENDS[self.backend].title}"


def choose_rows(models: Sequence[Model], wanted: str, device: str) -> tuple[list[Row], list[str]]:
    """Return who runs what, and what is left out and why.

    Args:
        models: in the order of `model=`.
        wanted: `auto`, or keys of `BACKENDS` with commas between.
        device: as the host has it (`cpu`, `0`, ...).

    Returns:
        the rows, model by model, and sentences about what is left out.

    Raises:
        RequestError: a backend is unknown, not installed, or runs none of the models; a model that nobody runs.
    """
    names = _read(wanted)
    automatic = names is None
    ready, left_out = [], []
    for name in names or [key for key, backend in BACKENDS.items() if backend.automatic]:
        backend = BACKENDS[name]
        if not any(model.kind in backend.reads for model in models):
            if not automatic:
                kinds = " and ".join(sorted(backend.reads))
                raise RequestError(f"backends={name}: runs none of these models; it takes models of the kind {kinds}")
            continue
        if problem := _problem(name, device):
            if not automatic:
                raise RequestError(f"backends={name}: {problem}")
            left_out.append(f"{backend.title} is not in the table: {problem}")
        else:
            ready.append(name)
    rows = []
    for model in models:
        runs = [name for name in ready if model.kind in BACKENDS[name].reads]
        if not runs:
            raise _nobody(model, wanted, device)
        rows += [Row(model, name, automatic and place > 0) for place, name in enumerate(runs)]
    return rows, left_out


def _read(wanted: str) -> list[str] | None:
    """Return the backends that were asked for by name; `None` for all that are there."""
    words = [word.strip().lower() for word in wanted.split(",") if word.strip()]
    if words == [_AUTO]:
        return None
    for word in words or [""]:
        if word not in BACKENDS:
            known = [_AUTO, *BACKENDS]
            raise RequestError(f"backends={word or wanted}: not one of {', '.join(known)}{did_you_mean(word, known)}")
    return list(dict.fromkeys(words))


def _problem(name: str, device: str) -> str | None:
    """Return why a backend cannot be used here."""
    backend = BACKENDS[name]
    missing = [module for module in backend.needs if importlib.util.find_spec(module) is None]
    if missing:
        what = "'yolo-distill[train]'" if name == "host" else missing[0]
        return f"{missing[0]} is not installed (pip install {what})"
    if not backend.gpu and device.lower() != "cpu":
        return f"it runs on the CPU here, and device={device} was asked for"
    return None


def _nobody(model: Model, wanted: str, device: str) -> RequestError:
    able = [name for name, backend in BACKENDS.items() if model.kind in backend.reads]
    if wanted == _AUTO:
        missing = BACKENDS[able[0]].needs[0]
        if able[0] == "host":
            return missing_extra(missing, f"model={model.path}")
        return RequestError(f"model={model.path}: {_problem(able[0], device)}")
    return RequestError(f"model={model.path}: backends={wanted} cannot run it; {' or '.join(able)} can")
