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

PAGE = "https://192.168.1.7:8000/"


class Terminal(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8", terminal: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def test_the_code_says_the_address(monkeypatch):
    segno = pytest.importorskip("segno")
    monkeypatch.setenv("COLUMNS", "80")
    code = qr_code(PAGE, Terminal())
    rows = [list(row) for row in segno.make(PAGE, error="l", micro=False).matrix_iter(border=2)]
    # Half blocks: two rows of the code a line; light is drawn.
    drawn = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    lines = [line for line in code.replace("\x1b[7m", "").replace("\x1b[0m", "").split("\n") if line]
    assert len(lines) == (len(rows) + 1) // 2
    dark = {(0, 0): 0, (1, 1): 1}
    read = [[drawn.get(char, dark.get(char)) for char in line] for line in lines]
    plain = [[cell[half] for cell in line] for line in read for half in (0, 1)][: len(rows)]
    expected = [[int(bool(cell)) for cell in row] for row in rows]
    inverted = [[1 - cell for cell in row] for row in expected]
    assert [row[: len(rows[0])] for row in plain] in (expected, inverted)


def test_no_code_where_it_cannot_be_shown(monkeypatch):
    pytest.importorskip("segno")
    monkeypatch.setenv("COLUMNS", "80")
    assert qr_code(PAGE, Terminal(terminal=False)) is None
    assert qr_code(PAGE, Terminal("ascii")) is None
    assert qr_code(PAGE, Terminal("latin-1")) is None
    assert qr_code(PAGE, Terminal()) is not None
    monkeypatch.setenv("COLUMNS", "20")
    assert qr_code(PAGE, Terminal()) is None
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setitem(sys.modules, "segno", None)
    assert qr_code(PAGE, Terminal()) == "for a QR code: pip install 'yolo-distill[serve]'"


def test_on_this_machine():
    lines = banner("best.onnx (5.2 MB)", ["http://127.0.0.1:8000/"], [], None, alone=True)
    assert lines[:2] == ["best.onnx (5.2 MB) is at:", "  http://127.0.0.1:8000/"]
    assert lines[2:] == ["only this machine reaches it; Ctrl-C ends it. For a phone: host=0.0.0.0 https=true"]


def test_in_the_network_without_https():
    lines = banner("best.onnx", ["http://localhost:8000/"], ["http://192.168.1.7:8000/"], None, alone=False)
    assert "  http://192.168.1.7:8000/" in lines
    assert "everyone in its networks can open it and take the model along" in lines[3]
    assert lines[4].startswith("without https=true browsers give a page its camera on this machine only")


def test_in_a_network_that_shows_no_address():
    lines = banner("best.onnx", ["http://localhost:8000/"], [], None, alone=False)
    assert "everyone in its networks can open it" in lines[2]
    assert not any("only this machine reaches it" in line for line in lines)


@pytest.mark.parametrize("made", [True, False])
def test_in_the_network_with_https(made):
    own = Certificate(Path("own.pem"), ("192.168.1.7",), "AB:CD", made=made)
    lines = banner("best.onnx", [], [PAGE], own, alone=False)
    assert lines[-1].endswith("compare its SHA-256 fingerprint: AB:CD")
    assert "asks once" in lines[-1]
    assert ("unless it knows it already" in lines[-1]) is not made
    assert not any("without https" in line for line in lines)


def test_in_the_network_with_a_certificate_that_is_trusted():
    given = Certificate(Path("given.pem"), ("192.168.1.7", "demo.example.org"), "AB:CD", given=True)
    lines = banner("best.onnx", [], [PAGE], given, alone=False)
    assert lines[-1] == "the certificate is good for: 192.168.1.7, demo.example.org"
    assert not any("asks once" in line or "without https" in line for line in lines)


def test_addresses():
    for address in addresses.own_addresses(v6=True):
        assert not ipaddress.ip_address(address).is_loopback
        assert not addresses.is_any(address)
    assert addresses.is_any("0.0.0.0")
    assert addresses.is_any("::")
    assert addresses.is_loopback("127.0.0.1")
    assert addresses.is_loopback("::1")
    assert addresses.link("::1", 8000, "http") == "http://[::1]:8000/"
    assert addresses.link("10.0.0.1", 80, "https") == "https://10.0.0.1:80/"


def test_no_network(monkeypatch):
    def refused(*_):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.socket.connect", refused)
    monkeypatch.setattr(addresses, "_of_interfaces", lambda: ["127.0.0.1"])
    monkeypatch.setattr("socket.getaddrinfo", refused)
    assert addresses.own_addresses(v6=True) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere others say where")
def test_folders(monkeypatch):
    """Where phones' certificates have been since the first version."""
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    assert folders.cache_folder() == Path("/h/.cache/yolo-distill")
    assert folders.private_folder() == Path("/h/.config/yolo-distill")


@pytest.mark.skipif(sys.platform != "linux", reason="there is always one elsewhere")
def test_a_user_without_a_home(monkeypatch):
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(DistillError, match="no home folder; set HOME"):
        folders.cache_folder()


def test_names_of_a_certificate_with_a_star():
    names = Names("made", ["*.example.org"])
    assert names.allow("demo.example.org:8443")
    assert not names.allow("example.org")
    assert not names.allow("a.demo.example.org")
    assert not names.allow("demo.example.com")


def test_a_network_without_a_way_out(monkeypatch):
    def refused(*_):
        raise OSError(101, "Network is unreachable")

    with monkeypatch.context() as patch:
        patch.setattr("socket.socket.connect", refused)
        found = addresses.own_addresses()
    assert set(addresses.own_addresses()) <= set(found)
    assert not any(addresses.is_loopback(one) for one in found)
