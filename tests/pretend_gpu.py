"""A GPU that is not there: everything is computed on the CPU, and torch's rules for devices hold all the same.

Tensors on the pretended GPU are ordinary CPU tensors that carry a mark. A torch function mode sees every call: it puts
the mark where a GPU's tensors would arise, answers `device` by it, and raises where torch would, when tensors of
different devices meet or `numpy()` is asked of one that is not in the computer's memory. It shows forgotten moves
and the like, with real autocast in fp16; it shows nothing of speed, memory or what a GPU's kernels compute.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.data._utils import pin_memory

GPU = torch.device("cuda", 0)
#: Called with another device than the one their tensors are on.
_MOVES = {Tensor.to, Tensor.type_as, Tensor.cuda, Tensor.cpu}
#: Take tensors of any device.
_ANYWHERE = {Tensor.copy_, Tensor.__getitem__, Tensor.data.__set__, torch._has_compatible_shallow_copy_type}
_IN_MEMORY_ONLY = {Tensor.numpy, Tensor.__array__}


def marked(tensor: Tensor) -> bool:
    """Return whether a tensor is on the pretended GPU."""
    return getattr(tensor, "_pretended", False)


def _mark(tensor: Tensor, gpu: bool) -> None:
    tensor._pretended = gpu  # type: ignore[attr-defined]


class _Devices(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in {Tensor.device.__get__, Tensor.is_cuda.__get__, Tensor.is_cpu.__get__, Tensor.get_device}:
            return _where(func, args[0])
        if func in _MOVES:
            return _move(func, args, kwargs)
        if func in _IN_MEMORY_ONLY and marked(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if func is Tensor.pin_memory:
            return args[0]
        if func is Tensor.is_pinned:
            return False
        if func is Tensor.__deepcopy__:  # its memo holds everything that was copied before
            result = func(*args)
            _mark(result, marked(args[0]))
            return result
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        gpu = _agree(func, args, tensors)
        if kwargs.get("device") is not None and (kind := torch.device(kwargs["device"]).type) != "meta":
            gpu = kind == "cuda"
            kwargs["device"] = "cpu"
        result = func(*args, **kwargs)
        if func == Tensor.data.__set__:
            _mark(args[0], marked(args[1]))
        given = {id(tensor) for tensor in tensors}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and id(leaf) not in given:
                _mark(leaf, gpu)
        return result


def _where(func: Any, tensor: Tensor) -> Any:
    if not marked(tensor):
        return func(tensor)
    return {Tensor.device.__get__: GPU, Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}.get(func, 0)


def _move(func: Any, args: Any, kwargs: Any) -> Tensor:
    """Move a tensor: a copy, where the device changes, as on a real one."""
    tensor, *rest = args
    if func in {Tensor.cuda, Tensor.cpu}:
        gpu, call = func is Tensor.cuda, {}
    else:
        copied = kwargs.pop("copy", False)
        device, dtype, _, layout = torch._C._nn._parse_to(*rest, **kwargs)
        if rest and isinstance(rest[0], Tensor):
            device, dtype = (GPU if marked(rest[0]) else torch.device("cpu")), rest[0].dtype
        if device is not None and device.type == "meta":  # without data there is nothing to pretend
            return tensor.to(device, dtype)
        gpu = marked(tensor) if device is None else device.type == "cuda"
        call = {"copy": copied, **({"dtype": dtype} if dtype else {}), **({"memory_format": layout} if layout else {})}
    changes = gpu != marked(tensor)
    result = tensor.to("cpu", **{**call, "copy": call.get("copy", False) or changes})
    if result is not tensor:
        _mark(result, gpu)
    return result


def _agree(func: Any, args: Any, tensors: list[Tensor]) -> bool:
    """Return whether the result is on the GPU.

    Raises:
        RuntimeError: tensors of both devices, where torch does not take that.
    """
    gpu = any(map(marked, tensors))
    if not gpu:
        return False
    if func in {Tensor.__getitem__, Tensor.__setitem__}:
        return _of_indexed(args)
    if func in _ANYWHERE:
        return marked(args[0])
    strict = func in {torch.cat, torch.stack}
    if any(not marked(t) and (t.ndim or strict) for t in tensors):
        where = ", ".join(f"{tuple(t.shape)} on {'cuda:0' if marked(t) else 'cpu'}" for t in tensors)
        raise RuntimeError(f"{getattr(func, '__name__', func)}: tensors on different devices: {where}")
    return True


def _of_indexed(args: Any) -> bool:
    """Return whether what is indexed is on the GPU; an index on the GPU can't be used for what is not."""
    gpu = marked(args[0])
    if not gpu and any(isinstance(leaf, Tensor) and marked(leaf) for leaf in tree_leaves(args[1])):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    return gpu


class _Stream:
    """A stream of a GPU, on which everything is done at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = GPU

    def wait_stream(self, other: Any) -> None:
        """Wait for nothing."""

    def synchronize(self) -> None:
        """Wait for nothing."""


class _Generator(torch.Generator):
    """A generator of random numbers for any device."""

    def __new__(cls, device: Any = None) -> _Generator:
        return super().__new__(cls)


def _parameter(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
    made = _new_parameter(cls, data, requires_grad)
    if isinstance(data, Tensor):
        _mark(made, marked(data))
    return made


_new_parameter = nn.Parameter.__new__


@contextlib.contextmanager
def pretend_gpu() -> Iterator[None]:
    """Within it, `cuda:0` is there."""
    properties = SimpleNamespace(name="Pretended", total_memory=8 << 30, major=8, minor=0, multi_processor_count=1)
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "get_device_properties": properties,
        "get_device_name": "Pretended", "get_device_capability": (8, 0), "is_bf16_supported": True,
        "memory_reserved": 0, "memory_allocated": 0, "max_memory_allocated": 0, "max_memory_reserved": 0,
        "mem_get_info": (8 << 30, 8 << 30), "is_initialized": True, "stream": contextlib.nullcontext(),
        "empty_cache": None, "synchronize": None, "reset_peak_memory_stats": None, "set_device": None,
        "manual_seed": None, "manual_seed_all": None, "_lazy_init": None, "ipc_collect": None,
    }  # fmt: skip
    autocast = torch.autocast.__init__

    def of_cpu(self: Any, device_type: str, dtype: Any = None, *args: Any, **kwargs: Any) -> None:
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.float16
        autocast(self, device_type, dtype, *args, **kwargs)

    replaced: list[tuple[Any, str, Any]] = [
        *((torch.cuda, name, mock.Mock(return_value=answer)) for name, answer in answers.items()),
        (torch.cuda, "Stream", _Stream),
        (torch.cuda, "current_stream", _Stream),
        (torch.autocast, "__init__", of_cpu),
        (torch, "Generator", _Generator),
        (Tensor, "record_stream", mock.Mock()),
        (nn.Parameter, "__new__", _parameter),
        (pin_memory, "pin_memory", mock.Mock(side_effect=lambda data, device=None: data)),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, value in replaced:
            stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(_Devices())
        yield
