"""A thread that makes things one after another, and holds one of them for whoever takes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Stage(Generic[T]):
    """Runs a generator in a thread.

    The next thing is made only once the one before was taken: one that had to wait would be old, and none is made in
    vain. With `newest` it is made at once, and takes the place of the one before.

    Attributes:
        dropped: things that nobody took because a newer one came.
        ended: whether there are no more, and `take` has returned so.
        closing: set once nothing more is wanted; a generator that waits for something watches it.
    """

    def __init__(self, make: Callable[[Stage[T]], Iterator[T]], *, name: str, newest: bool = False) -> None:
        """Start the thread; `make` gets the stage and returns the generator."""
        self.dropped = 0
        self.ended = False
        self.closing = threading.Event()
        self._make, self._newest = make, newest
        self._change = threading.Condition()
        self._thing: T | None = None
        self._over = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> T | None:
        """Return what is there; `None` if nothing came within `timeout` seconds, or nothing will.

        Raises:
            BaseException: what the generator failed with, once everything it made before is taken.
        """
        with self._change:
            self._change.wait_for(lambda: self._thing is not None or self._over, timeout)
            thing, self._thing = self._thing, None
            self._change.notify_all()
            self.ended = thing is None and self._over
            if self.ended and self._error is not None:
                raise self._error
            return thing

    def close(self, timeout: float | None = None) -> bool:
        """End the generator once what is in work is done; return whether it ended within `timeout` seconds."""
        self.closing.set()
        with self._change:
            self._change.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            things = self._make(self)
            while self._is_wanted() and (thing := next(things, None)) is not None:
                with self._change:
                    self.dropped += self._thing is not None
                    self._thing = thing
                    self._change.notify_all()
        except BaseException as caught:
            error = caught
        with self._change:
            self._over, self._error = True, error
            self._change.notify_all()

    def _is_wanted(self) -> bool:
        """Return whether to make the next thing, as soon as it is its turn."""
        with self._change:
            self._change.wait_for(lambda: self._newest or self._thing is None or self.closing.is_set())
        return not self.closing.is_set()
