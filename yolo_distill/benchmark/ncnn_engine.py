"""ncnn, on a folder that the host exported for it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from yolo_distill.benchmark.engine import Engine, Job
from yolo_distill.benchmark.models import weights_file
from yolo_distill.benchmark.processing import FolderProcessing, only_answer
from yolo_distill.errors import DistillError
from yolo_distill.runtime.letterbox import Picture


class NcnnEngine(Engine):
    """ncnn between the steps of `Detector`."""

    def __init__(self, job: Job) -> None:
        """Load a model.

        Raises:
            RequestError: the folder is not what the host exports.
            DistillError: ncnn cannot load it.
        """
        self._ncnn: Any = import_module("ncnn")
        self._net = self._ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = job.threads
        weights = weights_file(Path(job.path), ".ncnn.param")
        # ncnn answers with a code and says why on the terminal.
        if self._net.load_param(str(weights)) or self._net.load_model(str(weights.with_suffix(".bin"))):
            raise DistillError(f"{job.path}: ncnn cannot load it; export it again")
        self._input, self._outputs = self._net.input_names()[0], sorted(self._net.output_names())
        self._processing = FolderProcessing(Path(job.path))
        self._job = job

    def prepare(self, picture: Picture) -> Any:
        return self._processing.preprocess(picture)[0].copy()

    def forward(self, prepared: Any) -> Any:
        with self._net.create_extractor() as extractor:
            extractor.input(self._input, self._ncnn.Mat(prepared[0]))
            answers = [np.array(extractor.extract(name)[1], np.float32) for name in self._outputs]
        return only_answer(answers, self._job.path)[None]

    def detect(self, picture: Picture) -> int:
        tensor, transform = self._processing.preprocess(picture)
        return self._processing.count(self.forward(tensor), transform, self._job.conf)
