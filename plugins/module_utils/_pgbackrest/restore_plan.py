# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From which backup and which WAL a moment can be restored, and what is to be done next.

The law.

* A time has a zone. Without one nobody knows which moment is meant, and an hour of postings is at stake.
* The backup is the newest good one that ended before the target; for a name or a transaction, of which the repository
  does not know when they were, the newest one or the one that was asked for.
* The timeline is the newest that had begun by the target: it is the one on which the site lived then. The last moments
  before a promotion are in the first segment of the timeline that followed. An operator who means an abandoned
  timeline names it.
* All WAL from the beginning of the backup to the target must be there. Where a segment is missing, recovery would end
  at the gap; that is told before anything is fetched, with the moment that can be reached.
* A place belongs to one request. The same request goes on where it was interrupted; another one is refused.
* The steps are fetch, recover, open, in this order, and each is over only when it has been seen to be over.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t

from .._common.errors import Refuse
from . import parse
from .parse import lsn_of

KINDS = ("time", "lsn", "name", "xid", "latest")
STAGES = ("planned", "fetched", "recovered", "ready")
# Room beside the database itself: WAL that is replayed and its temporary files.
ROOM = 1.2
SEGMENT = re.compile(r"^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-[0-9a-f]{40}")
HISTORY = re.compile(r"^([0-9A-F]{8})\.history$")
PLACE = re.compile(r"^[a-z0-9][a-z0-9-]{0,39}$")
NAME = re.compile(r"^[A-Za-z0-9_-]{1,63}$")
LSN = re.compile(r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$")
XID = re.compile(r"^[0-9]{1,20}$")


@dataclasses.dataclass(frozen=True)
class Request:
    """What was asked for. ``moment`` is the target as epoch seconds when ``kind`` is time; ``repository`` 0 is the
    first from which the target can be reached."""

    place: str
    kind: str
    value: str = ""
    moment: float | None = None
    label: str = ""
    timeline: int | None = None
    repository: int = 0
    repository_time: str = ""
    exclusive: bool = False

    def as_state(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Backup:
    """One backup set of the repository; moments in epoch seconds."""

    label: str
    kind: str
    ended: int
    lsn_stop: int
    wal_start: str
    database_bytes: int
    damaged: bool = False


@dataclasses.dataclass(frozen=True)
class Segment:
    """One WAL file in the archive. ``number`` counts segments from the beginning of the cluster, on all timelines."""

    timeline: int
    number: int
    at: int
    name: str


@dataclasses.dataclass(frozen=True)
class History:
    """When a timeline came into being, and which it stands on: until which position each of them counts."""

    born: int
    parents: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Archive:
    """What the repository holds."""

    backups: tuple[Backup, ...] = ()
    segments: tuple[Segment, ...] = ()
    histories: t.Mapping[int, History] = dataclasses.field(default_factory=dict)
    segment_bytes: int = 16 << 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will be done, told beforehand."""

    backup: Backup
    timeline: int
    first_wal: str
    last_wal: str
    earliest: int
    latest: int
    need_bytes: int
    repository: int

    def as_result(self) -> dict[str, t.Any]:
        return {
            "repository": self.repository,
            "backup": self.backup.label,
            "backup_type": self.backup.kind,
            "backup_ended": self.backup.ended,
            "timeline": self.timeline,
            "first_wal": self.first_wal,
            "last_wal": self.last_wal,
            "earliest": self.earliest,
            "latest": self.latest,
            "need_bytes": self.need_bytes,
        }


def moment_of(text: str) -> float:
    """Epoch seconds of a time with a zone; ValueError for anything else."""
    clean = re.sub(r"[zZ]$", "+00:00", text.strip())
    clean = re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", clean) if re.search(r":\d\d.*[+-]\d{4}$", clean) else clean
    clean = re.sub(r"(:\d\d(?:\.\d+)?\s*[+-]\d\d)$", r"\1:00", clean).replace(" +", "+").replace(" -", "-")
    moment = datetime.datetime.fromisoformat(clean)
    if moment.tzinfo is None:
        raise ValueError("no zone")
    return moment.timestamp()


def told(moment: float) -> str:
    """A moment as people and PostgreSQL read it."""
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).isoformat(sep=" ", timespec="microseconds")


def _no_time(what: str, exc: ValueError) -> Refuse:
    return Refuse(
        "bad_time",
        f"{what} cannot be taken",
        "it has no zone" if "no zone" in str(exc) else "it is no time in the form of ISO 8601",
        "Give it like 2026-11-30 17:59:59+01:00.",
    )


def _wrong(kind: str, value: str) -> Refuse | None:
    forms = {
        "lsn": (LSN, "it has the form 1A/2B3C4D5E"),
        "xid": (XID, "a transaction is a number"),
        "name": (NAME, "a restore point has letters, digits, - and _, at most 63"),
    }
    why = ""
    if kind not in KINDS:
        why = f"the type is one of {', '.join(KINDS)}"
    elif (kind == "latest") != (value == ""):
        why = "latest is all there is and has no target; every other type needs one"
    elif kind in forms and not forms[kind][0].match(value):
        why = forms[kind][1]
    if not why:
        return None
    return Refuse("bad_target", f"the target {kind} {value!r} cannot be taken", why, "Give target_type and target.")


def asked(
    place: str,
    kind: str,
    value: str,
    *,
    label: str = "",
    timeline: int | None = None,
    repository: int = 0,
    repository_time: str = "",
    exclusive: bool = False,
) -> Request | Refuse:
    """Judge the words before anybody is asked anything."""
    if not PLACE.match(place):
        return Refuse(
            "bad_place",
            f"{place!r} is no name for a place",
            "it becomes a directory and part of containers' names",
            "Give lower-case letters, digits and -, at most 40.",
        )
    moment: float | None = None
    refusal = _wrong(kind, value)
    if refusal is not None:
        return refusal
    if kind == "time":
        try:
            moment = moment_of(value)
        except ValueError as exc:
            return _no_time(f"the time {value!r}", exc)
    if repository_time:
        try:
            repository_time = told(moment_of(repository_time))[:19] + "+00"
        except ValueError as exc:
            return _no_time(f"repository_time {repository_time!r}", exc)
    return Request(place, kind, value, moment, label, timeline, repository, repository_time, exclusive)


def decide(request: Request, archive: Archive, free_bytes: int) -> Plan | Refuse:
    """Which backup, which timeline, which WAL of one repository; or why not, with what could be reached instead."""
    good = sorted((one for one in archive.backups if not one.damaged), key=lambda one: one.ended)
    if not good:
        return Refuse(
            "no_backup",
            "nothing can be restored",
            f"the repository {request.repository} holds no good backup"
            + (f" as of {request.repository_time}" if request.repository_time else ""),
            "See what it holds (pgbackrest_info); after a deletion give repository_time, a moment before it.",
        )
    backup = _backup(request, good)
    if backup is None:
        return _outside(request, good, archive, good[0])
    timeline = request.timeline or _timeline(request, archive, backup)
    if timeline != _number(backup)[0] and timeline not in archive.histories:
        return Refuse(
            "no_timeline",
            f"timeline {timeline} cannot be followed",
            "its history is not in the archive, which knows of "
            + (", ".join(str(one) for one in sorted(archive.histories)) or "none"),
            "Leave timeline out, or give one of these.",
        )
    last, gap = _reach(archive, backup, timeline)
    if last is None:
        return Refuse(
            "wal_missing",
            f"the backup {backup.label} cannot be made consistent",
            f"the WAL that belongs to it, from {backup.wal_start} on, is not in the archive",
            "Restore an older backup: give its label.",
        )
    plan = Plan(
        backup=backup,
        timeline=timeline,
        first_wal=backup.wal_start,
        last_wal=last.name,
        earliest=good[0].ended,
        latest=last.at,
        need_bytes=int(backup.database_bytes * ROOM),
        repository=request.repository,
    )
    beyond = (request.moment is not None and request.moment > last.at) or (
        request.kind == "lsn" and lsn_of(request.value) >= (last.number + 1) * archive.segment_bytes
    )
    if gap is not None and (beyond or request.kind not in ("time", "lsn")):
        return Refuse(
            "wal_missing",
            f"{_target(request)} cannot be reached",
            f"the segment after {last.name} is not in the archive, later ones are; "
            f"what was committed until {told(last.at)} can be reached",
            "Give a time before, or another repository.",
        )
    if beyond:
        return _outside(request, good, archive, backup, last)
    if free_bytes < plan.need_bytes:
        return Refuse(
            "no_room",
            f"{plan.need_bytes >> 20} MiB are needed",
            f"{free_bytes >> 20} MiB are free; the database has {backup.database_bytes >> 20} MiB, beside it is WAL",
            "Make room, or give another root.",
        )
    return plan


def _backup(request: Request, good: t.Sequence[Backup]) -> Backup | None:
    fitting = [one for one in good if not request.label or one.label == request.label]
    if request.moment is not None:
        fitting = [one for one in fitting if one.ended < request.moment]
    if request.kind == "lsn":
        fitting = [one for one in fitting if one.lsn_stop <= lsn_of(request.value)]
    return fitting[-1] if fitting else None


def _number(backup: Backup) -> tuple[int, int]:
    return int(backup.wal_start[:8], 16), int(backup.wal_start[8:16], 16) * 256 + int(backup.wal_start[16:24], 16)


def _timeline(request: Request, archive: Archive, backup: Backup) -> int:
    own = _number(backup)[0]
    above = {one for one, about in archive.histories.items() if own in dict(about.parents)}
    born = {one for one in above if request.moment is None or archive.histories[one].born <= request.moment}
    best = max(born, default=own)
    last = _reach(archive, backup, best)[0]
    if request.moment is not None and (last is None or last.at < request.moment):
        for one in sorted(above - born):
            reached = _reach(archive, backup, one)[0]
            if archive.histories[one].parents[-1][0] == best and reached and reached.at >= request.moment:
                return one
    return best


def _reach(archive: Archive, backup: Backup, timeline: int) -> tuple[Segment | None, bool | None]:
    """The last segment without a gap before it, and whether there are later ones behind a gap (None: there are not)."""
    own, start = _number(backup)
    about = archive.histories.get(timeline)
    # The segment in which a timeline ends is complete on the next one only.
    ends = [(one, lsn // archive.segment_bytes) for one, lsn in (about.parents if about else ()) if one >= own]

    def on(number: int) -> int:
        return next((one for one, end in ends if number < end), timeline)

    there = {one.number: one for one in archive.segments if one.number >= start and one.timeline == on(one.number)}
    last: Segment | None = None
    number = start
    while number in there:
        last = there[number]
        number += 1
    return last, True if any(one > number for one in there) else None


def _target(request: Request) -> str:
    return "all there is" if request.kind == "latest" else f"{request.kind} {request.value}"


def _outside(
    request: Request, good: t.Sequence[Backup], archive: Archive, backup: Backup, last: Segment | None = None
) -> Refuse:
    if request.label and request.label not in {one.label for one in good}:
        return Refuse(
            "no_such_backup",
            f"there is no good backup {request.label}",
            f"the repository holds {', '.join(one.label for one in good[-10:])}",
            "Give one of these, or none: then the best one is taken.",
        )
    end = last or _reach(archive, good[-1], max([_number(good[-1])[0], *archive.histories]))[0]
    until = told(end.at) if end else told(good[-1].ended)
    return Refuse(
        "target_outside",
        f"{_target(request)} cannot be reached",
        f"the repository reaches from {told(good[0].ended)} (LSN {_lsn(good[0].lsn_stop)}) to {until}"
        + (f" (WAL {end.name})" if end else "")
        + (f"; the backup {backup.label} was asked for" if request.label else ""),
        "Give a target in between; what was committed just now is there as soon as its WAL segment is archived.",
    )


def _lsn(value: int) -> str:
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"


def numbers_of(configuration: str) -> list[int]:
    """The repositories that a pgbackrest.conf has, in the order in which they are tried."""
    return sorted({int(number) for number in re.findall(r"^\s*repo(\d+)-", configuration, re.MULTILINE)}) or [1]


# -- what comes next -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Place:
    """What stands in a place: nothing, or what a request left there."""

    request: t.Mapping[str, t.Any] | None = None
    stage: str = ""
    foreign: bool = False


def next_step(request: Request, place: Place, until: str) -> str | Refuse:
    """``plan``, ``fetch``, ``recover``, ``open`` or ``nothing``."""
    if place.foreign:
        return Refuse(
            "place_foreign",
            f"there is something in the place {request.place}",
            "it has no state of a restore, so nobody knows whose it is",
            "Take another name for the place.",
        )
    if place.request is None:
        return "plan"
    if dict(place.request) != request.as_state():
        was = place.request
        return Refuse(
            "place_taken",
            f"the place {request.place} belongs to another restore",
            f"to {was.get('kind')} {was.get('value') or ''}".rstrip() + f", which is {place.stage}",
            "Take another name for the place, or remove this one (state: absent).",
        )
    reached = STAGES.index(place.stage)
    if reached >= STAGES.index(until):
        return "nothing"
    return ("fetch", "recover", "open")[reached]


# -- what pgBackRest says --------------------------------------------------------------------------------------------


def files_of(listing: t.Mapping[str, t.Mapping[str, t.Any]]) -> tuple[list[Segment], dict[int, int]]:
    """Segments, and the moments of the histories, out of ``repo-ls --recurse --output=json`` of one archive."""
    segments, histories = [], {}
    for path, about in listing.items():
        name = path.rpartition("/")[2]
        found = SEGMENT.match(name)
        if found:
            number = int(found[2], 16) * 256 + int(found[3], 16)
            segments.append(Segment(int(found[1], 16), number, int(about.get("time", 0)), name[:24]))
        elif HISTORY.match(name):
            histories[int(name[:8], 16)] = int(about.get("time", 0))
    return segments, histories


def backups_of(backups: t.Iterable[parse.Backup], repository: int) -> list[Backup]:
    """The backups of one repository."""
    return [
        Backup(
            label=one.label,
            kind=one.type,
            ended=one.ended,
            lsn_stop=lsn_of(one.lsn_stop),
            wal_start=one.wal_start,
            database_bytes=one.database_bytes,
            damaged=one.damaged,
        )
        for one in backups
        if one.repository == repository and one.lsn_stop and one.wal_start
    ]
