"""What is in the table, and what the app learns of it."""

from __future__ import annotations

import json
import re

import pytest
from made_site import APP, ORT, made_model, write_web

from yolo_distill import paths
from yolo_distill.errors import DistillError
from yolo_distill.serve.routes import make_table
from yolo_distill.serve.site import read_app


def test_the_table_holds_the_app_the_runtime_and_the_model(site):
    model, table = made_model(), site.table()
    assert set(table.entries) == {*APP, *(f"ort/{name}" for name in ORT), model.address, "files.json"}
    assert re.fullmatch("[0-9a-f]{16}", table.version)
    assert json.loads(table.entries["files.json"].body) == {
        "version": table.version,
        "app": ["./", "app.css", "icons/icon-192.png", "icons/icon.svg", "js/main.js", "manifest.webmanifest"],
        "ort": ["ort/ort-made.wasm", "ort/ort.made.min.mjs"],
        "model": {
            "url": f"model/{model.sha256[:16]}.onnx",
            "name": "best.onnx",
            "bytes": 400_000,
            "sha256": model.sha256,
        },
    }
    assert table.entries["sw.js"].body == f'const VERSION = "{table.version}";'.encode()


def test_types(site):
    text = "; charset=utf-8"
    assert {address: entry.kind for address, entry in site.table().entries.items()} == {
        "index.html": f"text/html{text}",
        "app.css": f"text/css{text}",
        "js/main.js": f"text/javascript{text}",
        "sw.js": f"text/javascript{text}",
        "manifest.webmanifest": "application/manifest+json",
        "icons/icon.svg": "image/svg+xml",
        "icons/icon-192.png": "image/png",
        "files.json": "application/json",
        "ort/ort.made.min.mjs": f"text/javascript{text}",
        "ort/ort-made.wasm": "application/wasm",
        made_model().address: "application/octet-stream",
    }


def test_whatever_changes_makes_another_version():
    model = made_model()
    versions = [
        make_table(APP, ORT, model).version,
        make_table(APP | {"app.css": b""}, ORT, model).version,
        make_table(APP | {"sw.js": b"__VERSION__"}, ORT, model).version,
        make_table(APP | {"new.js": b""}, ORT, model).version,
        make_table(APP, {**ORT, "ort-made.wasm": b""}, model).version,
        make_table(APP, ORT, made_model(b"x")).version,
        make_table(APP, ORT, made_model(name="other.onnx")).version,
    ]
    assert len(set(versions)) == len(versions)
    assert make_table(dict(reversed(APP.items())), ORT, model).version == versions[0]
    assert make_table(APP, ORT, model, before=made_model(b"old")).version == versions[0]


def test_reading_an_app(tmp_path):
    write_web(tmp_path)
    (tmp_path / "js/ä b#.js").write_bytes(b"")
    assert set(read_app(tmp_path)) == {*APP, "js/%C3%A4%20b%23.js"}  # neither what builds it nor what is hidden
    (tmp_path / "sw.js").unlink()
    with pytest.raises(DistillError, match=r"lacks sw\.js; install yolo-distill again"):
        read_app(tmp_path)


def test_the_real_app():
    app = read_app(paths.export_dir() / "web")
    table = make_table(app, ORT, made_model())
    assert table.version.encode() in table.entries["sw.js"].body
    assert b"__VERSION__" not in table.entries["sw.js"].body
    unknown = [name for name, entry in table.entries.items() if entry.kind == "application/octet-stream"]
    assert unknown == [made_model().address]
    for name in re.findall(rb'(?:src|href)="([^"#:]+)"', app["index.html"]):
        assert name.decode() in app
    # Scripts and styles inside the page are not run under the policy that goes with it.
    assert not re.search(rb"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", app["index.html"])
    for icon in json.loads(app["manifest.webmanifest"])["icons"]:
        assert icon["src"] in app
