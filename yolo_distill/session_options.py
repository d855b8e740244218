"""What every session of ONNX Runtime is opened with here, also those that the host opens."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError


def has_vnni(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this is known to be an x86 CPU that multiplies int8 exactly by itself; False if it is not known.

    Args:
        cpuinfo: where Linux says it.
    """
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:  # another system, which has no such file
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


#: Without it int8 products overflow on x86 CPUs that have no VNNI: answers are then off by a tenth of a score and more.
#: With VNNI it changes no answer and takes twice the time (onnxruntime 1.32), so it is left off there.
EXACT_INT8 = ("session.x64quantprecision", "0" if has_vnni() else "1")
#: Most bytes of what a file's constants make while it is opened, which the bound below does not see; older releases do
#: not know it.
_FOLDED = ("optimization.constant_folding_max_output_size_in_bytes", str(64 << 20))
_ARENA = ("session.use_env_allocators", "1")
_USUAL_MEMORY = 16 << 30  # where the system does not say
#: Most pixels of one input, pictures at a time counted.
_MOST_PIXELS = 2**27


def prepare(options: Any) -> None:
    """Have a session answer in exact int8, and refuse to run where it takes more than half of the machine's memory.

    Relies on: a session takes the arena that was registered last; releases that keep the first one for good complain.
    """
    import onnxruntime

    for entry in (EXACT_INT8, _FOLDED, _ARENA):
        options.add_session_config_entry(*entry)
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    known = hasattr(os, "sysconf")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else _USUAL_MEMORY
    with suppress(RuntimeError):
        onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({"max_mem": memory // 2}))


def require_size(shape: Iterable[Any], said: str) -> None:
    """Refuse an input of more pixels than any picture has, before memory is asked for it.

    Args:
        shape: pictures at a time, height and width; what is no number may be anything.
        said: what the error begins with.
    """
    if math.prod(side for side in shape if isinstance(side, int)) > _MOST_PIXELS:
        raise RequestError(f"{said}: the model takes inputs of more than {_MOST_PIXELS:,} pixels; export it again")


@contextmanager
def host_sessions(threads: int | None = None) -> Iterator[None]:
    """Have the host open ONNX files as `prepare` says, with so many threads; it has no setting for either.

    Args:
        threads: of a session; None: as the host has it, which takes all cores.
    """
    import onnxruntime

    original = onnxruntime.InferenceSession

    def opened(path: Any, sess_options: Any = None, *args: Any, **settings: Any) -> Any:
        options = sess_options or onnxruntime.SessionOptions()
        prepare(options)
        if threads is not None:
            options.intra_op_num_threads = threads
        return original(path, options, *args, **settings)

    onnxruntime.InferenceSession = opened
    try:
        yield
    finally:
        onnxruntime.InferenceSession = original
