"""Keypoints of objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yolo_distill.runtime.letterbox import Floats, Transform

#: The bones of a person's 17 points, as COCO has them: from and to.
PERSON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Keypoints:
    """The K keypoints of each of N objects.

    Attributes:
        data: (N, K, 2) x and y in pixels of the picture, inside it; or (N, K, 3) with how sure each point is, 0 to 1.
    """

    data: Floats

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, which: Any) -> Keypoints:
        return Keypoints(self.data[which])

    @property
    def xy(self) -> Floats:
        """(N, K, 2) x and y in pixels of the picture."""
        return self.data[:, :, :2]

    @property
    def conf(self) -> Floats | None:
        """(N, K) how sure each point is; `None` where the network does not say."""
        return self.data[:, :, 2] if self.data.shape[2] == 3 else None

    @property
    def seen(self) -> Any:
        """(N, K) whether a point is there to be drawn: surer than 0.25, or not at (0, 0), as in the host."""
        return self.xy.any(2) if self.conf is None else self.conf >= 0.25


def decode_keypoints(numbers: Floats, shape: tuple[int, int], transform: Transform) -> Keypoints:
    """Return keypoints from the network's numbers (N, K x D), x and y in pixels of the input; `shape` is (K, D)."""
    points = numbers.reshape(-1, *shape).copy()
    points[:, :, :2] = transform.points_to_picture(points[:, :, :2])
    return Keypoints(points)
