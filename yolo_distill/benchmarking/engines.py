"""A model opened by a backend, ready to be timed."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import cv2
import numpy as np

from yolo_distill.benchmarking.models import Model, read_folder_metadata, weights_file
from yolo_distill.errors import DistillError
from yolo_distill.runtime.inputs import InputForm, Tensor, input_form
from yolo_distill.runtime.letterbox import Picture, Transform
from yolo_distill.runtime.metadata import read_metadata
from yolo_distill.runtime.postprocess import Postprocess, Raw
from yolo_distill.session_options import host_sessions

_IOU, _MAX_DET = 0.7, 300  # what both predict commands take


@dataclass(frozen=True)
class Job:
    """All that is needed to open a model.

    Attributes:
        model: which.
        backend: key of `BACKENDS`.
        threads: threads that a detection may use.
        device: as the host has it.
        conf: scores have to be above.
    """

    model: Model
    backend: str
    threads: int
    device: str
    conf: float


class Engine(ABC):
    """A model opened by a backend.

    Attributes:
        precision: what it computes in, where that is not what the file says.
    """

    precision: str | None = None

    @abstractmethod
    def prepare(self, picture: Picture) -> Any:
        """Return the network's input for a picture (H, W, 3) of uint8 in the order blue, green, red."""

    @abstractmethod
    def forward(self, prepared: Any) -> Any:
        """Run the network alone, and come back when its answer is there."""

    @abstractmethod
    def detect(self, picture: Picture) -> int:
        """Do the whole detection, picture in, boxes out; return how many there are."""

    def first(self, picture: Picture) -> None:
        """Do what shows how much memory one detection takes."""
        self.detect(picture)


def use_threads(threads: int) -> None:
    """Set the threads of what has one number for the whole process: OpenCV and, where it is loaded, torch."""
    cv2.setNumThreads(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def open_engine(job: Job) -> Engine:
    """Open a model; raises whatever the backend raises."""
    use_threads(job.threads)
    engines: dict[str, Callable[[Job], Engine]] = {"ours": OurEngine, "host": HostEngine, "ncnn": NcnnEngine}
    return engines.get(job.backend, OpenVinoEngine)(job)


class OurEngine(Engine):
    """The runtime of this package."""

    def __init__(self, job: Job) -> None:
        from yolo_distill.runtime.detector import Detector

        self._detector = Detector(
            job.model.path,
            imgsz=job.model.imgsz if job.model.free_size else None,
            providers="cpu" if job.device.lower() == "cpu" else "cuda,cpu",
            threads=job.threads,
        )
        self._conf = job.conf

    def prepare(self, picture: Picture) -> Any:
        return self._detector.preprocess(picture)[0]

    def forward(self, prepared: Any) -> Any:
        return self._detector.infer(prepared)

    def detect(self, picture: Picture) -> int:
        return len(self._detector(picture, conf=self._conf, iou=_IOU))


class HostEngine(Engine):
    """`YOLO(file).predict(picture, verbose=False)` of Ultralytics, with as many threads as everyone else.

    As everywhere in the host, a checkpoint gets its picture in the smallest rectangle, a static file in its square.
    """

    def __init__(self, job: Job) -> None:
        from ultralytics import YOLO

        from yolo_distill.evaluation.validator import warnings_only
        from yolo_distill.models.checkpoint import no_auto_install

        size = list(job.model.imgsz)
        self._settings = {"imgsz": size, "conf": job.conf, "iou": _IOU, "device": job.device, "verbose": False}
        with no_auto_install(), warnings_only(), host_sessions(job.threads):
            self._yolo: Any = YOLO(str(job.model.path), task=job.model.task)
            # Only now is the file opened.
            self.detect(np.full((*size, 3), 114, np.uint8))
        use_threads(job.threads)  # again: choosing its device, the host sets a number of its own
        self._predictor: Any = self._yolo.predictor

    def prepare(self, picture: Picture) -> Any:
        return self._predictor.preprocess([picture])

    def forward(self, prepared: Any) -> Any:
        import torch

        with torch.inference_mode():
            answer = self._predictor.model(prepared)
        if prepared.device.type == "cuda":
            torch.cuda.synchronize(prepared.device)
        return answer

    def detect(self, picture: Picture) -> int:
        return len(self._yolo.predict(picture, **self._settings)[0].cpu().numpy())


class _Steps:
    """What lies before and behind the network when another runtime than onnxruntime runs it, as in `Detector`."""

    def __init__(self, model: Model) -> None:
        form = InputForm(name="images", dtype=np.float32, blue_first=False, batch=1, imgsz=model.imgsz)
        if model.kind == "onnx":
            from yolo_distill.runtime.detector import Detector

            path = str(model.path)
            detector = Detector(path, imgsz=model.imgsz if model.free_size else None, providers="cpu", threads=1)
            notes = read_metadata(detector.session.get_modelmeta().custom_metadata_map, path)
            form = input_form(detector.session.get_inputs(), notes, path)
            self._postprocess = detector.meaning
        else:
            notes = read_folder_metadata(model.path)
            self._postprocess = Postprocess.of(notes, end2end=notes.end2end)
        self._form, self._input = form, form.empty(1, model.imgsz)  # one for all pictures, as the detector has it

    def preprocess(self, picture: Picture) -> tuple[Tensor, Transform]:
        """Return the network's input, which the next call overwrites, and how the picture lies in it."""
        return self._input, self._form.fill(self._input[0], picture)

    def count(self, raw: Raw, transform: Transform, conf: float) -> int:
        """Return how many objects a raw answer for one picture holds, once they are in pixels of the picture."""
        settings = {"conf": conf, "iou": _IOU, "max_det": _MAX_DET, "classes": None, "agnostic": False}
        return len(self._postprocess(raw, [transform], **settings)[0])


class _NetworkEngine(Engine):
    """A runtime that only knows the network, between the steps of `Detector`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @cached_property
    def _steps(self) -> _Steps:
        # Not opened with the model: a Detector holds an onnxruntime session, which is no part of this one's memory.
        return _Steps(self._job.model)

    def prepare(self, picture: Picture) -> Any:
        return self._steps.preprocess(picture)[0].copy()

    def detect(self, picture: Picture) -> int:
        tensor, transform = self._steps.preprocess(picture)
        return self._steps.count(self.forward(tensor), transform, self._job.conf)

    def first(self, picture: Picture) -> None:
        self.forward(np.zeros(self._job.model.input_shape, self._job.model.input_dtype))

    def _raw(self, answers: list[Any]) -> Raw:
        """Return the arrays that came, boxes before prototypes."""
        wanted = 2 if self._job.model.task == "segment" else 1
        if len(answers) != wanted:
            raise DistillError(f"{self._job.model.path}: answers with {len(answers)} arrays; expected {wanted}")
        arrays = sorted((np.asarray(one, np.float32) for one in answers), key=np.ndim)
        return arrays[0] if wanted == 1 else (arrays[0], arrays[1])


class OpenVinoEngine(_NetworkEngine):
    """OpenVINO on the CPU, set for low latency, on an .onnx file or a folder that the host exported for it.

    As `openvino-fp32` it computes in fp32 also where the processor has something faster.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        openvino: Any = import_module("openvino")
        core = openvino.Core()
        path = job.model.path
        model = core.read_model(str(path if job.model.kind == "onnx" else weights_file(path, ".xml")))
        if model.input(0).get_partial_shape().is_dynamic:
            model.reshape(list(job.model.input_shape))
        config: dict[str, Any] = {"INFERENCE_NUM_THREADS": job.threads, "PERFORMANCE_HINT": "LATENCY"}
        if job.backend == "openvino-fp32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = core.compile_model(model, "CPU", config)
        self._request = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))
        name = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self.precision = {"f32": None, "f16": "fp16"}.get(name, name)

    def forward(self, prepared: Any) -> Any:
        self._request.infer({0: prepared}, share_inputs=True)
        answers = [self._request.get_output_tensor(place).data for place in self._outputs]
        return self._raw(answers)


class NcnnEngine(_NetworkEngine):
    """ncnn, on a folder that the host exported for it."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._ncnn: Any = import_module("ncnn")
        self._net = self._ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = job.threads
        weights = weights_file(job.model.path, ".ncnn.param")
        # ncnn answers with a code and says why on the terminal.
        if self._net.load_param(str(weights)) or self._net.load_model(str(weights.with_suffix(".bin"))):
            raise DistillError(f"{job.model.path}: ncnn cannot load it; export it again")
        self._input, self._outputs = self._net.input_names()[0], sorted(self._net.output_names())

    def forward(self, prepared: Any) -> Any:
        with self._net.create_extractor() as extractor:
            extractor.input(self._input, self._ncnn.Mat(prepared[0]))
            answers = [np.array(extractor.extract(name)[1], np.float32)[None] for name in self._outputs]
        return self._raw(answers)
