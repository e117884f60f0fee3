# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CA's home on the controller: ca.pem and the encrypted ca.key in one directory.

The key is written before the certificate, so that a CA certificate never exists without its key; a lock file makes
one CA out of many hosts that arrive at once. A certificate that several hosts share lies beside it, shared-NAME.pem:
certificate and key, encrypted with the same passphrase, in one file, so that no half of a pair can exist.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t
from dataclasses import dataclass, field

from .._common.errors import Refuse
from . import crypto
from .io import Entry, Files, Owned
from .plan import (
    BACKDATE,
    ISSUING,
    SETTLED,
    TRUSTING,
    Authority,
    Found,
    Issue,
    Policy,
    bad_input,
    began,
    why_issue,
)

if t.TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA, KEY, LOCK = "ca.pem", "ca.key", "ca.lock"
# Who takes the place of that one, and while that goes on, everybody who is trusted.
NEXT_CA, NEXT_KEY, TRUST = "next-ca.pem", "next-ca.key", "trust.pem"
_SEALED = "-----BEGIN ENCRYPTED PRIVATE KEY-----"


@dataclass(frozen=True)
class Pair:
    """A shared certificate and its key, opened."""

    found: Found
    cert: str = ""
    key: str = field(default="", repr=False)


def _mine(mode: int) -> Owned:
    return Owned(os.geteuid(), os.getegid(), mode)


def _broken(path: str, why: str) -> Refuse:
    return Refuse(
        "ca-broken",
        f"The CA in {os.path.dirname(path)} cannot be used: {path}: {why}",
        "nothing was touched",
        "Restore ca.pem and ca.key from your backup and run it again.",
    )


class Store:
    """Reads, makes and opens the CA below one directory of the controller."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._files = Files(directory)

    def why_not_directory(self) -> Refuse | None:
        if os.path.isabs(self.directory):
            return None
        return bad_input(
            f"The CA's directory '{self.directory}' is not an absolute path on the controller",
            "Set pki_dir (its default needs an inventory that is a file or a directory).",
        )

    def certificate(self) -> str:
        """The PEM text of the CA, empty while there is none."""
        entry = self._read(CA)
        return "" if entry is None else entry.text

    def trust(self) -> str:
        """The PEM text of all that hosts are to trust: the CA, and while it is succeeded, the other one too."""
        entry = self._read(TRUST)
        return self.certificate() if entry is None else entry.text

    def read(self) -> Authority | Refuse | None:
        """The CA as it lies here; None when there is none yet, which an interrupted creation also counts as."""
        path = self._files.path(CA)
        pem = self.certificate()
        if not pem:
            return None
        authority = crypto.read_authority(pem, self.trust())
        if authority is None:
            return _broken(path, "it is not the certificate of an ECDSA CA")
        if self._read(KEY) is None:
            return Refuse(
                "ca-missing",
                f"{path} is there, but its key {self._files.path(KEY)} is not",
                "without the key no certificate can be renewed, so nothing was touched",
                f"Restore ca.key to {self.directory} from your backup and run it again.",
            )
        return authority

    def open(self, passphrase: str) -> EllipticCurvePrivateKey | Refuse:
        """Decrypt the key and see that it belongs to the certificate."""
        path = self._files.path(KEY)
        entry = self._read(KEY)
        try:
            key = crypto.open_ca_key("" if entry is None else entry.text, passphrase)
        except crypto.KeyUnreadable as exc:
            return self._wrong_passphrase() if exc.wrong_passphrase else _broken(path, str(exc))
        pem = self.certificate()
        if pem and not crypto.fits(key, pem):
            return _broken(path, "it is not the key of ca.pem")
        return key

    def create(
        self, common_name: str, passphrase: str, domains: t.Sequence[str] = ()
    ) -> tuple[Authority, bool] | Refuse:
        """Make the CA unless another host's worker has just done it; the flag says who did."""
        if not os.path.isdir(self.directory):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        with self._locked():
            present = self.read()
            if isinstance(present, Refuse):
                return present
            if present is not None:
                return present, False
            if self._read(KEY) is None:
                self._files.write(KEY, crypto.new_ca_key(passphrase), _mine(0o600))
            # A key without a certificate is an interrupted creation: nobody has seen a certificate of it yet.
            key = self.open(passphrase)
            if isinstance(key, Refuse):
                return key
            pem = crypto.new_ca(key, common_name, int(time.time()) - BACKDATE, domains)
            self._files.write(CA, pem, _mine(0o644))
            created = self.read()
        if created is None or isinstance(created, Refuse):
            return created or _broken(self._files.path(CA), "it vanished while it was made")
        return created, True

    # -- a successor ---------------------------------------------------------------------------------------------------

    def phase(self) -> str:
        """Where its succession stands: settled, trusting (both are trusted, the old one signs), issuing (the new one
        signs, both are trusted)."""
        if self._read(TRUST) is None:
            return SETTLED
        return TRUSTING if self._read(NEXT_CA) is not None else ISSUING

    def prepare(self, common_name: str, passphrase: str, domains: t.Sequence[str] = ()) -> Refuse | None:
        """Make the successor, and trust both."""
        with self._locked():
            if self.phase() != SETTLED:
                return None
            key = self.open(passphrase)
            if isinstance(key, Refuse):
                return key
            if self._read(NEXT_KEY) is None:
                self._files.write(NEXT_KEY, crypto.new_ca_key(passphrase), _mine(0o600))
            entry = self._read(NEXT_KEY)
            try:
                successor = crypto.open_ca_key("" if entry is None else entry.text, passphrase)
            except crypto.KeyUnreadable as exc:
                return _broken(self._files.path(NEXT_KEY), str(exc))
            pem = crypto.new_ca(successor, common_name, int(time.time()) - BACKDATE, domains)
            self._files.write(NEXT_CA, pem, _mine(0o644))
            # Last: by it the succession has begun.
            self._files.write(TRUST, "".join(crypto.pem_certificates(self.certificate() + pem)), _mine(0o644))
        return None

    def promote(self) -> None:
        """The successor signs. Certificate last: with the new key and the old certificate, it is done again."""
        with self._locked():
            if self.phase() == TRUSTING:
                self._promote()

    def _promote(self) -> None:
        for name, next_name in ((KEY, NEXT_KEY), (CA, NEXT_CA)):
            if self._read(next_name) is not None:
                self._files.rename(next_name, name)

    def finish(self) -> None:
        """A promotion that was cut off between its two files goes on."""
        with self._locked():
            if self.phase() == TRUSTING and self._read(NEXT_KEY) is None:
                self._promote()

    def settle(self) -> None:
        """Only who signs is trusted."""
        with self._locked():
            if self.phase() == ISSUING:
                self._files.remove(TRUST)

    def sign(self, passphrase: str, issues: t.Sequence[Issue], requests: t.Mapping[str, str]) -> dict[str, str]:
        """Certificates by name. ValueError names the request that is no good."""
        key = self.open(passphrase)
        if isinstance(key, Refuse):
            raise ValueError(key.message)
        pem = self.certificate()
        signed = {}
        for one in issues:
            name = one.wanted.name
            try:
                signed[name] = crypto.sign(key, pem, requests.get(name, ""), one)
            except ValueError as exc:
                raise ValueError(f"{name}: {exc}") from exc
        return signed

    def pair(self, name: str, passphrase: str) -> Pair:
        """What is kept under a name. A key that the passphrase does not open counts as missing: it is made anew."""
        entry = self._read(f"shared-{name}.pem")
        cert, begin, rest = ("" if entry is None else entry.text).partition(_SEALED)
        key = crypto.unseal_key(begin + rest, passphrase) if begin else ""
        leaf = crypto.read_leaf(cert, self.certificate())
        return Pair(Found(name, leaf, crypto.key_id(key) if key else ""), cert, key)

    def share(
        self, passphrase: str, due: t.Sequence[Issue], now: int, policy: Policy, since: int = 0
    ) -> tuple[Issue, ...]:
        """Issue shared certificates, unless another host's worker has just done it; the answer is what was issued.

        One that is older than `since` counts as due.
        """
        made = []
        with self._locked():
            for one in due:
                name = one.wanted.name
                found = self.pair(name, passphrase).found
                if began(found.leaf, since) and why_issue(one.wanted, found, now, policy) is None:
                    continue
                key = crypto.new_key()
                request = crypto.new_request(key, one.wanted.common_name)
                cert = self.sign(passphrase, [one], {name: request})[name]
                self._files.write(f"shared-{name}.pem", cert + crypto.seal_key(key, passphrase), _mine(0o600))
                made.append(one)
        return tuple(made)

    def _read(self, name: str) -> Entry | None:
        # Here a link is the operator's own doing (a mounted secret, a checkout), so it is followed.
        return Files(os.path.dirname(os.path.realpath(self._files.path(name)))).read(
            os.path.basename(os.path.realpath(self._files.path(name)))
        )

    def _wrong_passphrase(self) -> Refuse:
        return Refuse(
            "wrong-passphrase",
            f"pki_ca_passphrase does not open the CA key {self._files.path(KEY)}",
            "without it nothing can be issued or renewed, so nothing was touched",
            "Correct pki_ca_passphrase in the encrypted variables (ansible-vault edit), or restore the key that"
            " belongs to it.",
        )

    @contextlib.contextmanager
    def _locked(self) -> t.Iterator[None]:
        descriptor = os.open(self._files.path(LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
