"""What a teacher finds in a picture, and what its task adds to a box: an outline, keypoints, or the turned box.

That is kept as flat numbers a box, in pixels of the picture: x and y of each point of an outline; of each keypoint x
and y, and how sure it is where the teacher says; or centre x, centre y, width, height and the angle in radians.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_distill.errors import RequestError
from yolo_distill.runtime.detections import Detections, label_text
from yolo_distill.runtime.keypoints import Keypoints
from yolo_distill.runtime.letterbox import Floats
from yolo_distill.runtime.masks import Masks, piece_of
from yolo_distill.teachers.teacher import Teacher

#: By task, what is found, and the column of the soft answers that holds the numbers of each box.
FINDS = {"detect": "boxes", "segment": "masks", "pose": "poses", "obb": "turned boxes"}
OWN = {"segment": "outlines", "pose": "keypoints", "obb": "turned"}

# Left and right of a person's 17 points, as COCO has them, changed over.
_PERSON_FLIPPED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
_SEEN = 2.0  # as YOLO and COCO have it of a keypoint; one that is not there has 0 in all of its numbers


@dataclass(frozen=True, eq=False)
class Found:
    """What the teacher says about a picture.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the picture, inside it, surest first.
        scores: (N, targets), independent of each other as a sigmoid's are.
        own: the task's numbers of each box, see above; empty where boxes are all there is.
    """

    boxes: Floats
    scores: Floats
    own: list[Floats] = field(default_factory=list)

    @staticmethod
    def nothing(classes: int) -> Found:
        return Found(np.zeros((0, 4), np.float32), np.zeros((0, classes), np.float32))

    def __getitem__(self, places: npt.NDArray[Any]) -> Found:
        """Return what is at these places, or where a mask is True."""
        own = [self.own[place] for place in np.arange(len(self.boxes))[places]] if self.own else []
        return Found(self.boxes[places], self.scores[places], own)


@dataclass(frozen=True)
class Form:
    """What labels of a data set look like.

    Attributes:
        task: as Ultralytics calls it.
        kpt_shape: keypoints of an object, and numbers of a keypoint; None of other tasks than pose.
        sigmas: of each keypoint, as the labelled data has them; None: the usual ones.
    """

    task: str = "detect"
    kpt_shape: tuple[int, int] | None = None
    sigmas: Sequence[float] | None = None

    def detections(
        self, found: Found, classes: npt.NDArray[np.int64], size: tuple[int, int], scale: float = 1.0
    ) -> Detections:
        """Return what was found as the runtime draws and writes it, of the class of each (N,).

        Args:
            found: in pixels of a picture.
            classes: (N,) of each box.
            size: height and width of that picture, or of one that is `scale` times as large.
            scale: likewise.
        """
        scores = found.scores[np.arange(len(classes)), classes]
        own: dict[str, Any] = {}
        if self.task == "segment":
            outlines = (numbers.reshape(-1, 2) * np.float32(scale) for numbers in found.own)
            last = np.array(size[::-1], np.float32) - 1
            own["masks"] = Masks([piece_of(outline.clip(0, last)) for outline in outlines], size)
        elif self.kpt_shape:
            points = np.array(found.own, np.float32).reshape(-1, *self.kpt_shape)
            points[..., :2] *= scale
            own["keypoints"] = Keypoints(points)
        elif self.task == "obb":
            turned = np.array(found.own, np.float32).reshape(-1, 5)
            turned[:, :4] *= scale
            own["turned"] = turned
        return Detections(found.boxes * np.float32(scale), scores, classes, {}, size, **own)

    def text(self, found: Found, classes: npt.NDArray[np.int64], size: tuple[int, int]) -> str:
        """Return the label file of a picture of a height and width in which boxes of these classes (N,) are."""
        labels = self.detections(found, classes, size)
        if labels.keypoints is not None and labels.keypoints.conf is not None:
            points, seen = labels.keypoints.data, labels.keypoints.seen
            points[..., 2] = _SEEN
            points[~seen] = 0
        return label_text(labels, size, with_confidence=False)


def keypoint_notes(teacher: Teacher, data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a data file says of the keypoints of a teacher: their shape, and what is known of them.

    Raises:
        RequestError: the labelled data has other keypoints.
    """
    shape = teacher.kpt_shape
    if shape is None:
        return {}
    said = dict(data or {})
    if data and list(said["kpt_shape"]) != list(shape):
        raise RequestError(
            f"teacher: finds keypoints of kpt_shape {list(shape)}, and the data has "
            f"{list(said['kpt_shape'])}; give data= with the teacher's keypoints, or leave it out"
        )
    person = shape[0] == len(_PERSON_FLIPPED) and list(teacher.names.values()) == ["person"]
    usual = {"flip_idx": _PERSON_FLIPPED} if person else {}
    known = {**usual, **{key: said[key] for key in ("flip_idx", "kpt_names", "kpt_oks_sigmas") if said.get(key)}}
    return {"kpt_shape": list(shape), **known}
