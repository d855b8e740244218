"""What the proof of an exported file compares besides boxes and scores: masks, keypoints, angles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from ultralytics.utils import ops
from ultralytics.utils.nms import non_max_suppression

from yolo_distill.errors import DistillError
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.letterbox import Transform
from yolo_distill.runtime.masks import Piece, mask_iou
from yolo_distill.runtime.postprocess import Postprocess, Raw
from yolo_distill.runtime.turned_boxes import upright

Rows = npt.NDArray[Any]

#: The least that a mask of the file shares with torch's, and how far keypoints (pixels of the input) and angles may be
#: apart. Of a mask of fewer than a hundred pixels one may be another: its number was 0 but for rounding.
LIMITS = {"mask_iou": 0.99, "keypoint_px": 0.1, "angle_deg": 0.1}


#: How many columns a row of a turned box has, see `rows_of_found`; those of keypoints are never five more.
TURNED = 11


class HostDetections(NamedTuple):
    """What the host finds in a raw answer of torch.

    Attributes:
        rows: as `rows_of_found` gives those of the file.
        own: (N, E) weights of prototypes, keypoints in pixels of the picture, or angles.
        kept: (M, 6) what its NMS kept, x1, y1, x2, y2 in pixels of the input, score, class; also what shows no mask.
    """

    rows: Rows
    own: torch.Tensor
    kept: Rows


def as_raw(answer: Any) -> Raw:
    """Return an answer of torch, or of a host's format, as the runtime has it."""
    if isinstance(answer, (tuple, list)):
        rows, protos = sorted((np.asarray(one.cpu().float()) for one in answer), key=np.ndim)
        return rows, protos
    return np.asarray(answer.cpu().float())


def rows_of(raw: Raw) -> Rows:
    """Return the boxes of an answer."""
    return raw[0] if isinstance(raw, tuple) else raw


def rows_of_found(found: Detections) -> Rows:
    """Return detections as rows (N, 6) x1, y1, x2, y2 in pixels of the picture, score, class.

    Behind them stand xywhr of turned boxes, or x and y of keypoints.
    """
    own = [found.turned] if found.turned is not None else []
    if found.keypoints is not None:
        points = found.keypoints.xy
        own.append(points.reshape(-1, 2 * points.shape[1]))  # of which there may be none
    return np.column_stack([found.xyxy, found.confidence, found.class_id, *own]).astype(np.float64)


def own_gap(ours: Rows, theirs: Rows, means: Postprocess) -> tuple[float, float]:
    """Return how far a task's own numbers, (E, N), are apart: in pixels of the input, and in numbers of about 1.

    The weights of prototypes count by the largest of them.
    """
    gap = np.abs(ours.astype(np.float64) - theirs)
    if means.kpt_shape:
        place = np.arange(len(gap)) % means.kpt_shape[1] < 2
        return float(gap[place].max(initial=0)), float(gap[~place].max(initial=0))
    return 0.0, float(gap.max(initial=0)) / max(1.0, float(np.abs(theirs).max(initial=0)))


def host_detections(raw: Raw, means: Postprocess, transform: Transform, **settings: Any) -> HostDetections:
    """Return what the host makes of a raw answer of torch for one picture.

    Args:
        raw: the answer.
        means: what it means.
        transform: how the picture lies in the input. The host is told so, because its releases differ: the older ones
            forget that a resized side is a whole number.
        settings: conf_thres, iou_thres and max_det of the host's NMS.
    """
    size, picture, (tall, wide) = transform.input, transform.picture, transform.resized
    lies = (tall / picture[0], wide / picture[1]), (transform.left, transform.top)
    rows = torch.from_numpy(rows_of(raw).copy())
    turned = means.task == "obb"
    kept = non_max_suppression(rows, nc=len(means.names), end2end=means.end2end, rotated=turned, **settings)[0]
    boxes, own = kept[:, :6], kept[:, 6:]
    before = boxes.numpy().astype(np.float64)
    ops.scale_boxes(size, boxes[:, :4], picture, ratio_pad=lies, xywh=turned)  # in place
    if turned:
        xywhr = torch.cat([boxes[:, :4], own[:, -1:]], 1).numpy()
        boxes[:, :4] = torch.from_numpy(upright(xywhr, picture))
        return HostDetections(np.concatenate([boxes.numpy(), xywhr], 1).astype(np.float64), own, before)
    if means.kpt_shape:
        own = ops.scale_coords(size, own.view(-1, *means.kpt_shape), picture, ratio_pad=lies)
        points = own[..., :2].flatten(1).numpy()
        return HostDetections(np.concatenate([boxes.numpy(), points], 1).astype(np.float64), own, before)
    if isinstance(raw, tuple):
        shown = _masks(raw, own, boxes[:, :4], picture).amax((1, 2)) > 0
        boxes, own = boxes[shown], own[shown]
    return HostDetections(boxes.numpy().astype(np.float64), own, before)


def compare_own(
    found: Detections, host: HostDetections, raw: Raw, pairs: Sequence[tuple[int, int]]
) -> dict[str, float]:
    """Return the worst of what pairs of detections, of the file and of the host, have of a task's own.

    Masks of the host are cut off at the box of the file, whose sides were compared: one at a whole number but for
    rounding would take a whole row along.

    Args:
        found: by the file.
        host: by torch.
        raw: torch's answer.
        pairs: places in the two.
    """
    if not pairs:
        return {}
    ours, theirs = (list(side) for side in zip(*pairs, strict=True))
    if found.turned is not None:
        gap = found.turned[ours, 4] - host.own[theirs, -1].numpy()
        return {"angle_deg": float(np.degrees(np.abs(gap).max()))}
    if found.keypoints is not None:
        gap = np.abs(found.keypoints.xy[ours] - host.own[theirs, :, :2].numpy())
        return {"keypoint_px": float(gap.max())}
    if found.masks is None or not isinstance(raw, tuple):
        return {}
    worst = 1.0
    masks = _masks(raw, host.own[theirs], torch.from_numpy(found.xyxy[ours]), found.orig_shape).bool().numpy()
    for place, mask in zip(ours, masks, strict=True):
        mine = found.masks.pieces[place]
        iou = mask_iou(mine, Piece(0, 0, mask))
        if mask.sum() < 100 and round((1 - iou) * max(mask.sum(), mine.bits.sum())) <= 1:
            continue
        worst = min(worst, iou)
    return {"mask_iou": worst}


def check_own(worst: dict[str, float], enlarged: float, who: str) -> None:
    """Refuse what `compare_own` found where it is beyond `LIMITS`.

    Args:
        worst: what it found.
        enlarged: pixels of the picture to one of the input, if more than 1.
        who: the picture, for the message.

    Raises:
        DistillError: naming it.
    """
    for key, value in worst.items():
        limit = LIMITS[key] * (enlarged if key == "keypoint_px" else 1)
        # Written so that nan is a mismatch as well.
        if not (value >= limit if key == "mask_iou" else value <= limit):
            raise DistillError(
                f"the exported file does not answer like the checkpoint on {who}: {key} {value:.3g} where {limit:.3g} "
                "is asked for; no file is kept"
            )


def worst_of(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the worst of each."""
    keys = {key for part in parts for key in part}
    return {
        key: (min if key == "mask_iou" else max)(part[key] for part in parts if key in part) for key in sorted(keys)
    }


def _masks(raw: tuple[Any, Any], weights: Any, boxes: Any, picture: tuple[int, int]) -> torch.Tensor:
    protos = torch.from_numpy(raw[1][0].copy())
    return ops.process_mask_native(protos, weights, boxes, picture)
