"""Labelled pictures of a task, read as the host reads them, and how far what was found agrees with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ultralytics.utils.metrics import OKS_SIGMA, batch_probiou, bbox_ioa, kpt_iou
from ultralytics.utils.ops import xyxyxyxy2xywhr

from yolo_distill.evaluation.box_matching import Boxes, labels_of, match
from yolo_distill.labelling.objects import Form, Found
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.letterbox import Floats
from yolo_distill.runtime.masks import mask_iou

_AREA = 0.53  # of a box that its object covers, as the host has it for keypoints


def read_truth(file: str, size: tuple[int, int], classes: int, form: Form) -> tuple[Boxes, Detections | None]:
    """Return the labels of a picture of a height and width, and what they add to boxes; None where that is nothing.

    Raises:
        RequestError: as `labels_of`.
    """
    shape = form.kpt_shape or (0, 0)
    boxes, segments, points = labels_of(file, size, classes, shape if form.task == "pose" else None)
    if form.task == "detect":
        return boxes, None
    side = np.array(size[::-1], np.float32)
    if form.task == "pose":
        assert points is not None
        own = [(one * np.append(side, 1)).ravel() for one in points]
        # The host gives every point a third number.
        form = Form("pose", (shape[0], 3))
    elif form.task == "obb":
        # As in the host, the smallest box around any outline.
        own = [np.asarray(xyxyxyxy2xywhr((one * side).reshape(1, -1)), np.float32)[0] for one in segments]
    else:
        own = [(one * side).ravel() for one in segments]
    found = Found(boxes.xyxy, np.ones((len(boxes), 1), np.float32), own)
    return boxes, form.detections(found, np.zeros_like(boxes.classes), size)


def right(found: Found, labels: Boxes, truth: Detections | None, form: Form) -> npt.NDArray[Any]:
    """Return (N,) whether each box found, surest first, has a label of its class that it overlaps by 0.5 or more.

    By the task's own measure, as the host has it: IoU of boxes or masks, similarity of keypoints, IoU of turned boxes.
    """
    classes = found.scores.argmax(1)
    boxes = Boxes(found.boxes, classes)
    if truth is None:
        return match(boxes, labels).right
    return match(boxes, labels, _overlaps(form.detections(found, classes, truth.orig_shape), truth, form.sigmas)).right


def _overlaps(found: Detections, truth: Detections, sigmas: Sequence[float] | None) -> Floats:
    """Return how far each box found (N) agrees with each label (M), (N, M); `sigmas` are those of the data."""
    if found.turned is not None and truth.turned is not None:
        return batch_probiou(found.turned, truth.turned).numpy()
    if found.keypoints is not None and truth.keypoints is not None:
        count = found.keypoints.data.shape[1]
        usual = OKS_SIGMA if count == len(OKS_SIGMA) else np.full(count, 1 / count)
        area = truth.xywh[:, 2:].prod(1) * _AREA
        points = (torch.from_numpy(one.keypoints.data) for one in (truth, found) if one.keypoints is not None)
        return kpt_iou(*points, torch.from_numpy(area), sigmas or usual).numpy().T
    assert found.masks is not None
    assert truth.masks is not None
    shared: Floats = bbox_ioa(found.xyxy, truth.xyxy, iou=True)
    for a, b in zip(*np.nonzero(shared), strict=True):
        shared[a, b] = mask_iou(found.masks.pieces[a], truth.masks.pieces[b])
    return shared
