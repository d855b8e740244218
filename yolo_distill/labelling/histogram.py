"""A histogram of scores as a small SVG, with the threshold in it."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 150, 34


def bars(counts: Sequence[int], threshold: float, title: str) -> str:
    """Return the picture; bars of what becomes a label are full, the others pale.

    Args:
        counts: boxes by score, in equal steps from 0 to 1.
        threshold: score from which on a box is a label.
        title: what it says to those who do not see it.
    """
    highest, step = max([*counts, 1]), WIDTH / len(counts)
    parts = []
    for place, count in enumerate(counts):
        if count:
            # One box beside ten thousand is seen as well.
            height = max((HEIGHT - 4) * count / highest, 1.5)
            left_out = (place + 0.5) / len(counts) < threshold
            parts.append(
                f'<rect class="{"out" if left_out else "in"}" x="{place * step + 0.5:.1f}" '
                f'y="{HEIGHT - height:.1f}" width="{step - 1:.1f}" height="{height:.1f}"/>'
            )
    x = threshold * WIDTH
    parts.append(f'<line class="at" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg>"
    )
