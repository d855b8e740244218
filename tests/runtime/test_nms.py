"""Non-maximum suppression against torchvision's; ties and boxes without area are in `tests/golden/nms.json`."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_distill.runtime.nms import nms

A, B, FAR = (0, 0, 10, 10), (0, 0, 10, 7.5), (50, 50, 60, 60)  # A and B overlap by 0.75


def crowd(seed, count, classes, levels=None):
    """Return many overlapping boxes; with `levels`, many of equal score."""
    random = np.random.default_rng(seed)
    centre, size = random.uniform(0, 200, (count, 2)), random.uniform(0, 60, (count, 2))
    scores = random.uniform(0, 1, count)
    scores = scores if levels is None else np.round(scores * levels) / levels
    xyxy = np.concatenate([centre - size / 2, centre + size / 2], 1)
    return xyxy.astype(np.float32), scores.astype(np.float32), random.integers(0, classes, count)


def torchvision_nms(xyxy, scores, iou):
    torch = pytest.importorskip("torch")
    host = pytest.importorskip("torchvision").ops.nms
    return host(torch.from_numpy(xyxy), torch.from_numpy(scores), iou).tolist()


@pytest.mark.parametrize("iou", [0.1, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9])
def test_torchvision_on_a_grid(iou):
    """Boxes on whole numbers overlap by exactly what thresholds are set to; 0.6 in float32 is more than 0.6."""
    random = np.random.default_rng(3)
    corner, size = random.integers(0, 4, (400, 2)) * 10, random.integers(1, 5, (400, 2)) * 10
    xyxy = np.concatenate([corner, corner + size], 1).astype(np.float32)
    scores = random.permutation(400).astype(np.float32)
    kept = nms(xyxy, scores, np.zeros(400, np.int64), iou=iou, limit=400).tolist()
    assert kept == torchvision_nms(xyxy, scores, iou)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(("iou", "levels"), [(0.3, None), (0.7, None), (0.5, 5)])
def test_torchvision(iou, levels, agnostic):
    xyxy, scores, classes = crowd(7, 2000, 80, levels)
    moved = xyxy if agnostic else xyxy + classes[:, None].astype(np.float32) * 7680  # as the host does
    expected = torchvision_nms(moved, scores, iou)
    assert nms(xyxy, scores, classes, iou=iou, limit=5000, agnostic=agnostic).tolist() == expected
    assert nms(xyxy, scores, classes, iou=iou, limit=70, agnostic=agnostic).tolist() == expected[:70]
    assert 70 < len(expected) < 2000
