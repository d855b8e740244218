"""The certificate for https, without which a phone's browser gives the page no camera.

This machine signs one for itself; one that the user has, browsers trust by themselves, and keep the page for use
without a network.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.files import replacing

_DAYS = 397  # browsers take no longer ones
_SPARE = datetime.timedelta(days=7)  # it shall not expire in the middle of a demo
_LATE = datetime.timedelta(days=1)  # a phone's clock may be behind


@dataclass(frozen=True)
class Certificate:
    """What a server shows to be who it says it is.

    Attributes:
        path: PEM file of the certificate.
        names: addresses and names that it is good for.
        fingerprint: SHA-256 of the certificate, as browsers show it.
        made: whether it is a new one.
        given: whether it came from the user, and not from this machine.
        key: PEM file of its private key; `None` if that is in `path` as well.
    """

    path: Path
    names: tuple[str, ...]
    fingerprint: str
    made: bool = False
    given: bool = False
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return what a server needs to speak TLS.

        Raises:
            DistillError: the file cannot be read.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.path, self.key)
        except OSError as error:
            raise DistillError(f"{self.path}: cannot be used ({error.strerror or error})") from error
        return context


def own_certificate(folder: Path, names: Sequence[str]) -> Certificate:
    """Return the certificate for these names: the one that is there, or a new one.

    Each set of names has a file of its own, so that at home and at work the phone meets the one it knows.

    Args:
        folder: where it is kept.
        names: addresses and names that it has to be good for.

    Raises:
        RequestError: a name cannot be in a certificate.
        DistillError: the disk cannot be written.
    """
    names = sorted({_as_kept(name) for name in names})
    key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    path = folder / f"certificate-{key}.pem"
    known = _still_good(path, names)
    return Certificate(path, tuple(names), fingerprint(known or _make(path, names)), made=known is None)


def _as_kept(name: str) -> str:
    """Return an address or name as a certificate gives it back."""
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))  # a zone means something to this machine alone
    except ValueError:
        return name.lower()


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate as browsers show it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _still_good(path: Path, names: Sequence[str]) -> x509.Certificate | None:
    """Return the certificate in `path`; `None` if there is none, or it is not to be used any longer."""
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            return None  # others may have read the key
        data = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(data)
        private = serialization.load_pem_private_key(data, None)
    except (OSError, ValueError, TypeError):
        return None  # not there, or damaged: a new one takes its place
    now = datetime.datetime.now(datetime.timezone.utc)
    in_time = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _SPARE
    same_key = private.public_key() == certificate.public_key()
    return certificate if in_time and same_key and names_of(certificate) == set(names) else None


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the addresses and names that a certificate is good for."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return set()
    return {str(one.value) for one in alternatives}


def _make(path: Path, names: Sequence[str]) -> x509.Certificate:

    private = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(private, names)
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DistillError(f"{path.parent}: cannot be made ({error.strerror})") from error
    with replacing(path) as partial:
        partial.unlink(missing_ok=True)
        # Closed to others from its first byte on, not only when it is finished.
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
    return certificate


def _signed(private: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> x509.Certificate:

    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "yolo-distill serve")])
    public = private.public_key()
    extensions = [
        (x509.SubjectAlternativeName([_alternative(name) for name in names]), False),
        # Not an authority: whoever trusts it trusts this server, and nothing that its key could sign.
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(True, *[False] * 8), True),  # for digital signatures alone
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public), False),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LATE)
        .not_valid_after(now + datetime.timedelta(days=_DAYS) - _LATE)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(private, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise RequestError(f"names={name}: cannot stand in a certificate; write it in ASCII (xn--...)") from error


def given_certificate(path: Path, key: Path | None) -> Certificate:
    """Return a certificate from files, as mkcert and Let's Encrypt write them.

    Args:
        path: PEM file of the certificate, with those of its issuers behind it if it needs them.
        key: PEM file of the private key; `None` if it is in `path`.

    Raises:
        RequestError: a file cannot be read, the two do not belong together, the key has a passphrase, or the
            certificate has expired.
    """
    try:
        leaf = x509.load_pem_x509_certificates(_read("certificate", path))[0]
    except ValueError as error:
        raise RequestError(f"certificate={path}: holds no certificate in PEM form (-----BEGIN CERTIFICATE)") from error
    until = leaf.not_valid_after_utc
    if until <= datetime.datetime.now(datetime.timezone.utc):
        raise RequestError(f"certificate={path}: has expired on {until:%Y-%m-%d}; give a renewed one")
    said = f"key={key}" if key else f"certificate={path}"
    try:
        private = serialization.load_pem_private_key(_read("key", key) if key else path.read_bytes(), None)
    except TypeError as error:
        raise RequestError(f"{said}: its key is locked with a passphrase; give one without") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = "" if key else "; name its file with key="
        raise RequestError(f"{said}: holds no private key in PEM form{hint}") from error
    if private.public_key() != leaf.public_key():
        raise RequestError(f"{said}: its key is not that of the certificate; give the one that was made with it")
    return Certificate(path, tuple(sorted(names_of(leaf))), fingerprint(leaf), given=True, key=key)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"{setting}={path}: cannot be read ({error.strerror})") from error
