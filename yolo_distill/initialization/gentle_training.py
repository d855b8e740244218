"""How a student that starts fitted can be trained on, so that its first epochs don't throw the start away.

Two things do that, both measured in tests/benchmarks/MEASURED.md, "A schedule for starts":

- The learning rate is that of a training from random weights, and is there after three epochs. It has to come to it, as
  a smaller one ends lower; it need not do so at once (`init_warmup`).
- The statistics of batch norms follow the weights slowly: by the host's momentum of 0.03 it takes them some hundred
  batches, and until then val measures a network that nobody trains.
"""

from __future__ import annotations

from torch import nn

#: Of the batch norms of a student that starts fitted; the host has 0.03.
MOMENTUM = 0.1


def follow_closely(student: nn.Module) -> None:
    """Let the statistics of a student's batch norms follow its weights within some ten batches."""
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = MOMENTUM
