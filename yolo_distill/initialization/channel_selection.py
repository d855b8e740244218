"""Which of the teacher's layers and channels the student takes, the same ones wherever a channel appears.

Layers correspond by their place. Where a stage of the teacher repeats its block more often, the student's repeats are
the teacher's first ones (first-N selection, as in weight selection: Xu et al., ICLR 2024, arXiv 2311.18823). They are
neighbours in the teacher as well, so each is fed what it was trained on. What the convolution behind the stage reads of
the other repeats is left out. Evenly spaced repeats came out like the first ones in a trial with one teacher, the last
ones worse. Layers of different kinds, such as a Bottleneck and the C3k that larger sizes have in its place, do not
correspond.

Each convolution's channels are parted into as many runs of neighbours as the student has channels, and of each run one
channel is taken: the first (evenly spaced), or the one with the best score. A run never reaches over the border between
the pieces of a split, of a concatenation or of an attention head, so the student's pieces are taken from the teacher's
same pieces. Channels that are one (see `channel_tracing`) are chosen together, by the sum of their scores.

Attention heads are taken whole: query, key and value of one head belong together.

The best channels of a whole piece, rather than of each run, were tried once and were no better.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.block import AAttn, Attention
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.initialization.channel_tracing import Part, Parts, Trace, trace_channels

#: Worth of each of the teacher's channels, by path of the convolution that makes them; see `norm_scores`.
Scores = Mapping[str, Tensor]


def spaced(larger: int, smaller: int) -> Tensor:
    """Return `smaller` evenly spaced indices into `larger` things, int64; every k-th when it divides."""
    return torch.arange(smaller) * larger // smaller


def norm_scores(model: DetectionModel) -> dict[str, Tensor]:
    """Return the L2 norms of each channel's filter, as the batch norm behind it scales it.

    |gamma| / sigma * ||w||, which is the filter's norm once both are one convolution, so that it does not matter how
    the two share the scale. By mean over the layer, as layers are summed where channels meet. Sources: filter norms (Li
    et al., ICLR 2017, arXiv 1608.08710), |gamma| (network slimming, ICCV 2017, arXiv 1708.06519), sums over groups
    (DepGraph, CVPR 2023, arXiv 2301.12900).

    Returns:
        tensors of shape (channels,), each of mean 1, by path of a convolution that has a batch norm behind it.
    """
    scores = {}
    for path, module in model.named_modules():
        convolution, norm = getattr(module, "conv", None), getattr(module, "bn", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            assert norm.running_var is not None
            scale = norm.weight.detach().abs() / (norm.running_var + norm.eps) ** 0.5
            score = convolution.weight.detach().flatten(1).norm(dim=1) * scale
            scores[f"{path}.conv"] = (score / score.mean().clamp_min(torch.finfo(score.dtype).tiny)).cpu()
    return scores


class Choice:
    """The teacher's channels that stand for the student's.

    Attributes:
        scored: share of the student's channels that were chosen by score, 0..1, of those that there was a choice for.
    """

    def __init__(
        self, student: DetectionModel, teacher: DetectionModel, common: Set[str], scores: Scores | None = None
    ) -> None:
        """Choose.

        Args:
            student: detector whose channels are chosen for.
            teacher: detector whose channels are chosen from.
            common: paths of the modules that correspond.
            scores: None: evenly spaced channels.
        """
        self._common = common
        self._mine, self._theirs = trace_channels(student), trace_channels(teacher)
        self._taken: dict[int, int] = {}  # the teacher's groups, by group of the student's
        # By path, as each of a module's tensors asks for them.
        self._outputs: dict[str, Tensor | None] = {}
        self._inputs: dict[str, Tensor | None] = {}
        self._take_heads(student, teacher, scores or {})
        self._take_best(student, scores)

    def of_output(self, path: str) -> Tensor | None:
        """Return which channels of the teacher's map those of the student's are taken from, int64, behind a module.

        None where the module's map has no counterpart.
        """
        if path not in self._outputs:
            self._outputs[path] = self._between(path, self._mine.outputs, self._theirs.outputs)
        return self._outputs[path]

    def of_input(self, path: str) -> Tensor | None:
        """Return the same for the map that a convolution reads."""
        if path not in self._inputs:
            self._inputs[path] = self._between(path, self._mine.inputs, self._theirs.inputs)
        return self._inputs[path]

    def balance_of_input(self, path: str) -> Tensor | None:
        """Return by how much more than the first each input channel of a convolution has to count, or None: no more.

        Where the teacher's maps are twice as wide as the student's, a half of their channels gives half of the sum, and
        the batch norm behind makes up for it. It can't where some maps of a concatenation are, and others are not.
        """
        pairs = self._pairs(path, self._mine.inputs, self._theirs.inputs)
        thinned = [len(other.channels) / len(part.channels) for part, other, _ in pairs]
        if len(set(thinned)) < 2:
            return None
        weights = [ratio / thinned[0] for ratio in thinned]
        return torch.cat([torch.full((len(p.channels),), w) for (p, _, _), w in zip(pairs, weights, strict=True)])

    def _between(self, path: str, mine: Mapping[str, Parts], theirs: Mapping[str, Parts]) -> Tensor | None:
        pieces = [start + self._within(part, other) for part, other, start in self._pairs(path, mine, theirs)]
        return torch.cat(pieces) if pieces else None

    def _pairs(self, path: str, mine: Mapping[str, Parts], theirs: Mapping[str, Parts]) -> list[tuple[Part, Part, int]]:
        """Return the parts of the student's map, those of the teacher's they are taken from, and where these start."""
        if path not in self._common or path not in mine or path not in theirs:
            return []
        widths = accumulate((len(part.channels) for part in theirs[path]), initial=0)
        others = list(zip(theirs[path], widths, strict=False))
        if len(mine[path]) != len(others):  # the teacher has more repeats
            named = {other.source: (other, start) for other, start in others}
            others = [named[part.source] for part in mine[path] if part.source in named]
        pairs = [(part, *found) for part, found in zip(mine[path], others, strict=False)]
        fit = len(pairs) == len(mine[path]) and all(len(a.channels) <= len(b.channels) for a, b, _ in pairs)
        return pairs if fit else []

    def _within(self, part: Part, other: Part) -> Tensor:
        place = {group: at for at, group in enumerate(self._theirs.groups([other]))}
        found = [place.get(self._taken.get(group, -1)) for group in self._mine.groups([part])]
        if any(at is None for at in found):  # not the same channels, as behind a layer of another kind
            return spaced(len(other.channels), len(part.channels))
        return torch.tensor(found)

    def _take_heads(self, student: DetectionModel, teacher: DetectionModel, scores: Scores) -> None:
        others = dict(teacher.named_modules())
        for path, module in student.named_modules():
            if path not in self._common or not isinstance(module, (Attention, AAttn)):
                continue
            indices = _head_indices(module, others[path], scores.get(f"{path}.qkv.conv"))
            for name, index in zip(("qkv", "pe"), indices, strict=True):
                mine = self._mine.groups(self._mine.outputs[f"{path}.{name}"])
                theirs = self._theirs.groups(self._theirs.outputs[f"{path}.{name}"])
                self._taken |= {group: theirs[at] for group, at in zip(mine, index.tolist(), strict=True)}

    def _take_best(self, student: DetectionModel, scores: Scores | None) -> None:
        candidates: dict[int, list[int]] = {}
        for path, module in student.named_modules():
            if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) or path not in self._common:
                continue
            mine = self._mine.groups(self._mine.outputs.get(path, ()))
            theirs = self._theirs.groups(self._theirs.outputs.get(path, ()))
            if len(theirs) < len(mine):
                continue
            for group, run in zip(mine, _runs(theirs, len(mine)), strict=True):
                if group not in self._taken:
                    before = candidates.get(group, run)
                    # Where no channel is in the runs of all the convolutions of a group, the first of them decides.
                    candidates[group] = [channel for channel in before if channel in run] or before
        worth = _worth_of_groups(self._theirs, scores or {})
        self._taken |= {g: max(run, key=lambda channel: worth.get(channel, 0.0)) for g, run in candidates.items()}
        choices = [run for run in candidates.values() if len(run) > 1]
        decided = sum(len({worth.get(channel) for channel in run}) > 1 for run in choices)
        self.scored = decided / max(len(choices), 1)


def _runs(channels: list[int], count: int) -> Iterator[list[int]]:
    borders = [*spaced(len(channels), count).tolist(), len(channels)]
    return (channels[a:b] for a, b in pairwise(borders))


def _worth_of_groups(trace: Trace, scores: Scores) -> dict[int, float]:
    worth: dict[int, float] = {}
    for path, score in scores.items():
        for group, value in zip(trace.groups(trace.outputs.get(path, ())), score.tolist(), strict=False):
            worth[group] = worth.get(group, 0.0) + value
    return worth


def _head_indices(
    student: Attention | AAttn, teacher: Attention | AAttn, score: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the indices into query-key-value and into value channels that keep attention heads whole.

    A head of the student that is wider than the teacher's is several of these side by side, thinned out.
    """
    wide = teacher.head_dim
    key_dim = getattr(teacher, "key_dim", wide)  # area attention has keys as wide as its values
    size, count = 2 * key_dim + wide, teacher.num_heads
    joined = min(-(-student.head_dim // wide), count)
    keys = spaced(joined * key_dim, getattr(student, "key_dim", student.head_dim))
    values = spaced(joined * wide, student.head_dim)
    worth = [0.0] * count if score is None else score.view(count, size).sum(1).tolist()
    rows, columns = [], []
    for start, end in pairwise([*spaced(count, student.num_heads).tolist(), count]):
        first = min(start, count - joined)
        run = range(first, max(end, first + joined))
        heads = torch.tensor(sorted(sorted(run, key=lambda head: -worth[head])[:joined]))[:, None]
        query = (heads * size + torch.arange(key_dim)).flatten()
        value = (heads * wide + torch.arange(wide)).flatten()
        behind = (heads * size + 2 * key_dim + torch.arange(wide)).flatten()
        rows += [query[keys], key_dim + query[keys], behind[values]]
        columns.append(value[values])
    return torch.cat(rows), torch.cat(columns)


def common_modules(student: nn.Module, teacher: nn.Module) -> set[str]:
    """Return the paths of the student's modules that correspond to the teacher's of the same path.

    Repeats are numbered, so the first ones of a deeper teacher have the student's paths.
    """
    common = set()
    waiting = [("", student, teacher)]
    while waiting:
        path, mine, theirs = waiting.pop()
        if _same_kind(mine, theirs):
            common.add(path)
            others = dict(theirs.named_children())
            named = [(name, child) for name, child in mine.named_children() if name in others]
            waiting += [(f"{path}.{name}".lstrip("."), child, others[name]) for name, child in named]
    return common


def _same_kind(student: nn.Module, teacher: nn.Module) -> bool:
    """Return whether two modules do the same on maps of different width.

    A convolution and its batch norm belong together: one without the other is worth nothing.
    """
    if not (isinstance(teacher, type(student)) or isinstance(student, type(teacher))):
        return False
    mine, theirs = getattr(student, "conv", None), getattr(teacher, "conv", None)
    if not isinstance(mine, nn.Conv2d) or not isinstance(theirs, nn.Conv2d):
        return True
    fits = mine.kernel_size == theirs.kernel_size and (mine.groups == 1) == (theirs.groups == 1)
    return fits and mine.out_channels <= theirs.out_channels and mine.in_channels <= theirs.in_channels
