# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restart every member in turn; make one anew."""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import DeadlineError, DedicatedError, Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until
from . import member_plan, plan
from .io import PatroniUnreachable, Reply, Transport
from .service import ClusterService

Connect = t.Callable[[str], Transport]


def ask_own(connect: Connect, member: plan.Member | None) -> member_plan.Own | None:
    """What a member says of itself; None when it gives no answer."""
    if member is None or member.api_url is None:
        return None
    try:
        reply = connect(member.api_url.removesuffix("/patroni")).request("GET", "/patroni")
    except PatroniUnreachable:
        return None
    if reply.status != 200:
        return None
    try:
        return member_plan.parse_own(reply.json("/patroni"))
    except ValueError as exc:
        raise DedicatedError(str(exc), code="bad_answer") from exc


def _rejected(what: str, reply: Reply) -> DedicatedError:
    hint = {
        401: "Check username and password against restapi.authentication.",
        403: "This host is not in Patroni's allowlist, or its client certificate is not accepted.",
    }.get(reply.status, "Look into Patroni's log.")
    return DedicatedError(
        f"{what} was refused with {reply.status}: {reply.text}. {hint}", code="request_refused", status=reply.status
    )


@dataclasses.dataclass(frozen=True)
class RollingOutcome:
    """Who was restarted, in order, and who is left; in check mode who would be."""

    restarted: tuple[str, ...]
    left: tuple[str, ...]
    check_mode: bool = False

    def as_result(self) -> dict[str, t.Any]:
        word = "would be restarted" if self.check_mode else "restarted"
        names, left = ", ".join(self.restarted), ", ".join(self.left)
        said = f"{names} {word}" if names else "nobody is to be restarted"
        return {
            "changed": bool(self.restarted),
            "msg": f"{said}; left: {left}" if left else said,
            "restarted": list(self.restarted),
            "left": list(self.left),
        }


@dataclasses.dataclass(frozen=True)
class Rolling:
    """What to restart: everybody (or those older than ``before``), or those that wait for it."""

    members: tuple[str, ...]
    everybody: bool
    skip_leader: bool
    before: str | None = None
    max_lag: int = 1024**2


class RollingService:
    """Restarts members one at a time; each look decides anew."""

    def __init__(
        self,
        cluster: ClusterService,
        member: Connect,
        patient: Connect,
        clock: Clock,
        timeout: float,
        poll_interval: float,
    ) -> None:
        self._cluster = cluster
        self._member = member
        # A restart answers when it is over.
        self._patient = patient
        self._clock = clock
        self._timeout = timeout
        self._poll_interval = poll_interval
        # Start times when the run began.
        self._noted: dict[str, str | None] = {}

    def restart(self, wish: Rolling, check_mode: bool = False) -> RollingOutcome:
        """Until nobody is left whose turn it is."""
        refusal = member_plan.why_not_cutoff(wish.before)
        if refusal is not None:
            raise Refused(refusal)
        self._noted.clear()
        if check_mode:
            return self._predict(wish)
        done: list[str] = []
        # Twice, because a standby whose settings shrink can need a second one after the leader's.
        for _turn in range(2 * len(wish.members) + 1):
            turn, left = self._next(wish)
            if turn is None:
                return RollingOutcome(tuple(done), tuple(sorted(left)))
            self._restart(turn, wish)
            done.append(turn.name)
        raise DedicatedError(
            f"{', '.join(wish.members)} are still to be restarted after {len(done)} of them ({', '.join(done)}). "
            "Look at pending_restart_reason in Patroni's /cluster.",
            code="still_pending",
            restarted=done,
        )

    def _predict(self, wish: Rolling) -> RollingOutcome:
        view = self._cluster.observe(wish.members, wish.max_lag).view
        if view is None:
            return RollingOutcome((), (), check_mode=True)
        due = self._due(view, wish)
        order: list[str] = []
        while True:
            turn = member_plan.next_in_turn(view, due, wish.members, wish.skip_leader, wish.max_lag)
            if isinstance(turn, Refuse):
                raise Refused(turn)
            if turn is None:
                return RollingOutcome(tuple(order), tuple(sorted(due)), check_mode=True)
            order.append(turn.name)
            due.discard(turn.name)

    def _due(self, view: plan.View, wish: Rolling) -> set[str]:
        listed = [one for one in view.members if one.name in wish.members]
        if not wish.everybody:
            return {one.name for one in listed if one.pending_restart}
        owns = {one.name: ask_own(self._member, one) for one in listed}
        now = {name: None if own is None else own.started for name, own in owns.items()}
        for name, started in now.items():
            self._noted.setdefault(name, started)
        return member_plan.still_due(now, self._noted, wish.before)

    def _next(self, wish: Rolling) -> tuple[plan.Member | None, set[str]]:
        """Whose turn it is, and who is due; a cluster that is not well gets time to become so."""
        refusal: list[Refuse] = []

        def probe() -> Seen[tuple[plan.Member | None, set[str]]]:
            refusal.clear()
            view = self._cluster.observe(wish.members, wish.max_lag).view
            if view is None:
                return Seen((None, set()), "no member answers")
            due = self._due(view, wish)
            answer = member_plan.next_in_turn(view, due, wish.members, wish.skip_leader, wish.max_lag)
            if isinstance(answer, Refuse):
                refusal.append(answer)
                return Seen((None, due), answer.why)
            return Seen((answer, due))

        try:
            return wait_until(probe, self._clock, self._timeout, self._poll_interval, "a cluster that is well")
        except DedicatedError:
            if refusal:
                raise Refused(refusal[0]) from None
            raise

    def _restart(self, turn: plan.Member, wish: Rolling) -> None:
        if turn.api_url is None:
            raise DedicatedError(f"Patroni does not tell the address of {turn.name}", code="bad_answer")
        before = ask_own(self._member, turn)
        said = self._order(turn, wish)

        def back() -> Seen[None]:
            view = self._cluster.observe(wish.members, wish.max_lag).view
            if view is None or view.leader is None:
                return Seen(None, "no leader is seen")
            member = next((one for one in view.members if one.name == turn.name), None)
            if member is None:
                return Seen(None, f"{turn.name} is not a member")
            if wish.everybody:
                now = ask_own(self._member, member)
                if now is None or now.started is None:
                    return Seen(None, f"PostgreSQL on {turn.name} gives no answer{said}")
                if before is not None and now.started == before.started:
                    return Seen(None, f"{turn.name} still runs since {now.started}{said}")
            return Seen(None, plan.why_not_member(member, view.leader, wish.max_lag))

        wait_until(back, self._clock, self._timeout, self._poll_interval, f"{turn.name} after its restart")

    def _order(self, turn: plan.Member, wish: Rolling) -> str:
        """Order the restart, once. What Patroni said against it, for the message if nothing comes of it."""
        body: dict[str, t.Any] = {} if wish.everybody else {"restart_pending": True}
        if wish.skip_leader:
            # Patroni's own condition, should the lead move to this member right now.
            body["role"] = "replica"
        try:
            reply = self._patient(str(turn.api_url).removesuffix("/patroni")).request("POST", "/restart", body)
        except PatroniUnreachable as exc:
            # Whether it was heard is seen by looking.
            return f" ({exc.msg})"
        # 503: nothing waits any more, something else is going on, or the restart failed. The wait will show.
        if reply.status not in (200, 503):
            raise _rejected(f"the restart of {turn.name}", reply)
        return "" if reply.status == 200 else f" (Patroni said 503: {reply.text})"


@dataclasses.dataclass(frozen=True)
class ReinitOutcome:
    """What became of the member."""

    member: plan.Member
    leader: str
    joined: bool
    discards: str | None
    after: plan.Member | None
    seconds: float

    def as_result(self) -> dict[str, t.Any]:
        name = self.member.name
        if self.after is None:
            msg = f"{name} would be waited for" if self.joined else f"{name} would be made anew from {self.leader}"
        else:
            msg = f"{name} was made anew in {self.seconds:.0f} s"
            msg += " by a run before this one" if self.joined else ""
        return {
            "changed": True,
            "msg": msg,
            "name": name,
            "leader": self.leader,
            "joined": self.joined,
            "discards": self.discards,
            "before": _shown(self.member),
            "after": None if self.after is None else _shown(self.after),
            "seconds": round(self.seconds, 1),
        }


def _shown(member: plan.Member) -> dict[str, t.Any]:
    return {key: getattr(member, key) for key in ("role", "state", "timeline", "lag")}


class ReinitService:
    """Makes one member anew, and sees it stream."""

    def __init__(
        self, cluster: ClusterService, member: Connect, clock: Clock, timeout: float, poll_interval: float
    ) -> None:
        self._cluster = cluster
        self._member = member
        self._clock = clock
        self._timeout = timeout
        self._poll_interval = poll_interval

    def reinitialise(self, wish: member_plan.Wish, check_mode: bool = False) -> ReinitOutcome:
        """Once; a copy that is being made already is waited for."""
        view, own = self._look(wish)
        if view is None:
            raise DedicatedError(
                f"{wish.name} is not made anew: no member's Patroni answers. See that Patroni runs on the members.",
                code="unreachable",
            )
        decision = member_plan.plan_reinit(view, own, wish)
        if isinstance(decision, Refuse):
            raise Refused(decision)
        began = self._clock.monotonic()
        after = None
        if not check_mode:
            if isinstance(decision, member_plan.Begin):
                decision = self._begin(decision, wish)
            after = self._wait(decision, wish)
        joined = isinstance(decision, member_plan.Join)
        discards = decision.discards if isinstance(decision, member_plan.Begin) else None
        return ReinitOutcome(decision.member, decision.leader, joined, discards, after, self._clock.monotonic() - began)

    def _look(self, wish: member_plan.Wish) -> tuple[plan.View | None, member_plan.Own | None]:
        view = self._cluster.observe(wish.members, wish.max_lag).view
        found = [] if view is None else [one for one in view.members if one.name == wish.name]
        return view, ask_own(self._member, found[0]) if found else None

    def _begin(self, decision: member_plan.Begin, wish: member_plan.Wish) -> member_plan.Begin | member_plan.Join:
        transport = self._member(str(decision.member.api_url).removesuffix("/patroni"))
        body = dict(decision.body)
        for _attempt in range(2):
            try:
                reply = transport.request("POST", "/reinitialize", body)
            except PatroniUnreachable:
                # Whether it was heard is seen by looking.
                return decision
            if reply.status == 200:
                return decision
            if reply.status != 503:
                raise _rejected(f"making {wish.name} anew", reply)
            answer = member_plan.heard(wish.name, reply.text)
            if isinstance(answer, Refuse):
                raise Refused(answer)
            if answer == member_plan.RUNNING:
                return member_plan.Join(decision.member, decision.leader)
            if not wish.force:
                break
            # Patroni's own force ends what it is doing there, which is no copy.
            body["force"] = True
        raise Refused(
            Refuse(
                "busy",
                f"{wish.name} is not made anew",
                f"Patroni is doing something else there: {reply.text}",
                "Wait and run again, or end that with force.",
            )
        )

    def _wait(self, decision: member_plan.Begin | member_plan.Join, wish: member_plan.Wish) -> plan.Member:
        def probe() -> Seen[plan.Member]:
            view, own = self._look(wish)
            members = () if view is None else view.members
            found = next((one for one in members if one.name == wish.name), decision.member)
            return Seen(found, member_plan.why_not_anew(view, own, decision, wish.max_lag))

        try:
            return wait_until(probe, self._clock, self._timeout, self._poll_interval, f"{wish.name} as a new copy")
        except DeadlineError as exc:
            raise DeadlineError(
                f"{exc.msg}. A copy that is being made goes on without this module; run again to wait for it.",
                **exc.details,
            ) from None
