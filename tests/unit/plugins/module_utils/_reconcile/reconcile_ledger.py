# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small ledger in memory: rows as PostgreSQL returns them, and a server that answers with them.

The shapes of the answers are those of PostgreSQL 17 with the queries of io.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t
from decimal import Decimal

from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile import io, plan
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.plan import Checked, Document, Rows, Seen

META = ("2026-11-01T00:00:00.000000Z", "0/30000A0", "700:700:", "odoo")
SHA1 = hashlib.sha1(b"invoice").hexdigest()
HASH = "$4$" + "a" * 64
D = Decimal

ROWS = Rows(
    meta=[*META, "19.0.1.3"],
    companies=[(1, "Alpha", "EUR"), (2, "Beta", "USD")],
    periods=[
        (1, "2026-09", D("150.00"), D("150.00"), 3, 6),
        (1, "2026-10", D("50.5"), D("50.50"), 1, 2),
        (2, "2026-10", D("7"), D("7.00"), 1, 2),
    ],
    accounts=[(1, 6, "121000", D("200.5"), 4), (1, 39, "400000", D("-200.5"), 4), (2, 6, "121000", D("7"), 1)],
    drafts=[(1, 2)],
    open_items=[(1, "asset_receivable", D("100"), 2), (2, "liability_payable", D("-7"), 1)],
    payments=[(1, 1, D("50"))],
    hashes=[(1, "INV", "INV/2026/", 8, HASH, 3)],
    sequences=[(1, "INV", "INV/2026/", 1, 9, 6, 1, 1), (2, "MISC", "MISC/", 1, 1, 1, 0, 0)],
    gaps=[(1, "INV", "INV/2026/", 4, 5, True)],
    duplicates=[(1, "INV", "INV/2026/", 7)],
    attachments={"count": 1, "bytes": 7, "in_database": 1, "in_store": 0, "digest": "d" * 64},
    tables={"account_move": 5, "sale_order": 3},
    max_ids={"account_move": 9, "ir_attachment": 4},
)


def fingerprint(**changes: t.Any) -> Document:
    return plan.compose(dataclasses.replace(ROWS, **changes))


def checked() -> Checked:
    return Checked(5)


def seen(before: Document | None = None, now: Document | None = None, **changes: t.Any) -> Seen:
    names = ("entries", "open_lines", "chain", "present", "content", "objects", "indexes")
    rows = {name: checked() for name in names}
    return Seen(now or fingerprint(), before, **{**rows, **changes})


def answers() -> dict[str, list[tuple[t.Any, ...]]]:
    """What a server with this ledger says, by the query's name."""
    tables = [*plan.COUNTED, *plan.ALSO_READ, "sale_order"]
    document = (4, SHA1, 7, None, 7)
    return {
        "place": [(False,)],
        "meta": [META],
        "tables": [(name,) for name in tables],
        "odoo": [("19.0.1.3",)],
        "extension": [("public",)],
        **{
            name: list(getattr(ROWS, name))
            for name in (
                "companies",
                "periods",
                "accounts",
                "drafts",
                "open_items",
                "payments",
                "hashes",
                "sequences",
                "gaps",
                "duplicates",
            )
        },
        "documents": [document],
        **{f"count {name}": [(5,)] for name in tables},
        **{f"highest {name}": [(9,)] for name in plan.NUMBERED},
        "posted": [(5,)],
        "unbalanced": [],
        "orphans": [(0,)],
        "open_lines": [(3,)],
        "unsettled": [],
        "hashed": [],
        "hashed_lines": [],
        "contents": [(*document, b"invoice")],
        "attachments": [document],
        "elsewhere": [(0,)],
        "indexes": [(17, "account_move_pkey", True)],
        "index_check": [(None,)],
        "limits": [("500ms", "500ms", "2s")],
        "lock": [],
        "point": [("0/3000108", "2026-11-01T00:00:00.100000Z", "0000000B")],
        "durable": [("801",)],
    }


@dataclasses.dataclass
class Server:
    """``busy``: so many attempts to lock fail. ``broken``: what a query raises. ``events``: what was done, by whom."""

    answers: dict[str, list[tuple[t.Any, ...]]] = dataclasses.field(default_factory=answers)
    busy: int = 0
    broken: dict[str, Exception] = dataclasses.field(default_factory=dict)
    events: list[str] = dataclasses.field(default_factory=list)
    values: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    sql: dict[str, str] = dataclasses.field(default_factory=dict)
    now: float = 100.0
    slept: list[float] = dataclasses.field(default_factory=list)
    sessions: int = 0

    def connect(self, kind: str) -> Connection:
        self.sessions += 1
        return Connection(self, kind)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def say(self, event: str) -> None:
        self.events.append(event)
        self.now += 0.001


@dataclasses.dataclass
class Connection:
    server: Server
    kind: str
    inside: bool = False

    def rows(self, query: io.Query, **values: t.Any) -> list[tuple[t.Any, ...]]:
        server = self.server
        if not self.inside:
            self.inside = True
            server.say(f"{self.kind}: begin")
        server.say(f"{self.kind}: {query.name}")
        server.values[query.name], server.sql[query.name] = values, query.sql
        if query.name == "lock" and server.busy:
            server.busy -= 1
            raise io.Busy("lock: PostgreSQL says: canceling statement due to lock timeout", code="busy")
        if query.name in server.broken:
            raise server.broken[query.name]
        if query.name == "content_piece":
            start, length = values["start"], values["length"]
            return [(row[5][start - 1 : start - 1 + length],) for row in server.answers["pieces"]]
        return server.answers[query.name]

    def stream(self, query: io.Query, size: int, **values: t.Any) -> t.Iterator[tuple[t.Any, ...]]:
        assert size > 0
        yield from self.rows(query, **values)

    def end(self, commit: bool = False) -> None:
        if self.inside:
            self.server.say(f"{self.kind}: {'commit' if commit else 'rollback'}")
        self.inside = False

    def close(self) -> None:
        self.server.sessions -= 1
