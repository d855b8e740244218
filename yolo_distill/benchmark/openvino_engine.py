"""OpenVINO, on an .onnx file or a folder that the host exported for it."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from yolo_distill.benchmark.engine import Engine, Job
from yolo_distill.benchmark.models import weights_file
from yolo_distill.benchmark.processing import FileProcessing, FolderProcessing, Processing, only_answer
from yolo_distill.runtime.letterbox import Picture


class OpenVinoEngine(Engine):
    """OpenVINO between the steps of `Detector`."""

    def __init__(self, job: Job, *, full_precision: bool) -> None:
        """Compile a model for the CPU, set for low latency.

        Args:
            job: what is opened.
            full_precision: compute in fp32 also where the processor has something faster.
        """
        openvino: Any = import_module("openvino")
        core = openvino.Core()
        file = job.path if job.kind == "onnx" else str(weights_file(Path(job.path), ".xml"))
        model = core.read_model(file)
        if model.input(0).get_partial_shape().is_dynamic:
            model.reshape(list(job.input_shape))
        config: dict[str, Any] = {"INFERENCE_NUM_THREADS": job.threads, "PERFORMANCE_HINT": "LATENCY"}
        if full_precision:
            config["INFERENCE_PRECISION_HINT"] = "f32"
        compiled = core.compile_model(model, "CPU", config)
        self._request = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))
        self._job = job
        self.precision = _lower_precision(compiled)

    @cached_property
    def _processing(self) -> Processing:
        # Not opened with the model: a Detector holds an onnxruntime session, which is no part of OpenVINO's memory.
        if self._job.kind == "openvino":
            return FolderProcessing(Path(self._job.path))
        return FileProcessing(self._job.path, self._job.imgsz, free_size=self._job.free_size)

    def prepare(self, picture: Picture) -> Any:
        return self._processing.preprocess(picture)[0].copy()

    def forward(self, prepared: Any) -> Any:
        self._request.infer({0: prepared}, share_inputs=True)
        answers = [self._request.get_output_tensor(place).data for place in self._outputs]
        return np.asarray(only_answer(answers, self._job.path), np.float32)

    def detect(self, picture: Picture) -> int:
        tensor, transform = self._processing.preprocess(picture)
        return self._processing.count(self.forward(tensor), transform, self._job.conf)

    def first(self, picture: Picture) -> None:
        self.forward(np.zeros(self._job.input_shape, self._job.input_dtype))


def _lower_precision(compiled: Any) -> str | None:
    """Return what the floats of a model are computed in, if that is not fp32."""
    name = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    return {"f32": None, "f16": "fp16"}.get(name, name)
