"""One of two processes that train together, as the host's workers do on two GPUs; here on the CPU, by gloo.

    RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=... python worker_of_two.py '{"model": ..., ...}'

Prints what the process came to, as a line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys

from torch import nn
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.engine.trainer import DistillationTrainer


def digest(*modules: nn.Module) -> str:
    found = hashlib.sha256()
    for parameter in (p for module in modules for p in module.parameters()):
        found.update(parameter.detach().numpy().tobytes())
    return found.hexdigest()


trainer = DistillationTrainer(overrides=json.loads(sys.argv[1]))
seen: list[str] = []
trainer.add_callback("on_train_batch_end", lambda t: seen.append(type(t.model).__name__))
trainer.add_callback("on_fit_epoch_end", lambda t: seen.append(digest(unwrap_model(t.model), t.projectors)))
trainer.train()
assert trainer.criterion is not None
print(json.dumps({"rank": RANK, "seen": seen, "gains": trainer.criterion.gains()}))
