"""A certificate that the user has: browsers trust it by themselves, and keep the page for use without a network."""

from __future__ import annotations

import datetime
from pathlib import Path

from yolo_distill.errors import RequestError
from yolo_distill.serve.certificate import Certificate, check_installed, fingerprint, names_of


def given_certificate(path: Path, key: Path | None) -> Certificate:
    """Return a certificate from files, as mkcert and Let's Encrypt write them.

    Args:
        path: PEM file of the certificate, with those of its issuers behind it if it needs them.
        key: PEM file of the private key; `None` if it is in `path`.

    Raises:
        RequestError: a file cannot be read, the two do not belong together, the key has a passphrase, the certificate
            has expired, or the package that reads it is not installed.
    """
    check_installed(f"certificate={path}")
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificates(_read("certificate", path))[0]
    except ValueError as error:
        raise RequestError(f"certificate={path}: holds no certificate in PEM form (-----BEGIN CERTIFICATE)") from error
    until = leaf.not_valid_after_utc
    if until <= datetime.datetime.now(datetime.timezone.utc):
        raise RequestError(f"certificate={path}: has expired on {until:%Y-%m-%d}; give a renewed one")
    said = f"key={key}" if key else f"certificate={path}"
    try:
        private = load_pem_private_key(_read("key", key) if key else path.read_bytes(), None)
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
