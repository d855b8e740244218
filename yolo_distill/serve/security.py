"""The headers that every answer carries, and which names a request may call this server by."""

from __future__ import annotations

import re
from collections.abc import Iterable

from yolo_distill.serve.addresses import is_address

# onnxruntime-web compiles WebAssembly and starts its threads as workers, from its own file or from a blob: address.
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "worker-src": "'self' blob:",
    "connect-src": "'self' blob: data:",
    "img-src": "'self' blob: data:",
    "media-src": "'self' blob: mediastream:",
    "style-src": "'self'",
    "font-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}

#: Same origin only, so that a page may use threads (SharedArrayBuffer), and nobody else's page gets at the model.
SECURITY_HEADERS = (
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Content-Security-Policy", "; ".join(f"{name} {value}" for name, value in _POLICY.items())),
    ("Permissions-Policy", "camera=(self), microphone=(), geolocation=()"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)

# Endings that routers and mDNS give to names of machines at home; nobody can register a name below them.
_PRIVATE = ("local", "lan", "home", "home.arpa", "internal", "localdomain", "fritz.box")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]{1,5})?")


class Names:
    """Who this server is: a page of a stranger whose name was pointed at this machine does not get the model.

    That is DNS rebinding: to the browser such a page and this server are one origin. It needs a name, so that addresses
    in figures always pass.
    """

    def __init__(self, machine: str, further: Iterable[str] = ()) -> None:
        """Take the machine's own name, and further ones under which it is to be reached."""
        first = machine.lower().partition(".")[0]
        own = {machine.lower(), first, *(f"{first}.{ending}" for ending in _PRIVATE)} if first else set()
        self._known = {"localhost", *own, *(name.lower() for name in further)}

    def allow(self, host: str) -> bool:
        """Return whether `host`, the header of a request, names this server."""
        match = _HOST.fullmatch(host)
        if not match:
            return False
        name = match[1].lower().removesuffix(".")
        known = name in self._known or f"*.{name.partition('.')[2]}" in self._known  # as certificates mean the star
        return known or is_address(name.strip("[]")) or name.endswith(".localhost")
