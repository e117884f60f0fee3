# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host's lock, decide, write, and see that it is so."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from . import plan


class Place(t.Protocol):
    """The lock of a host."""

    def now(self) -> int: ...

    def look(self) -> plan.Found: ...

    def alone(self) -> contextlib.AbstractContextManager[None]: ...

    def create(self, content: str) -> bool: ...

    def replace(self, content: str) -> None: ...

    def remove(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How it ended. ``lock`` is what lies on the host now."""

    msg: str
    lock: dict[str, t.Any]
    held: bool = False
    acquired: bool = False
    released: bool = False
    taken_over_from: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    def as_result(self) -> dict[str, t.Any]:
        """Plain data. A lock is the run's, not the host's: it never counts as a change."""
        return {"changed": False, **dataclasses.asdict(self)}


def look(place: Place, me: plan.Wish, dead: t.Collection[str] = (), acquires: bool = False) -> Outcome:
    """Could this run have the host? Writes nothing. ``acquires`` is what check mode foretells."""
    found, now = place.look(), place.now()
    decision = _settled(found, me, now, dead)
    lock = plan.public(found, now) if isinstance(found, plan.Lock) else {}
    if isinstance(decision, plan.Renew):
        return Outcome("This run holds the host.", lock, held=True)
    if isinstance(decision, plan.TakeOver):
        before = _before(decision, now)
        return Outcome(f"The host can be taken. {_told(decision)}", lock, acquired=acquires, taken_over_from=before)
    return Outcome("The host is free.", lock, acquired=acquires)


def hold(place: Place, me: plan.Wish, dead: t.Collection[str] = ()) -> Outcome:
    """Take the host, or renew. ``dead`` names the runs whose processes the controller knows to be gone."""
    # A refusal waits for nobody and makes nothing.
    _settled(place.look(), me, place.now(), dead)
    with place.alone():
        # Nobody who goes through the guard can come in between; one who does not is seen by create().
        for __ in range(2):
            found, now = place.look(), place.now()
            decision = _settled(found, me, now, dead)
            content = plan.text(decision.lock)
            if not isinstance(decision, plan.Take):
                place.replace(content)
                break
            if place.create(content):
                break
        _verify(place, decision.lock)
    lock = plan.public(decision.lock, now)
    until = plan.iso(decision.lock.expires)
    if isinstance(decision, plan.Renew):
        return Outcome(f"This run holds the host, now until {until}.", lock, held=True)
    if isinstance(decision, plan.TakeOver):
        msg = f"This run took the host over, until {until}. {_told(decision)}"
        return Outcome(msg, lock, held=True, acquired=True, taken_over_from=_before(decision, now))
    return Outcome(f"This run took the host, until {until}.", lock, held=True, acquired=True)


def release(place: Place, me: plan.Run, dry: bool = False) -> Outcome:
    """Give the host back if it is this run's."""
    # Most often there is nothing to release, and then nothing is made either.
    if dry or not isinstance(plan.release(place.look(), me), plan.Drop):
        return _released(place.look(), place.now(), me, dry)
    with place.alone():
        found, now = place.look(), place.now()
        if isinstance(plan.release(found, me), plan.Drop):
            place.remove()
            _verify(place, None)
        return _released(found, now, me, dry)


def _released(found: plan.Found, now: int, me: plan.Run, dry: bool) -> Outcome:
    decision = plan.release(found, me)
    lock = plan.public(found, now) if isinstance(found, plan.Lock) else {}
    if isinstance(decision, plan.Keep):
        return Outcome(decision.why, lock)
    if dry:
        return Outcome("This run holds the host and would release it.", lock, held=True, released=True)
    return Outcome("This run released the host.", {}, released=True)


def _settled(
    found: plan.Found, me: plan.Wish, now: int, dead: t.Collection[str]
) -> plan.Take | plan.Renew | plan.TakeOver:
    gone = isinstance(found, plan.Lock) and found.run.id in dead
    decision = plan.decide(found, me, now, False if gone else None)
    if isinstance(decision, Refuse):
        raise Refused(decision, lock=plan.public(found, now) if isinstance(found, plan.Lock) else {})
    return decision


def _verify(place: Place, wanted: plan.Lock | None) -> None:
    found = place.look()
    if found != (plan.Free() if wanted is None else wanted):
        raise DedicatedError(
            "The host's lock is not what was just written: somebody changes it by other means. Find out who works on "
            "this host, and run this again.",
            code="not_taken",
        )


def _told(decision: plan.TakeOver) -> str:
    why = {
        plan.EXPIRED: "had expired",
        plan.DEAD: "belonged to a run that is over",
        plan.BROKEN: "was given up by the operator",
    }[decision.why]
    return f"The lock that was here {why}: {plan.shown(decision.before)}."


def _before(decision: plan.TakeOver, now: int) -> dict[str, t.Any]:
    return {**plan.public(decision.before, now), "why": decision.why}
