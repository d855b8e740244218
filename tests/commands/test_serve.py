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
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
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


def serve(*words: str) -> int:
    return cli.main(["serve", "model=best.onnx", "ort=ort", *words])


def refusal(capsys) -> str:
    """Return the only line on stderr; nothing was said on stdout."""
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    return line.removeprefix("yolo-distill: ")


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
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for line in self.lines:
                if text in line:
                    return line
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.02)
        raise AssertionError(f"never said {text!r}: {self.lines}")

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait(20)


def test_serve_and_stop():
    with Running() as running:
        address = running.wait_for("http://").strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        running.wait_for("Ctrl-C ends it")
        assert fetch(address) == b"<!doctype html>page"
        about = json.loads(fetch(f"{address}files.json"))
        assert about["ort"] == ["ort/ort.mjs"]
        assert fetch(address + about["model"]["url"]) == Path("best.onnx").read_bytes()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(20) == 130
        assert running.process.stderr.read() == "yolo-distill: interrupted\n"
        assert len(running.lines) == 3


def test_a_model_that_is_replaced_meanwhile():
    with Running() as running:
        address = running.wait_for("http://").strip()
        running.wait_for("Ctrl-C")
        first = json.loads(fetch(f"{address}files.json"))
        write_detector(Path("new.onnx"), dense((32, 32, 16, 16, 0.5, 0, 0))).replace("best.onnx")
        running.wait_for("best.onnx: was replaced; new visits get the new one")
        second = json.loads(fetch(f"{address}files.json"))
        assert first["version"] != second["version"]
        assert fetch(address + second["model"]["url"]) == Path("best.onnx").read_bytes()
        assert fetch(address + first["model"]["url"]) != Path("best.onnx").read_bytes()
        Path("best.onnx").unlink()
        running.wait_for("best.onnx: is gone; the last good one goes on")
        assert fetch(address + second["model"]["url"])


def test_https():
    pytest.importorskip("cryptography", reason="of the extra [serve]")
    with Running("host=0.0.0.0", "https=true", without="segno") as running:
        line = running.wait_for("fingerprint")
        first = re.search("([0-9A-F]{2}:){31}[0-9A-F]{2}", line)[0]
        assert "  https://localhost:" in "\n".join(running.lines)
        assert not any("without https=true" in one for one in running.lines)
    (pem,) = Path("user").rglob("*.pem")
    if os.name == "posix":
        assert pem.stat().st_mode & 0o777 == 0o600
    with Running("host=0.0.0.0", "https=true", without="segno") as running:
        assert running.wait_for("fingerprint").endswith(first)


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


def test_a_phone_without_https():
    with Running("host=0.0.0.0") as running:
        running.wait_for("http://localhost:")
        time.sleep(0.2)
        # A machine without a network has nobody to tell.
        if any(re.search(r"http://\d", line) for line in running.lines):
            running.wait_for("everyone in its networks")
            running.wait_for("without https=true browsers give a page its camera on this machine only")


def test_build(capsys):
    assert serve("build=out") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("out: 6 files, ")
    assert "host it as it is, over https" in out
    about = json.loads(Path("out/files.json").read_text())
    assert Path("out", about["model"]["url"]).read_bytes() == Path("best.onnx").read_bytes()
    assert Path("out/sw.js").read_text() == f"// {about['version']}"
    assert Path("out/ort/ort.mjs").read_text() == "export {};"
    assert serve("build=out") == 0  # again, over its own


def test_what_is_built_is_what_is_served():
    with Running() as running:
        address = running.wait_for("http://").strip()
        assert serve("build=out") == 0
        for path in Path("out").rglob("*"):
            name = path.relative_to("out").as_posix()
            if path.is_file() and name != "_headers":
                assert fetch(address + name) == path.read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=none.onnx"], "none.onnx: no such file; give an .onnx file"),
        (["model=best.pt"], "best.pt: is a checkpoint; export it first: yolo-distill export model=best.pt"),
        (["model=text.onnx"], "text.onnx: is not an ONNX model"),
        (["model=bare.onnx"], "bare.onnx: the model's metadata lacks names"),
        (["model=."], ".: is a folder; give the .onnx file"),
        (["port=70000"], "port=70000: must be between 0 and 65535"),
        (["port=-1"], "port=-1: must be between 0 and 65535"),
        (["port=http"], "port=http: expected a whole number"),
        (["host="], "host= is empty; give 127.0.0.1"),
        (["host=192.0.2.77"], "host=192.0.2.77: is no address of this machine"),
        (["host=not a host"], "host=not a host: is no address"),
        (["names=a b"], "names=a b: is no name of a machine"),
        (["names=a,http://b/"], "names=http://b/: is no name of a machine"),
        (["ort=nowhere"], "ort=nowhere: no such folder"),
        (["ort=."], "ort=.: lacks ort.mjs of onnxruntime-web"),
        (
            ["build=out", "https=true"],
            "build=out: writes a folder and serves nothing; leave host=, port=, https= and certificate= out",
        ),
        (["build=out", "certificate=c.pem"], "build=out: writes a folder and serves nothing"),
        (["key=k.pem"], "key=k.pem: belongs to a certificate; name it with certificate="),
        (["certificate=c.pem"], "certificate=c.pem: cannot be read"),
        (["build=out", "port=80"], "build=out: writes a folder and serves nothing"),
        (["build=out", "host=0.0.0.0"], "build=out: writes a folder and serves nothing"),
        (["build=best.onnx"], "build=best.onnx: is a file; give the name of a folder"),
        (["build=."], "build=.: holds files that serve did not write there"),
        (["build=none/out"], "build=none/out: there is no folder"),
    ],
)
def test_bad_requests(words, message, capsys):
    Path("best.pt").touch()
    Path("text.onnx").write_text("text")
    write_detector(Path("bare.onnx"), np.zeros((7, 40), np.float32), names=None)
    before = sorted(Path().rglob("*"))
    assert serve(*words) == 2
    assert refusal(capsys).startswith(message)
    assert sorted(Path().rglob("*")) == before


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "model=best.onnx", f"port={port}", "https=true"]) == 2  # before npm is asked
        assert refusal(capsys).startswith(f"port={port}: another program has it; give another one, or port=0")
    assert list(Path("user").rglob("*.pem")) == []


def test_https_without_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert serve("port=0", "https=true") == 2
    assert (
        refusal(capsys) == "https=true needs 'cryptography', which is not installed: pip install 'yolo-distill[serve]'"
    )


@pytest.mark.parametrize("words", [["port=0"], ["build=out"]])
@pytest.mark.parametrize("package", ["starlette", "uvicorn", "platformdirs"])
def test_without_the_extra(capsys, monkeypatch, package, words):
    monkeypatch.setitem(sys.modules, package, None)
    assert serve(*words) == 2
    assert refusal(capsys) == f"serve needs '{package}', which is not installed: pip install 'yolo-distill[serve]'"
    assert serve("model=none.onnx") == 2  # what is wrong besides is said first
    assert refusal(capsys).startswith("none.onnx: no such file")


def test_ctrl_c_waits_for_nobody():
    with Running() as running:
        port = int(running.wait_for("http://").strip(" /").rpartition(":")[2])
        running.wait_for("Ctrl-C")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as idle:
            idle.sendall(b"GET /files.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            idle.recv(100)
            started = time.monotonic()
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(20) == 130
            assert time.monotonic() - started < 5


def test_no_runtime_and_no_npm(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["serve", "model=best.onnx", "port=0"]) == 1
    line = refusal(capsys)
    assert "is fetched by npm, which is not here: install Node.js (it brings npm), or put ort.mjs" in line


def test_an_installation_without_the_app(capsys):
    Path("export/web/index.html").unlink()
    assert serve("port=0") == 1
    assert refusal(capsys).endswith("the web app lacks index.html; install yolo-distill again")
