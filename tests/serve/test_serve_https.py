"""The certificate that a machine makes for itself, and the server that speaks with it."""

from __future__ import annotations

import datetime
import hashlib
import http.client
import os
import re
import socket
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from made_site import APP, get, made_model, made_site, running, wait_until_empty

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.serve import certificate as module
from yolo_distill.serve import connection_limit
from yolo_distill.serve.certificate import own_certificate

pytest.importorskip("cryptography", reason="of the extra [serve]")
NAMES = ["localhost", "127.0.0.1", "::1", "192.168.1.7", "made.local"]


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "private" / "serve"


def visit(server, name: str, trusted: Path) -> tuple[int, bytes]:
    """Ask for the page as a client that trusts the certificate and checks the name."""
    context = ssl.create_default_context(cafile=str(trusted))
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    with plain, context.wrap_socket(plain, server_hostname=name) as secure:
        secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        response = http.client.HTTPResponse(secure)
        response.begin()
        return response.status, response.read()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "192.168.1.7", "made.local"])
def test_a_client_that_trusts_it_checks_the_name(tmp_path, folder, name):
    certificate = own_certificate(folder, NAMES)
    with running(made_site(tmp_path), certificate.context()) as server:
        assert visit(server, name, certificate.path) == (200, APP["index.html"])
        with pytest.raises(ssl.SSLCertVerificationError):
            visit(server, "192.168.1.8", certificate.path)


def test_a_client_that_does_not_know_it_refuses_and_nobody_minds(tmp_path, folder, capfd):
    with running(made_site(tmp_path), own_certificate(folder, NAMES).context()) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            http.client.HTTPSConnection(
                "127.0.0.1", server.port, context=ssl.create_default_context(), timeout=10
            ).request("GET", "/")
        assert visit(server, "localhost", next(folder.glob("*.pem")))[0] == 200
    assert capfd.readouterr().err == ""


def test_who_forgets_the_s_is_sent_on(tmp_path, folder):
    with running(made_site(tmp_path), own_certificate(folder, NAMES).context()) as server:
        response, _ = get(server, "/app.css?x", Host="evil.example.com")
        assert response.status == 307
        assert response.headers["Location"] == f"https://127.0.0.1:{server.port}/"
        response, _ = get(server, "/", Host=f"demo.example.org:{server.port}")  # one of its own names
        assert response.headers["Location"] == f"https://demo.example.org:{server.port}/"


def test_nothing_waits_for_the_answer_to_a_packet(tmp_path, folder):
    """Systems hold small packets back for some 40 ms unless told otherwise; a handshake is made of such."""
    certificate = own_certificate(folder, NAMES)
    times = []
    with running(made_site(tmp_path), certificate.context()) as server:
        for _ in range(20):
            started = time.perf_counter()
            assert visit(server, "localhost", certificate.path)[0] == 200
            times.append(time.perf_counter() - started)
    assert min(times) < 0.035


def test_who_takes_nothing_is_given_up(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(connection_limit, "STEP_SECONDS", 0.4)
    model = made_model(b"x" * 30_000_000)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        running(made_site(tmp_path, model), own_certificate(folder, NAMES).context()) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        context.wrap_socket(plain) as secure,
    ):
        secure.sendall(f"GET /{model.address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert secure.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert len(server.connections) == 1
        assert wait_until_empty(server)


def test_handshakes_keep_nobody_waiting(tmp_path, folder):
    certificate = own_certificate(folder, NAMES)
    with running(made_site(tmp_path), certificate.context()) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(100)]
        for number, client in enumerate(silent):
            client.sendall(b"\x16\x03\x01\x02"[: number % 5])
        started = time.monotonic()
        assert visit(server, "localhost", certificate.path)[0] == 200
        assert time.monotonic() - started < 5
        for client in silent:
            with suppress(ConnectionError):  # it made room for another one
                client.sendall(b"\x16nonsense" * 50)
            client.close()
        assert visit(server, "localhost", certificate.path)[0] == 200


def test_the_fingerprint_is_that_of_the_certificate(folder):
    certificate = own_certificate(folder, NAMES)
    der = ssl.PEM_cert_to_DER_cert(re.search("-----BEGIN CERT.*", certificate.path.read_text(), re.DOTALL)[0])
    assert certificate.fingerprint.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert re.fullmatch("([0-9A-F]{2}:){31}[0-9A-F]{2}", certificate.fingerprint)


def test_it_is_made_once_for_the_same_names(folder):
    first = own_certificate(folder, NAMES)
    again = own_certificate(folder, [*reversed(NAMES), "localhost"])
    elsewhere = own_certificate(folder, [*NAMES, "10.0.0.1"])
    assert (first.made, again.made, elsewhere.made) == (True, False, True)
    assert first.fingerprint == again.fingerprint == own_certificate(folder, NAMES).fingerprint
    assert elsewhere.fingerprint != first.fingerprint
    assert sorted(path.suffix for path in folder.iterdir()) == [".pem", ".pem"]


def test_however_names_are_spelled(folder):
    first = own_certificate(folder, ["LocalHost", "::1", "fe80::1"])
    again = own_certificate(folder, ["localhost", "0:0:0:0:0:0:0:1", "fe80::1%eth0"])
    assert (first.made, again.made) == (True, False)


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
def test_a_damaged_one_is_made_anew(folder, damage):
    certificate = own_certificate(folder, NAMES)
    other = own_certificate(folder, ["localhost"])
    if damage is None:  # the certificate of one, with the key of the other
        key, cert = certificate.path.read_bytes().split(b"-----BEGIN CERT")[0], other.path.read_bytes()
        damage = key + b"-----BEGIN CERT" + cert.split(b"-----BEGIN CERT")[1]
    certificate.path.write_bytes(damage)
    assert own_certificate(folder, NAMES).made
    assert not own_certificate(folder, NAMES).made


def test_one_that_expires_soon_is_made_anew(folder, monkeypatch):
    own_certificate(folder, NAMES)

    class Later(datetime.datetime):
        days = 388.0

        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(days=cls.days)

    monkeypatch.setattr(module.datetime, "datetime", Later)
    assert not own_certificate(folder, NAMES).made
    Later.days = 390.0
    assert own_certificate(folder, NAMES).made


def test_without_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(RequestError, match=r"https=true needs 'cryptography'.*pip install 'yolo-distill\[serve\]'"):
        own_certificate(folder, NAMES)
    assert not folder.exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DistillError, match="cannot be made"):
        own_certificate(tmp_path / "file" / "serve", NAMES)
