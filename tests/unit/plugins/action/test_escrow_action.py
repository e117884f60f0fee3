# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keepers get, by the real openssl: what is in it, who opens it, and what is refused."""

from __future__ import annotations

import base64
import datetime
import io
import json
import pathlib
import subprocess
import tarfile
import types
import typing as t

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.dedicated.odoo.plugins.action.escrow import ActionModule
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy import bundle

VAULT, CONFIGURATION, PASSPHRASE = "canary-vault", "repo1-cipher-pass=canary-cipher", "canary-keeper"


def openssl(*words: str, **env: str) -> bytes:
    return subprocess.run(
        ["openssl", *words], check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", **env}
    ).stdout


@pytest.fixture(scope="module")
def keepers(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """a: RSA with a passphrase; b: EC without one; thief: nobody's keeper; ended: a certificate of yesterday."""
    place = tmp_path_factory.mktemp("keepers")

    def made(name: str, *words: str, **env: str) -> None:
        openssl("req", "-x509", "-subj", f"/CN={name}", "-keyout", str(place / f"{name}.key"), "-out",
                str(place / f"{name}.pem"), *words, **env)  # fmt: skip

    made("a", "-newkey", "rsa:2048", "-passout", "env:PASS", PASS=PASSPHRASE)
    made("b", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    made("thief", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ended")])
    ended = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC))
        .sign(key, hashes.SHA256())
    )
    (place / "ended.pem").write_bytes(ended.public_bytes(serialization.Encoding.PEM))
    return place


class Escrow:
    def __init__(self, place: pathlib.Path, keepers: pathlib.Path) -> None:
        self.file, self.keepers = place / "escrow.pem", keepers

    def __call__(self, state: str, check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        given = {"state": state, "path": str(self.file), "cluster": "acme", **args}
        if state == "sealed":
            given = {
                "keepers": [str(self.keepers / "a.pem"), str(self.keepers / "b.pem")],
                "files": {"pgbackrest.conf": base64.b64encode(CONFIGURATION.encode()).decode()},
                "site_passphrase": VAULT,
                **given,
            }
        else:
            given = {"key": str(self.keepers / "b.key"), **given}
        task = types.SimpleNamespace(args=given, check_mode=check, diff=True, async_val=0, action="escrow")
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        result = ActionModule(task, connection, None, None, None, None).run(None, {})
        told = json.dumps({key: value for key, value in result.items() if key != "files"})
        assert not [one for one in (VAULT, "canary-cipher", PASSPHRASE) if one in told]
        return dict(result)


@pytest.fixture
def escrow(tmp_path: pathlib.Path, keepers: pathlib.Path) -> Escrow:
    return Escrow(tmp_path, keepers)


def test_each_keeper_opens_it_alone(escrow: Escrow) -> None:
    answer = escrow("sealed", about={"made": "today"})
    assert answer["names"] == ["pgbackrest.conf"]
    assert len(answer["keepers"]) == 2
    assert oct(escrow.file.stat().st_mode & 0o777) == "0o600"
    for name, passphrase in (("a", PASSPHRASE), ("b", "")):
        opened = escrow("opened", key=str(escrow.keepers / f"{name}.key"), key_passphrase=passphrase)
        assert base64.b64decode(opened["files"]["pgbackrest.conf"]).decode() == CONFIGURATION
        assert opened["about"]["made"] == "today"
        assert opened["about"]["keepers"] == answer["keepers"]


def test_with_openssl_and_tar_alone(escrow: Escrow) -> None:
    escrow("sealed")
    packed = openssl(
        "cms", "-decrypt", "-inform", "PEM", "-inkey", str(escrow.keepers / "b.key"), "-in", str(escrow.file)
    )
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as tar:
        found = {one.name: t.cast("t.IO[bytes]", tar.extractfile(one)).read().decode() for one in tar}
    assert found["vault-password"] == VAULT
    assert found["pgbackrest/pgbackrest.conf"] == CONFIGURATION
    assert json.loads(found["about.json"])["cluster"] == "acme"


def test_nothing_in_it_is_in_the_clear(escrow: Escrow) -> None:
    escrow("sealed")
    body = b"".join(escrow.file.read_bytes().splitlines()[1:-1])
    assert b"canary" not in escrow.file.read_bytes() + base64.b64decode(body)


def test_a_check_writes_nothing(escrow: Escrow) -> None:
    assert escrow("sealed", check=True)["changed"]
    assert not escrow.file.exists()


def test_a_new_one_takes_the_place_of_the_old_as_a_whole(escrow: Escrow) -> None:
    escrow("sealed")
    escrow("sealed", files={"pgbackrest.conf": base64.b64encode(b"new").decode()})
    assert base64.b64decode(escrow("opened")["files"]["pgbackrest.conf"]) == b"new"
    assert [path.name for path in escrow.file.parent.iterdir()] == ["escrow.pem"]


def site_copy(secret: str) -> str:
    packed = bundle.pack([bundle.Entry("pki/ca.pem", 0o600, b"x"), bundle.Entry("inventory/hosts.yml", 0o600, b"y")])
    return base64.b64encode(VaultLib().encrypt(packed, secret=VaultSecret(secret.encode()))).decode()


def test_its_password_opens_the_copy_of_the_site(escrow: Escrow) -> None:
    escrow("sealed")
    assert escrow("proven", copy=site_copy(VAULT))["proven"] == ["inventory/hosts.yml", "pki/ca.pem"]
    refused = escrow("proven", copy=site_copy("another since"))
    assert refused["code"] == "password-does-not-fit"


@pytest.mark.parametrize(
    ("state", "args", "code"),
    [
        ("opened", {"key": "thief.key"}, "not-opened"),
        ("opened", {"key": "missing.key"}, "not-opened"),
        ("opened", {"key": "a.key", "key_passphrase": "wrong"}, "not-opened"),
        ("opened", {"cluster": "umbrella"}, "other-cluster"),
        ("opened", {"path": "/nowhere/escrow.pem"}, "no-file"),
        ("sealed", {"keepers": ["a.key"]}, "no-keeper"),
        ("sealed", {"keepers": ["missing.pem"]}, "no-keeper"),
        ("sealed", {"keepers": ["a.pem", "ended.pem"]}, "keeper-ended"),
        ("sealed", {"files": {}}, "no-files"),
        ("sealed", {"site_passphrase": ""}, "no-secret"),
        ("sealed", {"path": "/nowhere/escrow.pem"}, "not-written"),
    ],
)
def test_what_is_refused(escrow: Escrow, state: str, args: dict[str, t.Any], code: str) -> None:
    escrow("sealed")
    before = escrow.file.read_bytes()
    if "key" in args:
        args = {**args, "key": str(escrow.keepers / args["key"])}
    if "keepers" in args:
        args = {**args, "keepers": [str(escrow.keepers / one) for one in args["keepers"]]}
    answer = escrow(state, **args)
    assert (answer.get("failed"), answer.get("code")) == (True, code)
    assert escrow.file.read_bytes() == before


def test_what_is_no_escrow(escrow: Escrow) -> None:
    sealed = subprocess.run(
        ["openssl", "cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "PEM", str(escrow.keepers / "b.pem")],
        input=b"a letter", check=True, capture_output=True,
    ).stdout  # fmt: skip
    escrow.file.write_bytes(sealed)
    assert escrow("opened")["code"] == "no-escrow"
