"""A place for one thing between two threads."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Slot(Generic[T]):
    """Hands things from one thread, the giver, to another, the taker, and never holds more than one.

    Attributes:
        replaced: things that nobody took because a newer one came.
        ended: whether the giver is done and the taker was told so.
    """

    def __init__(self) -> None:
        self.replaced = 0
        self.ended = False
        self._change = threading.Condition()
        self._thing: T | None = None
        self._over = False
        self._shut = False
        self._error: BaseException | None = None

    def replace(self, thing: T) -> None:
        """Put a thing down; one that is still there is thrown away."""
        with self._change:
            self.replaced += self._thing is not None
            self._thing = thing
            self._change.notify_all()

    def put(self, thing: T) -> bool:
        """Put a thing down as soon as the one before is taken; return whether the taker is still there."""
        with self._change:
            if self.wait_until_free():
                self._thing = thing
                self._change.notify_all()
            return not self._shut

    def wait_until_free(self) -> bool:
        """Wait until the thing before is taken; return whether the taker is still there."""
        with self._change:
            self._change.wait_for(lambda: self._thing is None or self._shut)
            return not self._shut

    def take(self, timeout: float) -> T | None:
        """Return what is there; `None` if nothing came within `timeout` seconds, or nothing will.

        Raises:
            BaseException: what the giver failed with, once everything it gave before is taken.
        """
        with self._change:
            self._change.wait_for(lambda: self._thing is not None or self._over, timeout)
            thing, self._thing = self._thing, None
            self._change.notify_all()
            if thing is None and self._over:
                self.ended = True
                if self._error is not None:
                    raise self._error
            return thing

    def end(self, error: BaseException | None = None) -> None:
        """Say, as the giver, that nothing more will come, and why if that was a failure."""
        with self._change:
            self._over, self._error = True, error
            self._change.notify_all()

    def shut(self) -> None:
        """Say, as the taker, that nothing more is wanted; a giver that waits goes on."""
        with self._change:
            self._shut = True
            self._change.notify_all()
