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

    def as_result(self) -> dict[str, t.Any]:
        view = self.view or plan.View(None, (), False, None)
        return {
            "changed": False,
            "reachable": self.view is not None,
            "scope": view.scope,
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

    def observe(self, expected: t.Sequence[str] = (), max_lag: int = 1024**2) -> Observation:
        """One look."""
        silent = []
        for transport in self._transports:
            try:
                reply = transport.request("GET", "/cluster")
                if reply.status != 200:
                    silent.append(f"GET /cluster answered {reply.status}: {reply.text}")
                    continue
                settings = transport.request("GET", "/config")
            except PatroniUnreachable as exc:
                silent.append(exc.msg)
                continue
            config = settings.json("/config") if settings.status == 200 else None
            try:
                view = plan.parse_cluster(reply.json("/cluster"), config)
            except ValueError as exc:
                raise DedicatedError(str(exc), code="bad_answer") from exc
            return Observation(view, tuple(plan.why_not_healthy(view, expected, max_lag)))
        return Observation(None, tuple(silent))

    def wait(
        self, goal: str, expected: t.Sequence[str], max_lag: int, timeout: float, poll_interval: float
    ) -> Observation:
        """Look until the goal (``leader`` or ``healthy``) is reached; ``none`` looks once."""

        def probe() -> Seen[Observation]:
            seen = self.observe(expected, max_lag)
            if goal == "leader":
                leader = None if seen.view is None else seen.view.leader
                running = leader is not None and leader.state == "running"
                return Seen(seen, None if running else "; ".join(seen.reasons) or "the leader is not running")
            return Seen(seen, "; ".join(seen.reasons) or None)

        if goal == "none":
            return self.observe(expected, max_lag)
        what = "a leader" if goal == "leader" else "a healthy cluster"
        return wait_until(probe, self._clock, timeout, poll_interval, what)
