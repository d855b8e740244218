"""Kinds of Ultralytics detectors that are told apart: YOLO, which can be taught, and RT-DETR, which only teaches."""

from __future__ import annotations

import ast
import contextlib
import copy
import math
import reprlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torchvision
from torch.nn.modules.module import register_module_forward_hook
from ultralytics.nn import tasks as host
from ultralytics.nn.modules import RTDETRDecoder
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel, guess_model_task

from yolo_distill.errors import RequestError
from yolo_distill.models.tasks import TASKS, heads

Kind = Literal["yolo", "rtdetr"]
KINDS: tuple[Kind, ...] = ("yolo", "rtdetr")
_CALLED: dict[Kind, str] = {"yolo": "a YOLO detector", "rtdetr": "an RT-DETR"}

#: Largest number of an architecture, such as classes, channels or repeats, and most values in one.
_LARGEST, _MOST_VALUES = 100_000, 100_000
#: Layers, repeated ones counted; how many times as deep; parameters; values of a map of one 256 px picture.
_MOST_LAYERS, _DEEPEST, _MOST_PARAMETERS, _MOST_VALUES_OF_A_MAP = 1000, 10, 300_000_000, 2**26


def require_detector(model: torch.nn.Module, kinds: Sequence[Kind], said: str) -> None:
    """Refuse a loaded model that is no detector of the kinds that are welcome.

    Raises:
        RequestError: saying what it is.
    """
    layers = getattr(model, "model", None)
    head = type(layers[-1]) if isinstance(layers, torch.nn.Sequential) and len(layers) else type(None)
    exact = head is RTDETRDecoder or any(head in task.heads for task in TASKS.values())
    if not (isinstance(model, DetectionModel) and exact and _kind_of(head.__name__) in kinds):
        raise _refused(said, head.__name__, guess_model_task(model), kinds)


def require_plan(plan: Any, kinds: Sequence[Kind], said: str) -> type[DetectionModel]:
    """Return the host's class of what an architecture describes, before the host builds anything from it.

    Raises:
        RequestError: it describes no detector of these kinds, or no model.
    """
    if not isinstance(plan, dict) or not plan.get("backbone") or not plan.get("head"):
        what = "a data set" if isinstance(plan, dict) and "train" in plan else "no model"
        raise RequestError(f"{said}: describes {what} (a model has 'backbone' and 'head')")
    try:
        head = str(plan["head"][-1][2])
    except (IndexError, KeyError, TypeError) as error:
        raise RequestError(f"{said}: the last layer under 'head' is not [from, repeats, module, args]") from error
    if _kind_of(head) in kinds:
        require_layers(plan, said)
        return TASKS[dict(heads())[head]].model if _kind_of(head) == "yolo" else RTDETRDetectionModel
    if not hasattr(host, head):
        raise RequestError(f"{said}: the host knows no layer {head!r}")
    raise _refused(said, head, guess_model_task(plan), kinds)


def require_layers(plan: Any, said: str) -> None:
    """Refuse an architecture that names anything but layers: the host evaluates what stands in one.

    Names that the host does not know are left to it. Layers of the user's own, put into `ultralytics.nn.tasks`, pass.

    Relies on: the host looks for a layer in `torch.nn`, `torchvision.ops` and the globals of its module `tasks`, where
    a model is one that builds from a file; it evaluates `activation`, and of the rest no more than literals.

    Raises:
        RequestError: naming what is no layer or no activation.
    """
    if not isinstance(plan, dict):
        raise RequestError(f"{said}: its architecture is a {type(plan).__name__}, not keys and values")
    _require_small(plan, said)
    activation = plan.get("activation")
    if activation and not _is_activation(activation):
        raise RequestError(
            f"{said}: activation: {reprlib.repr(activation)} is none of torch's with plain arguments, as nn.SiLU() is"
        )
    parts = [plan.get("backbone") or [], plan.get("head") or []]
    if not all(isinstance(part, list) for part in parts):
        raise RequestError(f"{said}: backbone and head are not lists of layers")
    repeats = 0
    for row in (row for part in parts for row in part):
        if not _is_layer(row):
            raise RequestError(f"{said}: a layer is not [from, repeats, module, args] but {reprlib.repr(row)}")
        name, repeats = row[2], repeats + max(row[1], 1)
        if repeats > _MOST_LAYERS:
            raise RequestError(f"{said}: repeats layers {repeats} times and more; at most {_MOST_LAYERS} are built")
        found = _named(name)
        is_layer = isinstance(found, type) and issubclass(found, torch.nn.Module)
        if found is not None and not (is_layer and not issubclass(found, host.BaseModel)):
            raise RequestError(f"{said}: names {reprlib.repr(name)} as a layer, which it is not")


def _require_small(plan: dict[str, Any], said: str) -> None:
    """Refuse an architecture with a number that no network has, or of endless length, as YAML's aliases make it."""
    todo: list[Any] = [plan]
    for _ in range(_MOST_VALUES):
        if not todo:
            return
        value = todo.pop()
        if isinstance(value, str):  # which the host reads as a number where it is one
            value = int(value) if value.strip().isdecimal() and len(value) < 100 else None
        if isinstance(value, (dict, list, tuple)):
            todo += value.values() if isinstance(value, dict) else value
        elif isinstance(value, (int, float)) and _LARGEST < abs(value) < math.inf:
            raise RequestError(f"{said}: its architecture has the number {value:.4g}; at most {_LARGEST} is taken")
    raise RequestError(f"{said}: its architecture has more than {_MOST_VALUES} values")


def _is_layer(row: Any) -> bool:
    """Return whether this is [from, repeats, module, args]."""
    if not isinstance(row, (list, tuple)) or len(row) != 4:
        return False
    above, repeats, name, arguments = row
    places = above if isinstance(above, (list, tuple)) else [above]
    whole = all(isinstance(one, int) for one in [*places, repeats])
    return whole and isinstance(name, str) and isinstance(arguments, (list, tuple))


def require_affordable(plan: dict[str, Any], said: str) -> None:
    """Refuse an architecture whose weights or maps take more memory than any detector's, before they are made.

    Relies on: the host's `parse_model` builds the layers of a plan, which then know where their inputs come from (`f`),
    and `DetectionModel` asks them about a picture of 256 px when it is made.

    Raises:
        RequestError: saying what is too large.
    """
    depths = [plan.get("depth_multiple"), *(row[0] for row in (plan.get("scales") or {}).values())]
    if any(depth and depth > _DEEPEST for depth in depths):
        raise RequestError(f"{said}: is made {max(filter(None, depths)):g} times as deep; at most {_DEEPEST} is taken")

    with torch.device("meta"), torch.no_grad(), _maps_watched(said):  # where nothing takes memory
        layers, _ = host.parse_model(copy.deepcopy(plan), ch=plan.get("channels", 3), verbose=False)
        _require_few(layers, said)
        answers: list[Any] = []
        answer: Any = torch.empty(1, plan.get("channels", 3), 256, 256)
        for layer in layers[:-1]:
            above = [layer.f] if isinstance(layer.f, int) else layer.f
            taken = [answer if place == -1 else answers[place] for place in above]
            answer = layer(taken[0] if isinstance(layer.f, int) else taken)
            answers.append(answer)


def require_runs(model: DetectionModel, said: str) -> None:
    """Run a detector on a picture of 256 px without its numbers, where nothing takes memory.

    Raises:
        RequestError: its weights or maps take more memory than any detector's.
        Exception: whatever its layers raise where they do not fit together.
    """
    _require_few(model, said)
    odd = next((one for one in model.parameters() if one.is_meta or not one.is_floating_point()), None)
    if odd is not None:
        raise RequestError(f"{said}: has weights of {odd.dtype} on {odd.device}; expected floats on the CPU")
    known: dict[int, Any] = {}
    for one in [*model.parameters(), *model.buffers()]:
        bare = torch.empty_like(one, device="meta", dtype=torch.float32 if one.is_floating_point() else None)
        known[id(one)] = torch.nn.Parameter(bare, False) if isinstance(one, torch.nn.Parameter) else bare
    bare_model = copy.deepcopy(model, known).float().eval()
    head, taken = bare_model.model[-1], []
    head.register_forward_pre_hook(lambda _, given: taken.append([copy.copy(one) for one in given]))
    with torch.device("meta"), torch.no_grad(), _maps_watched(said):
        bare_model(torch.empty(1, (model.yaml.get("channels") or 3), 256, 256))
        head.train()(*taken[0])  # which has another branch


def _require_few(layers: torch.nn.Module, said: str) -> None:
    if (count := sum(one.numel() for one in layers.parameters())) > _MOST_PARAMETERS:
        raise RequestError(f"{said}: has {count:,} parameters; at most {_MOST_PARAMETERS:,} are built")


@contextlib.contextmanager
def _maps_watched(said: str) -> Iterator[None]:
    """Refuse what layers answer with where it takes too much memory."""

    def look(_: Any, __: Any, answer: Any) -> None:
        if isinstance(answer, torch.Tensor) and answer.numel() > _MOST_VALUES_OF_A_MAP:
            shape = "x".join(map(str, answer.shape[1:]))
            raise RequestError(f"{said}: has a map of {shape} values at 256 px, more than memory has room for")

    handle = register_module_forward_hook(look)  # not of each: the host's modules share their activation
    try:
        yield
    finally:
        handle.remove()


def _named(name: str) -> Any:
    for start, room in (("nn.", torch.nn), ("torchvision.ops.", torchvision.ops)):
        if name.startswith(start):
            return getattr(room, name.removeprefix(start), None)
    return vars(host).get(name)


def _is_activation(text: Any) -> bool:
    """Return whether `text` makes one of torch's activations, and does nothing else."""
    if not isinstance(text, str) or len(text) > 200:
        return False
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return False
    if not isinstance(call, ast.Call):
        return False
    name = ast.unparse(call.func).removeprefix("torch.").removeprefix("nn.")
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    bare = [value.operand if isinstance(value, ast.UnaryOp) else value for value in values]
    return name in torch.nn.modules.activation.__all__ and all(isinstance(value, ast.Constant) for value in bare)


def _kind_of(head: str) -> Kind | None:
    return "rtdetr" if head == RTDETRDecoder.__name__ else "yolo" if head in dict(heads()) else None


def _refused(said: str, head: str, task: str | None, kinds: Sequence[Kind]) -> RequestError:
    kind = _kind_of(head)
    if kind is not None and kind not in kinds:
        wanted = " or ".join(_CALLED[one] for one in kinds)
        only = "; an RT-DETR can teach, but can't be taught, measured or exported here" if kind == "rtdetr" else ""
        return RequestError(f"{said}: is {_CALLED[kind]}, not {wanted}{only}")
    if task and task not in TASKS:
        return RequestError(f"{said}: is a {task} model; give one with task {' or '.join(TASKS)}")
    known = ", ".join(name for name, _ in heads())
    return RequestError(f"{said}: models with the head {head} are not supported yet ({known} are)")
