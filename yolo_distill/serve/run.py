"""Serves a detector, or writes what would be served to a folder."""

from __future__ import annotations

import importlib.util
import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_distill import paths
from yolo_distill.errors import missing_extra
from yolo_distill.serve import addresses
from yolo_distill.serve.banner import banner, qr_code
from yolo_distill.serve.build import check_folder, how_to_host, write_folder
from yolo_distill.serve.folders import private_folder
from yolo_distill.serve.model import Model, read_model, signature
from yolo_distill.serve.ort_files import read_ort
from yolo_distill.serve.security import Names
from yolo_distill.serve.site import Site, Watch, read_app

if TYPE_CHECKING:
    from yolo_distill.serve.certificate import Certificate
    from yolo_distill.serve.server import Server

#: What serving and finding onnxruntime-web need beside the base install.
_NEEDS = ("starlette", "uvicorn", "platformdirs")


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        model: the exported file.
        host: address or name to bind to.
        port: port to bind to; 0 for any that is free.
        https: whether to speak TLS.
        certificate: PEM file for TLS, from the user; `None` for one of this machine's own.
        key: PEM file of its private key; `None` if that is in `certificate`.
        names: further names under which it is reached.
        ort: folder of onnxruntime-web; `None` to find or fetch it.
        build: folder to write instead of serving.
    """

    model: Path
    host: str = "127.0.0.1"
    port: int = 8000
    https: bool = False
    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()
    ort: Path | None = None
    build: Path | None = None


def serve(request: Request) -> None:
    """Serve until Ctrl-C, or write the folder.

    Raises:
        RequestError: something in the request has to change, or the extra is not installed.
        DistillError: onnxruntime-web cannot be had, or the disk cannot be written.
    """
    given = _given_certificate(request)
    if request.build is not None:
        check_folder(request.build)
    read = signature(request.model)  # before: what follows may take minutes, and the file change meanwhile
    model = read_model(request.model)
    _check_installed("serve", *_NEEDS)
    if request.build is not None:
        table = _site(request, model).table()
        write_folder(table, request.build)
        say(*how_to_host(table, request.build))
        return
    names = Names(addresses.machine_name(), (request.host, *request.names, *(given.names if given else ())))
    from yolo_distill.serve.server import Server

    # Bound before anything is fetched or made, so that a port that is taken is said at once and leaves nothing behind.
    with Server(request.host, request.port, lambda: site.table(), names=names) as server:
        others = _others(server.host)
        certificate = (given or _own_certificate(request, server.host, others)) if request.https else None
        if certificate is not None:
            server.speak_tls(certificate.context())
        site = _site(request, model)
        _say_where(server, model, [*request.names, *(_good_for(given, others) if given else others)], certificate)
        watch = Watch(request.model, read, site, say)
        watch.start()
        try:
            server.serve_forever()
        finally:
            watch.stop()


def _say_where(server: Server, model: Model, hosts: list[str], certificate: Certificate | None) -> None:
    """Say at which addresses the page is, and which of `hosts` lead others there."""
    bound = ipaddress.ip_address(server.host)
    scheme, alone = "https" if certificate else "http", bound.is_loopback
    own = ["localhost"] if bound.is_unspecified else [server.host] if alone else []
    here, elsewhere = (
        [addresses.link(host, server.port, scheme) for host in dict.fromkeys(some)]
        for some in (own, [] if alone else hosts)
    )
    say(*banner(f"{model.name} ({model.size})", here, elsewhere, certificate, alone=alone))
    if elsewhere and (code := qr_code(elsewhere[0], sys.stdout)):
        say(code)


def _check_installed(wish: str, *packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, wish, "serve")


def _site(request: Request, model: Model) -> Site:
    web = paths.export_dir() / "web"
    return Site(read_app(web), read_ort(web, request.ort, say), model)


def say(*lines: str) -> None:
    """Print lines at once, whoever reads them."""
    print(*lines, sep="\n", flush=True)


def _others(host: str) -> list[str]:
    """Return the addresses under which other machines reach a server that is bound to `host`."""
    bound = ipaddress.ip_address(host)
    if bound.is_unspecified:
        return addresses.own_addresses(v6=bound.version == 6)
    return [] if bound.is_loopback else [host]


def _good_for(certificate: Certificate, others: list[str]) -> list[str]:
    """Return where others reach this machine without a question: names of the certificate, and addresses that it has.

    Where it is good for none of them, all addresses are returned: the page is there, and the browser asks.
    """
    own = {"localhost", *others}
    names = [one for one in certificate.names if not (one in own or one.startswith("*") or addresses.is_address(one))]
    return names + [one for one in others if one in certificate.names] or others


def _given_certificate(request: Request) -> Certificate | None:
    if request.certificate is None:
        return None
    _check_installed(f"certificate={request.certificate}", "cryptography")
    from yolo_distill.serve.certificate import given_certificate

    return given_certificate(request.certificate, request.key)


def _own_certificate(request: Request, bound: str, others: list[str]) -> Certificate:
    _check_installed("https=true", "cryptography")
    from yolo_distill.serve.certificate import own_certificate

    machine = addresses.machine_name()
    names = {"localhost", "127.0.0.1", "::1", *others, *request.names}
    # A name in other letters stands in no certificate as it is, and the addresses do without it.
    names |= {machine, f"{machine}.local"} if machine.isascii() and machine else set()
    if not ipaddress.ip_address(bound).is_unspecified:
        names |= {bound, request.host}
    return own_certificate(private_folder() / "serve", sorted(names))
