"""Where the student starts: inside the teacher, with every second (third, ...) of its channels.

Source: Xu et al., "Initializing Models with Larger Ones" (weight selection), ICLR 2024, arXiv 2311.18823: layers are
paired by position, and each of the smaller layer's tensors takes evenly spaced elements of the larger one's, in every
dimension. YOLO sizes of one family that differ in width alone (s -> n) correspond in every layer.

Because both ends of a connection are thinned out by the same rule, the selection is consistent from layer to layer:
the input channels that a layer keeps are the output channels that the layer before it keeps.

Departures from the paper:
- Attention heads are taken whole (query, key and value of one head belong together), evenly spaced among the heads.
- A convolution with no norm behind it (the last one of each head branch) sums over fewer inputs than the teacher's; it
  is rescaled by the ratio of inputs. Elsewhere the batch norm takes care of that.
- Rows of class convolutions go by class name, not by position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.block import AAttn, Attention
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.engine.classes import ClassMatch, match_classes
from yolo_distill.errors import RequestError

#: Share of the student's parameters that has to come out of the teacher before `init=teacher` agrees to it.
LEAST_SHARE = 0.5
#: What `init=auto` asks for: most of the student's parameters, and hardly a teacher tensor left over (same depth).
AUTO_SHARE, AUTO_USED = 0.85, 0.9


@dataclass(frozen=True)
class StartReport:
    """What of the student came out of the teacher.

    Attributes:
        taken: tensors that were taken.
        left: names of the tensors that keep their own initial values.
        share: share of the student's parameters that was taken, 0..1.
        used: share of the teacher's tensors that have a counterpart in the student, 0..1; less than 1 where the teacher
            is deeper.
    """

    taken: int
    left: list[str]
    share: float
    used: float

    @property
    def corresponds(self) -> bool:
        """Whether the two are the same layers at different widths, which is what `init=auto` starts from."""
        return self.share >= AUTO_SHARE and self.used >= AUTO_USED

    def __str__(self) -> str:
        text = f"{self.taken} of {self.taken + len(self.left)} tensors, {self.share:.1%} of the parameters"
        if self.left:
            layers = sorted({name.split(".")[1] for name in self.left if "." in name}, key=lambda n: (len(n), n))
            text += f" (layers with tensors of their own: {', '.join(layers)})"
        return text


def plan_start(student: DetectionModel, teacher: DetectionModel) -> tuple[dict[str, Tensor], StartReport]:
    """Select the student's tensors out of the teacher's; both stay as they are.

    Returns:
        the selected tensors by name of the student's state dict, and the report on them.
    """
    names = [{int(k): str(v) for k, v in model.names.items()} for model in (student, teacher)]
    match = match_classes(*names)
    own, other = student.state_dict(), teacher.state_dict()
    special = _attention_indices(student, teacher)
    plain = _convolutions_without_norm(student)
    class_rows = _class_convolutions(student) & _class_convolutions(teacher)

    selected: dict[str, Tensor] = {}
    for name, target in own.items():
        source = other.get(name)
        if source is None or source.ndim != target.ndim:
            continue
        module = name.rpartition(".")[0]
        if module in class_rows:
            value = _by_class(source, target, match)
        else:
            value = _thin_out(source, target, special.get(name, {}))
        if value is None:
            continue
        if module in plain and name.endswith(".weight"):
            value = value * (source.shape[1] / target.shape[1])
        selected[name] = value.to(target.dtype)

    sizes = {name: p.numel() for name, p in student.named_parameters() if p.requires_grad}
    share = sum(size for name, size in sizes.items() if name in selected) / max(sum(sizes.values()), 1)
    used = len(other.keys() & own.keys()) / max(len(other), 1)
    return selected, StartReport(len(selected), [name for name in own if name not in selected], share, used)


def require_correspondence(report: StartReport) -> None:
    """Refuse `init=teacher` where too little of the student corresponds.

    Raises:
        RequestError: less than half of the student's parameters have a counterpart.
    """
    if report.share < LEAST_SHARE:
        raise RequestError(
            f"init=teacher: only {report.share:.0%} of the student's parameters correspond to the teacher's layers; "
            "use a student of the teacher's family and a smaller size, or init=student"
        )


def spaced(larger: int, smaller: int) -> Tensor:
    """Return `smaller` evenly spaced indices into `larger` things, int64; every k-th when it divides."""
    return torch.arange(smaller) * larger // smaller


def _thin_out(source: Tensor, target: Tensor, special: dict[int, Tensor]) -> Tensor | None:
    """Take evenly spaced elements in each dimension; None where the teacher has fewer or the kernels differ."""
    if source.shape[2:] != target.shape[2:]:
        return None
    value = source
    for dim, (larger, smaller) in enumerate(zip(source.shape, target.shape, strict=True)):
        if larger < smaller:
            return None
        if larger != smaller:
            value = value.index_select(dim, special.get(dim, spaced(larger, smaller)).to(value.device))
    return value


def _by_class(source: Tensor, target: Tensor, match: ClassMatch) -> Tensor | None:
    """Take the rows of classes that both know; the others keep the student's own initial values."""
    if not match.matched or (source.ndim > 1 and source.shape[1] < target.shape[1]):
        return None
    if source.ndim > 1:
        source = source.index_select(1, spaced(source.shape[1], target.shape[1]).to(source.device))
    value = target.clone()
    value[match.student] = source[match.teacher].to(value)
    return value


def _attention_indices(student: DetectionModel, teacher: DetectionModel) -> dict[str, dict[int, Tensor]]:
    """Return, by tensor name and dimension, the indices that keep attention heads whole."""
    others = dict(teacher.named_modules())
    indices: dict[str, dict[int, Tensor]] = {}
    for path, module in student.named_modules():
        other = others.get(path)
        if not isinstance(module, (Attention, AAttn)) or other is None or type(other) is not type(module):
            continue
        heads = spaced(other.num_heads, module.num_heads)
        values = spaced(other.head_dim, module.head_dim)
        key_dim = getattr(other, "key_dim", other.head_dim)  # area attention has keys as wide as its values
        keys = spaced(key_dim, getattr(module, "key_dim", module.head_dim))
        within = torch.cat([keys, key_dim + keys, 2 * key_dim + values])
        qkv = (heads[:, None] * (2 * key_dim + other.head_dim) + within).flatten()
        value = (heads[:, None] * other.head_dim + values).flatten()
        for part, index in (("qkv", qkv), ("pe", value)):
            for tensor in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
                indices[f"{path}.{part}.{tensor}"] = {0: index}
        indices[f"{path}.proj.conv.weight"] = {1: value}
    return indices


def _convolutions_without_norm(model: DetectionModel) -> set[str]:
    modules = dict(model.named_modules())
    return {
        path
        for path, module in modules.items()
        if isinstance(module, nn.Conv2d) and not hasattr(modules[path.rpartition(".")[0]], "bn")
    }


def _class_convolutions(model: DetectionModel) -> set[str]:
    """Return the names of the last convolutions of the head's class branches."""
    head = model.model[-1]
    where = f"model.{len(model.model) - 1}"
    return {
        f"{where}.{branch}.{level}.{len(layers) - 1}"
        for branch in ("cv3", "one2one_cv3")
        for level, layers in enumerate(getattr(head, branch, None) or ())
    }
