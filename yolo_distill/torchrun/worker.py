"""One of the workers that train together, each on a device of its own; `ranks.py` starts them.

Reads from its standard input what Ultralytics gives its own workers in a file, and ends where that input does.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from pathlib import Path
from typing import Any


def main() -> int:
    """Train; return the exit code."""
    given = sys.stdin.buffer
    state = given.read(int.from_bytes(given.read(8), "big"))
    threading.Thread(target=end_with_input, daemon=True).start()

    from torch import distributed
    from ultralytics.utils import DEFAULT_CFG_DICT, RANK

    from yolo_distill.errors import DistillError, RequestError
    from yolo_distill.torchrun.ranks import LEFT_ALONE

    try:
        job = pickle.loads(state)  # from rank 0, as all that processes of torch send each other
        if not Path(folder := job["args"]["save_dir"]).is_dir():
            raise RequestError(f"{folder}: is not there; project= has to be on a disk that all machines share")
        trainer = job["trainer"](
            cfg={**DEFAULT_CFG_DICT, "save_dir": ""}, overrides=job["args"], _callbacks=job["callbacks"]
        )
        trainer.model = job["model"]
        trainer.train()
        distributed.destroy_process_group()
    except DistillError as error:
        print(f"yolo-distill: rank {RANK}: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if _is_of_another(error):
            return LEFT_ALONE
        traceback.print_exc()
        return 1
    return 0


def end_with_input() -> None:
    """End this process when the one that started it is gone, however that came about.

    It holds the other end of our standard input, and writes no more into it. Checkpoints and records are moved into
    place whole, so there is no bad moment for it.
    """
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _is_of_another(error: BaseException) -> bool:
    """Return whether an error says no more than that another worker can't be reached."""
    from torch import distributed

    said: Any = str(error)
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in said)


if __name__ == "__main__":
    if code := main():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what is left of a group whose other workers are gone would wait for them
