"""What every session of ONNX Runtime is opened with here, also those that the host opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Without it int8 products overflow on x86 CPUs that have no VNNI: answers are then off by a tenth of a score and more.
#: It changes nothing elsewhere.
EXACT_INT8 = ("session.x64quantprecision", "1")


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
