"""A certificate from the user: an authority of the test signs what mkcert or Let's Encrypt would."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from made_site import APP, made_site, running
from test_serve_https import visit

from yolo_distill.errors import RequestError
from yolo_distill.serve.certificate import Certificate, given_certificate
from yolo_distill.serve.run import _good_for

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


def signed(subject: str, public, issuer: str, private, *, names=(), days: float = 30, authority: bool = False):
    """Return a certificate that `private` signed."""
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 90 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key()), critical=False)
    )
    if authority:
        usage = x509.KeyUsage(*[False] * 5, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
        builder = builder.add_extension(usage, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(private, hashes.SHA256())


def key_text(private, secret: bytes | None = None) -> bytes:
    hidden = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    return private.private_bytes(PEM, serialization.PrivateFormat.PKCS8, hidden)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with an authority, a certificate that it signed by way of an intermediate one, and what is wrong."""
    folder = tmp_path_factory.mktemp("certificates")
    root, middle, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    names = [x509.DNSName("demo.example.org"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    of_root = signed("root", root.public_key(), "root", root, authority=True)
    of_middle = signed("middle", middle.public_key(), "root", root, authority=True)
    of_leaf = signed("leaf", leaf.public_key(), "middle", middle, names=names)
    gone = signed("leaf", leaf.public_key(), "middle", middle, names=names, days=-1)
    chain = of_leaf.public_bytes(PEM) + of_middle.public_bytes(PEM)
    contents = {
        "root.pem": of_root.public_bytes(PEM),
        "fullchain.pem": chain,
        "key.pem": key_text(leaf),
        "both.pem": key_text(leaf) + chain,
        "expired.pem": gone.public_bytes(PEM),
        "locked.pem": key_text(leaf, b"secret"),
        "other.pem": key_text(rsa.generate_private_key(65537, 2048)),
        "nonsense.pem": b"nonsense",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(("file", "key"), [("fullchain.pem", "key.pem"), ("both.pem", None)])
def test_a_browser_that_knows_the_authority_asks_nothing(tmp_path, files, file, key):
    certificate = given_certificate(files / file, files / key if key else None)
    assert certificate.names == ("127.0.0.1", "demo.example.org")
    assert certificate.given
    with running(made_site(tmp_path), certificate.context()) as server:
        for name in certificate.names:
            assert visit(server, name, files / "root.pem") == (200, APP["index.html"])
        with pytest.raises(ssl.SSLCertVerificationError):
            visit(server, "localhost", files / "root.pem")


@pytest.mark.parametrize(
    ("file", "key", "said"),
    [
        ("missing.pem", None, "certificate=missing.pem: cannot be read (No such file or directory)"),
        ("fullchain.pem", "missing.pem", "key=missing.pem: cannot be read (No such file or directory)"),
        ("nonsense.pem", "key.pem", "certificate=nonsense.pem: holds no certificate in PEM form"),
        ("key.pem", "key.pem", "certificate=key.pem: holds no certificate in PEM form"),
        ("expired.pem", "key.pem", "certificate=expired.pem: has expired on "),
        ("fullchain.pem", None, "certificate=fullchain.pem: holds no private key in PEM form; name its file with key="),
        ("fullchain.pem", "nonsense.pem", "key=nonsense.pem: holds no private key in PEM form"),
        ("fullchain.pem", "locked.pem", "key=locked.pem: its key is locked with a passphrase; give one without"),
        ("fullchain.pem", "other.pem", "key=other.pem: its key is not that of the certificate"),
        (".", None, "certificate=.: cannot be read"),
    ],
)
def test_what_is_wrong_is_said(files, monkeypatch, file, key, said):
    monkeypatch.chdir(files)
    with pytest.raises(RequestError) as caught:
        given_certificate(Path(file), Path(key) if key else None)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("names", "others", "expected"),
    [
        (
            ("10.0.0.1", "192.168.1.7", "demo.example.org", "localhost"),
            ["192.168.1.7"],
            ["demo.example.org", "192.168.1.7"],
        ),
        (("*.example.org", "localhost"), ["192.168.1.7"], ["192.168.1.7"]),
        (("demo.example.org",), [], ["demo.example.org"]),
    ],
)
def test_where_others_find_it(names, others, expected):
    assert _good_for(Certificate(Path("given.pem"), names, "AB", given=True), others) == expected
