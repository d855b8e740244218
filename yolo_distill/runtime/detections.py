"""What was found in one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_distill.runtime.letterbox import Floats


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture, best first.

    Attributes:
        xyxy: (N, 4) corners in pixels of the picture, inside it.
        confidence: (N,), 0 to 1.
        class_id: (N,) indices into `names`.
        names: class index to name.
    """

    xyxy: Floats
    confidence: Floats
    class_id: npt.NDArray[np.int64]
    names: dict[int, str]

    def __len__(self) -> int:
        return len(self.xyxy)

    def labels(self) -> list[str]:
        """Return the class name of each detection."""
        return [self.names.get(int(index), str(index)) for index in self.class_id]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the detections as plain values, ready for `json.dumps`."""
        return [
            {
                "class_id": int(class_id),
                "name": name,
                "confidence": round(float(confidence), 5),
                "xyxy": [round(float(value), 2) for value in box],
            }
            for class_id, name, confidence, box in zip(
                self.class_id, self.labels(), self.confidence, self.xyxy, strict=True
            )
        ]
