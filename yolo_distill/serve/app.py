"""The ASGI app: a request and the table, and which answer comes of them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from yolo_distill.serve.routes import Entry, Table
from yolo_distill.serve.security import Names

_PIECE = 65536  # bytes at a time
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def make_app(table: Callable[[], Table], names: Names, *, https: bool) -> ASGIApp:
    """Return the app.

    Args:
        table: what is served now; asked anew for every request.
        names: what the header Host may say.
        https: whether who comes with http is sent there.
    """

    async def answer(request: Request) -> Response:
        host = request.headers.get("host", "")
        if https and request.scope["scheme"] == "http":
            return _redirection(request.scope, host if names.allow(host) else None)
        if host and not names.allow(host):
            name = host.partition(":")[0][:80]
            raise HTTPException(
                421, f"this server does not know itself as {name}; if that is right, start it with names={name}"
            )
        path = request.scope["raw_path"].decode("ascii")  # as it was sent: nothing is decoded, joined or made shorter
        entry = table().find(path)
        if entry is None and path.startswith("/model/"):
            raise HTTPException(404, "this model is not here any more: another one took its place; load the page again")
        if entry is None:
            raise HTTPException(404, "there is nothing at this address")
        return _entry(entry, request)

    app = Starlette(
        routes=[Route("/{path:path}", answer)],
        exception_handlers={HTTPException: _refusal, Exception: _failure},
    )
    app.router.redirect_slashes = False  # it would send people to whatever the header Host says
    return app


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = {"Cache-Control": "no-store", **(error.headers or {})}
    return PlainTextResponse(f"{error.detail}\n", error.status_code, headers)


def _failure(request: Request, error: Exception) -> Response:
    """Say in one line what went wrong; it is ours, not the client's."""
    text = " ".join(str(error).split()) or "no message"
    print(f"yolo-distill: a request failed: {type(error).__name__}: {text}", file=sys.stderr, flush=True)
    return PlainTextResponse("the server failed\n", 500, {"Cache-Control": "no-store"})


def _redirection(scope: Scope, host: str | None) -> Response:
    if host is None:  # anyone may fill it; then it is where the client went, as this machine sees it
        address, port = scope["server"]
        address = address.removeprefix("::ffff:")  # an IPv4 visitor of a socket that takes both kinds
        host = f"{f'[{address}]' if ':' in address else address}:{port}"
    link = f"https://{host}/"
    headers = {"Location": link, "Cache-Control": "no-store", "Connection": "close"}
    return PlainTextResponse(f"this server speaks https: {link}\n", 307, headers)


def _entry(entry: Entry, request: Request) -> Response:
    headers = {"ETag": entry.etag, "Cache-Control": entry.cache, "Accept-Ranges": "bytes"}
    if _is_known(request.headers.get("if-none-match", ""), entry):
        return Response(status_code=304, headers=headers)
    part, size = _range(request, entry), len(entry.body)
    if part is None:
        return _Pieces(memoryview(entry.body), 200, headers, entry.kind)
    first, end = part
    if first >= size or end <= first:
        # The entity tag stands for the file, which this answer does not hold.
        raise HTTPException(416, f"the file has {size} bytes", {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
    return _Pieces(memoryview(entry.body)[first:end], 206, headers, entry.kind)


class _Pieces(Response):
    """Sends what is in memory a piece at a time, so that a slow client has one piece waiting, and not the file."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body) if scope["method"] == "GET" else 0, _PIECE):
            piece = self.body[start : start + _PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        # By itself: the server takes it when the last piece is out, and so sees who does not take that one.
        await send({"type": "http.response.body", "body": b"", "more_body": False})


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
