"""How many may be connected at once, and who goes when one more comes."""

from __future__ import annotations

import threading
from typing import Protocol

MOST = 128
MOST_OF_ONE = 64  # of one address; a browser opens about six


class Guest(Protocol):
    """A connection as this file sees it.

    Attributes:
        peer: the address it comes from.
        waiting_since: when it began to wait for its next request, in seconds; `None` while it is being answered.
    """

    peer: str
    waiting_since: float | None

    def drop(self) -> None:
        """End the connection, from another thread."""


class Places:
    """Takes newcomers in as long as anyone can go: whoever has waited longest without asking for anything.

    So connections that say nothing, or say it a byte at a time, never keep others out.
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
        since = {other: other.waiting_since for other in crowd}
        idle = {other: seconds for other, seconds in since.items() if seconds is not None}
        if not idle:
            return False
        longest = min(idle, key=lambda other: idle[other])
        self._guests.discard(longest)
        longest.drop()
        return True

    def leave(self, guest: Guest) -> None:
        """Give the place of `guest` back; one that was dropped has none any more."""
        with self._lock:
            self._guests.discard(guest)
