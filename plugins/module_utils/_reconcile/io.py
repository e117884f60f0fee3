# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL by psycopg2, the queries, and files of a filestore."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import traceback
import typing as t

from .._common.errors import DedicatedError
from .plan import STORE_NAME, Attachment, Entry, Line, Row

try:
    import psycopg2
    import psycopg2.extensions
except ImportError:
    PSYCOPG2_ERROR: str | None = traceback.format_exc()
else:
    PSYCOPG2_ERROR = None

# What a session is for: one snapshot for many reads; each statement its own; the locks of a restore point.
SNAPSHOT, STATEMENTS, GUARD = "snapshot", "statements", "guard"
BATCH = 500
# Attachments up to this come along with their rows; longer ones in pieces.
INLINE = 1024**2
PIECE = 4 * 1024**2
BUSY = ("55P03", "57014", "40P01")


class Busy(DedicatedError):
    """A lock or an answer did not come in time."""


class Failed(DedicatedError):
    """PostgreSQL refused a statement; the message is its own first line."""


@dataclasses.dataclass(frozen=True)
class Query:
    """A statement and its name, by which simulators know it."""

    name: str
    sql: str


class Session(t.Protocol):
    """One connection."""

    def rows(self, query: Query, **values: t.Any) -> list[Row]:
        """All rows; the transaction begins with the first query."""

    def stream(self, query: Query, size: int, **values: t.Any) -> t.Iterator[Row]:
        """Rows by a cursor of the server, so many at a time."""

    def end(self, commit: bool = False) -> None:
        """End the transaction, if there is one."""

    def close(self) -> None:
        """Hang up. Open transactions are rolled back by the server."""


Connect = t.Callable[[str], Session]


@contextlib.contextmanager
def _translated(what: str) -> t.Iterator[None]:
    try:
        yield
    except psycopg2.Error as exc:
        said = (
            (exc.diag.message_primary if exc.diag else None)
            or str(exc).strip().split("\n", maxsplit=1)[0]
            or "no answer"
        )
        kind, code = (Busy, "busy") if exc.pgcode in BUSY else (Failed, "query_failed")
        raise kind(f"{what}: PostgreSQL says: {said}", code=code, sqlstate=exc.pgcode) from exc


class PgSession:
    """A connection of psycopg2, closed with its transaction."""

    def __init__(self, connection: t.Any) -> None:
        self._connection = connection
        self._cursors = 0

    def rows(self, query: Query, **values: t.Any) -> list[Row]:
        with _translated(query.name), self._connection.cursor() as cursor:
            cursor.execute(query.sql, values)
            return list(cursor.fetchall()) if cursor.description else []

    def stream(self, query: Query, size: int, **values: t.Any) -> t.Iterator[Row]:
        self._cursors += 1
        with _translated(query.name), self._connection.cursor(name=f"dedicated_{self._cursors}") as cursor:
            cursor.itersize = size
            cursor.execute(query.sql, values)
            yield from cursor

    def end(self, commit: bool = False) -> None:
        with _translated("end of the transaction"):
            if commit:
                self._connection.commit()
            else:
                self._connection.rollback()

    def close(self) -> None:
        with contextlib.suppress(psycopg2.Error):
            self._connection.close()


def connector(params: t.Mapping[str, t.Any]) -> Connect:
    """How to connect, by a module's options."""

    def connect(kind: str) -> Session:
        where = f"database {params['database']} at {params['host']}:{params['port']}"
        try:
            connection = psycopg2.connect(
                host=params["host"],
                port=params["port"],
                dbname=params["database"],
                user=params["user"],
                connect_timeout=params["connect_timeout"],
                application_name="dedicated.odoo reconcile",
                options=f"-c statement_timeout={int(params['statement_timeout'] * 1000)} -c search_path=public",
                client_encoding="UTF8",
            )
        except psycopg2.Error as exc:
            said = str(exc).strip().rsplit("\n", maxsplit=1)[-1].strip()
            raise DedicatedError(f"{where} does not let us in: {said}", code="unreachable") from exc
        level = psycopg2.extensions.ISOLATION_LEVEL_READ_COMMITTED
        if kind == SNAPSHOT:
            level = psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ
        with _translated(where):
            connection.set_session(isolation_level=level, readonly=kind != GUARD)
        return PgSession(connection)

    return connect


# Queries: what there is

PLACE = Query("place", "SELECT pg_is_in_recovery()")
META = Query(
    "meta",
    """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
              (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                    ELSE pg_current_wal_insert_lsn() END)::text,
              pg_current_snapshot()::text, current_database()::text""",
)
TABLES = Query(
    "tables",
    """SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname = ANY(%(names)s)""",
)
ODOO = Query("odoo", "SELECT latest_version FROM ir_module_module WHERE name = 'base'")
EXTENSION = Query(
    "extension",
    """SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
       WHERE e.extname = 'amcheck'""",
)

# Queries: the fingerprint. The first column is the company.

COMPANIES = Query(
    "companies",
    "SELECT c.id, c.name, cur.name FROM res_company c JOIN res_currency cur ON cur.id = c.currency_id",
)
PERIODS = Query(
    "periods",
    """SELECT m.company_id, to_char(m.date, 'YYYY-MM'), sum(coalesce(l.debit, 0)), sum(coalesce(l.credit, 0)),
              count(DISTINCT m.id), count(l.id)
       FROM account_move m LEFT JOIN account_move_line l ON l.move_id = m.id
       WHERE m.state = 'posted' GROUP BY 1, 2""",
)
ACCOUNTS = Query(
    "accounts",
    """SELECT s.company_id, a.id,
              coalesce(a.code_store ->> split_part(c.parent_path, '/', 1), a.code_store ->> c.id::text, ''),
              s.balance, s.lines
       FROM (SELECT m.company_id, l.account_id, sum(coalesce(l.balance, 0)) AS balance, count(*) AS lines
             FROM account_move_line l JOIN account_move m ON m.id = l.move_id
             WHERE m.state = 'posted' GROUP BY 1, 2) s
       JOIN account_account a ON a.id = s.account_id
       JOIN res_company c ON c.id = s.company_id""",
)
DRAFTS = Query("drafts", "SELECT company_id, count(*) FROM account_move WHERE state = 'draft' GROUP BY 1")
OPEN_ITEMS = Query(
    "open_items",
    """SELECT m.company_id, a.account_type, sum(coalesce(l.amount_residual, 0)), count(*)
       FROM account_move_line l
       JOIN account_move m ON m.id = l.move_id
       JOIN account_account a ON a.id = l.account_id
       WHERE m.state = 'posted' AND a.account_type IN ('asset_receivable', 'liability_payable')
         AND l.reconciled IS NOT TRUE
       GROUP BY 1, 2""",
)
PAYMENTS = Query(
    "payments",
    """SELECT company_id, count(*), sum(coalesce(amount_company_currency_signed, 0)) FROM account_payment
       WHERE state = 'in_process' GROUP BY 1""",
)
HASHES = Query(
    "hashes",
    """SELECT DISTINCT ON (m.journal_id, coalesce(m.sequence_prefix, ''))
              j.company_id, j.code, coalesce(m.sequence_prefix, ''), coalesce(m.sequence_number, 0),
              m.inalterable_hash, count(*) OVER (PARTITION BY m.journal_id, coalesce(m.sequence_prefix, ''))
       FROM account_move m JOIN account_journal j ON j.id = m.journal_id
       WHERE m.inalterable_hash <> ''
       ORDER BY m.journal_id, coalesce(m.sequence_prefix, ''), m.sequence_number DESC NULLS LAST, m.id DESC""",
)
# A number is there when any entry has it, whatever its state: so Odoo looks for gaps too. Only posted ones are doubled.
_NUMBERS = """WITH numbers AS (
         SELECT journal_id, coalesce(sequence_prefix, '') AS prefix, sequence_number AS number, count(*) AS entries,
                count(*) FILTER (WHERE state = 'posted') AS posted, bool_or(made_sequence_gap) AS known
         FROM account_move WHERE sequence_number > 0 GROUP BY 1, 2, 3),
       steps AS (
         SELECT *, lag(number) OVER (PARTITION BY journal_id, prefix ORDER BY number) AS before FROM numbers)
       """
SEQUENCES = Query(
    "sequences",
    _NUMBERS  # noqa: S608 - constants
    + """SELECT j.company_id, j.code, prefix, min(number), max(number), sum(entries)::bigint,
                count(*) FILTER (WHERE number > before + 1), count(*) FILTER (WHERE posted > 1)
         FROM steps JOIN account_journal j ON j.id = journal_id GROUP BY journal_id, j.company_id, j.code, prefix""",
)
GAPS = Query(
    "gaps",
    _NUMBERS  # noqa: S608 - constants
    + """SELECT company_id, code, prefix, before + 1, number - 1, coalesce(known, false)
         FROM (SELECT *, row_number() OVER (PARTITION BY journal_id, prefix ORDER BY number) AS place
               FROM steps WHERE number > before + 1) s
         JOIN account_journal j ON j.id = journal_id WHERE place <= %(listed)s""",
)
DUPLICATES = Query(
    "duplicates",
    _NUMBERS  # noqa: S608 - constants
    + """SELECT company_id, code, prefix, number
         FROM (SELECT *, row_number() OVER (PARTITION BY journal_id, prefix ORDER BY number) AS place
               FROM steps WHERE posted > 1) s
         JOIN account_journal j ON j.id = journal_id WHERE place <= %(listed)s""",
)
# Bundles of assets are made by Odoo from its own code whenever it likes.
_GENERATED = "(coalesce(url, '') LIKE '/web/assets/%%' AND coalesce(res_model, '') = 'ir.ui.view' AND public IS TRUE)"
_ATTACHMENT = "id, checksum, coalesce(file_size, 0), nullif(store_fname, ''), octet_length(db_datas)"
DOCUMENTS = Query(
    "documents",
    f"SELECT {_ATTACHMENT} FROM ir_attachment WHERE type = 'binary' AND NOT {_GENERATED}"  # noqa: S608 - constants
    " ORDER BY id",
)

# Queries: row by row

POSTED = Query("posted", "SELECT count(*) FROM account_move WHERE state = 'posted'")
UNBALANCED = Query(
    "unbalanced",
    """SELECT company_id, id, name, lines, debit, credit, odd, count(*) OVER ()
       FROM (SELECT m.company_id, m.id, m.name, count(l.account_id) AS lines, cur.decimal_places AS places,
                    coalesce(sum(l.debit), 0) AS debit, coalesce(sum(l.credit), 0) AS credit,
                    count(*) FILTER (WHERE round(coalesce(l.debit, 0) - coalesce(l.credit, 0)
                                                 - coalesce(l.balance, 0), cur.decimal_places) <> 0) AS odd
             FROM account_move m
             JOIN res_company c ON c.id = m.company_id
             JOIN res_currency cur ON cur.id = c.currency_id
             LEFT JOIN account_move_line l ON l.move_id = m.id
             WHERE m.state = 'posted' GROUP BY m.id, cur.decimal_places) e
       WHERE lines = 0 OR odd > 0 OR round(debit - credit, places) <> 0
       ORDER BY id LIMIT %(limit)s""",
)
ORPHANS = Query(
    "orphans",
    """SELECT count(*) FROM account_move_line l LEFT JOIN account_move m ON m.id = l.move_id WHERE m.id IS NULL""",
)
_OPEN = """FROM account_move_line l
       JOIN account_move m ON m.id = l.move_id
       JOIN account_account a ON a.id = l.account_id
       JOIN res_company c ON c.id = m.company_id
       JOIN res_currency cur ON cur.id = c.currency_id
       """
_OPEN_WHERE = "WHERE m.state = 'posted' AND a.account_type IN ('asset_receivable', 'liability_payable')"
OPEN_LINES = Query("open_lines", f"SELECT count(*) {_OPEN} {_OPEN_WHERE}")
UNSETTLED = Query(
    "unsettled",
    f"""SELECT company_id, id, name, residual, expected, count(*) OVER ()
       FROM (SELECT m.company_id, l.id, m.name, coalesce(l.amount_residual, 0) AS residual,
                    round(coalesce(l.balance, 0) - coalesce(d.amount, 0) + coalesce(k.amount, 0),
                          cur.decimal_places) AS expected,
                    cur.decimal_places AS places
             {_OPEN}
             LEFT JOIN (SELECT debit_move_id AS id, sum(amount) AS amount FROM account_partial_reconcile
                        GROUP BY 1) d ON d.id = l.id
             LEFT JOIN (SELECT credit_move_id AS id, sum(amount) AS amount FROM account_partial_reconcile
                        GROUP BY 1) k ON k.id = l.id
             {_OPEN_WHERE}) s
       WHERE round(residual - expected, places) <> 0
       ORDER BY id LIMIT %(limit)s""",  # noqa: S608 - constants
)
HASHED = Query(
    "hashed",
    """SELECT id, journal_id, company_id, name, date::text, coalesce(sequence_prefix, ''),
              coalesce(secure_sequence_number, 0), inalterable_hash
       FROM account_move WHERE inalterable_hash <> ''
       ORDER BY journal_id, secure_sequence_number ASC NULLS LAST, sequence_prefix, sequence_number, id""",
)
HASHED_LINES = Query(
    "hashed_lines",
    """SELECT l.move_id, l.id, l.name, l.debit, l.credit, l.account_id, l.partner_id, coalesce(c.decimal_places, 0)
       FROM account_move_line l LEFT JOIN res_currency c ON c.id = l.currency_id WHERE l.move_id = ANY(%(ids)s)""",
)
CONTENTS = Query(
    "contents",
    f"""SELECT {_ATTACHMENT}, CASE WHEN octet_length(db_datas) <= %(inline)s THEN db_datas END
       FROM ir_attachment WHERE type = 'binary' AND (%(sample)s::bigint IS NULL OR id IN (
         SELECT id FROM ir_attachment WHERE type = 'binary' AND coalesce(checksum, '') <> ''
           AND (db_datas IS NOT NULL AND coalesce(store_fname, '') = '' OR %(store)s)
         ORDER BY md5(id::text || %(seed)s) LIMIT %(sample)s))
       ORDER BY id""",  # noqa: S608 - constants
)
ATTACHMENTS = Query(
    "attachments",
    f"SELECT {_ATTACHMENT} FROM ir_attachment WHERE type = 'binary' ORDER BY id",  # noqa: S608 - constants
)
ELSEWHERE = Query(
    "elsewhere", "SELECT count(*) FROM ir_attachment WHERE type NOT IN ('binary', 'url') AND coalesce(file_size, 0) > 0"
)
CONTENT_PIECE = Query(
    "content_piece", "SELECT substring(db_datas FROM %(start)s FOR %(length)s) FROM ir_attachment WHERE id = %(id)s"
)
INDEXES = Query(
    "indexes",
    """SELECT i.indexrelid::bigint, c.relname::text, t.relname = ANY(%(counted)s)
       FROM pg_index i
       JOIN pg_class c ON c.oid = i.indexrelid
       JOIN pg_class t ON t.oid = i.indrelid
       JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_am a ON a.oid = c.relam
       WHERE a.amname = 'btree' AND n.nspname = 'public' AND c.relkind = 'i' AND c.relpersistence = 'p'
         AND i.indisvalid AND i.indisready
       ORDER BY c.relname""",
)

# Queries: the restore point

LIMITS = Query(
    "limits",
    # The last one frees the tables also when this process is stopped while it holds them.
    """SELECT set_config('lock_timeout', %(ms)s::text, true), set_config('statement_timeout', %(ms)s::text, true),
              set_config('idle_in_transaction_session_timeout', '2000', true)""",
)
POINT = Query(
    "point",
    """SELECT p.lsn::text, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
              substr(pg_walfile_name(p.lsn), 1, 8)
       FROM (SELECT pg_create_restore_point(%(name)s) AS lsn) p""",
)
# A transaction number makes the commit behind it one that is flushed, and waits for synchronous replicas.
DURABLE = Query("durable", "SELECT pg_current_xact_id()::text")


def quoted(table: str) -> str:
    """A name that tables_of has accepted."""
    return f'"{table}"'


def count_of(table: str) -> Query:
    return Query(f"count {table}", f"SELECT count(*) FROM {quoted(table)}")  # noqa: S608 - a name of tables_of


def highest_of(table: str) -> Query:
    return Query(f"highest {table}", f"SELECT coalesce(max(id), 0) FROM {quoted(table)}")  # noqa: S608 - see above


def lock_of(tables: t.Iterable[str]) -> Query:
    return Query("lock", f"LOCK TABLE {', '.join(quoted(one) for one in tables)} IN SHARE MODE")


def index_check(schema: str) -> Query:
    """``schema`` comes quoted from the server."""
    return Query("index_check", f"SELECT {schema}.bt_index_check(%(oid)s::oid::regclass, %(heap)s)")


# Rows as what is judged


def entries_of(session: Session) -> t.Iterator[tuple[Entry, list[Line]]]:
    """Hashed entries in Odoo's order, each with its lines; so many at a time are held."""
    batch: list[Entry] = []
    for row in session.stream(HASHED, BATCH):
        batch.append(Entry(*row))
        if len(batch) == BATCH:
            yield from _with_lines(session, batch)
            batch = []
    yield from _with_lines(session, batch)


def _with_lines(session: Session, entries: t.Sequence[Entry]) -> t.Iterator[tuple[Entry, list[Line]]]:
    lines: dict[int, list[Line]] = {entry.id: [] for entry in entries}
    if entries:
        for move, *row in session.rows(HASHED_LINES, ids=list(lines)):
            lines[move].append(Line(*row))
    for entry in entries:
        yield entry, lines[entry.id]


def attachments_of(session: Session, query: Query) -> t.Iterator[Attachment]:
    for row in session.stream(query, BATCH * 4):
        yield Attachment(*row)


def contents_of(session: Session, sample: int | None, seed: str, store: bool) -> t.Iterator[tuple[Attachment, t.Any]]:
    """Attachments with their content, None for what is long or in a store."""
    for row in session.stream(CONTENTS, 16, inline=INLINE, sample=sample, seed=seed, store=store):
        yield Attachment(*row[:5]), row[5]


def sha1_of(session: Session, one: Attachment, inline: t.Any) -> str:
    """Checksum of what the database holds of an attachment, at most a piece in memory."""
    sha = hashlib.sha1(usedforsecurity=False)
    if inline is not None:
        sha.update(inline)
        return sha.hexdigest()
    for start in range(1, (one.held or 0) + 1, PIECE):
        for (piece,) in session.rows(CONTENT_PIECE, id=one.id, start=start, length=PIECE):
            sha.update(piece or b"")
    return sha.hexdigest()


class Filestore:
    """Odoo's directory of attachments, on this host."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def why_not(self) -> str | None:
        return None if os.path.isdir(self._directory) else f"{self._directory} is no directory"

    def sha1(self, name: str) -> str | None:
        """Checksum of a file; None when it is not there, or its name is none of Odoo's."""
        if not STORE_NAME.fullmatch(name):
            return None
        sha = hashlib.sha1(usedforsecurity=False)
        try:
            with open(os.path.join(self._directory, name), "rb") as file:
                for piece in iter(lambda: file.read(INLINE), b""):
                    sha.update(piece)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise DedicatedError(f"{self._directory}/{name} cannot be read: {exc.strerror}", code="filestore") from exc
        return sha.hexdigest()
