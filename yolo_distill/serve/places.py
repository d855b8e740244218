"""How many may be connected at once, and who goes when one more comes."""

from __future__ import annotations

import threading
import time
from typing import Protocol

MOST = 128
MOST_OF_ONE = 64  # of one address; a browser opens about six
#: Seconds: who takes an answer for longer goes when nobody else can.
PATIENCE = 60.0


class Guest(Protocol):
    """A connection as this file sees it.

    Attributes:
        peer: the address it comes from.
        since: when it began to wait for its next request, or to be answered, in seconds.
        answered: whether it is being answered.
    """

    peer: str
    since: float
    answered: bool

    def drop(self) -> None:
        """End the connection, from another thread."""


class Places:
    """Takes newcomers in as long as anyone can go: whoever has waited longest without asking for anything.

    So connections that say nothing, or say it a byte at a time, never keep others out; nor do those that take their
    answer a byte at a time.
    """

    def __init__(self, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._guests: set[Guest] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest) -> bool:
        """Return whether there is a place for `guest`, who has it then."""
        with self._lock:
            alike = [other for other in self._guests if other.peer == guest.peer]
            if len(alike) >= self._most_of_one:
                free = self._free_one(alike)
            else:
                free = len(self._guests) < self._most or self._free_one(list(self._guests))
            if not free:
                return False
            self._guests.add(guest)
            return True

    def _free_one(self, crowd: list[Guest]) -> bool:
        late = time.monotonic() - PATIENCE
        # Noted once: they go on meanwhile.
        noted = {other: (other.answered, other.since) for other in crowd}
        may_go = {other: state for other, state in noted.items() if not state[0] or state[1] < late}
        if not may_go:
            return False
        longest = min(may_go, key=lambda other: may_go[other])  # of those that wait, if there are any
        self._guests.discard(longest)
        longest.drop()
        return True

    def leave(self, guest: Guest) -> None:
        """Give the place of `guest` back; one that was dropped has none any more."""
        with self._lock:
            self._guests.discard(guest)
