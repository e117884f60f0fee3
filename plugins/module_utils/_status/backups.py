# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether something could be restored: what the repository holds."""

from __future__ import annotations

import dataclasses
import typing as t

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
