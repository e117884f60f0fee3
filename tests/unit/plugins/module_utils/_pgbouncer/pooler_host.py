# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a PgBouncer and systemd as one simulator: state, a clock, timers that fire, a module that may be killed.

The shapes of the answers are those of PgBouncer 1.24.1 and systemd 257.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import typing as t
from pathlib import Path

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.console import (
    ConsoleRefused,
    ConsoleUnreachable,
    Row,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.io import Watchdogs
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.plan import Wish, unit_of
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.service import InfoService, Outcome, PoolService

SOCKETS = "/run/dedicated/router"


class Killed(BaseException):
    """The module was killed; nothing of it runs any more."""


@dataclasses.dataclass
class FakeDatabase:
    """``transactions``: when each running one ends. ``waiting``: since when each waiting client waits."""

    mode: str | None = "transaction"
    paused: bool = False
    transactions: list[float] = dataclasses.field(default_factory=list)
    waiting: list[float] = dataclasses.field(default_factory=list)
    user_mode: str = "transaction"


@dataclasses.dataclass
class Timer:
    at: float
    database: str


@dataclasses.dataclass
class Host:
    """``cost``: seconds that each action takes. ``kill_at``: the action, counted from 1, that is the module's last,
    and whether it is killed before or after it. ``on_action`` is called after each, for what others do meanwhile.
    """

    databases: dict[str, FakeDatabase] = dataclasses.field(default_factory=lambda: {"odoo": FakeDatabase()})
    now: float = 1000.0
    cost: float = 0.01
    state: str = "active"
    config: dict[str, str] = dataclasses.field(
        default_factory=lambda: {"query_wait_timeout": "60", "query_timeout": "0", "pool_mode": "transaction"}
    )
    systemd: bool = True
    reachable: bool = True
    deaf: tuple[str, ...] = ()
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: dict[str, str] = dataclasses.field(default_factory=dict)
    timers: dict[str, Timer] = dataclasses.field(default_factory=dict)
    said: list[str] = dataclasses.field(default_factory=list)
    argvs: list[list[str]] = dataclasses.field(default_factory=list)
    actions: int = 0
    kill_at: tuple[int, str] | None = None
    on_action: t.Callable[[Host, str], None] | None = None
    paused_since: float | None = None
    longest_pause: float = 0.0
    unguarded: list[str] = dataclasses.field(default_factory=list)
    sessions: int = 0
    # What waits for the leader to move, and whether it has moved before anything looks.
    following: list[list[str]] = dataclasses.field(default_factory=list)
    moved: bool = False

    # -- time --------------------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Timers fire on their way, whether the module lives or not."""
        until = self.now + seconds
        due = sorted((timer.at, unit) for unit, timer in self.timers.items() if timer.at <= until)
        for at, unit in due:
            self.now = max(self.now, at)
            self.resume(self.timers.pop(unit).database)
        self.now = max(self.now, until)

    def resume(self, name: str) -> None:
        if self.databases[name].paused:
            self.databases[name].paused = False
            self.longest_pause = max(self.longest_pause, self.now - (self.paused_since or self.now))
            self.paused_since = None

    def pause(self, name: str) -> None:
        if not self.databases[name].paused:
            self.paused_since = self.now
        self.databases[name].paused = True

    def arm(self, database: str, seconds: float) -> str:
        """By another run."""
        at = self.now + seconds
        unit = unit_of(6432, database, at, f"{len(self.timers):08x}")
        self.timers[unit] = Timer(at, database)
        return unit

    def _action(self, what: str, act: t.Callable[[], t.Any]) -> t.Any:
        self.actions += 1
        last, when = self.kill_at or (0, "")
        if self.actions == last and when == "before":
            raise Killed
        self.sleep(self.cost)
        answer = act()
        self.unguarded += [
            f"{name} after {what}"
            for name, database in self.databases.items()
            if database.paused and not any(timer.database == name for timer in self.timers.values())
        ]
        if self.actions == last:
            raise Killed
        if self.on_action is not None:
            self.on_action(self, what)
        return answer

    # -- PgBouncer ---------------------------------------------------------------------------------------------------

    def connect(self) -> Connection:
        if not self.reachable:
            raise ConsoleUnreachable(f"{SOCKETS}/.s.PGSQL.6432: No such file or directory")
        self.sessions += 1
        return Connection(self)

    def command(self, command: str) -> list[Row]:
        self.said.append(command)
        return t.cast("list[Row]", self._action(command, lambda: self._answer(command)))

    def _answer(self, command: str) -> list[Row]:
        verb, _, name = command.partition(" ")
        if not self.reachable or verb in self.deaf:
            raise ConsoleUnreachable("PgBouncer hung up")
        if verb in self.refused:
            raise ConsoleRefused(self.refused[verb])
        return t.cast("list[Row]", getattr(self, f"_{verb.lower()}")(name.strip('"')))

    def _show(self, what: str) -> list[Row]:
        return t.cast("list[Row]", getattr(self, f"_show_{what.lower()}")())

    def _show_config(self) -> list[Row]:
        return [{"key": key, "value": value, "default": "", "changeable": "yes"} for key, value in self.config.items()]

    def _show_state(self) -> list[Row]:
        return [
            {"key": key, "value": "yes" if key == self.state else "no"} for key in ("active", "paused", "suspended")
        ]

    def _show_databases(self) -> list[Row]:
        rows: list[Row] = [{"name": "pgbouncer", "pool_mode": "statement", "paused": "0", "disabled": "0"}]
        for name, one in self.databases.items():
            rows.append({"name": name, "pool_mode": one.mode, "paused": str(int(one.paused)), "disabled": "0"})
        return rows

    def _show_pools(self) -> list[Row]:
        rows: list[Row] = [{"database": "pgbouncer", "user": "pgbouncer", "sv_active": "0", "pool_mode": "statement"}]
        for name, one in self.databases.items():
            one.transactions = [end for end in one.transactions if end > self.now]
            wait = max((self.now - since for since in one.waiting), default=0.0)
            rows.append(
                {
                    "database": name,
                    "user": "odoo",
                    "cl_active": str(len(one.transactions)),
                    "cl_waiting": str(len(one.waiting)),
                    "sv_active": str(len(one.transactions)),
                    "sv_tested": "0",
                    "sv_idle": "1",
                    "maxwait": str(int(wait)),
                    "maxwait_us": str(int(wait % 1 * 1e6)),
                    "pool_mode": one.user_mode if one.mode != "session" else "session",
                }
            )
        return rows

    def _pause(self, name: str) -> list[Row]:
        if self.state != "active":
            raise ConsoleRefused("already suspended/paused")
        self.pause(name)
        return []

    def _resume(self, name: str) -> list[Row]:
        if not self.databases[name].paused:
            raise ConsoleRefused(f"database {name} is not paused")
        self.resume(name)
        return []

    def _reconnect(self, _name: str) -> list[Row]:
        return []

    def busy(self) -> bool:
        return any(end > self.now for one in self.databases.values() if one.paused for end in one.transactions)

    # -- systemd -----------------------------------------------------------------------------------------------------

    def find(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if self.systemd else None

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        self.argvs.append(list(argv))
        word = argv[1] if argv[0] == "systemctl" else "try" if "try" in argv else argv[0]
        if "follow" in argv:
            word = "follow"
        if word in self.broken:
            raise_or = self.broken[word]
            return Completed(tuple(argv), 1, "", raise_or)
        return t.cast(Completed, self._action(word, lambda: self._run(word, list(argv))))

    def _run(self, word: str, argv: list[str]) -> Completed:
        out = ""
        if word == "systemd-run":
            unit = next(one.split("=", 1)[1] for one in argv if one.startswith("--unit="))
            if unit in self.timers:
                raise DedicatedError("Unit was already loaded or has a fragment file")
            self.timers[unit] = Timer(float(argv[-1]), argv[-2].replace("$$", "$"))
        elif word == "follow":
            self.following.append(argv[argv.index("follow") :])
            if self.moved:
                self.resume("odoo")
        elif word == "stop":
            for pattern in argv[2:]:
                for unit in fnmatch.filter([f"{unit}.timer" for unit in self.timers], pattern):
                    del self.timers[unit.removesuffix(".timer")]
        elif word == "show":
            out = "\n".join(
                _shown(unit, timer.at - self.now)
                for unit, timer in self.timers.items()
                if fnmatch.fnmatchcase(f"{unit}.timer", argv[-1])
            )
        return Completed(tuple(argv), 0, out, "")

    # -- the module --------------------------------------------------------------------------------------------------

    def watchdogs(self, script: Path) -> Watchdogs:
        return Watchdogs(self, self, SOCKETS, 6432, str(script / "dedicated" / "resume.py"))

    def info(self, script: Path) -> dict[str, t.Any]:
        return InfoService(self.connect, self.watchdogs(script)).show()

    def reconcile(self, script: Path, state: str, check_mode: bool = False, **more: t.Any) -> Outcome:
        more = {"database": "odoo", "deadline": 30.0 if state == "paused" else 0.0, **more}
        service = PoolService(self.connect, self.watchdogs(script), self, 0.02)
        return service.reconcile(Wish(state=state, **more), check_mode)

    def changes(self) -> list[str]:
        """What was said that changes something."""
        return [command for command in self.said if not command.startswith("SHOW ")]


@dataclasses.dataclass
class Connection:
    """One connection to the fake's console."""

    host: Host
    pending: str = ""

    def ask(self, command: str) -> list[Row]:
        return self.host.command(command)

    def start(self, command: str) -> None:
        self.pending = command

    def ended(self, timeout: float) -> bool:
        self.host.command(self.pending)
        if self.host.busy():
            self.host.sleep(timeout)
        return not self.host.busy()

    def close(self) -> None:
        self.host.sessions -= 1


def _shown(unit: str, left: float) -> str:
    """Its program starts a little before the deadline, and waits for it."""
    waits = left > 3.0
    timer, service = ("waiting", ("inactive", "dead")) if waits else ("elapsed", ("activating", "start"))
    return (
        f"Id={unit}.timer\nActiveState=active\nSubState={timer}\n\n"
        f"Id={unit}.service\nActiveState={service[0]}\nSubState={service[1]}\n"
    )
