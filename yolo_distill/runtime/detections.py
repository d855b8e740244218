"""What was found in one picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from yolo_distill.errors import RequestError
from yolo_distill.runtime.letterbox import Floats, Picture
from yolo_distill.runtime.pictures import AnyPicture, as_picture

_SHOWN = 8  # classes in a repr


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """What was found in one picture, best first.

    An index, a slice, a boolean mask or a list of indices gives `Detections` again, and iteration gives them one by
    one, as Ultralytics and supervision have it: `found[found.confidence > 0.5]`, `found[0].xyxy` of shape (1, 4).
    Those libraries read it as well: it has the attributes of Ultralytics' `Results` and `Boxes` that
    `supervision.Detections.from_ultralytics` and the host's trackers ask for.

    Attributes:
        xyxy: (N, 4) corners in pixels of the picture, inside it.
        confidence: (N,), 0 to 1.
        class_id: (N,) indices into `names`.
        names: class index to name.
        id: `None`, numbers of a tracker; for those libraries.
        masks: `None`, likewise.
    """

    xyxy: Floats
    confidence: Floats
    class_id: npt.NDArray[np.int64]
    names: dict[int, str]
    id: ClassVar[None] = None
    masks: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, which: int | slice | Sequence[int] | npt.NDArray[Any]) -> Detections:
        some: Any = [which] if isinstance(which, (int, np.integer)) else which
        return Detections(self.xyxy[some], self.confidence[some], self.class_id[some], self.names)

    def __iter__(self) -> Iterator[Detections]:
        return (self[place] for place in range(len(self)))

    def __repr__(self) -> str:
        if len(self) == 1:
            corners = ", ".join(f"{value:.1f}" for value in self.xyxy[0])
            return f"Detections({self.labels()[0]} {self.confidence[0]:.2f}, xyxy {corners})"
        counts = Counter(self.labels()).most_common()
        classes = [f"{count} {name}" for name, count in counts[:_SHOWN]] + ["..."] * (len(counts) > _SHOWN)
        return f"Detections({len(self)}: {', '.join(classes)})" if classes else "Detections(nothing found)"

    @property
    def xywh(self) -> Floats:
        """(N, 4) centre x, centre y, width and height in pixels of the picture."""
        first, second = self.xyxy[:, :2], self.xyxy[:, 2:]
        return np.concatenate([(first + second) / 2, second - first], 1)

    @property
    def boxes(self) -> Detections:
        """These detections: where Ultralytics' results have their boxes."""
        return self

    @property
    def conf(self) -> Floats:
        """`confidence`, as Ultralytics calls it."""
        return self.confidence

    @property
    def cls(self) -> npt.NDArray[np.int64]:
        """`class_id`, as Ultralytics calls it."""
        return self.class_id

    def labels(self) -> list[str]:
        """Return the class name of each detection."""
        return [self.names.get(int(index), str(index)) for index in self.class_id]

    def plot(self, image: AnyPicture) -> Picture:
        """Return a copy of the picture with a box, the name and the confidence of each detection.

        Args:
            image: the picture in which they were found, in any form that `Detector` takes.

        Returns:
            (H, W, 3) uint8, blue, green, red: `cv2.imwrite` and `cv2.imshow` take it.

        Raises:
            RequestError: `image` is no picture or cannot be read.
        """
        from yolo_distill.runtime.drawing import draw  # which draws what is defined here

        return draw(as_picture(image), self)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return a list for each of class_id, name, confidence and xyxy, ready for `json.dumps`."""
        return {
            "class_id": self.class_id.tolist(),
            "name": self.labels(),
            "confidence": [round(value, 5) for value in self.confidence.tolist()],
            "xyxy": [[round(value, 2) for value in box] for box in self.xyxy.tolist()],
        }

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return what `to_dict` does as a dictionary for each detection."""
        columns = self.to_dict()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_json(self) -> str:
        """Return what `to_dicts` does as JSON."""
        return json.dumps(self.to_dicts(), ensure_ascii=False)

    def to_df(self) -> Any:
        """Return a `pandas.DataFrame` of the columns class_id, name, confidence, x1, y1, x2 and y2.

        Raises:
            RequestError: pandas is not installed.
        """
        columns = {"class_id": self.class_id, "name": self.labels(), "confidence": self.confidence}
        corners = dict(zip(("x1", "y1", "x2", "y2"), self.xyxy.T, strict=True))
        return _package("pandas", "to_df()").DataFrame({**columns, **corners})

    def to_supervision(self) -> Any:
        """Return a `supervision.Detections`, with the class names where its annotators look for them.

        Raises:
            RequestError: supervision is not installed.
        """
        return _package("supervision", "to_supervision()").Detections(
            xyxy=self.xyxy,
            confidence=self.confidence,
            class_id=self.class_id,
            data={"class_name": np.array(self.labels(), dtype=str)},
        )


def _package(name: str, method: str) -> Any:
    """Import a package that is no dependency."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise RequestError(f"{method} needs {error.name!r}, which is not installed: pip install {name}") from error
