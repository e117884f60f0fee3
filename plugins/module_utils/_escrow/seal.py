# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One file that each of several keepers can open alone, by openssl's CMS. On the controller.

It must be opened when nothing of this collection is at hand: ``openssl cms -decrypt -inform PEM -inkey keeper.key -in
escrow.pem | base64 -d | tar xz``. Content goes by pipes and a passphrase by the environment: neither is an argument.
"""

from __future__ import annotations

import base64
import binascii
import io
import tarfile
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from .._common.runner import Completed, Runner
from .._site_copy import bundle

PASSPHRASE = "DEDICATED_ESCROW_PASSPHRASE"  # noqa: S105


def _openssl(runner: Runner, words: t.Sequence[str], given: str = "", passphrase: str = "") -> Completed:
    try:
        return runner.run(["openssl", *words], env={PASSPHRASE: passphrase}, stdin=given)
    except DedicatedError as exc:
        raise Refused(
            Refuse("no-openssl", "openssl does not work here", exc.msg, "Install openssl on the controller.")
        ) from exc


def _said(done: Completed) -> str:
    return done.stderr.strip()[-300:]


def keeper(runner: Runner, path: str) -> str:
    """Fingerprint of a keeper's certificate. Refused when it is none, or has ended."""
    done = _openssl(runner, ["x509", "-noout", "-fingerprint", "-sha256", "-checkend", "0", "-in", path])
    if done.rc == 0:
        return done.stdout.partition("=")[2].split()[0].replace(":", "").lower()
    ended = "=" in done.stdout
    raise Refused(
        Refuse(
            "keeper-ended" if ended else "no-keeper",
            f"{path} is a certificate that has ended" if ended else f"{path} is no certificate (PEM)",
            "nothing was sealed" + ("" if ended else f"; openssl says: {_said(done)}"),
            "Give the present certificate of whoever keeps it.",
        )
    )


def close(runner: Runner, entries: t.Sequence[bundle.Entry], keepers: t.Sequence[str]) -> str:
    """PEM. Keepers are paths of their certificates."""
    words = ["cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "PEM", *keepers]
    done = _openssl(runner, words, base64.encodebytes(bundle.pack(entries)).decode("ascii"))
    if done.rc:
        do = "Give certificates of RSA or EC keys, openssl 3."
        raise Refused(Refuse("not-sealed", "openssl did not seal it", _said(done), do))
    return done.stdout


def unseal(runner: Runner, sealed: str, key: str, passphrase: str) -> dict[str, bytes]:
    """Files by their names. ``key`` is the path of a keeper's key."""
    words = ["cms", "-decrypt", "-binary", "-inform", "PEM", "-inkey", key]
    if passphrase:
        words += ["-passin", f"env:{PASSPHRASE}"]
    done = _openssl(runner, words, sealed, passphrase)
    if done.rc:
        raise Refused(
            Refuse(
                "not-opened",
                f"The escrow was not opened with {key}",
                _said(done),
                "Give the key of one of its keepers, and the passphrase if it has one.",
            )
        )
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(done.stdout))) as tar:
            return {one.name: t.cast("t.IO[bytes]", tar.extractfile(one)).read() for one in tar if one.isfile()}
    except (tarfile.TarError, binascii.Error) as exc:
        raise Refused(
            Refuse("no-escrow", "What was opened is no escrow of this collection", str(exc), "Give the file itself.")
        ) from exc
