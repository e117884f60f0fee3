# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An account for which another one vouches (RFC 8555, 7.3.4), laid down where lego finds it made.

lego 4.9 takes the MAC key as an argument, which every process of the host can read. Here it stays in this process: the
account is registered once, with a key that lego then uses. Standard library and openssl only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import ssl
import subprocess
import typing as t
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

SECONDS = 20.0
# As often as lego, within its 20 s, would.
NONCES = 15
# A public key on P-256: its kind, then its point.
SPKI_BYTES = 91
BAD_NONCE = "urn:ietf:params:acme:error:badNonce"


class BindError(Exception):
    """The server refused, or did not answer."""


class Headers(t.Protocol):
    def __getitem__(self, name: str, /) -> str: ...


class Answer(t.NamedTuple):
    status: int
    headers: Headers
    body: bytes


Ask = t.Callable[[str, str, bytes | None], Answer]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decoded(text: str) -> bytes:
    """A MAC key as servers give it out: base64url, some with the other alphabet or with padding."""
    plain = text.strip().replace("+", "-").replace("/", "_").rstrip("=")
    return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))


def asker(ca_file: str) -> Ask:
    context = ssl.create_default_context(cafile=ca_file or None)
    # lego is no stricter with private authorities.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))

    def ask(method: str, url: str, body: bytes | None) -> Answer:
        headers = {"Content-Type": "application/jose+json", "User-Agent": "dedicated-odoo-acme"}
        # The addresses are the operator's own settings, and what his ACME server names.
        asked = urllib.request.Request(url, body, headers, method=method)  # noqa: S310
        try:
            with opener.open(asked, timeout=SECONDS) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as exc:
            return Answer(exc.code, exc.headers, exc.read())
        except (OSError, ValueError) as exc:
            raise BindError(f"{url}: {exc}") from exc

    return ask


def _openssl(words: t.Sequence[str], given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *words], input=given, capture_output=True, check=False, timeout=30)
    if done.returncode:
        raise BindError(f"openssl {words[0]}: {done.stderr.decode(errors='replace').strip()[:300]}")
    return done.stdout


def raw_signature(der: bytes) -> bytes:
    """The two numbers of an ECDSA signature on P-256, each of 32 bytes, as JWS wants them."""
    numbers, at = [], 2
    for _number in range(2):
        length = der[at + 1]
        numbers.append(int.from_bytes(der[at + 2 : at + 2 + length], "big"))
        at += 2 + length
    return b"".join(number.to_bytes(32, "big") for number in numbers)


class Key:
    """On P-256. Another kind, which lego has made before, is of an account that the server does not know."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _there = self.public
        except BindError:
            path.unlink(missing_ok=True)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = _openssl(["ecparam", "-name", "prime256v1", "-genkey", "-noout"])
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(text)

    @property
    def public(self) -> dict[str, str]:
        told = _openssl(["ec", "-in", str(self.path), "-pubout", "-outform", "DER"])
        if len(told) != SPKI_BYTES:
            raise BindError(f"{self.path} is no key on P-256")
        point = told[-64:]
        return {"crv": "P-256", "kty": "EC", "x": base64url(point[:32]), "y": base64url(point[32:])}

    def sign(self, protected: t.Mapping[str, t.Any], payload: t.Mapping[str, t.Any]) -> bytes:
        head, body = (base64url(json.dumps(one).encode()) for one in (protected, payload))
        made = raw_signature(_openssl(["dgst", "-sha256", "-sign", str(self.path)], f"{head}.{body}".encode()))
        return json.dumps({"protected": head, "payload": body, "signature": base64url(made)}).encode()


def binding(url: str, kid: str, mac_key: str, public: t.Mapping[str, str]) -> dict[str, str]:
    """What says that the owner of the other account wants this key to be his."""
    head = base64url(json.dumps({"alg": "HS256", "kid": kid, "url": url}).encode())
    body = base64url(json.dumps(dict(public)).encode())
    made = hmac.new(decoded(mac_key), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return {"protected": head, "payload": body, "signature": base64url(made)}


def folder(path: Path, directory: str, email: str) -> Path:
    """Where lego keeps the account of a directory."""
    return path / "accounts" / urlsplit(directory).netloc.replace(":", "_") / email


def bind(ask: Ask, path: Path, directory: str, email: str, kid: str, mac_key: str) -> None:
    """Registers the account, unless it is there. Raises BindError."""
    place = folder(path, directory, email)
    if (place / "account.json").exists():
        return
    key = Key(place / "keys" / f"{email}.key")
    try:
        told = json.loads(ask("GET", directory, None).body)
        url, nonce = told["newAccount"], ask("HEAD", told["newNonce"], None).headers["Replay-Nonce"]
        payload = {
            "termsOfServiceAgreed": True,
            "contact": [f"mailto:{email}"],
            "externalAccountBinding": binding(url, kid, mac_key, key.public),
        }
        for _attempt in range(NONCES):
            protected = {"alg": "ES256", "jwk": key.public, "nonce": nonce, "url": url}
            answer = ask("POST", url, key.sign(protected, payload))
            body = json.loads(answer.body or b"{}")
            if answer.status in (200, 201):
                made = {"email": email, "registration": {"body": body, "uri": answer.headers["Location"]}}
                staged = place / "account.json.new"
                staged.write_text(json.dumps(made), encoding="utf-8")
                staged.replace(place / "account.json")
                return
            if body.get("type") != BAD_NONCE:
                raise BindError(f"{answer.status} {body.get('type', '')}: {str(body.get('detail', ''))[:300]}")
            nonce = answer.headers["Replay-Nonce"]
        raise BindError("every nonce was refused")
    except (ValueError, KeyError, TypeError) as exc:
        raise BindError(f"an answer that is none of ACME: {exc!r}") from exc
