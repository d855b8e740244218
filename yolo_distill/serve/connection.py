"""One connection, in a thread of its own: handshake, requests, answers, each within its time."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

from yolo_distill.serve.answer import Answer, answer, redirection, refusal
from yolo_distill.serve.request_head import Refused, Request, end_of_head, parse_head
from yolo_distill.serve.security import Names
from yolo_distill.serve.table import Table

_RECEIVE, _SEND = 16384, 65536  # bytes at a time
_TLS_HANDSHAKE = b"\x16"  # the first byte of every TLS connection, and of no HTTP request
_LINGER, _LINGER_BYTES = 1.0, 1 << 20


class Connection:
    """Answers the requests of one client, one after another.

    Attributes:
        peer: the address it comes from.
        since: when it began to wait for its next request, or to be answered (monotonic, in seconds).
        answered: whether it is being answered.
        head_seconds: within which a handshake, and a whole head, has to arrive; an idle client is let go after it.
        send_seconds: within which the client has to take each 64 KiB.
    """

    head_seconds = 15.0
    send_seconds = 20.0

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        table: Callable[[], Table],
        names: Names,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Take over a socket.

        Args:
            sock: just accepted.
            peer: the address it comes from.
            table: what is served now; asked anew for every request.
            names: what the header Host may say.
            tls: context of a server that speaks https.
        """
        self.peer = peer
        self.since, self.answered = time.monotonic(), False
        self._socket = sock
        self._table, self._names, self._tls = table, names, tls
        self._redirects = False
        self._received = bytearray()

    def run(self) -> None:
        """Answer until one side has had enough; whatever the client does ends at most this connection."""
        try:
            self._shake_hands()
            while self._serve_one():
                self._turn(answered=False)
        except OSError:
            pass  # it went away, was too slow, or does not speak TLS: nobody is left to be told
        finally:
            self._socket.close()

    def drop(self) -> None:
        """End the connection, from another thread: the one that waits for it sees its end."""
        with suppress(OSError):  # it may have ended by itself
            # Not SSLSocket's own shutdown, which takes the encryption off first.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _turn(self, *, answered: bool) -> None:
        self.since, self.answered = time.monotonic(), answered

    def _shake_hands(self) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return
        self._socket.settimeout(self.head_seconds)
        if self._socket.recv(1, socket.MSG_PEEK) != _TLS_HANDSHAKE:
            self._redirects = True  # somebody typed the address without https://
            return
        self._socket = self._tls.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket.settimeout(self.head_seconds)
        self._socket.do_handshake()

    def _serve_one(self) -> bool:
        """Answer one request; return whether another one may follow."""
        head_only = False
        try:
            request = self._next_request()
            if request is None:
                return False
            self._turn(answered=True)
            head_only = request.method == "HEAD"
            reply = self._redirect(request) if self._redirects else self._reply(request)
        except Refused as refused:
            self._turn(answered=True)
            reply = refusal(refused, head_only=head_only)
        self._send(reply)
        if reply.closes:
            self._linger()
        return not reply.closes

    def _reply(self, request: Request) -> Answer:
        host = request.headers.get("host", "")
        if host and not self._names.allow(host):
            name = host.partition(":")[0][:80]
            raise Refused(421, f"this server does not know itself as {name}; if that is right, start it with "
                               f"names={name}", closes=request.closes)  # fmt: skip
        return answer(self._table(), request)

    def _redirect(self, request: Request) -> Answer:
        host = request.headers.get("host", "")
        if not self._names.allow(host):  # anyone may fill it; then it is where the client went, as this machine sees it
            address, port = self._socket.getsockname()[:2]
            address = address.removeprefix("::ffff:")  # an IPv4 visitor of a socket that takes both kinds
            host = f"{f'[{address}]' if ':' in address else address}:{port}"
        return redirection(f"https://{host}/")

    def _next_request(self) -> Request | None:
        """Return the next request; `None` if the client has gone, or said nothing for too long."""
        deadline = time.monotonic() + self.head_seconds
        while True:
            while self._received[:2] == b"\r\n":  # RFC 9112, 2.2: some send an empty line too many
                del self._received[:2]
            if self._received and self._received != b"\r" and (end := end_of_head(self._received)) is not None:
                head = bytes(self._received[:end])
                del self._received[:end]
                return parse_head(head)
            try:
                more = self._receive(deadline)
            except TimeoutError:
                if self._received:
                    raise Refused(408, f"the request took more than {self.head_seconds:g} seconds") from None
                return None
            if not more:
                return None
            self._received += more

    def _receive(self, deadline: float) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket.recv(_RECEIVE)

    def _send(self, reply: Answer) -> None:
        self._socket.settimeout(self.send_seconds)
        first = _SEND - min(len(reply.head), _SEND)
        self._socket.sendall(reply.head + reply.body[:first])
        for start in range(first, len(reply.body), _SEND):
            self._socket.sendall(reply.body[start : start + _SEND])

    def _linger(self) -> None:
        """Take in for a moment what the client still sends: closing at once would tear our answer from its hands."""
        deadline, taken = time.monotonic() + _LINGER, 0
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            while taken < _LINGER_BYTES and (more := self._receive(deadline)):
                taken += len(more)
        except OSError:
            pass  # it has gone, with our answer or without it
