"""The folder for other web servers: what is served, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made_site import get, made_model, made_site, running

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.serve.build import HEADERS_FILE, how_to_host, write_folder
from yolo_distill.serve.security import SECURITY_HEADERS

OUT = Path("out")


def files(folder: Path = OUT) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_holds_what_is_served(site):
    write_folder(site.table(), OUT)
    written = files()
    headers = written.pop(HEADERS_FILE).decode()
    with running(site) as server:
        assert written == {name: get(server, f"/{name}")[1] for name in site.table().entries}
    assert all(f"  {name}: {value}\n" in headers for name, value in SECURITY_HEADERS)
    assert "/model/*\n  Cache-Control: public, max-age=31536000, immutable\n" in headers
    assert "Cross-Origin-Embedder-Policy: require-corp" in "\n".join(how_to_host(site.table(), OUT))


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_an_earlier_one_is_replaced_whole(site):
    OUT.mkdir()  # an empty one is as good as none
    Path("link").symlink_to(OUT)
    write_folder(site.table(), OUT)
    site.replace(made_model(b"new"))
    (OUT / "js" / "main.js").write_bytes(b"changed by hand")
    write_folder(made_site(Path(), made_model(b"new")).table(), Path("link"))  # behind it lies the folder
    assert Path("link").is_symlink()
    assert made_model().address not in files()
    assert made_model(b"new").address in files()
    assert files()["js/main.js"].startswith(b"export")
    assert [path.name for path in Path().iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["notes.txt", "js/own.js", ".git/config"])
def test_a_folder_of_somebody_else_is_left_alone(site, name):
    write_folder(site.table(), OUT)
    (OUT / name).parent.mkdir(exist_ok=True)
    (OUT / name).write_text("mine")
    before = files()
    with pytest.raises(RequestError, match=rf"holds files that serve did not write there .{name}"):
        write_folder(site.table(), OUT)
    assert files() == before


@pytest.mark.parametrize("listed", ["[]", "x", '{"app": ["notes.txt"]}', '{"app": 1, "ort": [], "model": {}}'])
def test_a_list_of_something_else_claims_nothing(site, listed):
    OUT.mkdir()
    (OUT / "files.json").write_text(listed)
    (OUT / "notes.txt").write_text("mine")
    with pytest.raises(RequestError, match="holds files"):
        write_folder(site.table(), OUT)


@pytest.mark.parametrize("step", ["write_bytes", "rename"])
def test_a_disk_that_refuses_leaves_the_earlier_one(site, monkeypatch, step):
    write_folder(site.table(), OUT)
    before, real = files(), getattr(Path, step)

    def refuse(self, what):
        if self.name == "sw.js" or self.name.endswith(".part"):
            raise OSError(28, "No space left on device")
        return real(self, what)

    monkeypatch.setattr(Path, step, refuse)
    for out in (OUT, Path("other")):
        with pytest.raises(DistillError, match="No space left on device"):
            write_folder(site.table(), out)
    assert files() == before
    assert sorted(path.name for path in Path().iterdir()) == ["out", "web"]
