# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which leaf certificates of one host are issued, repaired or left alone.

Invariant: a host follows one authority, and changes to another only when it trusts that one already and both are
trusted still (rotate_ca). Otherwise nothing is issued, and nothing on the host is touched, unless the authority on the
controller is the one that the inventory pins and the one that the host already carries. A certificate is issued only
for a reason, lives at most MAX_DAYS and never outlives its authority. A host gets a shared certificate only as the
controller keeps it, and never a signature over a key of its own under that name.

Pure: standard library and our own error type only, no clock, no files. Times are seconds since the epoch.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import typing as t
from dataclasses import dataclass, field

from .._common.errors import Refuse

DAY = 86400
MAX_DAYS = 90
# Clocks of hosts differ a little; a certificate must not start in a host's future.
BACKDATE = 300
KEY_MODES = ("0400", "0440", "0600", "0640")
USAGES = ("server", "client")
# How a succession of the authority stands: nobody succeeds; both are trusted and the former signs; both are trusted and
# the successor signs.
SETTLED, TRUSTING, ISSUING = "settled", "trusting", "issuing"

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_DNS = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Wanted:
    """One leaf certificate as the inventory asks for it, normalised."""

    name: str
    common_name: str
    sans: tuple[str, ...]
    usages: tuple[str, ...]
    owner: int
    group: int
    mode: int = 0o400
    key_alias: bool = False
    shared: bool = False


@dataclass(frozen=True)
class Authority:
    """The certificate of the internal CA on the controller, which signs. `others`: who is trusted beside it. `domains`:
    below which names of DNS it may sign, all when there are none."""

    fingerprint: str
    not_before: int
    not_after: int
    others: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leaf:
    """A certificate that was found or issued. `trusted`: the authority of this run signed it."""

    common_name: str
    sans: tuple[str, ...]
    usages: tuple[str, ...]
    not_before: int
    not_after: int
    serial: str
    fingerprint: str
    public_key: str
    trusted: bool


@dataclass(frozen=True)
class Found:
    """What lies on the host for one name. Keys appear as the SHA-256 of their public half only."""

    name: str
    leaf: Leaf | None = None
    key: str = ""
    drift: tuple[str, ...] = ()
    leftovers: bool = False


@dataclass(frozen=True)
class Host:
    """What one host carries. `pin` is the fingerprint of the authority that it follows, empty where there is none;
    `trusts` are those in its ca.pem."""

    pin: str = ""
    trusts: tuple[str, ...] = ()
    found: tuple[Found, ...] = ()
    authority_drift: bool = False


@dataclass(frozen=True)
class Policy:
    valid_days: int = MAX_DAYS
    renew_fraction: float = 1 / 3


@dataclass(frozen=True)
class Issue:
    wanted: Wanted
    reason: str
    not_before: int
    not_after: int


@dataclass(frozen=True)
class Copy:
    """A shared certificate that the controller keeps and this host lacks."""

    wanted: Wanted
    reason: str


@dataclass(frozen=True)
class Repair:
    name: str
    reason: str


@dataclass(frozen=True)
class Plan:
    issue: tuple[Issue, ...] = ()
    repair: tuple[Repair, ...] = ()
    authority: bool = False
    copy: tuple[Copy, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.issue or self.repair or self.authority or self.copy)


@dataclass(frozen=True)
class Snapshot:
    """All that a decision rests on. `shared`: what the controller keeps of the shared certificates."""

    authority: Authority | None
    host: Host
    wanted: tuple[Wanted, ...]
    now: int
    pin: str = ""
    policy: Policy = field(default_factory=Policy)
    shared: tuple[Found, ...] = ()


def iso(seconds: int) -> str:
    """Write a time the way results and diffs show it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def bad_input(what: str, todo: str) -> Refuse:
    return Refuse("bad-input", what, "nothing was touched", todo)


def normalise_pin(text: str) -> str | Refuse:
    """Accept a fingerprint as openssl prints it (upper case, colons) and as we store it."""
    pin = text.strip().replace(":", "").lower()
    if pin and not _FINGERPRINT.fullmatch(pin):
        return bad_input(
            "The pinned CA fingerprint is not a SHA-256 fingerprint (64 hexadecimal digits)",
            "Set pki_ca_fingerprint to the output of: openssl x509 -noout -fingerprint -sha256 -in ca.pem",
        )
    return pin


def normalise_san(text: str) -> str | None:
    """Bring `dns:NAME` or `ip:ADDRESS` into its one comparable form; None if it is neither."""
    kind, _colon, value = text.strip().partition(":")
    if kind == "ip":
        try:
            return f"ip:{ipaddress.ip_address(value.strip())}"
        except ValueError:
            return None
    value = value.strip().lower()
    if kind == "dns" and len(value) <= 253 and _DNS.fullmatch(value):
        return f"dns:{value}"
    return None


def normalise(raw: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[Wanted, ...] | Refuse:
    """Turn the list of the inventory into typed values, or say which item is wrong."""
    wanted: list[Wanted] = []
    for position, item in enumerate(raw):
        label = f"certificates[{position}] ({item.get('name')})"
        reason = _why_not_item(item, [one.name for one in wanted])
        if reason is not None:
            return bad_input(f"{label}: {reason}", "Correct pki_certificates in the inventory and run it again.")
        sans = {normalise_san(str(one)) or "" for one in item.get("sans") or ()}
        wanted.append(
            Wanted(
                name=str(item["name"]),
                common_name=str(item["common_name"]),
                sans=tuple(sorted(sans)),
                usages=tuple(one for one in USAGES if one in item["usages"]),
                owner=int(item["owner"]),
                group=int(item["group"]),
                mode=int(str(item.get("mode") or "0400"), 8),
                key_alias=bool(item.get("key_alias")),
                shared=bool(item.get("shared")),
            )
        )
    return tuple(wanted)


def _why_not_item(item: t.Mapping[str, t.Any], names: t.Sequence[str]) -> str | None:
    name = str(item.get("name") or "")
    common_name = str(item.get("common_name") or "")
    if not _NAME.fullmatch(name):
        return "name must be lower-case letters, digits and dashes, at most 31 characters"
    if name in names:
        return "the name appears twice"
    if len(common_name) > 64 or not common_name.isprintable():
        return "common_name must have at most 64 printable characters"
    if not common_name and not item.get("sans"):
        return "without a common_name it needs at least one entry in sans"
    return _why_not_purpose(item) or _why_not_ownership(item)


def _why_not_purpose(item: t.Mapping[str, t.Any]) -> str | None:
    usages = list(item.get("usages") or ())
    sans = [str(one) for one in item.get("sans") or ()]
    if not usages or any(one not in USAGES for one in usages):
        return "usages must name server, client or both"
    wrong = [one for one in sans if normalise_san(one) is None]
    if wrong:
        return f"'{wrong[0]}' is neither dns:<name> nor ip:<address>"
    if "server" in usages and not sans:
        return "a server certificate needs at least one entry in sans"
    return None


def _why_not_ownership(item: t.Mapping[str, t.Any]) -> str | None:
    if str(item.get("mode") or "0400") not in KEY_MODES:
        return f"mode must be one of {', '.join(KEY_MODES)} (quoted)"
    for one in ("owner", "group"):
        value = item.get(one)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            return f"{one} must be a numeric id"
    return None


def why_not_policy(policy: Policy) -> Refuse | None:
    if not 1 <= policy.valid_days <= MAX_DAYS:
        return bad_input(
            f"pki_valid_days is {policy.valid_days}, and certificates live 1 to {MAX_DAYS} days",
            "Set pki_valid_days within that range.",
        )
    if not 0 < policy.renew_fraction < 1:
        return bad_input(
            f"renew_before_fraction is {policy.renew_fraction}, and it is a share of the life between 0 and 1",
            "Leave it out to renew at two thirds of the life.",
        )
    return None


def _accepted(authority: Authority, fingerprint: str) -> bool:
    return fingerprint == authority.fingerprint or fingerprint in authority.others


def _stranger(authority: Authority | None, host: Host) -> str:
    """One that the host trusts in the place of ours; empty when it trusts ours, or nobody yet."""
    if authority is None:
        return next(iter(host.trusts), "")
    others = () if authority.fingerprint in host.trusts else host.trusts
    return next((one for one in others if not _accepted(authority, one)), "")


def why_not_authority(snapshot: Snapshot, where: str) -> Refuse | None:
    """The safety law: another CA than the pinned one, or a CA that is gone while hosts carry it, stops everything.

    `where` is the CA's directory on the controller, for the message.
    """
    authority, host = snapshot.authority, snapshot.host
    known = (
        ("the inventory pins (pki_ca_fingerprint)", snapshot.pin),
        ("the host follows (ca.fingerprint)", host.pin),
        ("the host carries (ca.pem)", _stranger(authority, host)),
    )
    for holder, fingerprint in known:
        if fingerprint and authority is None:
            return Refuse(
                "ca-missing",
                f"There is no CA in {where} on the controller, but {holder} the CA {fingerprint}",
                "a new CA would cut this host off from its peers, so none was made and nothing was touched",
                f"Restore ca.pem and ca.key to {where} from your backup, or point pki_dir to where they are,"
                " and run it again.",
            )
        if fingerprint and authority is not None and not _accepted(authority, fingerprint):
            return Refuse(
                "other-ca",
                f"The CA in {where} is {authority.fingerprint}, but {holder} another one, {fingerprint}",
                "certificates of two CAs do not trust each other, so nothing was touched",
                "Point pki_dir to the CA of this cluster or correct the inventory; to compare, run on the host:"
                " openssl x509 -noout -subject -fingerprint -sha256 -in /etc/dedicated/pki/ca.pem",
            )
    if (
        authority is not None
        and host.pin not in ("", authority.fingerprint)
        and authority.fingerprint not in host.trusts
    ):
        return Refuse(
            "successor-unknown",
            f"The CA in {where} is {authority.fingerprint}, and this host follows {host.pin} and trusts no other",
            "its peers would show it certificates that it refuses, so nothing was touched",
            "Run rotate_ca again: it begins with the hosts that have not heard of the new one.",
        )
    if authority is not None and not authority.not_before - DAY <= snapshot.now < authority.not_after:
        return Refuse(
            "ca-expired",
            f"The CA in {where} is valid from {iso(authority.not_before)} to {iso(authority.not_after)},"
            f" and now it is {iso(snapshot.now)}",
            "nothing that it signs would be accepted, so nothing was touched",
            "Check the controller's clock (timedatectl); if it is right, the CA has to be replaced on all hosts.",
        )
    return None


def why_not_create(snapshot: Snapshot, where: str, limit: str) -> Refuse | None:
    """May a first CA be made? `limit` is the --limit of the run, empty when all hosts take part."""
    refusal = why_not_authority(snapshot, where)
    if refusal is None and limit:
        return Refuse(
            "ca-unsure",
            f"There is no CA in {where} on the controller, and this run is limited to '{limit}'",
            "hosts outside the limit may carry a CA already, so none was made and nothing was touched",
            "Run it once without --limit, or restore ca.pem and ca.key to that directory.",
        )
    return refusal


def permitted(domains: t.Sequence[str], san: str) -> bool:
    """Whether an authority that may sign below these domains may sign for this name (RFC 5280, 4.2.1.10)."""
    kind, _colon, name = san.partition(":")
    name = name.removeprefix("*.")
    return kind != "dns" or not domains or any(name == one or name.endswith(f".{one}") for one in domains)


def normalise_domains(raw: t.Iterable[t.Any]) -> tuple[str, ...] | Refuse:
    """Bring the names below which an authority may sign into their comparable form, or say which is none."""
    found = {str(one).strip().lower().removeprefix("*.") for one in raw}
    wrong = sorted(one for one in found if normalise_san(f"dns:{one}") is None)
    if wrong:
        return bad_input(f"'{wrong[0]}' is no name of DNS", "Correct pki_ca_domains (its default: edge_domains).")
    return tuple(sorted(found))


def why_not_names(sans: t.Iterable[str], domains: t.Sequence[str], where: str) -> Refuse | None:
    """Nobody would believe a certificate for a name that its authority may not sign."""
    beyond = sorted({one for one in sans if not permitted(domains, one)})
    if not beyond:
        return None
    return Refuse(
        "name-not-permitted",
        f"The CA in {where} may sign below {', '.join(domains)}, and not for {', '.join(beyond)}",
        "no service would believe such a certificate, so nothing was touched",
        "Correct the name. If it is right, go back to the former one, add this one to pki_ca_domains beside those that"
        " are above, let another authority take its place (playbook rotate_ca), and then change the name.",
    )


def sans_of(wanted: t.Iterable[Wanted]) -> set[str]:
    return {san for one in wanted for san in one.sans}


def why_issue(wanted: Wanted, found: Found, now: int, policy: Policy) -> str | None:
    """The reason for which a certificate is (re)issued, or None when the present one serves."""
    leaf = found.leaf
    if leaf is None:
        return "missing"
    life = leaf.not_after - leaf.not_before
    reasons = (
        ("wrong-ca", not leaf.trusted),
        ("key-missing", not found.key),
        ("key-mismatch", found.key != leaf.public_key),
        ("subject-differs", leaf.common_name != wanted.common_name),
        ("san-differs", leaf.sans != wanted.sans),
        ("usages-differ", leaf.usages != wanted.usages),
        ("lives-too-long", life > policy.valid_days * DAY),
        ("not-yet-valid", leaf.not_before > now),
        ("expired", leaf.not_after <= now),
        ("expiring", leaf.not_after - now <= life * policy.renew_fraction),
    )
    return next((reason for reason, holds in reasons if holds), None)


def why_copy(kept: Leaf, found: Found) -> str | None:
    """The reason for which a host gets the pair that the controller keeps, or None when it has it."""
    if found.leaf is None:
        return "missing"
    reasons = (
        ("shared-differs", found.leaf.fingerprint != kept.fingerprint),
        ("key-missing", not found.key),
        ("key-mismatch", found.key != kept.public_key),
    )
    return next((reason for reason, holds in reasons if holds), None)


def why_repair(found: Found) -> str | None:
    """The reason for which files are set right around a certificate that serves."""
    if found.drift:
        return f"owner, mode or content of {', '.join(found.drift)}"
    return "left over from an interrupted run" if found.leftovers else None


def plan(snapshot: Snapshot, where: str) -> Plan | Refuse:
    """Decide for one host. Without an authority (check mode before the first run) everything is to be issued."""
    domains = () if snapshot.authority is None else snapshot.authority.domains
    refusal = (
        why_not_policy(snapshot.policy)
        or why_not_authority(snapshot, where)
        or why_not_names(sans_of(snapshot.wanted), domains, where)
    )
    if refusal is not None:
        return refusal
    found = {one.name: one for one in snapshot.host.found}
    kept = {one.name: one for one in snapshot.shared}
    issue: list[Issue] = []
    repair: list[Repair] = []
    copy: list[Copy] = []
    for wanted in snapshot.wanted:
        present = found.get(wanted.name, Found(wanted.name))
        judged = kept.get(wanted.name, Found(wanted.name)) if wanted.shared else present
        due = why_issue(wanted, judged, snapshot.now, snapshot.policy)
        lack = why_copy(judged.leaf, present) if wanted.shared and judged.leaf is not None else None
        mend = why_repair(present)
        if due is not None:
            issue.append(_issue(snapshot, wanted, due))
        elif lack is not None:
            copy.append(Copy(wanted, lack))
        elif mend is not None:
            repair.append(Repair(wanted.name, mend))
    authority = bool(snapshot.wanted) and snapshot.host.authority_drift
    return Plan(tuple(issue), tuple(repair), authority, tuple(copy))


def _issue(snapshot: Snapshot, wanted: Wanted, reason: str) -> Issue:
    start = snapshot.now - BACKDATE
    end = start + snapshot.policy.valid_days * DAY
    if snapshot.authority is not None:
        start = max(start, snapshot.authority.not_before)
        end = min(end, snapshot.authority.not_after)
    return Issue(wanted, reason, start, end)


# -- staging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Staging:
    """What is to wait beside the live certificates. `keep`: it waits there already; `drop`: it is of no use."""

    issue: tuple[Issue, ...] = ()
    copy: tuple[Copy, ...] = ()
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.issue or self.copy or self.drop)


def why_not_since(since: int, now: int) -> Refuse | None:
    if 0 < since <= now:
        return None
    return bad_input(
        f"since is {since}, and now it is {now}",
        "Give the moment at which the rotation was begun, in seconds since the epoch.",
    )


def began(leaf: Leaf | None, since: int) -> bool:
    """Whether a certificate was issued at that moment or later."""
    return leaf is not None and leaf.not_before + BACKDATE >= since


def plan_staging(snapshot: Snapshot, staged: t.Sequence[Found], since: int, where: str) -> Staging | Refuse:
    """Which certificates of one host wait beside the live ones.

    Law: a live certificate that was issued before `since` has a staged one that was issued since and fits; one that is
    younger has none, unless that one is still to be taken. The live ones are not touched, and none is staged for what
    is not there. A staged one that is older than the live one is never kept. A shared one is staged as the controller
    keeps it, which issues it once.
    """
    refusal = (
        why_not_policy(snapshot.policy) or why_not_authority(snapshot, where) or why_not_since(since, snapshot.now)
    )
    if refusal is not None:
        return refusal
    live = {one.name: one for one in snapshot.host.found}
    waiting = {one.name: one for one in staged}
    kept = {one.name: one for one in snapshot.shared}
    issue: list[Issue] = []
    copy: list[Copy] = []
    keep: list[str] = []
    drop: list[str] = []
    for wanted in snapshot.wanted:
        present = live.get(wanted.name, Found(wanted.name))
        there = waiting.get(wanted.name, Found(wanted.name))
        if present.leaf is None:
            return Refuse(
                "not-issued",
                f"This host has no certificate {wanted.name}",
                "there is nothing to change, so nothing was staged",
                "Run site.yml, then this again.",
            )
        source = kept.get(wanted.name, Found(wanted.name)) if wanted.shared else there
        due = _why_stage(snapshot, wanted, source, present.leaf, since)
        if wanted.shared and due is None and source.leaf is not None:
            _stage_shared(wanted, source.leaf, present, there, (copy, keep, drop))
        elif due is None:
            keep.append(wanted.name)
        elif not wanted.shared and began(present.leaf, since):
            drop.extend([wanted.name] if there.leaf is not None else [])
        else:
            issue.append(_issue(snapshot, wanted, due))
    return Staging(tuple(issue), tuple(copy), tuple(keep), tuple(drop))


def _why_stage(snapshot: Snapshot, wanted: Wanted, source: Found, live: Leaf, since: int) -> str | None:
    """Why what waits (or what the controller keeps) cannot be what is taken; null when it can."""
    if source.leaf is None:
        return "asked"
    if not began(source.leaf, since) or (not wanted.shared and source.leaf.not_before < live.not_before):
        return "older"
    return why_issue(wanted, source, snapshot.now, snapshot.policy)


def _stage_shared(
    wanted: Wanted, kept: Leaf, present: Found, there: Found, lists: tuple[list[Copy], list[str], list[str]]
) -> None:
    copy, keep, drop = lists
    if why_copy(kept, there) is None:
        keep.append(wanted.name)
    elif why_copy(kept, present) is not None:
        copy.append(Copy(wanted, "asked"))
    elif there.leaf is not None:
        drop.append(wanted.name)


def check_invariants(snapshot: Snapshot, decision: Plan | Refuse) -> None:
    """What must hold for every decision; tests call it on each of theirs."""
    if isinstance(decision, Refuse):
        return
    if decision.changed:
        _check_authority(snapshot.authority, snapshot.host, snapshot.pin)
    touched = [one.wanted.name for one in decision.issue] + [one.wanted.name for one in decision.copy]
    touched += [one.name for one in decision.repair]
    if len(touched) != len(set(touched)) or not set(touched) <= {one.name for one in snapshot.wanted}:
        raise AssertionError(f"touched twice or not asked for: {touched}")
    serving = {one.name: one.leaf for one in snapshot.shared if one.leaf is not None and one.key == one.leaf.public_key}
    for copy in decision.copy:
        leaf = serving.get(copy.wanted.name)
        if not copy.wanted.shared or leaf is None or not leaf.trusted or leaf.not_after <= snapshot.now:
            raise AssertionError(f"{copy.wanted.name}: the controller keeps no pair that could be copied")
    for one in decision.issue:
        if not one.not_before <= snapshot.now < one.not_after <= one.not_before + MAX_DAYS * DAY:
            raise AssertionError(f"{one.wanted.name}: life {one.not_before} to {one.not_after}")
        if snapshot.authority is not None and one.not_after > snapshot.authority.not_after:
            raise AssertionError(f"{one.wanted.name} outlives its authority")


def _check_authority(authority: Authority | None, host: Host, pin: str) -> None:
    ours = {"", *(() if authority is None else (authority.fingerprint, *authority.others))}
    foreign = {pin, host.pin, _stranger(authority, host)} - ours
    if foreign:
        raise AssertionError(f"a host of another CA would be touched: {sorted(foreign)}")
    if authority and host.pin not in ("", authority.fingerprint) and authority.fingerprint not in host.trusts:
        raise AssertionError(f"a host would follow {authority.fingerprint}, which it does not trust")
