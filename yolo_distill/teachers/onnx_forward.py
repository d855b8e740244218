"""A teacher's forward pass by ONNX Runtime, in single precision or in 8-bit integers, on a CPU.

ONNX Runtime fuses what torch computes one by one, and on CPUs with 8-bit dot products (VNNI) an int8 teacher costs a
third of an fp32 one. Building the file takes seconds, so it pays in runs of some minutes.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.graphs.quantise import Quantiser
from yolo_distill.teachers.onnx_session import open_session
from yolo_distill.temporary import temporary_folder

OPSET = 17


class OnnxForward:
    """The teacher by ONNX Runtime; any size of batch and picture. Nothing is left on disk."""

    def __init__(self, model: DetectionModel, calibration: Tensor | None = None) -> None:
        """Export `model` and, with pictures to calibrate on, quantise it.

        Args:
            model: a folded teacher whose head is a `NeededHead`.
            calibration: pictures (N, 3, H, W) in 0..1 from which the range of each activation is taken; None for
                single precision.
        """
        self._names = model.model[-1].names
        channels = int(next(p for p in model.parameters() if p.ndim == 4).shape[1])
        with temporary_folder() as folder:
            file = folder / "teacher.onnx"
            _export(model, torch.zeros(2, channels, 64, 64) if calibration is None else calibration[:2], file)
            if calibration is not None:
                quantiser = Quantiser(file, (picture[None].numpy() for picture in calibration))
                file = folder / "int8.onnx"
                quantiser.write(file)
            self._session = open_session(file.read_bytes())

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        values = self._session.run(self._names, {"images": images.contiguous().numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(self._names, values, strict=True)}


class _InOrder(nn.Module):
    """The same model with its outputs in a tuple, as the exporter wants them."""

    def __init__(self, model: DetectionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(images).values())


def _export(model: DetectionModel, pictures: Tensor, file: Path) -> None:
    names = model.model[-1].names
    picture, row = {0: "batch", 2: "height", 3: "width"}, {0: "batch", 2: "anchors"}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of an exporter that the host uses as well, about itself
        torch.onnx.export(
            _InOrder(model).eval(),
            (pictures,),
            str(file),
            opset_version=OPSET,
            input_names=["images"],
            output_names=names,
            dynamic_axes={name: picture if name.startswith(("images", "map")) else row for name in ["images", *names]},
            dynamo=False,
        )
