"""Which of the teacher's layers each of the student's is taken from, where the teacher has more of them, or other ones.

Layers correspond by their place. Where a stage of the teacher repeats its block more often, the student's repeats are
the teacher's first ones (first-N selection, as in weight selection: Xu et al., ICLR 2024, arXiv 2311.18823). They are
neighbours in the teacher as well, so each is fed what it was trained on. What the convolution behind the stage reads of
the other repeats is left out (see `channels`).

Evenly spaced repeats came out like the first ones in a trial with one teacher, the last ones worse.

Layers of different kinds, such as a Bottleneck and the C3k that larger sizes have in its place, do not correspond.
"""

from __future__ import annotations

from torch import nn


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
