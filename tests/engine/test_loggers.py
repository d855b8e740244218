"""Loggers of Ultralytics keep a distilled run with its terms: TensorBoard, MLflow and Weights & Biases, offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

#: What a logger needs to stay on this machine, and where it keeps the runs, below the working folder.
LOGGERS = {
    "tensorboard": ({}, "runs/*/events.out.tfevents.*"),
    "mlflow": ({"MLFLOW_TRACKING_URI": "sqlite:///kept.db"}, "kept.db"),
    "wandb": ({"WANDB_MODE": "offline", "WANDB_SILENT": "true"}, "**/offline-run-*/run-*.wandb"),
}


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_keeps_the_losses_of_the_terms(name, tiny_data, tiny_student, tiny_teacher, tmp_path: Path) -> None:
    pytest.importorskip(name)
    local, kept = LOGGERS[name]
    # The host keeps its loggers out of tests, which it knows by their environment.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment |= {"YOLO_CONFIG_DIR": str(tmp_path / "host"), **local}
    words = ["train", f"teacher={tiny_teacher}", f"student={tiny_student}", f"data={tiny_data}", "teach=true"]
    words += ["epochs=1", "imgsz=32", "batch=4", "device=cpu", "workers=0", f"project={tmp_path / 'runs'}"]
    code = f"from ultralytics import settings; settings.update({{{name!r}: True}})\n"
    code += f"import sys; from yolo_distill.cli import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    files = list(tmp_path.glob(kept))
    assert files, f"nothing at {kept}: {sorted(tmp_path.rglob('*'))}\n{done.stdout}"
    assert any(b"train/logit" in file.read_bytes() for file in files)
