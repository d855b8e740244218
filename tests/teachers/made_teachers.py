"""Pictures for teachers, and torchvision detectors that have not been trained, yet look at the picture."""

from __future__ import annotations

import re

import numpy as np
import torch
from live_detector import draw
from torch import nn


def drawn(count: int, height: int, width: int) -> torch.Tensor:
    """Return pictures (count, 3, height, width) of shapes on noise, RGB in 0..1."""
    return torch.from_numpy(np.stack(draw(count, height, width))[..., ::-1].transpose(0, 3, 1, 2).copy()).float() / 255


def liven(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Make a torchvision detector as sure of some places as a trained one, and its boxes others than its anchors."""
    for norm in (layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)):
        norm.momentum = 1.0
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]), "labels": torch.tensor([1])}
    target |= {"masks": torch.ones(1, *images.shape[-2:]), "keypoints": torch.full((1, 17, 3), 20.0)}
    targets = [target] * len(images)
    last = [
        (path, layer)
        for path, layer in model.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
        and re.search(r"cls_score|bbox_pred|cls_logits|bbox_reg$|_head\.module_list\.\d+(\.1)?$", path)
    ]
    spreads: dict[nn.Module, float] = {}

    def note(layer, _, output):
        spreads[layer] = max(float(output.std()), spreads.get(layer, 0.0))  # a head may be asked about every level

    hooks = [layer.register_forward_hook(note) for _, layer in last]
    with torch.no_grad():
        model.train()(list(images), targets)
        for path, layer in last:
            is_class = "cls" in path or "classification" in path
            layer.weight *= (2.0 if is_class else 0.3) / spreads[layer]
            layer.bias[:] = 0.0 if is_class or "bbox_reg" not in path else 0.5
            if path.startswith("head") and path.endswith("cls_logits"):
                # A sigmoid that is never taught anything says no, as in trained weights.
                for tensor, nothing in ((layer.weight, 0.0), (layer.bias, -20.0)):
                    tensor.view(-1, model.head.classification_head.num_classes, *tensor.shape[1:])[:, 0] = nothing
    for hook in hooks:
        hook.remove()
    return model.eval()
