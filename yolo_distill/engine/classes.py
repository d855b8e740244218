"""Which of the teacher's classes speak for which of the student's: matched by name, never by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolo_distill.errors import RequestError


@dataclass(frozen=True)
class ClassMatch:
    """Columns of the class logits that mean the same on both sides.

    Attributes:
        student: student columns that have a teacher, ascending.
        teacher: the teacher column for each of them.
        matched: the student's names of those columns.
        untaught: student classes that the teacher does not know.
        unused: teacher classes that the student does not have.
    """

    student: list[int]
    teacher: list[int]
    matched: list[str]
    untaught: list[str]
    unused: list[str]

    def __str__(self) -> str:
        text = f"{len(self.matched)} of {len(self.matched) + len(self.untaught)} classes taught ({_few(self.matched)})"
        if self.untaught:
            text += f"; not taught: {_few(self.untaught)}"
        if self.unused:
            text += f"; known to the teacher only: {_few(self.unused)}"
        return text


def match_classes(student: Mapping[int, str], teacher: Mapping[int, str]) -> ClassMatch:
    """Match class names: the same name first, then the same up to case, spaces, `_` and `-`."""
    exact = {name: column for column, name in reversed(list(teacher.items()))}
    loose = {_plain(name): column for column, name in reversed(list(teacher.items()))}
    columns = {c: exact.get(name, loose.get(_plain(name))) for c, name in sorted(student.items())}
    pairs = {s: t for s, t in columns.items() if t is not None}
    used = set(pairs.values())
    return ClassMatch(
        student=list(pairs),
        teacher=list(pairs.values()),
        matched=[student[c] for c in pairs],
        untaught=[student[c] for c in columns if c not in pairs],
        unused=[name for column, name in sorted(teacher.items()) if column not in used],
    )


def require_match(match: ClassMatch, *, some: bool, features_only_possible: bool) -> None:
    """Refuse a teacher whose classes do not cover the student's, unless `some` says that this is wanted.

    Raises:
        RequestError: no class in common and nothing else to teach, or classes without a teacher and `some` is false.
    """
    if not match.matched and not (some and features_only_possible):
        raise RequestError(
            f"teacher and data have no class in common: the data has {_few(match.untaught)}, the teacher "
            f"{_few(match.unused)}; use a teacher trained on these classes, rename them in data=, or teach features "
            "alone with match=some pkd=1"
        )
    if match.untaught and not some:
        raise RequestError(
            f"the teacher does not know {_few(match.untaught)} (it matches {_few(match.matched)}; it also knows "
            f"{_few(match.unused)}); rename the classes in data=, or leave these without a teacher with match=some"
        )


def _plain(name: str) -> str:
    return "".join(ch for ch in name.casefold() if ch not in " _-")


def _few(names: list[str], most: int = 8) -> str:
    shown = ", ".join(names[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
