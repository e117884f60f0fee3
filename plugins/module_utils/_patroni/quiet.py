# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether all poolers hold their clients back, as PostgreSQL on the leader sees it.

A pooler that pauses a database closes its connections to it. So nobody has to tell the leader's host that the pauses
have begun, by a way that takes longer than the move itself.

Law: a pooler that had connections when this began, and has none now, holds its clients back. One that had none proves
nothing. Whatever is not proven is waited for, until the caller says that it is so; and when the caller closes the gate,
nothing is done.
"""

from __future__ import annotations

import contextlib
import os
import typing as t
from collections.abc import Mapping, Sequence

from .._common.errors import DedicatedError
from .._common.gate import GLANCE, Gate
from .._common.waiting import Clock, Seen, wait_until

try:
    import psycopg2
except ImportError:
    HAS_PSYCOPG2 = False
else:
    HAS_PSYCOPG2 = True

# The pooler on the leader's own host may come by the socket. Superusers are no application.
CONNECTIONS = """SELECT coalesce(host(client_addr), %(local)s), count(*)::int FROM pg_stat_activity
WHERE datname = %(database)s AND backend_type = 'client backend'
AND usesysid NOT IN (SELECT oid FROM pg_roles WHERE rolsuper) GROUP BY 1"""

# Connections to the database by the address that they come from; None when nobody answers.
Look = t.Callable[[], "Mapping[str, int] | None"]


def why_not_quiet(began: Mapping[str, int] | None, now: Mapping[str, int] | None, poolers: Sequence[str]) -> str | None:
    """Why it is not proven yet that all poolers hold their clients back (the law above)."""
    if began is None or now is None:
        return "PostgreSQL gives no answer"
    unproven = sorted(one for one in poolers if not began.get(one))
    if unproven or not poolers:
        return f"{', '.join(unproven) or 'nobody'} had no connection when this began"
    left = [f"{now[one]} from {one}" for one in sorted(poolers) if now.get(one)]
    return f"there are connections: {', '.join(left)}" if left else None


class Quiet:
    """Waits at the gate, and behind it for the poolers. The caller's word for them is the file ``GATE.go``."""

    def __init__(self, gate: Gate, look: Look, poolers: Sequence[str], clock: Clock) -> None:
        self._gate = gate
        self._go = f"{gate.path}.go"
        self._look = look
        self._poolers = poolers
        self._clock = clock
        self._began: Mapping[str, int] | None = None

    def wait(self, timeout: float) -> None:
        """Until the gate is open and all poolers are quiet, for so long each (s)."""
        self._began = self._look()
        try:
            self._gate.wait(timeout)
            wait_until(self._probe, self._clock, timeout, GLANCE, "the pause of all poolers")
        except DedicatedError as exc:
            if exc.details.get("code") == "gate_closed":
                raise
            raise DedicatedError(f"nothing was done: {exc.msg}", code="gate_closed") from exc
        finally:
            self._gate.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._go)

    def _probe(self) -> Seen[None]:
        if not self._gate.is_open():
            raise DedicatedError("nothing was done: the caller has closed the gate again", code="gate_closed")
        if os.path.exists(self._go):
            return Seen(None)
        return Seen(None, why_not_quiet(self._began, self._look(), self._poolers))


class Postgres:
    """The look at a PostgreSQL on this host, by its socket; one connection for all looks."""

    def __init__(self, socket_dir: str, user: str, database: str, local: str) -> None:
        self._host = socket_dir
        self._user = user
        self._asked = {"database": database, "local": local}
        self._connection: t.Any = None

    def __call__(self) -> Mapping[str, int] | None:
        if not HAS_PSYCOPG2:
            return None
        try:
            if self._connection is None:
                self._connection = psycopg2.connect(
                    host=self._host, user=self._user, dbname="postgres", connect_timeout=5
                )
                self._connection.set_session(readonly=True, autocommit=True)
            with self._connection.cursor() as cursor:
                cursor.execute(CONNECTIONS, self._asked)
                return dict(cursor.fetchall())
        except psycopg2.Error:
            self.close()
            return None

    def close(self) -> None:
        """Before the leader is stopped, whose shutdown ends it otherwise."""
        if self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None
