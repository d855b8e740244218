"""`python -m yolo_distill.comparison.worker job.json`: one run of a comparison in a process of its own.

Its messages go where its output does; its record, or the line that says why there is none, into the run's folder.
"""

from __future__ import annotations

import sys
import threading
import traceback
from pathlib import Path

import torch
from ultralytics.utils import torch_utils

from yolo_distill.comparison.arms import TEACHER
from yolo_distill.comparison.run_monitor import RunMonitor
from yolo_distill.comparison.run_record import make_record, write_json
from yolo_distill.comparison.runs import EPOCHS, ERROR, RECORD, Job, read_job
from yolo_distill.comparison.training import train
from yolo_distill.errors import DistillError
from yolo_distill.files import write_bytes
from yolo_distill.runtime.plain_output import plain_output
from yolo_distill.torchrun.worker import end_with_input


def main(argv: list[str]) -> int:
    """Do the job in the file that is named."""
    job = read_job(Path(argv[0]))
    try:
        do(job)
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split()) or "no message"
        said = text if isinstance(error, DistillError) else f"{type(error).__name__}: {text}"
        write_bytes(job.path / ERROR, f"{said}\n".encode())
        return 1
    return 0


def do(job: Job) -> None:
    """Train, measure and write the record."""
    (job.path / ERROR).unlink(missing_ok=True)
    # Relies on: the host sets torch's threads to this number whenever it selects a CPU, at each training and each
    # measurement, and would give every one of several runs side by side all cores.
    torch_utils.NUM_THREADS = job.threads
    torch.set_num_threads(job.threads)
    followed = None if job.kind == TEACHER else job.path
    RunMonitor(job.path / EPOCHS, followed, job.seed, job.precision).attach()
    write_bytes(job.path / RECORD, write_json(make_record(job, train(job))))


if __name__ == "__main__":
    threading.Thread(target=end_with_input, daemon=True).start()
    with plain_output():
        sys.exit(main(sys.argv[1:]))
