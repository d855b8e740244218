"""Checkpoints that are whole at every moment: written under another name and moved into place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ultralytics.utils import RANK

from yolo_distill.files import move_into_place


class AtomicCheckpoints:
    """Mixin for a host trainer: `last.pt` and `best.pt` are either the old file or the new one, never a part of it.

    The host writes checkpoints in place, so a run that is killed while it saves leaves nothing to resume from. Here it
    writes into a folder beside them, whose files are then moved over the real ones.

    Relies on: the host's `save_model` and `final_eval` take their paths from `self.wdir`, `self.last` and `self.best`.
    """

    wdir: Path
    last: Path
    best: Path

    def save_model(self) -> bool:
        """Save as the host does, then move the finished files into place."""
        with self._staged():
            return bool(super().save_model())  # type: ignore[misc]

    def final_eval(self) -> None:
        """Strip the optimizer from the finished checkpoints and validate the best one, as the host does."""
        if RANK not in {-1, 0}:
            super().final_eval()  # type: ignore[misc]
            return
        with self._staged(copy=True):
            super().final_eval()  # type: ignore[misc]

    @contextmanager
    def _staged(self, copy: bool = False) -> Iterator[None]:
        wdir, last, best = self.wdir, self.last, self.best
        stage = wdir / ".saving"
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        if copy:
            for path in (last, best):
                if path.exists():
                    shutil.copy2(path, stage)
        self.wdir, self.last, self.best = stage, stage / last.name, stage / best.name
        try:
            yield
            for path in sorted(stage.iterdir()):
                move_into_place(path, wdir / path.name)
        finally:
            self.wdir, self.last, self.best = wdir, last, best
            shutil.rmtree(stage, ignore_errors=True)
