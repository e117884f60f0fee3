# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three places of a rotation: the live pair, the staged one, the former one.

The live directory belongs to the service, so its content is hostile to root; the other two only root can enter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import typing as t

from .._common.errors import DedicatedError
from .._pki import crypto
from .._pki.io import Entry, Files, Owned
from . import parse
from .rotate_plan import NEW, Pair
from .service import HostEyes

CERT, KEY, CA = "cert.pem", "key.pem", "ca.pem"
# The same names as those of the role pki, whose next run sweeps up what an interrupted one left.
NEXT = ".new"


class Places(t.Protocol):
    """What the service needs of the host's files."""

    def live(self) -> Pair: ...

    def staged(self) -> Pair: ...

    def former(self) -> Pair: ...

    def keep(self) -> None:
        """Copy the live pair to the former one."""

    def land(self, pair: str) -> None:
        """Put the staged or the former pair in the place of the live one."""

    def drop(self, pair: str) -> None:
        """Remove the staged or the former pair."""


def _digest(entry: Entry | None) -> str:
    return "" if entry is None else hashlib.sha256(entry.text.encode()).hexdigest()


def _certificate(entry: Entry | None) -> parse.Certificate | None:
    try:
        found = parse.chain(parse.pem("" if entry is None else entry.text))
    except parse.Malformed:
        return None
    return found[0] if found else None


def fits(cert: str, key: str) -> bool:
    """Whether the key in one file is that of the certificate in the other."""
    try:
        # Without a passphrase OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: b"")
    except (OSError, ValueError):
        return False
    return True


class RotateEyes(HostEyes):
    """As for looking; where a host has no openssl, the library judges with which its keys were made."""

    def verify(self, path: str, ca: str) -> tuple[bool | None, str]:
        trusted, why = super().verify(path, ca)
        if trusted is not None or crypto.CRYPTOGRAPHY_ERROR is not None:
            return trusted, why
        leaf = crypto.read_leaf(self.read(path), self.read(ca))
        trusted = leaf is not None and leaf.trusted
        return trusted, "" if trusted else "it did not sign it"


class HostPlaces:
    """The real ones."""

    def __init__(self, live: Files, staged: Files, former: Files) -> None:
        self._live, self._staged, self._former = live, staged, former

    def live(self) -> Pair:
        return self._pair(self._live)

    def staged(self) -> Pair:
        return self._pair(self._staged)

    def former(self) -> Pair:
        return self._pair(self._former)

    def keep(self) -> None:
        key, cert = self._both(self._live)
        for directory in (os.path.dirname(self._former.root), self._former.root):
            Files(directory).make_directory("", Owned(os.geteuid(), os.getegid(), 0o700))
        authority = self._live.read(CA)
        if authority is not None:
            self._former.write(CA, authority.text, authority.owned)
        self._former.write(KEY, key.text, key.owned)
        # Last: by it the former pair is there.
        self._former.write(CERT, cert.text, cert.owned)

    def land(self, pair: str) -> None:
        key, cert = self._both(self._staged if pair == NEW else self._former)
        # All that can fail for lack of space fails before the first of two renames.
        self._live.write(KEY + NEXT, key.text, key.owned)
        self._live.write(CERT + NEXT, cert.text, cert.owned)
        self._live.rename(KEY + NEXT, KEY)
        self._live.rename(CERT + NEXT, CERT)

    def drop(self, pair: str) -> None:
        files = self._staged if pair == NEW else self._former
        # The certificate first: without it the pair is not there.
        for name in (CERT, KEY, CA):
            files.remove(name)
        # The directory above the staged one is somebody else's.
        for directory in (files.root, *([] if pair == NEW else [os.path.dirname(files.root)])):
            with contextlib.suppress(OSError):
                os.rmdir(directory)

    def _both(self, files: Files) -> tuple[Entry, Entry]:
        key, cert = files.read(KEY), files.read(CERT)
        if key is None or cert is None:
            raise DedicatedError(f"{files.root}: certificate or key has just gone. Run it again.", code="files-changed")
        return key, cert

    def _pair(self, files: Files) -> Pair:
        key, cert = files.read(KEY), files.read(CERT)
        fit = key is not None and cert is not None and fits(files.path(CERT), files.path(KEY))
        return Pair(_digest(cert), _digest(key), _digest(files.read(CA)), _certificate(cert), fit)
