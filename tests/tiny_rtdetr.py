"""An RT-DETR small enough to be trained in a test, and one that has not been trained, yet looks at the picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import yaml
from live_detector import fill_statistics
from ultralytics.nn.tasks import RTDETRDetectionModel

# The decoder's arguments: classes, width, queries, points, heads, layers, width of the feed-forward part.
ARCHITECTURE = """
nc: 2
backbone:
- [-1, 1, HGStem, [8, 16]]
- [-1, 1, HGBlock, [8, 32, 3]]
- [-1, 1, DWConv, [32, 3, 2, 1, false]]
- [-1, 1, HGBlock, [16, 32, 3]]
- [-1, 1, DWConv, [32, 3, 2, 1, false]]
- [-1, 1, HGBlock, [16, 48, 3]]
- [-1, 1, DWConv, [48, 3, 2, 1, false]]
- [-1, 1, HGBlock, [16, 64, 3]]
head:
- [-1, 1, Conv, [32, 1, 1, null, 1, 1, false]]
- [-1, 1, AIFI, [64, 4]]
- [3, 1, RepC3, [24]]
- [5, 1, Conv, [32, 1, 1]]
- [[10, 11, 9], 1, RTDETRDecoder, [nc, 32, 30, 4, 4, 2, 64]]
"""


def write_architecture(path: Path) -> Path:
    """Write the architecture as a file of one's own."""
    path.write_text(ARCHITECTURE)
    return path


def live_rtdetr(names: Iterable[str] = ("round", "square"), seed: int = 0) -> RTDETRDetectionModel:
    """Return an untrained RT-DETR whose boxes and scores depend on the picture; see `live_detector`."""
    torch.manual_seed(seed)
    names = list(names)
    model = RTDETRDetectionModel(yaml.safe_load(ARCHITECTURE), nc=len(names), verbose=False)
    model.names = dict(enumerate(names))
    fill_statistics(model)
    head = model.model[-1]
    for scores, boxes in zip(head.dec_score_head, head.dec_bbox_head, strict=True):
        torch.nn.init.normal_(scores.weight, std=0.5)
        torch.nn.init.constant_(scores.bias, -4.0)
        torch.nn.init.normal_(boxes.layers[-1].weight, std=0.3)
    return model.eval()
