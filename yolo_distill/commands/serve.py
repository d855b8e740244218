"""`yolo-distill serve`: an exported file in the browser, on this machine or on a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError
from yolo_distill.settings import Setting
from yolo_distill.spelling import WEIGHTS

SUMMARY = "run an .onnx file in the browser, here or on a phone: the page, its address, and a QR code"

SETTINGS = {
    "model": Setting(str, "exported file (.onnx), as export target=browser makes it", required=True, alone="."),
    "port": Setting(int, "port of the page; 0: any that is free; not set: 8000", low=0, high=65535),
    "host": Setting(str, "address to listen at; 0.0.0.0: all that this machine has, for everyone near", "127.0.0.1"),
    "https": Setting(bool, "encrypt, with a certificate that this machine makes for itself; phones want it", False),
    "certificate": Setting(str, "certificate that browsers trust already (.pem), for https without the question"),
    "key": Setting(str, "private key of certificate= (.pem), unless it is in the same file"),
    "names": Setting(str, "further names that the page is reached by, with commas: demo.example.org"),
    "ort": Setting(str, "folder of onnxruntime-web (its dist); not set: found, or fetched once by npm"),
    "build": Setting(str, "write the page, with the model, to this folder instead, for any web server"),
}

NOTES = """\
Pictures stay on the device: the page finds objects by itself, and nothing is sent back. On this machine:

  yolo-distill serve model=best.onnx

On a phone in the same network; the browser asks once about the certificate, and the terminal says what to compare:

  yolo-distill serve model=best.onnx host=0.0.0.0 https=true

On an Android phone connected by USB cable, without https: adb reverse tcp:8000 tcp:8000, then http://localhost:8000
there. A model that is replaced meanwhile is served to whoever comes next. Browsers keep the page for use without a
network only where they trust the certificate by themselves, as they do this machine's own pages (localhost): give such
a one, from mkcert or Let's Encrypt, with certificate= and key=, or take build= to a web server that has one. serve
needs an extra: pip install 'yolo-distill[serve]'"""

ALSO = WEIGHTS

_PORT = 8000
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*", re.IGNORECASE)


def run(settings: dict[str, Any]) -> None:
    """Serve until Ctrl-C, or write the folder."""
    host, port, build = settings["host"].strip("[] "), settings["port"], settings["build"]
    if not host:
        raise RequestError("host= is empty; give 127.0.0.1, or 0.0.0.0 for everyone in this machine's networks")
    certificate, key = settings["certificate"], settings["key"]
    https = settings["https"] or bool(certificate)
    if build and (https or port is not None or host != SETTINGS["host"].default):
        raise RequestError(
            f"build={build}: writes a folder and serves nothing; leave host=, port=, https= and certificate= out"
        )
    if key and not certificate:
        raise RequestError(f"key={key}: belongs to a certificate; name it with certificate=")
    names = tuple(name.strip() for name in (settings["names"] or "").split(",") if name.strip())
    for name in names:
        if not _NAME.fullmatch(name):
            raise RequestError(f"names={name}: is no name of a machine; give it as in demo.example.org")

    from yolo_distill.serve.run import Request, serve

    serve(
        Request(
            model=Path(settings["model"]).expanduser(),
            host=host,
            port=_PORT if port is None else port,
            https=https,
            certificate=_path(certificate),
            key=_path(key),
            names=names,
            ort=_path(settings["ort"]),
            build=_path(build),
        )
    )


def _path(text: str | None) -> Path | None:
    return Path(text).expanduser() if text else None
