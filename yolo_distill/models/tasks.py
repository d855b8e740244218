"""The tasks of a YOLO, and what the host has for each: model, trainer, validator, head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionTrainer, DetectionValidator
from ultralytics.models.yolo.obb import OBBPredictor, OBBTrainer, OBBValidator
from ultralytics.models.yolo.pose import PosePredictor, PoseTrainer, PoseValidator
from ultralytics.models.yolo.segment import SegmentationPredictor, SegmentationTrainer, SegmentationValidator
from ultralytics.nn.modules import OBB, OBB26, Detect, Pose, Pose26, Segment, Segment26, v10Detect
from ultralytics.nn.tasks import DetectionModel, OBBModel, PoseModel, SegmentationModel


@dataclass(frozen=True)
class Task:
    """What the host has for a task.

    Attributes:
        model: built from an architecture.
        trainer: of it.
        validator: of it.
        heads: compared by exact class, as open-vocabulary heads inherit from these. They answer with the dense
            prediction dict that the losses and the runtime read.
        predictor: of it.
        finds: what its main mAP is about.
        ending: of the host's names for architectures of it.
    """

    model: type[DetectionModel]
    trainer: type[DetectionTrainer]
    validator: type[DetectionValidator]
    predictor: type[DetectionPredictor]
    heads: tuple[type[nn.Module], ...]
    finds: str
    ending: str


#: Keypoints of an object. A stranger's file may claim any number, and a network is built for them.
MOST_KEYPOINTS = 1000
TASKS = {
    "detect": Task(
        DetectionModel, DetectionTrainer, DetectionValidator, DetectionPredictor, (Detect, v10Detect), "boxes", ""
    ),
    "segment": Task(
        SegmentationModel,
        SegmentationTrainer,
        SegmentationValidator,
        SegmentationPredictor,
        (Segment, Segment26),
        "masks",
        "-seg",
    ),
    "pose": Task(PoseModel, PoseTrainer, PoseValidator, PosePredictor, (Pose, Pose26), "keypoints", "-pose"),
    "obb": Task(OBBModel, OBBTrainer, OBBValidator, OBBPredictor, (OBB, OBB26), "turned boxes", "-obb"),
}


def task_of(model: nn.Module) -> str:
    """Return the task of a YOLO by its head; `detect` for what is none."""
    head = type(model.model[-1])  # type: ignore[index]
    return next((name for name, task in TASKS.items() if head in task.heads), "detect")


def metric_of(task: str | None) -> str:
    """Return the name of a task's main figure, with what it is of where that is not boxes."""
    return "mAP50-95" if task in {None, "detect"} else f"mAP50-95 of {TASKS[str(task)].finds}"


def main_map(columns: Mapping[str, list[float]], *, of_boxes: bool = False) -> list[float]:
    """Return the task's main mAP50-95 of each epoch from the columns of a results.csv; empty where it is not there.

    With `of_boxes` that of the boxes around masks or keypoints.

    Relies on: the host writes that of boxes first, and the task's own behind it.
    """
    found = [values for key, values in columns.items() if key.startswith("metrics/mAP50-95(")]
    return found[0 if of_boxes else -1] if found else []


def heads() -> Iterator[tuple[str, str]]:
    """Yield the name of each head, and its task."""
    for name, task in TASKS.items():
        for head in task.heads:
            yield head.__name__, name
