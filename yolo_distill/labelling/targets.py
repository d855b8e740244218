"""The classes of the new data set, and which of the teacher's classes speak for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from yolo_distill.data.class_mapping import match_classes
from yolo_distill.errors import RequestError


@dataclass(frozen=True)
class Targets:
    """Classes of the new data set.

    Attributes:
        names: by column.
        columns: the teacher's columns that speak for each; none for a class that the teacher does not know.
    """

    names: list[str]
    columns: list[tuple[int, ...]]

    @property
    def untaught(self) -> list[str]:
        """Classes that no box can get."""
        return [name for name, columns in zip(self.names, self.columns, strict=True) if not columns]

    @property
    def joined(self) -> bool:
        """Whether several classes of the teacher become one."""
        return any(len(columns) > 1 for columns in self.columns)

    def scores(self, scores: Tensor) -> Tensor:
        """Return scores (N, targets) from the teacher's, (N, nc); of several of its classes the surest speaks."""
        silent = scores.new_zeros(len(scores))
        found = [scores[:, list(columns)].amax(1) if columns else silent for columns in self.columns]
        return torch.stack(found, 1)


def find_targets(
    teacher: Mapping[int, str], data: Mapping[int, str] | None, class_map: Mapping[str, str] | None
) -> Targets:
    """Return the classes of the new data set: those of `data`, else those that the map leads to, else the teacher's.

    Raises:
        RequestError: the map names a class that the teacher or the data does not have, or nothing is in common.
    """
    if data is not None:
        names = [str(data[index]) for index in sorted(data)]
    elif class_map is not None:
        names = list(dict.fromkeys(class_map.values()))
    else:
        names = [teacher[column] for column in sorted(teacher)]
        return Targets(names, [(column,) for column in sorted(teacher)])
    match = match_classes(dict(enumerate(names)), teacher, class_map)
    if not match.matched:
        raise RequestError(
            f"teacher and data have no class in common: the data has {', '.join(names[:8])}, the teacher "
            f"{', '.join(list(teacher.values())[:8])}; say which is which with class_map="
        )
    spoken = dict(zip(match.student, match.sources, strict=True))
    return Targets(names, [spoken.get(column, ()) for column in range(len(names))])
