# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one edge writes, all edges can read and nobody else can: CMS, by openssl. Keys are never arguments."""

from __future__ import annotations

import base64
import subprocess
import tempfile
import typing as t
from pathlib import Path

# Of the certificates that the internal CA gives to edges for this and to nobody else.
EDGE = "dedicated-edge-acme"


class SealError(Exception):
    """openssl refused, or who sealed it is no edge."""


def _openssl(words: t.Sequence[str], given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *words], input=given, capture_output=True, check=False, timeout=30)
    if done.returncode:
        raise SealError(f"openssl {words[0]}: {done.stderr.decode(errors='replace').strip()[:300]}")
    return done.stdout


def fingerprint(pem: str) -> str:
    return _openssl(["x509", "-noout", "-fingerprint", "-sha256"], pem.encode()).decode().partition("=")[2].strip()


class Seal:
    def __init__(self, folder: Path) -> None:
        self.ca, self.cert, self.key = (str(folder / name) for name in ("ca.pem", "cert.pem", "key.pem"))

    def edge(self, pem: str) -> str:
        """The name of the edge whose certificate it is, or nothing."""
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(pem)
            file.flush()
            try:
                _openssl(["verify", "-CAfile", self.ca, file.name])
                told = _openssl(["x509", "-noout", "-ext", "subjectAltName", "-in", file.name]).decode()
            except SealError:
                return ""
        names = {one.removeprefix("DNS:") for one in told.replace(",", " ").split() if one.startswith("DNS:")}
        others = names - {EDGE}
        return others.pop() if len(names) == 2 and len(others) == 1 else ""

    def close(self, text: str, readers: t.Sequence[str]) -> str:
        signed = _openssl(
            ["cms", "-sign", "-binary", "-nodetach", "-signer", self.cert, "-inkey", self.key, "-outform", "DER"],
            text.encode(),
        )
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for number, pem in enumerate(readers):
                Path(folder, str(number)).write_text(pem, encoding="ascii")
                files.append(str(Path(folder, str(number))))
            sealed = _openssl(["cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "DER", *files], signed)
        return base64.b64encode(sealed).decode("ascii")

    def open(self, sealed: str, signers: t.Collection[str]) -> str:
        """What was sealed by one of these edges."""
        signed = _openssl(
            ["cms", "-decrypt", "-binary", "-inform", "DER", "-recip", self.cert, "-inkey", self.key],
            base64.b64decode(sealed),
        )
        with tempfile.TemporaryDirectory() as folder:
            signer = Path(folder, "signer.pem")
            text = _openssl(
                ["cms", "-verify", "-binary", "-inform", "DER", "-CAfile", self.ca, "-purpose", "any",
                 "-signer", str(signer)],
                signed,
            )  # fmt: skip
            if self.edge(signer.read_text(encoding="ascii")) not in signers:
                raise SealError("not sealed by an edge of this site")
        return text.decode()
