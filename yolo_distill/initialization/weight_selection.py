"""Where the student starts: inside the teacher, with some of its channels.

Source: Xu et al., "Initializing Models with Larger Ones" (weight selection), ICLR 2024, arXiv 2311.18823: layers are
paired by position, and each of the smaller layer's tensors takes elements of the larger one's, in every dimension. YOLO
sizes of one family that differ in width alone (s -> n) correspond in every layer.

The selection is consistent from layer to layer: the input channels that a layer keeps are the output channels that the
layers before it keep, through splits, sums and concatenations. `channel_selection` says which layers correspond and
which channels are taken and what those are worth, `least_squares` how they are fitted.

Departures from the paper:
- Channels may be chosen by their worth, within runs of neighbours, where the paper takes evenly spaced ones.
- Attention heads are taken whole (query, key and value of one head belong together).
- A convolution sums over fewer inputs than the teacher's. What the others carried is made up for by `least_squares`;
  without it the batch norm behind takes care of the scale, and where there is none (the last one of each head branch)
  the weights are multiplied by the ratio of inputs. So are the pieces of a concatenation that are thinned out more than
  others.
- Rows of class convolutions go by class name, not by position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.class_mapping import ClassMatch, match_classes
from yolo_distill.errors import RequestError
from yolo_distill.initialization.channel_selection import Choice, Scores, common_modules, spaced
from yolo_distill.teachers.class_names import spelled

#: Share of the student's parameters that has to come out of the teacher before `init=teacher` agrees to it.
LEAST_SHARE = 0.5
#: What `init=auto` asks for: most of the student's parameters, and hardly a teacher tensor left over (same depth).
AUTO_SHARE, AUTO_USED = 0.85, 0.85


@dataclass(frozen=True)
class StartReport:
    """What of the student came out of the teacher.

    Attributes:
        taken: tensors that were taken.
        left: names of the tensors that keep their own initial values.
        share: share of the student's parameters that was taken, 0..1.
        used: share of the teacher's tensors that something was taken from, 0..1; less than 1 where the teacher is
            deeper.
        classes: how many of the student's classes start from the teacher's, and how many it has.
        scored: share of the student's channels that were chosen by score, 0..1; 0 where all are evenly spaced.
        outputs: by path of the student's modules, the channels of the teacher's map behind it that the student's are
            taken from, int64; modules whose map has no counterpart are missing.
        chosen: the same by stride, for the maps that the head reads.
    """

    taken: int
    left: list[str]
    share: float
    used: float
    classes: tuple[int, int]
    scored: float = 0.0
    outputs: dict[str, Tensor] = field(default_factory=dict)
    chosen: dict[int, Tensor] = field(default_factory=dict)

    @property
    def corresponds(self) -> bool:
        """Whether the two are the same layers at different widths, which is what `init=auto` starts from."""
        return self.share >= AUTO_SHARE and self.used >= AUTO_USED

    def __str__(self) -> str:
        text = f"{self.taken} of {self.taken + len(self.left)} tensors, {self.share:.1%} of the parameters"
        if self.scored:
            text += f", {self.scored:.0%} of the channels chosen by score"
        taken, classes = self.classes
        if taken < classes:
            text += f", {taken} of {classes} classes"
        if self.left:
            layers = sorted({name.split(".")[1] for name in self.left if "." in name}, key=lambda n: (len(n), n))
            text += f" (layers with tensors of their own: {', '.join(layers)})"
        if self.used < AUTO_USED:
            text += f"; {1 - self.used:.0%} of the teacher's tensors have no place in it"
        return text


def plan_start(
    student: DetectionModel,
    teacher: DetectionModel,
    *,
    scores: Scores | None = None,
    class_map: Mapping[str, str] | None = None,
) -> tuple[dict[str, Tensor], StartReport]:
    """Select the student's tensors out of the teacher's; both stay as they are.

    Args:
        student: detector to start.
        teacher: detector to start it from.
        scores: what the teacher's channels are worth (see `norm_scores`); None takes evenly spaced ones.
        class_map: see `match_classes`; what it says of other teachers' classes is left out.

    Returns:
        the selected tensors by name of the student's state dict, and the report on them.

    Raises:
        RequestError: the map names a class that the student does not have.
    """
    ours, theirs = ({int(k): str(v) for k, v in model.names.items()} for model in (student, teacher))
    if class_map is not None:
        known = set(map(spelled, theirs.values()))
        class_map = {their: our for their, our in class_map.items() if spelled(their) in known}
    match = match_classes(ours, theirs, class_map)
    own, other = student.state_dict(), teacher.state_dict()
    common = common_modules(student, teacher)
    choice = Choice(student, teacher, common, scores)
    plain = _convolutions_without_norm(student)
    class_rows = _class_convolutions(student) & _class_convolutions(teacher)
    transposed = {path for path, module in student.named_modules() if isinstance(module, nn.ConvTranspose2d)}

    selected: dict[str, Tensor] = {}
    for name, target in own.items():
        module, _, kind = name.rpartition(".")
        source = other.get(name)
        if source is None or module not in common:
            continue
        if module in plain and kind == "weight":
            source = source * (source.shape[1] / target.shape[1])
        if module in class_rows:
            value = _by_class(source, target, match, choice.of_input(module))
        else:
            indices = choice.of_output(module), choice.of_input(module)
            # A transposed convolution has its inputs first, and a bias as the others have.
            value = _thin_out(source, target, indices[::-1] if module in transposed and source.ndim == 4 else indices)
        balance = choice.balance_of_input(module) if kind == "weight" else None
        if value is not None and balance is not None and value.ndim == 4 and value.shape[1] == len(balance):
            value = value * balance.to(value).view(1, -1, 1, 1)
        if value is not None:
            selected[name] = value.to(target.dtype)

    # Also of frozen ones: in a checkpoint that the host has finished all are.
    sizes = {name: p.numel() for name, p in student.named_parameters()}
    share = sum(size for name, size in sizes.items() if name in selected) / max(sum(sizes.values()), 1)
    head = student.model[-1]
    neck = [f"model.{layer}" for layer in head.f]
    found = {path: choice.of_output(path) for path in common - class_rows}
    outputs = {path: index for path, index in found.items() if index is not None}
    if not match.untaught:
        outputs |= dict.fromkeys(class_rows & common, torch.tensor(match.teacher))
    report = StartReport(
        taken=len(selected),
        left=[name for name in own if name not in selected],
        share=share,
        used=len(selected) / max(len(other), 1),
        classes=(len(match.student), len(ours)),
        scored=choice.scored,
        outputs=outputs,
        chosen={int(s): outputs[at] for s, at in zip(head.stride, neck, strict=True) if at in outputs},
    )
    return selected, report


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


def _thin_out(source: Tensor, target: Tensor, indices: Sequence[Tensor | None]) -> Tensor | None:
    """Take elements in each dimension; None where the teacher has fewer or the kernels differ.

    Args:
        source: the teacher's tensor.
        target: the student's.
        indices: which elements of the first dimensions are taken; None: evenly spaced ones.
    """
    if source.ndim != target.ndim or source.shape[2:] != target.shape[2:]:
        return None
    value = source
    for dim, (larger, smaller) in enumerate(zip(source.shape, target.shape, strict=True)):
        if larger < smaller:
            return None
        index = indices[dim] if dim < len(indices) else None
        if index is None or len(index) != smaller:  # the one input that each filter of a depthwise convolution reads
            index = spaced(larger, smaller)
        value = value.index_select(dim, index.to(value.device))
    return value


def _by_class(source: Tensor, target: Tensor, match: ClassMatch, inputs: Tensor | None) -> Tensor | None:
    """Take the rows of classes that both know; the others keep the student's own initial values."""
    rows = source[match.teacher]
    chosen = _thin_out(rows, target[match.student], (None, inputs)) if match.matched else None
    if chosen is None:
        return None
    value = target.clone()
    value[match.student] = chosen.to(value)
    return value


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
