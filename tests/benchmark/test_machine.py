"""What a machine is called in records."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_distill import machine

INFO = """processor\t: 0
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC

processor\t: 1
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
"""


@pytest.mark.parametrize(
    ("info", "name"),
    [(INFO, "AMD EPYC, family 26 model 2"), ("processor\t: 0\nBogoMIPS\t: 50\n", "arm"), (None, "arm")],
)
def test_a_processor_is_told_from_another_of_its_name(tmp_path, monkeypatch, info, name) -> None:
    file = tmp_path / "cpuinfo"
    if info is not None:
        file.write_text(info)
    monkeypatch.setattr(machine, "Path", lambda path: file if path == "/proc/cpuinfo" else Path(path))
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    assert machine.cpu_name() == name
