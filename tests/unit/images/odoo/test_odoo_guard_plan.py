# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from loading import load

plan = load("addons/dedicated_guard/plan.py")

OPERATIONAL = frozenset({"psycopg2.OperationalError", "psycopg2.DatabaseError", "psycopg2.Error"})
REFUSED = plan.Fault(OPERATIONAL, 'connection to server at "10.0.0.1", port 5432 failed: Connection refused')


def fault(kind: str, text: str = "", sqlstate: str | None = None) -> object:
    return plan.Fault(frozenset({kind}), text, sqlstate)


@pytest.mark.parametrize(
    "one",
    [
        REFUSED,
        plan.Fault(OPERATIONAL, "server closed the connection unexpectedly\n\tThis probably means"),
        plan.Fault(OPERATIONAL, "FATAL:  the database system is starting up"),
        plan.Fault(OPERATIONAL, 'connection to server on socket "/run/x" failed: No such file or directory'),
        plan.Fault(OPERATIONAL, "FATAL:  password authentication failed for user"),
        plan.Fault(OPERATIONAL, "query_wait_timeout", "08P01"),
        fault("psycopg2.errors.AdminShutdown", "terminating connection", "57P01"),
        fault("psycopg2.errors.CannotConnectNow", "", "57P03"),
        fault("psycopg2.errors.TooManyConnections", "", "53300"),
        fault("psycopg2.errors.ReadOnlySqlTransaction", "cannot execute INSERT in a read-only transaction", "25006"),
        fault("psycopg2.errors.FeatureNotSupported", "cannot set transaction read-write mode during recovery", "0A000"),
        fault("psycopg2.InterfaceError", "connection already closed"),
    ],
)
def test_an_outage_of_the_database(one: object) -> None:
    away = plan.why_away([one])
    assert away is not None
    assert away.resource == plan.DATABASE
    assert "\n" not in away.reason


@pytest.mark.parametrize(
    "one",
    [
        plan.Fault(OPERATIONAL, 'connection to server failed: FATAL:  database "nope" does not exist'),
        plan.Fault(OPERATIONAL, "FATAL: no such database: nope"),
        plan.Fault(OPERATIONAL, "could not serialize access", "40001"),
        plan.Fault(OPERATIONAL, "canceling statement due to statement timeout", "57014"),
        plan.Fault(OPERATIONAL, "deadlock detected", "40P01"),
        fault("psycopg2.InterfaceError", "cursor already closed"),
        fault("psycopg2.errors.FeatureNotSupported", "cannot insert multiple commands", "0A000"),
        fault("psycopg2.errors.UndefinedTable", 'relation "x" does not exist', "42P01"),
        fault("sqlite3.OperationalError", "unable to open database file"),
        fault("builtins.ValueError", "x"),
    ],
)
def test_no_outage(one: object) -> None:
    assert plan.why_away([one]) is None


def test_the_cause_is_found_behind_what_odoo_made_of_it() -> None:
    denied = plan.Fault(frozenset({"odoo.exceptions.AccessDenied", "odoo.exceptions.UserError"}), "Access Denied")
    assert plan.why_away([denied, REFUSED]) == plan.Away(plan.DATABASE, REFUSED.text)
    assert plan.why_away([fault("odoo.http.RegistryError"), REFUSED]) is not None
    assert plan.why_away([denied]) is None


def test_an_error_for_the_user_keeps_its_text() -> None:
    assert plan.why_away([fault("odoo.exceptions.UserError", "the bank does not answer"), REFUSED]) is None


def test_a_declared_outage_names_its_resource() -> None:
    away = plan.why_away([plan.Fault(frozenset({"x.SessionStoreUnavailable"}), "Timeout", None, "session store")])
    assert away == plan.Away(plan.SESSION_STORE, "Timeout")


def test_no_chain_is_no_outage() -> None:
    assert plan.why_away([]) is None


def test_one_line_at_each_end() -> None:
    since, say = plan.transition(0.0, 0.0, 100.0, failed=True)
    assert (since, say) == (100.0, True)
    assert plan.transition(since, 0.0, 101.0, failed=True) == (100.0, False)
    # This request began before the outage and was slow.
    assert plan.transition(since, 99.0, 102.0, failed=False) == (100.0, False)
    assert plan.transition(since, 110.0, 111.0, failed=False) == (0.0, True)
    assert plan.transition(0.0, 110.0, 111.0, failed=False) == (0.0, False)


def test_waiting_is_short_and_bounded() -> None:
    waits = [plan.backoff(failures) for failures in (1, 2, 3, 4, 1000)]
    assert waits == [0.5, 1.0, 2.0, 2.0, 2.0]


def test_pages() -> None:
    content_type, body = plan.page(plan.DATABASE, browser=True)
    assert content_type.startswith("text/html")
    assert "refresh" in body
    content_type, body = plan.page(plan.DATABASE, browser=False)
    assert content_type.startswith("text/plain")
    assert not body.startswith("{")


def test_messages_name_what_and_why() -> None:
    assert "database is away: refused" in plan.gone_message(plan.Away(plan.DATABASE, "refused"))
    assert plan.back_message(plan.DATABASE, 18.4).endswith("after 18 s")
