# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""When one database of a PgBouncer may be paused, and the next step towards what is wished, from one look.

A *watchdog* is a timer of the host's systemd whose program sends ``RESUME`` when the deadline is over. It depends on
nothing that began the pause: not on Ansible, its connection, or the module.

Laws:

1. ``PAUSE`` is sent only after a watchdog of this very run was seen armed. It is taken away after ``RESUME`` was seen,
   never before; when a pause is renewed, the old watchdog goes after the new one was seen. So whatever is killed,
   wherever it was, the database is active again when the deadline is over. A run that pauses takes away only watchdogs
   older than its own, and a run that resumes only those of the pause that it has ended: the others' may be needed. One
   that is left over does no harm, for it finds nothing paused, or a younger run has taken it away before it pauses;
2. no client waits so long that PgBouncer gives it up: what it has waited already, the deadline and some slack stay
   within PgBouncer's own limit, also when a pause is renewed again and again;
3. a database with session pooling is not paused: the pause would wait for clients to leave;
4. a pause whose transactions do not end in time is taken back;
5. ``RESUME`` is sent only to a database that is paused, and a step that changed nothing is not repeated;
6. a run that sees a watchdog younger than its own leaves everything as it is: another run has taken over.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import Refuse

PREFIX = "dedicated-pgbouncer-resume"
# Ends a pause early. It is no watchdog: nothing rests on it.
FOLLOWER = "dedicated-pgbouncer-follow"
# PgBouncer's own default, and what Odoo's workers bear; where PgBouncer has no limit, this is it.
LONGEST = 120.0
# From the deadline until clients are served: RESUME and new connections to the server, on a busy host.
SLACK = 2.0
# The watchdog's program is started so long before the deadline and waits: on a busy host a start takes seconds.
LEAD = 3.0
ADMIN = "pgbouncer"

Rows = t.Sequence[t.Mapping[str, t.Optional[str]]]


# -- what is seen ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Database:
    """One of PgBouncer's databases, with the sum of its pools."""

    name: str
    pool_mode: str = "transaction"
    paused: bool = False
    disabled: bool = False
    session_users: tuple[str, ...] = ()
    clients_active: int = 0
    clients_waiting: int = 0
    servers_active: int = 0
    longest_wait: float = 0.0


@dataclasses.dataclass(frozen=True)
class Watchdog:
    """``left``: seconds until it resumes the database, or None when it is already at it."""

    unit: str
    database: str
    left: float | None = None


@dataclasses.dataclass(frozen=True)
class View:
    """One look at a PgBouncer and its watchdogs. ``limit``: seconds after which it gives a waiting client up."""

    databases: tuple[Database, ...]
    state: str = "active"
    limit: float = LONGEST
    watchdogs: tuple[Watchdog, ...] = ()
    # Why no watchdog can be armed here, if so.
    no_watchdog: str | None = None

    def database(self, name: str) -> Database | None:
        return next((one for one in self.databases if one.name == name), None)

    def watching(self, name: str) -> tuple[Watchdog, ...]:
        return tuple(one for one in self.watchdogs if one.database == name)


def check_invariants(view: View) -> list[str]:
    """What of law 1 is broken, for every database whose pauses are all ours."""
    return [
        f"{one.name} is paused and nothing will resume it"
        for one in view.databases
        if one.paused and not any(dog.left is not None for dog in view.watching(one.name))
    ]


# -- what is wished ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Route:
    """HAProxy's way to the leader: its socket, the backend, and the server that is left."""

    haproxy: str
    backend: str
    old: str


@dataclasses.dataclass(frozen=True)
class Wish:
    """``until_moved``: end the pause also as soon as this way leads to another server. ``gate``: a file that the pause
    waits for when the watchdog is armed.
    """

    database: str
    state: str
    deadline: float = 0.0
    drain_timeout: float = 5.0
    until_moved: Route | None = None
    gate: str | None = None


@dataclasses.dataclass(frozen=True)
class Memory:
    """What this run has done: the watchdog that it armed, and those it had seen before; those of the pause that it
    ended; whether it sent RECONNECT; whether it started what follows the leader; whether it has passed its gate.
    """

    watchdog: str | None = None
    older: tuple[str, ...] = ()
    ended: tuple[str, ...] | None = None
    reconnected: bool = False
    following: bool = False
    opened: bool = False


@dataclasses.dataclass(frozen=True)
class Step:
    """``kind``: arm, disarm, gate, pause, drain, follow, resume, reconnect. ``units``: the watchdogs concerned."""

    kind: str
    what: str
    units: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        return self.kind in ("pause", "resume", "reconnect")


def next_step(view: View, wish: Wish, memory: Memory) -> Step | Refuse | None:
    """The next step, or None when everything is as wished."""
    database = view.database(wish.database)
    if database is None:
        return _unknown(view, wish)
    if wish.state == "reconnected":
        return None if memory.reconnected else Step("reconnect", f"RECONNECT {wish.database}")
    refusal = _why_not_pooler(view, wish)
    if refusal is not None:
        return refusal
    if wish.state == "active":
        return _to_active(view, wish, database, memory)
    return _why_not_paused(view, wish, database, memory) or _to_paused(view, wish, database, memory)


def _to_active(view: View, wish: Wish, database: Database, memory: Memory) -> Step | Refuse | None:
    dogs = tuple(one.unit for one in view.watching(wish.database))
    if not database.paused:
        return _disarm([unit for unit in dogs if unit in (memory.ended or ())])
    younger = () if memory.ended is None else taken_over(view, wish, memory)
    return _taken_over(wish, younger) if younger else Step("resume", f"RESUME {wish.database}", dogs)


def _to_paused(view: View, wish: Wish, database: Database, memory: Memory) -> Step | Refuse | None:
    if memory.following:
        # The leader may have moved already, and the pause be over.
        return None
    if memory.watchdog is None:
        return Step("arm", f"arm a watchdog that resumes {wish.database} in {wish.deadline:g} s")
    dogs = view.watching(wish.database)
    younger = taken_over(view, wish, memory)
    if younger:
        return _taken_over(wish, younger)
    if not any(one.unit == memory.watchdog and one.left is not None for one in dogs):
        return _watchdog_gone(wish, memory)
    # Also before the pause: what an earlier run left behind would end it too soon.
    step = _disarm([one.unit for one in dogs if one.unit != memory.watchdog])
    if step is not None:
        return step
    if wish.gate is not None and not memory.opened:
        return Step("gate", f"wait until {wish.gate} is there")
    if not database.paused:
        return Step("pause", f"PAUSE {wish.database}")
    if database.servers_active:
        return Step("drain", f"wait up to {wish.drain_timeout:g} s for the transactions on {wish.database}")
    # After the pause: before it there would be nothing to end.
    if wish.until_moved is not None and not memory.following:
        return Step("follow", f"RESUME {wish.database} when {wish.until_moved.backend} has left {wish.until_moved.old}")
    return None


def patience_at_gate(wish: Wish) -> float:
    """How long the gate may be waited for (s), so that the pause behind it ends before its watchdog begins."""
    return wish.deadline - wish.drain_timeout - LEAD


def _disarm(units: t.Sequence[str]) -> Step | None:
    return Step("disarm", f"disarm {', '.join(units)}", tuple(units)) if units else None


def predicted(view: View, wish: Wish, step: Step, memory: Memory) -> tuple[View, Memory]:
    """The view after a step that goes well, for check mode."""
    database = view.database(wish.database)
    dogs = tuple(one for one in view.watchdogs if step.kind != "disarm" or one.unit not in step.units)
    if step.kind == "arm":
        memory = armed(view, wish, memory, "predicted")
        dogs = (*dogs, Watchdog("predicted", wish.database, wish.deadline))
    if step.kind == "reconnect":
        memory = dataclasses.replace(memory, reconnected=True)
    if step.kind == "follow":
        memory = dataclasses.replace(memory, following=True)
    if step.kind == "gate":
        memory = dataclasses.replace(memory, opened=True)
    if step.kind == "resume":
        memory = dataclasses.replace(memory, ended=step.units)
    if database is not None and step.kind in ("pause", "drain", "resume"):
        paused = step.kind != "resume"
        after = dataclasses.replace(database, paused=paused, servers_active=0)
        view = dataclasses.replace(view, databases=tuple(after if one is database else one for one in view.databases))
    return dataclasses.replace(view, watchdogs=dogs), memory


def armed(view: View, wish: Wish, memory: Memory, unit: str) -> Memory:
    """What a run knows after it has armed its watchdog; ``view`` is what it saw before."""
    return dataclasses.replace(memory, watchdog=unit, older=tuple(one.unit for one in view.watching(wish.database)))


def taken_over(view: View, wish: Wish, memory: Memory) -> tuple[str, ...]:
    """Watchdogs that another run has armed since this one looked first."""
    own = (memory.watchdog, *memory.older, *(memory.ended or ()))
    return tuple(one.unit for one in view.watching(wish.database) if one.left is not None and one.unit not in own)


# -- refusals ----------------------------------------------------------------------------------------------------------


def _unknown(view: View, wish: Wish) -> Refuse:
    names = ", ".join(sorted(one.name for one in view.databases)) or "none"
    return Refuse(
        "unknown_database",
        f"{wish.database} stays as it is",
        f"this PgBouncer has no database of that name; it has: {names}",
        "Correct database, or port when there are several PgBouncers.",
    )


def _why_not_pooler(view: View, wish: Wish) -> Refuse | None:
    if view.state == "active":
        return None
    return Refuse(
        "pooler_not_active",
        f"{wish.database} stays as it is",
        f"the whole PgBouncer is {view.state}, by somebody else's hand or because it shuts down",
        "Send RESUME without a name on its console, or let it end.",
    )


def _why_not_paused(view: View, wish: Wish, database: Database, memory: Memory) -> Refuse | None:
    if database.pool_mode == "session" or database.session_users:
        who = f" for {', '.join(database.session_users)}" if database.session_users else ""
        return Refuse(
            "session_pooling",
            f"{wish.database} is not paused",
            f"it is pooled by session{who}, and a pause waits until such clients leave: LISTEN connections never do",
            "Pause only databases with transaction pooling.",
        )
    if memory.watchdog is not None:
        return None
    if wish.deadline <= wish.drain_timeout or wish.drain_timeout <= 0:
        return Refuse(
            "deadline_too_short",
            f"{wish.database} is not paused",
            f"deadline is {wish.deadline:g} s, drain_timeout {wish.drain_timeout:g} s: the pause would end while "
            "transactions are waited for",
            "Give a drain_timeout above zero and a longer deadline.",
        )
    if wish.gate is not None and patience_at_gate(wish) <= 0:
        return Refuse(
            "deadline_too_short",
            f"{wish.database} is not paused",
            f"deadline is {wish.deadline:g} s, and {wish.drain_timeout + LEAD:g} s of it are kept for transactions: no "
            "time is left to wait at the gate",
            "Give a longer deadline, or no gate.",
        )
    longest = min(view.limit, LONGEST) - SLACK - database.longest_wait
    if wish.deadline > longest:
        return Refuse(
            "deadline_too_long",
            f"{wish.database} is not paused",
            f"deadline is {wish.deadline:g} s; PgBouncer gives clients up after {view.limit:g} s, one has waited for "
            f"{database.longest_wait:.1f} s, and {SLACK:g} s are kept: {max(0.0, longest):.1f} s are left",
            "Give a shorter deadline, or resume first and pause again when nobody waits.",
        )
    if view.no_watchdog is not None:
        return Refuse(
            "no_watchdog",
            f"{wish.database} is not paused",
            f"nothing on this host could end the pause by itself: {view.no_watchdog}",
            "Run this where systemd is the init system.",
        )
    return None


def _taken_over(wish: Wish, younger: t.Sequence[str]) -> Refuse:
    return Refuse(
        "taken_over",
        f"{wish.database} is left to another run",
        f"{', '.join(younger)} was armed since this run began",
        "Let that run end, and run again if it is still needed.",
    )


def _watchdog_gone(wish: Wish, memory: Memory) -> Refuse:
    return Refuse(
        "watchdog_gone",
        f"{wish.database} is not kept paused",
        f"{memory.watchdog} is not armed any more: its time is over, or somebody stopped it",
        "Run again, with a longer deadline if it was the time.",
    )


# -- what PgBouncer shows ----------------------------------------------------------------------------------------------


def databases_of(databases: Rows, pools: Rows, default_mode: str) -> tuple[Database, ...]:
    """From SHOW DATABASES and SHOW POOLS. The console's own database is none that could be paused."""
    return tuple(
        _database(row, [pool for pool in pools if pool.get("database") == row.get("name")], default_mode)
        for row in databases
        if row.get("name") not in (None, ADMIN)
    )


def _database(row: t.Mapping[str, str | None], pools: Rows, default_mode: str) -> Database:
    return Database(
        name=str(row["name"]),
        pool_mode=row.get("pool_mode") or default_mode,
        paused=row.get("paused") == "1",
        disabled=row.get("disabled") == "1",
        # A user's own pool_mode overrides the database's; it shows in the pool.
        session_users=tuple(sorted(str(pool["user"]) for pool in pools if pool.get("pool_mode") == "session")),
        clients_active=_sum(pools, "cl_active"),
        clients_waiting=_sum(pools, "cl_waiting"),
        # What a pause waits for.
        servers_active=_sum(pools, "sv_active") + _sum(pools, "sv_tested"),
        longest_wait=max((_number(pool, "maxwait") + _number(pool, "maxwait_us") / 1e6 for pool in pools), default=0.0),
    )


def _sum(pools: Rows, column: str) -> int:
    return sum(int(_number(pool, column)) for pool in pools)


def _number(row: t.Mapping[str, str | None], column: str) -> float:
    return float(row.get(column) or 0)


def settings_of(config: Rows) -> tuple[float, str]:
    """From SHOW CONFIG: after how many seconds a waiting client is given up, and the default pool mode."""
    found = {row.get("key"): row.get("value") or "" for row in config}
    limits = [float(found.get(name) or 0) for name in ("query_wait_timeout", "query_timeout")]
    return min((one for one in limits if one > 0), default=LONGEST), found.get("pool_mode") or "session"


def state_of(state: Rows) -> str:
    """From SHOW STATE: active, paused or suspended."""
    return next((str(row.get("key")) for row in state if row.get("value") == "yes"), "active")


# -- watchdogs' names and times ----------------------------------------------------------------------------------------


def unit_of(port: int, database: str, until: float, token: str) -> str:
    """Without a suffix. ``until``: the deadline, on the host's monotonic clock.

    No part has a hyphen in it, so that one database's units are never taken for another's.
    """
    return f"{PREFIX}-{port}-{_escaped(database)}-{until * 1000:.0f}-{token}"


def units_of(port: int) -> str:
    """The pattern of all units of a PgBouncer."""
    return f"{PREFIX}-{port}-*"


def _escaped(name: str) -> str:
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
    return "".join(chr(byte) if chr(byte) in plain else f":{byte:02x}" for byte in name.encode())


def _unescaped(name: str) -> str:
    head, *rest = name.split(":")
    return (head.encode() + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in rest)).decode()


def watchdogs_of(shown: str, port: int, now: float) -> tuple[Watchdog, ...]:
    """From ``systemctl show`` of all units of a PgBouncer: timers and their services. ``now`` is monotonic."""
    alive = set()
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        name, _dot, kind = unit.get("Id", "").rpartition(".")
        # A timer that is over stays "elapsed" while its service, which waits for the deadline, is "activating".
        if (kind, unit.get("SubState")) == ("timer", "waiting") or unit.get("ActiveState") == "activating":
            alive.add(name)
    return tuple(dog for name in sorted(alive) for dog in _watchdog(name, port, now))


def _watchdog(unit: str, port: int, now: float) -> tuple[Watchdog, ...]:
    head = f"{PREFIX}-{port}-"
    parts = unit[len(head) :].split("-")
    if not unit.startswith(head) or len(parts) != 3 or not parts[1].isdigit():
        return ()
    left = int(parts[1]) / 1000 - now
    return (Watchdog(unit, _unescaped(parts[0]), left if left > 0 else None),)
