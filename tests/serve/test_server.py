"""The server as a browser, and as somebody else, meets it."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from made_site import APP, ORT, connect, get, made_model, receive, request, running, send, wait_until_empty

from yolo_distill.errors import RequestError
from yolo_distill.serve import connection_limit
from yolo_distill.serve import server as module
from yolo_distill.serve.connection_limit import Connection, Connections
from yolo_distill.serve.security import SECURITY_HEADERS, Names
from yolo_distill.serve.server import Server

LARGE = 30_000_000  # bytes: more than systems keep for a client


def secured(headers) -> bool:
    return all(headers[name] == value for name, value in SECURITY_HEADERS)


def put(site, size: int) -> bytes:
    """Let a site serve a model of so many bytes; return the request for it."""
    model = made_model(b"x" * size)
    site.replace(model)
    return request(f"/{model.address}")


def test_the_security_headers(server):
    headers = get(server, "/")[0].headers
    assert secured(headers)
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
    ("raw", "status"),
    [
        (request("/none", "Connection: close"), 404),
        (request("/", "Connection: close", method="DELETE"), 405),
        (request("/", "Range: bytes=99999-", "Connection: close"), 416),
        (request("/", "Connection: close", host="evil.example.com"), 421),
    ],
)
def test_a_refusal_is_an_answer_like_any_other(server, raw, status):
    head, _, body = send(server, raw).partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = http.client.HTTPMessage()
    for one in lines:
        headers.add_header(*one.split(": ", 1))
    assert line.startswith(f"HTTP/1.1 {status} ")
    assert secured(headers)
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("text/plain; charset=utf-8", "no-store")
    assert headers["Content-Length"] == str(len(body))
    assert (body.count(b"\n"), body.count(b"<")) == (1, 0)
    if status == 405:
        assert set(headers["Allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01" + bytes(range(256)) * 20,  # TLS, where none is spoken
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        request("/", "Host: localhost"),
        request("/\x00"),
        request("/a b"),
    ],
)
def test_what_is_no_request_is_refused(server, raw):
    assert send(server, raw).startswith(b"HTTP/1.1 400 ")
    assert get(server, "/")[0].status == 200


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nA: "])
def test_a_head_without_end_is_not_kept(server, start):
    with connect(server) as client:
        client.sendall(start)
        sent = 0
        with suppress(ConnectionError):
            while sent < 100_000_000:
                sent += client.send(b"a" * 65536)
        assert sent < 100_000_000  # it was cut off, which may tear the 400 out of a client's hands
    assert get(server, "/")[0].status == 200


PATHS = [
    "/../../../../etc/passwd", "/..", "/../web/package.json", "/js/../package.json", "/%2e%2e/package.json",
    "/%2e%2e%2fpackage.json", "/%252e%252e%252fpackage.json", "/..%5cpackage.json", "/..\\package.json",
    "/js\\main.js", "//etc/passwd", "/etc/passwd", "/c:\\windows\\win.ini", "/\\\\server\\share", "/file:///etc/passwd",
    "/index.html%00", "/%00", "/package.json", "/.gitignore", "/node_modules/other/index.js", "/js/.hidden.js",
    "/js/", "/js", "/ort/", "/best.onnx", "/proc/self/environ", "/..;/", "/%c0%ae%c0%ae/", "//", "/./app.css",
    "/js/main.js/.", "/js//main.js", "/js/%6dain.js", "/APP.css", "/app.css/", "/app.css;x",
    "../x", "http://localhost/", "localhost:80", "*", "xindex.html",
]  # fmt: skip
OWN_NAMES = [
    "localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "192.168.1.7", "made-machine", "made-machine.local:80",
    "made-machine.fritz.box", "app.localhost", "demo.example.org", "Demo.Example.Org.:443",
]  # fmt: skip
OTHER_NAMES = [
    "evil.example.com", "made-machine.evil.com", "localhost.evil.com", "127.0.0.1.nip.io", "a b", "[::1", "x:y", "@",
    ":",
]  # fmt: skip


def test_nothing_else_is_there(server):
    for path in PATHS:
        answer = send(server, request(path, "Connection: close"))
        assert answer.startswith(b"HTTP/1.1 404 "), path
        assert answer.endswith((b"there is nothing at this address\n", b"Not Found\n")), path
        alone = send(server, request(path, "Connection: close", method="HEAD"))
        assert alone.endswith(b"\r\n\r\n"), path  # no body


def test_names_that_are_its_own_and_a_stranger_whose_name_points_here_gets_nothing(server):
    for host in OWN_NAMES:
        assert get(server, "/", Host=host)[0].status == 200, host
    for host in OTHER_NAMES:
        response, body = get(server, "/files.json", Host=host)
        assert (response.status, b"names=" in body) == (421, True), host


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
    one = request("/app.css")
    answer = send(server, one * 3 + request("/app.css", "Connection: close") + one)
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(APP["app.css"]) == 4


def test_who_says_nothing_makes_room_and_keeps_nobody_waiting(server):
    crowd = [connect(server) for _ in range(300)]
    for client in crowd[::2]:
        with suppress(ConnectionError):  # turned away already
            client.sendall(b"GET / HT")
    for _ in range(10):
        started = time.monotonic()
        assert get(server, "/")[0].status == 200
        assert time.monotonic() - started < 5
    assert len(server.connections) <= 64
    assert crowd[1].recv(1) == b""  # who waited longest has gone
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
    monkeypatch.setattr(module, "_CHECK_SECONDS", 0.05)


def test_a_head_that_never_ends_is_given_up(impatient, server):
    with connect(server) as client:
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() < started + 10:
                client.sendall(b"G")
                time.sleep(0.03)
        assert time.monotonic() < started + 5
    assert send(server, b"") == b""  # said nothing at all


def test_who_asks_for_nothing_more_is_let_go(impatient, server):
    assert send(server, request("/app.css")).endswith(APP["app.css"])


@pytest.mark.parametrize("size", [LARGE, 600_000])  # more than systems keep for a client, and hardly more
def test_who_takes_nothing_is_given_up(impatient, site, size):
    raw = put(site, size)
    with running(site) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(raw)
        deadline = time.monotonic() + 10
        while not any(one.answered for one in server.connections) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert wait_until_empty(server)


def test_who_takes_it_slowly_gets_all_of_it(impatient, site):
    raw = put(site, 3_000_000)
    with running(site) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", server.port))
        client.sendall(raw)
        assert receive(client, pause=0.02).endswith(b"x" * 3_000_000)  # in longer than one step in all


def test_those_who_do_not_read_give_their_places_to_one_of_the_same_address(site, monkeypatch):
    monkeypatch.setattr(connection_limit, "STALLED_SECONDS", 0.3)
    raw = put(site, 10_000_000)
    with running(site) as server:
        crowd = [connect(server) for _ in range(200)]
        for client in crowd:
            with suppress(ConnectionError):  # turned away already
                client.sendall(raw)
        deadline = time.monotonic() + 20
        # Until the server has all the requests, and what the system keeps for each client is full.
        while time.monotonic() < deadline and not (
            len(server.connections) == 64
            and all(one.answered and one.stepped < time.monotonic() - 0.3 for one in server.connections)
        ):
            time.sleep(0.05)
        assert get(server, "/")[0].status == 200
        for client in crowd:
            client.close()


@pytest.mark.skipif(sys.platform == "darwin", reason="has one loopback address")
def test_those_who_do_not_read_keep_nobody_else_waiting(site):
    """Those of one address are 64 at most; whoever comes from another one has the page at once."""
    raw = put(site, 10_000_000)
    with running(site) as server:
        crowd = [connect(server) for _ in range(200)]
        for client in crowd:
            with suppress(ConnectionError):  # turned away already
                client.sendall(raw)
        for _ in range(5):
            started = time.monotonic()
            with socket.create_connection(("127.0.0.1", server.port), 10, ("127.0.0.2", 0)) as other:
                other.sendall(request("/"))
                assert other.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - started < 5
        assert len(server.connections) <= 65
        for client in crowd:
            client.close()


def test_who_goes_away_or_talks_nonsense_in_the_middle_costs_nothing(site, capfd):
    raw = put(site, LARGE)
    with running(site) as server:
        for _ in range(10):
            with connect(server) as client:
                client.sendall(raw)
                client.recv(1000)
        assert wait_until_empty(server)
        with connect(server) as client:
            client.sendall(raw.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
            client.sendall(b"nonsense\r\n\r\n")
            assert wait_until_empty(server)
        assert get(server, "/")[0].status == 200
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
    said = b"this model is not here any more: another one took its place; load the page again\n"
    assert (response.status, body) == (404, said)


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
    assert limits.enter(third)  # instead of the one of the same address that waits
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


def test_no_room_at_all_is_said(server):
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


def test_hosts_that_are_none(site):
    for host in ("no.such.invalid", "a" * 70):
        with pytest.raises(RequestError, match="is no address"):
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
