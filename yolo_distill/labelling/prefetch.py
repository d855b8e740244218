"""Work that is done in threads before it is asked for, so that nobody waits for a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


def prefetch(
    pool: ThreadPoolExecutor, work: Callable[[_Thing], _Result], things: Iterable[_Thing], most: int
) -> Iterator[_Result]:
    """Yield `work(thing)` for each thing, in order, while up to `most` later ones are being worked on."""
    waiting: deque[Future[_Result]] = deque()
    for thing in things:
        waiting.append(pool.submit(work, thing))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
