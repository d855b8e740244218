"""An Ultralytics detector as a teacher: frozen, folded, and asked with exactly the student's batch."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.teachers.answer import DenseAnswer, read_head


class YoloTeacher:
    """Answers densely for a batch of pictures; never learns and is no part of the student.

    Attributes:
        names: class names by column of the logits.
        strides: pixels per cell of each level, finest first as the head has them.
        widths: channels of the neck map at each stride.
    """

    def __init__(self, model: DetectionModel, device: torch.device | str = "cpu") -> None:
        """Copy `model`, fold its batch norms and freeze it on `device`."""
        model = fold(deepcopy(model)).to(device)
        self.model = model.to(memory_format=torch.channels_last)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        head = self.model.model[-1]
        # In its training mode the head returns the raw output and skips decoding; nothing is left in it (folded batch
        # norms, no dropout) that would behave otherwise.
        head.training = True
        self.names: dict[int, str] = {int(k): str(v) for k, v in self.model.names.items()}
        self.strides = [int(s) for s in head.stride]
        self.reg_max = int(head.reg_max)
        self.widths = dict(zip(self.strides, (seq[0].conv.in_channels for seq in head.cv2), strict=True))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> DenseAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1."""
        output = self.model(images.to(memory_format=torch.channels_last))
        return read_head(output, self.strides, self.reg_max)


def fold(model: DetectionModel) -> DetectionModel:
    """Fold every batch norm of `model` into its convolution, in place, and return it in eval mode.

    The host's `fuse()` also drops one of an end-to-end head's two branches; a teacher needs both, so the head's part of
    it is switched off on this one instance.
    """
    model.eval()
    head = model.model[-1]
    head.fuse = lambda: None
    model.fuse(verbose=False)
    del head.fuse
    return model
