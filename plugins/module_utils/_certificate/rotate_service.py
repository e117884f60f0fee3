# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotate the certificate of one consumer: look, decide, do one thing, look again."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
import typing as t

from .._common.errors import DeadlineError, DedicatedError, Refuse, Refused
from .._common.runner import Runner
from .._common.waiting import Clock, Seen, SystemClock, wait_until
from . import parse, rotate_plan
from .io import Target
from .rotate_io import Places
from .rotate_plan import Step, View, Wish
from .service import WORKERS, Eyes


@dataclasses.dataclass(frozen=True)
class Consumer:
    """Whoever serves the pair. `staged` and `authority`: files, for the judgement of the chain."""

    staged: str
    authority: str
    endpoints: tuple[Target, ...] = ()
    reload: tuple[tuple[str, ...], ...] = ()


@dataclasses.dataclass(frozen=True)
class Patience:
    """Seconds for a command, and for all endpoints together."""

    command: float = 60.0
    prove: float = 60.0
    interval: float = 0.5


@dataclasses.dataclass
class Outcome:
    """What was done, or would be."""

    before: dict[str, t.Any]
    after: dict[str, t.Any]
    days_left: int | None
    steps: tuple[Step, ...]
    served: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)

    def as_result(self) -> dict[str, t.Any]:
        return {
            "changed": bool(self.steps),
            "msg": _told(self),
            "plan": [one.as_result() for one in self.steps],
            "before": self.before,
            "after": self.after,
            "days_left": self.days_left,
            "served": self.served,
        }


def _told(outcome: Outcome) -> str:
    if not outcome.steps:
        return "nothing to do"
    return f"{outcome.before.get('serial', 'none')} -> {outcome.after.get('serial', 'none')}"


class RotateService:
    """One consumer on one host."""

    def __init__(
        self,
        places: Places,
        eyes: Eyes,
        runner: Runner,
        patience: Patience | None = None,
        clock: Clock | None = None,
        now: t.Callable[[], float] = time.time,
    ) -> None:
        self._places, self._eyes, self._runner = places, eyes, runner
        self._patience, self._clock, self._now = patience or Patience(), clock or SystemClock(), now
        self._served: list[dict[str, t.Any]] = []

    def rotate(self, consumer: Consumer, wish: Wish, check_mode: bool = False) -> Outcome:
        """To the end, whatever an earlier run has left. Raises Refused."""
        view = self._look(consumer, View(*self._pairs(), wish=wish, now=self._now()))
        first = view.former if view.former.whole else view.live
        if check_mode:
            return self._foreseen(view, first)
        done: list[Step] = []
        while len(done) < rotate_plan.MAX_STEPS:
            step = None if rotate_plan.finished(view, done) else rotate_plan.next_step(view)
            if isinstance(step, Refuse):
                raise Refused(step, **self._details(view, first, done))
            if step is None:
                return Outcome(
                    rotate_plan.shown(first),
                    rotate_plan.shown(view.live),
                    rotate_plan.days_left(view.live, view.now),
                    tuple(done),
                    self._served,
                )
            rotate_plan.check_invariants(view, step)
            view = self._look(consumer, self._do(consumer, view, step))
            done.append(step)
        raise DedicatedError("The rotation does not come to an end: the files change meanwhile.", code="no-end")

    def _foreseen(self, view: View, first: rotate_plan.Pair) -> Outcome:
        steps, refusal = rotate_plan.foresee(view)
        if refusal is not None:
            raise Refused(refusal)
        last = view.staged if view.staged.there else view.live
        left = rotate_plan.days_left(last, view.now)
        return Outcome(rotate_plan.shown(first), rotate_plan.shown(last), left, steps)

    def _pairs(self) -> tuple[rotate_plan.Pair, rotate_plan.Pair, rotate_plan.Pair]:
        return self._places.live(), self._places.staged(), self._places.former()

    def _look(self, consumer: Consumer, view: View) -> View:
        live, staged, former = self._pairs()
        trusted: bool | None = None
        why = ""
        if staged.certificate is not None:
            trusted, why = self._eyes.verify(consumer.staged, consumer.authority)
        return dataclasses.replace(
            view, live=live, staged=staged, former=former, now=self._now(), trusted=trusted, untrusted=why
        )

    def _details(self, view: View, first: rotate_plan.Pair, done: t.Sequence[Step]) -> dict[str, t.Any]:
        return {
            "before": rotate_plan.shown(first),
            "staged": rotate_plan.shown(view.staged),
            "served": self._served,
            "plan": [one.as_result() for one in done],
            "changed": bool(done),
            "rolled_back": any(one.action == rotate_plan.LAND and one.pair == rotate_plan.OLD for one in done),
        }

    # -- doing -------------------------------------------------------------------------------------------------------

    def _do(self, consumer: Consumer, view: View, step: Step) -> View:
        if step.action == rotate_plan.KEEP:
            self._places.keep()
        elif step.action == rotate_plan.LAND:
            self._places.land(step.pair)
        elif step.action == rotate_plan.RELOAD:
            proof = self._reload(consumer)
            # The former pair is looked for in any case: whoever could not be reloaded may still serve it.
            return dataclasses.replace(view, told=view.live.text, proof=proof if step.pair == rotate_plan.NEW else None)
        elif step.action == rotate_plan.PROVE:
            return dataclasses.replace(view, proof=self._prove(consumer, view))
        elif step.action == rotate_plan.GIVE_UP:
            return dataclasses.replace(view, failed=view.proof, proof=None)
        else:
            self._places.drop(rotate_plan.NEW if step.action == rotate_plan.DROP_STAGED else rotate_plan.OLD)
            return view
        return dataclasses.replace(view, proof=None)

    def _reload(self, consumer: Consumer) -> str | None:
        """Why the consumer could not be told, or None."""
        for argv in consumer.reload:
            try:
                done = self._runner.run(argv, timeout=self._patience.command)
            except DedicatedError as exc:
                return f"reload-failed: {exc.msg}"
            if done.rc != 0:
                said = (done.stderr.strip() or done.stdout.strip()).splitlines()
                return f"reload-failed: {' '.join(argv)} ended with {done.rc} ({(said or ['no word'])[-1][:300]})"
        return None

    def _prove(self, consumer: Consumer, view: View) -> str:
        """Empty when every endpoint serves what lies live, otherwise what it serves instead."""
        wanted = "" if view.live.certificate is None else view.live.certificate.serial
        if not consumer.endpoints:
            return ""

        def probe() -> Seen[None]:
            with concurrent.futures.ThreadPoolExecutor(min(WORKERS, len(consumer.endpoints))) as pool:
                self._served = list(pool.map(self._ask, consumer.endpoints))
            wrong = [one for one in self._served if one["serial"] != wanted]
            words = [f"{one['name']} serves {one['serial'] or 'nothing: ' + one['code']}" for one in wrong]
            return Seen(None, ", ".join(words) or None)

        try:
            wait_until(probe, self._clock, self._patience.prove, self._patience.interval, f"serial {wanted}")
        except DeadlineError as exc:
            return exc.msg
        return ""

    def _ask(self, target: Target) -> dict[str, t.Any]:
        """By its serial. What a server says of our own certificate does not matter here."""
        served = self._eyes.ask(target)
        serial, code = "", served.code
        if served.chain:
            try:
                serial = parse.certificate(served.chain[0]).serial
            except parse.Malformed:
                code = "malformed"
        return {"name": target.name, "serial": serial, "code": code}
