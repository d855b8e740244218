"""An Ultralytics RT-DETR as a teacher: it answers with a set of boxes, and shows the maps that its decoder looks at.

Source: Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", CVPR 2024, arXiv 2304.08069. A query of its
decoder says where an object is and, by a sigmoid a class, what it is; there are no anchors that a student could share.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert
from ultralytics.nn.modules import RTDETRDecoder
from ultralytics.nn.tasks import RTDETRDetectionModel

from yolo_distill.models.imgsz import channels_of
from yolo_distill.teachers.answer import SetAnswer, make_set, surest
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.teacher import Teacher, fastest_order

#: Side of the empty picture on which strides and widths are measured, in pixels: several cells at every level.
_MEASURED = 256


class RtdetrTeacher(Teacher):
    """Answers in sets for a batch of pictures. Scores and boxes come together; without both the decoder is not run.

    Attributes:
        architecture: the host's name of the file that it was built from, without its ending; empty if unknown.
        model: the frozen copy, whose head also hands on the maps.
    """

    def __init__(
        self, model: RTDETRDetectionModel, device: torch.device | str = "cpu", needs: Needs | None = None
    ) -> None:
        """Copy `model`, fold its batch norms and freeze it on `device`.

        Relies on: the host's `fuse()` drops nothing from an RT-DETR, which has one branch only.
        """
        self.needs = needs or Needs()
        self.architecture = Path(model.yaml.get("yaml_file") or "").stem
        self.names = {int(k): str(v) for k, v in model.names.items()}
        channels = channels_of(model)
        # A RepConv that is folded becomes a new layer, whose weights are random at first.
        with torch.random.fork_rng(devices=[]):
            own: Any = deepcopy(model).fuse(verbose=False).float().to(device)
        self._order = fastest_order(device)
        own.model[-1] = head = _ShowingHead(own.model[-1])
        self.model = own.to(memory_format=self._order).eval().requires_grad_(False)
        _, _, *maps = self._forward(torch.zeros(1, channels, _MEASURED, _MEASURED, device=device))
        head.decode = self.needs.scores or self.needs.boxes
        self.strides = [_MEASURED // m.shape[-1] for m in maps]
        self.widths = {stride: int(m.shape[1]) for stride, m in zip(self.strides, maps, strict=True)}

    def __call__(self, images: Tensor) -> SetAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1, with sides that the coarsest stride divides.

        Up to as many boxes a picture as the decoder has queries, best first; in single precision.
        """
        raw = self._forward(images)
        # Copied outside of the inference mode, whose tensors no loss could keep for its backward pass.
        where, logits, *maps = (part.clone() for part in raw[: None if self.needs.maps else 2])
        height, width = images.shape[-2:]
        where = box_convert(where, "cxcywh", "xyxy") * where.new_tensor([width, height, width, height])
        boxes, scores = zip(*surest(where, logits.sigmoid()), strict=True)
        return make_set(boxes, scores, logits.shape[-1], dict(zip(self.strides, maps, strict=False)))

    def _forward(self, images: Tensor) -> list[Tensor]:
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            raw: list[Tensor] = self.model(images.to(torch.float32, memory_format=self._order))
        return raw


class _ShowingHead(nn.Module):
    """Stands where the host's decoder stood and gives what it was given and, when told to `decode`, what it says.

    Relies on: in eval mode `RTDETRDecoder` returns `(detections, (boxes, logits, ...))` of its last layer, each with
    one more dimension in front; `f` and `i` say where a layer stands in the model; it keeps its anchors for `shapes`.
    """

    def __init__(self, decoder: RTDETRDecoder) -> None:
        super().__init__()
        self.f, self.i = decoder.f, decoder.i
        self.decoder, self.decode = decoder, False
        # The anchors of a model that was saved in half precision, or asked in it, are not what they should be.
        decoder.shapes = []

    def forward(self, maps: list[Tensor], batch: dict[str, Any] | None = None) -> list[Tensor]:
        """Return boxes (B, Q, 4) as cxcywh in 0..1, logits (B, Q, nc), and the maps; Q is 0 without decoding."""
        if self.decode:
            _, (boxes, logits, *_) = self.decoder(maps)
            return [boxes.squeeze(0), logits.squeeze(0), *maps]
        count = len(maps[0])
        return [maps[0].new_zeros(count, 0, 4), maps[0].new_zeros(count, 0, self.decoder.nc), *maps]
