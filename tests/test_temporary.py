"""Temporary folders: those of processes that were killed go with the next start, those of others stay."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from yolo_distill.temporary import temporary_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from yolo_distill.temporary import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
"""


def test_folders(tmp_path):
    (tmp_path / "yolo-distill-of-somebody-else").mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.glob("*/half"))) == 1
    with temporary_folder(tmp_path) as first, temporary_folder(tmp_path) as second:
        assert first.is_dir()
        assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, "yolo-distill-of-somebody-else"}
    assert [path.name for path in tmp_path.iterdir()] == ["yolo-distill-of-somebody-else"]
    assert Path(first) != Path(second)
