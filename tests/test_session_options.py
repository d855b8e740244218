"""int8 on this machine: exact, and no slower for it than the machine has to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_distill.session_options import has_vnni


@pytest.mark.parametrize(
    ("flags", "known"),
    [("fpu avx2 avx512f avx512_vnni", True), ("avx2 avx_vnni", True), ("fpu avx2 avx512f", False), (None, False)],
)
def test_only_a_processor_that_says_so_goes_without_the_slow_way(flags: str | None, known: bool) -> None:
    if flags is not None:
        Path("cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert has_vnni(Path("cpuinfo")) is known
