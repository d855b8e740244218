"""What counts as a request."""

from __future__ import annotations

import pytest

from yolo_distill.serve.request_head import MOST_HEAD, MOST_LINE, Refused, end_of_head, parse_head


def head(line: str = "GET / HTTP/1.1", *headers: str) -> bytes:
    return "\r\n".join([line, "Host: x", *headers, "", ""]).encode("latin-1")


def test_a_request():
    request = parse_head(head("GET /js/a.js?x=/y HTTP/1.1", "Accept: a", 'If-None-Match:\t"1" ', "accept: b"))
    assert (request.method, request.path, request.closes) == ("GET", "/js/a.js", False)
    assert request.headers == {"host": "x", "accept": "a, b", "if-none-match": '"1"'}


@pytest.mark.parametrize(
    ("line", "header", "closes"),
    [
        ("GET / HTTP/1.1", "X: y", False),
        ("HEAD / HTTP/1.1", "Connection: keep-alive, Close", True),
        ("GET / HTTP/1.0", "Connection: keep-alive", True),
    ],
)
def test_who_closes(line, header, closes):
    assert parse_head(head(line, header)).closes is closes


@pytest.mark.parametrize(
    ("raw", "status", "closes"),
    [
        (head("GET /"), 400, True),
        (head("GET  / HTTP/1.1"), 400, True),
        (head("GET / HTTP/1.1 "), 400, True),
        (head("GET / http/1.1"), 400, True),
        (head("GET /\x00 HTTP/1.1"), 400, True),
        (head("GET /ü HTTP/1.1"), 400, True),
        (head("G ET / HTTP/1.1"), 400, True),
        (head("GET / HTTP/2.0"), 505, True),
        (head("GET / HTTP/0.9"), 505, True),
        (head("GET http://x/ HTTP/1.1"), 400, True),
        (head("GET * HTTP/1.1"), 400, True),
        (head("GET ../etc HTTP/1.1"), 400, True),
        (head("POST / HTTP/1.1"), 405, False),
        (head("POST / HTTP/1.1", "Content-Length: 5"), 405, True),
        (head("OPTIONS * HTTP/1.1"), 405, False),
        (head("get / HTTP/1.1"), 405, False),
        (head("GET / HTTP/1.1", "Content-Length: 5"), 413, True),
        (head("GET / HTTP/1.1", "Transfer-Encoding: chunked"), 413, True),
        (head("GET / HTTP/1.1", "Content-Length: -5"), 400, True),
        (head("GET / HTTP/1.1", "Content-Length: 1" + "0" * 5000), 400, True),
        (head("GET / HTTP/1.1", "Content-Length: 0", "Content-Length: 0"), 400, True),
        (head("GET / HTTP/1.1", "Host: y"), 400, True),
        (head("GET / HTTP/1.1", "A: b", " folded"), 400, True),
        (head("GET / HTTP/1.1", "A : b"), 400, True),
        (head("GET / HTTP/1.1", "no colon"), 400, True),
        (head("GET / HTTP/1.1", "A: \x00"), 400, True),
        (head("GET / HTTP/1.1", *["A: b"] * 101), 431, True),
        (b"GET / HTTP/1.1\r\n\r\n", 400, True),
        (b"GET / HTTP/1.1\r\nHost:  \r\n\r\n", 400, True),
    ],
)
def test_what_is_refused(raw, status, closes):
    with pytest.raises(Refused) as refused:
        parse_head(raw)
    assert (refused.value.status, refused.value.closes) == (status, closes)
    assert str(refused.value)


def test_an_old_client_names_no_host():
    assert parse_head(b"GET / HTTP/1.0\r\n\r\n").path == "/"


def test_where_a_head_ends():
    raw = head()
    assert end_of_head(raw + b"\n\x00next") == len(raw)
    for cut in range(1, len(raw)):
        assert end_of_head(raw[:cut]) is None


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"GET /" + b"a" * MOST_LINE, 414),
        (b"GET /" + b"a" * MOST_LINE + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * MOST_HEAD, 431),
        (b"GET / HTTP/1.1\n", 400),
        (b"\x16\x03\x01", 400),
        (b" GET / HTTP/1.1", 400),
        (b"\n", 400),
    ],
)
def test_what_can_become_no_request(received, status):
    with pytest.raises(Refused) as refused:
        end_of_head(received)
    assert (refused.value.status, refused.value.closes) == (status, True)
