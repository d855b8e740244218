"""The head of an HTTP/1.x request: what is asked for, or why it is refused.

Strict where http.server is lenient: no HTTP/0.9, no folded headers, no bare line feeds, nothing but visible ASCII in
the target. All that a browser sends passes; what does not is answered and its connection closed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MOST_LINE = 8192  # bytes of the request line
MOST_HEAD = 32768  # bytes of the whole head
MOST_HEADERS = 100
METHODS = ("GET", "HEAD")

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(%s) ([!-~]+) HTTP/([0-9])\.([0-9])" % _TOKEN)
_HEADER = re.compile(rb"(%s):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*" % _TOKEN)
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_ONCE = {"host", "content-length", "transfer-encoding", "range", "if-range"}


class Refused(Exception):
    """A request that gets an error; `closes` says whether the connection can go on after it."""

    def __init__(self, status: int, words: str, *, closes: bool = True) -> None:
        super().__init__(words)
        self.status = status
        self.closes = closes


@dataclass(frozen=True)
class Request:
    """A request that can be answered.

    Attributes:
        method: "GET" or "HEAD".
        path: what stands before the `?`, exactly as it was sent: nothing is decoded, joined or made shorter.
        headers: lower-case name to value; one that came several times is joined with commas.
        closes: whether the connection ends after the answer.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    closes: bool = False


def end_of_head(received: bytes | bytearray) -> int | None:
    """Return where the head ends in what was received so far; `None` if there is more to come.

    Raises:
        Refused: this is too long, or can become no request whatever follows.
    """
    end = received.find(b"\r\n\r\n")
    head = received[: end + 4] if end >= 0 else received
    line_end = head.find(b"\r\n")
    if line_end > MOST_LINE or (line_end < 0 and len(head) > MOST_LINE + 1):
        raise Refused(414, f"the address is too long; at most {MOST_LINE} bytes")
    if len(head) > MOST_HEAD:
        raise Refused(431, f"the headers are too long; at most {MOST_HEAD} bytes")
    # Said now: who sends these might wait for an answer without ever sending the end that we wait for.
    if _BARE_LINE_FEED.search(head) or not re.match(_TOKEN, head):
        raise Refused(400, "this is no HTTP request")
    return end + 4 if end >= 0 else None


def parse_head(head: bytes) -> Request:
    """Read a whole head.

    Args:
        head: everything up to the empty line, that line included.

    Raises:
        Refused: it is malformed, or asks for what there is not: another method, another version, a body.
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    line = _LINE.fullmatch(first)
    if not line:
        raise Refused(400, "the request line is malformed")
    method, target, major, minor = (part.decode("ascii") for part in line.groups())
    if major != "1":
        raise Refused(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    headers = _headers(lines)
    length = headers.get("content-length", "0")
    if not re.fullmatch("[0-9]{1,20}", length):
        raise Refused(400, "the Content-Length is malformed")
    has_body = "transfer-encoding" in headers or int(length) > 0
    if method not in METHODS:
        raise Refused(405, f"the method {method[:20]} is not taken here; GET and HEAD are", closes=has_body)
    if has_body:
        raise Refused(413, "a request with a body is not taken here")
    if minor != "0" and not headers.get("host"):
        raise Refused(400, "the header Host is missing")
    if not target.startswith("/"):
        raise Refused(400, "the address has to begin with /")
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    return Request(method, target.partition("?")[0], headers, closes=minor == "0" or "close" in options)


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > MOST_HEADERS:
        raise Refused(431, f"there are too many headers; at most {MOST_HEADERS}")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if not header:
            raise Refused(400, "a header is malformed")
        name, value = (part.decode("latin-1") for part in header.groups())
        name = name.lower()
        if name in headers:
            if name in _ONCE:
                raise Refused(400, f"the header {name} came twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers
