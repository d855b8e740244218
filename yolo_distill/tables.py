"""A table of text, for a terminal, as Markdown, or as the rows of a page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

#: What stands in a cell that has no value.
NO_VALUE = "-"
#: Letters of a heading that stay on one line.
_HEADING = 12


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        header: one text a column.
        rows: text of the cells.
        left: how many columns, from the first, hold words; the others hold numbers.
        strong: numbers of the rows that matter most.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    left: int = 1
    strong: tuple[int, ...] = ()

    def text(self) -> str:
        """Return it for a terminal: words to the left, numbers to the right."""
        return "\n".join([self.title, *self._aligned([self.header, *self.rows])])

    def drawn(self) -> str:
        """Return it for a terminal with rules, and with headings that wrap, so that it is no wider than its cells."""
        cells = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        wrapped = [
            textwrap.wrap(words, max(width, _HEADING, *map(len, words.split()), 1)) or [""]
            for words, width in zip(self.header, cells, strict=True)
        ]
        height = max(map(len, wrapped))
        heads = zip(*([""] * (height - len(lines)) + lines for lines in wrapped), strict=True)
        lines = self._aligned([*heads, *self.rows])
        rule = "─" * max(map(len, lines))
        return "\n".join([self.title, rule, *lines[:height], rule, *lines[height:], rule])

    def _aligned(self, lines: Sequence[Sequence[str]]) -> list[str]:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

        def cell(place: int, word: str) -> str:
            return word.ljust(widths[place]) if place < self.left else word.rjust(widths[place])

        return ["  ".join(cell(*one) for one in enumerate(line)).rstrip() for line in lines]

    def markdown(self) -> str:
        """Return it in Markdown."""
        marks = ["---" if place < self.left else "---:" for place in range(len(self.header))]
        lines = [self.header, marks, *self.rows]
        body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
        return f"**{self.title}**\n\n{body}"
