"""Ultralytics' settings by name, without its import."""

from __future__ import annotations

import pytest

from yolo_distill.commands import compare, train
from yolo_distill.given_files import _config_dir
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


def test_the_settings_are_where_the_host_keeps_them(monkeypatch, tmp_path):
    host = pytest.importorskip("ultralytics.utils")
    for key in ("XDG_CONFIG_HOME", "YOLO_CONFIG_DIR"):
        monkeypatch.setenv(key, str(tmp_path / key))
        assert _config_dir() == host.get_user_config_dir()
