# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures of records by Ed25519. On the controller only: the private key stays there, and hosts lack the library."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import traceback
import typing as t

from .._common.errors import DedicatedError
from .plan import Check

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ImportError:
    CRYPTOGRAPHY_ERROR: str | None = traceback.format_exc()
else:
    CRYPTOGRAPHY_ERROR = None

# So that a signature made for anything else with the same key never counts here, nor one of these elsewhere.
PURPOSE = "dedicated.odoo evidence 1\n"
MODES = (0o600, 0o400)
# A private key or a passphrase has hundreds of bytes.
LIMIT = 64 * 1024


class Ed25519:
    """One private key, in memory. Its text is nowhere in messages, results or the record."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.key = key_name(private.public_key())

    def sign(self, digest: str) -> str:
        """The signature over a record's hash, in base64."""
        return base64.b64encode(self._private.sign(message(digest))).decode("ascii")


def message(digest: str) -> bytes:
    """What is signed for a record."""
    return f"{PURPOSE}{digest}".encode("ascii")


def key_name(public: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of SHA-256 over the public key's DER."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:16]


def load(path: str, passphrase_path: str = "") -> Ed25519:
    """The private key of a file (PEM, PKCS #8). Raises DedicatedError."""
    _need_library()
    pem = _secret(path, "signing key")
    passphrase = _secret(passphrase_path, "passphrase of the signing key").rstrip(b"\r\n") if passphrase_path else None
    encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem
    if encrypted and not passphrase:
        raise _refused("signing_key_passphrase", path, "is encrypted, and no passphrase was given")
    if not encrypted and b"-----BEGIN PRIVATE KEY-----" not in pem:
        raise _refused("signing_key_kind", path, "is no private key in PEM (PKCS #8)")
    try:
        # A passphrase for a key that has none is no reason to refuse the key.
        private = serialization.load_pem_private_key(pem, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # What the library says is left out: it read secrets.
        if encrypted:
            raise _refused("signing_key_passphrase", path, "does not open with the passphrase") from None
        raise _refused("signing_key_kind", path, "is no private key in PEM (PKCS #8)") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise _refused("signing_key_kind", path, "is no Ed25519 key")
    return Ed25519(private)


def checker(texts: t.Iterable[str]) -> Check:
    """A judge of signatures who knows these public keys (PEM). Raises DedicatedError."""
    _need_library()
    known: dict[str, Ed25519PublicKey] = {}
    for place, text in enumerate(texts, 1):
        if "PRIVATE KEY" in text:
            raise DedicatedError(
                f"Number {place} of the public keys is a private one; take it away from there, and make another.",
                code="public_key_private",
            )
        try:
            public = serialization.load_pem_public_key(text.strip().encode())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            public = None
        if not isinstance(public, Ed25519PublicKey):
            raise DedicatedError(f"Number {place} of the public keys is no Ed25519 key in PEM.", code="public_key_bad")
        known[key_name(public)] = public

    def check(key: str, digest: str, signature: str) -> bool | None:
        if key not in known:
            return None
        try:
            known[key].verify(base64.b64decode(signature), message(digest))
        except (InvalidSignature, ValueError):
            return False
        return True

    return check


def _need_library() -> None:
    if CRYPTOGRAPHY_ERROR:
        raise DedicatedError(
            "The Python library cryptography is missing on this controller.", code="cryptography_missing"
        )


def _secret(path: str, what: str) -> bytes:
    """A file that nobody but its owner can read: who can read the key can sign whatever he likes."""
    path = os.path.expanduser(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise _refused("signing_key_file", path, f"({what}) is no file")
            mode = stat.S_IMODE(state.st_mode)
            if mode not in MODES:
                raise _refused("signing_key_mode", path, f"({what}) has mode {mode:04o}; it must be 0600 or 0400")
            return os.read(handle, LIMIT)
        finally:
            os.close(handle)
    except OSError as exc:
        raise _refused("signing_key_file", path, f"({what}) cannot be read: {exc.strerror}") from exc


def _refused(code: str, path: str, why: str) -> DedicatedError:
    return DedicatedError(f"{path} {why}.", code=code, path=path)
