"""The server as a browser, and as somebody else, meets it."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_detector import dense, write_detector
from made_site import APP, ORT, ask, get, made_model, made_site, running, send, wait_until_empty

from yolo_distill.errors import RequestError
from yolo_distill.serve import connection_limit
from yolo_distill.serve import server as module
from yolo_distill.serve.connection_limit import Connection, Connections
from yolo_distill.serve.security import SECURITY_HEADERS, Names
from yolo_distill.serve.server import Server


@pytest.fixture
def site(tmp_path):
    return made_site(tmp_path)


@pytest.fixture
def server(site):
    with running(site) as server:
        yield server


def secured(headers) -> bool:
    return all(headers[name] == value for name, value in SECURITY_HEADERS)


def test_everything_in_the_table_is_served_as_it_is(server, site):
    for address, entry in site.table().entries.items():
        response, body = get(server, f"/{address}")
        assert (response.status, body, response.headers["Content-Type"]) == (200, entry.body, entry.kind)
        assert response.headers["ETag"] == entry.etag
        assert secured(response.headers)
        response, body = get(server, f"/{address}", "HEAD")
        assert (response.status, body, response.headers["Content-Length"]) == (200, b"", str(len(entry.body)))
        assert get(server, f"/{address}", If_None_Match=entry.etag)[0].status == 304
    assert get(server, "/")[1] == get(server, "/?shared")[1] == APP["index.html"]


def test_the_security_headers(server):
    headers = get(server, "/")[0].headers
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "camera=(self)" in headers["Permissions-Policy"]
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "worker-src 'self' blob:"} <= set(policy)
    assert "unsafe-inline" not in headers["Content-Security-Policy"]
    assert not any("*" in part or "http" in part for part in policy)


@pytest.mark.parametrize(
    ("target", "method", "headers", "status"),
    [
        ("/none", "GET", [], 404),
        ("/", "DELETE", [], 405),
        ("/", "GET", ["Range: bytes=99999-"], 416),
        ("/", "GET", ["Host: evil.example.com"], 421),
    ],
)
def test_a_refusal_is_an_answer_like_any_other(server, target, method, headers, status):
    host = [] if any("Host" in one for one in headers) else ["Host: localhost"]
    raw = "\r\n".join([f"{method} {target} HTTP/1.1", *host, *headers, "Connection: close", "", ""])
    head, _, body = send(server, raw.encode()).partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    told = http.client.HTTPMessage()
    for one in lines:
        told.add_header(*one.split(": ", 1))
    assert line.startswith(f"HTTP/1.1 {status} ")
    assert secured(told)
    assert told["Content-Type"] == "text/plain; charset=utf-8"
    assert told["Cache-Control"] == "no-store"
    assert told["Content-Length"] == str(len(body))
    assert body.count(b"\n") == 1
    assert "<" not in body.decode()
    if status == 405:
        assert set(told["Allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(server, raw):
    assert send(server, raw).startswith(b"HTTP/1.1 400 ")
    assert get(server, "/")[0].status == 200


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: "])
def test_a_head_without_end_is_not_kept(server, start):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(start)
        sent = 0
        with suppress(ConnectionError):
            while sent < 100_000_000:
                sent += client.send(b"a" * 65536)
        assert sent < 100_000_000  # it was cut off, which may tear the 400 out of a client's hands
    assert get(server, "/")[0].status == 200


def test_a_head_that_finds_nothing_has_no_body(server):
    answered = ask(server, "/none", "HEAD")
    assert answered.startswith(b"HTTP/1.1 404 ")
    assert answered.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd", "/..", "/../web/package.json", "/js/../package.json", "/%2e%2e/package.json",
        "/%2e%2e%2fpackage.json", "/%252e%252e%252fpackage.json", "/..%5cpackage.json", "/..\\package.json",
        "/js\\main.js", "//etc/passwd", "///etc/passwd", "/etc/passwd", "/C:/Windows/win.ini", "/c:\\windows\\win.ini",
        "/\\\\server\\share", "/file:///etc/passwd", "/index.html%00", "/%00", "/index.html%00.js", "/package.json",
        "/package-lock.json", "/ort.json", "/.gitignore", "/node_modules/other/index.js", "/js/.hidden.js", "/js/",
        "/js", "/ort/", "/model/", "/model/best.onnx", "/best.onnx", "/~root", "/proc/self/environ", "/..;/",
        "/%c0%ae%c0%ae/",        "/.%00./", "/%5c..%5c..%5c", "/js/main.js/.", "/js//main.js", "/js/%6dain.js",
    ],
)  # fmt: skip
def test_nothing_else_is_there(server, path):
    answered = ask(server, path)
    assert answered.startswith(b"HTTP/1.1 404 ")
    assert answered.endswith(b"there is nothing at this address\n") or b"another one took its place" in answered


@pytest.mark.parametrize("target", ["../x", "http://localhost/", "localhost:80", "*", "xindex.html"])
def test_targets_that_are_none(server, target):
    assert ask(server, target).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "192.168.1.7", "made-machine",
        "made-machine.local:80", "made-machine.fritz.box", "app.localhost", "demo.example.org", "Demo.Example.Org.:443",
    ],
)  # fmt: skip
def test_names_that_are_its_own(server, host):
    assert get(server, "/", Host=host)[0].status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "made-machine.evil.com",
        "localhost.evil.com",
        "127.0.0.1.nip.io",
        "a b",
        "[::1",
        "x:y",
        "@",
        ":",
    ],
)
def test_a_stranger_whose_name_points_here_gets_nothing(server, host):
    response, body = get(server, "/files.json", Host=host)
    assert (response.status, b"names=" in body) == (421, True)


def test_parts_of_large_files(server):
    response, body = get(server, "/ort/ort-made.wasm", Range="bytes=1000-1999")
    assert (response.status, body) == (206, ORT["ort-made.wasm"][1000:2000])
    response, body = get(server, f"/{made_model().address}", Range="bytes=-7")
    assert (response.status, body) == (206, made_model().data[-7:])


def test_one_connection_serves_many_requests(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.connect()
    first = connection.sock
    for path, status in [("/", 200), ("/none", 404), ("/app.css", 200), ("/js/main.js", 200)] * 5:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == status
    assert connection.sock is first
    connection.close()


def test_requests_that_come_at_once_are_answered_in_turn(server):
    one = b"GET /app.css HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answered = send(server, one * 3 + one.replace(b"Host", b"Connection: close\r\nHost") + one)
    assert answered.count(b"HTTP/1.1 200 OK") == answered.count(APP["app.css"]) == 4


def test_a_request_in_pieces(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        for piece in (b"GE", b"T /app.css HTT", b"P/1.1\r\nHost: localhost\r", b"\n\r", b"\n"):
            client.sendall(piece)
            time.sleep(0.02)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_an_error_arrives_though_the_client_still_sends(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 600000\r\n\r\n")
        client.sendall(b"x" * 600_000)
        assert client.recv(65536).startswith(b"HTTP/1.1 405 ")


def test_slow_clients_keep_nobody_waiting(server):
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(40)]
    for client in slow[::2]:
        client.sendall(b"GET / HT")
    for _ in range(10):
        started = time.monotonic()
        assert get(server, "/")[0].status == 200
        assert time.monotonic() - started < 5
    for client in slow:
        client.close()


def test_who_says_nothing_makes_room(server):
    crowd = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(300)]
    assert get(server, "/")[0].status == 200
    assert len(server.connections) <= 64
    crowd[0].settimeout(10)
    assert crowd[0].recv(1) == b""  # who waited longest has gone
    for client in crowd:
        client.close()


def test_many_at_once(server):
    wrong: list[object] = []

    def visit() -> None:
        try:
            for _ in range(5):
                response, body = get(server, "/ort/ort-made.wasm")
                if (response.status, body) != (200, ORT["ort-made.wasm"]):
                    wrong.append(response.status)
        except OSError as error:
            wrong.append(error)

    visitors = [threading.Thread(target=visit) for _ in range(30)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(60)
    assert wrong == []


@pytest.fixture
def impatient(monkeypatch):
    """Give clients 0.4 seconds for each step."""
    monkeypatch.setattr(connection_limit, "STEP_SECONDS", 0.4)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.05)


def test_a_head_that_never_ends_is_given_up(impatient, server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() < started + 10:
                client.sendall(b"G")
                time.sleep(0.03)
        assert time.monotonic() < started + 5
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        assert client.recv(1) == b""  # said nothing at all


def test_who_asks_for_nothing_more_is_let_go(impatient, server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET /app.css HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while more := client.recv(65536):
            received += more
        assert received.endswith(APP["app.css"])


@pytest.mark.parametrize("size", [30_000_000, 600_000])  # more than systems keep for a client, and hardly more
def test_who_takes_nothing_is_given_up(impatient, site, size):
    model = made_model(b"x" * size)
    site.replace(model)
    with running(site) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(f"GET /{model.address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        deadline = time.monotonic() + 10
        while not any(one.answered for one in server.connections) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert wait_until_empty(server)


def test_who_takes_it_slowly_gets_all_of_it(impatient, site):
    model = made_model(b"x" * 3_000_000)
    site.replace(model)
    with running(site) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", server.port))
        client.sendall(f"GET /{model.address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while more := client.recv(65536):
            received += more
            time.sleep(0.02)  # longer than one step in all
        assert received.endswith(model.data)


@pytest.mark.skipif(sys.platform == "darwin", reason="has one loopback address")
def test_those_who_do_not_read_keep_nobody_else_waiting(site):
    """The 64 places of their address are theirs; whoever comes from another one has the page at once."""
    model = made_model(b"x" * 10_000_000)
    site.replace(model)
    with running(site) as server:
        crowd = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(200)]
        for client in crowd:
            with suppress(ConnectionError):  # turned away already
                client.sendall(f"GET /{model.address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for _ in range(5):
            started = time.monotonic()
            with socket.create_connection(("127.0.0.1", server.port), 10, ("127.0.0.2", 0)) as other:
                other.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert other.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - started < 5
        assert len(server.connections) <= 65
        for client in crowd:
            client.close()


def test_who_goes_away_in_the_middle_costs_nothing(site, capfd):
    model = made_model(b"x" * 30_000_000)
    site.replace(model)
    with running(site) as server:
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                client.sendall(f"GET /{model.address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                client.recv(1000)
        assert wait_until_empty(server)
        assert get(server, "/")[0].status == 200
    assert capfd.readouterr().err == ""


def test_who_talks_nonsense_during_an_answer_is_dropped(site, capfd):
    model = made_model(b"x" * 30_000_000)
    site.replace(model)
    with running(site) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        lines = [f"GET /{model.address} HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked", "", ""]
        client.sendall("\r\n".join(lines).encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"nonsense\r\n\r\n")
        assert wait_until_empty(server)
    assert capfd.readouterr().err == ""


def test_a_page_that_is_open_keeps_its_model(site, server):
    old, new, newest = made_model(), made_model(b"new"), made_model(b"newest")
    tag = get(server, "/files.json")[0].headers["ETag"]
    assert site.replace(new)
    assert not site.replace(new)
    response, body = get(server, "/files.json", If_None_Match=tag)
    assert (response.status, new.sha256.encode() in body) == (200, True)
    assert site.table().version.encode() in get(server, "/sw.js")[1]
    assert get(server, f"/{old.address}")[1] == old.data
    assert get(server, f"/{new.address}")[1] == new.data
    assert site.replace(newest)
    response, body = get(server, f"/{old.address}")
    assert (response.status, body.decode()) == (
        404, "this model is not here any more: another one took its place; load the page again\n",
    )  # fmt: skip


class _Guest(Connection):
    def __init__(self, peer: str, since: float, answered: bool = False) -> None:
        super().__init__(socket.socket(), peer)
        self.since, self.answered, self.dropped = since, answered, False
        self.socket.close()

    def drop(self) -> None:
        self.dropped = True


def test_limits():
    limits = Connections(most=4, most_of_one=2)
    busy, idle = _Guest("a", time.monotonic(), True), _Guest("a", 5.0)
    assert limits.enter(busy)
    assert limits.enter(idle)
    third = _Guest("a", 6.0)
    assert limits.enter(third)  # in place of the one of the same address that waits
    assert (idle.dropped, busy.dropped) == (True, False)
    third.turn(answered=True)
    assert not limits.enter(_Guest("a", 7.0))  # all of this address are being answered
    others = [_Guest("b", 3.0), _Guest("c", 2.0)]
    assert all(map(limits.enter, others))
    assert limits.enter(_Guest("d", 9.0))
    assert [one.dropped for one in others] == [False, True]
    assert len(limits) == 4
    limits.leave(others[0])
    limits.leave(others[0])
    assert len(limits) == 3


def test_who_takes_an_answer_forever_goes_at_last():
    limits = Connections(most=3)
    now = time.monotonic()
    slow, slower, waiting = _Guest("a", now - 61, True), _Guest("b", now - 62, True), _Guest("c", now)
    assert all(map(limits.enter, (slow, slower, waiting)))
    assert limits.enter(_Guest("d", now, True))
    assert waiting.dropped  # who asks for nothing goes first, however short a time ago
    assert limits.enter(_Guest("e", now, True))
    assert (slow.dropped, slower.dropped) == (False, True)
    assert limits.enter(_Guest("f", now, True))
    assert slow.dropped
    assert not limits.enter(_Guest("g", now))


def test_no_place_at_all_is_said(server):
    server.connections = Connections(most=0)
    response, body = get(server, "/")
    assert (response.status, body) == (503, b"too many are connected; try again in a moment\n")
    assert secured(response.headers)


def test_a_failure_of_ours_ends_one_request_in_one_line(site, capfd):
    def broken():
        raise ValueError("odd\nthing")

    shown = SimpleNamespace(table=broken)
    with running(SimpleNamespace(table=lambda: shown.table())) as server:
        response, body = get(server, "/")
        assert (response.status, body) == (500, b"the server failed\n")
        assert secured(response.headers)
        shown.table = site.table
        assert get(server, "/")[0].status == 200
    assert capfd.readouterr().err == "yolo-distill: a request failed: ValueError: odd thing\n"


def test_a_port_that_is_taken(server, site):
    with pytest.raises(RequestError, match=f"port={server.port}: another program has it; give another one, or port=0"):
        Server("127.0.0.1", server.port, site.table, names=Names("x"))


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.77", "is no address of this machine"),
        ("no.such.invalid", "is no address"),
        ("a" * 70, "is no address"),
    ],
)
def test_hosts_that_are_none(site, host, message):
    with pytest.raises(RequestError, match=message):
        Server(host, 0, site.table, names=Names("x"))


def test_both_kinds_of_addresses(site):
    try:
        server = Server("::", 0, site.table, names=Names("x"))
    except RequestError:
        pytest.skip("no IPv6 here")
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for address in ("127.0.0.1", "::1"):
            connection = http.client.HTTPConnection(address, server.port, timeout=10)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            connection.close()
        server.shutdown()
        thread.join(5)


def test_the_detector_of_the_tests_is_one():
    from yolo_distill.serve.model import read_model

    model = read_model(write_detector(Path("best.onnx"), dense((32, 32, 16, 16, 0.9, 0, 0))))
    assert (model.name, model.data) == ("best.onnx", Path("best.onnx").read_bytes())
