# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop: listen, vote, look, decide, act. Decisions are plan.py's; this only carries them out and tells of them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import sys
import time
import typing as t
import uuid

from . import plan
from .config import Config
from .etcd import Etcd, EtcdError, LeaseGone, Outcome, Rejected, Unsure
from .metrics import Metrics

VOTE_SECONDS = 3
RENEW_SECONDS = 1.0
# The pace around the moment of suspicion, and for how long.
QUICK_SECONDS = 0.15
QUICK_FOR_SECONDS = 3.0
# After an attempt whose outcome is not known.
UNSURE_SECONDS = 5.0
# The same error is logged again only after this.
ERROR_LOG_SECONDS = 60.0
# What an act is called in the log.
EVENTS = {plan.REMOVE: "removal", plan.HAND_OVER: "handing_over"}

Log = t.Callable[[t.Mapping[str, t.Any]], None]


def log_line(event: t.Mapping[str, t.Any]) -> None:
    """One JSON line on standard output, where the engine's log driver reads."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    # That nobody reads is no reason to stop watching.
    with contextlib.suppress(OSError):
        sys.stdout.write(json.dumps({"ts": now, **event}) + "\n")
        sys.stdout.flush()


class Senses(t.Protocol):
    def aim(self, target: plan.Target | None) -> None: ...

    def collect(self) -> list[plan.Observation]: ...


@dataclasses.dataclass
class Voter:
    """Keeps this member's vote in etcd under a lease of its own."""

    etcd: Etcd
    key: str
    lease: str | None = None
    renewed: float = 0.0
    standing: plan.Vote | None = None
    revision: int = 0

    def say(self, vote: plan.Vote, now: float) -> None:
        """Raises EtcdError; what was not written is written the next time."""
        try:
            self._keep(now)
            if not vote.says_the_same(self.standing):
                self._write(vote, now)
        except LeaseGone:
            self.forget()
            self._write(vote, now)

    def _keep(self, now: float) -> None:
        if self.lease is not None and now - self.renewed >= RENEW_SECONDS:
            self.etcd.keep_alive(self.lease)
            self.renewed = now

    def _write(self, vote: plan.Vote, now: float) -> None:
        # Until the answer is there, it is not known what stands.
        self.standing = None
        if self.lease is None:
            self.lease = self.etcd.grant(VOTE_SECONDS)
            self.renewed = now
        self.revision = self.etcd.put(self.key, vote.as_text(), self.lease)
        self.standing = vote

    def check(self, found: plan.Entry | None) -> None:
        """The vote as the snapshot shows it: if it is not the one that we wrote, it is written again."""
        if found is None or found.revision != self.revision:
            self.standing = None

    def forget(self) -> None:
        self.lease, self.standing, self.revision = None, None, 0

    def withdraw(self) -> None:
        if self.lease is not None:
            self.etcd.revoke(self.lease, seconds=1.0)
        self.forget()


class Detector:
    def __init__(
        self,
        config: Config,
        etcd: Etcd,
        senses: Senses,
        metrics: Metrics,
        log: Log = log_line,
        clock: t.Callable[[], float] = time.monotonic,
        new_id: t.Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.law = config.law
        self._interval = config.interval
        self._hold_off = config.hold_off_seconds
        self._etcd, self._senses, self._metrics = etcd, senses, metrics
        self._log, self._clock, self._new_id = log, clock, new_id
        self._voter = Voter(etcd, self.law.keys.vote(config.name))
        self._watch: plan.Watch | None = None
        # The watch that was given up when the leader's key went.
        self._left: plan.Watch | None = None
        self._decision: plan.Decision | None = None
        self._refused: tuple[t.Any, ...] | None = None
        self._agreed: tuple[str | None, int, float] | None = None
        # An act whose outcome is not known, its story, and until when nothing more is tried.
        self._unsure: tuple[str, dict[str, t.Any], float] | None = None
        self._notes: dict[str, tuple[str, float]] = {}

    @property
    def decision(self) -> plan.Decision | None:
        return self._decision

    def pause(self) -> float:
        """Seconds until the next tick: shorter in the moments in which a decision is near."""
        if self._watch is None:
            return self._interval
        near = self._watch.silence(self._clock()) - self.law.timing.suspect
        return min(self._interval, QUICK_SECONDS) if -self._interval <= near <= QUICK_FOR_SECONDS else self._interval

    def tick(self) -> None:
        """Never raises for what etcd or the leader do."""
        try:
            self._listen()
            self._vote()
            self._look()
            self._note("etcd", "")
        except EtcdError as exc:
            self._metrics.etcd_error()
            self._note("etcd", f"{type(exc).__name__}: {exc}")
        self._metrics.ticked(self._clock())

    def stop(self) -> None:
        self._senses.aim(None)
        try:
            self._voter.withdraw()
        except EtcdError as exc:
            self._log({"event": "stop", "problem": f"the vote could not be withdrawn, its lease ends it: {exc}"})
        self._etcd.close()

    # --- listen and vote ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for seen in self._senses.collect():
            if self._watch is not None:
                self._watch = self._watch.heard(seen, self.law.timing)

    def _vote(self) -> None:
        now = self._clock()
        vote = plan.own_vote(self._watch, now, self.law.timing)
        leader = self._watch.target.leader if self._watch is not None else None
        self._metrics.heard(leader, vote.suspects is not None, self._watch.silence(now) if self._watch else 0.0)
        self._voter.say(vote, now)

    # --- look and decide ----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        view = self._etcd.snapshot(self.law.keys)
        self._voter.check(view.votes.get(self.law.me))
        self._aim(view)
        now = self._clock()
        self._settle(view, now)
        decision = plan.decide(view, self.law, self._agreed_seconds(view, now))
        self._remember_agreement(decision, now)
        self._tell(decision, view)
        if decision.act is not None and self._unsure is None:
            self._carry_out(decision.act, decision, view)

    def _aim(self, view: plan.Snapshot) -> None:
        problem = ""
        try:
            target = plan.target_of(view, self.law.me, self.law.members)
        except plan.Malformed as exc:
            problem = str(exc)
            # The addresses that we had are as good as any while the same leader holds the same key.
            known = self._watch.target if self._watch is not None else None
            holds = (
                view.leader and known and (known.leader, known.revision) == (view.leader.value, view.leader.revision)
            )
            target = known if holds else None
        self._note("leader's addresses", problem)
        if target != (self._watch.target if self._watch is not None else None):
            self._left = self._watch or self._left
            self._watch = plan.Watch.of(target, self._clock(), self._left) if target is not None else None
            self._senses.aim(target)
            self._etcd.avoid = target.rest[0] if target is not None else None
        if view.leader is not None:
            self._left = None

    def _agreed_seconds(self, view: plan.Snapshot, now: float) -> float:
        leader = (view.leader.value, view.leader.revision) if view.leader is not None else None
        return now - self._agreed[2] if self._agreed is not None and self._agreed[:2] == leader else 0.0

    def _remember_agreement(self, decision: plan.Decision, now: float) -> None:
        against = (decision.leader, decision.leader_revision)
        if decision.code not in (plan.WAIT_TURN, plan.REMOVE):
            self._agreed = None
        elif self._agreed is None or self._agreed[:2] != against:
            self._agreed = (*against, now)

    def _tell(self, decision: plan.Decision, view: plan.Snapshot) -> None:
        self._metrics.decided(decision)
        suspected = self._voter.standing is not None and self._voter.standing.suspects is not None
        # Counted when it withholds something: a suspicion meets a refusal, once for the same one.
        meets = decision.key[:3] if decision.agreeing or suspected else None
        if meets is not None and meets != self._refused and decision.code in plan.REFUSALS:
            self._metrics.refused(decision.code)
        self._refused = meets
        last = self._decision
        self._decision = decision
        if last is not None and last.key == decision.key:
            return
        self._log(
            {
                "event": "decision",
                "code": decision.code,
                "was": last.code if last is not None else None,
                "reasons": list(decision.reasons),
                "leader": decision.leader,
                "leader_mod_revision": decision.leader_revision,
                "agreeing": list(decision.agreeing),
                "members": len(self.law.members),
                "own": self._own_evidence(),
                "not_counted": plan.unreadable_votes(view, self.law),
                "revision": view.revision,
            }
        )

    def _own_evidence(self) -> dict[str, t.Any]:
        if self._watch is None:
            return {}
        now = self._clock()
        return {
            "silence_seconds": round(self._watch.silence(now), 3),
            "streaming": self._watch.streaming,
            "evidence": self._watch.evidence(now),
        }

    # --- act ----------------------------------------------------------------------------------------------------------

    def _carry_out(self, act: plan.Act, decision: plan.Decision, view: plan.Snapshot) -> None:
        event = EVENTS[act.code]
        story = {
            **act.story,
            "leader_mod_revision": act.revision,
            "by": self.law.me,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "id": self._new_id(),
            "why": list(decision.reasons),
            "votes": {name: json.loads(view.votes[name].value) for name in decision.agreeing},
        }
        lease = self._etcd.grant(self._hold_off)
        try:
            outcome = self._etcd.carry_out(act, json.dumps(story, sort_keys=True), lease)
        except Unsure as exc:
            # The hold may stand: revoking its lease would lift it.
            self._unsure = (act.code, story, self._clock() + UNSURE_SECONDS)
            self._metrics.etcd_error()
            self._log({"event": f"{event}_unsure", **story, "problem": str(exc)})
            return
        except EtcdError as exc:
            self._metrics.etcd_error()
            outcome = Outcome(False, 0, (f"{type(exc).__name__}: {exc}",))
        if outcome.done:
            self._done(act.code, {**story, "revision": outcome.revision})
            return
        self._note(event, "; ".join(outcome.why), {"id": story["id"], "leader": act.leader})
        self._release(lease)

    def _done(self, code: str, story: t.Mapping[str, t.Any]) -> None:
        self._metrics.acted(code)
        self._note(EVENTS[code], "")
        self._log({"event": EVENTS[code], **story})

    def _release(self, lease: str) -> None:
        with contextlib.suppress(Rejected):
            self._etcd.revoke(lease)

    def _settle(self, view: plan.Snapshot, now: float) -> None:
        """Whether an act with unknown outcome has happened: the hold carries its id."""
        if self._unsure is None:
            return
        code, story, until = self._unsure
        try:
            found = plan.mapping_of("detector-hold", view.hold.value) if view.hold is not None else {}
        except plan.Malformed:
            found = {}
        if found.get("id") == story["id"]:
            self._done(code, {**story, "revision": view.hold.revision if view.hold is not None else 0})
            self._unsure = None
        elif now >= until:
            self._unsure = None

    # --- errors -------------------------------------------------------------------------------------------------------

    def _note(self, about: str, problem: str, more: t.Mapping[str, t.Any] | None = None) -> None:
        """A problem is logged when it changes, now and then while it lasts, and when it is over."""
        now = self._clock()
        last, at = self._notes.get(about, ("", 0.0))
        if problem == last and (not problem or now - at < ERROR_LOG_SECONDS):
            return
        self._notes[about] = (problem, now)
        self._log({"event": "problem", "about": about, "problem": problem or None, "over": not problem, **(more or {})})
