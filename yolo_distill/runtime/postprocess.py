"""From the network's raw answer to what was found, for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolo_distill.runtime.decode import Boxes, decode_dense, decode_end2end
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.keypoints import decode_keypoints
from yolo_distill.runtime.letterbox import Floats, Transform
from yolo_distill.runtime.masks import decode_masks
from yolo_distill.runtime.metadata import Metadata
from yolo_distill.runtime.turned_boxes import upright

#: Rows of boxes (B, 4 + nc + E, A) or (B, N, 6 + E); of "segment" these and the prototypes (B, M, height, width).
Raw = Floats | tuple[Floats, Floats]


@dataclass(frozen=True)
class Postprocess:
    """What a file's answers mean.

    Attributes:
        names: class index to name.
        task: one of `metadata.TASKS`.
        kpt_shape: of "pose".
        end2end: which layout the answers have, see `decode`.
    """

    names: dict[int, str]
    task: str
    kpt_shape: tuple[int, int] | None
    end2end: bool

    @classmethod
    def of(cls, notes: Metadata, *, end2end: bool) -> Postprocess:
        """Return what a file of these notes means by its answers."""
        return cls(notes.names, notes.task, notes.kpt_shape, end2end)

    def fits(self, shapes: Sequence[Sequence[Any]]) -> bool:
        """Return whether these are the shapes of an answer; names stand for sides that are not fixed."""
        if [len(shape) for shape in shapes] != ([3, 4] if self.task == "segment" else [3]):
            return False
        own = {"pose": int(np.prod(self.kpt_shape or 0)), "obb": 1}.get(self.task, 0)
        if self.task == "segment":
            own = shapes[1][1]
        side, boxes = (shapes[0][2], 6) if self.end2end else (shapes[0][1], 4 + len(self.names))
        return side == boxes + own if isinstance(side, int) and isinstance(own, int) else True

    def expected(self) -> str:
        """Return the shapes of an answer in words."""
        count = len(self.names)
        own = {
            "segment": " + M",
            "pose": f" + {'x'.join(map(str, self.kpt_shape or ()))} of keypoints",
            "obb": " + 1",
        }.get(self.task, "")
        protos = " and prototypes (B, M, height, width)" if self.task == "segment" else ""
        return f"(B, {4 + count}{own}, A) for {count} classes, or (B, N, 6{own}){protos}"

    def __call__(self, raw: Raw, transforms: Sequence[Transform], **settings: Any) -> list[Detections]:
        """Return what was found in each picture.

        Args:
            raw: the answer for B pictures.
            transforms: how they lie in the input.
            settings: conf, max_det and classes, and iou and agnostic for NMS, as the decoders take them.

        Raises:
            FloatingPointError: a number that counts is nan or infinite.
        """
        rows, protos = raw if isinstance(raw, tuple) else (raw, None)
        results = []
        for place, (one, transform) in enumerate(zip(rows, transforms, strict=True)):
            if self.end2end:
                boxes = decode_end2end(one, **{key: settings[key] for key in ("conf", "max_det", "classes")})
            else:
                own = len(one) - 4 - len(self.names)
                boxes = decode_dense(one, own=own, turned=self.task == "obb", **settings)
            results.append(self._detections(boxes, None if protos is None else protos[place], transform))
        return results

    def _detections(self, boxes: Boxes, protos: Floats | None, transform: Transform) -> Detections:
        found: dict[str, Any] = {}
        if self.task == "obb":
            found["turned"] = transform.turned_to_picture(np.concatenate([boxes.xyxy, boxes.own[:, -1:]], 1))
            xyxy = upright(found["turned"], transform.picture)
        else:
            xyxy = transform.to_picture(boxes.xyxy)
        if self.kpt_shape:
            found["keypoints"] = decode_keypoints(boxes.own, self.kpt_shape, transform)
        if protos is not None:
            found["masks"] = decode_masks(boxes.own, protos, xyxy, transform)
        all_found = Detections(xyxy, boxes.scores, boxes.class_id, self.names, transform.picture, **found)
        if all_found.masks is None:
            return all_found
        # As in the host, what shows not one pixel was not found.
        shown = np.array([piece.bits.any() for piece in all_found.masks.pieces], np.bool_)
        return all_found if shown.all() else all_found[shown]
