# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a fingerprint, with or without a restore point; judge a database by its rows and by a fingerprint."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from .._common.errors import Refuse, Refused
from .._common.waiting import Clock
from . import io, plan
from .io import Busy, Connect, Session
from .plan import Attachment, Checked, Document, Point, Row, Wish

T = t.TypeVar("T")


def accept(answer: T | Refuse | None) -> T:
    """The answer of a planner, or its refusal as an error."""
    if isinstance(answer, Refuse):
        raise Refused(answer)
    return t.cast("T", answer)


def wish_of(params: t.Mapping[str, t.Any]) -> Wish:
    """A module's options as what the service understands."""
    objects = plan.Objects(**params["objects"]) if params["objects"] else None
    return Wish(accept(plan.sample_of(params["attachments"])), params["amcheck"], objects)


class Store(t.Protocol):
    """Where attachments lie that are not in the database."""

    def why_not(self) -> str | None: ...

    def sha1(self, name: str) -> str | None: ...


@contextlib.contextmanager
def _closing(session: Session) -> t.Iterator[Session]:
    try:
        yield session
    finally:
        session.close()


def _one(rows: t.Sequence[Row]) -> t.Any:
    return rows[0][0] if rows else None


def _present(session: Session, names: t.Sequence[str]) -> set[str]:
    return {row[0] for row in session.rows(io.TABLES, names=list(names))}


def _why_no_ledger(present: set[str], database: str) -> Refuse | None:
    missing = sorted({*plan.COUNTED, *plan.ALSO_READ} - present)
    if not missing:
        return None
    why = f"it has no table {', '.join(missing)}"
    return Refuse(
        "no_ledger", f"{database} is no ledger of Odoo", why, "Give the database in which account is installed."
    )


def read(session: Session, tables: t.Sequence[str], meta: Row | None = None) -> Document:
    """The fingerprint, all of it in the transaction of this session. Tables that are not there count as None."""
    meta = meta or session.rows(io.META)[0]
    present = _present(session, [*tables, *plan.ALSO_READ])
    accept(_why_no_ledger(present, meta[3]))
    documents = plan.Documents()
    for one in io.attachments_of(session, io.DOCUMENTS):
        documents.add(one)
    highest = {name: _one(session.rows(io.highest_of(name))) for name in plan.NUMBERED}
    rows = plan.Rows(
        meta=[*meta[:4], _one(session.rows(io.ODOO)) or "unknown"],
        companies=session.rows(io.COMPANIES),
        periods=session.rows(io.PERIODS),
        accounts=session.rows(io.ACCOUNTS),
        drafts=session.rows(io.DRAFTS),
        open_items=session.rows(io.OPEN_ITEMS),
        payments=session.rows(io.PAYMENTS),
        hashes=session.rows(io.HASHES),
        sequences=session.rows(io.SEQUENCES),
        gaps=session.rows(io.GAPS, listed=plan.LISTED),
        duplicates=session.rows(io.DUPLICATES, listed=plan.LISTED),
        attachments=documents.totals(),
        tables={name: _one(session.rows(io.count_of(name))) if name in present else None for name in tables},
        max_ids={**highest, "ir_attachment": documents.max_id},
    )
    return plan.compose(rows)


class InfoService:
    """Fingerprints."""

    def __init__(self, connect: Connect, clock: Clock) -> None:
        self._connect = connect
        self._clock = clock

    def take(self, declared: t.Sequence[str], point: Point | None, check_mode: bool = False) -> dict[str, t.Any]:
        """A module's result."""
        tables: tuple[str, ...] = accept(plan.tables_of(declared))
        if point is not None:
            accept(plan.why_not_point(point))
        with _closing(self._connect(io.SNAPSHOT)) as session:
            if point is None or check_mode:
                if point is not None:
                    self._ready(session, tables)
                    session.end()
                document, made = self._whole(read(session, tables)), None
            else:
                document, made = self._at(session, tables, point)
        what = f"fingerprint of {document['database']} at {document['lsn']}"
        if made is not None:
            what += f", at restore point {made['name']}"
        elif point is not None:
            what += f"; restore point {point.name} would be made"
        return {"changed": point is not None, "msg": what, "fingerprint": document, "restore_point": made}

    @staticmethod
    def _whole(document: Document) -> Document:
        gone = [name for name, count in document["tables"].items() if count is None]
        if gone:
            what = f"No fingerprint of {document['database']}"
            accept(Refuse("unknown_table", what, f"there is no table {', '.join(gone)}", "Correct tables."))
        return document

    @staticmethod
    def _ready(session: Session, tables: t.Sequence[str]) -> None:
        if _one(session.rows(io.PLACE)):
            why = "this server is in recovery, and only a leader writes WAL"
            accept(Refuse("in_recovery", "No restore point is made", why, "Run it on the leader."))
        names = [*tables, *plan.ALSO_READ]
        present = _present(session, names)
        accept(_why_no_ledger(present, "This database"))
        gone = sorted(set(names) - present)
        if gone:
            why = f"there is no table {', '.join(gone)}"
            accept(Refuse("unknown_table", "No restore point is made", why, "Correct tables."))

    def _at(self, session: Session, tables: t.Sequence[str], point: Point) -> tuple[Document, Document]:
        """While the tables are locked nobody has a change in them that is not committed, so what this snapshot sees of
        them and what WAL holds up to the restore point are the same.
        """
        with _closing(self._connect(io.GUARD)) as guard:
            self._ready(guard, tables)
            guard.end()
            self._lock(guard, sorted({*tables, *plan.ALSO_READ}), point)
            since = self._clock.monotonic()
            # The first query of its transaction takes the snapshot.
            meta = session.rows(io.META)[0]
            lsn, moment, timeline = guard.rows(io.POINT, name=point.name)[0]
            guard.end(commit=True)
            held = round((self._clock.monotonic() - since) * 1000, 1)
            guard.rows(io.DURABLE)
            guard.end(commit=True)
        document = self._whole(read(session, tables, meta))
        made = {"name": point.name, "lsn": lsn, "time": moment, "timeline": int(timeline, 16), "held_ms": held}
        document["restore_point"] = made
        return document, made

    def _lock(self, guard: Session, tables: t.Sequence[str], point: Point) -> None:
        said = ""
        for attempt in range(point.lock_attempts):
            if attempt:
                self._clock.sleep(point.lock_pause)
            guard.rows(io.LIMITS, ms=max(1, int(point.lock_timeout * 1000)))
            try:
                guard.rows(io.lock_of(tables))
                return
            except Busy as exc:
                said = exc.msg
                guard.end()
        why = f"the tables were not free for {point.lock_timeout:g} s in {point.lock_attempts} attempts ({said})"
        do = "Run again when no long transaction writes to them, or allow more lock_attempts."
        accept(Refuse("lock_not_available", f"Restore point {point.name} was not made", why, do))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A judgement with what it rests on."""

    seen: plan.Seen
    judgement: plan.Judgement

    def as_result(self) -> dict[str, t.Any]:
        judgement = self.judgement
        notes = len(judgement.findings) - judgement.errors
        verdict = "reconciled" if judgement.accepted else "not reconciled"
        return {
            "changed": False,
            "msg": f"{self.seen.now['database']} is {verdict}: {judgement.errors} errors, {notes} notes",
            "accepted": judgement.accepted,
            "findings": [one.as_result() for one in judgement.findings],
            "rules": [one.as_result() for one in judgement.rules],
            "checks_not_run": [{"code": code, "why": why} for code, why in judgement.not_run],
            "fingerprint": self.seen.now,
            "report": plan.report_of(self.seen, judgement),
        }


class ReconcileService:
    """A database that was restored."""

    def __init__(self, connect: Connect, store: Store | None = None) -> None:
        self._connect = connect
        self._store = store

    def reconcile(self, before: t.Any, wish: Wish) -> Outcome:
        """Read all of it in one snapshot, except for the indexes, and judge it."""
        if before is not None:
            accept(plan.why_not_fingerprint(before))
        if self._store is not None and self._store.why_not() is not None:
            why = str(self._store.why_not())
            accept(Refuse("filestore", "The filestore is not read", why, "Correct filestore, or leave it out."))
        tables = tuple(before["tables"]) if before is not None else plan.COUNTED
        with _closing(self._connect(io.SNAPSHOT)) as session:
            now = read(session, sorted({*tables, *plan.COUNTED}))
            # Only what the fingerprint counted belongs to the digest that is compared.
            now["tables"] = {name: now["tables"][name] for name in sorted(tables)}
            now["digest"] = plan.digest_of(now)
            not_run: dict[str, str] = {}
            entries, open_lines, chain = _entries(session), _open_lines(session), _chain(session)
            present = _all_present(session)
            content = self._content(session, wish, now["taken_at"], not_run)
            objects = _objects(session, wish.objects, not_run)
        indexes = self._indexes(tables, wish, not_run)
        seen = plan.Seen(now, before, entries, open_lines, chain, present, content, objects, indexes, not_run)
        return Outcome(seen, plan.judge(seen))

    def _content(self, session: Session, wish: Wish, seed: str, not_run: dict[str, str]) -> Checked:
        checked = Checked()
        skipped = {"in a store": 0, "without a checksum": 0}
        total = present = 0
        for one in io.attachments_of(session, io.ATTACHMENTS):
            total += one.size > 0
            present += self._readable(one)
            read = wish.objects is not None and wish.objects.read and (one.store or "").startswith(plan.OBJECT)
            skipped["in a store"] += not self._reachable(one) and not read
            skipped["without a checksum"] += not one.checksum and self._reachable(one)
        for one, inline in io.contents_of(session, wish.attachments, seed, self._store is not None):
            if self._readable(one):
                checked.add(plan.why_damaged(one, self._sha1(session, one, inline)))
        left = present - checked.checked
        why = [f"{count} {where}" for where, count in skipped.items() if count]
        why += [f"{left} left out of the sample"] if left else []
        elsewhere = _one(session.rows(io.ELSEWHERE))
        why += [f"{elsewhere} in a cloud storage of Odoo's own"] if elsewhere else []
        if why:
            not_run["attachments_content"] = f"content not checked: {', '.join(why)}"
        return checked

    def _reachable(self, one: Attachment) -> bool:
        if not one.store:
            return True
        return self._store is not None and bool(plan.STORE_NAME.fullmatch(one.store))

    def _readable(self, one: Attachment) -> bool:
        return bool(one.checksum) and self._reachable(one) and (bool(one.store) or one.held is not None)

    def _sha1(self, session: Session, one: Attachment, inline: t.Any) -> str | None:
        if one.store:
            return self._store.sha1(one.store) if self._store is not None else None
        return io.sha1_of(session, one, inline)

    def _indexes(self, tables: t.Sequence[str], wish: Wish, not_run: dict[str, str]) -> Checked:
        checked = Checked()
        if wish.amcheck is False:
            not_run["indexes"] = "not asked for"
            return checked
        with _closing(self._connect(io.STATEMENTS)) as session:
            schema = _one(session.rows(io.EXTENSION))
            if schema is None:
                if wish.amcheck:
                    do = "Create it in the restored database, or leave amcheck out."
                    accept(Refuse("no_amcheck", "Indexes are not checked", "there is no extension amcheck", do))
                not_run["indexes"] = "the extension amcheck is not in this database"
                return checked
            for oid, name, counted in session.rows(io.INDEXES, counted=[*tables, *plan.ALSO_READ]):
                session.end()
                checked.add(_index(session, schema, oid, name, counted))
        return checked


def _index(session: Session, schema: str, oid: int, name: str, counted: bool) -> plan.Wrong | None:
    try:
        session.rows(io.index_check(schema), oid=oid, heap=counted)
    except io.Failed as exc:
        # XX001 and XX002 are damage. Anything else is trouble of ours, and no verdict.
        if not str(exc.details.get("sqlstate")).startswith("XX"):
            raise
        return plan.Wrong(f"index {name}", "in order", exc.msg)
    return None


def _counted(checked: int, rows: t.Sequence[Row], wrong: t.Callable[[Row], plan.Wrong]) -> Checked:
    """Rows of a query that limits them; their last column is how many there are."""
    return Checked(checked, rows[0][-1] if rows else 0, [wrong(row) for row in rows])


def _entries(session: Session) -> Checked:
    def wrong(row: Row) -> plan.Wrong:
        company, number, name, lines, debit, credit, odd = row[:7]
        what = f"entry {name or '/'} (id {number})"
        if not lines:
            return plan.Wrong(what, "lines", "none", company)
        if plan.amount(debit) != plan.amount(credit):
            return plan.Wrong(what, f"debit {plan.amount(debit)}", f"credit {plan.amount(credit)}", company)
        return plan.Wrong(what, "each line's balance is its debit less its credit", f"{odd} lines differ", company)

    checked = _counted(_one(session.rows(io.POSTED)), session.rows(io.UNBALANCED, limit=plan.FINDINGS), wrong)
    orphans = _one(session.rows(io.ORPHANS))
    if orphans:
        checked.wrong += 1
        checked.first.append(plan.Wrong("lines whose entry is missing", 0, orphans))
    return checked


def _open_lines(session: Session) -> Checked:
    def wrong(row: Row) -> plan.Wrong:
        company, number, name, residual, expected = row[:5]
        what = f"open item of entry {name or '/'} (line {number})"
        return plan.Wrong(what, plan.amount(expected), plan.amount(residual), company)

    return _counted(_one(session.rows(io.OPEN_LINES)), session.rows(io.UNSETTLED, limit=plan.FINDINGS), wrong)


def _chain(session: Session) -> Checked:
    chain, checked = plan.Chain(), Checked()
    for entry, lines in io.entries_of(session):
        checked.add(chain.judge(entry, lines))
    return checked


def _all_present(session: Session) -> Checked:
    checked = Checked()
    for one in io.attachments_of(session, io.ATTACHMENTS):
        if one.size or one.store:
            checked.add(plan.why_not_there(one))
    return checked


def _objects(session: Session, objects: plan.Objects | None, not_run: dict[str, str]) -> Checked:
    there = [one for one in io.attachments_of(session, io.ATTACHMENTS) if (one.store or "").startswith(plan.OBJECT)]
    checked = Checked()
    if objects is not None:
        accept(plan.why_other_objects(len({one.store for one in there}), objects))
        for one in there:
            checked.add(plan.why_no_object(one, objects))
    elif there:
        not_run["objects_present"] = f"{len(there)} lie in an object store that was not asked"
    return checked
