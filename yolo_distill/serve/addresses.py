"""Under which addresses and names others reach this machine."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress

# Where a packet would go: the open network (a range for documentation), and the three private ones, of which a VPN may
# have one. UDP sends nothing when it connects; the system only says from which of its addresses it would.
_TOWARDS = ("192.0.2.1", "10.255.255.254", "172.31.255.254", "192.168.255.254")
_TOWARDS_V6 = ("2001:db8::1",)
_SIOCGIFADDR = 0x8915 if sys.platform == "linux" else 0xC0206921  # "address of an interface", here and on a Mac


def own_addresses(*, v6: bool = False) -> list[str]:
    """Return this machine's addresses in its networks, the one towards the open network first; no loopback."""
    found: list[str] = []
    for family, targets in ((socket.AF_INET, _TOWARDS), *(((socket.AF_INET6, _TOWARDS_V6),) if v6 else ())):
        for target in targets:
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.connect((target, 9))
                    found.append(probe.getsockname()[0])
            except OSError:
                continue  # no way there: no network of this kind
    # A network without a way out, say a hotspot, has no way there either, but an address of this machine.
    found = found or [*_of_interfaces(), *_of_its_name()]
    return [one for one in dict.fromkeys(found) if not ipaddress.ip_address(one).is_loopback]


def _of_interfaces() -> Iterator[str]:
    """Yield the IPv4 address of each interface, where the system gives them in this way."""
    if sys.platform == "win32":  # its name stands for all of its addresses there
        return
    import fcntl

    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):  # it may have none
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            yield socket.inet_ntoa(answer[20:24])


def _of_its_name() -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    except OSError:
        return []


def machine_name() -> str:
    """Return the machine's name in lower case, without the name server's ending."""
    return socket.gethostname().lower().partition(".")[0]


def is_address(host: str) -> bool:
    """Return whether this is an address in figures, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def link(host: str, port: int, scheme: str) -> str:
    """Return the address of a page."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"
