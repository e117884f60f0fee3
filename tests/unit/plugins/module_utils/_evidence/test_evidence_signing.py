# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys as openssl makes them, files that are refused, and signatures that openssl accepts."""

from __future__ import annotations

import base64
import hashlib
import pathlib
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import plan, signing

DIGEST = "ab" * 32
PASSPHRASE = "correct horse"


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True, timeout=60).stdout


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """Made as docs/howto/evidence.md says."""
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    openssl("genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "plain.pem"))
    closed = ("-aes-256-cbc", "-pass", f"file:{tmp_path}/passphrase")
    openssl("genpkey", "-algorithm", "ed25519", *closed, "-out", str(tmp_path / "closed.pem"))
    for name in ("plain.pem", "closed.pem", "passphrase"):
        (tmp_path / name).chmod(0o600)
    openssl("pkey", "-in", str(tmp_path / "plain.pem"), "-pubout", "-out", str(tmp_path / "public.pem"))
    return tmp_path


def test_openssl_accepts_what_was_signed_and_names_the_key_alike(place: pathlib.Path) -> None:
    signer = signing.load(str(place / "plain.pem"))
    (place / "signature").write_bytes(base64.b64decode(signer.sign(DIGEST)))
    (place / "message").write_bytes(b"dedicated.odoo evidence 1\n" + DIGEST.encode())
    public = str(place / "public.pem")
    given = ("-in", str(place / "message"), "-sigfile", str(place / "signature"))
    assert b"Success" in openssl("pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", *given)
    der = openssl("pkey", "-pubin", "-in", public, "-outform", "DER")
    assert signer.key == hashlib.sha256(der).hexdigest()[:16]
    assert plan.KEY_NAME.fullmatch(signer.key)


@pytest.mark.parametrize(
    ("name", "passphrase"), [("plain.pem", ""), ("plain.pem", "passphrase"), ("closed.pem", "passphrase")]
)
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_good_key_signs_records(place: pathlib.Path, name: str, passphrase: str, mode: int) -> None:
    (place / name).chmod(mode)
    signer = signing.load(str(place / name), str(place / passphrase) if passphrase else "")
    line, __ = plan.seal(plan.body("x", "r", "t", {}, ()), None, "c" * 32, signer)
    (mark,) = plan.inspect(f"{line}\n").marks
    public = openssl("pkey", "-in", str(place / name), "-passin", f"file:{place}/passphrase", "-pubout").decode()
    other = signing.load(
        str(place / ("plain.pem" if name == "closed.pem" else "closed.pem")), str(place / "passphrase")
    )
    check = signing.checker([public])
    assert check(mark.key, mark.hash, mark.signature) is True
    assert check(mark.key, DIGEST, mark.signature) is False
    assert check(mark.key, mark.hash, other.sign(mark.hash)) is False
    assert check(mark.key, mark.hash, base64.b64encode(bytes(64)).decode()) is False
    assert check(other.key, mark.hash, other.sign(mark.hash)) is None


def refused(*given: str) -> DedicatedError:
    with pytest.raises(DedicatedError) as caught:
        signing.load(*given)
    return caught.value


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o700, 0o200, 0o604, 0o4600])
@pytest.mark.parametrize("name", ["closed.pem", "passphrase"])
def test_a_file_that_others_may_read_is_refused(place: pathlib.Path, name: str, mode: int) -> None:
    (place / name).chmod(mode)
    error = refused(str(place / "closed.pem"), str(place / "passphrase"))
    # Without root's rights a mode without reading shows before.
    assert error.details["code"] in ("signing_key_mode", "signing_key_file")
    if mode & 0o400:
        assert (error.details["code"], name in error.msg) == ("signing_key_mode", True)


def test_what_is_no_key_is_refused_and_tells_nothing_of_itself(place: pathlib.Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    body = Ed25519PrivateKey.generate().private_bytes(*pkcs8).decode()
    bad = {
        "ec.pem": (private.private_bytes(*pkcs8), "", "signing_key_kind"),
        "public.pem": ((place / "public.pem").read_bytes(), "", "signing_key_kind"),
        "cut.pem": (body[:60].encode(), "", "signing_key_kind"),
        "text": (b"secret words", "", "signing_key_kind"),
        "empty": (b"", "", "signing_key_kind"),
        "locked": ((place / "closed.pem").read_bytes(), "", "signing_key_passphrase"),
        "wrong": ((place / "closed.pem").read_bytes(), "wrong horse", "signing_key_passphrase"),
    }
    for name, (content, passphrase, code) in bad.items():
        path = place / name
        path.write_bytes(content)
        path.chmod(0o600)
        (place / "given").write_text(passphrase)
        (place / "given").chmod(0o600)
        error = refused(str(path), *([str(place / "given")] if passphrase else []))
        assert error.details["code"] == code, name
        assert error.__cause__ is None
        for secret in (*content.decode().splitlines(), passphrase):
            assert not secret or secret not in f"{error.msg} {error.details}"
    for path in (place / "absent", place):
        assert refused(str(path)).details["code"] == "signing_key_file"
    assert refused(str(place / "closed.pem"), str(place / "absent")).details["code"] == "signing_key_file"


def test_without_the_library_it_is_said(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "CRYPTOGRAPHY_ERROR", "no module")
    assert refused(str(place / "plain.pem")).details["code"] == "cryptography_missing"
    with pytest.raises(DedicatedError, match="cryptography"):
        signing.checker([])
