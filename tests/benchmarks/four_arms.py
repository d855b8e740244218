"""Teacher, plain student, student started from the teacher, and distilled student, over paired seeds.

    python tests/benchmarks/four_arms.py data=../shared/data/bccd/data.yaml teacher=yolo26s.yaml student=yolo26n.yaml \
        imgsz=192 epochs=100 batch=16 seeds=0,1,2 out=runs/bccd results=tests/benchmarks/results/bccd_192.jsonl

Every run is a folder of its own under `out`; a finished one is skipped, an interrupted one goes on from its last
epoch. One JSON line a run is appended to `results`. Two processes with `part=1/2` and `part=2/2` share the work (the
teacher comes first: the second process waits for it). `table=true` only prints the table of what is there.

The best epoch is chosen on val; `test` is measured once, with that one. Arms of one seed see the same pictures in the
same order; the first weights differ only where an arm chooses its own.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

#: What the default recipe was when its tables were made: without the maps, with a start that is not fitted, and with a
#: teacher that teaches to the end.
_THEN: dict[str, Any] = {"cwd": 0.0, "init_channels": "even", "init_fit": False, "kd_until": 1.0}
ARMS: dict[str, dict[str, Any]] = {
    # By the host's own trainer, in its own precision.
    "plain": {},
    "host": {"dis": 6.0},  # the host's distill_model= and its gain
    # By ours, with the recipe of then and the default settings but for these.
    "plain-ours": {**_THEN, "init": "student", "logit": 0.0, "localization": 0.0},  # our speed, no teacher
    "init": {**_THEN, "init": "teacher", "logit": 0.0, "localization": 0.0},
    "distilled": _THEN,
    "fp32": {**_THEN, "amp": False, "teacher_precision": "fp32"},
    "terms": {**_THEN, "init": "student"},  # without the start
    "cwd": {**_THEN, "cwd": 1.0},
    "bf16-teacher": {**_THEN, "teacher_precision": "bf16"},
    "int8": {**_THEN, "teacher_precision": "int8"},
    "until-half": {**_THEN, "kd_until": 0.5},
}
#: Arms that do not need the teacher to be trained first.
ALONE = {"plain", "plain-ours"}


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    results = Path(options.pop("results"))
    if options.pop("table", "") == "true":
        print(table(results))
        return
    os.environ.setdefault("OMP_NUM_THREADS", options.get("threads", "1"))
    os.environ.setdefault("YOLO_OFFLINE", "true")
    import torch

    torch.set_num_threads(int(options.pop("threads", "1")))
    part, parts = map(int, options.pop("part", "1/1").split("/"))
    out = Path(options.pop("out")).resolve()
    seeds = [int(s) for s in options.pop("seeds").split(",")]
    arms = options.pop("arms", "plain,init,distilled").split(",")
    teacher, student = options.pop("teacher"), options.pop("student")
    from yolo_distill.settings import host_settings

    settings = host_settings(options)
    settings |= {"project": str(out), "exist_ok": True, "plots": False, "cache": "ram"}

    best = out / "teacher-s0" / "weights" / "best.pt"
    jobs = [(arm, seed) for seed in seeds for arm in arms]
    if part == 1:
        once(results, out, "teacher", 0, teacher, teacher, settings)
    for arm, seed in jobs[part - 1 :: parts]:
        while arm not in ALONE and not any(r["arm"] == "teacher" for r in read(results)):
            time.sleep(20)
        once(results, out, arm, seed, student, str(best), settings)


def once(results: Path, out: Path, arm: str, seed: int, model: str, teacher: str, settings: dict[str, Any]) -> None:
    """Train one arm with one seed, or go on with it, and append its line to `results`."""
    if any((r["arm"], r["seed"]) == (arm, seed) for r in read(results)):
        return
    import torch
    import ultralytics
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.nn.tasks import load_checkpoint

    import yolo_distill
    from yolo_distill.engine.atomic import whole_checkpoints
    from yolo_distill.engine.teacher_training import TeacherTrainer
    from yolo_distill.engine.trainer import DistillationTrainer
    from yolo_distill.evaluation.evaluate import evaluate

    class HostTrainer(DetectionTrainer):
        """The host's, with checkpoints that a kill does not break."""

        def save_model(self) -> bool:
            with whole_checkpoints(self):
                return bool(super().save_model())

        def final_eval(self) -> None:
            with whole_checkpoints(self, rewritten=True):
                super().final_eval()

    folder = out / f"{arm}-s{seed}"
    weights = folder / "weights"
    recipe = ARMS.get(arm, {})
    others = {"teacher": TeacherTrainer, "plain": HostTrainer, "host": HostTrainer}
    trainer = others.get(arm, DistillationTrainer)
    overrides = {**settings, "model": model, "seed": seed, "name": folder.name, **recipe}
    if trainer is DistillationTrainer:
        overrides |= {"teacher": model if arm in ALONE else teacher}
    elif arm == "host":
        overrides |= {"distill_model": teacher}
    last = weights / "last.pt"
    epoch = load_checkpoint(last)[1]["epoch"] if last.exists() else None
    started, cpu = time.perf_counter(), time.process_time()
    if epoch is None:
        trainer(overrides=overrides).train()
    elif 0 <= epoch < settings["epochs"] - 1:
        trainer(overrides={"model": str(last), "resume": str(last), "project": str(out), "name": folder.name}).train()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu

    curve = [dict(zip(*rows, strict=True)) for rows in _csv(folder / "results.csv")]
    line = {
        "arm": arm,
        "seed": seed,
        "model": model,
        "settings": {k: v for k, v in settings.items() if k not in {"project", "data"}} | {"data": _name(settings)},
        "recipe": recipe,
        # Wall time of the training loop, from the host's log; `seconds` is this process's share of it.
        "train_seconds": float(curve[-1]["time"]),
        "seconds": round(seconds, 1),
        # The same in processor time, which does not count what other processes took; null for a run in two parts.
        "cpu_seconds": round(cpu, 1) if epoch is None else None,
        **{
            s: _without_paths(evaluate(weights / "best.pt", settings["data"], split=s, imgsz=settings["imgsz"]))
            for s in ("val", "test")
        },
        "curve": [round(float(row["metrics/mAP50-95(B)"]), 4) for row in curve],
        "shares": {k: float(v) for k, v in curve[len(curve) // 2].items() if k.startswith("share/")},
        "versions": {
            "yolo-distill": yolo_distill.__version__,
            "ultralytics": ultralytics.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{_cpu()}, {torch.get_num_threads()} thread(s)",
        "date": time.strftime("%Y-%m-%d"),
    }
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    print(table(results), flush=True)


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def arms_in(runs: list[dict[str, Any]]) -> list[str]:
    """Return the arms of runs: those of today in their order, then those that there were."""
    found = {r["arm"] for r in runs} - {"teacher"}
    return [*(arm for arm in ARMS if arm in found), *sorted(found - ARMS.keys())]


def table(results: Path) -> str:
    """Return the table of MEASURED.md: test (val) mAP50-95 of each seed, mean, and paired difference to plain."""
    runs = read(results)
    by_arm = {arm: {r["seed"]: r for r in runs if r["arm"] == arm} for arm in ("teacher", *arms_in(runs))}
    seeds = sorted({r["seed"] for r in runs if r["arm"] != "teacher"})
    lines = [
        f"| arm | {' | '.join(f'seed {s}' for s in seeds)} | mean | ahead of plain, paired (95 % interval) |",
        "|---|" + "---|" * (len(seeds) + 2),
    ]
    plain = by_arm.get("plain", {})
    for arm, found in by_arm.items():
        if not found:
            continue
        if arm == "teacher":
            r = found[0]
            lines.append(f"| teacher | {_pair(r)} |" + " |" * (len(seeds) + 1))
            continue
        cells = [_pair(found[s]) if s in found else "missing" for s in seeds]
        mean = f"{100 * statistics.mean(r['test']['map'] for r in found.values()):.1f}"
        differences = [
            100 * (found[s]["test"]["map"] - plain[s]["test"]["map"]) for s in seeds if s in found and s in plain
        ]
        lines.append(f"| {arm} | {' | '.join(cells)} | {mean} | {'' if arm == 'plain' else interval(differences)} |")
    return "\n".join(lines)


def interval(differences: list[float]) -> str:
    """Return mean and 95 % t interval of paired differences."""
    if not differences:
        return ""
    mean = statistics.mean(differences)
    t = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}.get(len(differences))
    if t is None:
        return f"{mean:+.1f}"
    half = t * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


def _pair(run: dict[str, Any]) -> str:
    return f"{100 * run['test']['map']:.1f} ({100 * run['val']['map']:.1f})"


def _csv(path: Path) -> Any:
    header, *rows = (line.split(",") for line in path.read_text().split())
    return ((header, row) for row in rows)


def _without_paths(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures without where the files lay on this machine."""
    return {key: value for key, value in figures.items() if key not in {"model", "data"}}


def _name(settings: dict[str, Any]) -> str:
    return Path(settings["data"]).resolve().parent.name


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main(sys.argv[1:])
