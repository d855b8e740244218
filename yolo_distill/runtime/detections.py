"""What was found in one picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from yolo_distill.errors import RequestError
from yolo_distill.runtime.keypoints import Keypoints
from yolo_distill.runtime.letterbox import Floats, Picture
from yolo_distill.runtime.masks import Masks
from yolo_distill.runtime.pictures import AnyPicture, as_picture
from yolo_distill.runtime.turned_boxes import corners

_SHOWN = 8  # classes in a repr


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """What was found in one picture, best first.

    An index, a slice, a boolean mask or a list of indices gives `Detections` again, and iteration gives them one by
    one, as Ultralytics and supervision have it: `found[found.confidence > 0.5]`, `found[0].xyxy` of shape (1, 4).
    Those libraries read it as well: it has the attributes of Ultralytics' `Results` and `Boxes` that
    `supervision.Detections.from_ultralytics` and the host's trackers ask for.

    Attributes:
        xyxy: (N, 4) corners in pixels of the picture, inside it; of turned boxes those of the upright ones around them.
        confidence: (N,), 0 to 1.
        class_id: (N,) indices into `names`.
        names: class index to name.
        orig_shape: height and width of the picture; (0, 0) where it is not known.
        masks: of task segment; `None` of all others, like the next two.
        keypoints: of task pose.
        turned: of task obb, (N, 5) what `xywhr` returns.
        id: `None`, numbers of a tracker; for those libraries.
    """

    xyxy: Floats
    confidence: Floats
    class_id: npt.NDArray[np.int64]
    names: dict[int, str]
    orig_shape: tuple[int, int] = (0, 0)
    masks: Masks | None = None
    keypoints: Keypoints | None = None
    turned: Floats | None = None
    id: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, which: int | slice | Sequence[int] | npt.NDArray[Any]) -> Detections:
        some: Any = [which] if isinstance(which, (int, np.integer)) else which
        own = {
            key: None if (value := getattr(self, key)) is None else value[some]
            for key in ("masks", "keypoints", "turned")
        }
        return Detections(
            self.xyxy[some], self.confidence[some], self.class_id[some], self.names, self.orig_shape, **own
        )

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
    def obb(self) -> Detections | None:
        """These detections where their boxes are turned: where Ultralytics' results have such ones."""
        return None if self.turned is None else self

    @property
    def xywhr(self) -> Floats:
        """(N, 5) turned boxes: centre x, centre y, width and height in pixels of the picture, and angle in radians.

        They may leave the picture. Where boxes are upright the attribute is not there: that is how the host's trackers
        know.
        """
        if self.turned is None:
            raise AttributeError("xywhr: these boxes are not turned; only those of task obb are")
        return self.turned

    @property
    def xyxyxyxy(self) -> Floats:
        """(N, 4, 2) the corners of turned boxes in pixels of the picture; not there where boxes are upright."""
        return corners(self.xywhr)

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
        """Return a copy of the picture with what was found: boxes, masks, keypoints, names and confidences.

        Args:
            image: the picture in which they were found, in any form that `Detector` takes.

        Returns:
            (H, W, 3) uint8, blue, green, red: `cv2.imwrite` and `cv2.imshow` take it.

        Raises:
            RequestError: `image` is no picture, cannot be read, or is not of the size of the masks.
        """
        from yolo_distill.runtime.drawing import draw  # which draws what is defined here

        picture = as_picture(image)
        if self.masks is not None and (size := picture.shape[:2]) != self.masks.orig_shape:
            (height, width), (tall, wide) = size, self.masks.orig_shape
            raise RequestError(
                f"plot(): the picture is {height}x{width}, and the masks are of one of {tall}x{wide} (height x width); "
                "give the picture in which they were found"
            )
        return draw(picture, self)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return a list for each of class_id, name, confidence and xyxy, ready for `json.dumps`.

        And of a task's own: polygon (the outline of the mask), keypoints, or xywhr and xyxyxyxy.
        """
        return {
            "class_id": self.class_id.tolist(),
            "name": self.labels(),
            "confidence": _rounded(self.confidence, 5),
            "xyxy": _rounded(self.xyxy, 2),
            **({} if self.masks is None else {"polygon": [outline.tolist() for outline in self.masks.xy]}),
            **({} if self.keypoints is None else {"keypoints": _rounded(self.keypoints.data, 3)}),
            **(
                {}
                if self.turned is None
                else {"xywhr": _rounded(self.turned, 4), "xyxyxyxy": _rounded(corners(self.turned), 2)}
            ),
        }

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return what `to_dict` does as a dictionary for each detection."""
        columns = self.to_dict()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_json(self) -> str:
        """Return what `to_dicts` does as JSON."""
        return json.dumps(self.to_dicts(), ensure_ascii=False)

    def to_yolo(self, *, with_confidence: bool = False) -> str:
        """Return a YOLO label: class, then box, outline, box and keypoints, or four corners; relative to the picture.

        As in the host, the third number of a keypoint is how sure it is, 0 to 1, where a label has its visibility.

        Args:
            with_confidence: whether the confidence ends each line.
        """
        return label_text(self, self.orig_shape, with_confidence=with_confidence)

    def to_coco(self, image_id: int | str, category_ids: Mapping[int, int] | None = None) -> list[dict[str, Any]]:
        """Return results as COCO's evaluation reads them: with `segmentation` (RLE, or four corners) or `keypoints`.

        Args:
            image_id: of the picture.
            category_ids: class index to COCO's category; the class index itself if not given.
        """
        own: dict[str, list[Any]] = {}
        if self.masks is not None:
            own["segmentation"] = self.masks.to_rle()
        if self.keypoints is not None:
            points = self.keypoints.data
            full = points if points.shape[2] == 3 else np.concatenate([points, np.ones_like(points[:, :, :1])], 2)
            own["keypoints"] = _rounded(full.reshape(-1, 3 * full.shape[1]), 3)
        if self.turned is not None:
            own["segmentation"] = [[one] for one in _rounded(corners(self.turned).reshape(-1, 8), 2)]
        boxes = np.concatenate([self.xyxy[:, :2], self.xyxy[:, 2:] - self.xyxy[:, :2]], 1)
        columns = {
            "category_id": [(category_ids or {}).get(one, one) for one in self.class_id.tolist()],
            "bbox": _rounded(boxes, 2),
            "score": _rounded(self.confidence, 5),
            **own,
        }
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        return [{"image_id": image_id, **row} for row in rows]

    def to_df(self) -> Any:
        """Return a `pandas.DataFrame` of the columns class_id, name, confidence, x1, y1, x2 and y2.

        Raises:
            RequestError: pandas is not installed.
        """
        columns = {"class_id": self.class_id, "name": self.labels(), "confidence": self.confidence}
        corners = dict(zip(("x1", "y1", "x2", "y2"), self.xyxy.T, strict=True))
        return _package("pandas", "to_df()").DataFrame({**columns, **corners})

    def to_supervision(self) -> Any:
        """Return a `supervision.Detections`, with names, masks and turned boxes where its annotators look for them.

        Keypoints are in its `data`.

        Raises:
            RequestError: supervision is not installed.
        """
        return _package("supervision", "to_supervision()").Detections(
            xyxy=self.xyxy,
            confidence=self.confidence,
            class_id=self.class_id,
            mask=None if self.masks is None else self.masks.data,
            data={
                "class_name": np.array(self.labels(), dtype=str),
                **({} if self.turned is None else {"xyxyxyxy": corners(self.turned)}),
                **({} if self.keypoints is None else {"keypoints": self.keypoints.data}),
            },
        )


def label_text(detections: Detections, size: tuple[int, int], *, with_confidence: bool) -> str:
    """Return detections as YOLO text, relative to a picture of this height and width; see `Detections.to_yolo`."""
    height, width = size
    side = np.array([width, height], np.float64)
    first, second = detections.xyxy[:, :2].astype(np.float64), detections.xyxy[:, 2:].astype(np.float64)
    boxes = np.concatenate([(first + second) / 2 / side, (second - first) / side], 1)
    lines = []
    for place, (class_id, confidence) in enumerate(
        zip(detections.class_id.tolist(), detections.confidence.tolist(), strict=True)
    ):
        numbers = boxes[place]
        if detections.masks is not None:
            (outline,) = detections.masks[place].xy
            # A row of fewer than three points would be read as something else.
            outline = np.concatenate([outline, outline[-1:].repeat(max(3 - len(outline), 0), 0)])
            numbers = (outline / side).ravel()
        elif detections.turned is not None:
            numbers = (corners(detections.turned[place : place + 1])[0] / side).ravel()
        elif detections.keypoints is not None:
            points = detections.keypoints.data[place].astype(np.float64)
            numbers = np.concatenate([numbers, np.concatenate([points[:, :2] / side, points[:, 2:]], 1).ravel()])
        values = [*numbers.tolist(), *([confidence] if with_confidence else [])]
        lines.append(" ".join([str(class_id), *(f"{value:.6g}" for value in values)]))
    return "".join(f"{line}\n" for line in lines)


def _rounded(numbers: npt.NDArray[Any], digits: int) -> list[Any]:
    """Return numbers as lists, each with so many digits behind the point at most."""
    # Rounded in 64 bits, or they would have more.
    rounded: list[Any] = np.round(numbers.astype(np.float64), digits).tolist()
    return rounded


def _package(name: str, method: str) -> Any:
    """Import a package that is no dependency."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise RequestError(f"{method} needs {error.name!r}, which is not installed: pip install {name}") from error
