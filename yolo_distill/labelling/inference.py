"""Asks a teacher about pictures of any size, and brings what it finds back to their pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import batched_nms
from ultralytics.utils.torch_utils import parse_device, select_device

from yolo_distill.labelling.objects import Form, Found
from yolo_distill.labelling.targets import Targets
from yolo_distill.runtime.decode import decode_dense
from yolo_distill.runtime.keypoints import decode_keypoints
from yolo_distill.runtime.letterbox import Floats, Picture, Transform, letterbox
from yolo_distill.runtime.masks import Masks, Piece, decode_masks
from yolo_distill.runtime.sources import read_picture
from yolo_distill.runtime.turned_boxes import corners, upright
from yolo_distill.teachers.answer import IOU, MOST, DenseAnswer, SetAnswer, as_set
from yolo_distill.teachers.teacher import Teacher
from yolo_distill.teachers.yolo import YoloTeacher

# Of a box that is thinner than a pixel, after it was cut off at the border of its picture, there is nothing to learn.
_THIN = 1.0
_MASK = 0.5  # probability from which on a pixel belongs to an object, as in torchvision


@dataclass(frozen=True, eq=False)
class Fitted:
    """A picture as the teacher sees it: letterboxed, (imgsz, imgsz, 3) in BGR, and how it lies in that square."""

    canvas: Picture
    transform: Transform


class Predictor:
    """A teacher, asked about the classes of a new data set.

    Attributes:
        form: of the labels that it gives.
    """

    def __init__(
        self, teacher: Teacher, targets: Targets, *, imgsz: int, device: str | None = None, floor: float = 0.05
    ) -> None:
        """Take a teacher that was opened on a device for squares of `imgsz` pixels, and classes to answer for.

        A box whose classes all score below `floor` is left out.
        """
        self._teacher, self._targets, self._floor = teacher, targets, floor
        self._side = (imgsz, imgsz)
        self.form = Form(teacher.task, teacher.kpt_shape)
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
            if isinstance(answer, DenseAnswer) and self.form.task == "detect":
                answer = as_set(answer, conf=self._floor)
            own = self._of_set if isinstance(answer, SetAnswer) else self._of_anchors
            found = [own(answer, place, picture.transform) for place, picture in enumerate(pictures)]
        return [_inside(one, self.form, pict.transform.picture) for one, pict in zip(found, pictures, strict=True)]

    def _of_set(self, answer: Any, place: int, transform: Transform) -> Found:
        """Return what a set holds of the targets in one picture of a batch, surest first."""
        boxes, scores = answer.boxes[place].float(), self._targets.scores(answer.scores[place].float())
        best, label = scores.max(1)
        kept = (best >= self._floor).nonzero().squeeze(1)
        kept = kept[best[kept].argsort(descending=True, stable=True)]
        if self._targets.joined:
            # The teacher's own NMS left one box a class; of a car that is also a truck, both became vehicles.
            kept = kept[batched_nms(boxes[kept], best[kept], label[kept], IOU)]
        xyxy = transform.to_picture(boxes[kept].cpu().numpy())
        own: list[Floats] = []
        if self.form.task == "segment":
            # A mask fills its whole box, also where that reaches beyond the picture.
            whole = transform.points_around_picture(boxes[kept].cpu().numpy().reshape(-1, 2, 2)).reshape(-1, 4)
            masks, shown = answer.extra[place, kept].float().cpu(), (xyxy[:, 2:] - xyxy[:, :2]).min(1) > 0
            for mask, box, inside in zip(masks, torch.from_numpy(whole), shown, strict=True):
                if not inside:  # it lies in the padding, where torchvision can't paste it
                    own.append(np.zeros(0, np.float32))
                    continue
                pasted = paste_masks_in_image(mask[None, None], box[None], transform.picture)[0, 0] >= _MASK
                own.append(Masks([Piece(0, 0, pasted.numpy())], transform.picture).xy[0].ravel())
        elif self.form.kpt_shape:
            points = answer.extra[place, kept].float().cpu().flatten(1).numpy()
            own = _keypoints(points, self.form.kpt_shape, transform)
        return Found(xyxy, scores[kept].cpu().numpy(), own)

    def _of_anchors(self, answer: Any, place: int, transform: Transform) -> Found:
        """Return what NMS leaves of a dense answer likewise, with what its task adds to boxes."""
        branch, turned, teacher = answer.one2many, self.form.task == "obb", self._teacher
        scores = self._targets.scores(branch.logits[place].float().sigmoid())
        anchors = (scores.amax(1) > self._floor).nonzero().squeeze(1)
        where = torch.full_like(anchors, place), anchors
        if turned:
            xywh, own = branch.turned_at(where)[2].split([4, 1], 1)
        else:
            xyxy = branch.at(where)[2]
            xywh = torch.cat([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], 1)
            assert isinstance(teacher, YoloTeacher)
            own = teacher.keypoints_at(branch, where) if self.form.kpt_shape else branch.extra[where].float()
        # As one more of the numbers that go with a box, the vector of its class scores goes through NMS.
        raw = torch.cat([xywh, scores[anchors], scores[anchors], own], 1).T.cpu().numpy()
        classes = scores.shape[1]
        more = len(raw) - 4 - classes
        kept = decode_dense(
            raw, conf=self._floor, iou=IOU, max_det=MOST, classes=None, agnostic=False, own=more, turned=turned
        )
        vectors, numbers = kept.own[:, :classes], kept.own[:, classes:]
        if turned:
            xywhr = transform.turned_to_picture(np.concatenate([kept.xyxy, numbers], 1))
            return Found(upright(xywhr, transform.picture), vectors, list(xywhr))
        xyxy = transform.to_picture(kept.xyxy)
        if self.form.kpt_shape:
            return Found(xyxy, vectors, _keypoints(numbers, self.form.kpt_shape, transform))
        masks = decode_masks(numbers, branch.proto[place].float().cpu().numpy(), xyxy, transform)
        return Found(xyxy, vectors, [outline.ravel() for outline in masks.xy])


def _keypoints(numbers: Floats, shape: tuple[int, int], transform: Transform) -> list[Floats]:
    return [points.ravel() for points in decode_keypoints(numbers, shape, transform).data]


def _inside(found: Found, form: Form, size: tuple[int, int]) -> Found:
    """Return of what lies in a picture of a height and width what can be learned from."""
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    numbers = found.boxes
    if form.task == "obb":
        turned = numbers = np.array(found.own, np.float32).reshape(-1, 5)
        limit = np.array(size[::-1], np.float32)
        around = corners(turned)
        # The host drops a picture with a box that is wider than it, and one whose middle lies outside is hardly in it.
        turned[:, 2:4] *= (limit / np.maximum(around.max(1) - around.min(1), limit)).min(1, keepdims=True)
        inside = np.minimum(turned[:, :2], limit - turned[:, :2]).min(1, keepdims=True)
        sides, found = np.where(inside >= 0, turned[:, 2:4], 0), Found(found.boxes, found.scores, list(turned))
    elif form.task == "segment":
        sides = np.array([np.ptp(one.reshape(-1, 2), 0) if len(one) else (0, 0) for one in found.own]).reshape(-1, 2)
    thick = sides.min(1) >= _THIN
    found, numbers = found[thick], numbers[thick]
    # Boxes that reached beyond the picture by different lengths may be the same now; of a class the surest stays.
    _, first = np.unique(np.column_stack([numbers.round(1), found.scores.argmax(1)]), axis=0, return_index=True)
    first.sort()
    return found[first]
