# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving the leader, and replacing a dead one: look, plan, order, and look until the cluster agrees."""

from __future__ import annotations

import dataclasses
import threading
import typing as t

from .._common.errors import DeadlineError, DedicatedError, Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until
from . import failover_plan, plan, switchover_plan
from .failover_plan import NotAccepted, Promotion, Waited
from .io import PatroniUnreachable, Reply, RestTransport, Transport
from .switchover_plan import Look, Move, Nothing, Word

EMPTY = plan.View(None, (), False, None)
# Patroni has written nothing when it answers so.
NOT_TAKEN = (400, 401, 403, 404, 409, 412, 422)
# Looks in a row after which an order that Patroni has taken back counts as such.
PATIENCE = 3
ORDERS = 2
# Two members of five that do not answer still leave a look young enough.
LOOK_SECONDS = 2


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long to wait for what was ordered, and how often to look."""

    timeout: float
    poll_interval: float


class Pending(t.Protocol):
    """An order that was sent. None while its reply is outstanding."""

    def outcome(self) -> Reply | DedicatedError | None: ...


class Background:
    """Patroni replies up to a second after the new leader leads, or never: the cluster is watched meanwhile."""

    def __init__(self, transport: Transport, path: str, body: t.Mapping[str, t.Any]) -> None:
        self._outcome: Reply | DedicatedError | None = None
        self._thread = threading.Thread(target=self._send, args=(transport, path, body), daemon=True)
        self._thread.start()

    def _send(self, transport: Transport, path: str, body: t.Mapping[str, t.Any]) -> None:
        try:
            self._outcome = transport.request("POST", path, body)
        except DedicatedError as exc:
            self._outcome = exc
        except Exception as exc:
            # Whatever it was, nobody may wait for a reply for ever.
            self._outcome = PatroniUnreachable(f"POST {path}: {type(exc).__name__}: {exc}", code="unreachable")

    def outcome(self) -> Reply | DedicatedError | None:
        return self._outcome

    def join(self, timeout: float) -> None:
        """For tests."""
        self._thread.join(timeout)


Send = t.Callable[[Transport, str, t.Mapping[str, t.Any]], Pending]


class Lookout:
    """The cluster by the first member that answers, and each member's own word."""

    def __init__(
        self,
        transports: t.Sequence[Transport],
        member: t.Callable[[str], Transport],
        clock: Clock,
        history: bool = False,
    ) -> None:
        self._transports = list(transports)
        self.member = member
        self._clock = clock
        self._history = history

    def look(self, before: Look | None = None) -> Look:
        """One look. The leader is asked last, so that lags are never too small, and those that seem ill first.

        After another look it is a short one: who leads, by the store and its own word.
        """
        silent = []
        for transport in tuple(self._transports):
            started = self._clock.monotonic()
            try:
                found = self._cluster(transport, before)
            except DedicatedError as exc:
                silent.append(exc.msg)
                # The next look shall not wait for it again.
                self.rotate()
                continue
            asked = sorted(found.view.members, key=lambda one: (one.is_leader, one.state == "streaming", one.name))
            words = {one.name: self._word(one) for one in asked if one.is_leader or before is None}
            return dataclasses.replace(found, words=words, elapsed=self._clock.monotonic() - started)
        return Look(EMPTY, silent=tuple(silent) or ("there is no address to ask",))

    def rotate(self) -> None:
        """Let another member be the first to be asked."""
        self._transports.append(self._transports.pop(0))

    def _cluster(self, transport: Transport, before: Look | None) -> Look:
        reply = transport.request("GET", "/cluster")
        if reply.status != 200:
            raise DedicatedError(f"GET /cluster answered {reply.status}: {reply.text}")
        if before is not None:
            return Look(_view(reply, None), ttl=before.ttl, loop_wait=before.loop_wait)
        settings = transport.request("GET", "/config")
        config = settings.json("/config") if settings.status == 200 else None
        if not isinstance(config, dict):
            config = None
        own = switchover_plan.parse_word(transport.request("GET", "/patroni").json("/patroni"))
        history = transport.request("GET", "/history").json("/history") if self._history else []
        numbers = {key: plan.normal((config or {}).get(key, default))[1] for key, default in plan.DEFAULTS.items()}
        return Look(
            _view(reply, config),
            source=own.name,
            # What is stored below the minimum is not what Patroni works with.
            ttl=max(20, int(numbers["ttl"])),
            loop_wait=int(numbers["loop_wait"]),
            history=tuple(line[0] for line in history if isinstance(line, list) and line and isinstance(line[0], int)),
        )

    def _word(self, member: plan.Member) -> Word:
        if member.api_url is None:
            return Word(error="Patroni does not tell its address")
        try:
            reply = self.transport(member).request("GET", "/patroni")
            if reply.status != 200:
                return Word(error=f"GET /patroni answered {reply.status}: {reply.text}")
            return switchover_plan.parse_word(reply.json("/patroni"))
        except DedicatedError as exc:
            return Word(error=exc.msg)

    def transport(self, member: plan.Member) -> Transport:
        """The way to one member."""
        return self.member(str(member.api_url).removesuffix("/patroni"))


def _view(reply: Reply, config: t.Mapping[str, t.Any] | None) -> plan.View:
    try:
        return plan.parse_cluster(reply.json("/cluster"), config)
    except ValueError as exc:
        raise DedicatedError(str(exc), code="bad_answer") from exc


class Orders(RestTransport):
    """Patroni replies to an order only when it is over; a look must not wait for a dead host that long."""

    def __init__(self, params: t.Mapping[str, t.Any], url: str | None = None) -> None:
        super().__init__(params, url, request_timeout=LOOK_SECONDS)
        self._patient = RestTransport(params, url, request_timeout=params["timeout"])

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        if method == "GET":
            return super().request(method, path, data)
        return self._patient.request(method, path, data)


def lookout_of(params: t.Mapping[str, t.Any], clock: Clock, history: bool = False) -> Lookout:
    """The cluster that a module's options name."""
    transports = [Orders(params, url) for url in (params["url"], *params["urls"])]
    return Lookout(transports, lambda url: Orders(params, url), clock, history)


@dataclasses.dataclass
class Outcome:
    """What became of the order. The seconds count from the order; None: it did not come to that, or was not awaited."""

    changed: bool
    msg: str
    leader_before: str | None
    leader_after: str | None
    candidate: str | None = None
    as_planned: bool = True
    plan: list[str] = dataclasses.field(default_factory=list)
    scheduled_at: str | None = None
    answer: str | None = None
    orders: int = 0
    seconds_to_leader: float | None = None
    seconds_to_healthy: float | None = None
    loss: dict[str, t.Any] | None = None

    def as_result(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass
class _Watch:
    """What is remembered between two looks at a move."""

    move: Move
    outcome: Outcome
    started: float
    pending: Pending
    calm: int = 0
    calm_since: float = 0
    last: Look = dataclasses.field(default_factory=lambda: Look(EMPTY))


class MoveService:
    """What a switchover and a failover have in common: the order, and the way to its end."""

    def __init__(self, lookout: Lookout, clock: Clock, pace: Pace, send: Send = Background) -> None:
        self._lookout = lookout
        self._clock = clock
        self._pace = pace
        self._send = send
        self._last = Look(EMPTY)

    def _again(self, move: Move) -> Move | Nothing:
        """A plan from a new look, for the same candidate. Raises Refused."""
        raise NotImplementedError

    def _wait(self, probe: t.Callable[[], Seen[t.Any]], what: str) -> t.Any:
        return wait_until(probe, self._clock, self._pace.timeout, self._pace.poll_interval, what)

    def _order(self, move: Move, outcome: Outcome) -> Pending:
        names = move.targets
        name = names[min(outcome.orders, len(names) - 1)]
        member = next(one for one in self._last.view.members if one.name == name)
        outcome.orders += 1
        return self._send(self._lookout.transport(member), move.path, move.body)

    def _look(self) -> Look:
        self._last = self._lookout.look()
        return self._last

    def _carry_out(self, move: Move, outcome: Outcome, wait_for: str) -> Outcome:
        """Order it once, and look until it is over."""
        outcome.changed, outcome.as_planned, outcome.leader_after = False, False, move.leader
        started = self._clock.monotonic()
        watch = _Watch(move, outcome, started, self._order(move, outcome))
        probe = self._scheduled if move.scheduled_at is not None else self._progress
        try:
            self._wait(lambda: probe(watch, wait_for), "the end of the move")
        except DeadlineError as exc:
            raise self._late(watch, exc) from exc
        except DedicatedError as exc:
            outcome.leader_after = watch.last.leader
            exc.details.update(_facts(outcome))
            raise
        return outcome

    # -- looks at what is going on -----------------------------------------------------------------------------------

    def _progress(self, watch: _Watch, wait_for: str) -> Seen[None]:
        look = watch.last = self._lookout.look(self._last)
        move, outcome = watch.move, watch.outcome
        leader, over = look.leader, watch.pending.outcome()
        if isinstance(over, Reply):
            outcome.answer = f"{over.status} {over.text}"
            if over.status in NOT_TAKEN:
                self._not_taken(watch, over)
                return Seen(None)
        if leader is not None and leader != move.leader:
            self._arrived(watch, leader)
            reason = switchover_plan.why_not_following(look, move.followers) if wait_for == "healthy" else None
            if wait_for == "healthy" and reason is None:
                outcome.seconds_to_healthy = self._since(watch)
            return Seen(None, reason)
        # Before it is known what became of the order, it may still be carried out.
        watch.calm = watch.calm + 1 if over is not None and switchover_plan.calm(look, move) else 0
        watch.calm_since = watch.calm_since if watch.calm > 1 else self._clock.monotonic()
        if over is not None and self._judge(watch, over):
            return Seen(None)
        return Seen(None, f"{switchover_plan.says(look)}{'' if outcome.answer is None else f' ({outcome.answer})'}")

    def _since(self, watch: _Watch) -> float:
        return round(self._clock.monotonic() - watch.started, 3)

    def _arrived(self, watch: _Watch, leader: str) -> None:
        """Another one leads. Raises when it is the wrong one."""
        outcome, move = watch.outcome, watch.move
        outcome.changed, outcome.leader_after = True, leader
        outcome.as_planned = leader == move.candidate
        if outcome.seconds_to_leader is None:
            outcome.seconds_to_leader = self._since(watch)
        outcome.msg = f"{leader} leads, {outcome.seconds_to_leader} s after the order"
        if not outcome.as_planned:
            raise DedicatedError(
                f"{leader} leads instead of {move.candidate}. Look into Patroni's log of {move.candidate} why.",
                code="wrong_leader",
            )

    def _judge(self, watch: _Watch, over: Reply | DedicatedError) -> bool:
        """All is as before the order, as far as this look tells. Whether that is the end."""
        if not watch.calm:
            return False
        open_for = self._clock.monotonic() - watch.calm_since
        if isinstance(over, Reply):
            # 503 with another text: Patroni has ended its wait, and not the order.
            closed = over.status == 200 or switchover_plan.GIVEN_UP in over.text
            if not closed or watch.calm < PATIENCE or (over.status == 200 and open_for <= watch.last.loop_wait):
                return False
            raise DedicatedError(
                f"Patroni has taken the order back ({over.status} {over.text}): {switchover_plan.says(watch.last)}. "
                "Look into Patroni's logs, and run again.",
                code="given_up",
            )
        if open_for <= watch.last.loop_wait or watch.calm < PATIENCE:
            return False
        if watch.outcome.orders >= ORDERS:
            raise DedicatedError(f"no order was heard: {over.msg}. Nothing was changed.", code="not_heard")
        again = self._replan(watch)
        if isinstance(again, Nothing):
            return self._unchanged(watch, again)
        watch.pending, watch.calm = self._order(again, watch.outcome), 0
        return False

    def _replan(self, watch: _Watch) -> Move | Nothing:
        try:
            return self._again(watch.move)
        finally:
            watch.last = self._last

    def _not_taken(self, watch: _Watch, reply: Reply) -> None:
        """Somebody else may have been faster; a new plan tells."""
        hint = {
            401: "Check username and password against restapi.authentication.",
            403: "This host is not in Patroni's allowlist, or its client certificate is not accepted.",
        }.get(reply.status, "Look with patroni_cluster_info, and run again.")
        if reply.status not in (401, 403):
            again = self._replan(watch)
            if isinstance(again, Nothing):
                self._unchanged(watch, again)
                return
        raise DedicatedError(
            f"POST {watch.move.path} was refused with {reply.status}: {reply.text}. Nothing was changed. {hint}",
            code="order_refused",
            status=reply.status,
        )

    def _unchanged(self, watch: _Watch, nothing: Nothing) -> bool:
        outcome = watch.outcome
        outcome.changed, outcome.msg, outcome.leader_after = False, f"{nothing.why}, and not by this", nothing.leader
        outcome.as_planned = outcome.candidate in (None, nothing.leader)
        return True

    def _scheduled(self, watch: _Watch, _wait_for: str) -> Seen[None]:
        look = watch.last = self._lookout.look(self._last)
        over = watch.pending.outcome()
        if isinstance(over, Reply):
            watch.outcome.answer = f"{over.status} {over.text}"
            if over.status in NOT_TAKEN:
                self._not_taken(watch, over)
                return Seen(None)
        if not switchover_plan.is_scheduled(look, watch.move):
            return Seen(None, f"it is not in the store ({watch.outcome.answer or 'no reply yet'})")
        watch.outcome.changed = watch.outcome.as_planned = True
        watch.outcome.msg = watch.outcome.plan[0]
        return Seen(None)

    def _late(self, watch: _Watch, exc: DeadlineError) -> DedicatedError:
        """Who leads when the time is over, and what that means."""
        outcome, look = watch.outcome, watch.last
        leader = outcome.leader_after = look.leader
        outcome.as_planned = leader == watch.move.candidate
        open_order = "The order may still be carried out: look with patroni_cluster_info before running again."
        if watch.move.scheduled_at is not None:
            code, what, do = "not_scheduled", "the switchover is not scheduled", "Look into Patroni's log."
        elif leader is None:
            code, what, do = "no_leader", f"nobody leads: {switchover_plan.says(look)}", open_order
        elif leader == watch.move.leader:
            code, what, do = "not_moved", f"{leader} still leads", open_order
        else:
            code, what, do = "not_healthy", f"{leader} leads", "Look with patroni_cluster_info at the other members."
        return DedicatedError(
            f"{what}; {exc.msg}. {do}", code=code, last_seen=exc.details["last_seen"], **_facts(outcome)
        )


def _facts(outcome: Outcome) -> dict[str, t.Any]:
    return {key: value for key, value in outcome.as_result().items() if key != "msg"}


class SwitchoverService(MoveService):
    """Planned moves of the leader."""

    def __init__(
        self, lookout: Lookout, clock: Clock, pace: Pace, wish: switchover_plan.Wish, send: Send = Background
    ) -> None:
        super().__init__(lookout, clock, pace, send)
        self._wish = wish
        self._prepared_at: float | None = None

    def prepare(self) -> None:
        """Look already now, so that the order need not wait for it. It counts for as long as a look may be old."""
        self._look()
        self._prepared_at = self._clock.monotonic()

    def move(self, check_mode: bool = False, wait_for: str = "healthy") -> Outcome:
        """Move the leader, and see it moved."""
        planned = self._plan(wait=not check_mode)
        if isinstance(planned, Nothing):
            return Outcome(False, planned.why, planned.leader, planned.leader, self._wish.candidate)
        outcome = Outcome(
            True,
            f"the leader would move from {planned.leader} to {planned.candidate}",
            planned.leader,
            planned.leader if planned.scheduled_at is not None else planned.candidate,
            planned.candidate,
            plan=planned.steps(),
            scheduled_at=planned.scheduled_at,
        )
        if check_mode:
            return outcome
        return self._carry_out(planned, outcome, wait_for)

    def _plan(self, wait: bool) -> Move | Nothing:
        """A move that is going on may be this one, interrupted; what it leads to decides."""
        last: list[Move | Nothing | Refuse] = []
        ready = self._from_prepared()
        if ready is not None:
            return ready

        def probe() -> Seen[Move | Nothing | Refuse]:
            planned = switchover_plan.plan_switchover(self._look(), self._wish)
            last[:] = [planned]
            if isinstance(planned, Refuse) and planned.code in switchover_plan.TRANSIENT:
                if planned.code == "stale":
                    self._lookout.rotate()
                return Seen(planned, planned.message)
            return Seen(planned)

        try:
            planned = self._wait(probe, "a settled cluster") if wait else probe().value
        except DeadlineError:
            planned = last[0]
        if isinstance(planned, Refuse):
            raise Refused(planned)
        return t.cast("Move | Nothing", planned)

    def _from_prepared(self) -> Move | None:
        """A move that the earlier look still proves."""
        if self._prepared_at is None:
            return None
        waited = self._clock.monotonic() - self._prepared_at
        self._last = dataclasses.replace(self._last, elapsed=self._last.elapsed + waited)
        planned = switchover_plan.plan_switchover(self._last, self._wish)
        return planned if isinstance(planned, Move) else None

    def _again(self, move: Move) -> Move | Nothing:
        wish = dataclasses.replace(self._wish, candidate=move.candidate, expected_leader=move.leader)
        planned = switchover_plan.plan_switchover(self._look(), wish)
        if isinstance(planned, Refuse):
            raise Refused(planned)
        return planned


class FailoverService(MoveService):
    """Promotions in place of a dead leader."""

    def __init__(
        self, lookout: Lookout, clock: Clock, pace: Pace, wish: failover_plan.Wish, send: Send = Background
    ) -> None:
        super().__init__(lookout, clock, pace, send)
        self._wish = wish
        self._unled_since: float | None = None
        self._unled = False
        self._silent: str | None = None
        self._silent_since = 0.0

    def promote(self, check_mode: bool = False, wait_for: str = "healthy") -> Outcome:
        """Promote somebody, when Patroni does not."""
        planned = self._plan()
        before = self._wish.dead_leader or self._silent
        if isinstance(planned, Nothing):
            return Outcome(False, planned.why, before, planned.leader, self._wish.candidate)
        move, loss = planned.move, planned.loss
        outcome = Outcome(
            True,
            f"{move.candidate} would be promoted: {loss.text or 'nothing is lost'}",
            before,
            move.candidate,
            move.candidate,
            plan=move.steps(),
            loss=loss.as_result(),
        )
        if check_mode:
            return outcome
        return self._carry_out(move, outcome, wait_for)

    def _plan(self) -> Promotion | Nothing:
        """Patroni is given the time to elect by itself; nothing is promoted only because a look came early."""
        last: list[Promotion | Nothing | Refuse] = []

        def probe() -> Seen[Promotion | Nothing | Refuse]:
            look = self._look()
            planned = failover_plan.plan_failover(look, self._wish, self._waited(look))
            last[:] = [planned]
            if isinstance(planned, Refuse) and planned.code in failover_plan.TRANSIENT:
                if planned.code == "stale":
                    self._lookout.rotate()
                return Seen(planned, planned.message)
            return Seen(planned)

        try:
            planned = self._wait(probe, "a settled cluster")
        except DeadlineError:
            planned = last[0]
        if isinstance(planned, Refuse):
            loss = {"loss": planned.loss.as_result()} if isinstance(planned, NotAccepted) else {}
            raise Refused(planned, **loss)
        return t.cast("Promotion | Nothing", planned)

    def _waited(self, look: Look) -> Waited:
        """What this look adds to what the earlier ones have shown."""
        now, leader = self._clock.monotonic(), look.view.leader
        if leader is not None or look.silent:
            self._unled_since = None
        elif self._unled_since is None:
            self._unled_since, self._unled = now, True
        lease = 0.0
        if leader is not None and look.word(leader.name).error is not None:
            if self._silent != leader.name:
                self._silent, self._silent_since = leader.name, now
            lease = now - self._silent_since
        elif leader is not None:
            # It answers: should it fall silent again, that begins anew.
            self._silent_since = now
        unled = 0.0 if self._unled_since is None else now - self._unled_since
        return Waited(unled, lease, self._silent, self._unled)

    def _again(self, move: Move) -> Move | Nothing:
        wish = dataclasses.replace(self._wish, candidate=move.candidate)
        look = self._look()
        planned = failover_plan.plan_failover(look, wish, self._waited(look))
        if isinstance(planned, Refuse):
            raise Refused(planned)
        return planned.move if isinstance(planned, Promotion) else planned
