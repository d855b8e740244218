"""Short measurements on a machine that others use as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from yolo_distill.session_options import EXACT_INT8

#: Pictures that a model is timed on, at most: a few keep a CPU busy. On a GPU the time of a few is that of starting its
#: kernels, in which nothing differs.
AT_A_TIME, AT_A_TIME_ON_GPU = 4, 16
#: A call that takes longer than this is not repeated as often: a measurement must stay short.
LONG = 2.0


def timed_pictures(device: torch.device | str, batch: int) -> int:
    """Return how many pictures a model is to be timed on, for a run of so many at a time on that device."""
    return min(batch, AT_A_TIME if torch.device(device).type == "cpu" else AT_A_TIME_ON_GPU)


def least_seconds(
    calls: Mapping[str, Callable[[], object]], device: torch.device | str = "cpu", repeats: int = 3
) -> dict[str, float]:
    """Return the least time of each call in seconds, by name.

    The calls take turns, so that a moment in which the machine is busy meets all of them; the least of a few is what
    the machine can do. Each has one turn before that counts for nothing: first calls set things up.
    """
    kind = torch.device(device).type

    def wait() -> None:
        if kind != "cpu":
            getattr(torch, kind).synchronize()

    least = dict.fromkeys(calls, float("inf"))
    for turn in range(-1, repeats):
        began = time.perf_counter()
        for name, call in calls.items():
            wait()
            start = time.perf_counter()
            call()
            wait()
            if turn >= 0:
                least[name] = min(least[name], time.perf_counter() - start)
        if turn >= 0 and time.perf_counter() - began > LONG * len(calls):
            break
    return least


_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def in_turns(
    programs: Mapping[str, Callable[[], Any]], *, seconds: float = 5.0, least: int = 5, most: int = 100
) -> dict[str, float]:
    """Return the shortest time of each program in milliseconds.

    The programs take turns, so that a machine that is busy for a while slows all of them down. What is above the
    shortest time tells of the machine's other work: a long program is interrupted more often than a short one, so that
    middle values of a busy machine would make the long one look slower than it is.

    Args:
        programs: name to what is timed.
        seconds: time for all of it, at least; a slow program gets `least` rounds whatever it takes.
        least: rounds at least.
        most: rounds at most.
    """
    for program in programs.values():
        program()
    times: dict[str, list[float]] = {name: [] for name in programs}
    started, rounds = time.perf_counter(), 0
    while rounds < least or (rounds < most and time.perf_counter() - started < seconds):
        for name, program in programs.items():
            before = time.perf_counter()
            program()
            times[name].append(time.perf_counter() - before)
        rounds += 1
    return {name: round(1000 * min(values), 3) for name, values in times.items()}


def session_run(file: Path, threads: int) -> Callable[[], Any]:
    """Return a call that runs a file once on an input of noise, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry(*EXACT_INT8)
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    noise = np.random.default_rng(0).random(given.shape)
    kind = _TYPES[given.type]
    picture = (noise * 255 if kind is np.uint8 else noise).astype(kind)
    return lambda: session.run(None, {given.name: picture})
