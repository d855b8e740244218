"""Ultralytics' settings by name, without its import."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from yolo_distill.commands import compare, train
from yolo_distill.given_files import _config_dir, check_model_files
from yolo_distill.host_keys import host_formats, host_keys


def test_the_names_are_those_of_the_host():
    defaults = pytest.importorskip("ultralytics.cfg").DEFAULT_CFG_DICT
    assert host_keys() == set(defaults)


def test_help_explains_all_settings_and_the_defaults_of_the_host():
    defaults = pytest.importorskip("ultralytics.cfg").DEFAULT_CFG_DICT
    assert {key: setting.default for key, setting in train.HOST_SETTINGS.items()} == {
        key: defaults[key] for key in ("data", "epochs", "imgsz", "batch", "device")
    }
    for command in (train, compare):
        listed = [key for keys in command.GROUPS.values() for key in keys]
        known = {**command.SETTINGS, **command.HOST_SETTINGS}
        assert sorted(listed) == sorted(key for key in known if "." not in key)


def test_the_formats_are_those_of_the_host():
    rows = pytest.importorskip("yolo_distill.exporting.ultralytics_formats").host_formats()
    assert host_formats() == {word: row.takes for word, row in rows.items()}


@pytest.mark.parametrize("rows", ["table()", "[[name, word]]", "[['ONNX', 'onnx'], ['ncnn', 'ncnn']]", "[1]"])
def test_formats_that_a_later_host_has_otherwise_are_left_to_it(rows, tmp_path, monkeypatch):
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "exporter.py").write_text(f"def export_formats():\n    return {rows}\n")
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("yolo_distill.host_keys.find_spec", lambda name: found)
    assert host_formats.__wrapped__() == {}


def test_the_files_that_the_host_fetches_are_left_to_it(tmp_path, monkeypatch):
    names = pytest.importorskip("ultralytics.utils.downloads").GITHUB_ASSETS_NAMES
    (tmp_path / "Ultralytics").mkdir()
    (tmp_path / "Ultralytics" / "settings.json").write_text(f'{{"weights_dir": "{tmp_path.as_posix()}"}}')
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    for name in names:
        if name.endswith(".pt"):
            check_model_files({"model": name})


def test_the_settings_are_where_the_host_keeps_them(monkeypatch, tmp_path):
    host = pytest.importorskip("ultralytics.utils")
    for key in ("XDG_CONFIG_HOME", "YOLO_CONFIG_DIR"):
        monkeypatch.setenv(key, str(tmp_path / key))
        assert _config_dir() == host.get_user_config_dir()
