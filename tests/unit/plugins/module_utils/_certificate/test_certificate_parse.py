# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our reader of certificates against certificates of the `cryptography` library, and against garbage."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import ipaddress
import typing as t

import pytest
from certificate_lab import KEYS, NAMES, NOW, USAGES, Made, content, der, make, pieces, rebuilt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate import parse
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.parse import Key, Malformed, Names

AUTHORITY = make(
    "authority",
    ca=True,
    extensions=[
        (
            x509.NameConstraints(
                permitted_subtrees=[
                    x509.DNSName("example.com"),
                    x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
                    x509.IPAddress(ipaddress.ip_network("2001:db8::/32")),
                ],
                excluded_subtrees=[x509.DNSName("bad.example.com")],
            ),
            True,
        )
    ],
)
LEAF = make("leaf", AUTHORITY, names=NAMES, extensions=[USAGES])
SHAPES = {kind: make(f"by {kind}", None, kind, names=NAMES, extensions=[USAGES]) for kind in KEYS}


@pytest.mark.parametrize("made", [AUTHORITY, LEAF, *SHAPES.values()], ids=["authority", "leaf", *SHAPES])
def test_says_what_the_library_says(made: Made) -> None:
    found = parse.certificate(made.der)
    other = made.certificate
    assert found.version == 3
    assert found.serial == f"{other.serial_number:x}"
    assert (found.subject, found.issuer) == (other.subject.rfc4514_string(), other.issuer.rfc4514_string())
    assert found.not_before == other.not_valid_before_utc.timestamp()
    assert found.not_after == other.not_valid_after_utc.timestamp()
    assert found.fingerprint == other.fingerprint(hashes.SHA256()).hex()
    public = other.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert found.public_key == hashlib.sha256(public).hexdigest()


@pytest.mark.parametrize(
    ("kind", "expected", "signature"),
    [
        ("rsa", Key("rsa", 2048), "sha256WithRSAEncryption"),
        ("p256", Key("ec", 256, "secp256r1"), "ecdsa-with-SHA256"),
        ("p384", Key("ec", 384, "secp384r1"), "ecdsa-with-SHA256"),
        ("ed25519", Key("ed25519", 256, "ed25519"), "ed25519"),
        ("ed448", Key("ed448", 456, "ed448"), "ed448"),
    ],
)
def test_keys(kind: str, expected: Key, signature: str) -> None:
    found = parse.certificate(SHAPES[kind].der)
    assert (found.key, found.signature) == (expected, signature)


def test_names_and_usages() -> None:
    found = parse.certificate(LEAF.der)
    assert found.names == Names(
        dns=("Erp.example.com", "*.apps.example.com"),
        ip=("127.0.0.1", "2001:db8::10"),
        uri=("https://example.com/a",),
        email=("ops@example.com",),
        other=("directory", "registered_id"),
    )
    assert found.usages == ("server", "client")
    assert (found.is_ca, found.self_signed, found.constraints) == (False, False, None)


def test_authority_and_its_constraints() -> None:
    found = parse.certificate(AUTHORITY.der)
    assert (found.is_ca, found.self_signed, found.names, found.usages) == (True, True, Names(), ())
    assert found.constraints == parse.Constraints(
        Names(dns=("example.com",), ip=("10.0.0.0/8", "2001:db8::/32")), Names(dns=("bad.example.com",))
    )


def test_one_name_and_another_key_is_not_self_signed() -> None:
    """After an authority has a new key under its old name, the leaf of the same name is not its own issuer."""
    assert not parse.certificate(make("authority", AUTHORITY, kind="p384").der).self_signed


@pytest.mark.parametrize(
    "subject",
    [
        x509.Name([]),
        x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Müller, "Söhne" + <Co>; \\ Partner'),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, "12"),
                x509.NameAttribute(NameOID.COMMON_NAME, "#1 "),
            ]
        ),
        x509.Name(
            [
                x509.RelativeDistinguishedName(
                    [
                        x509.NameAttribute(NameOID.COMMON_NAME, "a"),
                        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "b"),
                    ]
                ),
                x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "example")]),
            ]
        ),
    ],
    ids=["none", "to be escaped", "several in one"],
)
def test_subjects(subject: x509.Name) -> None:
    found = parse.certificate(make(subject).der).subject
    assert found == subject.rfc4514_string()


def with_subject(value: bytes) -> bytes:
    """The leaf with another subject, whose only value is this element."""
    subject = der(0x30, der(0x31, der(0x30, bytes.fromhex("0603550403"), value)))
    return rebuilt(LEAF.der, lambda parts: [*parts[:5], subject, *parts[6:]])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (der(0x13, b"plain"), "CN=plain"),
        (der(0x14, b"M\xfcller"), "CN=Müller"),
        (der(0x1E, "Müller".encode("utf-16-be")), "CN=Müller"),
        (der(0x1C, "Müller".encode("utf-32-be")), "CN=Müller"),
        (der(0x0C, b"a\x1b[2Jb\n"), "CN=a\\1B[2Jb\\0A"),
        (der(0x0C, b" "), "CN=\\ "),
        (der(0x02, b"\x05"), "CN=#020105"),
    ],
)
def test_texts_of_every_kind_are_shown_without_control_characters(value: bytes, shown: str) -> None:
    assert parse.certificate(with_subject(value)).subject == shown


@pytest.mark.parametrize("value", [der(0x0C, b"\xff"), der(0x13, b"\xfc"), der(0x1E, b"a"), der(0x1C, b"\xff" * 4)])
def test_text_that_is_not_what_it_says(value: bytes) -> None:
    with pytest.raises(Malformed, match="name: not "):
        parse.certificate(with_subject(value))


def test_version_1() -> None:
    """Roots from before extensions: no version is said, nothing follows the key."""
    found = parse.certificate(rebuilt(AUTHORITY.der, lambda parts: parts[1:-1]))
    assert (found.version, found.is_ca, found.self_signed) == (1, False, True)
    assert found.subject == "CN=authority"


def test_version_1_has_no_extensions() -> None:
    with pytest.raises(Malformed, match="more than belongs there"):
        parse.certificate(rebuilt(AUTHORITY.der, lambda parts: parts[1:]))


@pytest.mark.parametrize("years", [datetime.datetime(1951, 2, 3), datetime.datetime(2049, 12, 31, 23, 59, 59)])
def test_two_digits_of_a_year(years: datetime.datetime) -> None:
    times = der(0x30, der(0x17, years.strftime("%y%m%d%H%M%SZ").encode()), der(0x18, b"99991231235959Z"))
    found = parse.certificate(rebuilt(LEAF.der, lambda parts: [*parts[:4], times, *parts[5:]]))
    assert found.not_before == years.replace(tzinfo=datetime.UTC).timestamp()
    assert found.not_after == 253402300799


@pytest.mark.parametrize(
    "moment",
    [
        der(0x17, b"260230000000Z"),
        der(0x17, b"2602010000Z"),
        der(0x17, b"260201000060Z"),
        der(0x17, b"260201000000+0100"),
        der(0x18, b"00000101000000Z"),
        der(0x18, b"260201000000Z"),
        der(0x18, b" 0260201000000Z"),
        der(0x13, b"260201000000Z"),
        der(0x17, "\uff1260201000000Z".encode()),
    ],
)
def test_time_that_is_none(moment: bytes) -> None:
    times = der(0x30, moment, der(0x18, b"99991231235959Z"))
    with pytest.raises(Malformed, match="validity"):
        parse.certificate(rebuilt(LEAF.der, lambda parts: [*parts[:4], times, *parts[5:]]))


@pytest.mark.parametrize(
    ("serial", "shown"), [(b"\x00", "0"), (b"\x00\xff", "ff"), (b"\xff", "-1"), (b"\x01\x00", "100")]
)
def test_serial_numbers(serial: bytes, shown: str) -> None:
    data = rebuilt(LEAF.der, lambda parts: [parts[0], der(0x02, serial), *parts[2:]])
    assert parse.certificate(data).serial == shown


@pytest.mark.parametrize("serial", [b"", b"\x00\x01", b"\xff\xff", b"\x01" * 33])
def test_serial_number_that_is_none(serial: bytes) -> None:
    with pytest.raises(Malformed):
        parse.certificate(rebuilt(LEAF.der, lambda parts: [parts[0], der(0x02, serial), *parts[2:]]))


# Garbage


@pytest.mark.parametrize("made", [AUTHORITY, LEAF, SHAPES["rsa"]], ids=["authority", "leaf", "rsa"])
def test_cut_off_anywhere(made: Made) -> None:
    for length in range(len(made.der)):
        with pytest.raises(Malformed):
            parse.certificate(made.der[:length])


@pytest.mark.parametrize("made", [AUTHORITY, LEAF], ids=["authority", "leaf"])
def test_any_byte_may_be_wrong(made: Made) -> None:
    """What is read or refused is not the matter here: no other exception may come of it."""
    refused = 0
    for at in range(len(made.der)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0x84, 0xFF, made.der[at] ^ 0x20):
            data = made.der[:at] + bytes((value,)) + made.der[at + 1 :]
            try:
                parse.certificate(data)
            except Malformed:
                refused += 1
    assert refused > len(made.der)


def test_cut_off_inside_with_lengths_that_agree() -> None:
    """Each part of the body shortened from its end, with the lengths around it mended."""
    for index, part in enumerate(pieces(content(pieces(content(LEAF.der))[0]))):
        inner = content(part)
        for length in range(len(inner)):
            shorter = der(part[0], inner[:length])

            def change(parts: list[bytes], index: int = index, shorter: bytes = shorter) -> list[bytes]:
                return [*parts[:index], shorter, *parts[index + 1 :]]

            with contextlib.suppress(Malformed):
                found = parse.certificate(rebuilt(LEAF.der, change))
                # A shorter number, or a name or a list of extensions that ends after a whole one, is another one.
                assert dataclasses.asdict(found) != dataclasses.asdict(parse.certificate(LEAF.der))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut off"),
        (b"\x30", "cut off"),
        (b"\x30\x80\x00\x00", "a length that is none"),
        (b"\x30\x85\x01\x00\x00\x00\x00", "a length that is none"),
        (b"\x30\x81\x01\x00", "longer than it must be"),
        (b"\x30\x82\x00\x80" + bytes(128), "longer than it must be"),
        (b"\x30\x84\x7f\xff\xff\xff", "cut off"),
        (b"\x1f\x81\x01\x00", "a tag of more than one byte"),
        (b"\x31\x00", "0x31 where 0x30 belongs"),
        (LEAF.der + b"\x00", "more than belongs there"),
        (bytes(parse.MAX_SIZE + 1), "more than 65536 bytes"),
        (LEAF.pem.encode(), "certificate"),
    ],
)
def test_refusals_say_why(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse.certificate(data)


def extended(*extensions: bytes) -> bytes:
    """The leaf with just these extensions."""
    return rebuilt(LEAF.der, lambda parts: [*parts[:-1], der(0xA3, der(0x30, *extensions))])


def extension(number: str, value: bytes) -> bytes:
    return der(0x30, bytes.fromhex(f"0603551d{number}"), der(0x04, value))


BASIC, ALT, USAGE, CONSTRAINTS, SUBJECT_KEY = "13", "11", "25", "1e", "0e"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (extended(extension(BASIC, der(0x30)), extension(BASIC, der(0x30))), "twice"),
        (extended(extension(BASIC, der(0x30, b"\x01\x01\x01"))), "neither true nor false"),
        (extended(extension(ALT, der(0x30, der(0x82, b"a\xff")))), "not ascii"),
        (extended(extension(ALT, der(0x30, der(0x82, b"a\x00b")))), "a control character"),
        (extended(extension(ALT, der(0x30, der(0x87, b"abc")))), "no address"),
        (extended(extension(ALT, der(0x30, der(0x87, bytes(8))))), "no address"),
        (extended(extension(ALT, der(0x30, der(0x0C, b"a")))), "no kind of name"),
        (extended(extension(ALT, der(0x30) + b"\x05\x00")), "more than belongs there"),
        (extended(extension(USAGE, der(0x30, b"\x05\x00"))), "not a purpose"),
        (extended(extension(USAGE, der(0x30, b"\x06\x02\x80\x01"))), "object identifier"),
        (extended(extension(USAGE, der(0x30, b"\x06\x02\x81\x81"))), "object identifier"),
        (extended(extension(USAGE, der(0x30, b"\x06\x21" + b"\x01" * 33))), "object identifier"),
        (extended(extension(CONSTRAINTS, der(0x30, der(0xA0, der(0x31))))), "no subtree"),
        (
            extended(extension(CONSTRAINTS, der(0x30, der(0xA0, der(0x30, der(0x87, b"\x0a\0\0\0\xff\0\xff\0")))))),
            "a mask with holes",
        ),
        (extended(extension(SUBJECT_KEY, b"\x04\x01")), "cut off"),
        (extended(der(0x31)), "extensions"),
        (extended(extension(ALT, der(0x30, *[der(0x82, b"a")] * (parse.MAX_NAMES + 1)))), "more than 1024 entries"),
        (rebuilt(LEAF.der, lambda parts: [der(0xA0, b"\x02\x01\x03"), *parts[1:]]), "version: 4 is none"),
        (rebuilt(LEAF.der, lambda parts: [*parts[:2], der(0x30, b"\x06\x01\x2a"), *parts[3:]]), "two algorithms"),
        (rebuilt(LEAF.der, lambda parts: [*parts[:5], der(0x30, der(0x31)), *parts[6:]]), "without an attribute"),
    ],
)
def test_parts_that_are_none(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse.certificate(data)


def keyed(algorithm: bytes, bits: bytes) -> bytes:
    key = der(0x30, der(0x30, algorithm), der(0x03, bits))
    return rebuilt(LEAF.der, lambda parts: [*parts[:6], key, *parts[7:]])


EC, P256, RSA, ED25519 = (
    bytes.fromhex(one) for one in ("06072a8648ce3d0201", "06082a8648ce3d030107", "06092a864886f70d010101", "06032b6570")
)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (keyed(EC, b"\x00\x04" + bytes(64)), "the curve has no name"),
        (keyed(EC + P256, b"\x00\x04" + bytes(63)), "no point of its curve"),
        (keyed(EC + P256, b"\x00\x05" + bytes(64)), "no point of its curve"),
        (keyed(EC + P256, b"\x01\x04" + bytes(64)), "not whole bytes"),
        (keyed(ED25519, b"\x00" + bytes(31)), "of another length"),
        (keyed(RSA + b"\x05\x00", b"\x00" + der(0x30, b"\x02\x01\x00", b"\x02\x01\x03")), "not positive"),
        (keyed(RSA + b"\x05\x00", b"\x00" + der(0x30, b"\x02\x01\x05")), "cut off"),
    ],
)
def test_keys_that_are_none(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=f"public key: .*{why}"):
        parse.certificate(data)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (keyed(EC + P256, b"\x00\x02" + bytes(32)), Key("ec", 256, "secp256r1")),
        (keyed(EC + bytes.fromhex("06052b81040021"), b"\x00\x04"), Key("ec", None, "1.3.132.0.33")),
        (keyed(bytes.fromhex("06032a0304"), b"\x00anything"), Key("1.2.3.4")),
    ],
)
def test_keys_that_we_do_not_know_are_named_by_their_number(data: bytes, key: Key) -> None:
    assert parse.certificate(data).key == key


# PEM


def test_pem_of_several_with_a_key_between() -> None:
    text = f"# a comment\n{LEAF.pem}{LEAF.key_pem}{AUTHORITY.pem}"
    assert parse.pem(text) == (LEAF.der, AUTHORITY.der)
    assert [one.subject for one in parse.chain(parse.pem(text))] == ["CN=leaf", "CN=authority"]


@pytest.mark.parametrize("text", ["", LEAF.key_pem, "nothing"])
def test_pem_without_certificates(text: str) -> None:
    assert parse.pem(text) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LEAF.pem + AUTHORITY.pem[:-30], "does not end"),
        (LEAF.pem[:100] + LEAF.pem, "base64"),
        (LEAF.pem.replace("M", "*", 1), "certificate 1 is no base64"),
        (LEAF.pem + LEAF.pem.replace("M", "*", 1), "certificate 2"),
        (LEAF.pem * (parse.MAX_CERTIFICATES + 1), "more than 64 certificates"),
    ],
)
def test_pem_that_is_none(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse.pem(text)


def test_pem_cut_off_anywhere() -> None:
    end = len(LEAF.pem.rstrip())
    for length in range(len("-----BEGIN CERTIFICATE-----"), end):
        with pytest.raises(Malformed):
            parse.chain(parse.pem(LEAF.pem[:length]))


def test_a_chain_says_which_one_is_none() -> None:
    with pytest.raises(Malformed, match=r"^certificate 2: certificate: cut off"):
        parse.chain((LEAF.der, AUTHORITY.der[:-1]))


def test_validity_of_the_first() -> None:
    day = 86400
    now = int(NOW.timestamp())
    assert parse.validity(LEAF.pem + AUTHORITY.pem) == (now - day, now + 40 * day)
    texts: t.Iterable[str] = ("", LEAF.key_pem)
    for text in texts:
        with pytest.raises(Malformed, match="no certificate"):
            parse.validity(text)
