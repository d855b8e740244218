"""What every session of ONNX Runtime is opened with here, also those that the host opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


@contextmanager
def host_sessions(threads: int | None = None) -> Iterator[None]:
    """Have the host open ONNX files with exact int8, and so many threads; it has no setting for either.

    Args:
        threads: of a session; None: as the host has it, which takes all cores.
    """
    import onnxruntime

    original = onnxruntime.InferenceSession

    def opened(path: Any, sess_options: Any = None, *args: Any, **settings: Any) -> Any:
        options = sess_options or onnxruntime.SessionOptions()
        options.add_session_config_entry(*EXACT_INT8)
        if threads is not None:
            options.intra_op_num_threads = threads
        return original(path, options, *args, **settings)

    onnxruntime.InferenceSession = opened
    try:
        yield
    finally:
        onnxruntime.InferenceSession = original
