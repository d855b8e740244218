"""A teacher that remembers: the same picture is answered once, and read back when it comes again.

Answers are found by the content of the picture, as the student sees it, so it does not matter why a picture is the same
or another: data, augmentation, size. Nothing can be looked up wrongly. Kept is what a loss looks at, in half precision:
the anchors where the teacher sees something. Everywhere else it is taken to see nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from yolo_distill.losses.logit import NOTHING, confidence
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, SetAnswer
from yolo_distill.teachers.yolo import YoloTeacher

#: Of the bytes; counts up when they change.
FORMAT = 1
#: Class score of a teacher where nothing was kept.
REST = NOTHING / 10


class Store(Protocol):
    """See `yolo_distill.teachers.store`."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]: ...

    def put(self, answers: dict[bytes, bytes]) -> None: ...


class CachedTeacher:
    """Answers as a `YoloTeacher` does, on a CPU, without feature maps.

    Attributes:
        asked: pictures that the teacher was asked about.
        found: pictures whose answers were read back.
    """

    def __init__(self, teacher: YoloTeacher, store: Store) -> None:
        self._teacher, self._store = teacher, store
        self.names, self.needs = teacher.names, teacher.needs
        self.strides, self.widths = teacher.strides, teacher.widths
        self.asked = self.found = 0

    def __call__(self, images: Tensor) -> DenseAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1."""
        keys = [picture_key(image) for image in images]
        kept = self._store.get(list(dict.fromkeys(keys)))
        missing = {key: i for i, key in enumerate(keys) if key not in kept}
        self.found += len(keys) - len(missing)
        self.asked += len(missing)
        if missing:
            answer = self._teacher(images[list(missing.values())])
            new = dict(zip(missing, pack(answer), strict=True))
            self._store.put(new)
            kept |= new
        return self._unpack([kept[key] for key in keys], images)

    def wait(self, answer: DenseAnswer | SetAnswer) -> None:
        """Do nothing: a CPU is done when it returns."""

    def _unpack(self, packed: list[bytes], images: Tensor) -> DenseAnswer:
        teacher = self._teacher
        anchors, strides, cells = teacher.grid(images)
        columns = [teacher.classes, 4 * teacher.reg_max if teacher.needs.boxes else 0]
        branches: list[DenseBranch] = []
        at = [0] * len(packed)
        for _ in range(2 if teacher.has_one2one and teacher.needs.one2one else 1):
            logits = torch.full((len(packed), len(anchors), columns[0]), math.log(REST / (1 - REST)))
            sides = torch.zeros(len(packed), len(anchors), columns[1])
            for i, data in enumerate(packed):
                count = int(np.frombuffer(data, np.uint32, 1, at[i])[0])
                at[i] += 4
                index = torch.from_numpy(np.frombuffer(data, np.uint32, count, at[i]).astype(np.int64))
                at[i] += 4 * count
                for target, width in zip((logits, sides), columns, strict=True):
                    values = np.frombuffer(data, np.float16, count * width, at[i]).astype(np.float32)
                    at[i] += 2 * count * width
                    target[i, index] = torch.from_numpy(values).view(count, width)
            boxes = sides.view(len(packed), len(anchors), 4, -1) if columns[1] else None
            branches.append(DenseBranch(logits, boxes, anchors, strides))
        return DenseAnswer(branches[0], branches[1] if len(branches) > 1 else None, {}, cells)


def picture_key(image: Tensor) -> bytes:
    """Return a hash of a picture's size and content."""
    digest = hashlib.sha1(str(tuple(image.shape)).encode(), usedforsecurity=False)
    digest.update(image.contiguous().numpy().data)
    return digest.digest()


def pack(answer: DenseAnswer) -> list[bytes]:
    """Return the answer to each picture as bytes.

    For each branch: the number of anchors that are kept, their indices (uint32), their logits and, where there are
    any, their side outputs (float16).
    """
    branches = [branch for branch in (answer.one2many, answer.one2one) if branch is not None]
    kept = [confidence(branch.logits) > NOTHING for branch in branches]
    packed = []
    for i in range(len(branches[0].logits)):
        parts = []
        for branch, keep in zip(branches, kept, strict=True):
            index = keep[i].nonzero().squeeze(-1)
            parts += [np.array([len(index)], np.uint32), index.numpy().astype(np.uint32)]
            parts.append(_half(branch.logits[i, index]))
            if branch.sides is not None:
                parts.append(_half(branch.sides[i, index]))
        packed.append(b"".join(part.tobytes() for part in parts))
    return packed


def _half(values: Tensor) -> np.ndarray:
    largest = torch.finfo(torch.float16).max
    return values.clamp(-largest, largest).half().numpy()
