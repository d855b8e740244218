"""A request and the table: which answer. No sockets here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from yolo_distill.serve.request_head import METHODS, Refused, Request
from yolo_distill.serve.security import SECURITY_HEADERS
from yolo_distill.serve.table import Entry, Table

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class Answer:
    """What goes back.

    Attributes:
        head: status line and headers, with the empty line.
        body: the bytes after them; empty for HEAD.
        closes: whether the connection ends here.
    """

    head: bytes
    body: memoryview
    closes: bool


def answer(table: Table, request: Request) -> Answer:
    """Return the answer to a request.

    Raises:
        Refused: nothing is there.
    """
    entry = table.find(request.path)
    if entry is None:
        if request.path.startswith("/model/"):
            raise Refused(404, "this model is not here any more: another one took its place; load the page again",
                          closes=request.closes)  # fmt: skip
        raise Refused(404, "there is nothing at this address", closes=request.closes)
    told = [("ETag", entry.etag), ("Cache-Control", entry.cache), ("Accept-Ranges", "bytes")]
    if _is_known(request.headers.get("if-none-match", ""), entry):
        return _make(304, told, b"", request)
    told.append(("Content-Type", entry.kind))
    size = len(entry.body)
    part = _range(request, entry)
    if part is None:
        return _make(200, told, entry.body, request)
    first, end = part
    if first >= size or end <= first:
        # The entity tag stands for the file, which this answer does not hold.
        return _refuse(416, f"the file has {size} bytes", request, ("Content-Range", f"bytes */{size}"))
    told.append(("Content-Range", f"bytes {first}-{end - 1}/{size}"))
    return _make(206, told, memoryview(entry.body)[first:end], request)


def refusal(refused: Refused, *, head_only: bool = False) -> Answer:
    """Return the answer to a request that is refused; its words are for people."""
    request = Request("HEAD" if head_only else "GET", "", closes=refused.closes)
    further = [("Allow", ", ".join(METHODS))] if refused.status == 405 else []
    return _refuse(refused.status, str(refused), request, *further)


def redirection(address: str) -> Answer:
    """Return the answer that sends a browser to `address`, and ends the connection."""
    request = Request("GET", "", closes=True)
    return _refuse(307, f"this server speaks https: {address}", request, ("Location", address))


def _is_known(tags: str, entry: Entry) -> bool:
    """Return whether the client has this very file; weak and strong tags are alike here (RFC 9110, 13.1.2)."""
    return tags.strip() == "*" or entry.etag in (tag.strip().removeprefix("W/") for tag in tags.split(","))


def _range(request: Request, entry: Entry) -> tuple[int, int] | None:
    """Return the first byte wanted and the one after the last; `None` for the whole file.

    Several ranges at once, other units and nonsense get the whole file, as RFC 9110, 14.2, leaves it to a server. The
    second is not beyond the first where nothing is there.
    """
    if request.method != "GET":
        return None
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if not match or request.headers.get("if-range", entry.etag) != entry.etag:
        return None
    size, (first, last) = len(entry.body), match.groups()
    if not first:
        return (max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _refuse(status: int, words: str, request: Request, *further: tuple[str, str]) -> Answer:
    told = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"), *further]
    return _make(status, told, f"{words}\n".encode(), request)


def _make(status: int, told: list[tuple[str, str]], body: bytes | memoryview, request: Request) -> Answer:
    def lines() -> Iterator[str]:
        yield f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
        yield f"Date: {formatdate(usegmt=True)}"
        yield from (f"{name}: {value}" for name, value in (*told, *SECURITY_HEADERS))
        if status != 304:
            yield f"Content-Length: {len(body)}"
        if request.closes:
            yield "Connection: close"

    sent = body if request.method == "GET" else b""
    return Answer("\r\n".join([*lines(), "\r\n"]).encode("latin-1"), memoryview(sent), request.closes)
