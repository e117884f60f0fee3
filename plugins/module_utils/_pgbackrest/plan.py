# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the repositories are worth, and what may be done to them.

The law.

* A backup is good when its pages were, it and all that it builds on are there, and so is the WAL that belongs to it.
* A moment is recoverable when all WAL from a good backup up to it is in the archive, along the path of timelines that
  the server itself took. A segment on the standby's word alone is not in the archive: a standby marks as done what it
  has received, and never sends it.
* The newest recoverable moment is the one at which the last of these segments was closed, never a later one.
* A backup is begun where writes happen, by one at a time, into a stanza that is this server's, and only while its WAL
  arrives.
* What pgBackRest calls valid is not believed where it does not look: it sees no missing WAL, and calls a backup valid
  whose full backup is destroyed.
* Nothing is expired that is younger than the policy, and never the last full backup.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .._common.errors import Refuse
from .parse import NO_DATA, NO_PATH, OTHER, WAL, Backup, Checked, Expiry, Info, Server, Verified

# Segments that are named of those that are missing; all are counted.
NAMED = 20
KINDS = ("full", "diff", "incr")
_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,62}")
_SECRET_KEY = re.compile(r"(?:^|[_.-])(?:pass\w*|secret|token|key|credentials?)(?:$|[_.-])")
_SECRET_VALUE = re.compile(r"-----BEGIN|://[^/\s:@]*:[^/\s@]+@")
VALUE_LENGTH, ANNOTATIONS = 200, 20


# -- segments and timelines --------------------------------------------------------------------------------------------


def number_of(name: str, segment_bytes: int) -> int:
    """Segments counted from the beginning of the cluster, whatever the timeline."""
    return int(name[8:16], 16) * ((1 << 32) // segment_bytes) + int(name[16:24], 16)


def name_of(timeline: int, number: int, segment_bytes: int) -> str:
    log, segment = divmod(number, (1 << 32) // segment_bytes)
    return f"{timeline:08X}{log:08X}{segment:08X}"


@dataclasses.dataclass(frozen=True)
class Path:
    """The timelines that a server took: each with its first segment, the oldest first."""

    steps: tuple[tuple[int, int], ...]
    segment_bytes: int

    def timeline_at(self, number: int) -> int | None:
        """On which timeline the segment lies that is needed. Where one was left, the next has the segment again."""
        return next((timeline for timeline, first in reversed(self.steps) if number >= first), None)

    def span(self, timeline: int) -> tuple[int, int | None] | None:
        """First and last segment of a timeline; of the present one nobody knows the last."""
        for at, (one, first) in enumerate(self.steps):
            if one == timeline:
                return first, self.steps[at + 1][1] - 1 if at + 1 < len(self.steps) else None
        return None

    def holds(self, name: str) -> bool:
        return self.timeline_at(number_of(name, self.segment_bytes)) == int(name[:8], 16)


def path_of(server: Server | None) -> Path | None:
    """None on a standby, which does not know where it will go."""
    if server is None or server.timeline is None:
        return None
    steps, first = [], 0
    for timeline, left in server.history:
        steps.append((timeline, first))
        first = left // server.segment_bytes
    return Path((*steps, (server.timeline, first)), server.segment_bytes)


# -- what is in the archive --------------------------------------------------------------------------------------------

# By repository and archive: each segment, and when it came there.
Listings = t.Mapping[tuple[int, str], t.Mapping[str, int]]


@dataclasses.dataclass(frozen=True)
class WalRange:
    """The segments of one timeline in one archive; of those that are missing the first are named."""

    repository: int
    archive_id: str
    timeline: int
    first: str | None
    last: str | None
    segments: int
    missing: tuple[str, ...]
    missing_count: int

    def as_result(self) -> dict[str, t.Any]:
        return {**dataclasses.asdict(self), "missing": list(self.missing)}


def wal_ranges(info: Info, listings: Listings, server: Server | None) -> list[WalRange]:
    """What is there and what is not, each timeline by itself, from the oldest backup on."""
    size = server.segment_bytes if server else 16 << 20
    found = []
    for archive in info.archives:
        listing = listings.get((archive.repository, archive.id))
        if listing is None:
            continue
        path = path_of(server) if _is_present(info, archive.repository, archive.database_id, server) else None
        starts = [
            one.wal_start
            for one in info.backups
            if (one.repository, one.database_id) == (archive.repository, archive.database_id)
            and one.wal_start
            and WAL.fullmatch(one.wal_start)
        ]
        floor = min(((int(name[:8], 16), number_of(name, size)) for name in starts), default=None)
        numbers: dict[int, set[int]] = {}
        for name in listing:
            numbers.setdefault(int(name[:8], 16), set()).add(number_of(name, size))
        for timeline in sorted({*numbers, *(one for one, _first in path.steps)} if path else numbers):
            there = numbers.get(timeline, set())
            wanted = _wanted(timeline, there, floor, path, server)
            missing = [one for one in wanted if one not in there]
            if there or missing:
                found.append(
                    WalRange(
                        archive.repository,
                        archive.id,
                        timeline,
                        name_of(timeline, min(there), size) if there else None,
                        name_of(timeline, max(there), size) if there else None,
                        len(there),
                        tuple(name_of(timeline, one, size) for one in missing[:NAMED]),
                        len(missing),
                    )
                )
    return found


def _is_present(info: Info, repository: int, database_id: int, server: Server | None) -> bool:
    """Whether an archive is the one into which this server writes."""
    database = info.database(repository)
    return database is not None and database.id == database_id and _same(database.system_id, server)


def _same(system_id: str, server: Server | None) -> bool:
    return server is not None and system_id == server.system_id


def _wanted(
    timeline: int, there: set[int], floor: tuple[int, int] | None, path: Path | None, server: Server | None
) -> range:
    """The segments that should be there."""
    span = path.span(timeline) if path else None
    first, last = min(there, default=0), max(there, default=-1)
    if span is not None and server is not None:
        # Of the present timeline all is wanted that the server has handed over.
        done = [number_of(name, server.segment_bytes) for name in archived_by(server) if int(name[:8], 16) == timeline]
        first, last = max(span[0], 0), span[1] if span[1] is not None else max([last, *done])
    if floor is None:
        # No backup needs any of it.
        return range(min(there, default=0), max(there, default=-1) + 1)
    if timeline < floor[0]:
        return range(0)
    if timeline == floor[0]:
        return range(floor[1], last + 1)
    return range(max(first, floor[1]) if span is not None else first, last + 1)


def archived_by(server: Server) -> dict[str, float]:
    """The segments of its own timeline that a leader has handed over, and when each was closed.

    Those of earlier timelines it may have marked as done when it was a standby.
    """
    if server.timeline is None:
        return {}
    own = f"{server.timeline:08X}"
    first_waiting = min((name for name in server.ready if name.startswith(own)), default="G")
    return {name: at for name, at in server.done.items() if name.startswith(own) and name < first_waiting}


# -- what can be recovered ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Recoverable:
    """From when until when, and on what the end rests."""

    earliest: int | None
    latest: float | None
    lag_seconds: float | None
    why: str
    # How long ago the oldest commit can have been that is not in the repository. While nothing waits to be archived it
    # is archive_timeout at most: so long after a commit PostgreSQL closes the segment (CheckArchiveTimeout in
    # checkpointer.c).
    at_risk_seconds: float | None = None
    # The last segment that is there; times of two stores cannot be compared.
    segment: str = ""

    def as_result(self) -> dict[str, t.Any]:
        shown = dataclasses.asdict(self)
        del shown["segment"]
        return shown


@dataclasses.dataclass(frozen=True)
class _Reach:
    """How far one backup reaches: to a segment, and whether what is needed next is not there though later WAL is."""

    backup: Backup
    last: str
    gap: bool


def good_backups(info: Info) -> list[Backup]:
    """Those whose pages were good, and of all that they build on."""
    by_label = {(one.repository, one.label): one for one in info.backups}
    found: list[Backup] = []
    for one in info.backups:
        chain = [
            by_label.get((one.repository, label)) for label in {*one.references, *([one.prior] if one.prior else [])}
        ]
        if not one.damaged and all(part is not None and not part.damaged for part in chain):
            found.append(one)
    return found


def only(info: Info, repository: int) -> Info:
    """What one repository holds."""
    return dataclasses.replace(
        info,
        repositories=tuple(one for one in info.repositories if one.key == repository),
        backups=tuple(one for one in info.backups if one.repository == repository),
        databases=tuple(one for one in info.databases if one.repository == repository),
        archives=tuple(one for one in info.archives if one.repository == repository),
    )


def by_repository(info: Info, listings: Listings | None, server: Server | None) -> dict[int, Recoverable]:
    """What can be recovered from each by itself. One that cannot be asked promises nothing."""
    keys = sorted({one.key for one in info.repositories} | {one.repository for one in info.backups})
    away = Recoverable(None, None, None, "repository_not_asked")
    silent = {one.key for one in info.repositories if one.code == OTHER}
    return {key: away if key in silent else _recoverable(only(info, key), listings, server) for key in keys}


def best_of(found: t.Mapping[int, Recoverable]) -> Recoverable:
    """That of the repository that reaches furthest; where two are as good, of the first."""
    return max(
        (found[key] for key in sorted(found)),
        # Of two moments at which the same segment was there the earlier one is nearer to when it was closed.
        key=lambda one: (
            one.latest is not None,
            one.earliest is not None,
            one.segment,
            -(one.latest or 0),
            -(one.earliest or 0),
        ),
        default=Recoverable(None, None, None, "no_backup"),
    )


def recoverable(info: Info, listings: Listings | None, server: Server | None) -> Recoverable:
    """From the best repository. ``listings`` is None when nobody has looked into the archives."""
    return best_of(by_repository(info, listings, server))


def _recoverable(info: Info, listings: Listings | None, server: Server | None) -> Recoverable:
    good = good_backups(info)
    path = path_of(server)
    if listings is not None and server is not None and path is not None:
        return _by_archive(info, good, listings, server, path)
    earliest = min((one.ended for one in good), default=None)
    if earliest is None or server is None or server.in_recovery:
        return Recoverable(
            earliest, None, None, "no_backup" if earliest is None else "standby" if server else "server_not_asked"
        )
    closed = archived_by(server)
    newest = max(closed, default="")
    last = server.last_archived or ""
    if server.last_archived_at is not None and WAL.fullmatch(last) and last > newest:
        return _until(earliest, server.last_archived_at, server, "archived_at", server.waiting)
    if newest:
        return _until(earliest, closed[newest], server, "closed_at", server.waiting)
    return Recoverable(earliest, None, None, "nothing_archived")


def _until(earliest: int, latest: float, server: Server, why: str, waiting: int) -> Recoverable:
    lag = round(max(0.0, server.now - latest), 3)
    closed = why != "gap" and waiting == 0 and server.archive_timeout > 0
    return Recoverable(earliest, round(latest, 3), lag, why, min(lag, server.archive_timeout) if closed else lag)


def _by_archive(info: Info, good: t.Sequence[Backup], listings: Listings, server: Server, path: Path) -> Recoverable:
    reaches: list[tuple[float, bool, _Reach]] = []
    # A segment waits until every repository has it: those that this one has are not waited for here.
    waiting = server.waiting
    for archive in info.archives:
        listing = listings.get((archive.repository, archive.id))
        if listing is None or not _is_present(info, archive.repository, archive.database_id, server):
            continue
        waiting -= sum(name in listing for name in server.ready)
        of_it = [one for one in good if (one.repository, one.database_id) == (archive.repository, archive.database_id)]
        for reach in _reaches(of_it, listing, server, path):
            # Both are at or after the moment at which it was closed: one may have been copied with the server, the
            # other says when the segment arrived.
            came, closed = listing[reach.last], server.done.get(reach.last)
            reaches.append((min(came, closed) if closed else came, closed is not None and closed <= came, reach))
    if not reaches:
        return Recoverable(None, None, None, "no_backup")
    earliest = min(reach.backup.ended for _at, _closed, reach in reaches)
    at, closed_at, best = max(reaches, key=lambda one: (one[2].last, -one[0]))
    found = _until(earliest, at, server, "gap" if best.gap else "closed_at" if closed_at else "archived_at", waiting)
    return dataclasses.replace(found, segment=best.last)


def _reaches(
    backups: t.Sequence[Backup], listing: t.Mapping[str, int], server: Server, path: Path
) -> t.Iterator[_Reach]:
    """Backups whose own WAL is there, and how far each reaches."""
    size = server.segment_bytes
    there = {number_of(name, size) for name in listing if path.holds(name)}
    newest = max([*there, *(number_of(name, size) for name in archived_by(server))], default=-1)
    ends: dict[int, int] = {}
    for one in sorted(backups, key=lambda one: one.wal_start or "", reverse=True):
        if not (one.wal_start and one.wal_stop and path.holds(one.wal_start) and path.holds(one.wal_stop)):
            continue
        start = at = number_of(one.wal_start, size)
        while at in there and at not in ends:
            at += 1
        end = ends[start] = ends.get(at, at - 1)
        if end >= number_of(one.wal_stop, size):
            yield _Reach(one, name_of(path.timeline_at(end) or 0, end, size), end < newest)


# -- taking a backup ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Wish:
    """The backup that is asked for."""

    type: str
    repository: int = 1
    annotation: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    expect_leader: bool = True


@dataclasses.dataclass(frozen=True)
class Take:
    """Take one. ``type`` is what pgBackRest will make of the wish."""

    type: str
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Leave:
    """Nothing is to be done here."""

    why: str


def noted(given: t.Mapping[str, t.Any]) -> dict[str, str] | Refuse:
    """The annotation as text; anybody who may list the backups can read it."""
    do = "Give short words: keys of lower-case letters, digits, _, . and -, values of one line, and no secrets."
    if len(given) > ANNOTATIONS:
        return Refuse("bad_annotation", "the annotation is too long", f"it has {len(given)} entries", do)
    for key, value in given.items():
        why = _why_not_noted(str(key), value)
        if why is not None:
            # Neither the value nor a key of unknown form is repeated: it may be a secret.
            name = str(key) if _KEY.fullmatch(str(key)) else "an entry"
            return Refuse("bad_annotation", f"{name} cannot be noted with the backup", why, do)
    return {str(key): str(value) for key, value in given.items()}


def _why_not_noted(key: str, value: t.Any) -> str | None:
    if not _KEY.fullmatch(key):
        return "its key has another form"
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        return "its value is no text"
    text = str(value)
    if not text or len(text) > VALUE_LENGTH or not text.isprintable() or text != text.strip():
        return f"its value is empty, longer than {VALUE_LENGTH} characters, or not one plain line"
    if _SECRET_KEY.search(key) or _SECRET_VALUE.search(text):
        return "it looks like a secret"
    return None


def plan_backup(wish: Wish, info: Info, server: Server) -> Take | Leave | Refuse:
    """Whether it may begin."""
    if server.in_recovery and not wish.expect_leader:
        return Leave("this member is a standby: the leader takes the backup")
    refusal = _why_not_here(wish, info, server) or _why_not_now(wish, info, server)
    if refusal is not None:
        return refusal
    database = info.database(wish.repository)
    kept = {
        one.type
        for one in info.backups
        if one.repository == wish.repository and database is not None and one.database_id == database.id
    }
    if wish.type == "diff" and "full" not in kept:
        return Take("full", "there is no full backup for a differential one to build on")
    if wish.type == "incr" and not kept:
        return Take("full", "there is no backup for an incremental one to build on")
    return Take(wish.type)


def _why_not_here(wish: Wish, info: Info, server: Server) -> Refuse | None:
    if server.in_recovery:
        return Refuse(
            "not_leader",
            "no backup is taken here",
            "this member is a standby, which has no part in archiving",
            "Run it on the leader (patroni_cluster_info), or with expect_leader: false on all members.",
        )
    repository = info.repository(wish.repository)
    if repository is None and info.repositories:
        return Refuse(
            "no_repository",
            "no backup is taken",
            f"there is no repository {wish.repository}, only {', '.join(str(one.key) for one in info.repositories)}",
            "Give one of these.",
        )
    if repository is None or repository.code in (NO_PATH, NO_DATA):
        return Refuse(
            "no_stanza",
            "no backup is taken",
            f"repository {wish.repository} says: {repository.message if repository else info.message}",
            "Create the stanza (pgbackrest_stanza). If it was there before, find out who removed it.",
        )
    return _why_foreign(info, wish.repository, server, "no backup is taken")


def _why_foreign(info: Info, repository: int, server: Server, what: str) -> Refuse | None:
    database = info.database(repository)
    if database is None or database.system_id == server.system_id:
        return None
    return Refuse(
        "other_system",
        what,
        f"the stanza in repository {repository} belongs to the system {database.system_id}, and this server is "
        f"{server.system_id}",
        "Look whether host, stanza and repository belong together; never mix two clusters in one stanza.",
    )


def _why_not_now(wish: Wish, info: Info, server: Server) -> Refuse | None:
    if info.running:
        return Refuse(
            "backup_running",
            "no second backup is begun",
            "one is running here already: it holds the lock",
            "Wait until it has ended (pgbackrest_info: running).",
        )
    if any(one.code == OTHER for one in info.repositories if one.key != wish.repository):
        # PostgreSQL calls a segment failed when any repository lacks it. Whether this one gets its WAL is seen by
        # pgBackRest itself, which ends no backup without.
        return None
    failed, good = server.last_failed_at, server.last_archived_at
    if failed is not None and (good is None or failed > good):
        return Refuse(
            "archiving_broken",
            "no backup is begun",
            f"WAL does not reach the repositories: {server.last_failed} failed {server.now - failed:.0f} s ago, and "
            f"nothing has arrived since; {server.waiting} files wait",
            "Mend archiving (pgbackrest_stanza with check: true tells why); without its WAL a backup is worth nothing.",
        )
    return None


def taken(wish: Wish, take: Take, before: Info, after: Info) -> Backup | None:
    """The new backup. Another host may have taken one at the same time: the annotation and the type tell."""
    known = {one.label for one in before.backups if one.repository == wish.repository}
    new = [
        one
        for one in after.backups
        if one.repository == wish.repository
        and one.label not in known
        and one.type in (wish.type, take.type, "full")
        and dict(one.annotation) == dict(wish.annotation)
    ]
    return new[-1] if new else None


# -- verifying ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that keeps a restore from being what it should be."""

    repository: int
    code: str
    name: str
    what: str

    def as_result(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


def problems_of(repository: int, said: Verified, info: Info) -> list[Problem]:
    """What is wrong in one repository. ``info`` holds the backups that were there before and after."""
    found = [Problem(repository, "repository_unusable", "", remark) for remark in said.remarks]
    for archive in said.archives:
        if archive.valid != archive.checked:
            found.append(Problem(repository, "wal_invalid", archive.name, _counted("segments", archive)))
    bad = {one.name for one in said.backups if one.status not in ("valid", "in-progress") or one.valid != one.checked}
    for one in said.backups:
        if one.name in bad:
            found.append(Problem(repository, "backup_invalid", one.name, f"{one.status}: {_counted('files', one)}"))
    kept = [one for one in info.backups if one.repository == repository]
    found += _kept_ill(kept, {one.name for one in said.backups}, bad)
    if not kept and not found:
        found.append(Problem(repository, "no_backup", "", "there is no backup to verify"))
    if said.status != "ok" and not found:
        found.append(Problem(repository, "not_understood", "", f"verify says: {said.status or 'nothing'}"))
    return found


def _kept_ill(kept: t.Sequence[Backup], seen: set[str], bad: set[str]) -> t.Iterator[Problem]:
    """What is wrong with backups beside what ``verify`` says of them."""
    for one in kept:
        if one.damaged:
            what = "pages in it have a wrong checksum: the database itself was damaged"
            yield Problem(one.repository, "backup_damaged", one.label, what)
        if one.label not in seen:
            yield Problem(one.repository, "backup_not_checked", one.label, "verify does not speak of it")
        broken = sorted({*one.references, one.prior or ""} & bad)
        if broken and one.label not in bad:
            what = f"it builds on {', '.join(broken)}, which cannot be used"
            yield Problem(one.repository, "backup_depends", one.label, what)


def _counted(unit: str, one: Checked) -> str:
    parts = [
        f"{getattr(one, name)} {name.replace('_', ' ')}"
        for name in ("missing", "checksum_invalid", "size_invalid", "other")
        if getattr(one, name)
    ]
    return (
        f"{one.checked - one.valid} of {one.checked} {unit} are not valid{' (' if parts else ''}{', '.join(parts)}"
        + (")" if parts else "")
    )


def gaps_of(ranges: t.Iterable[WalRange]) -> list[Problem]:
    """Missing WAL, of which ``verify`` says nothing."""
    return [
        Problem(
            one.repository,
            "wal_missing",
            one.archive_id,
            f"on timeline {one.timeline} {one.missing_count} segments are missing: {', '.join(one.missing)}"
            + (" …" if one.missing_count > len(one.missing) else ""),
        )
        for one in ranges
        if one.missing_count
    ]


# -- the stanza --------------------------------------------------------------------------------------------------------


def plan_stanza(info: Info, server: Server, upgrade_from: str) -> str | Refuse:
    """``nothing``, ``create`` or ``upgrade``."""
    step = "nothing"
    for repository in info.repositories:
        database = info.database(repository.key)
        if repository.code in (NO_PATH, NO_DATA) or database is None:
            step = "create" if step == "nothing" else step
        elif database.system_id != server.system_id:
            if database.system_id != upgrade_from:
                return _why_foreign(info, repository.key, server, "the stanza is left as it is") or "nothing"
            step = "upgrade"
        elif database.version != server.version:
            step = "upgrade"
    if not info.repositories:
        step = "create"
    if step != "nothing" and server.in_recovery:
        return Refuse(
            "not_leader",
            f"the stanza is not {step}d here",
            "this member is a standby",
            "Run it on the leader (patroni_cluster_info).",
        )
    return step


# -- expiring ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Keep:
    """The policy: so many days, or other ones for single repositories."""

    days: int
    by_repository: t.Mapping[int, int] = dataclasses.field(default_factory=dict)

    def of(self, repository: int) -> int:
        return self.by_repository.get(repository, self.days)

    def met(self, repository: int, kind: str, number: int) -> bool:
        """Whether a retention in effect is long enough; one that counts backups promises no days."""
        return kind == "time" and number >= self.of(repository)


def keep_of(days: int, by_repository: t.Mapping[t.Any, t.Any]) -> Keep | Refuse:
    """The policy as the module takes it."""
    try:
        single = {int(key): int(value) for key, value in by_repository.items()}
    except (TypeError, ValueError):
        single = {0: 0}
    if any(key < 1 or value < 1 for key, value in single.items()):
        return Refuse(
            "bad_policy",
            "nothing is expired",
            "by_repository has numbers of repositories and days, each a whole number from 1",
            "Give it like {1: 30, 2: 90}.",
        )
    return Keep(days, single)


def plan_expire(keep: Keep, info: Info, would: Expiry, now: float) -> list[Backup] | Refuse:
    """The backups that go, or why they do not. ``would`` is what a dry run said."""
    going = set(would.labels)
    goes = [one for one in info.backups if (one.repository, one.label) in going]
    for repository in sorted({one.repository for one in goes}):
        days = keep.of(repository)
        policy = now - days * 86400
        kept = [
            one for one in good_backups(info) if one.repository == repository and (repository, one.label) not in going
        ]
        kind, number = would.retention.get(repository, ("count", 0))
        unit = "days" if kind == "time" else "full backups"
        effect = f"the retention in effect in repository {repository} is {number} {unit}"
        do = f"Set retention_days of the repository to {days} or more (pgbackrest_repositories), or lower the policy."
        young = [one.label for one in goes if one.repository == repository and one.ended > policy]
        if not any(one.type == "full" for one in kept):
            why = f"no good full backup would be left in repository {repository}; {effect}"
            return Refuse("below_policy", "nothing is expired", why, do)
        if young:
            why = f"{', '.join(young)} would go, and the policy is {days} days; {effect}"
            return Refuse("below_policy", "nothing is expired", why, do)
        if min(one.ended for one in kept) > policy:
            why = f"no moment {days} days ago could be recovered any more from repository {repository}; {effect}"
            return Refuse("below_policy", "nothing is expired", why, do)
    return goes
