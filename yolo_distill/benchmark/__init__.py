"""`benchmark`: exported files and checkpoints side by side: latency, throughput, memory, size, accuracy."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """The room and the function share a name: once the room is imported, `yolo_distill.benchmark` is this module."""

    def __call__(self, *args: Any, **settings: Any) -> Any:
        from yolo_distill import api

        return api.benchmark(*args, **settings)


sys.modules[__name__].__class__ = _Room
