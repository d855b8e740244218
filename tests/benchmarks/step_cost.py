"""What a training step costs: plain, with the host's distillation, with ours, and the least it could cost.

    python tests/benchmarks/step_cost.py data=path/to/bccd/data.yaml results=runs/step_cost.jsonl
    python tests/benchmarks/step_cost.py data=... results=... pairs=yolo26s:yolo26n sizes=192 threads=1 rounds=9

`arms=plain,ours` leaves the others out: with fewer models in the process there is more cache and memory for each, which
is how a real run has it. `table=true` only prints the table of what is there.

A step is forward, loss, backward, clipping, AdamW and the EMA copy, on real pictures. All arms of a pair live in one
process and take turns; what is reported is the median over rounds of each arm's time divided by plain's in the same
round, so that whatever else the machine does meets all of them. Arms:

    plain    the host's step: fp32, in the order the host uses on this device
    host     the host's `distill_model=`
    ours32   ours with everything in fp32
    ours16t  ours with the teacher in bf16 (on a GPU fp16), the student in fp32
    ours     ours as a run on this machine would choose, student and teacher
    floor    plain's step and the bare forward pass of the teacher in the cheapest precision

Weights are those of fresh models: what is computed does not depend on what was learnt. The one thing that does, how
many anchors the teacher is sure of, is set to a tenth of all by its class biases. Memory is the highest resident size
of a process of its own that does eight steps of one arm; `growth` is what the last four of twelve steps added to it.
`terms` is the share of ours that the terms take, forward and backward.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evidence import read

from yolo_distill.machine import cpu_name

ARMS = ("plain", "host", "ours32", "ours16t", "ours", "floor")
PAIRS = "yolo26s:yolo26n,yolo26m:yolo26n,yolo26l:yolo26n,yolo11s:yolo11n,yolo11m:yolo11n,yolo11l:yolo11n,"
PAIRS += "yolov8s:yolov8n,yolov8m:yolov8n,yolov8l:yolov8n"
BATCH = {192: 16, 320: 8, 640: 4}
SURE = 0.1  # share of anchors whose boxes are taught


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    if "one" in options:
        print("RESULT " + json.dumps(one(json.loads(options["one"]))), flush=True)
        return
    results = Path(options["results"])
    if options.get("table") == "true":
        print(table(results))
        return
    rounds = int(options.get("rounds", "7"))
    for threads in map(int, options.get("threads", "1,2").split(",")):
        for size in map(int, options.get("sizes", "192,320,640").split(",")):
            for pair in options.get("pairs", PAIRS).rstrip(",").split(","):
                teacher, student = pair.split(":")
                job = {
                    "teacher": teacher, "student": student, "size": size, "threads": threads, "rounds": rounds,
                    "batch": int(options.get("batch", BATCH.get(size, 4))), "data": options["data"],
                    "device": options.get("device", "cpu"),
                    "arms": options.get("arms", ",".join(ARMS)).split(","),
                }  # fmt: skip
                if any(all(done.get(k) == v for k, v in job.items() if k != "data") for done in read(results)):
                    continue
                line = {**call(job), **{k: v for k, v in job.items() if k != "data"}}
                if options.get("memory", "true") == "true":
                    line["memory_mb"] = {a: call({**job, "arm": a})["memory_mb"] for a in job["arms"] if a != "floor"}
                results.parent.mkdir(parents=True, exist_ok=True)
                with results.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
                print(table(results), flush=True)


def call(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a process of its own and return what it measured."""
    env = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "YOLO_OFFLINE": "true"}
    done = subprocess.run(
        [sys.executable, __file__, f"one={json.dumps(job)}"], env=env, text=True, stdout=subprocess.PIPE, check=True
    )
    return json.loads(
        next(row for row in done.stdout.splitlines() if row.startswith("RESULT ")).removeprefix("RESULT ")
    )


def one(job: dict[str, Any]) -> dict[str, Any]:
    """Measure one pair: all arms in turns or, with `arm`, the memory of that one."""
    import torch
    import ultralytics

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    setting = Setting(job)
    if "arm" in job:
        step = setting.arm(job["arm"])
        for _ in range(8):
            step()
        if setting.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**20
            return {"memory_mb": {"peak": round(peak), "growth": 0}}
        eight = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(4):
            step()
        twelve = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"memory_mb": {"peak": round(eight / 1024), "growth": round((twelve - eight) / 1024)}}

    arms = {name: setting.arm(name) for name in job["arms"]}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(-2, job["rounds"]):
        for name, step in arms.items():
            spent = setting.timed(step)
            if turn >= 0:
                seconds[name].append(spent)
    ratios = {
        name: statistics.median(a / b for a, b in zip(times, seconds["plain"], strict=True))
        for name, times in seconds.items()
    }
    setting.terms_alone()  # sets things up
    terms = statistics.median(setting.timed(setting.terms_alone) for _ in range(job["rounds"]))
    reference = seconds.get("ours", seconds["plain"])
    return {
        "ratio": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "plain_ms": round(1000 * statistics.median(seconds["plain"]), 1),
        "terms": round(terms / statistics.median(reference), 4),
        "chosen": setting.chosen,
        "versions": {
            "ultralytics": ultralytics.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "machine": setting.machine,
        "date": time.strftime("%Y-%m-%d"),
    }


class Setting:
    """A pair, a batch of real pictures, and the arms to train on it."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch
        from ultralytics.cfg import get_cfg
        from ultralytics.nn.tasks import DetectionModel

        from yolo_distill.data.dataset import check_data
        from yolo_distill.data.samples import sample_pictures
        from yolo_distill.engine.step_cost import made_batch

        self.device = torch.device(job["device"])
        self.pictures = sample_pictures(check_data(job["data"], "train"), job["size"], 32).to(self.device)
        wanted = -(-job["batch"] // len(self.pictures))
        self.batch = made_batch(self.pictures.repeat(wanted, 1, 1, 1)[: job["batch"]].contiguous())
        self.args = get_cfg(overrides={"imgsz": job["size"], "distill_model": job["teacher"]})
        self.student_name = f"{job['student']}.yaml"
        self.teacher = DetectionModel(f"{job['teacher']}.yaml", nc=3, verbose=False).eval().to(self.device)
        self.chosen: dict[str, str] = {}
        self.machine = _machine(self.device)
        with torch.no_grad():
            self._make_sure()

    def student(self) -> Any:
        import torch
        from ultralytics.nn.tasks import DetectionModel

        torch.manual_seed(0)
        model = DetectionModel(self.student_name, nc=3, verbose=False).to(self.device)
        model.args = self.args
        return model.to(memory_format=torch.channels_last) if self.device.type == "cuda" else model

    def arm(self, name: str) -> Callable[[], None]:
        """Return a call that does one step of the arm."""
        import torch

        model, amp = self.student(), self.device.type == "cuda"
        if name == "host":
            from copy import deepcopy

            from ultralytics.nn.distill_model import DistillationModel

            return self._step(DistillationModel(deepcopy(self.teacher), model), None, amp)
        if name == "plain":
            return self._step(model, None, amp)
        if name == "floor":
            teacher = self._teacher("auto", name)
            plain = self._step(model, None, amp)

            def floor() -> None:
                teacher.wait(teacher(self.batch["img"]))
                plain()

            return floor
        from yolo_distill.engine.step_cost import FullPrecisionLoss, choose_student_precision

        if not amp:
            model = model.to(memory_format=torch.channels_last)
        precision = "fp32"
        if name == "ours" and not amp:
            precision = choose_student_precision(model, self.pictures, True)
        half = "fp16" if amp else "bf16"
        teacher = self._teacher({"ours32": "fp32", "ours16t": half, "ours": "auto"}[name], name)
        host = FullPrecisionLoss(model.init_criterion()) if precision == "bf16" else model.init_criterion()
        self.chosen[name] = f"student {'amp' if amp else precision}, teacher {self.chosen[name]}"
        return self._step(model, self._criterion(model, teacher, host), amp or precision == "bf16")

    def terms_alone(self) -> None:
        """Do the terms of a step, forward and backward, from the student's answer as a leaf."""
        import torch

        if not hasattr(self, "_leaf"):
            model = self.student().train()
            self._teacher_answers = self._teacher("fp32", "terms")
            self._alone = self._criterion(model, self._teacher_answers, lambda preds, batch: None)
            with torch.no_grad():
                self._leaf = model(self.batch["img"])
            self._answer = self._teacher_answers(self.batch["img"])
        leaf = _leaves(self._leaf)
        self._alone._answer = self._answer
        total = sum(self._alone._terms(torch.zeros(()), leaf, self.batch).values())
        total.backward()

    def timed(self, step: Callable[[], None]) -> float:
        import torch

        def wait() -> None:
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        wait()
        start = time.perf_counter()
        step()
        wait()
        return time.perf_counter() - start

    def _step(self, model: Any, criterion: Any, amp: bool) -> Callable[[], None]:
        import torch
        from ultralytics.utils.torch_utils import ModelEMA

        model.train()
        ema = ModelEMA(model)
        if criterion is not None:
            model.criterion = criterion
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        cuda = self.device.type == "cuda"
        scaler = torch.amp.GradScaler("cuda", enabled=amp and cuda)

        def step() -> None:
            batch = dict(self.batch)
            with torch.autocast(self.device.type, torch.float16 if cuda else torch.bfloat16, enabled=amp):
                if criterion is not None:
                    criterion.prepare(batch)
                loss, _ = model(batch)
            scaler.scale(loss.sum()).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            ema.update(model)

        return step

    def _teacher(self, precision: str, who: str) -> Any:
        from yolo_distill.teachers.head import Needs
        from yolo_distill.teachers.precision import choose_forward
        from yolo_distill.teachers.yolo import YoloTeacher

        teacher = YoloTeacher(self.teacher, self.device, Needs(maps=False))
        # As many answers as a real run asks for, so that what only pays in a run of minutes is tried.
        self.chosen[who] = str(choose_forward(teacher, precision, self.pictures.cpu(), 10**6))
        return teacher

    def _criterion(self, model: Any, teacher: Any, host: Any) -> Any:
        from torch import nn

        from yolo_distill.data.class_mapping import match_classes
        from yolo_distill.distillation.criterion import DistillationCriterion
        from yolo_distill.distillation.terms import Levels, Terms
        from yolo_distill.recipe import make_recipe

        names = {i: str(i) for i in range(3)}
        strides = [int(s) for s in model.stride]
        terms = Terms(
            make_recipe({"teacher": "-"}), match_classes(names, names), Levels.match(strides, strides), nn.ModuleDict()
        )
        return DistillationCriterion(host, teacher, terms, strides, int(model.model[-1].reg_max))

    def _make_sure(self) -> None:
        """Shift the teacher's class biases until it is sure of something at a tenth of the anchors."""
        head = self.teacher.model[-1]
        raw = self.teacher(self.batch["img"])[1]
        for name, layers in (("one2many", head.cv3), ("one2one", getattr(head, "one2one_cv3", None))):
            if layers is None:
                continue
            best = raw.get(name, raw)["scores"].amax(1).flatten()
            shift = math.log(0.05 / 0.95) - float(best.kthvalue(int((1 - SURE) * best.numel()) or 1).values)
            for layer in layers:
                layer[-1].bias += shift


def _leaves(preds: Any) -> Any:
    if isinstance(preds, dict):
        return {key: _leaves(value) for key, value in preds.items()}
    if isinstance(preds, list):
        return [_leaves(value) for value in preds]
    return preds.detach().requires_grad_()


def _machine(device: Any) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def table(results: Path) -> str:
    """Return the table of MEASURED.md: each arm's step as a multiple of the plain one."""
    rows = [
        "| pair | px | threads | plain | host | ours, fp32 | teacher bf16 | as chosen | floor | ours, fp32: part of "
        "the host's overhead | terms | peak memory, host / ours |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in read(results):
        x, memory = r["ratio"], r.get("memory_mb")
        part = f"{(x['ours32'] - 1) / (x['host'] - 1):.2f}" if {"ours32", "host"} <= x.keys() else ""
        cells = " | ".join(f"{x[arm]:.2f}" if arm in x else "" for arm in ARMS[1:])
        terms = "" if r["terms"] is None else f"{r['terms']:.1%}"
        peaks = f"{memory['host']['peak']} / {memory['ours']['peak']} MB" if memory else ""
        rows.append(
            f"| {r['teacher']} -> {r['student'][-1]} | {r['size']} | {r['threads']} | {r['plain_ms']:.0f} ms | "
            f"{cells} | {part} | {terms} | {peaks} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
