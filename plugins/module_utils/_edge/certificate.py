# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a customer's own certificate can be served. On the controller, before any host is touched.

By the `cryptography` library, since nothing of it is a file yet. No key is in any message.
"""

from __future__ import annotations

import datetime
import traceback
import typing as t

from .._certificate.plan import san_mismatch
from .plan import Problem

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
except ImportError:
    CRYPTOGRAPHY_ERROR: str | None = traceback.format_exc()
else:
    CRYPTOGRAPHY_ERROR = None

NAMES = ("edge_certificate", "edge_certificate_key", "edge_certificate_ca")
DO = "; nothing was changed. Give the certificate first and its intermediates after it, its key, and the root"


def judge(given: t.Mapping[str, t.Any], domains: t.Sequence[str], now: float) -> t.Iterator[Problem]:
    """``given`` has those of NAMES that the inventory sets. The first thing that is wrong; nothing without any."""
    texts = {name: str(given.get(name) or "") for name in NAMES}
    missing = [name for name in NAMES if not texts[name].strip()]
    if len(missing) == len(NAMES):
        return
    if missing:
        yield _wrong("incomplete-certificate", missing[0], "is missing beside the others")
        return
    if CRYPTOGRAPHY_ERROR is not None:
        yield _wrong("no-library", NAMES[0], "cannot be judged: the controller has no Python library cryptography")
        return
    problem = _why(texts, domains, now)
    if problem is not None:
        yield problem


def _wrong(code: str, subject: str, message: str) -> Problem:
    return Problem(code, subject, f"{subject}: {message}{DO}")


def _certificates(text: str) -> list[x509.Certificate]:
    end = "-----END CERTIFICATE-----"
    parts = [f"{part}{end}\n".encode() for part in text.split(end) if "-----BEGIN CERTIFICATE-----" in part]
    return [x509.load_pem_x509_certificate(part) for part in parts]


def _why(texts: t.Mapping[str, str], domains: t.Sequence[str], now: float) -> Problem | None:
    found: dict[str, list[x509.Certificate]] = {}
    for name in ("edge_certificate", "edge_certificate_ca"):
        try:
            found[name] = _certificates(texts[name])
        except (ValueError, UnsupportedAlgorithm) as error:
            return _wrong("unreadable", name, f"is no PEM of certificates ({error})")
        if not found[name]:
            return _wrong("unreadable", name, "holds no certificate")
    chain, roots = found["edge_certificate"], found["edge_certificate_ca"]
    try:
        key = serialization.load_pem_private_key(texts["edge_certificate_key"].encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return _wrong("unreadable", "edge_certificate_key", "is no PEM of a key without a passphrase")
    if _public(key.public_key()) != _public(chain[0].public_key()):
        return _wrong("wrong-key", "edge_certificate_key", "is not the key of edge_certificate")
    return _why_not_chain(chain, roots) or _why_not_times(chain, now) or _why_not_names(chain[0], domains)


def _public(key: t.Any) -> bytes:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_bytes(serialization.Encoding.DER, spki))


def _issued(one: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _why_not_chain(chain: t.Sequence[x509.Certificate], roots: t.Sequence[x509.Certificate]) -> Problem | None:
    for one, by in zip(chain, chain[1:]):
        if not _issued(one, by):
            return _wrong(
                "wrong-chain",
                "edge_certificate",
                f"{by.subject.rfc4514_string()} follows {one.subject.rfc4514_string()} and did not issue it",
            )
    if not any(chain[-1] == root or _issued(chain[-1], root) for root in roots):
        last = chain[-1].issuer.rfc4514_string()
        return _wrong("wrong-chain", "edge_certificate_ca", f"it is not the root of the chain, whose end is {last}")
    return None


def _why_not_times(chain: t.Sequence[x509.Certificate], now: float) -> Problem | None:
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    for one in chain:
        name = one.subject.rfc4514_string() or "the certificate"
        if one.not_valid_after_utc <= moment:
            return _wrong("expired", "edge_certificate", f"{name} ended {one.not_valid_after_utc:%Y-%m-%d %H:%M}Z")
        if one.not_valid_before_utc > moment:
            begin = f"{one.not_valid_before_utc:%Y-%m-%d %H:%M}Z"
            return _wrong("not-yet-valid", "edge_certificate", f"{name} is valid from {begin}")
    return None


def _why_not_names(leaf: x509.Certificate, domains: t.Sequence[str]) -> Problem | None:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        carried = list(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        carried = []
    wanted = [f"dns:{one}" for one in domains]
    missing = san_mismatch({"sans": {"dns": carried, "ip": [], "uri": [], "email": []}}, wanted)["missing"]
    if missing:
        return _wrong("missing-name", "edge_certificate", f"lacks {', '.join(missing)}, under which Odoo is served")
    return None
