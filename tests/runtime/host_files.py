"""Detectors that the host exports, untrained but as alive as trained ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def export(architecture: str, folder: Path, *, alive: bool = True, **settings: Any) -> Path:
    """Export an architecture in silence; `alive` lets it answer to the picture."""
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    torch.manual_seed(1)
    model = YOLO(architecture, verbose=False)
    if alive:
        enliven(model.model)
    model.ckpt_path = model.model.pt_path = str(folder / "made.pt")
    before = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    try:
        return Path(model.export(format="onnx", simplify=False, verbose=False, **settings))
    finally:
        LOGGER.setLevel(before)


def pictures(seed: int = 0) -> Iterator[np.ndarray]:
    """Return blurred noise of several shapes."""
    random = np.random.default_rng(seed)
    for shape in ((96, 160), (333, 127), (128, 128)):
        noise = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        yield cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)


def enliven(network: Any) -> None:
    """Let an untrained network answer to the picture, and be sure of some anchors and unsure of most.

    Its batch norms expect variances that it does not have, so that it answers the same to every picture; one batch in
    training mode fills them in.
    """
    import torch

    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    # Many and various, or a channel that happened to be still would explode at the next picture.
    batch = np.stack([cv2.resize(image, (128, 128)) for seed in range(1, 9) for image in pictures(seed)])
    images = torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()).float() / 255
    head = network.model[-1]
    with torch.no_grad():
        network.train()(images)
        network.eval()
        for name in ("cv3", "one2one_cv3"):
            levels = getattr(head, name, None) or ()
            if levels and hasattr(network, "end2end"):
                network.end2end = name == "one2one_cv3"
            for level in levels:
                level[-1].register_forward_hook(_spread)
            network(images)
            for level in levels:
                level[-1]._forward_hooks.clear()


def _spread(conv: Any, _: Any, logits: Any) -> None:
    """Give a level's class scores a spread of 1.2 around -4; the best of 80 classes then scores 0.1 to 0.5."""
    weighed = logits - conv.bias.view(1, -1, 1, 1)
    gain = 1.2 / weighed.std()
    conv.weight.data *= gain
    conv.bias.data[:] = -4 - gain * weighed.mean()
