"""Every n-th frame of a video, and whether it looks new.

Frames are compared by a hash of 64 bits that says where a picture grows brighter from left to right: N. Krawetz, "Kind
of Like That", 2013 (dHash). Re-encoding, noise and a change of brightness move few of its bits; so does an object that
is small in the picture, which is why the distance is a setting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import cv2
import numpy as np

from yolo_distill.runtime.capture import Capture
from yolo_distill.runtime.letterbox import Picture

#: A frame is compared with so many that were kept last: a scene that comes back later counts anew.
KEPT = 32

# A video that ends so much before its own index says is damaged; by a little less, some are merely miscounted.
_WHOLE = 0.95


class Frames:
    """The frames of a video that are looked at: the same ones each time.

    Attributes:
        seen: frames that were passed so far, looked at or not.
    """

    def __init__(self, capture: Capture, every: int, similar: int) -> None:
        """Take a video at its first frame, of which every n-th one is looked at.

        Frames whose hashes differ in `similar` bits or fewer are alike; with 0 none are.
        """
        self._capture, self._every, self._similar = capture, every, similar
        self._kept: deque[int] = deque(maxlen=KEPT)
        self.seen = 0

    def __iter__(self) -> Iterator[tuple[int, Picture, bool]]:
        """Yield each frame's place in the video, from 1, the frame, and whether it differs from those kept before."""
        while (image := self._capture.read()) is not None:
            self.seen += 1
            yield self.seen, image, self._is_new(image)
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

    def _is_new(self, image: Picture) -> bool:
        if not self._similar:
            return True
        own = dhash(image)
        if any((own ^ other).bit_count() <= self._similar for other in self._kept):
            return False
        self._kept.append(own)
        return True


def dhash(image: Picture) -> int:
    """Return the hash of a picture (H, W, 3), in 64 bits."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")
