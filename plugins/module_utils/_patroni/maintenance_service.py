# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pause Patroni with an end, or end the pause, and see the members know it."""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until
from . import maintenance_plan as plan
from .io import PatroniUnreachable, Reply, Transport
from .maintenance_io import TimerHost
from .plan import View, parse_cluster

Connect = t.Callable[[str], Transport]
T = t.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was done. ``aware`` are the members that say so themselves, ``silent`` gave no answer."""

    before: plan.Look
    after: plan.Look
    steps: tuple[plan.Step, ...]
    aware: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    check_mode: bool = False

    def as_result(self) -> dict[str, t.Any]:
        after = self.after.as_result()
        if self.after.paused and self.after.record is not None:
            said = f"paused by {self.after.record.said()}"
        else:
            said = "paused by hand" if self.after.paused else "not paused"
        return {
            "changed": bool(self.steps),
            "msg": f"Patroni {'would be' if self.check_mode else 'is'} {said}",
            "plan": [step.said() for step in self.steps],
            "before": self.before.as_result(),
            "after": after,
            "aware": list(self.aware),
            "silent": list(self.silent),
            **{key: after[key] for key in ("paused", "operator", "reason", "since", "until")},
        }


class MaintenanceService:
    """The pause of the cluster, and the timer of this host."""

    def __init__(
        self,
        transports: t.Sequence[Transport],
        member: Connect,
        host: TimerHost,
        clock: Clock,
        timeout: float,
        poll_interval: float,
    ) -> None:
        self._transports = transports
        self._member = member
        self._host = host
        self._clock = clock
        self._timeout = timeout
        self._poll_interval = poll_interval

    def reconcile(self, wish: plan.Wish, check_mode: bool = False) -> Outcome:
        """Make it so, and see it."""
        refusal = plan.why_not_wish(wish)
        if refusal is not None:
            raise Refused(refusal)
        if check_mode:
            before = self._wait(self._look, "Patroni's configuration")[1]
            steps = self._planned(before, wish)
            return Outcome(before, plan.after(before, steps), tuple(steps), check_mode=True)
        self._wait(self._locked, "the lock of this host's timer")
        try:
            return self._act(wish)
        finally:
            self._host.unlock()

    def _act(self, wish: plan.Wish) -> Outcome:
        before = self._wait(self._look, "Patroni's configuration")[1]
        steps = self._planned(before, wish)
        for step in steps:
            self._do(step)
        aware, silent, after = self._verified(plan.after(before, steps))
        return Outcome(before, after, tuple(steps), aware, silent)

    def _planned(self, look: plan.Look, wish: plan.Wish) -> list[plan.Step]:
        answer = plan.plan(look, wish, self._host.now())
        if isinstance(answer, Refuse):
            raise Refused(answer, before=look.as_result())
        return answer

    def _do(self, step: plan.Step) -> None:
        if step.kind == plan.LAY and step.record is not None:
            self._host.lay(step.record)
            timer = self._host.timer()
            if timer is None or not timer.sound or timer.until != step.record.until:
                raise DedicatedError(
                    f"the timer {plan.UNIT}.timer was laid down and is not active, so Patroni was not paused by it. "
                    f"Look with systemctl status {plan.UNIT}.timer.",
                    code="timer_not_seen",
                )
        elif step.kind == plan.REMOVE:
            self._host.remove()
        else:
            self._send(step)
            if step.kind == plan.RESUME:
                # Before the timer goes.
                self._wait(self._resumed, "the end of the pause")

    def _resumed(self) -> Seen[None]:
        seen = self._look()
        if seen.why_not is not None:
            return Seen(None, seen.why_not)
        return Seen(None, "Patroni still says that it is paused" if seen.value[1].paused else None)

    def _verified(self, wanted: plan.Look) -> tuple[tuple[str, ...], tuple[str, ...], plan.Look]:
        """Look until cluster, members and timer show what is wanted."""

        def probe() -> Seen[tuple[tuple[str, ...], tuple[str, ...], plan.Look]]:
            seen = self._look()
            view, look = seen.value
            if seen.why_not is not None or view is None:
                return Seen(((), (), look), seen.why_not or "no member answers")
            if wanted.paused and look.paused and (look.timer is None or not look.timer.sound):
                self._send(plan.Step(plan.RESUME))
                raise DedicatedError(
                    f"the timer {plan.UNIT}.timer is gone while Patroni was paused, so the pause was ended. "
                    f"Look with journalctl -u {plan.UNIT}, then pause again.",
                    code="timer_lost",
                )
            aware, silent, unaware = self._ask_members(view, wanted.paused)
            reason = _why_not(look, wanted)
            if reason is None and unaware:
                reason = f"{', '.join(unaware)} did not take note yet"
            return Seen((aware, silent, look), reason)

        return self._wait(probe, "the pause" if wanted.paused else "the end of the pause")

    def _ask_members(self, view: View, paused: bool) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        found: dict[bool | None, list[str]] = {True: [], False: [], None: []}
        for one in view.members:
            says = self._says(one.api_url)
            found[None if says is None else says is paused].append(one.name)
        return tuple(found[True]), tuple(found[None]), tuple(found[False])

    def _says(self, api_url: str | None) -> bool | None:
        if api_url is None:
            return None
        try:
            reply = self._member(api_url.removesuffix("/patroni")).request("GET", "/patroni")
        except PatroniUnreachable:
            return None
        data = reply.json("/patroni") if reply.status == 200 else None
        return bool(data.get("pause")) if isinstance(data, dict) else None

    def _locked(self) -> Seen[None]:
        return Seen(None, None if self._host.try_lock() else "it is held: the timer fires, or another run is here")

    def _look(self) -> Seen[tuple[View | None, plan.Look]]:
        """Through the first member that answers. ``/cluster`` first: it makes the member read the store."""
        reasons = []
        for transport in self._transports:
            try:
                cluster = transport.request("GET", "/cluster")
                config = transport.request("GET", "/config")
            except PatroniUnreachable as exc:
                reasons.append(exc.msg)
                continue
            if (cluster.status, config.status) != (200, 200):
                reasons.append(f"GET /cluster answered {cluster.status}, GET /config {config.status}")
                continue
            return Seen(self._judged(cluster, config))
        return Seen((None, plan.Look(False, None, None)), "; ".join(reasons) or "no address is given")

    def _judged(self, cluster: Reply, config: Reply) -> tuple[View, plan.Look]:
        settings = config.json("/config")
        try:
            view = parse_cluster(cluster.json("/cluster"), None)
        except ValueError as exc:
            raise DedicatedError(str(exc), code="bad_answer") from exc
        if not isinstance(settings, dict):
            raise DedicatedError("Patroni /config: the answer is not a mapping", code="bad_answer")
        paused = view.paused or plan.is_paused(settings)
        return view, plan.Look(paused, plan.parse_record(settings.get(plan.KEY)), self._host.timer())

    def _send(self, step: plan.Step) -> None:
        """To the first member that takes it. Where every answer was lost, looking shows whether it was heard."""
        refusals = []
        lost = True
        for transport in self._transports:
            for _attempt in range(2):
                try:
                    reply = transport.request("PATCH", "/config", plan.patch_for(step))
                except PatroniUnreachable as exc:
                    refusals.append(exc.msg)
                    break
                if reply.status == 200:
                    return
                lost = False
                refusals.append(f"PATCH /config was refused with {reply.status}: {reply.text}")
                # 409: somebody else wrote at the same moment. What is sent here touches nothing of theirs.
                if reply.status != 409:
                    break
        if lost:
            return
        raise DedicatedError(
            f"{'; '.join(refusals)}. Nothing was changed in Patroni as far as is known; a timer that was laid down "
            "removes itself after its time. Check user, password and certificate, and Patroni's log.",
            code="patch_refused",
        )

    def _wait(self, probe: t.Callable[[], Seen[T]], what: str) -> T:
        return wait_until(probe, self._clock, self._timeout, self._poll_interval, what)


def _why_not(look: plan.Look, wanted: plan.Look) -> str | None:
    if look.paused is not wanted.paused:
        return f"Patroni says that it is {'' if look.paused else 'not '}paused"
    if wanted.record is not None and wanted.paused and not plan.agrees(look.record, wanted.record):
        said = "nobody" if look.record is None else look.record.said()
        return f"the pause is that of {said}"
    return None
