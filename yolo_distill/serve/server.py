"""The server: binds, accepts as many as the limits allow, and hands them to uvicorn.

Uvicorn does not accept by itself here, because it knows no limit for one address, none for clients that never finish a
handshake or a head, and none for those that do not take their answer.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from h11 import LocalProtocolError
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from yolo_distill.errors import RequestError
from yolo_distill.serve.app import make_app
from yolo_distill.serve.connection_limit import STEP_SECONDS, Connection, Connections
from yolo_distill.serve.routes import Table
from yolo_distill.serve.security import SECURITY_HEADERS, Names

_MOST_HEAD = 32768  # bytes of a request's line and headers
_AT_ONCE = 100  # newcomers before the others have a turn; who comes is not to wait for those who download
_SEND_BUFFER = 1 << 18  # bytes; by itself the system lets it grow to megabytes for each client that does not read
_CHECK_SECONDS = 1.0  # between two searches for those that are late
_TLS_HANDSHAKE = b"\x16"  # the first byte of every TLS connection, and of no HTTP request
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NOT_PERMITTED = "port={port}: this system does not let you have it; give one above 1023"
_BIND_ERRORS = {
    errno.EADDRINUSE: "port={port}: another program has it; give another one, or port=0 for any that is free",
    errno.EACCES: _NOT_PERMITTED,
    errno.EPERM: _NOT_PERMITTED,
    errno.EADDRNOTAVAIL: "host={host}: is no address of this machine; 0.0.0.0 stands for all that it has",
}


class Server:
    """Serves a table until `shutdown` or Ctrl-C.

    Attributes:
        host: address that it is bound to.
        port: port that it is bound to.
        connections: who is connected.
    """

    def __init__(self, host: str, port: int, table: Callable[[], Table], *, names: Names) -> None:
        """Bind.

        Args:
            host: address, or a name of this machine.
            port: 0 for any that is free.
            table: what is served now; asked anew for every request.
            names: what the header Host may say.

        Raises:
            RequestError: host or port cannot be had.
        """
        self.connections = Connections()
        self._table, self._names = table, names
        self._tls: ssl.SSLContext | None = None
        self._app = make_app(table, names, https=False)
        self._tasks: set[asyncio.Task[None]] = set()
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._answer,
                http="h11",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="critical",  # the app says by itself what goes wrong
                access_log=False,
                headers=list(SECURITY_HEADERS),
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=int(STEP_SECONDS),
                timeout_graceful_shutdown=0,
                h11_max_incomplete_event_size=_MOST_HEAD,
            )
        )
        self._socket = _bound(host, port)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)  # of those that it accepts as well
        self.host, self.port = self._socket.getsockname()[:2]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """Speak https from now on; whoever comes with http is sent there."""
        self._tls, self._app = context, make_app(self._table, self._names, https=True)

    def serve_forever(self) -> None:
        """Serve until `shutdown`, or, in the main thread, until Ctrl-C, which ends as `KeyboardInterrupt`."""
        # Not Windows' own kind of loop, which cannot wait for a socket without reading from it.
        loop = asyncio.SelectorEventLoop()
        try:
            loop.run_until_complete(self._serve())
        finally:
            loop.close()

    def shutdown(self) -> None:
        """End `serve_forever`, from any thread; connections that are open are dropped."""
        self._uvicorn.should_exit = True

    async def _serve(self) -> None:
        self._socket.setblocking(False)
        tasks = [asyncio.create_task(one) for one in (self._accept(), self._drop_late())]
        for task in tasks:
            task.add_done_callback(lambda _: self.shutdown())  # if it fails, nobody is served any more
        try:
            await self._uvicorn.serve(sockets=[])
        finally:
            for connection in self.connections:
                connection.drop()
            for task in (*tasks, *self._tasks):
                task.cancel()
            ended = await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _drop_late(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            self.connections.drop_late()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for number in itertools.count(1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # those that are connected have their turn, however many come
            try:
                sock, address = await loop.sock_accept(self._socket)
            except OSError as error:  # the newcomer has gone already, or the system has no room for one more
                await asyncio.sleep(0.1 if error.errno in _NO_ROOM else 0)
                continue
            connection = Connection(sock, str(address[0]))
            if self.connections.enter(connection):
                task = loop.create_task(self._welcome(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                with sock, suppress(OSError):
                    if self._tls is None:
                        sock.send(_too_many())

    async def _welcome(self, connection: Connection) -> None:
        """Shake hands, and hand a connection to uvicorn."""
        sock, tls = connection.socket, self._tls
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                first = await _first_byte(sock)
                tls = tls if first == _TLS_HANDSHAKE else None  # somebody typed the address without https://
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self._protocol(connection), sock, ssl=tls)
        except OSError:
            pass  # it went away, or does not speak TLS: nobody is left to answer
        finally:
            if connection.transport is None:  # nobody else will close it
                self.connections.leave(connection)
                sock.close()

    def _protocol(self, connection: Connection) -> _Protocol:
        return _Protocol(
            connection,
            self.connections,
            config=self._uvicorn.config,
            server_state=self._uvicorn.server_state,
            app_state={"connection": connection},
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["connection"]

        async def send_in_time(message: Message) -> None:
            connection.step()
            if connection.transport and not connection.transport.is_closing():
                await send(message)
            await asyncio.sleep(0)  # between two pieces the others have their turn

        connection.turn(answered=True)
        try:
            await self._app(scope, receive, send_in_time)
        finally:
            connection.turn(answered=False)


class _Protocol(H11Protocol):
    """Uvicorn's connection, which says when it begins and when it ends."""

    def __init__(self, connection: Connection, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._connection, self._connections = connection, connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._connection.transport = transport
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=1, low=0)  # a piece counts as taken when all of it has left

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except LocalProtocolError:  # nonsense in the middle of an answer, which uvicorn would refuse with a second one
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self._connection)
        super().connection_lost(exc)


async def _first_byte(sock: socket.socket) -> bytes:
    """Return the first byte that comes, and leave it where it is; nothing if the other side has gone."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(sock)
    return sock.recv(1, socket.MSG_PEEK)


def _too_many() -> bytes:
    body = "too many are connected; try again in a moment\n"
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **dict(SECURITY_HEADERS)}
    headers |= {"Content-Length": str(len(body)), "Connection": "close"}
    lines = ["HTTP/1.1 503 Service Unavailable", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", body]).encode()


def _bound(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"host={host}: is no address ({reason}); give 127.0.0.1, 0.0.0.0 or one of its own"
        ) from error
    # `localhost` is ::1 first on some machines, and 127.0.0.1 is what people then type.
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # `::` takes visitors with IPv4 as well
    try:
        return socket.create_server(address, family=family, backlog=256, dualstack_ipv6=both)
    except OSError as error:
        text = _BIND_ERRORS.get(
            error.errno or 0, f"host={{host}} port={{port}}: cannot be had ({error.strerror or error})"
        )
        raise RequestError(text.format(host=host, port=port)) from error
