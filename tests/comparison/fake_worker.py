"""Stands in for `yolo_distill.comparison.worker`: trains nothing, and does what the environment says.

`NOTES` names a file that gets a line when a job begins and one when it ends. `BEHAVE` is a JSON object: by name of the
run's folder, `crash`, `die`, `hang`, or a figure and the seconds of an epoch: `[0.4, 1.5]`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from made import record, write


def note(**line: object) -> None:
    with Path(os.environ["NOTES"]).open("a") as stream:
        stream.write(json.dumps({**line, "at": time.monotonic(), "pid": os.getpid()}) + "\n")


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    behave = json.loads(os.environ.get("BEHAVE", "{}")).get(folder.name, [0.4, 1.0])
    note(begins=folder.name, job=job, omp=os.environ["OMP_NUM_THREADS"])
    print("at work", flush=True)
    with (folder / "epochs.jsonl").open("a") as stream:
        stream.write('{"epoch": 1, "seconds": 60.0}\n')
    if behave == "hang":
        time.sleep(60)
    if behave == "die":
        os.kill(os.getpid(), 9)
    if behave == "crash":
        (folder / "error.txt").write_text("RuntimeError: no luck\n")
        return 1
    time.sleep(float(os.environ.get("WORK", "0")))
    value, seconds = behave
    epochs = job["host"].get("epochs", 100)
    made = record(
        job["label"], job["seed"], value, kind=job["kind"], epochs=epochs, epoch_cpu_seconds=[seconds, seconds]
    )
    write(folder, made)
    note(ends=folder.name)
    return 0


def end_with_parent() -> None:
    os.read(0, 1)
    os._exit(3)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.exit(main())
