"""`yolo-distill serve` as a person types it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from made_detector import dense, write_detector

from yolo_distill import cli, paths

# Without the heavy libraries, and with a made app in place of the real one.
START = """
import pathlib, sys
for name in ("torch", "torchvision", "ultralytics", "onnx", "onnxslim", "pydantic", *sys.argv.pop(1).split(",")):
    sys.modules[name] = None
from yolo_distill import cli, paths
paths.export_dir = lambda: pathlib.Path("export")
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    """Put a model, an app and a runtime into the working folder, and this user's folders beside them."""
    write_detector(Path("best.onnx"), dense((32, 32, 16, 16, 0.9, 0, 0)))
    files = {
        "export/web/index.html": "<!doctype html>page",
        "export/web/sw.js": "// __VERSION__",
        "export/web/ort.json": '["ort.mjs"]',
        "export/web/package.json": "{}",
        "export/web/package-lock.json": '{"packages": {"node_modules/onnxruntime-web": {"version": "1.2.3"}}}',
        "ort/ort.mjs": "export {};",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    monkeypatch.setattr(paths, "export_dir", lambda: Path("export"))


def fetch(address: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=20) as response:
        return response.read()


class Running:
    """`yolo-distill serve` in a process of its own."""

    def __init__(self, *words: str, without: str = "cryptography,segno") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, without, "serve", "model=best.onnx", "ort=ort", "port=0", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []

    def wait_for(self, text: str) -> str:
        """Return the first line that has the text in it."""
        while not (found := [line for line in self.lines if text in line]):
            line = self.process.stdout.readline()
            assert line, f"never said {text!r}: {self.lines}\n{self.process.stderr.read()}"
            self.lines.append(line.rstrip("\n"))
        return found[0]

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait(20)


def test_serve_and_stop():
    with Running() as running:
        address = running.wait_for("http://").strip()
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])
        running.wait_for("Ctrl-C ends it")
        assert fetch(address) == b"<!doctype html>page"
        about = json.loads(fetch(f"{address}files.json"))
        assert about["ort"] == ["ort/ort.mjs"]
        assert fetch(address + about["model"]["url"]) == Path("best.onnx").read_bytes()
        write_detector(Path("new.onnx"), dense((32, 32, 16, 16, 0.5, 0, 0))).replace("best.onnx")
        running.wait_for("best.onnx: was replaced; new visits get the new one")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as idle:  # Ctrl-C waits for nobody
            idle.sendall(b"GET /files.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            idle.recv(100)
            started = time.monotonic()
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(20) == 130
            assert time.monotonic() - started < 5
        assert running.process.stderr.read() == "yolo-distill: interrupted\n"


def test_https_with_a_certificate_that_is_made_and_kept():
    pytest.importorskip("cryptography", reason="of the extra [serve]")
    with Running("host=0.0.0.0", "https=true", without="segno") as running:
        line = running.wait_for("fingerprint")
        assert re.search("([0-9A-F]{2}:){31}[0-9A-F]{2}", line)
        running.wait_for("  https://localhost:")
    (pem,) = Path("user").rglob("*.pem")
    if os.name == "posix":
        assert pem.stat().st_mode & 0o777 == 0o600


def test_a_certificate_of_ones_own():
    pytest.importorskip("cryptography", reason="of the extra [serve]")
    from yolo_distill.serve.certificate import own_certificate

    pem = own_certificate(Path("mine"), ["demo.example.org", "127.0.0.1"]).path
    with Running(f"certificate={pem}", without="segno") as running:
        address = running.wait_for("https://127.0.0.1:").strip()
        running.wait_for("the certificate is good for: 127.0.0.1, demo.example.org")
        context = ssl.create_default_context(cafile=str(pem))
        handler = urllib.request.HTTPSHandler(context=context)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), handler)
        # Its names are names of the server.
        request = urllib.request.Request(address, headers={"Host": "demo.example.org"})
        assert opener.open(request, timeout=20).read() == b"<!doctype html>page"
    assert not list(Path("user").rglob("*.pem"))  # none was made beside it


def test_build(capsys):
    words = ["serve", "model=best.onnx", "ort=ort", "build=out"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("out: 6 files, ")
    assert "host it as it is, over https" in out
    about = json.loads(Path("out/files.json").read_text())
    assert Path("out", about["model"]["url"]).read_bytes() == Path("best.onnx").read_bytes()
    assert Path("out/sw.js").read_text() == f"// {about['version']}"
    assert Path("out/ort/ort.mjs").read_text() == "export {};"
    assert cli.main(words) == 0  # again, over its own


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=none.onnx"], "none.onnx: no such file; give an .onnx file"),
        (["model=best.pt"], "best.pt: is a checkpoint; export it first: yolo-distill export model=best.pt"),
        (["model=my best.pt"], "my best.pt: is a checkpoint; export it first: yolo-distill export 'model=my best.pt'"),
        (["port=70000"], "port=70000: must be between 0 and 65535"),
        (["host="], "host= is empty; give 127.0.0.1"),
        (["host=192.0.2.77"], "host=192.0.2.77: is no address of this machine"),
        (["names=a,http://b/"], "names=http://b/: is no name of a machine"),
        (["ort=nowhere"], "ort=nowhere: no such folder"),
        (["key=k.pem"], "key=k.pem: belongs to a certificate; name it with certificate="),
        (["certificate=c.pem"], "certificate=c.pem: cannot be read"),
        *(
            (
                ["build=out", more],
                "build=out: writes a folder and serves nothing; leave host=, port=, https= and certificate= out",
            )
            for more in ("https=true", "certificate=c.pem", "port=80", "host=0.0.0.0")
        ),
        (["build=."], "build=.: holds files that serve did not write there"),
    ],
)
def test_bad_requests(words, message, refused):
    Path("best.pt").touch()
    assert refused("serve", "model=best.onnx", "ort=ort", *words).startswith(message)


def test_a_port_that_is_taken(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("serve", "model=best.onnx", f"port={port}", "https=true")  # before npm is asked
    assert line.startswith(f"port={port}: another program has it; give another one, or port=0")


@pytest.mark.parametrize(
    ("package", "words", "wish"),
    [
        ("starlette", ["port=0"], "serve"),
        ("uvicorn", ["port=0"], "serve"),
        ("platformdirs", ["build=out"], "serve"),
        ("cryptography", ["port=0", "https=true"], "https=true"),
    ],
)
def test_without_the_extra(refused, monkeypatch, package, words, wish):
    monkeypatch.setitem(sys.modules, package, None)
    line = refused("serve", "model=best.onnx", "ort=ort", *words)
    assert line == f"{wish} needs '{package}', which is not installed: pip install 'yolo-distill[serve]'"
    # What is wrong besides is said first.
    assert refused("serve", "model=none.onnx", *words).startswith("none.onnx: no such file")
