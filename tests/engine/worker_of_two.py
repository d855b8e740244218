"""One of two processes that train together, as the host's workers do on two GPUs; here on the CPU, by gloo.

    RANK=0 LOCAL_RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=... python worker_of_two.py '{"model": ..., ...}'

Only what the host does for GPUs alone is put in another way: which backend it takes, and on which device a model is.
Prints what the process came to, as a line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from torch import distributed, nn
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.engine.trainer import DistillationTrainer

wrap = nn.parallel.DistributedDataParallel


class Trainer(DistillationTrainer):
    def _setup_ddp(self) -> None:
        distributed.init_process_group("gloo", rank=RANK, world_size=2)

    def final_eval(self) -> None:
        """Leave out what begins by asking which GPU it is on."""


def on_cpu(model: nn.Module, device_ids: list[Any], **settings: Any) -> nn.Module:
    return wrap(model, **settings)


def digest(*modules: nn.Module) -> str:
    found = hashlib.sha256()
    for parameter in (p for module in modules for p in module.parameters()):
        found.update(parameter.detach().numpy().tobytes())
    return found.hexdigest()


nn.parallel.DistributedDataParallel = on_cpu  # type: ignore[assignment, misc]
trainer = Trainer(overrides=json.loads(sys.argv[1]))
trainer.world_size = 2
seen: list[str] = []
trainer.add_callback("on_train_batch_end", lambda t: seen.append(type(t.model).__name__))
trainer.add_callback("on_fit_epoch_end", lambda t: seen.append(digest(unwrap_model(t.model), t.projectors)))
trainer.train()
assert trainer.criterion is not None
print(json.dumps({"rank": RANK, "seen": seen, "gains": trainer.criterion.gains()}))
