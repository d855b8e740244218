"""What the host's data loader costs an epoch, by `cache=` and `workers=`, beside the student's own steps.

    python tests/benchmarks/loader_cost.py data=path/to/bccd/data.yaml imgsz=192 batch=16

Each setting's loader is built by the host's trainer and walked through once to warm up (disk caches are written then)
and `rounds` times in turns with the others. Seconds of the least round; the student's step as a run here would do it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

SETTINGS = [
    {"cache": cache, "workers": workers} for workers in (0, 2) for cache in (False, "disk", "ram")
]  # fmt: skip


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    rounds, threads = int(options.pop("rounds", "3")), int(options.pop("threads", "1"))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("YOLO_OFFLINE", "true")
    import torch

    torch.set_num_threads(threads)
    from yolo_distill.engine.step_cost import choose_student_precision, made_batch, step
    from yolo_distill.engine.teacher_training import TeacherTrainer
    from yolo_distill.settings import host_settings
    from yolo_distill.timing import least_seconds

    given = host_settings(options)
    with tempfile.TemporaryDirectory() as folder:
        loaders: dict[str, Any] = {}
        for setting in SETTINGS:
            trainer = TeacherTrainer(
                overrides={**given, **setting, "model": "yolo26n.yaml", "project": folder, "plots": False, "epochs": 99}
            )
            trainer._setup_train()
            loaders[json.dumps(setting)] = trainer.train_loader
        seconds = {name: float("inf") for name in loaders}
        for turn in range(-1, rounds):
            for name, loader in loaders.items():
                start = time.perf_counter()
                batches = sum(1 for _ in loader)
                if turn >= 0:
                    seconds[name] = min(seconds[name], time.perf_counter() - start)
        picture = torch.rand(trainer.batch_size, 3, trainer.args.imgsz, trainer.args.imgsz)
        precision = choose_student_precision(trainer.model, picture, True)
        student = least_seconds({"step": step(trainer.model, made_batch(picture), precision)})["step"] * batches
    print(json.dumps({"student's steps": round(student, 2), **{k: round(v, 2) for k, v in seconds.items()}}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
