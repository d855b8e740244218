"""Where the files beside the code are, in a checkout and in an installed wheel (the real wheel: test_package.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_distill import paths


@pytest.mark.parametrize(("find", "file"), [(paths.cfg_dir, "default.yaml"), (paths.export_dir, "cpu.yaml")])
def test_the_shipped_files_are_found_from_any_folder(find, file):
    assert find().is_absolute()
    assert (find() / file).is_file()


@pytest.mark.parametrize("find", [paths.cfg_dir, paths.export_dir])
def test_a_wheel_s_own_files_come_before_those_of_a_checkout(find, tmp_path: Path, monkeypatch):
    package = tmp_path / "yolo_distill"
    monkeypatch.setattr(paths, "_PACKAGE", package)
    name = find.__name__.removesuffix("_dir")
    assert find() == tmp_path / name
    (package / "_data" / name).mkdir(parents=True)
    assert find() == package / "_data" / name
