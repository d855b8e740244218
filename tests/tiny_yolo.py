"""A YOLO of five convolutions and a head, of the host's own blocks: where any detector will do."""

from __future__ import annotations

from pathlib import Path

ARCHITECTURE = """
nc: 2
kpt_shape: [4, 3]
end2end: {end2end}
reg_max: 1
width_multiple: {width}
backbone:
- [-1, 1, Conv, [8, 3, 2]]
- [-1, 1, Conv, [16, 3, 2]]
- [-1, 1, Conv, [16, 3, 2]]
- [-1, 1, Conv, [16, 3, 2]]
- [-1, 1, Conv, [32, 3, 2]]
head:
- [[2, 3, 4], 1, {head}]
"""
#: The last layer, by task.
HEADS = {
    "detect": "Detect, [nc]",
    "segment": "Segment26, [nc, 8, 16]",
    "pose": "Pose26, [nc, kpt_shape]",
    "obb": "OBB26, [nc, 1]",
}


def write_architecture(path: Path, width: int = 1, *, end2end: bool = True, task: str = "detect") -> Path:
    """Write the architecture as a file of one's own; one twice as wide is a teacher that this one starts inside."""
    path.write_text(ARCHITECTURE.format(width=width, end2end=end2end, head=HEADS[task]))
    return path
