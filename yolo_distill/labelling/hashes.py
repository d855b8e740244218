"""Frames that look the same: a hash of 64 bits that says where a picture grows brighter from left to right.

N. Krawetz, "Kind of Like That", 2013 (dHash). Re-encoding, noise and a change of brightness move few of its bits; so
does an object that is small in the picture, which is why the distance is a setting.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from yolo_distill.runtime.letterbox import Picture

#: A frame is compared with so many that were kept last: a scene that comes back later counts anew.
KEPT = 32


def dhash(image: Picture) -> int:
    """Return the hash of a picture (H, W, 3), in 64 bits."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


class Novelty:
    """Tells the frames of one video that look new."""

    def __init__(self, distance: int) -> None:
        """Count frames as alike that differ in `distance` bits or fewer; 0 finds every frame new."""
        self._distance = distance
        self._kept: deque[int] = deque(maxlen=KEPT)

    def __call__(self, image: Picture) -> bool:
        """Return whether a frame (H, W, 3) differs from all that were kept last, and keep it if it does."""
        if not self._distance:
            return True
        own = dhash(image)
        if any((own ^ other).bit_count() <= self._distance for other in self._kept):
            return False
        self._kept.append(own)
        return True
