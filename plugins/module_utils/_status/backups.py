# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether something could be restored: what the repository holds."""

from __future__ import annotations

import dataclasses
import math
import typing as t

from .._pgbackrest.parse import SEGMENT_BYTES, WAL
from .._pgbackrest.plan import number_of
from . import views
from .hosts import ill, missing_part
from .look import (
    CRITICAL,
    NOTE,
    NOTHING_THERE,
    PLAYBOOK,
    POSTGRES,
    SITE,
    WARNING,
    Finding,
    Findings,
    Look,
    age,
    listing,
    mapping,
    number,
)


def last_backups(look: Look) -> tuple[t.Mapping[str, t.Any] | None, int]:
    """What the repository holds, by the host that knows most of it, and the time there; None when nobody could ask."""
    found = [
        (mapping(host.part("backups")), host)
        for host in look.of(POSTGRES)
        if host.told and mapping(host.part("backups"))
    ]
    if not found:
        return None, 0
    told, host = max(found, key=lambda one: (one[0].get("code") == 0, len(listing(one[0].get("backups")))))
    return told, int(number(host.status.get("now")) or 0)


def judge(look: Look) -> Findings:
    """Whether there is a good backup, not too old."""
    if not look.members[POSTGRES]:
        return
    for host in look.of(POSTGRES):
        if host.told:
            info = f"on {host.name}: {look.pgbackrest('info')}"
            for missing in missing_part(host, "backups", "the repository of backups", info):
                yield dataclasses.replace(missing, cause=ill(host, "postgres"))
    told, now = last_backups(look)
    leader = views.leader_of(look.best(POSTGRES)) if look.best(POSTGRES) else None
    where = f"on {leader or 'the leader'}"
    if told is None:
        yield _not_known(look, where)
        return
    yield from _repositories(look, now)
    take = f"{where}: systemctl start dedicated-backup-full.service"
    code, kept = told.get("code"), listing(told.get("backups"))
    if code != 0:
        yield Finding(
            CRITICAL,
            "backup-none" if code in NOTHING_THERE else "backup-status",
            "",
            f"the repository says: {told.get('message')}",
            "nothing could be restored from it",
            f"{SITE} --tags pgbackrest; then {where}: {look.pgbackrest('check')}",
        )
        return
    yield from _ages(look, kept, now, take)
    yield from _proven(look, REHEARSAL, look.limits.rehearsal_seconds, now)
    yield from _proven(look, VERIFICATION, look.limits.verification_seconds, now)


# -- several repositories --------------------------------------------------------------------------------------------


def repositories(look: Look) -> list[t.Mapping[str, t.Any]]:
    """What each of several holds, by the leader, who archives, or else by the host that reaches most of them."""
    leader = views.leader_of(look.best(POSTGRES)) if look.best(POSTGRES) else None
    told = {host.name: listing(mapping(host.part("backups")).get("repositories")) for host in look.of(POSTGRES)}
    if told.get(leader or ""):
        return told[leader or ""]
    return max(told.values(), key=lambda one: sum(each.get("reached") is True for each in one), default=[])


def of_repository(look: Look, key: t.Any) -> list[t.Mapping[str, t.Any]]:
    """The backups of one of several, by any host that reaches it."""
    found = [
        [one for one in listing(mapping(host.part("backups")).get("backups")) if one.get("repository") == key]
        for host in look.of(POSTGRES)
    ]
    return max(found, key=len, default=[])


def archiving_cause(look: Look) -> str:
    """PostgreSQL calls a segment failed that one of several repositories lacks."""
    away = [one.get("number") for one in repositories(look) if one.get("reached") is not True]
    return f"backup-repository-{away[0]}-unreachable" if away else ""


def _behind(wal: str, newest: str) -> float:
    """How many segments one lacks; on an earlier timeline, more than any limit."""
    if not WAL.fullmatch(newest):
        return 0
    if not WAL.fullmatch(wal) or wal[:8] < newest[:8]:
        return math.inf
    return number_of(newest, SEGMENT_BYTES) - number_of(wal, SEGMENT_BYTES)


def _repositories(look: Look, now: int) -> Findings:
    told = repositories(look)
    newest = max((str(one.get("newest_wal") or "") for one in told), default="")
    leader = views.leader_of(look.best(POSTGRES)) if look.best(POSTGRES) else None
    where = f"on {leader or 'the leader'}"
    for one in told:
        yield from _repository(look, one, newest, now, where)


def _repository(look: Look, one: t.Mapping[str, t.Any], newest: str, now: int, where: str) -> Findings:
    key, code = one.get("number"), f"backup-repository-{one.get('number')}"
    why = "as long as that is so, another repository is all there is"
    take = f"{where}: /opt/dedicated/pgbackrest/bin/backup full {key}"
    if one.get("reached") is not True:
        what = f"repository {key} cannot be asked: {str(one.get('message'))[:200]}"
        check = f"{where}: {look.pgbackrest(f'--repo={key} info')}"
        yield Finding(WARNING, f"{code}-unreachable", "", what, why, check)
        return
    if one.get("code") != 0:
        what = f"repository {key} says: {str(one.get('message'))[:200]}"
        yield Finding(WARNING, f"{code}-none", "", what, why, f"{SITE} --tags pgbackrest; or {take}")
        return
    last = max((int(number(each.get("stop")) or 0) for each in of_repository(look, key)), default=0)
    if now - last > look.limits.backup_seconds:
        what = (
            f"the last backup in repository {key} is {age(now - last)} old, more than {age(look.limits.backup_seconds)}"
        )
        yield Finding(WARNING, f"{code}-old", "", what, why, take)
    behind = _behind(str(one.get("newest_wal") or ""), newest)
    if behind > look.limits.waiting_wal:
        lacks = "a timeline" if math.isinf(behind) else f"{behind:.0f} segments"
        what = f"repository {key} lacks {lacks} of WAL that another one has"
        yield Finding(WARNING, f"{code}-lags", "", what, why, f"{where}: {look.pgbackrest('check')}")


# -- proofs ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Proof:
    """What has to be proven again and again; on the members it is noted when it begins, and when it has passed."""

    part: str
    old: str
    never: str
    failed: str
    name: str
    none: str
    why: str
    playbook: str

    @property
    def do(self) -> str:
        return f"{PLAYBOOK}.{self.playbook} -e reason=<why>"


REHEARSAL = Proof(
    "rehearsal",
    "restore-rehearsal-old",
    "restore-never-rehearsed",
    "restore-rehearsal-failed",
    "rehearsal of a restore",
    "no restore was ever rehearsed",
    "whether the ledger comes back, and how soon, is not known",
    "rehearse_restore",
)
VERIFICATION = Proof(
    "verification",
    "backup-verification-old",
    "backup-verification-never",
    "backup-verification-failed",
    "verification of the backups",
    "the backups were never verified",
    "whether what the repository holds can be read is not known",
    "verify_backup",
)


def last_proof(look: Look, part: str) -> t.Mapping[str, t.Any]:
    """The newest note of a kind, as far as any host knows; empty when there is none."""
    found = [mapping(host.part(part)) for host in look.of(POSTGRES) if host.told]
    return max(found, key=lambda one: number(one.get("at")) or 0, default={})


def unproven_since(look: Look, proof: Proof) -> int:
    """When the last try began that has not passed; 0 when the last one passed."""
    passed = number(last_proof(look, proof.part).get("at")) or 0
    begun = number(last_proof(look, f"{proof.part}_begun").get("at")) or 0
    return int(begun) if begun > passed else 0


def _proven(look: Look, proof: Proof, limit: int, now: int) -> Findings:
    at = int(number(last_proof(look, proof.part).get("at")) or 0)
    begun = unproven_since(look, proof)
    if begun:
        going = now - begun <= look.limits.unproven_seconds
        yield Finding(
            NOTE if going else WARNING,
            proof.failed,
            "",
            f"the last {proof.name} began {age(max(0, now - begun))} ago and has not passed: it failed, or was cut off"
            + (", or is going on" if going else ""),
            proof.why,
            f"{proof.do}; what the last one said: its output, or the record of operations",
        )
    if now - at > limit:
        yield Finding(
            WARNING if at else NOTE,
            proof.old if at else proof.never,
            "",
            f"the last {proof.name} that passed is {age(now - at)} old, more than {age(limit)}" if at else proof.none,
            proof.why,
            proof.do,
            cause=proof.failed if begun else "",
        )


def _not_known(look: Look, where: str) -> Finding:
    asked = [host for host in look.of(POSTGRES) if host.asked]
    told = any(host.told for host in asked)
    return Finding(
        CRITICAL if told else WARNING if asked else NOTE,
        "backups-not-known",
        "",
        "no host could ask the repository of backups",
        "nobody knows what could be restored",
        f"{where}: {look.pgbackrest('check')}",
        cause="" if told else "host-unreachable" if asked else "host-not-asked",
    )


def _ages(look: Look, kept: t.Sequence[t.Mapping[str, t.Any]], now: int, take: str) -> Findings:
    for one in kept[-1:]:
        if one.get("damaged"):
            yield Finding(
                CRITICAL,
                "backup-damaged",
                "",
                f"pages with a wrong checksum are in the backup {one.get('label')}",
                "the database itself has damaged pages",
                "see pgbackrest info --set for which; then restore an older one beside",
            )
    for code, kinds, limit, name in (
        ("backup-old", ("full", "diff", "incr"), look.limits.backup_seconds, "backup"),
        ("backup-full-old", ("full",), look.limits.full_backup_seconds, "full backup"),
    ):
        stops = [int(number(one.get("stop")) or 0) for one in kept if one.get("type") in kinds]
        old = now - max(stops, default=0)
        if old > limit:
            yield Finding(
                WARNING,
                code,
                "",
                f"the last {name} is {age(old)} old ({old} s), more than {age(limit)} ({limit} s)"
                if stops
                else f"there is no {name}",
                "the longer, the more WAL a restore has to replay",
                f"{take}; journalctl -u 'dedicated-backup-*' -n 50",
            )
