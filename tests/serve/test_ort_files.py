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
PACKAGE = "node_modules/onnxruntime-web"


@pytest.fixture
def web(tmp_path) -> Path:
    return write_web(tmp_path / "web")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Return the cache; there is no program `npm`."""
    monkeypatch.setattr(ort_files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "cache"


@pytest.fixture
def npm(tmp_path):
    """Return a function that puts a program `npm` with this Python text into PATH, and returns where it notes calls."""

    def put(text: str) -> Path:
        calls = tmp_path / "bin" / "calls"
        calls.parent.mkdir(exist_ok=True)
        noted = f"import json, pathlib, sys\nopen({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        (calls.parent / "npm").write_text(f"#!{sys.executable}\n{noted}{text}")
        (calls.parent / "npm").chmod(0o755)
        return calls

    return put


WORKS = f"""
dist = pathlib.Path("{PACKAGE}/dist")
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
    old, new = cache / ".fetching-old", cache / ".fetching-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    calls = npm(WORKS)
    files, (line,) = read(web)
    assert files == FETCHED
    assert line.startswith("fetching onnxruntime-web 1.2.3 by npm, once")
    assert read(web) == (FETCHED, [])
    (call,) = map(json.loads, calls.read_text().splitlines())
    assert call[0] == "ci"
    assert {"--ignore-scripts", "--no-audit", "--no-fund"} <= set(call)
    # What a killed fetch left is cleared away, but another process may be at work in the new one.
    (folder,) = set(cache.iterdir()) - {new}
    assert {path.name for path in folder.iterdir()} == set(ORT)  # not the rest of it
    (folder / "ort-made.wasm").unlink()  # begun by hand, and not finished
    assert read(web)[0] == FETCHED
    lock = json.loads((web / "package-lock.json").read_text())
    lock["packages"][PACKAGE]["version"] = "1.2.4"
    (web / "package-lock.json").write_text(json.dumps(lock))
    assert len(read(web)[1]) == 1
    assert len(list(cache.iterdir())) == 3


@posix
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "sys.exit('npm error code ENOTFOUND\\nnpm error errno ENOTFOUND\\nnpm error network no way there\\n"
            "npm error A complete log of this run can be found in: x')",
            "npm could not fetch onnxruntime-web (network no way there); try again online, or put",
        ),
        ("sys.exit('npm ERR! code EINTEGRITY\\nnpm ERR! sha512-x integrity checksum failed')", "(sha512-x integrity"),
        ("sys.exit(1)", "(it did not say why)"),
        ("import time; time.sleep(30)", "npm did not fetch onnxruntime-web within 3 s; try again, or put"),
        (WORKS.replace("for name in", "for name in [] and"), "lacks ort.made.min.mjs, ort-made.wasm; install"),
    ],
)
def test_npm_fails(web, cache, npm, monkeypatch, text, reason):
    npm(text)
    monkeypatch.setattr(ort_files, "_SECONDS", 3)
    with pytest.raises(DistillError) as error:
        read(web)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []


def test_no_npm(web, cache):
    with pytest.raises(DistillError) as error:
        read(web)
    said = str(error.value)
    assert "\n" not in said
    folder = next(Path(word) for word in said.split() if word.startswith(str(cache)))
    names = ", ".join(ORT)
    assert f"install Node.js (it brings npm), or put {names} of onnxruntime-web 1.2.3 into {folder} by hand" in said
    write_ort(folder)  # as it says
    assert read(web) == (ORT, [])


def test_a_cache_that_cannot_be_written(web, tmp_path, monkeypatch, npm):
    npm(WORKS)
    (tmp_path / "file").touch()
    monkeypatch.setattr(ort_files, "cache_folder", lambda: tmp_path / "file" / "cache")
    with pytest.raises(DistillError, match=r"cannot be written .*by hand"):
        read(web)


def test_what_a_developer_installed_beside_the_app(web):
    write_ort(web / PACKAGE / "dist")
    version = LOCK["packages"][PACKAGE]["version"]
    (web / PACKAGE / "package.json").write_text(json.dumps({"version": version}))
    assert read(web) == (ORT, [])
    (web / PACKAGE / "package.json").write_text(json.dumps({"version": "1.2.4"}))
    with pytest.raises(DistillError, match=r"is fetched by npm, which is not here"):
        read(web)


@pytest.mark.parametrize("inside", [".", "dist", "onnxruntime-web/dist"])
def test_a_folder_that_the_user_names(web, tmp_path, inside):
    write_ort(tmp_path / "given" / inside)
    assert read(web, tmp_path / "given") == (ORT, [])
    (tmp_path / "given" / inside / "ort-made.wasm").unlink()
    with pytest.raises(RequestError, match=r"lacks ort-made\.wasm of onnxruntime-web"):
        read(web, tmp_path / "given")


@pytest.mark.parametrize("name", ["ort.json", "package-lock.json"])
@pytest.mark.parametrize(("text", "said"), [(None, "cannot be read"), ("x", "is not JSON")])
def test_an_installation_that_is_not_whole(web, name, text, said):
    (web / name).write_text(text) if text else (web / name).unlink()
    with pytest.raises(DistillError, match=f"{said}.*install yolo-distill again"):
        read(web)
