# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look, plan one step, act, look again; whatever fails after the watchdog was armed takes the pause back."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from .._common.gate import Gate
from .._common.waiting import Clock
from . import plan
from .console import ConsoleRefused, ConsoleUnreachable, quoted
from .io import Session, Watchdogs
from .plan import Database, Memory, Step, View, Wish

Connect = t.Callable[[], Session]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was done, or would be."""

    steps: tuple[Step, ...]
    before: Database
    after: Database
    unit: str | None
    left: float | None
    seconds: float | None

    def as_result(self) -> dict[str, t.Any]:
        changes = [step.what for step in self.steps if step.changes]
        state = "paused" if self.after.paused else "active"
        return {
            "changed": bool(changes),
            "msg": "; ".join(changes) or f"{self.after.name} is {state} already",
            "plan": [step.what for step in self.steps],
            "paused": self.after.paused,
            "seconds": self.seconds,
            "clients_waiting": self.after.clients_waiting,
            "servers_active": self.after.servers_active,
            "deadline_unit": self.unit,
            "resumes_in": self.left,
            "before": {"paused": self.before.paused},
            "after": {"paused": self.after.paused},
        }


class Pooler:
    """One PgBouncer: what every service on it needs."""

    def __init__(self, connect: Connect, watchdogs: Watchdogs) -> None:
        self._connect = connect
        self._watchdogs = watchdogs

    @contextlib.contextmanager
    def session(self) -> t.Iterator[Session]:
        """A connection whose failures are ours."""
        try:
            session = self._connect()
            try:
                yield session
            finally:
                session.close()
        except ConsoleUnreachable as exc:
            raise DedicatedError(str(exc), code="unreachable") from exc
        except ConsoleRefused as exc:
            raise DedicatedError(f"PgBouncer says: {exc}", code="refused_by_pgbouncer") from exc

    def look(self, session: Session) -> View:
        """Everything that is asked before a step."""
        limit, mode = plan.settings_of(session.ask("SHOW CONFIG"))
        why_not = self._watchdogs.why_not()
        return View(
            databases=plan.databases_of(session.ask("SHOW DATABASES"), session.ask("SHOW POOLS"), mode),
            state=plan.state_of(session.ask("SHOW STATE")),
            limit=limit,
            watchdogs=self._watchdogs.look() if why_not is None else (),
            no_watchdog=why_not,
        )


class InfoService(Pooler):
    """What a PgBouncer shows, judged by nobody."""

    def show(self) -> dict[str, t.Any]:
        try:
            with self.session() as session:
                view = self.look(session)
        except DedicatedError as exc:
            if exc.details.get("code") != "unreachable":
                raise
            return {"reachable": False, "error": exc.msg, "state": None, "give_up_after": None, "databases": []}
        return {
            "reachable": True,
            "error": None,
            "state": view.state,
            "give_up_after": view.limit,
            "databases": [_shown(view, one) for one in view.databases],
        }


def _shown(view: View, database: Database) -> dict[str, t.Any]:
    unit, left = _first(view, database.name)
    shown = {**dataclasses.asdict(database), "session_users": list(database.session_users)}
    return {**shown, "deadline_unit": unit, "resumes_in": left}


def _first(view: View, database: str) -> tuple[str | None, float | None]:
    """The watchdog that will act first."""
    armed = [(one.left, one.unit) for one in view.watching(database) if one.left is not None]
    if not armed:
        return None, None
    left, unit = min(armed)
    return f"{unit}.timer", round(left, 3)


class PoolService(Pooler):
    """One database."""

    def __init__(self, connect: Connect, watchdogs: Watchdogs, clock: Clock, poll_interval: float) -> None:
        super().__init__(connect, watchdogs)
        self._clock = clock
        self._poll = poll_interval

    def reconcile(self, wish: Wish, check_mode: bool = False) -> Outcome:
        """Bring the database into the wished state, or tell what would be done."""
        with self.session() as session:
            view = self.look(session)
            if check_mode:
                return self._predict(view, wish)
            return _Run(self, session, view, wish).through()

    def _predict(self, view: View, wish: Wish) -> Outcome:
        before, memory, steps = view, Memory(), []
        step = _accepted(plan.next_step(view, wish, memory))
        while step is not None:
            steps.append(step)
            view, memory = plan.predicted(view, wish, step, memory)
            step = _accepted(plan.next_step(view, wish, memory))
        return _outcome(wish, before, view, tuple(steps), Memory(), None)

    # -- steps -------------------------------------------------------------------------------------------------------

    def arm(self, wish: Wish) -> str:
        return self._watchdogs.arm(wish.database, wish.deadline)

    def disarm(self, units: t.Sequence[str]) -> None:
        self._watchdogs.disarm(units)

    def follow(self, wish: Wish) -> None:
        if wish.until_moved is not None:
            route = wish.until_moved
            self._watchdogs.follow(wish.database, wish.deadline, route.haproxy, route.backend, route.old)

    def wait_at_gate(self, wish: Wish) -> None:
        gate = Gate(str(wish.gate), self._clock)
        gate.wait(plan.patience_at_gate(wish))
        gate.close()

    def pause(self, wish: Wish) -> None:
        """On a connection of its own: PgBouncer answers when the transactions have ended, which the next looks see.

        Hanging up does not end the pause.
        """
        with self.session() as session:
            session.start(f"PAUSE {quoted(wish.database)}")
            session.ended(self._poll)

    def drained(self, session: Session, wish: Wish, since: float) -> None:
        """Wait for the transactions. PgBouncer's own answer would wait for other paused databases too."""
        while True:
            pools = plan.databases_of(session.ask("SHOW DATABASES"), session.ask("SHOW POOLS"), "transaction")
            database = next((one for one in pools if one.name == wish.database), None)
            if database is None or not database.servers_active or not database.paused:
                return
            left = since + wish.drain_timeout - self._clock.monotonic()
            if left <= 0:
                raise _not_drained(wish, database)
            self._clock.sleep(min(self._poll, left))

    def now(self) -> float:
        return self._clock.monotonic()


class _Run:
    """One run over one database, from the first look to the last."""

    def __init__(self, service: PoolService, session: Session, view: View, wish: Wish) -> None:
        self._service = service
        self._session = session
        self._view = view
        self._wish = wish
        self._memory = Memory()
        self._steps: list[Step] = []
        self._said = ""
        self._since: float | None = None
        self._seconds: float | None = None

    def through(self) -> Outcome:
        before = self._view
        try:
            step = _accepted(plan.next_step(self._view, self._wish, self._memory))
            while step is not None:
                self._once(step)
                self._act(step)
                self._view = self._service.look(self._session)
                step = _accepted(plan.next_step(self._view, self._wish, self._memory))
        except (DedicatedError, ConsoleUnreachable, ConsoleRefused) as exc:
            raise self._taken_back(_as_error(exc)) from exc
        return _outcome(self._wish, before, self._view, tuple(self._steps), self._memory, self._seconds)

    def _once(self, step: Step) -> None:
        if step in self._steps:
            said = f": {self._said}" if self._said else ""
            raise DedicatedError(f"{step.what} had no effect{said}", code="no_effect")
        self._steps.append(step)

    def _act(self, step: Step) -> None:
        if step.kind == "arm":
            unit = self._service.arm(self._wish)
            self._memory = plan.armed(self._view, self._wish, self._memory, unit)
        elif step.kind == "disarm":
            self._service.disarm(step.units)
        elif step.kind == "gate":
            self._service.wait_at_gate(self._wish)
            self._memory = dataclasses.replace(self._memory, opened=True)
        elif step.kind == "drain":
            self._drain()
        elif step.kind == "follow":
            self._service.follow(self._wish)
            self._memory = dataclasses.replace(self._memory, following=True)
        elif step.kind == "reconnect":
            self._session.ask(f"RECONNECT {quoted(self._wish.database)}")
            self._memory = dataclasses.replace(self._memory, reconnected=True)
        else:
            self._try(step)
        if step.kind == "resume":
            self._memory = dataclasses.replace(self._memory, ended=step.units)

    def _try(self, step: Step) -> None:
        """PAUSE or RESUME. What PgBouncer says against it is judged by the next look: another may have been first."""
        try:
            if step.kind == "pause":
                self._since = self._service.now()
                self._service.pause(self._wish)
                # Here, because most pauses are over when PgBouncer has answered.
                self._drain()
            else:
                self._session.ask(f"RESUME {quoted(self._wish.database)}")
        except ConsoleRefused as exc:
            self._said = str(exc)
        except DedicatedError as exc:
            if exc.details.get("code") != "refused_by_pgbouncer":
                raise
            self._said = exc.msg

    def _drain(self) -> None:
        since = self._service.now() if self._since is None else self._since
        self._service.drained(self._session, self._wish, since)
        if self._since is not None:
            self._seconds = round(self._service.now() - since, 3)

    def _taken_back(self, exc: DedicatedError) -> DedicatedError:
        """The error, with what became of the pause. Only a run that armed a watchdog has something to take back."""
        if self._memory.watchdog is None or exc.details.get("code") == "taken_over":
            return exc
        try:
            with self._service.session() as session:
                self._take_back(session)
        except DedicatedError as again:
            timer = f"{self._memory.watchdog}.timer"
            exc.msg += f" The pause could not be taken back ({again.msg}); {timer} will end it."
            exc.details["deadline_unit"] = timer
        return exc

    def _take_back(self, session: Session) -> None:
        if self._is_paused(session):
            # Refused when the watchdog was first.
            with contextlib.suppress(ConsoleRefused):
                session.ask(f"RESUME {quoted(self._wish.database)}")
            if self._is_paused(session):
                raise DedicatedError("it is still paused", code="no_effect")
        self._service.disarm([str(self._memory.watchdog)])

    def _is_paused(self, session: Session) -> bool:
        """Whether there is a pause, and no other run has taken it over."""
        view = self._service.look(session)
        database = view.database(self._wish.database)
        paused = database is not None and database.paused
        return paused and not plan.taken_over(view, self._wish, self._memory)


def _accepted(planned: Step | Refuse | None) -> Step | None:
    if isinstance(planned, Refuse):
        raise Refused(planned)
    return planned


def _as_error(exc: Exception) -> DedicatedError:
    if isinstance(exc, DedicatedError):
        return exc
    code = "unreachable" if isinstance(exc, ConsoleUnreachable) else "refused_by_pgbouncer"
    return DedicatedError(str(exc), code=code)


def _not_drained(wish: Wish, database: Database) -> DedicatedError:
    refusal = Refuse(
        "drain_timeout",
        f"{wish.database} is not paused",
        f"{database.servers_active} connections to the server were still in a transaction after "
        f"{wish.drain_timeout:g} s, while {database.clients_waiting} clients waited; the pause was taken back",
        "Look for long transactions in pg_stat_activity, or give a longer drain_timeout.",
    )
    return Refused(refusal, servers_active=database.servers_active, clients_waiting=database.clients_waiting)


def _outcome(
    wish: Wish, before: View, after: View, steps: tuple[Step, ...], memory: Memory, seconds: float | None
) -> Outcome:
    was, now = before.database(wish.database), after.database(wish.database)
    if was is None or now is None:
        raise DedicatedError(f"{wish.database} is gone from PgBouncer", code="unknown_database")
    unit, left = _first(after, wish.database) if memory.watchdog is not None else (None, None)
    return Outcome(steps, was, now, unit, left, seconds)
