"""What a run leaves is whole at every moment, also where it is killed while it saves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ultralytics.utils import RANK

from yolo_distill.engine.temporarily import temporarily
from yolo_distill.files import cannot_write, move_into_place, write_bytes


@contextmanager
def whole_checkpoints(trainer: Any, *, rewritten: bool = False) -> Iterator[None]:
    """Let a trainer of the host write its checkpoints: each is either the old file or the new one, never a part of it.

    The host writes them in place, so that a run which is killed while it saves would leave nothing to resume from. Here
    it writes into a folder beside them, whose files are then moved over the real ones.

    Relies on: the host's `save_model` and `final_eval` take their paths from `self.wdir`, `self.last` and `self.best`.

    Args:
        trainer: of the host.
        rewritten: those that are there are read and written again, as `final_eval` does.

    Raises:
        DistillError: the disk cannot be written.
    """
    if RANK not in {-1, 0}:  # it only waits for the first
        yield
        return
    wdir, stage = trainer.wdir, trainer.wdir / ".saving"
    files = {name: getattr(trainer, name) for name in ("last", "best")}
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        for file in files.values():
            if rewritten and file.exists():
                shutil.copy2(file, stage)
        with temporarily(trainer, wdir=stage, **{name: stage / file.name for name, file in files.items()}):
            yield
        for file in sorted(stage.iterdir()):
            move_into_place(file, wdir / file.name)
    except OSError as error:
        raise cannot_write(files["last"], error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def forget_lost_epochs(results: Path, epochs: int) -> None:
    """Drop rows of results.csv that are of no epoch so far: of one whose checkpoint a killed run could not finish.

    Of a run that begins they all go: the host would write on below them, under another run's header.
    """
    if not epochs:
        results.unlink(missing_ok=True)
    elif results.exists():
        header, *rows = results.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [row for row in rows if int(row.split(",", 1)[0]) <= epochs]
        write_bytes(results, "".join([header, *kept]).encode())
