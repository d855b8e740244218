"""A model opened by a backend, ready to be timed."""

from __future__ import annotations

from typing import Any

from yolo_distill.benchmark.backends import is_cpu
from yolo_distill.benchmark.engine import IOU, Engine, Job, use_threads
from yolo_distill.runtime.letterbox import Picture


class OurEngine(Engine):
    """The runtime of this package."""

    def __init__(self, job: Job) -> None:
        from yolo_distill.runtime.detector import Detector

        self._detector = Detector(
            job.path,
            imgsz=job.imgsz if job.free_size else None,
            providers="cpu" if is_cpu(job.device) else "cuda,cpu",
            threads=job.threads,
        )
        self._conf = job.conf

    def prepare(self, picture: Picture) -> Any:
        return self._detector.preprocess(picture)[0]

    def forward(self, prepared: Any) -> Any:
        return self._detector.infer(prepared)

    def detect(self, picture: Picture) -> int:
        return len(self._detector(picture, conf=self._conf, iou=IOU))


def open_engine(job: Job) -> Engine:
    """Open a model.

    Raises:
        Exception: whatever the backend raises.
    """
    use_threads(job.threads)
    if job.backend == "ours":
        return OurEngine(job)
    if job.backend == "host":
        from yolo_distill.benchmark.host_engine import HostEngine

        return HostEngine(job)
    if job.backend == "ncnn":
        from yolo_distill.benchmark.ncnn_engine import NcnnEngine

        return NcnnEngine(job)
    from yolo_distill.benchmark.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(job, full_precision=job.backend == "openvino-fp32")
