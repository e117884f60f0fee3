# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge certificates: how they are shown, which end soon, whose names differ, and in which order new ones are taken.

Laws of the rotation's order (`check_invariants` proves them of a plan):

1. A layer is finished before the next one begins.
2. Within a layer whoever reloads comes before whoever restarts, and among these a follower before a leader: what can
   interrupt the least is tried first.
3. No step holds two members of one quorum group, or two of one host, whatever the size of a step; and the first of
   each kind in a layer goes alone, so that a bad certificate meets one consumer only.
4. While a member of a group has a step, every member of that group is known, and is well.
5. Who serves the wanted certificate already has no step: a rotation that was interrupted goes on where it stopped.

Pure: standard library and our own error type only, no clock, no files, no network.
"""

from __future__ import annotations

import ipaddress
import math
import re
import typing as t
from dataclasses import dataclass

from .._common.errors import Refuse
from .parse import Certificate, Constraints

DAY = 86400
# Full days left below which a certificate is spoken of, and the level that says so; 0 has ended.
LEVELS = (0, 1, 7, 14, 30)
# As the cluster is built: whoever keeps the state before whoever uses it.
LAYERS = ("etcd", "postgres", "redis", "odoo", "edge")
RELOAD, RESTART = KINDS = ("reload", "restart")
_NAME_KINDS = ("dns", "ip", "uri", "email")

REFUSED, TIMED_OUT, UNREACHABLE, NO_TLS, HANDSHAKE_FAILED = (
    "refused",
    "timed_out",
    "unreachable",
    "no_tls",
    "handshake_failed",
)
CLIENT_REQUIRED, CLIENT_REFUSED = "client_certificate_required", "client_certificate_refused"
# Alerts (RFC 8446, section 6.2) by which a server rejects the client's certificate, as OpenSSL names them.
_CLIENT_ALERTS = frozenset(
    {
        "BAD_CERTIFICATE",
        "UNSUPPORTED_CERTIFICATE",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_UNKNOWN",
        "CERTIFICATE_REQUIRED",
        "UNKNOWN_CA",
        "ACCESS_DENIED",
        "DECRYPT_ERROR",
    }
)
_DEPTH = re.compile(r"^error \d+ at \d+ depth lookup: ?(.+)$", re.MULTILINE)


# -- how a certificate is shown --------------------------------------------------------------------------------------


def short(certificate: Certificate, now: float) -> dict[str, t.Any]:
    """What is told of every certificate, also of those of a chain. Days are full days, below 0 once it has ended."""
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": certificate.serial,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "days_left": int((certificate.not_after - now) // DAY),
        "key": {"type": certificate.key.kind, "bits": certificate.key.bits, "curve": certificate.key.curve},
        "signature_algorithm": certificate.signature,
        "fingerprint": certificate.fingerprint,
        "self_signed": certificate.self_signed,
        "is_ca": certificate.is_ca,
    }


def full(chain: t.Sequence[Certificate], whole: bool, now: float) -> dict[str, t.Any]:
    """The first of a chain; `whole`: all of it is known."""
    first = chain[0]
    return {
        **short(first, now),
        "version": first.version,
        "sans": first.names.as_result(),
        "usages": list(first.usages),
        "public_key": first.public_key,
        "name_constraints": _constraints(first.constraints),
        "chain": [short(one, now) for one in chain[1:]] if whole else None,
    }


def _constraints(found: Constraints | None) -> dict[str, t.Any] | None:
    if found is None:
        return None
    return {"permitted": found.permitted.as_result(), "excluded": found.excluded.as_result()}


def rejection(reason: str, answered: bool, with_certificate: bool) -> str:
    """The code for a handshake that failed, by OpenSSL's name of the reason.

    `answered`: we had seen the server's certificate, and our own (or none) was under way. Before TLS 1.3 a server that
    misses a certificate may say just "handshake failure"; before our answer that means anything else.
    """
    alert = reason.rpartition("ALERT_")[2] if "ALERT_" in reason else ""
    if answered and (alert in _CLIENT_ALERTS or alert == "HANDSHAKE_FAILURE"):
        return CLIENT_REFUSED if with_certificate else CLIENT_REQUIRED
    return HANDSHAKE_FAILED


def openssl_verdict(rc: int, stdout: str, stderr: str) -> tuple[bool, str]:
    """Whether `openssl verify` trusts a certificate, and why not."""
    if rc == 0 and stdout.rstrip().endswith(": OK"):
        return True, ""
    found = _DEPTH.search(stderr) or _DEPTH.search(stdout)
    lines = (stderr.strip() or stdout.strip() or f"openssl ended with {rc}").splitlines()
    return False, (found.group(1) if found else lines[-1]).strip()[:300]


# -- which end soon --------------------------------------------------------------------------------------------------


def level(days_left: int) -> int | None:
    """The smallest of `LEVELS` that a certificate is below; null when it is below none."""
    return next((one for one in LEVELS if days_left < one), None)


def _end(entry: t.Any) -> tuple[int, str]:
    if not isinstance(entry, t.Mapping):
        raise ValueError("a certificate is no mapping")
    days = entry.get("days_left")
    if isinstance(days, bool) or not isinstance(days, int):
        raise ValueError("a certificate without days_left")
    return int(days), str(entry.get("subject", ""))


def expiring(certificates: t.Any, days: float) -> list[dict[str, t.Any]]:
    """Those that end in less than so many days, soonest first. A chain ends with the first of its certificates.

    What a peer sends of its root does not count: whoever trusts a root has it from elsewhere.
    Raises ValueError for what is no list of certificates: what is not understood must not look as if it lasted.
    """
    if not isinstance(certificates, t.Sequence) or isinstance(certificates, (str, bytes)):
        raise ValueError("no list of certificates")
    if math.isnan(days):
        raise ValueError("days is no number")
    found = []
    for one in certificates:
        own = _end(one)
        ends = [(_end(other), other.get("self_signed")) for other in one.get("chain") or ()]
        left, subject = min([own, *(end for end, root in ends if not root)], key=lambda end: end[0])
        if left < days:
            found.append({**one, "level": level(left), "ends_in_days": left, "ends_first": subject})
    return sorted(found, key=lambda one: (one["ends_in_days"], str(one.get("name", "")), str(one.get("serial", ""))))


# -- whose names differ ----------------------------------------------------------------------------------------------


def _wanted(text: t.Any) -> tuple[str, str]:
    """A name with its kind in front of it, or of the kind that it looks like."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{text!r} is no name")
    kind, colon, value = text.strip().partition(":")
    if not colon or kind.lower() not in _NAME_KINDS:
        kind, value = "", text.strip()
    kind = kind.lower()
    if kind in ("", "ip"):
        try:
            return "ip", str(ipaddress.ip_address(value))
        except ValueError:
            if kind == "ip":
                raise ValueError(f"{value!r} is no address") from None
    if kind in ("", "dns"):
        if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?", value):
            raise ValueError(f"{value!r} is no name of DNS; write other than ASCII in its encoded form (xn--)")
        return "dns", value.rstrip(".").lower()
    return kind, value


def _carried(certificate: t.Any) -> set[tuple[str, str]]:
    sans = certificate.get("sans") if isinstance(certificate, t.Mapping) else None
    if not isinstance(sans, t.Mapping):
        raise ValueError("a certificate without sans")
    found: set[tuple[str, str]] = set()
    for kind in (*_NAME_KINDS, "other"):
        for value in sans.get(kind) or ():
            text = str(value)
            if kind == "ip":
                text = str(ipaddress.ip_address(text))
            found.add((kind, text.rstrip(".").lower() if kind == "dns" else text))
    return found


def _covers(carried: tuple[str, str], wanted: tuple[str, str]) -> bool:
    """The same name, or the wildcard for it: one label, the first (RFC 9525, section 6.3)."""
    if carried == wanted:
        return True
    first, dot, rest = wanted[1].partition(".")
    return carried[0] == wanted[0] == "dns" and bool(dot) and first not in ("", "*") and carried[1] == f"*.{rest}"


def san_mismatch(certificate: t.Any, wanted: t.Any) -> dict[str, t.Any]:
    """Names that a certificate lacks, and those that it has for nothing. Raises ValueError for what is none."""
    if isinstance(wanted, (str, bytes)) or not isinstance(wanted, t.Sequence):
        raise ValueError("the wanted names are no list")
    wishes = {_wanted(one) for one in wanted}
    carried = _carried(certificate)
    missing = {one for one in wishes if not any(_covers(name, one) for name in carried)}
    superfluous = {name for name in carried if not any(_covers(name, one) for one in wishes)}
    return {
        "missing": sorted(f"{kind}:{value}" for kind, value in missing),
        "superfluous": sorted(f"{kind}:{value}" for kind, value in superfluous),
        "matches": not missing and not superfluous,
    }


# -- the order of a rotation -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Consumer:
    """One service on one host that serves or presents the certificate.

    `group`: the quorum that it votes in, empty when it has none. `healthy`: it takes its part there now.
    """

    layer: str
    host: str
    name: str
    kind: str
    leader: bool = False
    group: str = ""
    healthy: bool = False

    @property
    def key(self) -> str:
        """What it is known by."""
        return f"{self.host}/{self.name}"

    @property
    def stage(self) -> tuple[int, bool]:
        """Its place within its layer."""
        return KINDS.index(self.kind), self.leader


@dataclass(frozen=True)
class Wish:
    """What is rotated, and how. Empty `layers` and `hosts` mean all; `sizes`: members that a group must have."""

    order: tuple[str, ...] = LAYERS
    layers: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    done: frozenset[str] = frozenset()
    sizes: t.Mapping[str, int] | None = None
    at_once: int = 1

    def includes(self, consumer: Consumer) -> bool:
        """Whether the consumer still has to take the certificate."""
        return (
            consumer.key not in self.done
            and (not self.layers or consumer.layer in self.layers)
            and (not self.hosts or consumer.host in self.hosts)
        )


@dataclass(frozen=True)
class Step:
    """Consumers of one layer and kind that take the certificate at the same time."""

    consumers: tuple[Consumer, ...]

    def as_result(self, number: int) -> dict[str, t.Any]:
        """Plain mapping for a playbook."""
        first = self.consumers[0]
        return {
            "number": number,
            "layer": first.layer,
            "kind": first.kind,
            "leader": first.leader,
            "consumers": [
                {"key": one.key, "host": one.host, "name": one.name, "quorum_group": one.group}
                for one in self.consumers
            ],
        }


def parse_consumer(value: t.Any) -> Consumer:
    """A consumer of plain data. Raises ValueError."""
    if not isinstance(value, t.Mapping):
        raise ValueError("a consumer is no mapping")
    known = {"layer", "host", "name", "kind", "leader", "quorum_group", "healthy"}
    unknown = sorted(str(one) for one in value if one not in known)
    if unknown:
        raise ValueError(f"a consumer with {unknown[0]!r}; known are {', '.join(sorted(known))}")
    texts = {}
    for name in ("layer", "host", "name", "kind"):
        text = value.get(name)
        if not isinstance(text, str) or not text:
            raise ValueError(f"a consumer without {name}")
        texts[name] = str(text)
    group = value.get("quorum_group") or ""
    for name in ("leader", "healthy"):
        if not isinstance(value.get(name, False), bool):
            raise ValueError(f"{texts['host']}/{texts['name']}: {name} is neither true nor false")
    if texts["kind"] not in KINDS or not isinstance(group, str):
        raise ValueError(f"{texts['host']}/{texts['name']}: kind is reload or restart, quorum_group a name")
    return Consumer(**texts, leader=value.get("leader", False), group=str(group), healthy=value.get("healthy", False))


def _members(consumers: t.Iterable[Consumer]) -> dict[str, list[Consumer]]:
    found: dict[str, list[Consumer]] = {}
    for one in consumers:
        if one.group:
            found.setdefault(one.group, []).append(one)
    return found


def why_not_whole(group: str, members: t.Sequence[Consumer], size: int | None) -> str | None:
    """Why a quorum cannot miss a member now; null when it can."""
    away = sorted(one.key for one in members if not one.healthy)
    hosts = {one.host for one in members}
    if away:
        return f"{', '.join(away)} of {group} {'is' if len(away) == 1 else 'are'} not well"
    if size is not None and len(hosts) != size:
        return f"{group} has {size} members, of which {len(hosts)} are known: {', '.join(sorted(hosts))}"
    leaders = {one.host for one in members if one.leader}
    if len(leaders) > 1:
        return f"{group} has {len(leaders)} leaders: {', '.join(sorted(leaders))}"
    return None


def _refusal(consumers: t.Sequence[Consumer], wish: Wish) -> Refuse | None:
    keys = [one.key for one in consumers]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        return Refuse("duplicate", f"{twice[0]} is named twice", "no step could be told from another", "Name it once.")
    strange = sorted(({one.layer for one in consumers} | set(wish.layers)) - set(wish.order))
    if strange:
        return Refuse(
            "unknown_layer",
            f"the layer {strange[0]} has no place",
            f"the order is {', '.join(wish.order)}",
            "Give an order that has it.",
        )
    hosts = {one.host for one in consumers}
    absent = sorted(
        (wish.done - set(keys)) | (set(wish.hosts) - hosts) | (set(wish.sizes or {}) - set(_members(consumers)))
    )
    if absent:
        return Refuse(
            "unknown_name",
            f"{absent[0]} is nobody's name",
            "a name that fits nothing is a mistake, and a rotation that passes over it looks complete",
            "Name consumers as host/name, hosts and groups as the consumers do.",
        )
    for group, members in sorted(_members(consumers).items()):
        why = why_not_whole(group, members, (wish.sizes or {}).get(group))
        if why is not None and any(wish.includes(one) for one in members):
            return Refuse(
                "quorum_not_whole",
                f"no member of {group} is touched",
                f"{why}, and the next one that pauses could take the quorum with it",
                "Bring every member back, then repeat: whoever serves the new certificate is left out.",
            )
    return None


def _batches(consumers: t.Sequence[Consumer], at_once: int) -> t.Iterator[Step]:
    """Consumers of one stage in as few steps as law 3 allows; the first in line is always in the next step."""
    left, most = list(consumers), 1
    while left:
        taken: list[Consumer] = []
        for one in left:
            met = any(one.host == other.host or (one.group and one.group == other.group) for other in taken)
            if len(taken) < most and not met:
                taken.append(one)
        left, most = [one for one in left if one not in taken], at_once
        yield Step(tuple(taken))


def rotation(consumers: t.Sequence[Consumer], wish: Wish) -> tuple[Step, ...] | Refuse:
    """The steps that are left, in a safe order; see the laws above."""
    refusal = _refusal(consumers, wish)
    if refusal is not None:
        return refusal
    steps: list[Step] = []
    for layer in wish.order:
        due = [one for one in consumers if one.layer == layer and wish.includes(one)]
        for stage in sorted({one.stage for one in due}):
            alike = sorted((one for one in due if one.stage == stage), key=lambda one: (one.host, one.name))
            steps.extend(_batches(alike, wish.at_once))
    return tuple(steps)


def _too_many(steps: t.Sequence[Step], at_once: int) -> t.Iterator[str]:
    """What is wrong with the sizes of steps, by law 3."""
    stages: set[t.Any] = set()
    for step in steps:
        for names in ([one.group for one in step.consumers if one.group], [one.host for one in step.consumers]):
            if len(names) != len(set(names)):
                yield "3: two of one group or host"
        most = at_once if (step.consumers[0].layer, step.consumers[0].stage) in stages else 1
        stages.add((step.consumers[0].layer, step.consumers[0].stage))
        if not 1 <= len(step.consumers) <= most:
            yield f"3: more than {most} in a step"


def check_invariants(steps: t.Sequence[Step], consumers: t.Sequence[Consumer], wish: Wish) -> None:
    """Raises AssertionError when a plan breaks a law."""
    places = [(wish.order.index(one.layer), *one.stage) for step in steps for one in step.consumers]
    planned = [one.key for step in steps for one in step.consumers]
    failed = []
    if places != sorted(places):
        failed.append("1, 2: order")
    failed.extend(_too_many(steps, wish.at_once))
    for group, members in _members(consumers).items():
        if any(one.key in planned for one in members):
            why = why_not_whole(group, members, (wish.sizes or {}).get(group))
            failed.extend([f"4: {why}"] if why else [])
    if sorted(planned) != sorted(one.key for one in consumers if wish.includes(one)):
        failed.append("5: not exactly who is left")
    if failed:
        raise AssertionError("; ".join(failed))
