"""A small app, a small runtime, a model of a few bytes, and a server over them in a thread."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yolo_distill.serve.model import Model
from yolo_distill.serve.security import Names
from yolo_distill.serve.server import Server
from yolo_distill.serve.site import Site, read_app

APP = {
    "index.html": b"<!doctype html><title>made</title>",
    "app.css": b"body { margin: 0 }",
    "sw.js": b'const VERSION = "__VERSION__";',
    "manifest.webmanifest": b"{}",
    "js/main.js": b"export const answer = 42;",
    "icons/icon.svg": b"<svg/>",
    "icons/icon-192.png": b"\x89PNG",
}
ORT = {"ort.made.min.mjs": b"export {};" * 50, "ort-made.wasm": bytes(range(256)) * 1000}
LOCK = {
    "name": "made",
    "lockfileVersion": 3,
    "packages": {"": {}, "node_modules/onnxruntime-web": {"version": "1.2.3", "integrity": "sha512-x"}},
}


def write_web(web: Path) -> Path:
    """Write an app as it lies in `export/web/`, with what is not to be served beside it."""
    files = APP | {
        "package.json": b'{"name": "made"}',
        "package-lock.json": json.dumps(LOCK).encode(),
        "ort.json": json.dumps(list(ORT)).encode(),
        ".gitignore": b"node_modules/",
        "node_modules/other/index.js": b"secret",
        "js/.hidden.js": b"secret",
    }
    for name, data in files.items():
        (web / name).parent.mkdir(parents=True, exist_ok=True)
        (web / name).write_bytes(data)
    return web


def write_ort(folder: Path) -> Path:
    """Write the made runtime."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ORT.items():
        (folder / name).write_bytes(data)
    return folder


def made_model(data: bytes = b"made" * 100_000, name: str = "best.onnx") -> Model:
    """Return a model that was not checked."""
    return Model(name, data, hashlib.sha256(data).hexdigest())


def made_site(tmp_path: Path, model: Model | None = None) -> Site:
    """Return a site over the made app."""
    return Site(read_app(write_web(tmp_path / "web")), ORT, model or made_model())


@contextmanager
def running(site: Site, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server at a free port of this machine."""
    with Server("127.0.0.1", 0, site.table, names=Names("made-machine", ["demo.example.org"])) as server:
        if tls is not None:
            server.speak_tls(tls)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """Ask once, on a connection of its own; `_` in a header's name stands for `-`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def request(target: str, *headers: str, method: str = "GET", host: str = "localhost") -> bytes:
    """Return a request for a target exactly as it is written."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def receive(client: socket.socket, pause: float = 0) -> bytes:
    """Return all that comes until the server closes the connection; each piece is followed by a pause."""
    received = b""
    while more := client.recv(65536):
        received += more
        time.sleep(pause)
    return received


def send(server: Server, raw: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back."""
    with connect(server) as client:
        client.sendall(raw)
        return receive(client)


def wait_until_empty(server: Server, seconds: float = 10) -> bool:
    """Return whether everyone has gone within `seconds`."""
    deadline = time.monotonic() + seconds
    while len(server.connections) and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(server.connections) == 0
