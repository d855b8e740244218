"""Ctrl-C, or a service manager's SIGTERM, as a question that the work answers between two frames."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupt:
    """Notes the first Ctrl-C or SIGTERM instead of ending, so that files can be finished; the second one raises.

    Attributes:
        asked: whether there was one.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        # Python lets the main thread alone handle signals. One that is ignored (nohup, &) stays ignored.
        if threading.current_thread() is threading.main_thread():
            for one in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(one) != signal.SIG_IGN:
                    self._before[one] = signal.signal(one, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)

    def _note(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
