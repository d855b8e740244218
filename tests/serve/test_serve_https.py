"""The certificate that a machine makes for itself, and the server that speaks with it."""

from __future__ import annotations

import datetime
import hashlib
import http.client
import os
import re
import ssl
import time
from contextlib import suppress
from pathlib import Path

import pytest
from made_site import APP, connect, get, made_model, made_site, request, running, wait_until_empty

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.serve import certificate as module
from yolo_distill.serve import connection_limit
from yolo_distill.serve.certificate import Certificate, own_certificate

NAMES = ["localhost", "127.0.0.1", "::1", "192.168.1.7", "made.local"]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "private" / "serve"


@pytest.fixture
def certificate(folder) -> Certificate:
    return own_certificate(folder, NAMES)


@pytest.fixture
def secure(site, certificate):
    """Return a server that speaks https."""
    with running(site, certificate.context()) as server:
        yield server


def visit(server, name: str, trusted: Path | None) -> tuple[int, bytes]:
    """Ask for the page as a client that trusts the certificate and checks the name."""
    context = ssl.create_default_context(cafile=trusted)
    with connect(server) as plain, context.wrap_socket(plain, server_hostname=name) as secure:
        secure.sendall(request("/", "Connection: close"))
        response = http.client.HTTPResponse(secure)
        response.begin()
        return response.status, response.read()


def test_a_client_that_trusts_it_checks_the_name(secure, certificate, capfd):
    for name in NAMES:
        assert visit(secure, name, certificate.path) == (200, APP["index.html"])
    with pytest.raises(ssl.SSLCertVerificationError):
        visit(secure, "192.168.1.8", certificate.path)
    with pytest.raises(ssl.SSLCertVerificationError):  # one that does not know it
        visit(secure, "localhost", None)
    assert visit(secure, "localhost", certificate.path)[0] == 200
    assert capfd.readouterr().err == ""


def test_who_forgets_the_s_is_sent_on(secure):
    response, _ = get(secure, "/app.css?x", Host="evil.example.com")
    assert (response.status, response.headers["Location"]) == (307, f"https://127.0.0.1:{secure.port}/")
    response, _ = get(secure, "/", Host=f"demo.example.org:{secure.port}")  # one of its own names
    assert response.headers["Location"] == f"https://demo.example.org:{secure.port}/"


def test_nothing_waits_for_the_answer_to_a_packet(secure, certificate):
    """Systems hold small packets back for some 40 ms unless asked not to; a handshake is made of such."""
    times = []
    for _ in range(20):
        started = time.perf_counter()
        assert visit(secure, "localhost", certificate.path)[0] == 200
        times.append(time.perf_counter() - started)
    assert min(times) < 0.035


def test_who_takes_nothing_is_given_up(tmp_path, certificate, monkeypatch):
    monkeypatch.setattr(connection_limit, "STEP_SECONDS", 0.4)
    model = made_model(b"x" * 30_000_000)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        running(made_site(tmp_path, model), certificate.context()) as server,
        connect(server) as plain,
        context.wrap_socket(plain) as secure,
    ):
        secure.sendall(request(f"/{model.address}"))
        assert secure.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert len(server.connections) == 1
        assert wait_until_empty(server)


def test_handshakes_keep_nobody_waiting(secure, certificate):
    silent = [connect(secure) for _ in range(100)]
    for number, client in enumerate(silent):
        client.sendall(b"\x16\x03\x01\x02"[: number % 5])
    started = time.monotonic()
    assert visit(secure, "localhost", certificate.path)[0] == 200
    assert time.monotonic() - started < 5
    for client in silent:
        with suppress(ConnectionError):  # it made room for another one
            client.sendall(b"\x16nonsense" * 50)
        client.close()
    assert visit(secure, "localhost", certificate.path)[0] == 200


def test_the_fingerprint_is_that_of_the_certificate(certificate):
    der = ssl.PEM_cert_to_DER_cert(re.search("-----BEGIN CERT.*", certificate.path.read_text(), re.DOTALL)[0])
    assert certificate.fingerprint.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert re.fullmatch("([0-9A-F]{2}:){31}[0-9A-F]{2}", certificate.fingerprint)


def test_it_is_made_once_for_the_same_names(folder, certificate):
    again = own_certificate(folder, [*reversed(NAMES), "LocalHost", "0:0:0:0:0:0:0:1"])  # however they are spelled
    elsewhere = own_certificate(folder, [*NAMES, "fe80::1"])
    assert (certificate.made, again.made, elsewhere.made) == (True, False, True)
    assert not own_certificate(folder, [*NAMES, "fe80::1%eth0"]).made
    assert certificate.fingerprint == again.fingerprint == own_certificate(folder, NAMES).fingerprint
    assert elsewhere.fingerprint != certificate.fingerprint
    assert sorted(path.suffix for path in folder.iterdir()) == [".pem", ".pem"]


def test_a_name_that_no_certificate_can_hold(folder):
    with pytest.raises(RequestError, match="names=maschine-ä: cannot stand in a certificate; write it in ASCII"):
        own_certificate(folder, ["maschine-ä"])


@pytest.mark.skipif(os.name != "posix", reason="no modes here")
def test_nobody_else_reads_the_key(folder):
    old = os.umask(0)
    try:
        certificate = own_certificate(folder, NAMES)
    finally:
        os.umask(old)
    assert certificate.path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    certificate.path.chmod(0o644)
    assert own_certificate(folder, NAMES).made  # others may have read it
    assert certificate.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_one_is_made_anew(folder, certificate, damage):
    other = own_certificate(folder, ["localhost"])
    if damage is None:  # the certificate of one, with the key of the other
        key, cert = certificate.path.read_bytes().split(b"-----BEGIN CERT")[0], other.path.read_bytes()
        damage = key + b"-----BEGIN CERT" + cert.split(b"-----BEGIN CERT")[1]
    certificate.path.write_bytes(damage)
    assert own_certificate(folder, NAMES).made
    assert not own_certificate(folder, NAMES).made


def test_one_that_expires_soon_is_made_anew(folder, certificate, monkeypatch):
    class Later(datetime.datetime):
        days = 388.0

        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(days=cls.days)

    monkeypatch.setattr(module.datetime, "datetime", Later)
    assert not own_certificate(folder, NAMES).made
    Later.days = 390.0
    assert own_certificate(folder, NAMES).made


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DistillError, match="cannot be made"):
        own_certificate(tmp_path / "file" / "serve", NAMES)
