# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""X.509 certificates by the standard library alone: what hosts read, serve and are shown by their peers.

Law: a certificate is read as a whole or refused. Whatever is cut off, longer than it says, not DER, or not of the shape
of RFC 5280 raises `Malformed` and no other exception; no length or count of the input is believed without a bound.
No signature is verified here: that is OpenSSL's work (see io.py).
"""

from __future__ import annotations

import base64
import binascii
import calendar
import datetime
import hashlib
import ipaddress
import re
import typing as t
from dataclasses import dataclass

# A certificate of ours has less than 2 KiB; the largest public ones with a hundred names have some 10.
MAX_SIZE = 65536
# More than any chain or bundle of authorities of ours.
MAX_CERTIFICATES = 64
MAX_NAMES = 1024
# RFC 5280, 4.1.2.2: at most 20; what is longer has been seen, what is longer than this is garbage.
_MAX_SERIAL = 32
_MAX_ARCS = 32

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_BEGIN = "-----BEGIN CERTIFICATE-----"

# Tags (X.690).
_BOOLEAN, _INTEGER, _BITS, _OCTETS, _OID = 0x01, 0x02, 0x03, 0x04, 0x06
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_SEQUENCE, _SET = 0x30, 0x31
# Tagged by context: primitive from 0x80 on, constructed from 0xA0 on.
_VERSION, _ISSUER_ID, _SUBJECT_ID, _EXTENSIONS = 0xA0, 0x81, 0x82, 0xA3

_ENCODINGS = {
    0x0C: "utf-8",
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as everybody reads it
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
# RFC 4514, section 3. Others are named by their number.
_ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
_SIGNATURES = {
    "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.113549.1.1.10": "rsassaPss",
    "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption",
    "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256",
    "1.2.840.10045.4.3.3": "ecdsa-with-SHA384",
    "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.3.101.112": "ed25519",
    "1.3.101.113": "ed448",
}
_RSA = ("1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10")
_EC = "1.2.840.10045.2.1"
# Name and bits, by number.
_CURVES = {
    "1.2.840.10045.3.1.7": ("secp256r1", 256),
    "1.3.132.0.34": ("secp384r1", 384),
    "1.3.132.0.35": ("secp521r1", 521),
    "1.3.132.0.10": ("secp256k1", 256),
}
_EDWARDS = {"1.3.101.112": ("ed25519", 32, 256), "1.3.101.113": ("ed448", 57, 456)}
_USAGES = {"1.3.6.1.5.5.7.3.1": "server", "1.3.6.1.5.5.7.3.2": "client"}

_SUBJECT_KEY, _ALT_NAMES, _BASIC, _CONSTRAINTS, _AUTHORITY_KEY, _EXTENDED_USAGE = (
    "2.5.29.14",
    "2.5.29.17",
    "2.5.29.19",
    "2.5.29.30",
    "2.5.29.35",
    "2.5.29.37",
)


class Malformed(ValueError):
    """This is no certificate; the text says where it stops being one."""


@dataclass(frozen=True)
class Key:
    """A public key. `kind` is rsa, ec, ed25519, ed448, or the algorithm's number; what it does not have is None."""

    kind: str
    bits: int | None = None
    curve: str | None = None


@dataclass(frozen=True)
class Names:
    """General names (RFC 5280, 4.2.1.6), each kind in the order of the certificate. `other` tells only the kinds."""

    dns: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()
    uri: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def as_result(self) -> dict[str, list[str]]:
        """Plain mapping for a module's result."""
        return {
            "dns": list(self.dns),
            "ip": list(self.ip),
            "uri": list(self.uri),
            "email": list(self.email),
            "other": list(self.other),
        }


@dataclass(frozen=True)
class Constraints:
    """Names that an authority may sign, and those that it may not."""

    permitted: Names = Names()
    excluded: Names = Names()


@dataclass(frozen=True)
class Certificate:
    """One certificate. Times are seconds since the epoch; digests are lower-case hex."""

    version: int
    serial: str
    subject: str
    issuer: str
    not_before: int
    not_after: int
    key: Key
    signature: str
    fingerprint: str
    public_key: str
    names: Names
    usages: tuple[str, ...]
    is_ca: bool
    self_signed: bool
    constraints: Constraints | None = None


# -- DER -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Element:
    """One element: its tag, its content, and all of its bytes."""

    tag: int
    content: bytes
    raw: bytes


class _Reader:
    """Elements one after the other. Definite and shortest lengths only, as DER wants them."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._at, self._what = data, 0, what

    def more(self) -> bool:
        return self._at < len(self._data)

    def tag(self) -> int:
        """The next element's tag, -1 when there is none."""
        return self._data[self._at] if self.more() else -1

    def any(self) -> _Element:
        head = self._data[self._at : self._at + 2]
        if len(head) < 2:
            raise Malformed(f"{self._what}: cut off")
        tag, length, start = head[0], head[1], self._at + 2
        if tag & 0x1F == 0x1F:
            raise Malformed(f"{self._what}: a tag of more than one byte")
        if length & 0x80:
            count = length & 0x7F
            octets = self._data[start : start + count]
            if not 1 <= count <= 4 or len(octets) < count:
                raise Malformed(f"{self._what}: a length that is none")
            length, start = int.from_bytes(octets, "big"), start + count
            if length < 0x80 or octets[0] == 0:
                raise Malformed(f"{self._what}: a length that is longer than it must be")
        end = start + length
        if end > len(self._data):
            raise Malformed(f"{self._what}: cut off")
        element = _Element(tag, self._data[start:end], self._data[self._at : end])
        self._at = end
        return element

    def take(self, tag: int) -> _Element:
        element = self.any()
        if element.tag != tag:
            raise Malformed(f"{self._what}: {element.tag:#04x} where {tag:#04x} belongs")
        return element

    def inside(self, tag: int, what: str) -> _Reader:
        """The content of the next element, to be read."""
        return _Reader(self.take(tag).content, what)

    def end(self) -> None:
        if self.more():
            raise Malformed(f"{self._what}: more than belongs there")

    def each(self) -> t.Iterator[_Element]:
        """All that is left."""
        count = 0
        while self.more():
            count += 1
            if count > MAX_NAMES:
                raise Malformed(f"{self._what}: more than {MAX_NAMES} entries")
            yield self.any()


def _integer(content: bytes, what: str) -> int:
    if not content or (len(content) > 1 and (content[0], content[1] >> 7) in ((0, 0), (0xFF, 1))):
        raise Malformed(f"{what}: no whole number")
    return int.from_bytes(content, "big", signed=True)


def _bits(content: bytes, what: str) -> bytes:
    """A bit string of whole bytes."""
    if not content or content[0] != 0:
        raise Malformed(f"{what}: not whole bytes")
    return content[1:]


def _oid(content: bytes) -> str:
    arcs: list[int] = []
    value = 0
    fresh = True
    for octet in content:
        if fresh and octet == 0x80:
            raise Malformed("object identifier: longer than it must be")
        value = value << 7 | octet & 0x7F
        fresh = not octet & 0x80
        if value >> 128:
            raise Malformed("object identifier: too large")
        if fresh:
            arcs.append(value)
            value = 0
    if not arcs or not fresh or len(arcs) > _MAX_ARCS:
        raise Malformed("object identifier: cut off, or too long")
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def _algorithm(element: _Element, what: str) -> tuple[str, _Reader]:
    """An algorithm's number, and its parameters."""
    reader = _Reader(element.content, what)
    return _oid(reader.take(_OID).content), reader


def _text(content: bytes, encoding: str, what: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise Malformed(f"{what}: not {encoding}") from None


# -- the parts of a certificate --------------------------------------------------------------------------------------


def _escaped(value: str) -> str:
    """RFC 4514, section 2.4. Control characters as well: the text is shown on terminals."""
    parts: list[str] = []
    for index, one in enumerate(value):
        if not one.isprintable():
            parts.extend(f"\\{octet:02X}" for octet in one.encode("utf-8", "surrogatepass"))
        elif (
            one in '"+,;<>\\' or (index == 0 and one in " #") or (index == len(value) - 1 and one == " " and index > 0)
        ):
            parts.append(f"\\{one}")
        else:
            parts.append(one)
    return "".join(parts)


def _attribute(element: _Element) -> str:
    reader = _Reader(element.content, "name")
    if element.tag != _SEQUENCE:
        raise Malformed("name: an attribute that is none")
    kind = _oid(reader.take(_OID).content)
    value = reader.any()
    reader.end()
    encoding = _ENCODINGS.get(value.tag)
    # RFC 4514, section 2.4: what is no string is shown as its bytes.
    shown = f"#{value.raw.hex()}" if encoding is None else _escaped(_text(value.content, encoding, "name"))
    return f"{_ATTRIBUTES.get(kind, kind)}={shown}"


def _name(content: bytes) -> str:
    """A name as RFC 4514 writes it: the last part first."""
    parts = []
    for element in _Reader(content, "name").each():
        attributes = [_attribute(one) for one in _Reader(element.content, "name").each()]
        if element.tag != _SET or not attributes:
            raise Malformed("name: a part without an attribute")
        parts.append("+".join(attributes))
    return ",".join(reversed(parts))


def _moment(element: _Element) -> int:
    text = _text(element.content, "ascii", "validity")
    if element.tag == _UTC_TIME and re.fullmatch(r"[0-9]{12}Z", text):
        # RFC 5280, 4.1.2.5.1: years from 50 on are of the last century.
        text = f"{'19' if text[:2] >= '50' else '20'}{text}"
    if element.tag not in (_UTC_TIME, _GENERALIZED_TIME) or not re.fullmatch(r"[0-9]{14}Z", text):
        raise Malformed("validity: no time")
    numbers = [int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2))]
    try:
        return calendar.timegm(datetime.datetime(*numbers).timetuple())  # type: ignore[arg-type]
    except ValueError:
        raise Malformed("validity: no time") from None


def _key(content: bytes) -> Key:
    reader = _Reader(content, "public key")
    kind, parameters = _algorithm(reader.take(_SEQUENCE), "public key")
    bits = _bits(reader.take(_BITS).content, "public key")
    reader.end()
    if kind in _RSA:
        numbers = _Reader(bits, "public key").inside(_SEQUENCE, "public key")
        modulus = _integer(numbers.take(_INTEGER).content, "public key")
        numbers.take(_INTEGER)
        numbers.end()
        if modulus <= 0:
            raise Malformed("public key: the modulus is not positive")
        return Key("rsa", modulus.bit_length())
    if kind == _EC:
        if parameters.tag() != _OID:
            raise Malformed("public key: the curve has no name")
        number = _oid(parameters.take(_OID).content)
        curve, size = _CURVES.get(number, (number, None))
        octets = len(bits) - 1
        if size is not None and (bits[:1], octets) not in (
            (b"\x04", 2 * ((size + 7) // 8)),
            (b"\x02", (size + 7) // 8),
            (b"\x03", (size + 7) // 8),
        ):
            raise Malformed("public key: no point of its curve")
        return Key("ec", size, curve)
    if kind in _EDWARDS:
        name, length, size = _EDWARDS[kind]
        if len(bits) != length:
            raise Malformed("public key: of another length")
        return Key(name, size, name)
    return Key(kind)


def _address(content: bytes) -> str:
    """An address; in constraints a network."""
    try:
        if len(content) in (4, 16):
            return str(ipaddress.ip_address(content))
        if len(content) in (8, 32):
            half = len(content) // 2
            mask = int.from_bytes(content[half:], "big")
            ones = bin(mask).count("1")
            if mask != ((1 << ones) - 1) << (8 * half - ones):
                raise Malformed("names: a mask with holes")
            return str(ipaddress.ip_network((content[:half], ones), strict=False))
    except ValueError as exc:
        raise Malformed(f"names: {exc}") from None
    raise Malformed("names: no address")


_OTHER_NAMES = {0xA0: "other", 0xA3: "x400", 0xA4: "directory", 0xA5: "edi", 0x88: "registered_id"}
_TEXT_NAMES = {0x81: "email", 0x82: "dns", 0x86: "uri"}


def _general_names(elements: t.Iterable[_Element], networks: bool = False) -> Names:
    found: dict[str, list[str]] = {"dns": [], "ip": [], "uri": [], "email": [], "other": []}
    for one in elements:
        if one.tag in _TEXT_NAMES:
            text = _text(one.content, "ascii", "names")
            if not text.isprintable():
                raise Malformed("names: a control character")
            found[_TEXT_NAMES[one.tag]].append(text)
        elif one.tag == 0x87:
            if (len(one.content) in (8, 32)) != networks:
                raise Malformed("names: no address")
            found["ip"].append(_address(one.content))
        elif one.tag in _OTHER_NAMES:
            found["other"].append(_OTHER_NAMES[one.tag])
        else:
            raise Malformed(f"names: {one.tag:#04x} is no kind of name")
    return Names(**{kind: tuple(names) for kind, names in found.items()})


def _alt_names(content: bytes) -> Names:
    reader = _Reader(content, "alternative names")
    names = _general_names(reader.inside(_SEQUENCE, "alternative names").each())
    reader.end()
    return names


def _basic(content: bytes) -> bool:
    reader = _Reader(content, "basic constraints")
    inner = reader.inside(_SEQUENCE, "basic constraints")
    reader.end()
    authority = _flag(inner, "basic constraints")
    if inner.tag() == _INTEGER:
        _integer(inner.take(_INTEGER).content, "basic constraints")
    inner.end()
    return authority


def _flag(reader: _Reader, what: str) -> bool:
    """An optional boolean, false by default."""
    if reader.tag() != _BOOLEAN:
        return False
    content = reader.take(_BOOLEAN).content
    if content not in (b"\x00", b"\xff"):
        raise Malformed(f"{what}: neither true nor false")
    return content == b"\xff"


def _usages(content: bytes) -> tuple[str, ...]:
    reader = _Reader(content, "extended key usage")
    found = []
    for one in reader.inside(_SEQUENCE, "extended key usage").each():
        if one.tag != _OID:
            raise Malformed("extended key usage: not a purpose")
        number = _oid(one.content)
        found.append(_USAGES.get(number, number))
    reader.end()
    return tuple(found)


def _constraints(content: bytes) -> Constraints:
    outer = _Reader(content, "name constraints")
    reader = outer.inside(_SEQUENCE, "name constraints")
    outer.end()
    found = []
    for tag in (0xA0, 0xA1):
        trees = reader.inside(tag, "name constraints").each() if reader.tag() == tag else iter(())
        # Minimum and maximum behind the name are not used on the internet (RFC 5280, 4.2.1.10).
        bases = []
        for tree in trees:
            if tree.tag != _SEQUENCE:
                raise Malformed("name constraints: no subtree")
            bases.append(_Reader(tree.content, "name constraints").any())
        found.append(_general_names(bases, networks=True))
    reader.end()
    return Constraints(*found)


def _subject_key(content: bytes) -> bytes:
    reader = _Reader(content, "subject key identifier")
    identifier = reader.take(_OCTETS).content
    reader.end()
    return identifier


def _authority_key(content: bytes) -> bytes:
    """The identifier of the issuer's key, empty when the extension names it otherwise."""
    outer = _Reader(content, "authority key identifier")
    reader = outer.inside(_SEQUENCE, "authority key identifier")
    outer.end()
    return next((one.content for one in reader.each() if one.tag == 0x80), b"")


def _extensions(reader: _Reader) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for one in reader.inside(_SEQUENCE, "extensions").each():
        inner = _Reader(one.content, "extensions")
        if one.tag != _SEQUENCE:
            raise Malformed("extensions: one that is none")
        number = _oid(inner.take(_OID).content)
        _flag(inner, "extensions")
        content = inner.take(_OCTETS).content
        inner.end()
        if number in found:
            raise Malformed(f"extensions: {number} twice")
        found[number] = content
    reader.end()
    return found


def _version(reader: _Reader) -> int:
    if reader.tag() != _VERSION:
        return 1
    inner = reader.inside(_VERSION, "version")
    version = _integer(inner.take(_INTEGER).content, "version") + 1
    inner.end()
    if version not in (1, 2, 3):
        raise Malformed(f"version: {version} is none")
    return version


def _late(reader: _Reader, version: int) -> dict[str, bytes]:
    """What follows the public key: unique identifiers (unused) and extensions."""
    for tag in (_ISSUER_ID, _SUBJECT_ID):
        if reader.tag() == tag and version >= 2:
            reader.take(tag)
    if reader.tag() == _EXTENSIONS and version == 3:
        return _extensions(reader.inside(_EXTENSIONS, "extensions"))
    return {}


def certificate(der: bytes) -> Certificate:
    """One certificate of DER. Raises `Malformed`."""
    if len(der) > MAX_SIZE:
        raise Malformed(f"certificate: more than {MAX_SIZE} bytes")
    document = _Reader(der, "certificate")
    outer = document.inside(_SEQUENCE, "certificate")
    document.end()
    body = outer.inside(_SEQUENCE, "certificate")
    algorithm = outer.take(_SEQUENCE)
    _bits(outer.take(_BITS).content, "signature")
    outer.end()

    version = _version(body)
    serial = body.take(_INTEGER).content
    if len(serial) > _MAX_SERIAL:
        raise Malformed("serial number: too long")
    if body.take(_SEQUENCE).raw != algorithm.raw:
        raise Malformed("signature: two algorithms")
    issuer = body.take(_SEQUENCE)
    validity = body.inside(_SEQUENCE, "validity")
    not_before, not_after = _moment(validity.any()), _moment(validity.any())
    validity.end()
    subject = body.take(_SEQUENCE)
    key = body.take(_SEQUENCE)
    extensions = _late(body, version)
    body.end()

    def extension(number: str, read: t.Callable[[bytes], t.Any], absent: t.Any) -> t.Any:
        return read(extensions[number]) if number in extensions else absent

    signature = _algorithm(algorithm, "signature")[0]
    own_key = extension(_SUBJECT_KEY, _subject_key, b"")
    issuing_key = extension(_AUTHORITY_KEY, _authority_key, b"")
    return Certificate(
        version=version,
        serial=f"{_integer(serial, 'serial number'):x}",
        subject=_name(subject.content),
        issuer=_name(issuer.content),
        not_before=not_before,
        not_after=not_after,
        key=_key(key.content),
        signature=_SIGNATURES.get(signature, signature),
        fingerprint=hashlib.sha256(der).hexdigest(),
        public_key=hashlib.sha256(key.raw).hexdigest(),
        names=extension(_ALT_NAMES, _alt_names, Names()),
        usages=extension(_EXTENDED_USAGE, _usages, ()),
        is_ca=extension(_BASIC, _basic, False),
        self_signed=subject.raw == issuer.raw and (not issuing_key or not own_key or issuing_key == own_key),
        constraints=extension(_CONSTRAINTS, _constraints, None),
    )


# -- PEM -------------------------------------------------------------------------------------------------------------


def pem(text: str) -> tuple[bytes, ...]:
    """The DER of every certificate of a PEM text, in its order; keys and whatever else are passed over."""
    found: list[bytes] = []
    for match in _PEM.finditer(text):
        if len(found) == MAX_CERTIFICATES:
            raise Malformed(f"PEM: more than {MAX_CERTIFICATES} certificates")
        try:
            found.append(base64.b64decode("".join(match.group(1).split()), validate=True))
        except (binascii.Error, ValueError):
            raise Malformed(f"PEM: certificate {len(found) + 1} is no base64") from None
    if text.count(_BEGIN) != len(found):
        raise Malformed("PEM: a certificate that does not end")
    return tuple(found)


def chain(ders: t.Iterable[bytes]) -> tuple[Certificate, ...]:
    """Certificates one after the other; the text of a refusal says which one."""
    found: list[Certificate] = []
    for der in ders:
        try:
            found.append(certificate(der))
        except Malformed as exc:
            raise Malformed(f"certificate {len(found) + 1}: {exc}") from None
    return tuple(found)


def validity(text: str) -> tuple[int, int]:
    """From when until when the first certificate of a PEM text is valid."""
    ders = pem(text)
    if not ders:
        raise Malformed("PEM: no certificate")
    first = certificate(ders[0])
    return first.not_before, first.not_after
