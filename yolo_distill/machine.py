"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2

from yolo_distill.version import __version__

_LIBRARIES = ("numpy", "onnxruntime", "torch", "ultralytics", "openvino", "ncnn")


def machine() -> dict[str, Any]:
    """Return processor, cores, system, and what else the machine was doing."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def busy() -> str:
    """Return in words that others keep the machine busy; empty where it is quiet, or does not tell."""
    load, cores = machine()["load_average"], os.cpu_count() or 1
    if load is None or load <= cores + 1:  # our own work on all cores counts as well
        return ""
    return f"the machine was busy (load {load:.1f} on {cores} core{'s' * (cores > 1)}): these times are doubtful"


def versions() -> dict[str, str]:
    """Return the versions of all that takes part, if it is installed."""
    found = {"yolo_distill": __version__, "python": platform.python_version(), "opencv": cv2.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_name() -> str:
    """Return what the processor is called, and of which family and model it is where that is known.

    Virtual machines hide the model behind a name such as `AMD EPYC`; two of them neither take as long nor need they add
    up in the same order, so that the same training comes out otherwise.
    """
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    first: dict[str, str] = {}
    for key, colon, value in (line.partition(":") for line in lines):
        if colon:
            first.setdefault(key.strip(), value.strip())
    name = first.get("model name") or platform.processor() or platform.machine()
    known = [f"{word} {first[key]}" for key, word in (("cpu family", "family"), ("model", "model")) if key in first]
    return f"{name}, {' '.join(known)}" if known else name


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
