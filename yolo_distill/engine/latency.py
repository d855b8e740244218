"""How long one picture takes, several programs measured in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from yolo_distill.session_options import EXACT_INT8

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
