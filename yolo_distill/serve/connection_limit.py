"""How many may be connected at once, how long each may keep the server waiting, and who goes when one more comes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

MOST = 128
MOST_OF_ONE = 64  # of one address; a browser opens about six
#: Seconds for a handshake, for a whole head, and for the client to take each piece of an answer.
STEP_SECONDS = 15.0
#: Seconds: who takes an answer for longer goes when nobody else can.
ANSWER_SECONDS = 60.0
#: Seconds: likewise who has taken nothing of its answer for so long.
STALLED_SECONDS = 2.0


class Connection:
    """A client's connection, as the limits see it.

    Attributes:
        socket: just accepted.
        peer: the address it comes from.
        transport: what sends and receives, once there is one.
        answered: whether a request of it is being answered.
        since: when it began to be answered, or to wait for its next request (monotonic, in seconds).
        stepped: when it did its last step.
        deadline: by when its next step has to be done.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.socket, self.peer = sock, peer
        self.transport: asyncio.Transport | None = None
        self.turn(answered=False)

    def turn(self, *, answered: bool) -> None:
        """Note that an answer begins, or has ended."""
        self.answered, self.since = answered, time.monotonic()
        self.step()

    def step(self) -> None:
        """Note that it has done a step, and give it time for the next one."""
        self.stepped = time.monotonic()
        self.deadline = self.stepped + STEP_SECONDS

    def drop(self) -> None:
        """End it at once; what it was still to be sent is lost."""
        if self.transport:
            self.transport.abort()
        else:
            with suppress(OSError):  # it may have ended by itself
                self.socket.shutdown(socket.SHUT_RDWR)


class Connections:
    """Takes newcomers in as long as anyone can go: whoever has waited longest without asking for anything.

    So connections that say nothing, or say it a byte at a time, never keep others out; nor do those that take their
    answer a byte at a time, or not at all.
    """

    def __init__(self, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._all: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._all))

    def enter(self, newcomer: Connection) -> bool:
        """Return whether there is a place for `newcomer`, who has it then."""
        alike = [other for other in self._all if other.peer == newcomer.peer]
        if len(alike) >= self._most_of_one:
            free = self._free_one(alike)
        else:
            free = len(self._all) < self._most or self._free_one(list(self._all))
        if free:
            self._all.add(newcomer)
        return free

    def _free_one(self, crowd: list[Connection]) -> bool:
        now = time.monotonic()
        may_go = [
            other
            for other in crowd
            if not other.answered or other.since < now - ANSWER_SECONDS or other.stepped < now - STALLED_SECONDS
        ]
        if not may_go:
            return False
        # Of those that wait, if there are any.
        longest = min(may_go, key=lambda other: (other.answered, other.since))
        self.leave(longest)
        longest.drop()
        return True

    def leave(self, connection: Connection) -> None:
        """Give the place of `connection` back; one that was dropped has none any more."""
        self._all.discard(connection)

    def drop_late(self) -> None:
        """End those whose step takes too long."""
        now = time.monotonic()
        for connection in self:
            if connection.deadline < now:
                connection.drop()
