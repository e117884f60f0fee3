# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reconcile the dynamic configuration, observe the cluster."""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until
from . import plan
from .io import PatroniUnreachable, Reply, Transport


@dataclasses.dataclass(frozen=True)
class ConfigOutcome:
    """What became of the dynamic configuration. ``before`` is None when Patroni did not answer (check mode)."""

    before: dict[str, t.Any] | None
    after: dict[str, t.Any]
    patch: dict[str, t.Any]
    pending_restart: tuple[str, ...] = ()

    def as_result(self) -> dict[str, t.Any]:
        changed = self.before is None or bool(self.patch)
        return {
            "changed": changed,
            "msg": "configuration differs" if changed else "nothing to do",
            "reachable": self.before is not None,
            "before": self.before or {},
            "after": self.after,
            "patch": self.patch,
            "pending_restart": list(self.pending_restart),
        }


class ConfigService:
    """Patroni's dynamic configuration through one member's REST API."""

    def __init__(
        self, transport: Transport, clock: Clock, timeout: float, poll_interval: float, check_mode: bool = False
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._timeout = timeout
        self._poll_interval = poll_interval
        self._check_mode = check_mode

    def reconcile(self, wanted: t.Mapping[str, t.Any], verify: bool = True, settle: float = 2) -> ConfigOutcome:
        """Make the wanted keys true, and see them come true."""
        if self._check_mode:
            seen = self._read()
            if seen.why_not is not None:
                return ConfigOutcome(None, plan.merged({}, plan.difference({}, wanted)), plan.difference({}, wanted))
            current = seen.value
        else:
            current = wait_until(self._read, self._clock, self._timeout, self._poll_interval, "Patroni's configuration")
        changes = _accept(plan.plan_patch(current, wanted))
        before = plan.excerpt(current, wanted)
        if changes and not self._check_mode:
            current = self._send(current, wanted, changes, verify)
            if "postgresql" in changes:
                # Members mark themselves for a restart in their next loop, which the patch has woken.
                self._clock.sleep(settle)
        elif changes:
            current = plan.merged(current, changes)
        return ConfigOutcome(before, plan.excerpt(current, wanted), changes, self._pending_restart())

    def _read(self) -> Seen[dict[str, t.Any]]:
        try:
            reply = self._transport.request("GET", "/config")
        except PatroniUnreachable as exc:
            return Seen({}, exc.msg)
        if reply.status != 200:
            # 502 without a configuration in the DCS, 503 while the DCS is away: both may pass.
            return Seen({}, f"GET /config answered {reply.status}: {reply.text}")
        config = reply.json("/config")
        if not isinstance(config, dict):
            raise DedicatedError("Patroni /config: the answer is not a mapping", code="bad_answer")
        return Seen(config)

    def _send(
        self, current: dict[str, t.Any], wanted: t.Mapping[str, t.Any], changes: dict[str, t.Any], verify: bool
    ) -> dict[str, t.Any]:
        reply = self._transport.request("PATCH", "/config", changes)
        if reply.status == 409:
            # Somebody else was first. What they wrote is the new base of the difference.
            current = wait_until(self._read, self._clock, self._timeout, self._poll_interval, "Patroni's configuration")
            changes = _accept(plan.plan_patch(current, wanted))
            if not changes:
                return current
            reply = self._transport.request("PATCH", "/config", changes)
        if reply.status != 200:
            raise _rejected(reply)
        if not verify:
            return plan.merged(current, changes)
        return wait_until(
            lambda: self._verified(wanted),
            self._clock,
            self._timeout,
            self._poll_interval,
            "the configuration that Patroni accepted",
        )

    def _verified(self, wanted: t.Mapping[str, t.Any]) -> Seen[dict[str, t.Any]]:
        seen = self._read()
        if seen.why_not is not None:
            return seen
        missing = plan.difference(seen.value, wanted)
        return Seen(seen.value, f"still different: {', '.join(sorted(missing))}" if missing else None)

    def _pending_restart(self) -> tuple[str, ...]:
        try:
            reply = self._transport.request("GET", "/cluster")
        except PatroniUnreachable:
            return ()
        if reply.status != 200:
            return ()
        view = plan.parse_cluster(reply.json("/cluster"), None)
        return tuple(member.name for member in view.members if member.pending_restart)


def _rejected(reply: Reply) -> DedicatedError:
    hint = {
        401: "Check username and password against restapi.authentication.",
        403: "This host is not in Patroni's allowlist, or its client certificate is not accepted.",
    }.get(reply.status, "Look into Patroni's log.")
    return DedicatedError(
        f"PATCH /config was refused with {reply.status}: {reply.text}. Nothing was changed. {hint}",
        code="patch_refused",
        status=reply.status,
    )


def _accept(answer: dict[str, t.Any] | Refuse) -> dict[str, t.Any]:
    if isinstance(answer, Refuse):
        raise Refused(answer)
    return answer


@dataclasses.dataclass(frozen=True)
class Observation:
    """A view with the judgement on it, or the reason why there is none."""

    view: plan.View | None
    reasons: tuple[str, ...]
    system_identifier: str | None = None

    def as_result(self) -> dict[str, t.Any]:
        view = self.view or plan.View(None, (), False, None)
        return {
            "changed": False,
            "reachable": self.view is not None,
            "scope": view.scope,
            "system_identifier": self.system_identifier,
            "leader": None if view.leader is None else view.leader.name,
            "members": [member.as_result() for member in view.members],
            "paused": view.paused,
            "sync_standbys": list(view.sync_standbys),
            "synchronous_mode": view.synchronous_mode,
            "scheduled_switchover": view.scheduled_switchover,
            "healthy": not self.reasons,
            "reasons": list(self.reasons),
        }


class ClusterService:
    """The cluster, seen through the first member that answers."""

    def __init__(self, transports: t.Sequence[Transport], clock: Clock) -> None:
        self._transports = transports
        self._clock = clock

    def observe(
        self, expected: t.Sequence[str] = (), max_lag: int = 1024**2, exempt: t.Sequence[str] = ()
    ) -> Observation:
        """One look."""
        silent = []
        for transport in self._transports:
            try:
                reply = transport.request("GET", "/cluster")
                if reply.status != 200:
                    silent.append(f"GET /cluster answered {reply.status}: {reply.text}")
                    continue
                settings = transport.request("GET", "/config")
                own = transport.request("GET", "/patroni")
            except PatroniUnreachable as exc:
                silent.append(exc.msg)
                continue
            config = settings.json("/config") if settings.status == 200 else None
            try:
                view = plan.parse_cluster(reply.json("/cluster"), config)
            except ValueError as exc:
                raise DedicatedError(str(exc), code="bad_answer") from exc
            reasons = tuple(plan.why_not_healthy(view, expected, max_lag, exempt))
            return Observation(view, reasons, plan.system_identifier(own.json("/patroni")))
        return Observation(None, tuple(silent))

    def wait(
        self,
        goal: str,
        expected: t.Sequence[str],
        max_lag: int,
        timeout: float,
        poll_interval: float,
        exempt: t.Sequence[str] = (),
    ) -> Observation:
        """Look until the goal (``leader`` or ``healthy``) is reached; ``none`` looks once."""

        def probe() -> Seen[Observation]:
            seen = self.observe(expected, max_lag, exempt)
            if goal == "leader":
                leader = None if seen.view is None else seen.view.leader
                running = leader is not None and leader.state == "running"
                return Seen(seen, None if running else "; ".join(seen.reasons) or "the leader is not running")
            return Seen(seen, "; ".join(seen.reasons) or None)

        if goal == "none":
            return self.observe(expected, max_lag, exempt)
        what = "a leader" if goal == "leader" else "a healthy cluster"
        return wait_until(probe, self._clock, timeout, poll_interval, what)


@dataclasses.dataclass(frozen=True)
class RestartOutcome:
    """Who was restarted, in order; in check mode who waits for it."""

    restarted: tuple[str, ...]
    check_mode: bool = False

    def as_result(self) -> dict[str, t.Any]:
        word = "would be restarted" if self.check_mode else "restarted"
        names = ", ".join(self.restarted)
        return {
            "changed": bool(self.restarted),
            "msg": f"{names} {word}" if names else "nobody waits for a restart",
            "restarted": list(self.restarted),
        }


class RestartService:
    """Restarts those that wait for it, one at a time."""

    def __init__(
        self,
        cluster: ClusterService,
        member: t.Callable[[str], Transport],
        clock: Clock,
        timeout: float,
        poll_interval: float,
    ) -> None:
        self._cluster = cluster
        self._member = member
        self._clock = clock
        self._timeout = timeout
        self._poll_interval = poll_interval

    def restart(self, names: t.Sequence[str], max_lag: int, check_mode: bool = False) -> RestartOutcome:
        """Until nobody of these waits any more."""
        done: list[str] = []
        if check_mode:
            view = self._cluster.observe(names, max_lag).view
            waiting = () if view is None else tuple(one.name for one in view.members if one.pending_restart)
            return RestartOutcome(tuple(name for name in waiting if name in names), check_mode=True)
        # Twice, because a standby whose settings shrink can need a second one after the leader's.
        for _turn in range(2 * len(names) + 1):
            turn = self._next(names, max_lag)
            if turn is None:
                return RestartOutcome(tuple(done))
            self._restart(turn, names, max_lag)
            done.append(turn.name)
        raise DedicatedError(
            f"{', '.join(names)} still wait for a restart after {len(done)} of them ({', '.join(done)}). "
            "Look at pending_restart_reason in Patroni's /cluster.",
            code="still_pending",
            restarted=done,
        )

    def _next(self, names: t.Sequence[str], max_lag: int) -> plan.Member | None:
        """Whose turn it is; a cluster that is not well gets time to become so."""
        refusal: list[Refuse] = []

        def probe() -> Seen[plan.Member | None]:
            refusal.clear()
            view = self._cluster.observe(names, max_lag).view
            if view is None:
                return Seen(None, "no member answers")
            answer = plan.next_restart(view, names, max_lag)
            if isinstance(answer, Refuse):
                refusal.append(answer)
                return Seen(None, answer.why)
            return Seen(answer)

        try:
            return wait_until(probe, self._clock, self._timeout, self._poll_interval, "a cluster that is well")
        except DedicatedError:
            if refusal:
                raise Refused(refusal[0]) from None
            raise

    def _restart(self, turn: plan.Member, names: t.Sequence[str], max_lag: int) -> None:
        if turn.api_url is None:
            raise DedicatedError(f"Patroni does not tell the address of {turn.name}", code="bad_answer")
        member = self._member(turn.api_url.removesuffix("/patroni"))
        reply = member.request("POST", "/restart", {"restart_pending": True})
        # 503: nothing waits any more, which the next look will show, or the restart failed, which the wait will show.
        if reply.status not in (200, 503):
            raise DedicatedError(
                f"the restart of {turn.name} was refused with {reply.status}: {reply.text}. Look into Patroni's log.",
                code="restart_refused",
                status=reply.status,
            )

        def back() -> Seen[None]:
            view = self._cluster.observe(names, max_lag).view
            if view is None or view.leader is None:
                return Seen(None, "no leader is seen")
            member = next((one for one in view.members if one.name == turn.name), None)
            if member is None:
                return Seen(None, f"{turn.name} is not a member")
            return Seen(None, plan.why_not_member(member, view.leader, max_lag))

        wait_until(back, self._clock, self._timeout, self._poll_interval, f"{turn.name} after its restart")
