"""8-bit weights and activations, by ONNX Runtime's static quantisation (QDQ: quantise and dequantise nodes)."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from yolo_distill.graphs.structure import decode_tail, first_convolution, last_layers, layers
from yolo_distill.temporary import temporary_folder

#: Ways to choose the range that 8 bits are spread over: the widest that was seen, or how many percent of what was seen
#: lie in it. A few outliers widen every step; cutting them off costs little, and which of the two costs less differs
#: from network to network.
METHODS: dict[str, float | None] = {"minmax": None, "percentile 99.999": 99.999, "percentile 99.99": 99.99}

_AT_A_TIME = 8 * 192 * 192  # pixels

Floats = npt.NDArray[np.float32]


class Quantiser:
    """A float graph whose ranges were seen once, and int8 files of it as often as wanted.

    Finding out which layers may not be quantised takes many files; the pictures have to be run for the first only.

    Attributes:
        model: the float graph, prepared: shapes known, batch norm folded.
    """

    def __init__(self, file: Path, pictures: Iterable[Floats], *, method: str = "minmax") -> None:
        """Run the pictures and note the range of every tensor.

        Args:
            file: the float graph, one input.
            pictures: inputs of the network, (B, C, H, W).
            method: one of `METHODS`.
        """
        percent = METHODS[method]
        with temporary_folder() as folder, _quiet():
            prepared = folder / "prepared.onnx"
            # Dynamic sizes are more than the symbolic shape inference can follow.
            quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
            self.model = onnx.load(str(prepared))
            calibrator = create_calibrator(
                prepared,
                augmented_model_path=str(folder / "watched.onnx"),
                calibrate_method=CalibrationMethod.MinMax if percent is None else CalibrationMethod.Percentile,
                extra_options={} if percent is None else {"percentile": percent},
            )
            # A few at a time: the histograms behind `percentile` keep every tensor of the pictures they are handed.
            left, given = iter(pictures), self.model.graph.input[0]
            height, width = (side.dim_value for side in given.type.tensor_type.shape.dim[2:])
            count = max(1, _AT_A_TIME // max(1, height * width))
            while some := list(itertools.islice(left, count)):
                calibrator.collect_data(_Inputs(given.name, some))
            self._ranges = calibrator.compute_data()
        # A picture may hold no white; its 256 levels still are 0 to 1, and a step of 1/255 loses nothing.
        self._ranges[self.model.graph.input[0].name] = TensorData(lowest=np.float32(0), highest=np.float32(1))

    def kept_always(self, *, pictures: bool) -> dict[str, list[str]]:
        """Return what is better left in float: the end of the head and, of a graph that takes floats, the first layer.

        Decoding multiplies by strides and puts boxes of hundreds of pixels beside scores below 1: in 8 bits it is what
        ruins detectors. The last convolutions give distances and logits, and nothing evens their rounding out; they are
        1 x 1 with few channels, and as fast in float. A first convolution of three channels is slower in 8 bits than in
        32, as its kernels take channels by the four; but where the graph takes pictures of 8 bits, turning them into
        floats costs more.

        Args:
            pictures: whether the graph will take pictures, see `input_form`.

        Returns:
            names of nodes by `decoding`, `last layers` and the first layer's name.
        """
        kept = {"decoding": decode_tail(self.model), "last layers": last_layers(self.model)}
        if not pictures:
            first = first_convolution(self.model).name
            kept |= {name: nodes for name, nodes in layers(self.model, kept["decoding"]).items() if first in nodes}
        return kept

    def take(self, weights: Mapping[str, Floats], ranges: Mapping[str, tuple[float, float]]) -> None:
        """Take other weights and ranges, by the names of their tensors."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for one in model.graph.initializer:
            if one.name in weights:
                one.CopyFrom(numpy_helper.from_array(weights[one.name], one.name))
        self.model = model
        for name, (low, high) in ranges.items():
            self._ranges[name] = TensorData(lowest=np.float32(low), highest=np.float32(high))

    def write(self, path: Path, *, keep: Sequence[str] = ()) -> None:
        """Write an int8 file.

        Args:
            path: where to.
            keep: names of nodes that stay in float.
        """
        # Unsigned activations with signed weights are what the 8-bit dot product of x86 takes; with both signed the
        # same file is four times slower there.
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        quantiser = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=list(keep),
            op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry}),
            extra_options={},
        )
        with _quiet():
            quantiser.quantize_model()
            quantiser.model.save_model_to_file(str(path), False)


class _Inputs(CalibrationDataReader):
    """Pictures as the quantiser asks for them."""

    def __init__(self, name: str, pictures: Iterable[Floats]) -> None:
        self._name, self._pictures = name, iter(pictures)

    def get_next(self) -> dict[str, Any] | None:
        picture = next(self._pictures, None)
        return None if picture is None else {self._name: picture}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's hints to itself: it writes to the root logger, and prints."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(before)
