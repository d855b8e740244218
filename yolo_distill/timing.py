"""Short measurements on a machine that others use as well."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from yolo_distill.session_options import prepare

#: Pictures that a model is timed on, at most: a few keep a CPU busy. On a GPU the time of a few is that of starting its
#: kernels, in which nothing differs.
AT_A_TIME, AT_A_TIME_ON_GPU = 4, 16
#: A call that takes longer than this is not repeated as often: a measurement must stay short.
LONG = 2.0
#: Of programs that are timed for so many seconds.
LEAST_ROUNDS = 5
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def timed_pictures(device: torch.device | str, batch: int) -> int:
    """Return how many pictures a model is to be timed on, for a run of so many at a time on that device."""
    return min(batch, AT_A_TIME if torch.device(device).type == "cpu" else AT_A_TIME_ON_GPU)


def least_seconds(
    calls: Mapping[str, Callable[[], object]], device: torch.device | str = "cpu", repeats: int = 3
) -> dict[str, float]:
    """Return the least time of each call in seconds, by name; long calls are not repeated as often."""
    rounds = _rounds(calls, device)
    least, took = next(rounds)
    for _ in range(repeats - 1):
        if took > LONG * len(calls):
            break
        least, took = next(rounds)
    return least


def in_turns(
    programs: Mapping[str, Callable[[], object]], *, seconds: float = 5.0, most: int = 100
) -> dict[str, float]:
    """Return the least time of each program in milliseconds, by name, on the CPU.

    Args:
        programs: name to what is timed.
        seconds: time for all of it, at least; a slow program gets `LEAST_ROUNDS` whatever it takes.
        most: rounds at most.
    """
    found, spent = {}, 0.0
    for number, (times, took) in enumerate(islice(_rounds(programs), most), 1):
        found, spent = times, spent + took
        if number >= LEAST_ROUNDS and spent >= seconds:
            break
    return {name: round(1000 * value, 3) for name, value in found.items()}


def _rounds(
    calls: Mapping[str, Callable[[], object]], device: torch.device | str = "cpu"
) -> Iterator[tuple[dict[str, float], float]]:
    """Yield the least time of each call so far and what this round took, in seconds, round after round without end.

    The calls take turns, so that a moment in which the machine is busy meets all of them. The least of a few rounds is
    what the machine can do: what is above tells of its other work, and a long call is interrupted more often than a
    short one, so that middle values of a busy machine would make it look slower than it is. A first round counts for
    nothing: first calls set things up.
    """
    kind = torch.device(device).type
    wait = getattr(torch, kind).synchronize if kind != "cpu" else lambda: None

    def timed(call: Callable[[], object]) -> float:
        wait()
        start = time.perf_counter()
        call()
        wait()
        return time.perf_counter() - start

    for call in calls.values():
        timed(call)
    least = dict.fromkeys(calls, math.inf)
    while True:
        times = {name: timed(call) for name, call in calls.items()}
        least = {name: min(least[name], times[name]) for name in calls}
        yield least, sum(times.values())


def session_run(file: Path, threads: int) -> Callable[[], Any]:
    """Return a call that runs a file once on an input of noise, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    prepare(options)
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    noise = np.random.default_rng(0).random(given.shape)
    kind = _TYPES[given.type]
    picture = (noise * 255 if kind is np.uint8 else noise).astype(kind)
    return lambda: session.run(None, {given.name: picture})
