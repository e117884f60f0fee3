# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request by a program in lego's place that keeps files as lego does; accounts that somebody vouches for."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import sys
import typing as t
from pathlib import Path

import acme_lab
import pytest
from client import account, lego
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

DIRECTORY = "https://acme.example:14000/dir"
KID, MAC = "kid-1", base64.urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode()
LEGO = """#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
told = dict(zip(words[1::1], words[2::1]))
path, email = pathlib.Path(told["--path"]), told["--email"]
place = path / "accounts" / "acme.example_14000" / email
note = pathlib.Path(os.environ["LEGO_LOG"])
seen = json.loads(note.read_text()) if note.exists() else []
here = (place / "account.json").exists()
seen.append({{"argv": words, "account": here, "ca": os.environ.get("LEGO_CA_CERTIFICATES"),
             "provider": os.environ.get("PROVIDER_TOKEN")}})
note.write_text(json.dumps(seen))
refuse = pathlib.Path(os.environ["LEGO_REFUSES"])
if here and refuse.exists() and "accountDoesNotExist" in refuse.read_text():
    print(refuse.read_text())
    refuse.unlink()
    sys.exit(1)
if refuse.exists():
    print(refuse.read_text())
    sys.exit(1)
place.mkdir(parents=True, exist_ok=True)
(place / "account.json").write_text("{{}}")
made = path / "certificates"
made.mkdir()
name = told["--domains"] if words.count("--domains") == 1 else words[words.index("--domains") + 1]
name = name.replace("*", "_")
(made / (name + ".crt")).write_text("the chain")
(made / (name + ".key")).write_text("the key")
"""


@dataclasses.dataclass
class Bench:
    folder: Path

    @property
    def calls(self) -> list[dict[str, t.Any]]:
        return list(json.loads((self.folder / "log").read_text()))

    def refuse(self, text: str) -> None:
        (self.folder / "refuses").write_text(text)

    def lego(self, **more: t.Any) -> lego.Lego:
        return lego.Lego(self.folder / "home", "ops@example.com", "ec256", ":8402", **more)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    program = tmp_path / "bin" / "lego"
    program.parent.mkdir()
    program.write_text(LEGO.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("LEGO_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("LEGO_REFUSES", str(tmp_path / "refuses"))
    return Bench(tmp_path)


def test_chain_and_key_come_back_and_lie_nowhere(bench: Bench) -> None:
    made = bench.lego(ca_file="/etc/acme/ca.pem").obtain(DIRECTORY, ["shop.example", "www.shop.example"])
    assert made == ("the chain", "the key")
    assert not list(bench.folder.glob("home/*/certificates"))
    (call,) = bench.calls
    assert call["ca"] == "/etc/acme/ca.pem"
    words = " ".join(call["argv"])
    assert "--domains shop.example --domains www.shop.example --http --http.port :8402 run" in words
    assert f"--server {DIRECTORY}" in words


def test_a_wildcard_by_dns(bench: Bench) -> None:
    made = bench.lego(provider="rfc2136", resolvers=("10.0.0.1:53",), environment={"PROVIDER_TOKEN": "secret-token"})
    assert made.obtain(DIRECTORY, ["*.shop.example"]) == ("the chain", "the key")
    (call,) = bench.calls
    assert "--dns rfc2136 --dns.resolvers 10.0.0.1:53 run" in " ".join(call["argv"])
    assert call["provider"] == "secret-token"
    assert "secret-token" not in " ".join(call["argv"]) + repr(made)


def test_each_directory_has_its_own_account(bench: Bench) -> None:
    one = bench.lego()
    one.obtain(DIRECTORY, ["shop.example"])
    one.obtain("https://acme.example:14000/staging", ["shop.example"])
    one.obtain(DIRECTORY, ["shop.example"])
    assert [call["account"] for call in bench.calls] == [False, False, True]


def test_a_refusal_tells_its_last_words_and_how_long_to_wait(bench: Bench) -> None:
    bench.refuse("2026/01/01 start\nacme: error: 403 :: urn:ietf:params:acme:error:unauthorized :: no")
    with pytest.raises(lego.OrderError, match="unauthorized") as told:
        bench.lego().obtain(DIRECTORY, ["shop.example"])
    assert told.value.wait == 0
    bench.refuse("acme: error: 429 :: urn:ietf:params:acme:error:rateLimited :: too many")
    with pytest.raises(lego.OrderError) as told:
        bench.lego().obtain(DIRECTORY, ["shop.example"])
    assert told.value.wait == 24 * 3600


def test_a_server_that_has_forgotten_us_is_told_again(bench: Bench) -> None:
    bench.lego().obtain(DIRECTORY, ["shop.example"])
    bench.refuse("acme: error: 400 :: urn:ietf:params:acme:error:accountDoesNotExist :: who?")
    assert bench.lego().obtain(DIRECTORY, ["shop.example"]) == ("the chain", "the key")
    assert [call["account"] for call in bench.calls] == [False, True, False]


def test_no_lego_is_a_failed_order(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bench.folder))
    with pytest.raises(lego.OrderError, match="lego"):
        bench.lego().obtain(DIRECTORY, ["shop.example"])


# -- an account that another one vouches for ---------------------------------------------------------------------------


def plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclasses.dataclass
class FakeAcme:
    """A server that wants an external account, judges both signatures, and refuses some nonces."""

    bad_nonces: int = 0
    accounts: dict[str, str] = dataclasses.field(default_factory=dict)
    nonce: int = 0
    posts: int = 0

    def ask(self, method: str, url: str, body: bytes | None) -> account.Answer:
        self.nonce += 1
        headers = {"Replay-Nonce": f"nonce-{self.nonce}"}
        if (method, url) == ("GET", DIRECTORY):
            told = {"newAccount": f"{DIRECTORY}/new", "newNonce": f"{DIRECTORY}/nonce"}
            return account.Answer(200, headers, json.dumps(told).encode())
        if method == "HEAD":
            return account.Answer(200, headers, b"")
        assert (method, url) == ("POST", f"{DIRECTORY}/new")
        self.posts += 1
        status, told = self.judge(json.loads(body or b""), f"nonce-{self.nonce - 1}")
        if status == 201:
            headers["Location"] = "https://acme.example/account/1"
        return account.Answer(status, headers, json.dumps(told).encode())

    def judge(self, asked: dict[str, str], nonce: str) -> tuple[int, dict[str, t.Any]]:
        head, payload = json.loads(plain(asked["protected"])), json.loads(plain(asked["payload"]))
        jwk, made = head["jwk"], plain(asked["signature"])
        assert (head["alg"], head["nonce"], head["url"]) == ("ES256", nonce, f"{DIRECTORY}/new")
        x, y = (int.from_bytes(plain(jwk[name]), "big") for name in "xy")
        der = encode_dss_signature(int.from_bytes(made[:32], "big"), int.from_bytes(made[32:], "big"))
        signed = f"{asked['protected']}.{asked['payload']}".encode()
        ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key().verify(der, signed, ec.ECDSA(hashes.SHA256()))
        if self.bad_nonces:
            self.bad_nonces -= 1
            return 400, {"type": account.BAD_NONCE}
        bound = payload["externalAccountBinding"]
        mac = hmac.new(plain(MAC), f"{bound['protected']}.{bound['payload']}".encode(), hashlib.sha256).digest()
        told = json.loads(plain(bound["protected"]))
        good = told == {"alg": "HS256", "kid": KID, "url": head["url"]} and json.loads(plain(bound["payload"])) == jwk
        if not good or not hmac.compare_digest(mac, plain(bound["signature"])):
            return 403, {"type": "urn:ietf:params:acme:error:unauthorized", "detail": "no such external account"}
        self.accounts[jwk["x"]] = KID
        return 201, {"status": "valid", "contact": payload["contact"]}


def test_an_account_is_bound_once_and_lego_finds_it(bench: Bench) -> None:
    acme = FakeAcme(bad_nonces=7)
    one = bench.lego(eab_kid=KID, eab_hmac=MAC, ask=lambda _ca: acme.ask)
    for _order in range(2):
        one.obtain(DIRECTORY, ["shop.example"])
    assert (list(acme.accounts.values()), acme.posts) == ([KID], 8)
    assert [call["account"] for call in bench.calls] == [True, True]
    # lego refuses to talk to such a server without the first word; the others would show the key.
    words = [{one for one in call["argv"] if one in ("--eab", "--kid", "--hmac")} for call in bench.calls]
    assert words == [{"--eab"}, {"--eab"}]
    assert MAC not in json.dumps(bench.calls) + repr(one)
    (key,) = bench.folder.glob("home/*/accounts/acme.example_14000/ops@example.com/keys/ops@example.com.key")
    assert key.read_text().startswith("-----BEGIN EC PRIVATE KEY-----"), "the only kind beside RSA that lego 4.9 reads"
    assert key.stat().st_mode & 0o077 == 0


def test_what_lego_reads_of_an_account(tmp_path: Path) -> None:
    account.bind(FakeAcme().ask, tmp_path, DIRECTORY, "ops@example.com", KID, MAC)
    noted = json.loads((account.folder(tmp_path, DIRECTORY, "ops@example.com") / "account.json").read_text())
    assert noted["email"] == "ops@example.com"
    assert noted["registration"]["uri"] == "https://acme.example/account/1"
    assert noted["registration"]["body"]["status"] == "valid", "without it lego would ask who it is"


@pytest.mark.parametrize("kind", ["P-384", "RSA"])
def test_a_key_of_another_kind_is_replaced(tmp_path: Path, kind: str) -> None:
    """lego had an account of its own, before somebody was to vouch for it."""
    path = account.folder(tmp_path, DIRECTORY, "a@b") / "keys" / "a@b.key"
    path.parent.mkdir(parents=True)
    key: t.Any = ec.generate_private_key(ec.SECP384R1()) if kind == "P-384" else rsa.generate_private_key(65537, 2048)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    acme = FakeAcme()
    account.bind(acme.ask, tmp_path, DIRECTORY, "a@b", KID, MAC)
    assert list(acme.accounts) == [account.Key(path).public["x"]]


def test_a_binding_that_is_refused_is_a_failed_order(bench: Bench) -> None:
    acme = FakeAcme()
    one = bench.lego(eab_kid="other", eab_hmac=MAC, ask=lambda _ca: acme.ask)
    with pytest.raises(lego.OrderError, match="no such external account") as told:
        one.obtain(DIRECTORY, ["shop.example"])
    assert MAC not in str(told.value)
    assert not (bench.folder / "log").exists()


def test_every_nonce_refused(tmp_path: Path) -> None:
    with pytest.raises(account.BindError, match="nonce"):
        account.bind(FakeAcme(bad_nonces=99).ask, tmp_path, DIRECTORY, "a@b", KID, MAC)


def test_a_server_that_is_none(tmp_path: Path) -> None:
    def ask(_method: str, _url: str, _body: bytes | None) -> account.Answer:
        return account.Answer(200, {}, b"<html>")

    with pytest.raises(account.BindError, match="none of ACME"):
        account.bind(ask, tmp_path, DIRECTORY, "a@b", KID, MAC)


@pytest.mark.parametrize("given", ["-_8", "+/8=", " -_8=\n"])
def test_mac_keys_in_either_alphabet(given: str) -> None:
    assert account.decoded(given) == b"\xfb\xff"


def test_short_numbers_of_a_signature_are_filled_up() -> None:
    assert account.raw_signature(encode_dss_signature(1, 2**255)) == (1).to_bytes(32, "big") + (2**255).to_bytes(
        32, "big"
    )


def test_the_lab_is_of_use() -> None:
    assert acme_lab.leaf("a")[0].startswith("-----BEGIN CERTIFICATE-----")


def test_no_credential_is_said_in_whatever_form_it_stands_in_an_address() -> None:
    output = "2026/01/01 Could not: Get https://dns.example/?login=me&token=a%2Bb%2Fc%3D&again=a+b/c=: refused"
    said, wait = lego.told(output, ["a+b/c=", "", "me&token"])
    assert "a%2Bb%2Fc%3D" not in said
    assert "a+b/c=" not in said
    assert (said.count("***"), wait) == (3, 0.0)
