"""mAP of the models, by the evaluator of `yolo-distill val`."""

from __future__ import annotations

from typing import Any

from yolo_distill.benchmark.models import FOLDERS, Model
from yolo_distill.errors import RequestError, missing_extra

_KEPT = ("map", "map50", "precision", "recall", "pictures", "boxes", "split", "imgsz")


def check_measurable(models: list[Model], imgsz: tuple[int, int] | None, data: str) -> None:
    """Check, before the work, that accuracy can be measured.

    Raises:
        RequestError: the extra for it is not installed, or the pictures would not be squares.
    """
    try:
        import yolo_distill.evaluation.evaluate  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("yolo_distill"):
            raise
        raise missing_extra(str(error.name), f"data={data}") from None
    if imgsz and imgsz[0] != imgsz[1] and any(model.free_size for model in models):
        raise RequestError(f"imgsz={imgsz[0]},{imgsz[1]}: with data= only squares are measured; give one side")


def measure_accuracy(
    model: Model, data: str, split: str, imgsz: tuple[int, int] | None, device: str, trust: bool
) -> dict[str, Any] | None:
    """Return the figures of a model, as `evaluate` names them; None for a folder, which it does not take.

    Raises:
        RequestError: what `evaluate` refuses, such as other classes than the data's.
        DistillError: the evaluator failed.
    """
    if model.kind in FOLDERS:
        return None
    from yolo_distill.evaluation.evaluate import evaluate

    size = imgsz[0] if imgsz and model.free_size else None
    figures = evaluate(model.path, data, split=split, imgsz=size, device=device, trust=trust)
    return {key: figures[key] for key in _KEPT}
