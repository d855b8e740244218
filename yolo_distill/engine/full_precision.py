"""The host's loss in single precision, for a student that computes in less on a CPU.

On a CPU the host never uses autocast. Here the student's convolutions run in bf16 where the machine gains by it, and
everything from the head's outputs on stays in single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class FullPrecisionLoss:
    """Called as the host's criterion, which it asks in single precision; everything else is the host's criterion's."""

    def __init__(self, host: Callable[..., tuple[Tensor, dict[str, Tensor]]]) -> None:
        self.host = host

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the host's criterion does for `preds`, a head's raw output of any type."""
        with torch.autocast(batch["img"].device.type, enabled=False):
            return self.host(single_precision(preds), batch)

    def __getattr__(self, name: str) -> Any:
        if name == "host":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.host, name)


def single_precision(preds: Any) -> Any:
    """Return a head's raw output with all of its tensors in single precision."""
    if isinstance(preds, Tensor):
        return preds.float()
    if isinstance(preds, dict):
        return {key: single_precision(value) for key, value in preds.items()}
    return type(preds)(single_precision(value) for value in preds)
