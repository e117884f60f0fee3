# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look, plan, act, look again: never is an exit code taken for a proof."""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from . import io, plan
from .io import PgBackRest
from .parse import Backup, Info, Server
from .plan import Leave, Problem, Take, Wish


def _accepted(planned: t.Any) -> t.Any:
    if isinstance(planned, Refuse):
        raise Refused(planned)
    return planned


def _answering(info: Info) -> Info:
    """Raises when no repository could be asked."""
    errors = [io.unasked(one) for one in info.repositories]
    if errors and all(errors):
        raise t.cast(DedicatedError, errors[0])
    return info


def _listings(pgbackrest: PgBackRest, info: Info) -> dict[tuple[int, str], dict[str, int]]:
    found = {}
    for one in info.archives:
        repository = info.repository(one.repository)
        if repository is not None and io.unasked(repository) is None:
            found[(one.repository, one.id)] = pgbackrest.archived(one.repository, one.id)
    return found


# -- looking -----------------------------------------------------------------------------------------------------------


def show(pgbackrest: PgBackRest, wal: bool = True, server: bool = True) -> dict[str, t.Any]:
    """What there is, as the result of ``pgbackrest_info``."""
    # The server first: what it calls archived by now must be in the lists.
    asked = pgbackrest.server() if server else None
    info = _answering(pgbackrest.info())
    listings = _listings(pgbackrest, info) if wal else None
    ranges = plan.wal_ranges(info, listings, asked) if listings is not None else []
    reach = plan.by_repository(info, listings, asked)
    return {
        "status": {"code": info.code, "message": info.message},
        "running": info.running,
        "repositories": [
            {**_repository(info, one.key), "recoverable": reach[one.key].as_result()} for one in info.repositories
        ],
        "backups": [one.as_result() for one in info.backups],
        "wal": [one.as_result() for one in ranges],
        "archiver": asked.archiver() if asked else None,
        "recoverable": plan.best_of(reach).as_result(),
    }


def _repository(info: Info, key: int) -> dict[str, t.Any]:
    one = t.cast(t.Any, info.repository(key))
    error = io.unasked(one)
    return {
        "key": one.key,
        "cipher": one.cipher,
        "code": one.code,
        "message": io.plain(one.message),
        "error": error.details["code"] if error else None,
        "backups": [backup.label for backup in info.backups if backup.repository == key],
    }


# -- taking a backup ---------------------------------------------------------------------------------------------------


def wish_of(kind: str, repository: int, annotation: t.Mapping[str, t.Any], expect_leader: bool) -> Wish:
    """A module's options, judged before anybody is asked anything."""
    return Wish(kind, repository, _accepted(plan.noted(annotation)), expect_leader)


def take(pgbackrest: PgBackRest, wish: Wish, timeout: int, check_mode: bool = False) -> dict[str, t.Any]:
    """The result of ``pgbackrest_backup``."""
    server = pgbackrest.server()
    before = _answering(pgbackrest.info())
    repository = before.repository(wish.repository)
    error = io.unasked(repository) if repository else None
    if error is not None:
        raise error
    planned: Take | Leave = _accepted(plan.plan_backup(wish, before, server))
    if isinstance(planned, Leave):
        return _backup_result(wish, None, None, planned.why)
    if check_mode:
        return _backup_result(wish, planned.type, None, planned.why)
    done = pgbackrest.backup(wish.type, wish.repository, wish.annotation, timeout)
    if done.rc == io.LOCKED:
        raise _busy()
    if done.rc != 0:
        raise io.failure(done)
    made = plan.taken(wish, planned, before, pgbackrest.info())
    if made is None:
        raise DedicatedError(
            f"pgBackRest says that it took a {planned.type} backup, and no new one is in repository {wish.repository}. "
            "Look with pgbackrest_info, and who else has access to the repository.",
            code="no_new_backup",
        )
    if made.damaged:
        raise DedicatedError(
            f"the backup {made.label} was taken, and pages in it have a wrong checksum: the database is damaged. "
            "Keep the older backups; restore one aside and compare.",
            code="backup_damaged",
            label=made.label,
        )
    return _backup_result(wish, made.type, made, planned.why)


def _busy() -> Refused:
    return Refused(
        Refuse(
            "backup_running",
            "no second backup is begun",
            "another command of pgBackRest holds the lock",
            "Wait until it has ended (pgbackrest_info: running).",
        )
    )


def _backup_result(wish: Wish, kind: str | None, made: Backup | None, why: str) -> dict[str, t.Any]:
    what = f"take a {kind} backup in repository {wish.repository}" if kind else ""
    return {
        "changed": kind is not None,
        "msg": f"{made.label} was taken" if made else "; ".join(one for one in (what, why) if one),
        "plan": [what] if what else [],
        "wanted": wish.type,
        "type": kind,
        "why": why,
        "repository": wish.repository,
        "label": made.label if made else None,
        "prior": made.prior if made else None,
        "begun": made.begun if made else None,
        "ended": made.ended if made else None,
        "seconds": made.ended - made.begun if made else None,
        "database_bytes": made.database_bytes if made else None,
        "delta_bytes": made.delta_bytes if made else None,
        "repository_bytes": made.repository_bytes if made else None,
        "annotation": dict(made.annotation if made else wish.annotation),
    }


# -- verifying ---------------------------------------------------------------------------------------------------------


def verify(
    pgbackrest: PgBackRest, timeout: int, repositories: t.Sequence[int] = (), server: bool = True
) -> dict[str, t.Any]:
    """The result of ``pgbackrest_verify``. Each repository by itself, and what ``verify`` does not see beside."""
    asked = pgbackrest.server() if server else None
    before = _answering(pgbackrest.info())
    keys = list(repositories) or [one.key for one in before.repositories]
    said, problems = {}, list[Problem]()
    for key in keys:
        repository = before.repository(key)
        error = (
            io.unasked(repository)
            if repository
            else DedicatedError(f"there is no repository {key}", code="no_repository")
        )
        if error is not None:
            problems.append(Problem(key, str(error.details["code"]), "", error.msg))
        else:
            said[key] = pgbackrest.verify(key, timeout)
    after = pgbackrest.info()
    # What came or went meanwhile is not judged.
    labels = {(one.repository, one.label) for one in after.backups}
    both = dataclasses.replace(
        before, backups=tuple(one for one in before.backups if (one.repository, one.label) in labels)
    )
    for key, answer in said.items():
        problems += plan.problems_of(key, answer, both)
    wanted = dataclasses.replace(before, archives=tuple(one for one in before.archives if one.repository in said))
    problems += plan.gaps_of(plan.wal_ranges(wanted, _listings(pgbackrest, wanted), asked))
    archives = [one for answer in said.values() for one in answer.archives]
    bad = {(one.repository, one.name) for one in problems}
    backups = [
        {"repository": key, **_checked(one, (key, one.name) in bad)} for key in said for one in said[key].backups
    ]
    return {
        "ok": not problems,
        "problems": [one.as_result() for one in problems],
        "repositories": keys,
        "backups": backups,
        "backups_checked": len(backups),
        "backups_usable": sum(bool(one["usable"]) for one in backups),
        "files_checked": sum(int(one["checked"]) for one in backups),
        "wal_checked": sum(one.checked for one in archives),
        "wal_valid": sum(one.valid for one in archives),
    }


def must_be_whole(result: t.Mapping[str, t.Any]) -> None:
    """Raises when something is not as it should be, with the first of it in words."""
    problems = result["problems"]
    if not problems:
        return
    one = problems[0]
    first = f"repository {one['repository']}: {one['name']}{' ' if one['name'] else ''}{one['code']}: {one['what']}"
    more = f", and {len(problems) - 1} more (problems)" if len(problems) > 1 else ""
    raise DedicatedError(
        f"{first}{more}. What is not named there can be restored; take a full backup now, and find out what happened.",
        code="repository_damaged",
        **result,
    )


def _checked(one: t.Any, bad: bool) -> dict[str, t.Any]:
    shown = dataclasses.asdict(one)
    label = shown.pop("name")
    return {"label": label, **shown, "usable": not bad and one.status == "valid"}


# -- the stanza --------------------------------------------------------------------------------------------------------


def stanza(
    pgbackrest: PgBackRest, upgrade_from: str, check: bool, check_timeout: int, check_mode: bool = False
) -> dict[str, t.Any]:
    """The result of ``pgbackrest_stanza``."""
    server = pgbackrest.server()
    info = _all_answering(pgbackrest.info())
    step = _accepted(plan.plan_stanza(info, server, upgrade_from))
    steps = [] if step == "nothing" else [f"{step} the stanza"]
    if check:
        if server.in_recovery:
            raise Refused(
                Refuse(
                    "not_leader",
                    "archiving is not checked here",
                    "this member is a standby, which archives nothing",
                    "Run it on the leader (patroni_cluster_info).",
                )
            )
        steps.append("check that WAL arrives")
    if not check_mode:
        if step != "nothing":
            pgbackrest.stanza(step)
            _stands(pgbackrest, server, step)
        if check:
            pgbackrest.check(check_timeout)
    return {
        "changed": step != "nothing",
        "msg": "; ".join(steps) or "the stanza is there",
        "plan": steps,
        "system_id": server.system_id,
        "checked": check and not check_mode,
        "repositories": [one.key for one in info.repositories],
    }


def _all_answering(info: Info) -> Info:
    for one in info.repositories:
        error = io.unasked(one)
        if error is not None:
            raise error
    return info


def _stands(pgbackrest: PgBackRest, server: Server, step: str) -> None:
    after = _all_answering(pgbackrest.info())
    left = plan.plan_stanza(after, server, "")
    if left != "nothing":
        why = left.message if isinstance(left, Refuse) else f"repository says: {after.message}"
        raise DedicatedError(f"the stanza was {step}d, and it is not as it should be: {why}", code="no_effect")


# -- expiring ----------------------------------------------------------------------------------------------------------


def expire(
    pgbackrest: PgBackRest,
    days: int,
    timeout: int,
    now: float,
    check_mode: bool = False,
    by_repository: t.Mapping[t.Any, t.Any] | None = None,
) -> dict[str, t.Any]:
    """The result of ``pgbackrest_expire``."""
    keep: plan.Keep = _accepted(plan.keep_of(days, by_repository or {}))
    info = _all_answering(pgbackrest.info())
    if info.running:
        raise _busy()
    would = pgbackrest.expire(True, timeout)
    goes: list[Backup] = _accepted(plan.plan_expire(keep, info, would, now))
    archives = [
        {"repository": key, "archive_id": name, "first": first, "last": last}
        for key, name, first, last in would.archives
    ]
    changed = bool(goes or archives)
    if changed and not check_mode:
        pgbackrest.expire(False, timeout)
        left = {(one.repository, one.label) for one in pgbackrest.info().backups}
        stayed = [one.label for one in goes if (one.repository, one.label) in left]
        gone = [one.label for one in info.backups if one not in goes and (one.repository, one.label) not in left]
        if stayed or gone:
            raise DedicatedError(
                f"not what was planned was expired: {', '.join(stayed) or 'nothing'} stayed, "
                f"{', '.join(gone) or 'nothing'} went beside",
                code="no_effect",
            )
    in_effect: list[dict[str, t.Any]] = [
        {
            "repository": key,
            "kind": kind,
            "number": number,
            "policy_days": keep.of(key),
            "policy_met": keep.met(key, kind, number),
        }
        for key, (kind, number) in sorted(would.retention.items())
    ]
    missing = {one.key for one in info.repositories} - set(would.retention)
    return {
        "changed": changed,
        "msg": f"{len(goes)} backups are expired" if goes else "no backup is to be expired",
        "expired": [
            {"repository": one.repository, "label": one.label, "type": one.type, "ended": one.ended} for one in goes
        ],
        "archives": archives,
        "in_effect": in_effect,
        "policy_days": days,
        "policy_met": bool(in_effect) and not missing and all(one["policy_met"] for one in in_effect),
    }
