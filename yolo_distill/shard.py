"""One of several equal parts of the work, each of which any machine can do."""

from __future__ import annotations

from dataclasses import dataclass

from yolo_distill.errors import RequestError

_MOST = 10_000


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the work: which, from 1, of how many."""

    index: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, place: int) -> bool:
        """Return whether a piece of the work, counted from 0, is in this part."""
        return place % self.count == self.index - 1


def read_shard(text: str | None) -> Shard:
    """Return the shard that `3/16` means; all of the work where nothing is given.

    Raises:
        RequestError: it means none.
    """
    if text is None:
        return Shard()
    index, slash, count = text.strip().partition("/")
    if not slash or not index.strip().isdecimal() or not count.strip().isdecimal():
        raise RequestError(f"shard={text}: expected which of how many, such as 3/16")
    shard = Shard(int(index), int(count))
    if not 1 <= shard.count <= _MOST:
        raise RequestError(f"shard={text}: out of range; there can be 1 to {_MOST:,} shards")
    if not 1 <= shard.index <= shard.count:
        raise RequestError(f"shard={text}: out of range; give one of 1/{shard.count} to {shard.count}/{shard.count}")
    return shard
