"""Which of the teacher's classes speak for which of the student's: matched by name, never by number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.teachers.class_names import spelled
from yolo_distill.validation import read_yaml

#: Rows of the table of classes, and names in a message, that are shown.
_SHOWN, _FEW = 20, 8


@dataclass(frozen=True)
class ClassMatch:
    """Columns of the class logits that mean the same on both sides.

    Attributes:
        student: student columns that have a teacher, ascending.
        sources: the teacher's columns for each of them, at least one; where there are several, the surest speaks.
        matched: the student's names of those columns.
        untaught: student classes that the teacher does not know.
        unused: teacher classes that the student does not have.
    """

    student: list[int]
    sources: list[tuple[int, ...]]
    matched: list[str]
    untaught: list[str]
    unused: list[str]

    @property
    def teacher(self) -> list[int]:
        """One teacher column for each of `student`, where only one can be taken: the first."""
        return [columns[0] for columns in self.sources]

    def of_teacher(self, scores: Tensor) -> Tensor:
        """Return the teacher's scores or logits, shape (..., its classes), by the classes of `student`."""
        return torch.stack([scores[..., list(columns)].amax(-1) for columns in self.sources], -1)

    def only(self, names: Collection[str]) -> ClassMatch:
        """Return the match as if the student had these of its classes alone; columns stay what they are."""
        kept = [place for place, name in enumerate(self.matched) if name in names]
        return replace(
            self,
            student=[self.student[place] for place in kept],
            sources=[self.sources[place] for place in kept],
            matched=[self.matched[place] for place in kept],
            untaught=[name for name in self.untaught if name in names],
        )

    def __str__(self) -> str:
        text = f"{len(self.matched)} of {len(self.matched) + len(self.untaught)} classes taught ({few(self.matched)})"
        if self.untaught:
            text += f"; not taught: {few(self.untaught)}"
        if self.unused:
            text += f"; known to the teacher only: {few(self.unused)}"
        return text

    def table(self, teacher: Mapping[int, str]) -> str:
        """Return who teaches what, a line a class, by the teacher's names, where it is not simply the same names."""
        taught = [
            (name, " or ".join(teacher[column] for column in columns))
            for name, columns in zip(self.matched, self.sources, strict=True)
        ]
        if not self.untaught and all(ours == theirs for ours, theirs in taught):
            return ""
        rows = [*taught, *((name, "nobody") for name in self.untaught)]
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  taught by  {theirs}" for name, theirs in rows[:_SHOWN]]
        return "\n".join([*lines, *([f"  and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else [])])


def taught_names(names: Mapping[int, str], settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the classes that a run teaches: objects of all but `classes=` are background to the host.

    Of the host's settings `classes` (a column, or several; None for all) and `single_cls` count.
    """
    chosen = settings.get("classes")
    if chosen is None or settings.get("single_cls"):
        return list(names.values())
    columns = chosen if isinstance(chosen, (list, tuple)) else [chosen]
    return [name for column, name in names.items() if column in columns]


def match_classes(
    student: Mapping[int, str], teacher: Mapping[int, str], class_map: Mapping[str, str] | None = None
) -> ClassMatch:
    """Match class names, given by column: the same name first, then the same up to case, spaces, `_` and `-`.

    Of several classes of one name the first goes to the teacher's first of that name, the second to its second; those
    that the teacher has no more of go to its first.

    With a map, see `read_class_map`, nothing but what it says is matched.

    Raises:
        RequestError: the map names a class that the teacher, or the student, does not have.
    """
    if class_map is not None:
        pairs = _by_map(student, teacher, class_map)
    else:
        find, pairs, earlier = _columns_of(teacher), {}, Counter[str]()
        for column, name in sorted(student.items()):
            if known := find(name):
                number = earlier[name]
                pairs[column] = (known[number if number < len(known) else 0],)
                earlier[name] += 1
    used = {column for columns in pairs.values() for column in columns}
    return ClassMatch(
        student=list(pairs),
        sources=list(pairs.values()),
        matched=[student[c] for c in pairs],
        untaught=[name for c, name in sorted(student.items()) if c not in pairs],
        unused=[name for column, name in sorted(teacher.items()) if column not in used],
    )


def _columns_of(names: Mapping[int, str]) -> Callable[[str], list[int]]:
    """Return what finds the columns of a name: as it is written, else as it is spelled."""
    exact, loose = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for column, name in sorted(names.items()):
        exact[name].append(column)
        loose[spelled(name)].append(column)
    return lambda name: exact.get(name) or loose.get(spelled(name), [])


def _by_map(
    student: Mapping[int, str], teacher: Mapping[int, str], class_map: Mapping[str, str]
) -> dict[int, tuple[int, ...]]:
    """Return the teacher's columns by student column, as the map has them."""

    def columns(named: Iterable[str], who: str, names: Mapping[int, str]) -> Iterator[int]:
        find, known = _columns_of(names), list(names.values())
        for name in named:
            if not (found := find(name)):
                raise RequestError(
                    f"class_map: the {who} has no class {name!r}{did_you_mean(name, known)} (it has {few(known)})"
                )
            yield found[0]

    sources, targets = list(columns(class_map, "teacher", teacher)), columns(class_map.values(), "data", student)
    pairs: dict[int, list[int]] = {}
    for source, target in zip(sources, targets, strict=True):
        pairs.setdefault(target, []).append(source)
    return {target: tuple(sorted(own)) for target, own in sorted(pairs.items())}


def read_class_map(path: str | Path) -> dict[str, str]:
    """Read a YAML file of `teacher's name: student's name` lines.

    Raises:
        RequestError: there is no such file, or it is none of that kind.
    """
    said = f"class_map={path}"
    values = read_yaml(Path(path).expanduser(), said)
    if not isinstance(values, dict) or not values:
        what = "nothing" if not values else f"a {type(values).__name__}"
        raise RequestError(f"{said}: holds {what}; give one line a class, the teacher's name: the student's name")
    for theirs, ours in values.items():
        if not isinstance(ours, (str, int, float)) or isinstance(ours, bool):
            raise RequestError(f"{said}: {theirs!r} goes to {ours!r}; a class goes to the name of one class")
    return {str(theirs): str(ours) for theirs, ours in values.items()}


def require_match(match: ClassMatch, *, some: bool, features_only_possible: bool) -> None:
    """Refuse a teacher whose classes do not cover the student's, unless `some` says that this is wanted.

    Raises:
        RequestError: no class in common and nothing else to teach, or classes without a teacher and `some` is false.
    """
    if not match.matched and not (some and features_only_possible):
        raise RequestError(
            f"{none_in_common(match)}, say which means which with class_map=, or teach features alone with match=some "
            "pkd=1"
        )
    if match.untaught and not some:
        raise RequestError(
            f"the teacher does not know {few(match.untaught)} (it matches {few(match.matched)}; it also knows "
            f"{few(match.unused)}); say which means which with class_map=, or leave these without a teacher with "
            "match=some"
        )


def none_in_common(match: ClassMatch) -> str:
    """Return a message that a teacher has none of the data's classes."""
    return (
        f"teacher and data have no class in common: the data has {few(match.untaught)}, the teacher "
        f"{few(match.unused)}; use a teacher trained on these classes"
    )


def few(names: list[str]) -> str:
    """Return the first names of a list, in words."""
    return (", ".join(names[:_FEW]) or "none") + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")
