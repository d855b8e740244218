"""What the terminal says when the server is up: where it is, who reaches it, and a QR code for the phone."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from yolo_distill.serve.connection_limit import MOST, MOST_OF_ONE

if TYPE_CHECKING:
    from yolo_distill.serve.certificate import Certificate


def qr_code(address: str, out: TextIO) -> str | None:
    """Return the QR code of an address as text, or how to get one; `None` where the terminal cannot show it."""
    try:
        if not out.isatty():
            return None
        "█▀▄".encode(out.encoding or "ascii")
    except UnicodeEncodeError:
        return None
    try:
        import segno
    except ModuleNotFoundError:
        return "for a QR code: pip install 'yolo-distill[serve]'"
    text = io.StringIO()
    code = segno.make(address, error="l", micro=False)
    code.terminal(text, compact=True, border=2)
    width = code.symbol_size(border=2)[0]
    return text.getvalue().rstrip("\n") if width <= shutil.get_terminal_size().columns else None


def banner(
    model: str, here: Sequence[str], elsewhere: Sequence[str], certificate: Certificate | None, *, alone: bool
) -> list[str]:
    """Return the lines about a server that is up.

    Args:
        model: its name and size.
        here: addresses of the page for this machine.
        elsewhere: those for others in its networks, as far as they are known.
        certificate: with https.
        alone: whether nobody else reaches it.
    """
    lines = [f"{model} is at:", *(f"  {address}" for address in (*here, *elsewhere))]
    if alone:
        lines.append("only this machine reaches it; Ctrl-C ends it. For a phone: host=0.0.0.0 https=true")
    else:
        lines.append("everyone in its networks can open it and take the model along; Ctrl-C ends it")
        lines.append(
            f"it takes {MOST} connections, {MOST_OF_ONE} of one address: somebody with several addresses can take them "
            "all and keep others out"
        )
    if certificate and certificate.given:
        lines.append(f"the certificate is good for: {', '.join(certificate.names) or 'no address at all'}")
    elif certificate:
        once = "" if certificate.made else "unless it knows it already, "
        lines.append(
            f"{once}the browser asks once about the certificate, which this machine made for itself; compare its "
            f"SHA-256 fingerprint: {certificate.fingerprint}"
        )
    elif not alone:
        lines.append("without https=true browsers give a page its camera on this machine only, not on a phone")
    return lines
