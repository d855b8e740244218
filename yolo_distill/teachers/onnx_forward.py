"""A teacher's forward pass by ONNX Runtime, in single precision or in 8-bit integers, on a CPU.

ONNX Runtime fuses what torch computes one by one, and on CPUs with 8-bit dot products (VNNI) an int8 teacher costs a
third of an fp32 one. Building the file takes seconds, so it pays in runs of some minutes.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.graphs.quantise import Quantiser
from yolo_distill.session_options import EXACT_INT8

OPSET = 17


class OnnxForward:
    """The teacher by ONNX Runtime; any size of batch and picture.

    Attributes:
        session: holds the file's bytes; nothing is left on disk.
    """

    def __init__(self, model: DetectionModel, calibration: Tensor | None = None) -> None:
        """Export `model` and, with pictures to calibrate on, quantise it.

        Args:
            model: a folded teacher whose head is a `NeededHead`.
            calibration: pictures (N, 3, H, W) in 0..1 from which the range of each activation is taken; None for
                single precision.
        """
        self._names = model.model[-1].names
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # A thread that spins while the student has its turn takes the core from it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(*EXACT_INT8)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "teacher.onnx"
            pictures = torch.zeros(2, _channels(model), 64, 64) if calibration is None else calibration[:2]
            _export(model, pictures, file)
            if calibration is not None:
                quantiser = Quantiser(file, (picture[None].numpy() for picture in calibration))
                file = Path(folder) / "int8.onnx"
                quantiser.write(file)
            self.session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        values = self.session.run(self._names, {"images": images.contiguous().numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(self._names, values, strict=True)}


class _InOrder(nn.Module):
    """The same model with its outputs in a tuple, as the exporter wants them."""

    def __init__(self, model: DetectionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(images).values())


def _channels(model: DetectionModel) -> int:
    return int(next(p for p in model.parameters() if p.ndim == 4).shape[1])


def _export(model: DetectionModel, pictures: Tensor, file: Path) -> None:
    names = model.model[-1].names
    dynamic = {"images": {0: "batch", 2: "height", 3: "width"}}
    dynamic |= {
        name: {0: "batch", 2: "height", 3: "width"} if name.startswith("map") else {0: "batch", 2: "anchors"}
        for name in names
    }
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of an exporter that the host uses as well, about itself
        torch.onnx.export(
            _InOrder(model).eval(),
            (pictures,),
            str(file),
            opset_version=OPSET,
            input_names=["images"],
            output_names=names,
            dynamic_axes=dynamic,
            dynamo=False,
        )
