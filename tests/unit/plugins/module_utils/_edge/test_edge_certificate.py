# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A customer's own certificate: what is wrong with it is found before any host is touched."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.dedicated.odoo.plugins.module_utils._edge import certificate

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
DOMAIN = "books.example.com"


@dataclasses.dataclass(frozen=True)
class Made:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


def made(
    name: str,
    issuer: Made | None = None,
    sans: t.Sequence[str] = (),
    begins: datetime.datetime = NOW - 10 * DAY,
    ends: datetime.datetime = NOW + 80 * DAY,
) -> Made:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in sans]), False)
    return Made(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


ROOT = made("Root", ends=NOW + 3650 * DAY)
MIDDLE = made("Middle", ROOT)
LEAF = made("leaf", MIDDLE, [DOMAIN])
GOOD = {
    "edge_certificate": LEAF.pem + MIDDLE.pem,
    "edge_certificate_key": LEAF.key_pem,
    "edge_certificate_ca": ROOT.pem,
}


def codes(domains: t.Sequence[str] = (DOMAIN,), **changes: str) -> list[tuple[str, str]]:
    problems = list(certificate.judge({**GOOD, **changes}, domains, NOW.timestamp()))
    for one in problems:
        assert "PRIVATE KEY" not in one.message
        assert "nothing was changed" in one.message
    return [(one.code, one.subject) for one in problems]


def test_a_good_one_and_none_at_all() -> None:
    assert codes() == []
    assert list(certificate.judge({}, [DOMAIN], 0)) == []
    assert list(certificate.judge(dict.fromkeys(GOOD, ""), [DOMAIN], 0)) == []


def test_an_intermediate_may_be_what_is_trusted() -> None:
    assert codes(edge_certificate=LEAF.pem, edge_certificate_ca=MIDDLE.pem) == []
    assert codes(edge_certificate_ca=MIDDLE.pem) == []


def test_a_wildcard_serves_one_level() -> None:
    wild = made("wild", MIDDLE, ["*.example.com"])
    changes = {"edge_certificate": wild.pem + MIDDLE.pem, "edge_certificate_key": wild.key_pem}
    assert codes(**changes) == []
    assert codes(["a.books.example.com"], **changes) == [("missing-name", "edge_certificate")]


def leaf(*sans: str, issuer: Made = MIDDLE, **times: datetime.datetime) -> dict[str, str]:
    one = made("leaf", issuer, sans, **times)
    return {"edge_certificate": one.pem + issuer.pem, "edge_certificate_key": one.key_pem}


ENCRYPTED = LEAF.key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
).decode()
STALE = made("Stale", ROOT, begins=NOW - 90 * DAY, ends=NOW - DAY)


@pytest.mark.parametrize(
    ("changes", "code", "subject"),
    [
        ({"edge_certificate_key": ""}, "incomplete-certificate", "edge_certificate_key"),
        ({"edge_certificate_ca": " "}, "incomplete-certificate", "edge_certificate_ca"),
        ({"edge_certificate": "x"}, "unreadable", "edge_certificate"),
        ({"edge_certificate": LEAF.pem.replace("M", "!")}, "unreadable", "edge_certificate"),
        ({"edge_certificate_ca": "x"}, "unreadable", "edge_certificate_ca"),
        ({"edge_certificate_key": "x"}, "unreadable", "edge_certificate_key"),
        ({"edge_certificate_key": ENCRYPTED}, "unreadable", "edge_certificate_key"),
        ({"edge_certificate_key": MIDDLE.key_pem}, "wrong-key", "edge_certificate_key"),
        ({"edge_certificate": LEAF.pem}, "wrong-chain", "edge_certificate_ca"),
        ({"edge_certificate": LEAF.pem + ROOT.pem}, "wrong-chain", "edge_certificate"),
        ({"edge_certificate_ca": made("Root").pem}, "wrong-chain", "edge_certificate_ca"),
        (leaf(DOMAIN, ends=NOW - DAY), "expired", "edge_certificate"),
        (leaf(DOMAIN, issuer=STALE), "expired", "edge_certificate"),
        (leaf(DOMAIN, begins=NOW + DAY), "not-yet-valid", "edge_certificate"),
        (leaf("other.example.com"), "missing-name", "edge_certificate"),
        (leaf(), "missing-name", "edge_certificate"),
    ],
)
def test_what_is_refused(changes: dict[str, str], code: str, subject: str) -> None:
    assert codes(**changes) == [(code, subject)]


def test_every_domain_is_asked_for() -> None:
    assert codes([DOMAIN, "www.example.com"]) == [("missing-name", "edge_certificate")]
