"""How far it is, how fast it goes, and when it will be done."""

from __future__ import annotations

import time
from collections.abc import Callable

from yolo_distill.durations import duration


class Throughput:
    """Counts items, and frames of videos, whose number is only known once a video has been opened."""

    def __init__(self, pictures: int, videos: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count; until one of the videos was opened, nothing is said about the time that is left."""
        self._pictures, self._unopened = pictures, videos
        self._lengths: list[int] = []
        self._clock, self._start = clock, clock()
        self.done = self._worked = self.skipped = 0

    def open_video(self, frames: int) -> None:
        """Note how many frames of a video will be looked at."""
        self._unopened -= 1
        self._lengths.append(frames)

    def step(self, count: int = 1, *, worked: bool = True) -> None:
        """Count pictures or frames; those that an earlier process has done tell nothing about speed."""
        self.done += count
        self._worked += count if worked else 0

    def __str__(self) -> str:
        mean = sum(self._lengths) / len(self._lengths) if self._lengths else 0.0
        total = max(self._pictures + sum(self._lengths) + round(self._unopened * mean), self.done)
        seconds = self._clock() - self._start
        parts = [f"{self.done:,} of {'about ' if self._unopened else ''}{total:,} pictures"]
        if self._worked and seconds > 0:
            rate = self._worked / seconds
            parts.append(f"{rate:.3g} a second")
            if not self._unopened or self._lengths:
                parts.append(f"about {duration((total - self.done) / rate)} left")
        if self.skipped:
            parts.append(f"{self.skipped} unread")
        return ", ".join(parts)
