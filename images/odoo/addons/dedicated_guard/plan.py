# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is an outage, and what is said about it. Pure: standard library only.

Invariant: an error counts as an outage only when the request had no chance (connection refused, cut or turned
away), never when the database answered the question with a "no". A missing database is an answer.
"""

from __future__ import annotations

import dataclasses
import html
import typing as t

DATABASE = "database"
SESSION_STORE = "session store"
OBJECT_STORE = "object store"
RETRY_AFTER = 5

# Liveness: whether this process answers at all.
LIVENESS_PATHS = frozenset({"/web/health"})

# SQLSTATE: 08 connection, 53 no resources (connections, disk, memory), 57P shut down or starting, 58 the server's
# own I/O, 25006 the server has become a standby.
_AWAY_STATES = ("08", "53", "57P", "58", "25006")
# A standby, or a leader that is still being promoted, refuses BEGIN READ WRITE as a feature that it does not support.
_RECOVERY_STATE, _RECOVERY = "0A000", "during recovery"
_MISSING = ("no such database", "does not exist")
_CUT = ("connection already closed", "connection has been closed", "closed unexpectedly")


@dataclasses.dataclass(frozen=True)
class Fault:
    """One link of an exception's chain: qualified class names, SQLSTATE, text, and the outage it declares itself."""

    kinds: frozenset[str]
    text: str = ""
    sqlstate: str | None = None
    outage: str | None = None


@dataclasses.dataclass(frozen=True)
class Away:
    resource: str
    reason: str


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _missing(fault: Fault) -> bool:
    text = fault.text.lower()
    return "database" in text and any(word in text for word in _MISSING)


def _away(fault: Fault) -> Away | None:
    if fault.outage:
        return Away(fault.outage, _one_line(fault.text))
    if fault.sqlstate:
        recovers = fault.sqlstate == _RECOVERY_STATE and _RECOVERY in fault.text
        away = recovers or fault.sqlstate.startswith(_AWAY_STATES)
    elif "psycopg2.OperationalError" in fault.kinds:
        # libpq's own errors and refused logins have no SQLSTATE.
        away = True
    else:
        away = "psycopg2.InterfaceError" in fault.kinds and any(word in fault.text for word in _CUT)
    return Away(DATABASE, _one_line(fault.text)) if away else None


def why_away(chain: t.Sequence[Fault]) -> Away | None:
    """The outage behind an error, or None. `chain` is the error and what it was raised from, outermost first.

    Odoo hides the cause: a lost connection during authentication becomes AccessDenied, which is "logged out" to the
    browser, hence the whole chain. An error made for the user keeps its text.
    """
    if not chain:
        return None
    names = {kind.rpartition(".")[2] for kind in chain[0].kinds}
    if "UserError" in names and "AccessDenied" not in names:
        return None
    for fault in chain:
        away = _away(fault)
        if away:
            return None if _missing(fault) else away
    return None


def transition(since: float, started: float, now: float, failed: bool) -> tuple[float, bool]:
    """(new `since`, whether to say so) when an attempt that began at `started` has ended; `since` 0 means all is well.

    A success that began before the outage proves nothing about now.
    """
    if failed:
        return (since, False) if since else (now, True)
    if since and started > since:
        return 0.0, True
    return since, False


def gone_message(away: Away) -> str:
    return (
        f"The {away.resource} is away: {away.reason or 'no answer'}. Requests get 503 with Retry-After, sessions are "
        "kept; nothing to do here, look at the server behind it"
    )


def back_message(resource: str, seconds: float) -> str:
    return f"The {resource} is back after {max(seconds, 0):.0f} s"


def backoff(failures: int, first: float = 0.5, cap: float = 2.0) -> float:
    """Seconds to wait before the next attempt after so many failures."""
    return min(first * 2 ** min(max(failures - 1, 0), 10), cap)


def page(resource: str, browser: bool) -> tuple[str, str]:
    """(content type, body). A browser's page asks again by itself.

    JSON-RPC gets no JSON on purpose: the web client takes anything else for a lost connection, says so, and comes
    back by itself.
    """
    if not browser:
        return "text/plain; charset=utf-8", f"The {resource} is away for the moment. Try again.\n"
    body = (
        "<!DOCTYPE html><html><head><meta charset='utf-8'><title>One moment</title>"
        f"<meta http-equiv='refresh' content='{RETRY_AFTER}'></head><body>"
        f"<p>Odoo waits for its {html.escape(resource)}. You stay logged in; this page tries again by itself.</p>"
        "</body></html>\n"
    )
    return "text/html; charset=utf-8", body
