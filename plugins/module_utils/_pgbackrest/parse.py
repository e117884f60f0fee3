# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pgBackRest 2.55 and PostgreSQL say, as values.

Law: what is not understood raises ValueError with its source; it never becomes a value that looks good.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

# Of a stanza or a repository (pgBackRest's source, command/info).
OK, NO_PATH, NO_BACKUP, NO_DATA, MIXED, OTHER = 0, 1, 2, 3, 4, 99
SEGMENT_BYTES = 16 << 20

WAL = re.compile(r"[0-9A-F]{24}")
# With the checksum of its content behind the name. A .partial has its word in between.
_ARCHIVED = re.compile(r"([0-9A-F]{24})-[0-9a-f]{40}(?:\.[a-z0-9]+)?")
_HISTORY = re.compile(r"(\d+)\s+([0-9A-F]+/[0-9A-F]+)\b")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


# -- what info tells ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Repository:
    """One repository and how it answered."""

    key: int
    cipher: str
    code: int
    message: str


@dataclasses.dataclass(frozen=True)
class Backup:
    """One backup set. Moments in epoch seconds; what a very old pgBackRest did not note is None."""

    label: str
    type: str
    prior: str | None
    references: tuple[str, ...]
    repository: int
    database_id: int
    begun: int
    ended: int
    lsn_start: str | None
    lsn_stop: str | None
    wal_start: str | None
    wal_stop: str | None
    database_bytes: int
    delta_bytes: int
    repository_bytes: int
    damaged: bool
    annotation: t.Mapping[str, str]
    system_id: str
    version: str

    @property
    def timeline(self) -> int | None:
        return int(self.wal_start[:8], 16) if self.wal_start and WAL.fullmatch(self.wal_start) else None

    def as_result(self) -> dict[str, t.Any]:
        shown = dataclasses.asdict(self)
        del shown["references"], shown["database_id"]
        return {**shown, "annotation": dict(self.annotation), "timeline": self.timeline}


@dataclasses.dataclass(frozen=True)
class Database:
    """One PostgreSQL that a repository knows; the one with the highest ``id`` is the present one."""

    repository: int
    id: int
    system_id: str
    version: str


@dataclasses.dataclass(frozen=True)
class ArchiveId:
    """One archive of WAL in a repository."""

    repository: int
    id: str
    database_id: int


@dataclasses.dataclass(frozen=True)
class Info:
    """What the repositories hold of one stanza, the oldest backup first."""

    code: int = NO_PATH
    message: str = "missing stanza path"
    running: bool = False
    repositories: tuple[Repository, ...] = ()
    backups: tuple[Backup, ...] = ()
    databases: tuple[Database, ...] = ()
    archives: tuple[ArchiveId, ...] = ()

    def repository(self, key: int) -> Repository | None:
        return next((one for one in self.repositories if one.key == key), None)

    def database(self, key: int) -> Database | None:
        """The present one of a repository."""
        of_it = [one for one in self.databases if one.repository == key]
        return max(of_it, key=lambda one: one.id) if of_it else None


def info(text: str, stanza: str) -> Info:
    """``info --output=json``, which exits 0 for a missing stanza and for a dead repository too: its status tells."""
    value = _json(text, "pgbackrest info")
    if not isinstance(value, list):
        raise ValueError("pgbackrest info: not a list")
    entry = next((one for one in value if isinstance(one, dict) and one.get("name") == stanza), None)
    if entry is None:
        return Info()
    try:
        return _entry(entry)
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"pgbackrest info: /{stanza}: {exc} is missing") from exc


def _entry(entry: t.Mapping[str, t.Any]) -> Info:
    status = entry["status"]
    databases = tuple(
        Database(int(one.get("repo-key", 1)), int(one["id"]), str(one["system-id"]), str(one["version"]))
        for one in entry.get("db") or []
    )
    known = {(one.repository, one.id): one for one in databases}
    backups = [_backup(one, known) for one in entry.get("backup") or []]
    return Info(
        code=int(status["code"]),
        message=str(status.get("message", "")),
        running=bool(status.get("lock", {}).get("backup", {}).get("held")),
        repositories=tuple(
            Repository(
                int(one["key"]),
                str(one.get("cipher", "none")),
                int(one["status"]["code"]),
                str(one["status"].get("message", "")),
            )
            for one in entry.get("repo") or []
        ),
        backups=tuple(sorted(backups, key=lambda one: (one.ended, one.repository))),
        databases=databases,
        archives=tuple(
            ArchiveId(int(one["database"].get("repo-key", 1)), str(one["id"]), int(one["database"]["id"]))
            for one in entry.get("archive") or []
        ),
    )


def _backup(one: t.Mapping[str, t.Any], known: t.Mapping[tuple[int, int], Database]) -> Backup:
    where = one.get("database") or {}
    repository, database_id = int(where.get("repo-key", 1)), int(where.get("id", 1))
    database = known.get((repository, database_id))
    archive, lsn, size = one.get("archive") or {}, one.get("lsn") or {}, one.get("info") or {}
    stored = size.get("repository") or {}
    return Backup(
        label=str(one["label"]),
        type=str(one["type"]),
        prior=one.get("prior"),
        references=tuple(one.get("reference") or ()),
        repository=repository,
        database_id=database_id,
        begun=int(one["timestamp"]["start"]),
        ended=int(one["timestamp"]["stop"]),
        lsn_start=lsn.get("start"),
        lsn_stop=lsn.get("stop"),
        wal_start=archive.get("start"),
        wal_stop=archive.get("stop"),
        database_bytes=int(size.get("size", 0)),
        delta_bytes=int(size.get("delta", 0)),
        # With block incremental backups the whole size is not known, only what this backup added.
        repository_bytes=int(stored.get("size", stored.get("delta", 0))),
        # Pages whose checksum was wrong; absent from what was made by an old version.
        damaged=bool(one.get("error")),
        annotation={str(key): str(value) for key, value in (one.get("annotation") or {}).items()},
        system_id=database.system_id if database else "",
        version=database.version if database else "",
    )


# -- what is in the archive --------------------------------------------------------------------------------------------


def archived(text: str) -> dict[str, int]:
    """``repo-ls --recurse --output=json`` of one archive: its segments, and when each came there."""
    value = _json(text, "pgbackrest repo-ls")
    if not isinstance(value, dict):
        raise ValueError("pgbackrest repo-ls: not a mapping")
    found = {}
    for path, about in value.items():
        match = _ARCHIVED.fullmatch(path.rpartition("/")[2])
        if match is not None:
            try:
                found[match[1]] = int(about["time"])
            except (KeyError, TypeError) as exc:
                raise ValueError(f"pgbackrest repo-ls: /{path}: {exc} is missing") from exc
    return found


# -- what the server tells ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Server:
    """One PostgreSQL. ``history`` is where its timeline left the earlier ones; ``done`` and ``ready`` are the segments
    that are archived or wait for it, and the moment when each was closed."""

    now: float
    in_recovery: bool
    system_id: str
    version: str
    timeline: int | None = None
    lsn: int | None = None
    segment_bytes: int = SEGMENT_BYTES
    archive_timeout: float = 0.0
    history: tuple[tuple[int, int], ...] = ()
    archived_count: int = 0
    failed_count: int = 0
    last_archived: str | None = None
    last_archived_at: float | None = None
    last_failed: str | None = None
    last_failed_at: float | None = None
    waiting: int = 0
    oldest_waiting_at: float | None = None
    done: t.Mapping[str, float] = dataclasses.field(default_factory=dict)
    ready: t.Mapping[str, float] = dataclasses.field(default_factory=dict)

    def archiver(self) -> dict[str, t.Any]:
        names = ("in_recovery", "archived_count", "failed_count", "last_archived", "last_archived_at")
        more = ("last_failed", "last_failed_at", "waiting", "oldest_waiting_at")
        return {name: getattr(self, name) for name in (*names, *more)}


# One row, as JSON. The functions of a leader raise on a standby, so they are asked for on a leader only.
SERVER_SQL = """
SELECT json_build_object(
  'now', extract(epoch FROM clock_timestamp()),
  'in_recovery', pg_is_in_recovery(),
  'system_id', (SELECT system_identifier::text FROM pg_control_system()),
  'version', (current_setting('server_version_num')::int / 10000)::text,
  'segment_bytes', pg_size_bytes(current_setting('wal_segment_size')),
  'archive_timeout', (SELECT setting::int FROM pg_settings WHERE name = 'archive_timeout'),
  'wal', CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_insert_lsn()) END,
  'lsn', CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn() END,
  'history', CASE WHEN pg_is_in_recovery() THEN NULL ELSE
    pg_read_file('pg_wal/' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '.history', true) END,
  'archived_count', archived_count,
  'failed_count', failed_count,
  'last_archived', last_archived_wal,
  'last_archived_at', extract(epoch FROM last_archived_time),
  'last_failed', last_failed_wal,
  'last_failed_at', extract(epoch FROM last_failed_time),
  'files', (SELECT coalesce(json_object_agg(name, extract(epoch FROM modification)), '{}')
            FROM pg_ls_archive_statusdir())
) FROM pg_stat_archiver
"""


def server(text: str) -> Server:
    """The one row that SERVER_SQL asks for."""
    value = _json(text, "psql")
    try:
        files = {str(name): float(at) for name, at in value["files"].items()}
        waiting = [at for name, at in files.items() if name.endswith(".ready")]
        return Server(
            now=float(value["now"]),
            in_recovery=_truth(value["in_recovery"]),
            system_id=str(value["system_id"]),
            version=str(value["version"]),
            timeline=int(value["wal"][:8], 16) if value["wal"] else None,
            lsn=lsn_of(value["lsn"]) if value["lsn"] else None,
            segment_bytes=int(value["segment_bytes"]),
            archive_timeout=float(value["archive_timeout"]),
            history=history(value["history"] or ""),
            archived_count=int(value["archived_count"]),
            failed_count=int(value["failed_count"]),
            last_archived=value["last_archived"],
            last_archived_at=_moment(value["last_archived_at"]),
            last_failed=value["last_failed"],
            last_failed_at=_moment(value["last_failed_at"]),
            waiting=len(waiting),
            oldest_waiting_at=min(waiting, default=None),
            done=_segments(files, ".done"),
            ready=_segments(files, ".ready"),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"psql: {exc} is missing") from exc


def history(text: str) -> tuple[tuple[int, int], ...]:
    """A timeline's history file: each earlier timeline, and the position at which it was left."""
    found = []
    for line in text.splitlines():
        match = _HISTORY.match(line.strip())
        if match is not None:
            found.append((int(match[1]), lsn_of(match[2])))
    return tuple(found)


def lsn_of(text: str) -> int:
    """A position in the WAL as a number."""
    match = _LSN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no position in the WAL")
    return (int(match[1], 16) << 32) | int(match[2], 16)


def _segments(files: t.Mapping[str, float], suffix: str) -> dict[str, float]:
    names = {name[: -len(suffix)]: at for name, at in files.items() if name.endswith(suffix)}
    return {name: at for name, at in names.items() if WAL.fullmatch(name)}


def _truth(value: t.Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("in_recovery")
    return value


def _moment(value: t.Any) -> float | None:
    return None if value is None else float(value)


def _json(text: str, source: str) -> t.Any:
    try:
        # With a wrong key, info shows what the file decrypted to: control characters among it.
        return json.loads(text, strict=False)
    except ValueError:
        raise ValueError(f"{source}: not JSON: {text.strip()[:120]!r}") from None


# -- what verify tells -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Checked:
    """An archive or a backup, as ``verify`` found it. ``status`` is empty for an archive."""

    name: str
    status: str
    checked: int
    valid: int
    missing: int = 0
    checksum_invalid: int = 0
    size_invalid: int = 0
    other: int = 0


@dataclasses.dataclass(frozen=True)
class Verified:
    """The answer of one ``verify --output=text --verbose``. ``remarks`` are lines of other kinds: each is bad news."""

    status: str = ""
    archives: tuple[Checked, ...] = ()
    backups: tuple[Checked, ...] = ()
    remarks: tuple[str, ...] = ()


_WAL_LINE = re.compile(r"archiveId: (\S+), total WAL checked: (\d+), total valid WAL: (\d+)")
_BACKUP_LINE = re.compile(r"backup: (\S+), status: ([a-z -]+), total files checked: (\d+), total valid files: (\d+)")
_COUNTS = re.compile(r"(missing|checksum invalid|size invalid|other): (\d+)")


def verified(text: str) -> Verified:
    """The text of ``verify``, which exits 0 whatever it finds."""
    status, archives, backups, remarks = "", list[Checked](), list[Checked](), list[str]()
    last: list[Checked] | None = None
    for line in (one.strip() for one in text.splitlines()):
        wal, backup = _WAL_LINE.fullmatch(line), _BACKUP_LINE.fullmatch(line)
        if wal is not None:
            last = archives
            archives.append(Checked(wal[1], "", int(wal[2]), int(wal[3])))
        elif backup is not None:
            last = backups
            backups.append(Checked(backup[1], backup[2], int(backup[3]), int(backup[4])))
        elif last is not None and _COUNTS.match(line):
            counts: dict[str, t.Any] = {name.replace(" ", "_"): int(number) for name, number in _COUNTS.findall(line)}
            last[-1] = dataclasses.replace(last[-1], **counts)
        elif line.startswith("status: "):
            status = line[len("status: ") :]
        elif line and not line.startswith("stanza: "):
            remarks.append(line)
    return Verified(status, tuple(archives), tuple(backups), tuple(remarks))


# -- what expire tells -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Expiry:
    """What one ``expire`` removed, or would: labels by repository, and the retention that it went by."""

    labels: tuple[tuple[int, str], ...] = ()
    archives: tuple[tuple[int, str, str, str], ...] = ()
    retention: t.Mapping[int, tuple[str, int]] = dataclasses.field(default_factory=dict)


_REMOVED = re.compile(r"repo(\d+): remove expired backup (\S+)")
_ARCHIVE = re.compile(r"repo(\d+): (\S+) remove archive, start = (\w+), stop = (\w+)")
_FULL = re.compile(r"--repo(\d+)-retention-full=(\d+)")
_FULL_TYPE = re.compile(r"--repo(\d+)-retention-full-type=(\w+)")


def expiry(text: str) -> Expiry:
    """What ``expire`` logs at level info."""
    begun = next((line for line in text.splitlines() if "expire command begin" in line), None)
    if begun is None:
        raise ValueError("pgbackrest expire: it does not say that it begun")
    kinds = {int(key): kind for key, kind in _FULL_TYPE.findall(begun)}
    return Expiry(
        labels=tuple((int(key), label) for key, label in _REMOVED.findall(text)),
        archives=tuple((int(key), name, first, last) for key, name, first, last in _ARCHIVE.findall(text)),
        retention={int(key): (kinds.get(int(key), "count"), int(number)) for key, number in _FULL.findall(begun)},
    )
