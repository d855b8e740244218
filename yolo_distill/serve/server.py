"""The server: binds, accepts, and gives each connection a thread.

It stands on the standard library's socketserver, with threads: a demo or a factory's tablet has a handful of visitors,
and the base install brings no web framework. http.server on top of it is not used: it takes HTTP/0.9 and headers of
megabytes, its time limits are for each read and not for a request, and it serves a folder where this serves a table.
"""

from __future__ import annotations

import errno
import os
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.serve.answer import refusal
from yolo_distill.serve.connection import Connection
from yolo_distill.serve.places import Places
from yolo_distill.serve.request_head import Refused
from yolo_distill.serve.security import Names
from yolo_distill.serve.table import Table

_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Server(socketserver.TCPServer):
    """Serves a table until `shutdown` or Ctrl-C.

    Attributes:
        host: address that it is bound to.
        port: port that it is bound to.
        places: who is connected.
    """

    # On Windows this would let two programs share a port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 256

    def __init__(
        self,
        host: str,
        port: int,
        table: Callable[[], Table],
        *,
        names: Names,
    ) -> None:
        """Bind.

        Args:
            host: address, or a name of this machine.
            port: 0 for any that is free.
            table: what is served now; asked anew for every request.
            names: what the header Host may say.

        Raises:
            RequestError: host or port cannot be had.
        """
        self.address_family, address = _resolve(host, port)
        self.places = Places()
        self._tls: ssl.SSLContext | None = None
        self._table, self._names = table, names
        try:
            # Connections stand in for the handler. Its type says (address, port); those of IPv6 have four parts.
            super().__init__(address, socketserver.BaseRequestHandler)  # type: ignore[arg-type]
        except OSError as error:
            raise _cannot_bind(host, port, error) from error
        self.host, self.port = self.socket.getsockname()[:2]

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """Speak https from now on; whoever comes with http is sent there."""
        self._tls = context

    def server_bind(self) -> None:
        """Bind; `::` takes visitors with IPv4 addresses as well."""
        if self.address_family == socket.AF_INET6 and socket.has_dualstack_ipv6():
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept; where the system has no room for one more, the loop does not run hot."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _NO_ROOM:
                time.sleep(0.1)
            raise

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Hand a connection to a thread, or turn it away; nothing here waits for the client."""
        assert isinstance(request, socket.socket)
        assert isinstance(client_address, tuple)
        connection = Connection(request, str(client_address[0]), self._table, self._names, self._tls)
        if self.places.enter(connection):
            threading.Thread(target=self._serve, args=(connection,), name="visitor", daemon=True).start()
            return
        if self._tls is None:
            request.setblocking(False)
            reply = refusal(Refused(503, "too many are connected; try again in a moment"))
            request.send(reply.head + reply.body)
        request.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say in one line what went wrong with a newcomer, and go on; one that has gone already is no news."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _complain(error)

    def _serve(self, connection: Connection) -> None:
        try:
            connection.run()
        except Exception as error:  # ours, not the client's: the others are served all the same
            _complain(error)
        finally:
            self.places.leave(connection)


def _complain(error: BaseException | None) -> None:
    text = " ".join(str(error).split()) or "no message"
    print(f"yolo-distill: a request failed: {type(error).__name__}: {text}", file=sys.stderr, flush=True)


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"host={host}: is no address ({reason}); give 127.0.0.1, 0.0.0.0 or one of its own"
        ) from error
    # `localhost` is ::1 first on some machines, and 127.0.0.1 is what people then type.
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def _cannot_bind(host: str, port: int, error: OSError) -> DistillError:
    if error.errno == errno.EADDRINUSE:
        return RequestError(f"port={port}: another program has it; give another one, or port=0 for any that is free")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return RequestError(f"port={port}: this system does not let you have it; give one above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return RequestError(f"host={host}: is no address of this machine; 0.0.0.0 stands for all that it has")
    return RequestError(f"host={host} port={port}: cannot be had ({error.strerror or error})")
