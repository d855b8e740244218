"""Every n-th frame of a video, and whether it looks new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolo_distill.labelling.hashes import Novelty
from yolo_distill.runtime.capture import Capture
from yolo_distill.runtime.letterbox import Picture

# A video that ends so much before its own index says is damaged; by a little less, some are merely miscounted.
_WHOLE = 0.95


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        number: its place in the video, from 1.
        image: (H, W, 3), blue, green, red.
        new: whether it differs from those that were kept before it.
    """

    number: int
    image: Picture
    new: bool


class Frames:
    """The frames of a video that are looked at: the same ones each time.

    Attributes:
        seen: frames that were passed so far, looked at or not.
    """

    def __init__(self, capture: Capture, every: int, similar: int) -> None:
        """Take an opened video.

        Args:
            capture: at its first frame.
            every: how many frames further the next one is.
            similar: bits in which the hashes of two frames may differ for them to be alike; 0: none are.
        """
        self._capture, self._every, self._new = capture, every, Novelty(similar)
        self.seen = 0

    def __iter__(self) -> Iterator[Frame]:
        while (image := self._capture.read()) is not None:
            self.seen += 1
            yield Frame(self.seen, image, self._new(image))
            passed = self._capture.skip(self._every - 1)
            self.seen += passed
            if passed < self._every - 1:
                return

    @property
    def cut_off(self) -> str | None:
        """What is wrong with a video that has ended too early, or None; known once all frames were passed."""
        total = self._capture.total
        if total is None or self.seen >= _WHOLE * total:
            return None
        return f"ends at frame {self.seen} of {total}; the frames before it are used"
