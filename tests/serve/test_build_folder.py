"""The folder for other web servers: what is served, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from made_site import get, made_model, made_site, running

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.serve.build import HEADERS_FILE, how_to_host, write_folder
from yolo_distill.serve.security import SECURITY_HEADERS


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_holds_what_is_served(tmp_path):
    site = made_site(tmp_path)
    write_folder(site.table(), Path("out"))
    written = files(Path("out"))
    headers = written.pop(HEADERS_FILE).decode()
    with running(site) as server:
        assert written == {name: get(server, f"/{name}")[1] for name in site.table().entries}
    assert all(f"  {name}: {value}\n" in headers for name, value in SECURITY_HEADERS)
    assert "/model/*\n  Cache-Control: public, max-age=31536000, immutable\n" in headers
    told = "\n".join(how_to_host(site.table(), Path("out")))
    assert "https" in told
    assert "Cross-Origin-Embedder-Policy: require-corp" in told


def test_an_earlier_one_is_replaced_whole(tmp_path):
    site = made_site(tmp_path)
    Path("out").mkdir()  # an empty one is as good as none
    write_folder(site.table(), Path("out"))
    old = made_model()
    site.replace(made_model(b"new"))
    (Path("out") / "js" / "main.js").write_bytes(b"changed by hand")
    write_folder(made_site(tmp_path, made_model(b"new")).table(), Path("out"))
    written = files(Path("out"))
    assert old.address not in written
    assert made_model(b"new").address in written
    assert written["js/main.js"].startswith(b"export")
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["notes.txt", "js/own.js", ".git/config"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, name):
    table = made_site(tmp_path).table()
    write_folder(table, Path("out"))
    (Path("out") / name).parent.mkdir(exist_ok=True)
    (Path("out") / name).write_text("mine")
    before = files(Path("out"))
    with pytest.raises(RequestError, match=rf"holds files that serve did not write there .{name}"):
        write_folder(table, Path("out"))
    assert files(Path("out")) == before


@pytest.mark.parametrize("listed", ["{}", "[]", "x", '{"app": ["notes.txt"]}', '{"app": 1, "ort": [], "model": {}}'])
def test_a_list_of_something_else_claims_nothing(tmp_path, listed):
    Path("out").mkdir()
    Path("out/files.json").write_text(listed)
    Path("out/notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="holds files"):
        write_folder(made_site(tmp_path).table(), Path("out"))


def test_a_file_or_a_folder_that_cannot_be_made(tmp_path):
    table = made_site(tmp_path).table()
    Path("file").touch()
    with pytest.raises(RequestError, match="is a file; give the name of a folder"):
        write_folder(table, Path("file"))
    with pytest.raises(RequestError, match="there is no folder"):
        write_folder(table, Path("none/out"))


def test_a_full_disk_leaves_the_earlier_one(tmp_path, monkeypatch):
    table = made_site(tmp_path).table()
    write_folder(table, Path("out"))
    before = files(Path("out"))
    write = Path.write_bytes

    def full(self, data):
        if self.name == "sw.js":
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    for out in ("out", "other"):
        with pytest.raises(DistillError, match="No space left on device"):
            write_folder(table, Path(out))
    assert files(Path("out")) == before
    assert sorted(path.name for path in Path().iterdir()) == ["out", "web"]


def test_a_move_that_fails_puts_the_earlier_one_back(tmp_path, monkeypatch):
    table = made_site(tmp_path).table()
    write_folder(table, Path("out"))
    before = files(Path("out"))
    rename = Path.rename

    def refused(self, target):
        if self.name.endswith(".part"):
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(DistillError, match="Permission denied"):
        write_folder(table, Path("out"))
    assert files(Path("out")) == before
    assert sorted(path.name for path in Path().iterdir()) == ["out", "web"]


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_behind_a_link_lies_the_folder(tmp_path):
    Path("real").mkdir()
    Path("link").symlink_to("real")
    write_folder(made_site(tmp_path).table(), Path("link"))
    assert Path("link").is_symlink()
    assert json.loads(Path("real/files.json").read_text())["model"]["name"] == "best.onnx"
