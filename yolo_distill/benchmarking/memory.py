"""How much memory a model takes: loaded, and asked once, in a process that does nothing else."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from yolo_distill.benchmarking.engines import Job, open_engine
from yolo_distill.errors import DistillError
from yolo_distill.runtime.letterbox import Picture

_RESULT, _ERROR = "RESULT ", "ERROR "
_PATIENCE = 600.0  # seconds that a model gets to load and answer
_LIBRARIES = {"ours": "yolo_distill.runtime.detector", "host": "ultralytics", "ncnn": "ncnn"}


def measure_in_process(job: Job, picture: Picture) -> dict[str, Any]:
    """Open a model in a fresh process, detect once there, and return what that took.

    Returns:
        `memory_bytes` (the highest resident size; None where the system does not say), `import_ms` (loading the
        library) and `ready_ms` (from there to the first answer).

    Raises:
        DistillError: the process failed; its last words are in the message.
    """
    beside = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="yolo-distill-") as folder:
        file = Path(folder) / "job.pickle"
        file.write_bytes(pickle.dumps((job, picture)))
        try:
            done = subprocess.run(
                [sys.executable, "-m", __name__, str(file)],
                env={**os.environ, "PYTHONPATH": beside.rstrip(os.pathsep), "OMP_NUM_THREADS": str(job.threads)},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DistillError(f"gave no answer within {_PATIENCE:.0f} seconds") from error
    for line in done.stdout.splitlines():
        if line.startswith(_RESULT):
            return dict(json.loads(line.removeprefix(_RESULT)))
        if line.startswith(_ERROR):
            raise DistillError(line.removeprefix(_ERROR))
    # It was ended from outside, or crashed below Python.
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last_words = f" ({said[-1][-200:]})" if said else ""
    raise DistillError(f"its process ended with exit code {done.returncode}{last_words}")


def peak_memory() -> int | None:
    """Return the highest resident size of this process in bytes; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: on Linux a process begins with the peak of the one that started it, which holds all models.
        lines = status.read_text(encoding="utf-8").splitlines()
        kilobytes = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return 1024 * int(kilobytes[0]) if kilobytes else None
    try:
        import resource
    except ModuleNotFoundError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)


def _measure(job: Job, picture: Picture) -> dict[str, Any]:
    begun = time.perf_counter()
    import_module(_LIBRARIES.get(job.backend, "openvino"))
    imported = time.perf_counter()
    open_engine(job).first(picture)
    ready = time.perf_counter()
    return {
        "memory_bytes": peak_memory(),
        "import_ms": round(1000 * (imported - begun), 1),
        "ready_ms": round(1000 * (ready - imported), 1),
    }


if __name__ == "__main__":
    try:
        said = f"{_RESULT}{json.dumps(_measure(*pickle.loads(Path(sys.argv[1]).read_bytes())))}"
    except Exception as error:
        text = " ".join(str(error).split()) or "no message"
        said = f"{_ERROR}{text if isinstance(error, DistillError) else f'{type(error).__name__}: {text}'}"
    print(f"\n{said}", flush=True)
