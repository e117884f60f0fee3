# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a ledger must fulfil by itself, and what must be as it was in its fingerprint. Nothing here touches a database.

Law:

1. A fingerprint holds totals, counts and hashes. No partner and no amount of one partner is in it.
2. Two fingerprints of the same committed state have the same ``digest``; it covers what must be equal after a restore,
   and not when, where and under which name it was taken.
3. A rule that had nothing to check says so: its ``ok`` is null. It never counts as passed.
4. Whatever differs from the fingerprint is an error, also when no rule can name it (``digest``).
5. A ledger is accepted when no rule has an error and at least one rule had something to check.
"""

from __future__ import annotations

import dataclasses
import decimal
import hashlib
import json
import re
import typing as t

from .._common.errors import Refuse

Document = dict[str, t.Any]
# As a database returns them: tuples of anything.
Row = t.Any

VERSION = 1
LISTED = 20
FINDINGS = 50
ERROR, NOTE = "error", "note"
# PostgreSQL looks for deadlocks after one second (deadlock_timeout). Below it we give up, and no user is a victim.
LONGEST_LOCK = 0.9
POINT_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
TABLE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
STORED_HASH = re.compile(r"(?:\$(\d+)\$)?([0-9a-f]{64})")
STORE_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{40}")
# What our add-on for object stores puts in front of a name.
OBJECT = "s3:"
HASH_VERSIONS = (1, 2, 3, 4)
COUNTED = (
    "account_account",
    "account_bank_statement_line",
    "account_full_reconcile",
    "account_journal",
    "account_move",
    "account_move_line",
    "account_partial_reconcile",
    "account_payment",
    "account_tax",
    "res_company",
    "res_currency",
    "res_partner",
)
# What a fingerprint is made of besides the tables that it counts.
ALSO_READ = ("ir_attachment", "ir_module_module")
NUMBERED = ("account_move", "account_move_line", "account_partial_reconcile", "account_payment")
DIGESTED = ("version", "odoo_version", "companies", "attachments", "tables", "max_ids")


# Wishes


@dataclasses.dataclass(frozen=True)
class Point:
    """A restore point to be made, and how long and how often to try for the locks."""

    name: str
    lock_timeout: float = 0.5
    lock_attempts: int = 20
    lock_pause: float = 1.0


@dataclasses.dataclass(frozen=True)
class Objects:
    """An answer of the object store: how many names it was asked for, and what it has instead of some of them.

    ``read``: their bytes were compared, not only their sizes.
    """

    asked: int
    wrong: t.Mapping[str, str]
    read: bool = False


@dataclasses.dataclass(frozen=True)
class Wish:
    """What to check besides rows. ``attachments``: how many, None for all. ``amcheck``: None means if it is there.

    ``objects``: what the object store was found to have; None when nobody asked it.
    """

    attachments: int | None = None
    amcheck: bool | None = None
    objects: Objects | None = None


def why_not_point(point: Point) -> Refuse | None:
    """A name that every tool and file system takes, and locks that never make a deadlock's victim of a user."""
    what = f"No restore point {point.name!r}"
    if not POINT_NAME.fullmatch(point.name):
        why = "its name is not made of 1 to 63 letters, digits, - and _"
        return Refuse("bad_name", what, why, "Give another restore_point.")
    if not 0 < point.lock_timeout <= LONGEST_LOCK:
        why = f"lock_timeout is {point.lock_timeout:g}; PostgreSQL looks for deadlocks after 1 s"
        return Refuse("bad_lock_timeout", what, why, f"Give a lock_timeout above 0 and up to {LONGEST_LOCK:g}.")
    if point.lock_attempts < 1 or point.lock_pause < 0:
        return Refuse("bad_attempts", what, "it would never be tried", "Give lock_attempts of at least 1.")
    return None


def tables_of(declared: t.Iterable[str]) -> tuple[str, ...] | Refuse:
    """The tables to count: the ledger's own and the declared ones, sorted, each once."""
    names = sorted({*COUNTED, *declared})
    bad = [name for name in names if not TABLE_NAME.fullmatch(name)]
    if bad:
        why = "a table's name is made of small letters, digits and _"
        return Refuse("bad_table", f"Not a table: {', '.join(bad)}", why, "Correct tables.")
    return tuple(names)


def sample_of(text: str) -> int | Refuse | None:
    """``all`` (None) or a number of attachments."""
    if text == "all":
        return None
    if text.isdecimal():
        return int(text)
    return Refuse("bad_sample", f"Not a sample: {text!r}", "it is neither all nor a number", "Correct attachments.")


# The fingerprint


def amount(value: t.Any) -> str:
    """The one way to write an amount: at least two decimals, no zeros behind them, no exponent, no minus zero."""
    exact = decimal.Decimal(value if value is not None else 0)
    if not exact.is_finite():
        return str(exact)
    whole, _point, fraction = format(exact, "f").partition(".")
    text = f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
    return text.lstrip("-") if not exact else text


@dataclasses.dataclass(frozen=True)
class Rows:
    """What was read in one snapshot; the order of columns is that of the queries."""

    meta: Row
    companies: t.Sequence[Row]
    periods: t.Sequence[Row] = ()
    accounts: t.Sequence[Row] = ()
    drafts: t.Sequence[Row] = ()
    open_items: t.Sequence[Row] = ()
    payments: t.Sequence[Row] = ()
    hashes: t.Sequence[Row] = ()
    sequences: t.Sequence[Row] = ()
    gaps: t.Sequence[Row] = ()
    duplicates: t.Sequence[Row] = ()
    attachments: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    tables: t.Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    max_ids: t.Mapping[str, int] = dataclasses.field(default_factory=dict)


def compose(rows: Rows) -> Document:
    """The fingerprint of what was read. ``restore_point`` is filled in by who made one."""
    taken_at, lsn, snapshot, database, odoo_version = rows.meta[:5]
    document: Document = {
        "version": VERSION,
        "taken_at": taken_at,
        "lsn": lsn,
        "snapshot": snapshot,
        "database": database,
        "odoo_version": odoo_version,
        "restore_point": None,
        "companies": [_company(rows, row) for row in sorted(rows.companies)],
        "attachments": dict(rows.attachments),
        "tables": dict(sorted(rows.tables.items())),
        "max_ids": dict(sorted(rows.max_ids.items())),
    }
    return {**document, "digest": digest_of(document)}


def digest_of(document: t.Mapping[str, t.Any]) -> str:
    """SHA-256 over the canonical form of everything that must be equal after a restore."""
    covered = {name: document[name] for name in DIGESTED}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _company(rows: Rows, row: Row) -> Document:
    number, name, currency = row[:3]

    def own(several: t.Sequence[Row]) -> list[Row]:
        return [one[1:] for one in several if one[0] == number]

    open_items = {one[0]: {"amount": amount(one[1]), "lines": one[2]} for one in own(rows.open_items)}
    nothing = {"amount": amount(0), "lines": 0}
    payments = own(rows.payments) or [(0, 0)]
    return {
        "id": number,
        "name": name,
        "currency": currency,
        "periods": [
            {"period": one[0], "debit": amount(one[1]), "credit": amount(one[2]), "entries": one[3], "lines": one[4]}
            for one in sorted(own(rows.periods))
        ],
        "accounts": sorted(
            ({"id": one[0], "code": one[1], "balance": amount(one[2]), "lines": one[3]} for one in own(rows.accounts)),
            key=lambda one: (one["code"], one["id"]),
        ),
        "drafts": sum(one[0] for one in own(rows.drafts)),
        "open_items": {
            "receivable": open_items.get("asset_receivable", nothing),
            "payable": open_items.get("liability_payable", nothing),
        },
        "payments_in_process": {"count": payments[0][0], "amount": amount(payments[0][1])},
        "hashes": [
            dict(zip(("journal", "prefix", "last_number", "last_hash", "count"), one))
            for one in sorted(own(rows.hashes), key=lambda one: (one[0], one[1]))
        ],
        "sequences": _sequences(own(rows.sequences), own(rows.gaps), own(rows.duplicates)),
    }


def _sequences(sequences: t.Sequence[Row], gaps: t.Sequence[Row], duplicates: t.Sequence[Row]) -> list[Document]:
    names = ("journal", "prefix", "first", "last", "count", "gap_count", "duplicate_count")
    return [
        {
            **dict(zip(names, one)),
            "gaps": [
                {"from": gap[2], "to": gap[3], "known_to_odoo": bool(gap[4])}
                for gap in sorted(gaps)
                if gap[:2] == one[:2]
            ],
            "duplicates": [double[2] for double in sorted(duplicates) if double[:2] == one[:2]],
        }
        for one in sorted(sequences, key=lambda one: (one[0], one[1]))
    ]


# Reading a fingerprint that was kept

_AMOUNT = re.compile(r"-?\d+\.\d{2,}|NaN|-?Infinity")
_COUNTED_AMOUNT = {"amount": "amount", "lines": int}
SHAPE: Document = {
    "version": int,
    "taken_at": str,
    "lsn": str,
    "snapshot": str,
    "database": str,
    "odoo_version": str,
    "digest": str,
    "attachments": {"count": int, "bytes": int, "in_database": int, "in_store": int, "digest": str},
    "companies": [
        {
            "id": int,
            "name": str,
            "currency": str,
            "periods": [{"period": str, "debit": "amount", "credit": "amount", "entries": int, "lines": int}],
            "accounts": [{"id": int, "code": str, "balance": "amount", "lines": int}],
            "drafts": int,
            "open_items": {"receivable": _COUNTED_AMOUNT, "payable": _COUNTED_AMOUNT},
            "payments_in_process": {"count": int, "amount": "amount"},
            "hashes": [{"journal": str, "prefix": str, "last_number": int, "last_hash": str, "count": int}],
            "sequences": [
                {
                    "journal": str,
                    "prefix": str,
                    "first": int,
                    "last": int,
                    "count": int,
                    "gap_count": int,
                    "duplicate_count": int,
                    "gaps": [{"from": int, "to": int, "known_to_odoo": bool}],
                    "duplicates": [int],
                }
            ],
        }
    ],
    "tables": {"*": int},
    "max_ids": {"*": int},
}


def why_malformed(value: t.Any, shape: t.Any = None, path: str = "") -> str | None:
    """Where a document is not a fingerprint, or None."""
    shape = SHAPE if shape is None else shape
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{path or '/'}: not a mapping"
        anything = "*" in shape
        names = list(value) if anything else list(shape)
        for name in names:
            if name not in value:
                return f"{path}/{name}: missing"
            why = why_malformed(value[name], shape["*"] if anything else shape[name], f"{path}/{name}")
            if why is not None:
                return why
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{path}: not a list"
        found = (why_malformed(one, shape[0], f"{path}/{index}") for index, one in enumerate(value))
        return next((why for why in found if why is not None), None)
    if shape == "amount":
        return None if isinstance(value, str) and _AMOUNT.fullmatch(value) else f"{path}: not an amount"
    wrong = not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool)
    return f"{path}: not of type {shape.__name__}" if wrong else None


def why_not_fingerprint(document: t.Any) -> Refuse | None:
    """A fingerprint that cannot be read, or was altered since, proves nothing."""
    what, do = "The fingerprint is refused", "Give one as odoo_reconcile_info returned it."
    version = document.get("version") if isinstance(document, dict) else None
    if isinstance(version, int) and version != VERSION:
        why = f"it is of version {version}, and this collection knows version {VERSION}"
        return Refuse("bad_fingerprint", what, why, "Use the collection's version that took it.")
    malformed = why_malformed(document)
    if malformed is not None:
        return Refuse("bad_fingerprint", what, malformed, do)
    if digest_of(document) != document["digest"]:
        return Refuse("bad_fingerprint", what, "its digest is not that of its content: it was altered", do)
    strange = [name for name in document["tables"] if not TABLE_NAME.fullmatch(name)]
    if strange:
        return Refuse("bad_fingerprint", what, f"/tables: {strange[0]!r} is not a table's name", do)
    return None


# The hash chain of posted entries, as Odoo defines it


@dataclasses.dataclass(frozen=True)
class Line:
    """The fields of a line that are hashed; ``decimals`` are those of the line's own currency."""

    id: int
    name: str | None
    debit: t.Any
    credit: t.Any
    account: int | None
    partner: int | None
    decimals: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """A hashed entry. ``secure`` is the number of entries hashed by old versions of Odoo, 0 for others."""

    id: int
    journal: int
    company: int
    name: str | None
    date: str | None
    prefix: str
    secure: int
    stored: str


def _money(value: t.Any, decimals: int, version: int) -> str:
    number = float(value or 0)
    if version < 3:
        return str(number)
    text = f"{number:.{decimals}f}"
    return text.lstrip("-") if not float(text) else text


def _text(value: t.Any) -> str:
    """Odoo's ORM reads a null as False, and that is what it hashes."""
    return "False" if value is None else str(value)


def hash_of(previous: str, entry: Entry, lines: t.Iterable[Line], version: int) -> str:
    """What Odoo's ``_calculate_hashes`` gives for one entry (versions 1 to 4), in the form in which it is stored.

    SHA-256 over the previous hash without its version, and JSON of date, journal, company and, since version 2, name,
    with debit, credit, account, partner and, since 2, name of each line. Since 3 amounts are written with the decimals
    of the line's currency; since 4 the stored hash begins with its version, as in ``$4$``.
    """
    fields = {"date": _text(entry.date), "journal_id": _text(entry.journal), "company_id": _text(entry.company)}
    if version > 1:
        fields["name"] = _text(entry.name)
    for line in lines:
        start = f"line_{line.id}_"
        fields[f"{start}debit"] = _money(line.debit, line.decimals, version)
        fields[f"{start}credit"] = _money(line.credit, line.decimals, version)
        fields[f"{start}account_id"] = _text(line.account)
        fields[f"{start}partner_id"] = _text(line.partner)
        if version > 1:
            fields[f"{start}name"] = _text(line.name)
    if previous.startswith("$"):
        previous = previous.split("$")[2]
    record = json.dumps(fields, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    digest = hashlib.sha256((previous + record).encode()).hexdigest()
    return f"${version}${digest}" if version >= 4 else digest


@dataclasses.dataclass(frozen=True)
class Wrong:
    """One thing that is wrong, as the rule that finds it puts it."""

    what: str
    expected: t.Any
    found: t.Any
    company: int | None = None


@dataclasses.dataclass
class Checked:
    """How many were looked at, how many were wrong, and the first of these."""

    checked: int = 0
    wrong: int = 0
    first: list[Wrong] = dataclasses.field(default_factory=list)

    def add(self, wrong: Wrong | None) -> None:
        self.checked += 1
        if wrong is not None:
            self.wrong += 1
            if len(self.first) < FINDINGS:
                self.first.append(wrong)


class Chain:
    """Entries one after the other, in Odoo's order: journal, secure number (none last), prefix, number.

    The previous hash is that of the entry before with the same prefix; for entries with a secure number that of the
    entry before in the journal. The stored hash goes on into the next entry also when it is wrong, so each entry is
    judged by itself, and one that was changed does not hide others.
    """

    def __init__(self) -> None:
        self._journal: int | None = None
        self._last = ""
        self._by_prefix: dict[str, str] = {}

    def judge(self, entry: Entry, lines: t.Sequence[Line]) -> Wrong | None:
        if entry.journal != self._journal:
            self._journal, self._last, self._by_prefix = entry.journal, "", {}
        previous = self._last if entry.secure else self._by_prefix.get(entry.prefix, "")
        self._last = self._by_prefix[entry.prefix] = entry.stored
        what = f"entry {entry.name or '/'} (id {entry.id})"
        form = STORED_HASH.fullmatch(entry.stored)
        if form is None:
            return Wrong(what, "a hash of Odoo", "something else", entry.company)
        versions = (int(form.group(1)),) if form.group(1) else (1, 2, 3)
        if versions[0] not in HASH_VERSIONS:
            known = f"a hash of version {HASH_VERSIONS[0]} to {HASH_VERSIONS[-1]}"
            return Wrong(what, known, f"version {versions[0]}, which cannot be checked", entry.company)
        if entry.stored in (hash_of(previous, entry, lines, version) for version in versions):
            return None
        return Wrong(what, entry.stored, hash_of(previous, entry, lines, versions[-1]), entry.company)


# Attachments


@dataclasses.dataclass(frozen=True)
class Attachment:
    """A row of ir_attachment with content; ``held`` is the length of what is in the database."""

    id: int
    checksum: str | None
    size: int
    store: str | None
    held: int | None


def why_not_there(one: Attachment) -> Wrong | None:
    """A row that promises bytes names a place for them, and what is in the database is as long as it says."""
    if one.store:
        return None
    if (one.held or 0) == one.size:
        return None
    found = "nothing" if one.held is None else f"{one.held} bytes"
    return Wrong(f"attachment {one.id}", f"{one.size} bytes", found)


def why_damaged(one: Attachment, sha1: str | None) -> Wrong | None:
    """The content has the checksum of its row. ``sha1`` None: there is no content."""
    if sha1 is None:
        return Wrong(f"attachment {one.id}", f"checksum {one.checksum}", "no file in the store")
    return None if sha1 == one.checksum else Wrong(f"attachment {one.id}", f"checksum {one.checksum}", sha1)


def why_no_object(one: Attachment, objects: Objects) -> Wrong | None:
    """The object that a row names is in the store."""
    found = objects.wrong.get(one.store or "")
    return None if found is None else Wrong(f"attachment {one.id}", f"{one.size} bytes in the object store", found)


def why_other_objects(named: int, objects: Objects) -> Refuse | None:
    """The store was asked for what this database names, and for all of it."""
    if named == objects.asked:
        return None
    why = f"the object store was asked for {objects.asked} names, and this database has {named}"
    return Refuse("other_objects", "The answer of the object store does not belong to it", why, "Ask it again.")


class Documents:
    """Totals and digest of the attachments, one after the other in the order of their ids."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._counts = {"count": 0, "bytes": 0, "in_database": 0, "in_store": 0}
        self.max_id = 0

    def add(self, one: Attachment) -> None:
        self._counts["count"] += 1
        self._counts["bytes"] += one.size
        self._counts["in_store" if one.store else "in_database"] += 1
        self.max_id = max(self.max_id, one.id)
        fields = [one.id, one.checksum, one.size, one.store]
        self._sha.update(json.dumps(fields, separators=(",", ":")).encode() + b"\n")

    def totals(self) -> Document:
        return {**self._counts, "digest": self._sha.hexdigest()}


# Rules


@dataclasses.dataclass(frozen=True)
class Seen:
    """All that is judged: the ledger's fingerprint, the kept one, and what was checked row by row.

    ``not_run`` holds what could not be checked, by the code of the rule that misses it.
    """

    now: Document
    before: Document | None
    entries: Checked
    open_lines: Checked
    chain: Checked
    present: Checked
    content: Checked
    objects: Checked
    indexes: Checked
    not_run: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Finding:
    """``code`` is that of its rule. ``company`` is an id, or None for what belongs to all."""

    code: str
    severity: str
    company: int | None
    what: str
    expected: t.Any
    found: t.Any

    def as_result(self) -> Document:
        return dataclasses.asdict(self)


Found = tuple[int, list[Finding]]


def _error(code: str, company: int | None, what: str, expected: t.Any, found: t.Any) -> Finding:
    return Finding(code, ERROR, company, what, expected, found)


def _row_by_row(code: str, checked: Checked) -> Found:
    findings = [_error(code, one.company, one.what, one.expected, one.found) for one in checked.first]
    if checked.wrong > len(checked.first):
        rest = checked.wrong - len(checked.first)
        findings.append(_error(code, None, "more of the same, not listed", 0, rest))
    return checked.checked, findings


def _pairs(seen: Seen) -> list[tuple[Document, Document]]:
    """Companies that are in both fingerprints, as (before, now)."""
    now = {company["id"]: company for company in seen.now["companies"]}
    before = seen.before["companies"] if seen.before else []
    return [(company, now[company["id"]]) for company in before if company["id"] in now]


def _written(one: t.Mapping[str, t.Any] | None, fields: t.Sequence[str]) -> str:
    if one is None:
        return "nothing"
    return ", ".join(f"{name.replace('_', ' ')} {one[name]}" for name in fields)


def _same_lists(seen: Seen, code: str, which: str, key: t.Sequence[str], fields: t.Sequence[str]) -> Found:
    """Each thing of a list is in both fingerprints, with the same fields."""
    checked, findings = 0, []
    for was, company in _pairs(seen):
        old = {tuple(one[name] for name in key): one for one in was[which]}
        new = {tuple(one[name] for name in key): one for one in company[which]}
        for one in sorted({*old, *new}):
            checked += 1
            expected, found = _written(old.get(one), fields), _written(new.get(one), fields)
            if expected != found:
                what = f"{which[:-1] if which != 'hashes' else 'hash chain'} {' '.join(str(part) for part in one)}"
                findings.append(_error(code, company["id"], what, expected, found))
    return checked, findings


def _same_values(seen: Seen, code: str, pick: t.Callable[[Document], t.Mapping[str, t.Any]]) -> Found:
    """Each named value of a company is the same in both fingerprints."""
    checked, findings = 0, []
    for was, company in _pairs(seen):
        old, new = pick(was), pick(company)
        for name in old:
            checked += 1
            if old[name] != new[name]:
                findings.append(_error(code, company["id"], name, old[name], new[name]))
    return checked, findings


def periods_balanced(seen: Seen) -> Found:
    """In each company and month, the debit of all posted lines equals their credit."""
    checked, findings = 0, []
    for company in seen.now["companies"]:
        for one in company["periods"]:
            checked += 1
            # Decimals and not texts: NaN must not be equal to itself.
            if decimal.Decimal(one["debit"]) != decimal.Decimal(one["credit"]):
                what = f"period {one['period']}"
                debit, credit = f"debit {one['debit']}", f"credit {one['credit']}"
                findings.append(_error("periods_balanced", company["id"], what, debit, credit))
    return checked, findings


def entries_balanced(seen: Seen) -> Found:
    """Each posted entry has lines, its debit equals its credit, and each line has an entry and the right balance."""
    return _row_by_row("entries_balanced", seen.entries)


def companies_match(seen: Seen) -> Found:
    """The same companies, with the same names and currencies."""
    now = {one["id"]: one for one in seen.now["companies"]}
    old = {one["id"]: one for one in (seen.before["companies"] if seen.before else now.values())}
    findings = []
    for number in sorted({*old, *now}):
        expected, found = (_written(side.get(number), ("name", "currency")) for side in (old, now))
        if expected != found:
            findings.append(_error("companies_match", number, f"company {number}", expected, found))
    return (len(old) if seen.before else 0), findings


def periods_match(seen: Seen) -> Found:
    """In each company and month, debit, credit, entries and lines are those of the fingerprint."""
    return _same_lists(seen, "periods_match", "periods", ("period",), ("debit", "credit", "entries", "lines"))


def accounts_match(seen: Seen) -> Found:
    """Each account has the fingerprint's balance and number of lines."""
    return _same_lists(seen, "accounts_match", "accounts", ("code", "id"), ("balance", "lines"))


def drafts_match(seen: Seen) -> Found:
    """As many draft entries as in the fingerprint."""
    return _same_values(seen, "drafts_match", lambda company: {"drafts": company["drafts"]})


def open_items_match(seen: Seen) -> Found:
    """Open receivables and payables are the fingerprint's, in amount and in number."""

    def pick(company: Document) -> Document:
        return {f"open {name}": _written(one, ("amount", "lines")) for name, one in company["open_items"].items()}

    return _same_values(seen, "open_items_match", pick)


def open_items_settled(seen: Seen) -> Found:
    """What is open of a receivable or payable line is its balance less what it was reconciled with."""
    return _row_by_row("open_items_settled", seen.open_lines)


def payments_match(seen: Seen) -> Found:
    """Payments in process are the fingerprint's, in amount and in number."""

    def pick(company: Document) -> Document:
        return {"payments in process": _written(company["payments_in_process"], ("count", "amount"))}

    return _same_values(seen, "payments_match", pick)


def sequences_match(seen: Seen) -> Found:
    """Each sequence of a journal begins and ends with the fingerprint's numbers and has as many entries."""
    fields = ("first", "last", "count")
    return _same_lists(seen, "sequences_match", "sequences", ("journal", "prefix"), fields)


def _sequences_of(document: Document | None) -> dict[tuple[int, str, str], Document]:
    companies = document["companies"] if document else []
    return {
        (company["id"], one["journal"], one["prefix"]): one for company in companies for one in company["sequences"]
    }


def _gap_texts(gaps: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    return [str(gap["from"]) if gap["from"] == gap["to"] else f"{gap['from']} to {gap['to']}" for gap in gaps]


def _judge_gaps(old: Document | None, new: Document, compared: bool) -> tuple[list[str], list[str]]:
    """Gaps of one sequence that are errors, and those that are notes."""
    if not compared:
        unknown = [gap for gap in new["gaps"] if not gap["known_to_odoo"]]
        return _gap_texts(unknown), _gap_texts(gap for gap in new["gaps"] if gap["known_to_odoo"])
    was = _gap_texts(old["gaps"] if old else ())
    is_now = _gap_texts(new["gaps"])
    fresh = [gap for gap in is_now if gap not in was]
    more = new["gap_count"] - (old["gap_count"] if old else 0)
    if more > 0 and not fresh:
        fresh = [f"{more} that are not listed"]
    return fresh, [gap for gap in is_now if gap in was]


def sequence_gaps(seen: Seen) -> Found:
    """Between the first and the last number of a sequence no number is without an entry.

    A gap that the fingerprint had is a note. Without a fingerprint a gap is a note when Odoo knows it, that is, has
    marked the entry after it when the gap was made; numbers missing without Odoo's knowledge are an error.
    """
    code = "sequence_gaps"
    old, findings = _sequences_of(seen.before), []
    now = _sequences_of(seen.now)
    for key, new in now.items():
        fresh, known = _judge_gaps(old.get(key), new, seen.before is not None)
        what = f"sequence {key[1]} {key[2]}"
        if fresh:
            findings.append(_error(code, key[0], what, "no missing number", f"missing {'; '.join(fresh)}"))
        if known:
            why = "missing then too" if seen.before else "missing, and known to Odoo as gaps"
            found = f"{'; '.join(known)} ({new['gap_count']} gaps in all)"
            findings.append(Finding(code, NOTE, key[0], what, why, found))
    return len(now), findings


def sequence_duplicates(seen: Seen) -> Found:
    """No number of a sequence has two posted entries. One that the fingerprint had doubled already is a note."""
    code = "sequence_duplicates"
    old, findings = _sequences_of(seen.before), []
    now = _sequences_of(seen.now)
    for key, new in now.items():
        was = old.get(key, {"duplicates": [], "duplicate_count": 0})
        what = f"sequence {key[1]} {key[2]}"
        known = [number for number in new["duplicates"] if number in was["duplicates"]]
        fresh: list[t.Any] = [number for number in new["duplicates"] if number not in was["duplicates"]]
        if new["duplicate_count"] > was["duplicate_count"] and not fresh:
            fresh = [f"{new['duplicate_count'] - was['duplicate_count']} that are not listed"]
        if fresh:
            found = f"more than once: {', '.join(str(number) for number in fresh)}"
            findings.append(_error(code, key[0], what, "each number once", found))
        if known:
            found = ", ".join(str(number) for number in known)
            findings.append(Finding(code, NOTE, key[0], what, "more than once then too", found))
    return len(now), findings


def hash_chain(seen: Seen) -> Found:
    """Each secured entry has the hash that Odoo's versions 1 to 4 give for its content and the entry before it."""
    return _row_by_row("hash_chain", seen.chain)


def hash_heads(seen: Seen) -> Found:
    """Each chain ends with the fingerprint's entry and hash. Only this shows entries that are missing at its end."""
    fields = ("last_number", "last_hash", "count")
    return _same_lists(seen, "hash_heads", "hashes", ("journal", "prefix"), fields)


def attachments_present(seen: Seen) -> Found:
    """Each attachment that has a size has a place, and in the database as many bytes as its row says."""
    return _row_by_row("attachments_present", seen.present)


def attachments_content(seen: Seen) -> Found:
    """The bytes of each attachment that was read have the SHA-1 of its row."""
    return _row_by_row("attachments_content", seen.content)


def objects_present(seen: Seen) -> Found:
    """The object store has what each attachment names, by its size, or by its bytes where they were read."""
    return _row_by_row("objects_present", seen.objects)


def attachments_match(seen: Seen) -> Found:
    """The documents are the fingerprint's: number, bytes, places, and each one's checksum.

    What Odoo generates from its own code (bundles of assets) comes and goes, and is no document.
    """
    if seen.before is None:
        return 0, []
    old, new = seen.before["attachments"], seen.now["attachments"]
    names = [name for name in old if old[name] != new.get(name)]
    findings = [_error("attachments_match", None, f"attachments, {name}", old[name], new.get(name)) for name in names]
    return old["count"] or new["count"], findings


def row_counts(seen: Seen) -> Found:
    """Each table of the fingerprint is there with as many rows."""
    old = seen.before["tables"] if seen.before else {}
    now = seen.now["tables"]
    findings = [
        _error("row_counts", None, f"table {name}", count, "no table" if now.get(name) is None else now[name])
        for name, count in old.items()
        if now.get(name) != count
    ]
    return len(old), findings


def highest_ids(seen: Seen) -> Found:
    """The highest ids are the fingerprint's: nothing was added since, and nothing taken from the end."""
    old = seen.before["max_ids"] if seen.before else {}
    now = seen.now["max_ids"]
    findings = [
        _error("highest_ids", None, f"highest id of {name}", number, now.get(name))
        for name, number in old.items()
        if now.get(name) != number
    ]
    return len(old), findings


def indexes(seen: Seen) -> Found:
    """PostgreSQL's own check (amcheck) finds each index in order and, for counted tables, each row in its indexes."""
    return _row_by_row("indexes", seen.indexes)


@dataclasses.dataclass(frozen=True)
class Rule:
    """``compares``: it needs a fingerprint. The title is for the report."""

    title: str
    judge: t.Callable[[Seen], Found]
    compares: bool = False

    @property
    def code(self) -> str:
        return self.judge.__name__


RULES = (
    Rule("debit equals credit in each company and month", periods_balanced),
    Rule("each posted entry is balanced", entries_balanced),
    Rule("companies as in the fingerprint", companies_match, True),
    Rule("totals of each month as in the fingerprint", periods_match, True),
    Rule("balance of each account as in the fingerprint", accounts_match, True),
    Rule("drafts as in the fingerprint", drafts_match, True),
    Rule("open receivables and payables as in the fingerprint", open_items_match, True),
    Rule("each open item is its balance less what was reconciled", open_items_settled),
    Rule("payments in process as in the fingerprint", payments_match, True),
    Rule("sequences begin and end as in the fingerprint", sequences_match, True),
    Rule("no number is missing in a sequence", sequence_gaps),
    Rule("no number is used twice", sequence_duplicates),
    Rule("hash chain of secured entries (Odoo's versions 1 to 4)", hash_chain),
    Rule("each hash chain ends as in the fingerprint", hash_heads, True),
    Rule("each attachment is there", attachments_present),
    Rule("content of attachments has the recorded checksum", attachments_content),
    Rule("the object store has each document that lies there", objects_present),
    Rule("attachments as in the fingerprint", attachments_match, True),
    Rule("number of rows as in the fingerprint", row_counts, True),
    Rule("highest ids as in the fingerprint", highest_ids, True),
    Rule("indexes are in order (amcheck)", indexes),
)
DIGEST_TITLE = "the whole fingerprint, by its digest"
NO_FINGERPRINT = "no fingerprint was given to compare with"
NOTHING = "there is nothing of this kind"


@dataclasses.dataclass(frozen=True)
class RuleResult:
    """``ok`` is None when nothing was checked."""

    code: str
    title: str
    checked: int
    ok: bool | None

    def as_result(self) -> Document:
        return {"code": self.code, "checked": self.checked, "ok": self.ok}


@dataclasses.dataclass(frozen=True)
class Judgement:
    """All rules' answers. ``not_run``: what was not checked, as (code, why)."""

    findings: tuple[Finding, ...]
    rules: tuple[RuleResult, ...]
    not_run: tuple[tuple[str, str], ...]

    @property
    def errors(self) -> int:
        return sum(one.severity == ERROR for one in self.findings)

    @property
    def accepted(self) -> bool:
        return not self.errors

    def check_invariants(self) -> None:
        """Raises when this judgement breaks the law above."""
        failed = {one.code for one in self.findings if one.severity == ERROR}
        silent = {one.code for one in self.rules if one.ok is None} - {code for code, _why in self.not_run}
        if silent:
            raise AssertionError(f"nothing checked, and nothing said: {sorted(silent)}")
        if any(one.ok and (not one.checked or one.code in failed) for one in self.rules):
            raise AssertionError("a rule passed without having checked, or with an error")
        if self.accepted and not any(one.ok for one in self.rules):
            raise AssertionError("accepted, and nothing was checked")


def judge(seen: Seen) -> Judgement:
    """All rules, and then what none of them can name."""
    findings: list[Finding] = []
    rules: list[RuleResult] = []
    not_run: list[tuple[str, str]] = []
    for rule in RULES:
        checked, found = rule.judge(seen)
        findings += found
        bad = any(one.severity == ERROR for one in found)
        rules.append(RuleResult(rule.code, rule.title, checked, False if bad else (True if checked else None)))
        if rule.code in seen.not_run:
            not_run.append((rule.code, seen.not_run[rule.code]))
        elif not checked and not bad:
            not_run.append((rule.code, NO_FINGERPRINT if rule.compares and seen.before is None else NOTHING))
    findings += _whole(seen, findings, rules, not_run)
    return Judgement(tuple(findings), tuple(rules), tuple(not_run))


def _whole(
    seen: Seen, found: t.Sequence[Finding], rules: list[RuleResult], not_run: list[tuple[str, str]]
) -> list[Finding]:
    """The digest of everything, and whether there was anything to judge at all."""
    if seen.before is not None:
        same = seen.before["digest"] == seen.now["digest"]
        rules.append(RuleResult("digest", DIGEST_TITLE, 1, same))
        named = any(one.severity == ERROR for one in found)
        if same:
            return []
        what = "the fingerprint as a whole" if named else "something that no rule names"
        return [_error("digest", None, what, seen.before["digest"], seen.now["digest"])]
    rules.append(RuleResult("digest", DIGEST_TITLE, 0, None))
    not_run.append(("digest", NO_FINGERPRINT))
    if not any(company["periods"] for company in seen.now["companies"]):
        what = "no posted entry and no fingerprint: nothing shows that this is the ledger"
        return [_error("nothing_to_check", None, what, "posted entries", "none")]
    return []


# The report


def report_of(seen: Seen, judgement: Judgement) -> str:
    """The judgement for people who read ledgers and not databases."""
    now, before = seen.now, seen.before
    names = {one["id"]: one["name"] for one in [*(before["companies"] if before else []), *now["companies"]]}
    notes = len(judgement.findings) - judgement.errors
    verdict = "ACCEPTED" if judgement.accepted else "NOT ACCEPTED"
    lines = [
        f"{verdict}: {judgement.errors} errors, {notes} notes",
        "",
        f"Database {now['database']}, Odoo {now['odoo_version']}, read at {now['taken_at']}",
        _compared_with(before),
        "",
    ]
    for company in now["companies"]:
        lines += _about(company)
    held = now["attachments"]
    lines += [
        f"Attachments: {held['count']} with {held['bytes']} bytes, "
        f"{held['in_database']} in the database, {held['in_store']} in a store",
        "",
        "What was checked",
        *(f"  {_mark(one)}  {one.title} ({one.checked} checked)" for one in judgement.rules if one.ok is not None),
        "",
    ]
    if judgement.findings:
        lines += ["What was found", *(_told(one, names) for one in judgement.findings), ""]
    titles = {one.code: one.title for one in judgement.rules}
    lines += ["What was NOT checked", *(f"  {titles.get(code, code)}: {why}" for code, why in judgement.not_run)]
    lines += [f"  {one}" for one in NEVER_CHECKED]
    return "\n".join(lines) + "\n"


NEVER_CHECKED = (
    "whether the entries are right: only that they are whole, and the ones that were there",
    "amounts in foreign currencies, taxes and analytic distributions, except where totals or hashes show them",
)


def _compared_with(before: Document | None) -> str:
    if before is None:
        return "Compared with nothing: no fingerprint was given, so what is missing as a whole may go unseen"
    point = before.get("restore_point")
    moment = f"taken exactly at restore point {point['name']}" if point else f"taken at WAL position {before['lsn']}"
    return f"Compared with the fingerprint of {before['taken_at']}, {moment}"


def _about(company: Document) -> list[str]:
    periods = company["periods"]
    currency = company["currency"]
    lines = [f"Company {company['id']}, {company['name']} ({currency})"]
    if periods:
        with decimal.localcontext() as exact:
            exact.prec = 60
            debit, credit = (amount(sum(decimal.Decimal(one[side]) for one in periods)) for side in ("debit", "credit"))
        entries = sum(one["entries"] for one in periods)
        span = f"{periods[0]['period']} to {periods[-1]['period']}"
        lines.append(f"  {entries} posted entries, {span}: debit {debit}, credit {credit}")
    else:
        lines.append("  no posted entries")
    receivable, payable = company["open_items"]["receivable"], company["open_items"]["payable"]
    payments = company["payments_in_process"]
    lines += [
        f"  open receivables {receivable['amount']} in {receivable['lines']} items, "
        f"open payables {payable['amount']} in {payable['lines']} items",
        f"  payments in process: {payments['count']}, {payments['amount']}; drafts: {company['drafts']}",
        "",
    ]
    return lines


def _mark(one: RuleResult) -> str:
    return "ok   " if one.ok else "WRONG"


def _told(one: Finding, names: t.Mapping[int, str]) -> str:
    where = f"{names.get(one.company, one.company)}: " if one.company is not None else ""
    return f"  {one.severity}  {where}{one.what}: expected {one.expected}, found {one.found} [{one.code}]"
