# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every certificate of the site has ended, and one command brings it back."""

from __future__ import annotations

import concurrent.futures
import datetime
import time
import typing as t

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from labtools import Browser, Host, Lab, wait_until
from operating import begin, end, operate, recap, refusals, unchanged
from test_25_operations import codes, status
from test_29_certificates import NAMES, PKI, REASON, beside, lying, pending, served
from web import Bookkeeper, through

SECONDS = 1800


def over(lab: Lab, text: str) -> tuple[str, str]:
    """As that certificate in every word, of our authority, with a key of its own: and it ended an hour ago."""
    model = x509.load_pem_x509_certificate(text.encode())
    authority = x509.load_pem_x509_certificate((lab.build / "pki" / "ca.pem").read_bytes())
    passphrase = lab.secrets["pki_ca_passphrase"].encode()
    signer = serialization.load_pem_private_key((lab.build / "pki" / "ca.key").read_bytes(), passphrase)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    ended = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(model.subject)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ended - datetime.timedelta(days=30))
        .not_valid_after(ended)
    )
    for one in model.extensions:
        value: x509.ExtensionType = one.value
        if isinstance(value, x509.SubjectKeyIdentifier):
            value = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(value, one.critical)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def lay(host: Host, name: str, pair: tuple[str, str]) -> None:
    """Owner and mode stay."""
    for file, text in zip(("cert.pem", "key.pem"), pair, strict=True):
        host.run(f"cat >{PKI}/{name}/{file}", stdin=text)


def everything_is_over(lab: Lab) -> None:
    shared = over(lab, lab.hosts[0].out(f"cat {PKI}/edge/cert.pem") + "\n")
    for host in lab.hosts:
        for name in NAMES:
            lay(host, name, shared if name == "edge" else over(lab, host.out(f"cat {PKI}/{name}/cert.pem") + "\n"))


def restart(lab: Lab) -> None:
    """So that what has ended is what everybody shows."""
    line = "docker restart $(docker ps --all --quiet --filter label=com.docker.compose.project)"
    with concurrent.futures.ThreadPoolExecutor(len(lab.hosts)) as pool:
        list(pool.map(lambda host: host.run(line, timeout=900), lab.hosts))


def recover(lab: Lab, *arguments: str) -> str:
    process = begin(lab, "recover_certificates", *REASON, *arguments)
    output = end(lab, "recover_certificates", process, SECONDS)
    assert process.returncode == 0, refusals(output) or output[-3000:]
    return output


def nothing_is_done(lab: Lab) -> None:
    files = lying(lab)
    output = recover(lab)
    assert "nothing is done" in output
    assert unchanged(lab, recap(output))
    assert lying(lab) == files


def ends(lab: Lab) -> t.Iterator[tuple[Host, str, datetime.datetime]]:
    for host in lab.hosts:
        for name in NAMES:
            found = x509.load_pem_x509_certificate((host.out(f"cat {PKI}/{name}/cert.pem") + "\n").encode())
            yield host, name, found.not_valid_after_utc


def test_it_needs_a_reason_and_a_number(lab: Lab) -> None:
    for code, arguments in (("no-reason", ()), ("bad-input", (*REASON, "-e", "within_days=90"))):
        output = operate(lab, "recover_certificates", *arguments, fails=True)
        assert code in output, refusals(output)
        assert {counts["changed"] for counts in recap(output).values()} == {0}


def test_where_none_has_ended_nothing_is_done(lab: Lab) -> None:
    nothing_is_done(lab)


def test_everything_has_ended_and_comes_back(lab: Lab) -> None:
    bookkeeper = Bookkeeper(lab, through(Browser(lab), lab.front).sign_in(lab.login, lab.password))
    bookkeeper.start()
    wait_until("invoices are posted", lambda: len(bookkeeper.posted) >= 3, 120)
    bookkeeper.finish()
    before = served(lab)

    everything_is_over(lab)
    restart(lab)
    wait_until("the store has no quorum", lambda: not any(host.healthy() for host in lab.of("etcd")), 180, 2)
    wait_until("nobody takes writes", lambda: not any(host.writable() for host in lab.of("postgres")), 180, 2)
    assert not lab.answers()

    started = time.monotonic()
    output = recover(lab)
    print(f"recovered in {time.monotonic() - started:.0f} s")  # noqa: T201
    assert "days left" in output

    assert all(host.healthy() for host in lab.hosts)
    wait_until("the site answers", lab.answers, 60)
    now = datetime.datetime.now(datetime.UTC)
    assert not [(host.name, name) for host, name, end_ in ends(lab) if end_ < now + datetime.timedelta(days=1)]
    after = served(lab)
    assert after.keys() == before.keys()
    assert not [place for place, serial in after.items() if serial == before[place]]
    assert len({serial for (_host, port), serial in after.items() if port == 443}) == 1
    assert not beside(lab)
    assert pending(lab) == []

    again = Bookkeeper(lab, through(Browser(lab), lab.front).sign_in(lab.login, lab.password))
    again.start()
    wait_until("invoices are posted again", lambda: len(again.posted) >= 2, 120)
    again.finish()
    again.posted.update(bookkeeper.posted)
    wrong = again.audit(lambda query: lab.leader().sql(query, lab.database))
    assert not wrong, wrong
    wait_until("status is good", lambda: not codes(status(lab)), 180, 5)

    nothing_is_done(lab)
