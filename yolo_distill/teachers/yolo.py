"""An Ultralytics detector as a teacher: frozen, folded, trimmed to what is asked of it, and asked with every batch."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from ultralytics.nn.modules import OBB, Pose26
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.models.tasks import task_of
from yolo_distill.teachers.answer import DenseAnswer, DenseBranch, SetAnswer, Where, make_branch
from yolo_distill.teachers.head import NeededHead, Needs, cells, points
from yolo_distill.teachers.teacher import Teacher, fastest_order

#: Gives the outputs of a `NeededHead`, by name, for pictures (B, 3, H, W); in whatever precision it computes.
Forward = Callable[[Tensor], dict[str, Tensor]]


class YoloTeacher(Teacher):
    """Answers densely for a batch of pictures.

    Attributes:
        head: the host's class of its head.
        architecture: the host's name of the file that it was built from, without its ending; empty if unknown.
        forward: what computes the answers; see `yolo_distill.teachers.precision` for the choice.
    """

    def __init__(self, model: DetectionModel, device: torch.device | str = "cpu", needs: Needs | None = None) -> None:
        """Copy `model`, fold its batch norms, freeze it on `device` and leave out what nobody needs."""
        model = fold(deepcopy(model)).to(device)
        head = model.model[-1]
        self.architecture = Path(model.yaml.get("yaml_file") or "").stem
        self.names = {int(k): str(v) for k, v in model.names.items()}
        self.strides = [int(s) for s in head.stride]
        self.reg_max = int(head.reg_max)
        self.head = type(head)
        self.task = task_of(model)
        if self.task == "pose":
            self.kpt_shape = (int(head.kpt_shape[0]), int(head.kpt_shape[1]))
        self.widths = dict(zip(self.strides, (seq[0].conv.in_channels for seq in head.cv2), strict=True))
        self.needs = needs or Needs()
        if isinstance(head, OBB) and self.needs.boxes:  # which are nothing without their angles
            self.needs = replace(self.needs, extra=True)
        model.model[-1] = NeededHead(head, self.needs)
        self.forward: Forward = TorchForward(model.eval().requires_grad_(False))
        cuda = torch.device(device).type == "cuda"
        self._stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        # Of the size seen last: the host makes it on the CPU, and to copy it makes the host wait for the whole GPU.
        self._grid: tuple[tuple[int, int, torch.device], tuple[Tensor, Tensor, dict[int, int]]] | None = None

    def __call__(self, images: Tensor) -> DenseAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1. Everything in the answer is in single precision.

        On a GPU the answer is computed on a stream of its own, beside whatever the caller does next; `wait` for it
        before it is used.
        """
        if self._stream is None:
            return self._answer(images)
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        images.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            return self._answer(images)

    def wait(self, answer: DenseAnswer | SetAnswer) -> None:
        """Make the current stream wait for the teacher's; the host does not wait."""
        if self._stream is None:
            return
        assert isinstance(answer, DenseAnswer)
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        tensors = [t for branch in answer.branches for t in vars(branch).values() if t is not None]
        for tensor in (*tensors, *answer.maps.values()):
            tensor.record_stream(current)

    def grid(self, images: Tensor) -> tuple[Tensor, Tensor, dict[int, int]]:
        """Return anchor points (A, 2), strides (A, 1) and anchors of each level for pictures of this size."""
        height, width = images.shape[-2:]
        key = height, width, images.device
        if self._grid is None or self._grid[0] != key:
            with torch.inference_mode(False):  # it outlives the mode of this call
                own = points((height, width), self.strides, images.device)
            self._grid = key, (*own, cells((height, width), self.strides))
        return self._grid[1]

    def keypoints_at(self, branch: DenseBranch, where: Where) -> Tensor:
        """Return the keypoints (N, K x D) of a branch at some anchors, x and y in pixels, and how sure each is, 0 to 1.

        Relies on: the head of 26 counts from the anchor point in cells, those before it from the cell's corner in half
        cells.
        """
        assert branch.extra is not None, "the teacher was not asked for keypoints"
        assert self.kpt_shape is not None
        points = branch.extra[where].float().view(-1, *self.kpt_shape)
        anchors, strides = branch.anchors[where[1]].float()[:, None], branch.strides[where[1]].float()[:, None]
        places = points[..., :2] + anchors if self.head is Pose26 else points[..., :2] * 2 + anchors - 0.5
        return torch.cat([places * strides, points[..., 2:].sigmoid()], -1).flatten(1)

    def _answer(self, images: Tensor) -> DenseAnswer:
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            raw = self.forward(images)
        # Copied outside of the inference mode, whose tensors no loss could keep for its backward pass.
        raw = {name: value.to(torch.float32, copy=True) for name, value in raw.items()}
        anchors, strides, counts = self.grid(images)
        branches = [
            make_branch(
                raw[f"{name}scores"],
                raw.get(f"{name}boxes"),
                anchors,
                strides,
                self.reg_max,
                raw.get(f"{name}extra"),
                raw.get("proto"),
            )
            if f"{name}scores" in raw
            else None
            for name in ("", "one2one_")
        ]
        maps = {s: raw[f"map{s}"] for s in self.strides if f"map{s}" in raw}
        return DenseAnswer(branches[0], branches[1], maps, counts)


class TorchForward:
    """The teacher by torch, with weights and activations of one type."""

    def __init__(self, model: DetectionModel, dtype: torch.dtype = torch.float32) -> None:
        """Take `model` as it is for single precision, or a copy in another."""
        self._order = fastest_order(next(model.parameters()).device)
        model = model if dtype == torch.float32 else deepcopy(model).to(dtype)
        self.model, self.dtype = model.to(memory_format=self._order), dtype

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        answer: dict[str, Tensor] = self.model(images.to(self.dtype, memory_format=self._order))
        return answer


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
