"""What the terminal says, and where the machine's own things are kept."""

from __future__ import annotations

import io
import ipaddress
import sys
from pathlib import Path

import pytest

from yolo_distill.errors import DistillError
from yolo_distill.serve import addresses, folders
from yolo_distill.serve.banner import banner, qr_code
from yolo_distill.serve.certificate import Certificate
from yolo_distill.serve.security import Names

HERE, PAGE = "http://localhost:8000/", "https://192.168.1.7:8000/"


class Terminal(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8", terminal: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_the_code_holds_the_address(monkeypatch):
    segno = pytest.importorskip("segno")
    monkeypatch.setenv("COLUMNS", "80")
    code = qr_code(PAGE, Terminal())
    rows = [[int(bool(cell)) for cell in row] for row in segno.make(PAGE, error="l", micro=False).matrix_iter(border=2)]
    # Half blocks: two rows of the code a line; light is drawn.
    halves = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    lines = [line for line in code.replace("\x1b[7m", "").replace("\x1b[0m", "").split("\n") if line]
    read = [[halves[char][half] for char in line][: len(rows)] for line in lines for half in (0, 1)][: len(rows)]
    assert read in (rows, [[1 - cell for cell in row] for row in rows])


def test_no_code_where_it_cannot_be_shown(monkeypatch):
    pytest.importorskip("segno")
    for columns, terminal in [
        ("80", Terminal(terminal=False)), ("80", Terminal("ascii")), ("80", Terminal("latin-1")), ("20", Terminal()),
    ]:  # fmt: skip
        monkeypatch.setenv("COLUMNS", columns)
        assert qr_code(PAGE, terminal) is None
    monkeypatch.setitem(sys.modules, "segno", None)
    assert qr_code(PAGE, Terminal()) == "for a QR code: pip install 'yolo-distill[serve]'"


def certificate(**about: bool) -> Certificate:
    return Certificate(Path("a.pem"), ("192.168.1.7", "demo.example.org"), "AB:CD", **about)


@pytest.mark.parametrize(
    ("elsewhere", "shown", "alone", "first", "last"),
    [
        ([], None, True, "only this machine reaches it; Ctrl-C ends it", "For a phone: host=0.0.0.0 https=true"),
        ([], None, False, "everyone in its networks can open it", "on this machine only, not on a phone"),
        ([PAGE], None, False, "everyone in its networks can open it", "on this machine only, not on a phone"),
        ([PAGE], certificate(made=True), False, "everyone in", "compare its SHA-256 fingerprint: AB:CD"),
        ([PAGE], certificate(), False, "everyone in", "compare its SHA-256 fingerprint: AB:CD"),
        ([PAGE], certificate(given=True), False, "everyone in", "is good for: 192.168.1.7, demo.example.org"),
    ],
)
def test_what_is_said(elsewhere, shown, alone, first, last):
    lines = banner("best.onnx (5.2 MB)", [HERE], elsewhere, shown, alone=alone)
    head = ["best.onnx (5.2 MB) is at:", *(f"  {one}" for one in [HERE, *elsewhere])]
    assert lines[: len(head)] == head
    assert lines[len(head)].startswith(first)
    assert lines[-1].endswith(last)
    if shown and not shown.given:
        assert lines[-1].startswith("the browser asks once" if shown.made else "unless it knows it already")


def refused(*_):
    raise OSError(101, "Network is unreachable")


def test_addresses(monkeypatch):
    found = addresses.own_addresses(v6=True)
    assert not any(ipaddress.ip_address(one).is_loopback for one in found)
    assert addresses.link("::1", 8000, "http") == "http://[::1]:8000/"
    assert addresses.link("10.0.0.1", 80, "https") == "https://10.0.0.1:80/"
    monkeypatch.setattr("socket.socket.connect", refused)  # a network without a way out
    monkeypatch.setattr(addresses, "_of_interfaces", lambda: ["127.0.0.1", "10.0.0.1"])
    assert "10.0.0.1" in addresses.own_addresses()
    monkeypatch.setattr(addresses, "_of_interfaces", lambda: ["127.0.0.1"])  # no network at all
    monkeypatch.setattr("socket.getaddrinfo", refused)
    assert addresses.own_addresses(v6=True) == []


def test_addresses_of_interfaces():
    assert all(ipaddress.ip_address(one).version == 4 for one in addresses._of_interfaces())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere others say where, and there is always a home")
def test_folders(monkeypatch):
    """Where phones' certificates have been since the first version."""
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    assert folders.cache_folder() == Path("/h/.cache/yolo-distill")
    assert folders.private_folder() == Path("/h/.config/yolo-distill")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(DistillError, match="no home folder; set HOME"):
        folders.cache_folder()


def test_names_of_a_certificate_with_a_star():
    names = Names("made", ["*.example.org"])
    assert names.allow("demo.example.org:8443")
    assert not any(map(names.allow, ["example.org", "a.demo.example.org", "demo.example.com"]))
