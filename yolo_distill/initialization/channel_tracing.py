"""Which channels of a detector are one: where every map's channels come from, and what is added to what.

A channel that is left out has to be left out everywhere: of the convolution that computes it, of those that read it,
and of whatever is added to it (the shortcut of a bottleneck). Structured pruning calls such a set a group (DepGraph,
CVPR 2023, arXiv 2301.12900). Its library, torch-pruning, does not fit here: 1.6.1 places the halves of C2f's `chunk` in
`yolov8s` wrongly, and has not found the groups of `yolo11s` after nine minutes. Nor does it know which piece of a
concatenation a channel is in, which is needed where the teacher concatenates more pieces than the student.

So the detector runs once, on tensors without data ("meta"), and every map carries the numbers of its channels along:
- a convolution makes new channels, a depthwise one keeps its input's;
- `cat` and `chunk` along the channels join and part the numbers;
- functions that move channels about (`view`, `permute`, `matmul` inside attention) lose them;
- anything else keeps them, and channels that meet in one (a sum, a product) become one group.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from ultralytics.nn.tasks import DetectionModel

#: Functions after which dimension 1 need not be the channels of before.
_MOVING = frozenset(
    {"view", "view_as", "reshape", "reshape_as", "permute", "transpose", "swapaxes", "movedim", "flatten", "unflatten"}
    | {"expand", "expand_as", "repeat", "squeeze", "unsqueeze", "stack", "__getitem__"}
    | {"matmul", "__matmul__", "bmm", "einsum", "softmax", "scaled_dot_product_attention"}
)
_PARTING = frozenset({"chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split"})
_SIDE = 256  # pixels; nothing is computed


@dataclass(frozen=True)
class Part:
    """Neighbouring channels of a map that come from one place.

    Attributes:
        source: path of the module that gave them, `#1` for the second piece of a split, `@1` for its second call.
        channels: their numbers.
    """

    source: str
    channels: tuple[int, ...]


Parts = tuple[Part, ...]


@dataclass
class Trace:
    """What one run through a detector told.

    Attributes:
        inputs: by path of a convolution, the parts of the map it reads.
        outputs: by path of any module, the parts of the map it returns.
    """

    inputs: dict[str, Parts] = field(default_factory=dict)
    outputs: dict[str, Parts] = field(default_factory=dict)
    _above: list[int] = field(default_factory=list)

    def new(self, count: int) -> tuple[int, ...]:
        """Return numbers for channels not seen before, each a group of its own."""
        first = len(self._above)
        self._above += range(first, first + count)
        return tuple(range(first, first + count))

    def group(self, channel: int) -> int:
        """Return the number that stands for a channel's group."""
        while (above := self._above[channel]) != channel:
            self._above[channel] = channel = self._above[above]
        return channel

    def groups(self, parts: Iterable[Part]) -> list[int]:
        """Return the groups of all channels of a map."""
        return [self.group(channel) for part in parts for channel in part.channels]

    def join(self, one: Iterable[Part], other: Iterable[Part]) -> None:
        """Make one group of each channel of a map and its counterpart in another of as many channels."""
        for a, b in zip(self.groups(one), self.groups(other), strict=True):
            self._above[max(a, b)] = min(a, b)


def trace_channels(model: DetectionModel) -> Trace:
    """Run a detector without data and note where its channels come from; the model itself is left alone.

    Relies on: the host's head in training mode returns what the convolutions give, without decoding.
    """
    trace = Trace()
    # Tensors without data take the place of the weights in the copy.
    empty: dict[int, Any] = {
        **{id(p): nn.Parameter(p.to("meta"), requires_grad=False) for p in model.parameters()},
        **{id(b): b.to("meta") for b in model.buffers()},
    }
    shadow = copy.deepcopy(model, empty).train()
    calls: Counter[str] = Counter()
    for path, module in shadow.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(_convolution_hook(path, trace))
        if path:
            module.register_forward_hook(_naming_hook(path, trace, calls))
    first = next(p for p in shadow.parameters() if p.ndim == 4)
    picture = torch.empty(2, first.shape[1], _SIDE, _SIDE, dtype=first.dtype, device="meta")
    _label(picture, (Part("", trace.new(picture.shape[1])),))
    with torch.no_grad(), _Labels(trace):
        shadow(picture)
    return trace


def _parts(value: Any) -> Parts | None:
    return getattr(value, "_parts", None) if isinstance(value, Tensor) else None


def _label(value: Tensor, parts: Parts) -> None:
    value._parts = parts  # type: ignore[attr-defined]


def _convolution_hook(path: str, trace: Trace) -> Any:
    def hook(module: nn.Conv2d | nn.ConvTranspose2d, args: tuple[Any, ...], output: Tensor) -> None:
        read = _parts(args[0])
        if read is not None:
            trace.inputs[path] = read
        if read is not None and module.groups == module.in_channels == module.out_channels:
            channels = tuple(channel for part in read for channel in part.channels)
        else:
            channels = trace.new(module.out_channels)
        _label(output, (Part(path, channels),))

    return hook


def _naming_hook(path: str, trace: Trace, calls: Counter[str]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        parts = _parts(output)
        if parts is None:
            return
        if len(parts) == 1:  # a concatenation keeps the names of its parts
            parts = (Part(f"{path}@{calls[path]}" if calls[path] else path, parts[0].channels),)
            calls[path] += 1
            _label(output, parts)
        trace.outputs[path] = parts

    return hook


class _Labels(TorchFunctionMode):
    """Carries the labels of maps through the functions that are called on them."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Without data a batch norm leaves its map as it is; torch would work that out in Python, at ten times the time.
        result = args[0].detach() if func is F.batch_norm else func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in {"cat", "concat", "concatenate"}:
            if _dimension(args, kwargs) == 1 and all(_parts(piece) for piece in args[0]):
                _label(result, tuple(part for piece in args[0] for part in _parts(piece) or ()))
        elif name in _PARTING:
            if _dimension(args[1:], kwargs) == 1 and (parts := _parts(args[0])):
                _label_pieces(result, parts)
        elif isinstance(result, Tensor) and result.ndim == 4 and name not in _MOVING:
            self._carry(result, [*args, *kwargs.values()])
        return result

    def _carry(self, result: Tensor, values: Sequence[Any]) -> None:
        count = result.shape[1]
        labelled = [p for p in map(_parts, values) if p and sum(len(part.channels) for part in p) == count]
        for other in labelled[1:]:
            self._trace.join(labelled[0], other)
        if labelled:
            _label(result, labelled[0])


def _dimension(args: Sequence[Any], kwargs: dict[str, Any]) -> int:
    """Return the dimension argument of `cat(tensors, dim)` or `split(sizes, dim)`."""
    return int(kwargs.get("dim", args[1] if len(args) > 1 else 0))


def _label_pieces(pieces: Sequence[Tensor], parts: Parts) -> None:
    flat = [(part.source, channel) for part in parts for channel in part.channels]
    start = 0
    for number, piece in enumerate(pieces):
        here = flat[start : start + piece.shape[1]]
        start += piece.shape[1]
        sources = list(dict.fromkeys(source for source, _ in here))
        _label(piece, tuple(Part(f"{s}#{number}", tuple(c for source, c in here if source == s)) for s in sources))
