"""Thousands of odd requests, always the same ones: none gets what is not in the table, and the server goes on."""

from __future__ import annotations

import random
import re
import time
from contextlib import suppress

import pytest
from made_site import connect, get, made_model, made_site, request, running, wait_until_empty

COUNT, SECONDS = 3000, 30.0
_LAST = request("/app.css", "Connection: close")  # so that the server ends it
AT_ONCE = 16  # connections that are open at a time

# As often sound as odd, so that what is odd elsewhere in a request is looked at as well.
_METHODS = (
    ["GET"] * 40 + ["HEAD"] * 4 + ["POST", "PUT", "OPTIONS", "TRACE", "CONNECT", "get", "G\x00T", "", "GET" * 99, "PRI"]
)
_VERSIONS = (
    ["HTTP/1.1"] * 50 + ["HTTP/1.0"] * 5 + ["HTTP/2.0", "HTTP/0.9", "HTTP/1.1 ", "http/1.1", "HTTP/11", "HTP", ""]
)
_PIECES = [
    "/", "//", "..", ".", "%2e", "%2E%2e", "%252e", "%2f", "%5c", "\\", "%00", "etc/passwd", "C:", "js", "main.js",
    "app.css", "index.html", "sw.js", "ort", "ort-made.wasm", "model", "files.json", "package.json", "ort.json",
    ".gitignore", "node_modules", "?", "#", ";", "*", "http:", "localhost", "~", "a" * 300, "%c0%ae", "..;",
]  # fmt: skip
_FORBIDDEN = ["\x00", "ä", "\u202e", " ", "\t", "\r", "\n"]
_HEADERS = [
    "Range: bytes=0-10", "Range: bytes=-", "Range: bytes=99999999-", "Range: bytes=-1", "Range: bytes=5-1,3-",
    "Range: x=1", 'If-None-Match: "x"', "If-None-Match: *", "If-None-Match: W/,,,", 'If-Range: "x"', "Accept: */*",
    "Content-Length: 0", "Connection: close", "Connection: upgrade", "Upgrade: h2c", "Expect: 100-continue",
    "Cookie: " + "a" * 5000, "X-Forwarded-Host: evil",
]  # fmt: skip
_ODD_HEADERS = [
    "Content-Length: 10", "Content-Length: -1", "Content-Length: 99999999999999999999999", "Transfer-Encoding: chunked",
    ": empty", "no colon", " folded", "\tfolded", "A\x00: b", "A: \x00", "A: \x7f", "Ä: ä", "Host: evil.example.com",
    "Host: localhost", "Host:", "Host: [", "X" * 9000 + ": y", "X: " + "y" * 40000,
]  # fmt: skip
_HOSTS = ["Host: localhost"] * 20 + ["Host: evil.example.com", "Host: [", "host:localhost:80", "Host: 127.0.0.1:1"]
_ENDS = ["\r\n"] * 50 + ["\n", "\r", "\r\r\n", ""]


def odd_request(chance: random.Random, addresses: list[str]) -> bytes:
    """Return bytes that are a request, nearly one, or nothing of the kind."""
    kind = chance.random()
    if kind < 0.05:
        return chance.randbytes(chance.choice([1, 5, 50, 500, 20_000]))
    if chance.random() < 0.5:
        target = "/" * (chance.random() < 0.9) + "".join(chance.choices(_PIECES, k=chance.randint(0, 6)))
    else:
        target = "/" + chance.choice(addresses)
    if chance.random() < 0.05:
        target += chance.choice(_FORBIDDEN) + chance.choice(_PIECES)
    end = chance.choice(_ENDS)
    lines = [f"{chance.choice(_METHODS)} {target} {chance.choice(_VERSIONS)}"]
    lines += [chance.choice(_HOSTS)] * (chance.random() < 0.95)
    lines += chance.choices(_HEADERS, k=chance.choice([0, 0, 1, 2, 3]))
    lines += [chance.choice(_ODD_HEADERS)] * (chance.random() < 0.1)
    lines += ["A: b"] * chance.choice([0] * 40 + [90, 200])
    raw = bytearray((end.join(lines) + end + end).encode())
    if kind < 0.15 and raw:
        for _ in range(chance.randint(1, 8)):
            place = chance.randrange(len(raw))
            raw[place : place + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
    if kind > 0.9:
        raw = raw[: chance.randrange(len(raw) + 1)]
    if kind > 0.97:
        raw += chance.randbytes(3000)
    return bytes(raw)


def answers(raw: bytes):
    """Yield status, headers and the bytes that follow, of each answer in what came back."""
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.1 ([1-5][0-9]{2}) [A-Za-z -]+", line)
        assert match, line
        headers = {name.lower(): value for name, _, value in (one.partition(b": ") for one in lines)}
        length = int(headers.get(b"content-length", 0))
        # That of HEAD sends none; what follows it then begins with the next answer.
        body = b"" if not raw[:length] or (raw.startswith(b"HTTP/1.1 ") and length) else raw[:length]
        raw = raw[len(body) :]
        yield int(match[1]), headers, body


def check(received: bytes, raw: bytes, by_tag: dict[bytes, bytes], statuses: set[int]) -> None:
    """Check all answers to a request, and note their statuses."""
    for status, headers, body in answers(received):
        statuses.add(status)
        if status == 400:  # by uvicorn, in plain text
            assert body == b"Invalid HTTP request received."[: len(body)]
            return
        assert headers[b"x-content-type-options"] == b"nosniff", raw[:200]
        if status in (200, 206):
            whole = by_tag[headers[b"etag"]]
            first = int(re.search(rb"bytes (\d+)-", headers.get(b"content-range", b"bytes 0-"))[1])
            assert body in (whole[first : first + int(headers[b"content-length"])], b""), raw[:200]
        elif status != 304:
            assert headers.get(b"content-type") == b"text/plain; charset=utf-8", (status, headers, raw[:300])
            assert len(body) < 300


@pytest.mark.timeout(180)
def test_odd_requests(tmp_path, capfd):
    site = made_site(tmp_path, made_model(b"model" * 100))
    entries = site.table().entries
    by_tag = {entry.etag.encode(): entry.body for entry in entries.values()}
    chance, statuses, done = random.Random(20261125), set[int](), 0
    deadline = time.monotonic() + SECONDS
    with running(site) as server:
        while done < COUNT and time.monotonic() < deadline:
            raws = [odd_request(chance, list(entries)) for _ in range(AT_ONCE)]
            clients = [connect(server) for _ in raws]
            for client, raw in zip(clients, raws, strict=True):
                with suppress(ConnectionError):  # it was refused before it was sent whole
                    client.sendall(raw + _LAST)
            for client, raw in zip(clients, raws, strict=True):
                received = b""
                client.settimeout(0.3)
                with suppress(ConnectionError, TimeoutError):  # refused in the middle, or nothing more comes
                    while more := client.recv(1 << 20):
                        received += more
                client.close()
                check(received, raw, by_tag, statuses)
            done += len(raws)
        assert get(server, "/")[0].status == 200
        assert wait_until_empty(server)
    assert capfd.readouterr().err == ""
    assert statuses == {200, 206, 304, 400, 404, 405, 416, 421}
    # A machine that is busy with something else asks fewer; it is never to ask next to none.
    assert done > COUNT / 20
