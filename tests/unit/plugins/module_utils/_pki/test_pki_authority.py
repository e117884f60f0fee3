# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CA's home on the controller: made once, by one of many, and never with the wrong passphrase."""

from __future__ import annotations

import multiprocessing
import pathlib
import stat
import subprocess
import time

import pytest
from cryptography import x509

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._pki import crypto
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.authority import Store
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import (
    DAY,
    Authority,
    Found,
    Issue,
    Policy,
    Wanted,
)

SECRET = "correct horse"


def make(directory: pathlib.Path) -> Store:
    store = Store(str(directory))
    made = store.create("lab internal CA", SECRET)
    assert not isinstance(made, Refuse)
    assert made[1]
    return store


def code(answer: object) -> str:
    assert isinstance(answer, Refuse), answer
    return answer.code


def test_what_is_made(tmp_path: pathlib.Path) -> None:
    home = tmp_path / "deep" / "pki"
    store = make(home)
    authority = store.read()
    assert isinstance(authority, Authority)
    assert authority.fingerprint == crypto.pem_fingerprint(store.certificate())
    assert authority.not_after - authority.not_before == 3650 * DAY
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "ca.key").stat().st_mode) == 0o600
    assert "BEGIN ENCRYPTED PRIVATE KEY" in (home / "ca.key").read_text()
    certificate = x509.load_pem_x509_certificate(store.certificate().encode())
    assert certificate.subject.rfc4514_string() == "CN=lab internal CA"
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert not isinstance(store.open(SECRET), Refuse)


def test_made_once(tmp_path: pathlib.Path) -> None:
    store = make(tmp_path)
    pem = store.certificate()
    made = store.create("another name", SECRET)
    assert not isinstance(made, Refuse)
    assert not made[1]
    assert store.certificate() == pem


def _race(directory: str, gate: multiprocessing.synchronize.Barrier, answers: multiprocessing.Queue[object]) -> None:
    gate.wait()
    made = Store(directory).create("lab internal CA", SECRET)
    answers.put("refused" if isinstance(made, Refuse) else (made[0].fingerprint, made[1]))


def test_many_workers_make_one_authority(tmp_path: pathlib.Path) -> None:
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_race, args=(str(tmp_path / "pki"), gate, answers)) for _one in range(4)]
    for one in workers:
        one.start()
    got = [answers.get(timeout=60) for _one in workers]
    for one in workers:
        one.join(60)
    assert len({fingerprint for fingerprint, _made in got}) == 1
    assert sum(made for _fingerprint, made in got) == 1


def test_interrupted_between_key_and_certificate(tmp_path: pathlib.Path) -> None:
    store = make(tmp_path)
    key = (tmp_path / "ca.key").read_text()
    (tmp_path / "ca.pem").unlink()
    assert store.read() is None
    assert code(store.create("lab internal CA", "wrong")) == "wrong-passphrase"
    made = store.create("lab internal CA", SECRET)
    assert not isinstance(made, Refuse)
    assert (tmp_path / "ca.key").read_text() == key
    assert not isinstance(store.open(SECRET), Refuse)


def test_refusals(tmp_path: pathlib.Path) -> None:
    store = make(tmp_path / "a")
    assert code(store.open("wrong")) == "wrong-passphrase"
    other = make(tmp_path / "b")
    key = (tmp_path / "a" / "ca.key").read_text()
    (tmp_path / "a" / "ca.key").write_text((tmp_path / "b" / "ca.key").read_text())
    assert code(store.open(SECRET)) == "ca-broken"
    (tmp_path / "a" / "ca.key").write_text(crypto.new_key())
    assert code(store.open(SECRET)) == "ca-broken"
    (tmp_path / "a" / "ca.key").write_text("rubbish")
    assert code(store.open(SECRET)) == "ca-broken"
    (tmp_path / "a" / "ca.key").unlink()
    assert code(store.read()) == "ca-missing"
    assert code(store.create("lab internal CA", SECRET)) == "ca-missing"
    (tmp_path / "a" / "ca.key").write_text(key)
    (tmp_path / "a" / "ca.pem").write_text("rubbish")
    assert code(store.read()) == "ca-broken"
    assert code(Store("None/pki").why_not_directory()) == "bad-input"
    assert other.why_not_directory() is None


def issue_of(name: str) -> Issue:
    now = int(time.time())
    return Issue(Wanted(name, "n1", ("dns:n1",), ("server",), 0, 0), "missing", now - 60, now + DAY)


def test_only_proven_p256_keys_are_signed(tmp_path: pathlib.Path) -> None:
    store = make(tmp_path)
    request = crypto.new_request(crypto.new_key(), "what the host says does not count")
    pem = store.sign(SECRET, [issue_of("etcd")], {"etcd": request})["etcd"]
    leaf = crypto.read_leaf(pem, store.certificate())
    assert leaf is not None
    assert (leaf.common_name, leaf.sans, leaf.usages, leaf.trusted) == ("n1", ("dns:n1",), ("server",), True)
    with pytest.raises(ValueError, match="etcd"):
        store.sign(SECRET, [issue_of("etcd")], {})
    with pytest.raises(ValueError, match="passphrase"):
        store.sign("wrong", [issue_of("etcd")], {"etcd": request})


def test_a_leaf_is_no_authority(tmp_path: pathlib.Path) -> None:
    store = make(tmp_path)
    request = crypto.new_request(crypto.new_key(), "n1")
    leaf = store.sign(SECRET, [issue_of("etcd")], {"etcd": request})["etcd"]
    assert crypto.read_authority(leaf) is None
    assert crypto.read_authority("rubbish") is None
    assert crypto.read_leaf("rubbish", store.certificate()) is None
    assert crypto.pem_fingerprint("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----") == ""


def test_signed_certificates_pass_strict_tls(tmp_path: pathlib.Path) -> None:
    import ssl

    store = make(tmp_path)
    key = crypto.new_key()
    pem = store.sign(SECRET, [issue_of("etcd")], {"etcd": crypto.new_request(key, "n1")})["etcd"]
    (tmp_path / "key.pem").write_text(key)
    (tmp_path / "cert.pem").write_text(pem)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    client.load_verify_locations(tmp_path / "ca.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="n1")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[str] = set()
    for _round in range(8):
        for name, side in (("client", near), ("server", far)):
            try:
                side.do_handshake()
                done.add(name)
            except ssl.SSLWantReadError:
                continue
    assert done == {"client", "server"}


def shared_of(name: str, now: int) -> Issue:
    wanted = Wanted(name, "odoo.test", ("dns:odoo.test",), ("server",), 0, 0, shared=True)
    return Issue(wanted, "missing", now - 60, now - 60 + 90 * DAY)


def test_a_shared_pair_is_made_once_and_kept_encrypted(tmp_path: pathlib.Path) -> None:
    store, now = make(tmp_path), int(time.time())
    assert store.pair("edge", SECRET).found == Found("edge")
    assert [one.wanted.name for one in store.share(SECRET, [shared_of("edge", now)], now, Policy())] == ["edge"]
    first = store.pair("edge", SECRET)
    assert first.found.leaf is not None
    assert first.found.leaf.trusted
    assert first.found.key == first.found.leaf.public_key == crypto.key_id(first.key)
    # A worker that decided on an older look does nothing.
    assert store.share(SECRET, [shared_of("edge", now)], now, Policy()) == ()
    assert store.pair("edge", SECRET) == first
    kept = tmp_path / "shared-edge.pem"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "BEGIN PRIVATE KEY" not in kept.read_text()
    assert "BEGIN" not in repr(first).replace(repr(first.cert), "")


@pytest.mark.parametrize("damage", ["passphrase", "cut", "gone"])
def test_a_pair_that_does_not_open_is_made_anew(tmp_path: pathlib.Path, damage: str) -> None:
    store, now = make(tmp_path), int(time.time())
    due = [shared_of("edge", now)]
    store.share(SECRET, due, now, Policy())
    kept = tmp_path / "shared-edge.pem"
    first = store.pair("edge", SECRET)
    if damage == "passphrase":
        kept.write_text(first.cert + crypto.seal_key(first.key, "an earlier one"))
    elif damage == "cut":
        kept.write_text(kept.read_text()[:-200])
    else:
        kept.unlink()
    assert store.pair("edge", SECRET).found.key == ""
    assert len(store.share(SECRET, due, now, Policy())) == 1
    assert store.pair("edge", SECRET).found.key not in ("", first.found.key)


def test_a_shared_pair_is_renewed_with_a_new_key(tmp_path: pathlib.Path) -> None:
    store, now = make(tmp_path), int(time.time())
    store.share(SECRET, [shared_of("edge", now)], now, Policy())
    first, later = store.pair("edge", SECRET), now + 61 * DAY
    assert len(store.share(SECRET, [shared_of("edge", later)], later, Policy())) == 1
    assert store.pair("edge", SECRET).found.key != first.found.key


@pytest.mark.parametrize(
    ("sans", "believed"),
    [
        (("dns:erp1.acme.internal", "dns:localhost", "ip:203.0.113.9"), True),
        (("dns:books.example",), True),
        (("dns:www.books.example",), True),
        (("dns:bank.example",), False),
        (("dns:localhost", "dns:bank.example"), False),
    ],
)
def test_nobody_believes_a_certificate_beyond_its_domains(
    tmp_path: pathlib.Path, sans: tuple[str, ...], believed: bool
) -> None:
    """By OpenSSL's own judgement, of what whoever has the key could sign."""
    store = Store(str(tmp_path))
    made = store.create("lab internal CA", SECRET, ["acme.internal", "localhost", "books.example"])
    assert not isinstance(made, Refuse)
    assert made[0].domains == ("acme.internal", "books.example", "localhost")
    now = int(time.time())
    issue = Issue(Wanted("edge", sans[0][4:], sans, ("server",), 0, 0), "missing", now - 60, now + DAY)
    request = crypto.new_request(crypto.new_key(), "n1")
    leaf = tmp_path / "leaf.pem"
    leaf.write_text(store.sign(SECRET, [issue], {"edge": request})["edge"])
    done = subprocess.run(
        ["openssl", "verify", "-purpose", "sslserver", "-CAfile", str(tmp_path / "ca.pem"), str(leaf)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) is believed, done.stderr
    assert believed or "permitted subtree violation" in done.stderr


def test_without_domains_there_is_no_constraint(tmp_path: pathlib.Path) -> None:
    authority = make(tmp_path).read()
    assert isinstance(authority, Authority)
    assert authority.domains == ()
