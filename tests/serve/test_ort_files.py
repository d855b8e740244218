"""onnxruntime-web: found, fetched once by npm (a stand-in of it here), or missed in one line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from made_site import LOCK, ORT, write_ort, write_web

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.serve import ort_files
from yolo_distill.serve.ort_files import read_ort

posix = pytest.mark.skipif(os.name != "posix", reason="the stand-in for npm is a script")


@pytest.fixture
def web(tmp_path) -> Path:
    return write_web(tmp_path / "web")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(ort_files, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Return a function that puts a program `npm` with this Python text in front of PATH."""

    def put(text: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        calls = folder / "calls"
        said = f"import json, pathlib, sys\nopen({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        (folder / "npm").write_text(f"#!{sys.executable}\n{said}{text}")
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return calls

    return put


WORKS = f"""
dist = pathlib.Path("node_modules/onnxruntime-web/dist")
dist.mkdir(parents=True)
assert json.loads(open("package-lock.json").read())["lockfileVersion"] == 3
for name in {list(ORT)!r}:
    (dist / name).write_bytes(name.encode())
(dist / "large.js").touch()
"""
FETCHED = {name: name.encode() for name in ORT}


def read(web, given=None):
    said: list[str] = []
    return read_ort(web, given, said.append), said


@posix
def test_it_is_fetched_once(web, cache, npm):
    calls = npm(WORKS)
    files, (line,) = read(web)
    assert files == FETCHED
    assert line.startswith("fetching onnxruntime-web 1.2.3 by npm, once")
    assert read(web) == (FETCHED, [])
    (call,) = map(json.loads, calls.read_text().splitlines())
    assert call[0] == "ci"
    assert {"--ignore-scripts", "--no-audit", "--no-fund"} <= set(call)
    (folder,) = cache.iterdir()
    assert {path.name for path in folder.iterdir()} == set(ORT)  # neither the rest of it, nor what was staged


@posix
def test_another_lock_file_is_another_version(web, cache, npm):
    npm(WORKS)
    read(web)
    lock = json.loads((web / "package-lock.json").read_text())
    lock["packages"]["node_modules/onnxruntime-web"]["version"] = "1.2.4"
    (web / "package-lock.json").write_text(json.dumps(lock))
    assert len(read(web)[1]) == 1
    assert len(list(cache.iterdir())) == 2


@posix
def test_what_was_begun_by_hand_is_made_whole(web, cache, npm):
    npm(WORKS)
    read(web)
    (folder,) = cache.iterdir()
    (folder / "ort-made.wasm").unlink()
    files, said = read(web)
    assert (files, len(said)) == (FETCHED, 1)


@posix
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "sys.exit('npm error code ENOTFOUND\\nnpm error errno ENOTFOUND\\nnpm error network no way there\\n"
            "npm error A complete log of this run can be found in: x')",
            "network no way there",
        ),
        ("sys.exit('npm ERR! code EINTEGRITY\\nnpm ERR! sha512-x integrity checksum failed')", "sha512-x integrity"),
        ("sys.exit(1)", "it did not say why"),
    ],
)
def test_npm_fails(web, cache, npm, text, reason):
    npm(text)
    with pytest.raises(DistillError, match=f"npm could not fetch onnxruntime-web .{reason}.*by hand$") as error:
        read(web)
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []


@posix
def test_npm_takes_too_long(web, cache, npm, monkeypatch):
    npm("import time; time.sleep(30)")
    monkeypatch.setattr(ort_files, "_SECONDS", 0.5)
    with pytest.raises(DistillError, match=r"npm did not fetch onnxruntime-web within 0.5 s"):
        read(web)
    assert list(cache.iterdir()) == []


@posix
def test_what_a_killed_fetch_left_is_cleared_away(web, cache, npm):
    npm(WORKS)
    old, new = cache / ".fetching-old", cache / ".fetching-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    read(web)
    assert (old.exists(), new.exists()) == (False, True)  # another process may be at work in the new one


@posix
def test_npm_brings_something_else(web, cache, npm):
    npm(WORKS.replace("for name in", "for name in [] and"))
    with pytest.raises(DistillError, match=r"lacks ort\.made\.min\.mjs, ort-made\.wasm"):
        read(web)
    assert list(cache.iterdir()) == []


def test_no_npm(web, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DistillError) as error:
        read(web)
    said = str(error.value)
    assert "\n" not in said
    folder = next(Path(word) for word in said.split() if word.startswith(str(cache)))
    assert (
        f"install Node.js (it brings npm), or put {', '.join(ORT)} of onnxruntime-web 1.2.3 into {folder} by hand"
        in said
    )
    write_ort(folder)  # as it was told
    assert read(web) == (ORT, [])


def test_a_cache_that_cannot_be_written(web, tmp_path, monkeypatch, npm):
    npm(WORKS)
    (tmp_path / "file").touch()
    monkeypatch.setattr(ort_files, "cache_folder", lambda: tmp_path / "file" / "cache")
    with pytest.raises(DistillError, match=r"cannot be written .*by hand"):
        read(web)


@pytest.mark.parametrize("version", ["1.2.3", "1.2.4"])
def test_what_a_developer_installed_beside_the_app(web, cache, monkeypatch, tmp_path, version):
    monkeypatch.setenv("PATH", str(tmp_path))
    package = web / "node_modules" / "onnxruntime-web"
    write_ort(package / "dist")
    (package / "package.json").write_text(json.dumps({"version": version}))
    if version == LOCK["packages"]["node_modules/onnxruntime-web"]["version"]:
        assert read(web) == (ORT, [])
    else:
        with pytest.raises(DistillError, match=r"is fetched by npm, which is not here"):
            read(web)


@pytest.mark.parametrize("inside", [".", "dist", "onnxruntime-web/dist"])
def test_a_folder_that_the_user_names(web, tmp_path, inside):
    write_ort(tmp_path / "given" / inside)
    assert read(web, tmp_path / "given") == (ORT, [])


def test_folders_that_are_none(web, tmp_path):
    with pytest.raises(RequestError, match="no such folder; give the one with ort"):
        read(web, tmp_path / "given")
    (write_ort(tmp_path / "given") / "ort-made.wasm").unlink()
    with pytest.raises(RequestError, match=r"lacks ort-made\.wasm of onnxruntime-web"):
        read(web, tmp_path / "given")


@pytest.mark.parametrize(
    "listed", ["{}", "[]", "[1]", '["../x"]', '["/etc/passwd"]', '["a/b"]', '[".."]', '["a\\\\b"]', "x"]
)
def test_a_list_that_is_none(web, listed):
    (web / "ort.json").write_text(listed)
    with pytest.raises(DistillError, match=r"ort\.json: is .*install yolo-distill again"):
        read(web)


@pytest.mark.parametrize("name", ["ort.json", "package-lock.json"])
def test_an_installation_that_is_not_whole(web, cache, name):
    (web / name).unlink()
    with pytest.raises(DistillError, match=r"cannot be read .*install yolo-distill again"):
        read(web)
