"""What imports load: the package nothing heavy, the runtime and the command line no torch.

Which room may import which is for import-linter to say, by the contracts in pyproject.toml.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

import yolo_distill

HEAVY = {"torch", "torchvision", "ultralytics", "onnx", "onnxslim", "pydantic"}
#: What the extra [serve] brings, and who stands on it.
EXTRA_OF_SERVE = {
    "cryptography", "segno", "starlette", "uvicorn", "h11", "platformdirs", "yolo_distill.serve.app",
    "yolo_distill.serve.certificate", "yolo_distill.serve.server",
}  # fmt: skip


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_heavy():
    run(
        "import sys, yolo_distill\n"
        "dir(yolo_distill), yolo_distill.__version__\n"
        "loaded = {'torch', 'ultralytics', 'cv2', 'onnx', 'onnxruntime', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )


def test_the_detector_needs_only_the_base_install():
    run(
        f"import sys\nfor name in {sorted(HEAVY | EXTRA_OF_SERVE)}:\n    sys.modules[name] = None\n"
        "import yolo_distill\n"
        "from yolo_distill import Detections, Detector, DistillError\n"
        "import pkgutil, importlib, yolo_distill.benchmarking, yolo_distill.runtime, yolo_distill.serve\n"
        "import yolo_distill.commands\n"
        "for room in (yolo_distill.benchmarking, yolo_distill.runtime, yolo_distill.serve, yolo_distill.commands):\n"
        "    for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "        if sys.modules.get(module.name, module) is not None:\n"
        "            importlib.import_module(module.name)\n"
        "try:\n    yolo_distill.DistillationTrainer\n"
        "except ImportError:\n    pass\n"
        "else:\n    raise AssertionError('the trainer loaded without torch')"
    )


def test_public_names_are_what_they_say():
    pytest.importorskip("ultralytics")
    assert set(dir(yolo_distill)) <= set(yolo_distill.__all__)
    for name in yolo_distill.__all__:
        assert getattr(yolo_distill, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Detektor'"):
        yolo_distill.Detektor  # noqa: B018
