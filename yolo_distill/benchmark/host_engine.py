"""Ultralytics' own `predict`, with as many threads as everyone else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from yolo_distill.benchmark.engine import IOU, Engine, Job, use_threads
from yolo_distill.runtime.letterbox import Picture
from yolo_distill.session_options import host_sessions


class HostEngine(Engine):
    """`YOLO(file).predict(picture, verbose=False)`.

    As everywhere in the host, a checkpoint gets its picture in the smallest rectangle, a static file in its square.
    """

    def __init__(self, job: Job) -> None:
        from ultralytics import YOLO

        from yolo_distill.models.checkpoint import no_auto_install

        self._settings: dict[str, Any] = {
            "imgsz": list(job.imgsz), "conf": job.conf, "iou": IOU, "device": job.device, "verbose": False,
        }  # fmt: skip
        with no_auto_install(), _quiet(), host_sessions(job.threads):
            self._yolo = YOLO(job.path, task="detect")
            # Only now is the file opened.
            self.detect(np.full((*job.imgsz, 3), 114, np.uint8))
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
        result: Any = self._yolo.predict(picture, **self._settings)[0]
        return len(result.boxes.cpu().numpy())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from ultralytics.utils import LOGGER

    before = LOGGER.level
    LOGGER.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        LOGGER.setLevel(before)
