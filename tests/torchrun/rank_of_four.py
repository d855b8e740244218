"""The command, which keeps the last step's weights in full precision: `KEEP=file python rank_of_four.py train ...`."""

from __future__ import annotations

import os
import sys
from typing import Any

from yolo_distill import cli

command = cli._run


def keep(trainer: Any) -> None:
    import torch
    from ultralytics.utils.torch_utils import unwrap_model

    weights = {**dict(unwrap_model(trainer.model).named_parameters()), **dict(trainer.projectors.named_parameters())}
    torch.save({name: value.detach() for name, value in weights.items()}, os.environ["KEEP"])


def keeping(words: list[str]) -> int:
    from ultralytics.utils import callbacks

    callbacks.default_callbacks["on_train_end"].append(keep)
    return command(words)


if __name__ == "__main__":
    cli._run = keeping
    sys.exit(cli.main())
