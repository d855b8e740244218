"""Asks a teacher about pictures of any size, and brings its boxes back to their pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import batched_nms
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.labelling.targets import Targets
from yolo_distill.runtime.letterbox import Picture, Transform, letterbox
from yolo_distill.runtime.sources import read_picture
from yolo_distill.teachers.answer import IOU, SetAnswer, as_set
from yolo_distill.teachers.teacher import Teacher

Floats = npt.NDArray[np.float32]

# Of a box that is thinner than a pixel, after it was cut off at the border of its picture, there is nothing to learn.
_THIN = 1.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """A picture as the teacher sees it: letterboxed, (imgsz, imgsz, 3) in BGR, and how it lies in that square."""

    canvas: Picture
    transform: Transform


@dataclass(frozen=True, eq=False)
class Found:
    """What the teacher says about a picture.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the picture, inside it, surest first.
        scores: (N, targets), independent of each other as a sigmoid's are.
    """

    boxes: Floats
    scores: Floats

    @staticmethod
    def nothing(classes: int) -> Found:
        return Found(np.zeros((0, 4), np.float32), np.zeros((0, classes), np.float32))


class Predictor:
    """A teacher, asked about the classes of a new data set."""

    def __init__(
        self, teacher: Teacher, targets: Targets, *, imgsz: int, device: str | None = None, floor: float = 0.05
    ) -> None:
        """Take a teacher that was opened on a device for squares of `imgsz` pixels, and classes to answer for.

        A box whose classes all score below `floor` is left out.
        """
        self._teacher, self._targets, self._floor = teacher, targets, floor
        self._side = (imgsz, imgsz)
        self._device = select_device(parse_device(device), verbose=False)

    def fit(self, image: Picture) -> Fitted:
        """Letterbox a picture (H, W, 3) as the host does, smaller ones enlarged; may be called from any thread."""
        return Fitted(*letterbox(image, self._side))

    def read_ahead(self, pool: ThreadPoolExecutor, files: Iterable[str], most: int) -> Iterator[Fitted | None]:
        """Yield pictures as the teacher sees them, None for what cannot be read; threads read `most` ones ahead."""

        def read(file: str) -> Fitted | None:
            image = read_picture(file)
            return None if image is None else self.fit(image)

        waiting: deque[Future[Fitted | None]] = deque()
        for file in files:
            waiting.append(pool.submit(read, file))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def __call__(self, pictures: Sequence[Fitted]) -> list[Found]:
        """Return what the teacher says about each of some pictures."""
        stacked = np.stack([picture.canvas for picture in pictures])[..., ::-1].transpose(0, 3, 1, 2)
        images = torch.from_numpy(np.ascontiguousarray(stacked)).to(self._device).float() / 255
        answer = self._teacher(images)
        self._teacher.wait(answer)
        with torch.inference_mode():
            found = answer if isinstance(answer, SetAnswer) else as_set(answer, conf=self._floor)
            kept = map(self._in_targets, found.boxes, found.scores)
            return [_inside(*own, picture.transform) for own, picture in zip(kept, pictures, strict=True)]

    def _in_targets(self, boxes: Tensor, scores: Tensor) -> tuple[Floats, Floats]:
        """Return boxes and scores of the targets, surest first."""
        scores = self._targets.scores(scores.float())
        best, label = scores.max(1)
        kept = (best >= self._floor).nonzero().squeeze(1)
        kept = kept[best[kept].argsort(descending=True, stable=True)]
        if self._targets.joined:
            # The teacher's own NMS left one box a class; of a car that is also a truck, both became vehicles.
            kept = kept[batched_nms(boxes[kept].float(), best[kept], label[kept], IOU)]
        return boxes[kept].float().cpu().numpy(), scores[kept].cpu().numpy()


def _inside(boxes: Floats, scores: Floats, transform: Transform) -> Found:
    boxes = transform.to_picture(boxes)
    thick = ((boxes[:, 2:] - boxes[:, :2]) >= _THIN).all(1)
    boxes, scores = boxes[thick], scores[thick]
    # Boxes that reached beyond the picture by different lengths may be the same now; of a class the surest stays.
    _, first = np.unique(np.column_stack([boxes.round(1), scores.argmax(1)]), axis=0, return_index=True)
    first.sort()
    return Found(boxes[first], scores[first])
