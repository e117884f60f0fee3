# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""X.509 by the `cryptography` library: read, request, sign, judge.

Runs on the controller and on hosts, so it keeps to what `cryptography` 3.4 (Ubuntu 22.04) already had. No files here.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import ipaddress
import traceback
import typing as t

from .plan import Authority, Issue, Leaf, Wanted

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    CRYPTOGRAPHY_ERROR: str | None = traceback.format_exc()
else:
    CRYPTOGRAPHY_ERROR = None

if t.TYPE_CHECKING:
    _Extension = t.TypeVar("_Extension", bound=x509.ExtensionType)

CA_DAYS = 3650
_DAY = datetime.timedelta(days=1)
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class KeyUnreadable(Exception):
    """The authority's key does not open; `wrong_passphrase` tells a bad passphrase from a bad file."""

    def __init__(self, message: str, wrong_passphrase: bool = False) -> None:
        super().__init__(message)
        self.wrong_passphrase = wrong_passphrase


def pem_fingerprint(pem: str) -> str:
    """SHA-256 of the first certificate of a PEM text, empty if there is none. Needs no library."""
    _before, begin, rest = pem.partition(_BEGIN)
    body, end, _after = rest.partition(_END)
    if not begin or not end:
        return ""
    try:
        return hashlib.sha256(base64.b64decode("".join(body.split()), validate=True)).hexdigest()
    except (binascii.Error, ValueError):
        return ""


def pem_certificates(text: str) -> tuple[str, ...]:
    """The certificates of a PEM text, each as a text of its own, sorted: two bundles of the same are the same."""
    found = []
    for part in text.split(_BEGIN)[1:]:
        body, end, _after = part.partition(_END)
        if end:
            found.append(f"{_BEGIN}{body}{_END}\n")
    return tuple(sorted(set(found)))


def pem_fingerprints(text: str) -> tuple[str, ...]:
    """Of every certificate of a PEM text. Needs no library."""
    return tuple(one for one in map(pem_fingerprint, pem_certificates(text)) if one)


def _epoch(certificate: x509.Certificate, name: str) -> int:
    aware = getattr(certificate, f"{name}_utc", None)  # cryptography >= 42
    if aware is None:
        aware = getattr(certificate, name).replace(tzinfo=datetime.timezone.utc)
    return int(aware.timestamp())


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def _load(pem: str) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _public_key_id(public_key: t.Any) -> str:
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _sans(certificate: x509.Certificate) -> tuple[str, ...]:
    names = _extension(certificate, x509.SubjectAlternativeName) or ()
    # Any other kind of name keeps its type in the text, so that it differs from whatever is wanted.
    return tuple(
        sorted(
            f"dns:{one.value.lower()}"
            if isinstance(one, x509.DNSName)
            else f"ip:{one.value}"
            if isinstance(one, x509.IPAddress)
            else f"{type(one).__name__}:{one.value}"
            for one in names
        )
    )


def _usages(certificate: x509.Certificate) -> tuple[str, ...]:
    present = list(_extension(certificate, x509.ExtendedKeyUsage) or ())
    known = (("server", ExtendedKeyUsageOID.SERVER_AUTH), ("client", ExtendedKeyUsageOID.CLIENT_AUTH))
    usages = [name for name, oid in known if oid in present]
    oids = [oid for _name, oid in known]
    return (*usages, *(one.dotted_string for one in present if one not in oids))


def _signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    algorithm = certificate.signature_hash_algorithm
    if certificate.issuer != authority.subject or not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        return False
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def read_authority(pem: str, trust: str = "") -> Authority | None:
    """The CA's certificate as a value; None when the text is none, or is not a CA that we can sign with.

    `trust`: all that are trusted while one takes the place of another.
    """
    certificate = _load(pem)
    if certificate is None:
        return None
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca or not _signed_by(certificate, certificate):
        return None
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Authority(
        fingerprint=fingerprint,
        not_before=_epoch(certificate, "not_valid_before"),
        not_after=_epoch(certificate, "not_valid_after"),
        others=tuple(one for one in pem_fingerprints(trust) if one != fingerprint),
        domains=_domains(certificate),
    )


def read_leaf(pem: str, ca_pem: str) -> Leaf | None:
    """A leaf certificate as a value, None when the text is none."""
    certificate = _load(pem)
    authority = _load(ca_pem)
    if certificate is None:
        return None
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Leaf(
        common_name=str(names[0].value) if names else "",
        sans=_sans(certificate),
        usages=_usages(certificate),
        not_before=_epoch(certificate, "not_valid_before"),
        not_after=_epoch(certificate, "not_valid_after"),
        serial=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        public_key=_public_key_id(certificate.public_key()),
        trusted=authority is not None and _signed_by(certificate, authority),
    )


def new_key() -> str:
    """A fresh ECDSA P-256 private key, PEM, unencrypted: it is for a file that only its service reads."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        return None
    return key


def key_id(pem: str) -> str:
    """The identity of a private key (SHA-256 of its public half), empty when it is no P-256 key."""
    key = _load_key(pem)
    return "" if key is None else _public_key_id(key.public_key())


def new_request(key_pem: str, common_name: str) -> str:
    """A signing request. It proves that the host has the key; what the certificate says, the controller decides."""
    key = _load_key(key_pem)
    if key is None:
        raise ValueError("not a P-256 private key")
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def new_ca_key(passphrase: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    ).decode()


def open_ca_key(key_pem: str, passphrase: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem.encode(), password=passphrase.encode())
    except TypeError as exc:
        raise KeyUnreadable("the key is not encrypted") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        if "-----BEGIN ENCRYPTED PRIVATE KEY-----" not in key_pem:
            raise KeyUnreadable("the file is not an encrypted private key") from exc
        raise KeyUnreadable("the passphrase does not open it", wrong_passphrase=True) from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnreadable("the key is not an ECDSA key")
    return key


def seal_key(key_pem: str, passphrase: str) -> str:
    """A leaf's private key as the controller keeps it."""
    key = _load_key(key_pem)
    if key is None:
        raise ValueError("not a P-256 private key")
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    ).decode()


def unseal_key(sealed: str, passphrase: str) -> str:
    """The key that `seal_key` made, empty when the passphrase or the text is another one."""
    try:
        key = open_ca_key(sealed, passphrase)
    except KeyUnreadable:
        return ""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def fits(key: ec.EllipticCurvePrivateKey, ca_pem: str) -> bool:
    """Is this the key of that CA certificate?"""
    certificate = _load(ca_pem)
    return certificate is not None and _public_key_id(certificate.public_key()) == _public_key_id(key.public_key())


def new_ca(key: ec.EllipticCurvePrivateKey, common_name: str, start: int, domains: t.Sequence[str] = ()) -> str:
    """A self-signed CA that may sign leaves only, and for names of DNS only below these domains, if there are any.

    Addresses are not constrained: a new host may have any.
    """
    name = _name(common_name)
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(start))
        .not_valid_after(_time(start) + CA_DAYS * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    if domains:
        names = x509.NameConstraints([x509.DNSName(one) for one in domains], None)
        builder = builder.add_extension(names, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _domains(certificate: x509.Certificate) -> tuple[str, ...]:
    found = _extension(certificate, x509.NameConstraints)
    subtrees = () if found is None else found.permitted_subtrees or ()
    return tuple(sorted(one.value for one in subtrees if isinstance(one, x509.DNSName)))


def sign(key: ec.EllipticCurvePrivateKey, ca_pem: str, request_pem: str, issue: Issue) -> str:
    """Sign what the controller wants for the key that the request proves. ValueError when the request is no good."""
    authority = _load(ca_pem)
    request = x509.load_pem_x509_csr(request_pem.encode())
    public = request.public_key()
    if authority is None or not request.is_signature_valid:
        raise ValueError("the signature of the request is wrong")
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise ValueError("the request is not for a P-256 key")
    wanted = issue.wanted
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(wanted.common_name))
        .issuer_name(authority.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(issue.not_before))
        .not_valid_after(_time(issue.not_after))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_usage_oids(wanted)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    if wanted.sans:
        names = [_general_name(one) for one in wanted.sans]
        # Critical where it is all the identity there is (RFC 5280, 4.2.1.6); strict verifiers insist.
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not wanted.common_name)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _usage_oids(wanted: Wanted) -> list[x509.ObjectIdentifier]:
    known = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
    return [known[one] for one in wanted.usages]


def _general_name(text: str) -> x509.GeneralName:
    kind, _colon, value = text.partition(":")
    return x509.IPAddress(ipaddress.ip_address(value)) if kind == "ip" else x509.DNSName(value)
