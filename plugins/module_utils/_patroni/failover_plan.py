# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a member may be promoted in place of a dead leader, and what that loses.

Laws:

1. never while a leader lives: not while one runs, not while the store holds a lease, which Patroni lets run out by
   itself, and not while any member says that it is a primary;
2. Patroni elects by itself where that is safe. It is given the time to, unless it is paused;
3. nothing is lost when the candidate is synchronous by Patroni's store, which the leader changes before it acknowledges
   anything without that standby. In quorum mode each commit is on some standby only: nothing is lost when all members
   but one were asked, the one being the leader or else a standby of a leader that was asked, and nobody has more;
4. what else is lost is measured against the last known position of the leader: the one that was given, or else what
   anybody has received or the leader reported once a loop, which is at least what it had, and never all;
5. positions on different timelines cannot be compared, and what is not known is never called nothing;
6. a loss is accepted only by the very words in which it was stated, with its numbers;
7. a member that leads already, or anybody in place of the named dead leader, is what was wanted: nothing is ordered.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import Refuse
from . import switchover_plan
from .plan import SYNC
from .switchover_plan import PRIMARY, Look, Move, Nothing

# Refusals that time alone may clear.
TRANSIENT = ("no_answer", "stale", "in_progress", "lease_alive", "electing", "primary_alive")


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is wanted. ``last_leader_lsn`` in bytes; ``election_wait`` None: as long as one loop of Patroni."""

    members: tuple[str, ...]
    candidate: str | None = None
    dead_leader: str | None = None
    accept_loss: str = ""
    last_leader_lsn: int | None = None
    election_wait: float | None = None
    max_age: float = 5
    system_identifier: str | None = None


@dataclasses.dataclass(frozen=True)
class Waited:
    """For how many seconds this run has seen up to now that nobody led, or that one silent leader held the lease.

    ``silent`` is the last leader that did not answer, and ``unled`` whether there ever was none.
    """

    leaderless: float = 0
    lease: float = 0
    silent: str | None = None
    unled: bool = False


@dataclasses.dataclass(frozen=True)
class Loss:
    """What a promotion loses of what was acknowledged.

    ``kind`` is ``nothing``, ``up_to``, ``at_least`` or ``unknown``; ``size`` in bytes, ``after`` a position.
    """

    kind: str
    candidate: str
    why: str
    size: int | None = None
    after: int | None = None

    @property
    def text(self) -> str:
        """What has to be typed; empty when nothing is lost."""
        after = "" if self.after is None else f" after {lsn(self.after)}"
        if self.kind == "up_to":
            return f"{self.candidate} loses up to {self.size} bytes{after}"
        if self.kind == "at_least":
            return f"{self.candidate} loses at least {self.size} bytes{after}, and how much more is unknown"
        return f"{self.candidate} loses an unknown amount{after}" if self.kind == "unknown" else ""

    def as_result(self) -> dict[str, t.Any]:
        return {
            "kind": self.kind,
            "bytes": self.size,
            "after": None if self.after is None else lsn(self.after),
            "why": self.why,
            "text": self.text,
        }


@dataclasses.dataclass(frozen=True)
class NotAccepted(Refuse):
    """A refusal that carries the loss, so that a program need not read it out of the message."""

    loss: Loss


@dataclasses.dataclass(frozen=True)
class Promotion:
    """The order, and what it costs."""

    move: Move
    loss: Loss


def lsn(position: int) -> str:
    """A position as PostgreSQL writes it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int | None:
    """The position in bytes; None when the text is none."""
    high, slash, low = text.strip().partition("/")
    try:
        parts = int(high, 16), int(low, 16)
    except ValueError:
        return None
    return (parts[0] << 32) + parts[1] if slash and all(0 <= part < 1 << 32 for part in parts) else None


def plan_failover(look: Look, wish: Wish, waited: Waited) -> Promotion | Nothing | Refuse:
    """What to do, from one look and from how long the earlier ones showed the same."""
    refusal = switchover_plan.why_not_this_cluster(look, wish.system_identifier, wish.max_age)
    if refusal is not None:
        return refusal
    if look.view.leader is not None:
        return _with_leader(look, wish, waited)
    refusal = _why_not_dead(look) or _why_not_waited(look, wish, waited)
    if refusal is not None:
        return refusal
    if wish.candidate is not None and wish.candidate == wish.dead_leader:
        return Refuse(
            "bad_target",
            "nobody was promoted",
            f"{wish.candidate} is candidate and dead_leader at once",
            "Give another candidate.",
        )
    return _choose(look, wish)


def _with_leader(look: Look, wish: Wish, waited: Waited) -> Nothing | Refuse:
    leader = look.view.leader
    held = "" if leader is None else leader.name
    if look.leader is not None:
        dead = wish.dead_leader or waited.silent
        replaced = dead != held if dead is not None else waited.unled
        if held == wish.candidate or (wish.candidate is None and replaced):
            elected = waited.unled or waited.silent is not None
            return Nothing(held, f"Patroni has elected {held}" if elected else f"{held} leads already")
        return Refuse(
            "leader_alive",
            "nobody was promoted",
            f"{held} leads and runs",
            "Use patroni_switchover to move a leader that lives.",
        )
    word = look.word(held)
    if word.error is None:
        return Refuse(
            "in_progress",
            "nobody was promoted",
            f"{held} holds the lease, answers, and says {word.role}, {word.state}: it starts, stops or is promoted",
            "Wait. A leader that does not start is replaced by Patroni itself after primary_start_timeout.",
        )
    longest = look.ttl + look.loop_wait
    if waited.lease > longest:
        return Refuse(
            "lease_renewed",
            "nobody was promoted",
            f"{held} does not answer here ({word.error}), but holds its lease for {waited.lease:.0f} s, and ttl is "
            f"{look.ttl} s: its Patroni lives and renews it",
            f"Repair the way to {held}, or stop its Patroni there.",
        )
    return Refuse(
        "lease_alive",
        "nobody was promoted",
        f"{held} does not answer ({word.error}), and its lease has not run out",
        f"Patroni elects by itself when it has: wait {longest - waited.lease:.0f} s, and run again.",
    )


def _why_not_dead(look: Look) -> Refuse | None:
    alive = sorted(name for name, word in look.words.items() if word.error is None and word.role in PRIMARY)
    running = [name for name in alive if look.word(name).state == "running"]
    if not running:
        return None
    return Refuse(
        "primary_alive",
        "nobody was promoted",
        f"nobody holds the lease, but {', '.join(running)} says that it is a primary",
        "Wait until Patroni has stopped it there or has given it the lease back; if it does neither, stop it.",
    )


def _why_not_waited(look: Look, wish: Wish, waited: Waited) -> Refuse | None:
    wanted = look.loop_wait if wish.election_wait is None else wish.election_wait
    if look.view.paused or waited.leaderless >= wanted:
        return None
    return Refuse(
        "electing",
        "nobody was promoted",
        f"nobody leads, seen for {waited.leaderless:.0f} s: Patroni is still electing",
        f"Wait {wanted - waited.leaderless:.0f} s, and run again.",
    )


# -- to whom, and what it costs ----------------------------------------------------------------------------------------


def _choose(look: Look, wish: Wish) -> Promotion | Refuse:
    others = [one for one in look.view.members if one.name != wish.dead_leader]
    if wish.candidate is not None:
        return _why_not_candidate(look, wish.candidate, wish) or _promote(look, wish, wish.candidate)
    refusals = {one.name: _why_not_candidate(look, one.name, wish) for one in others}
    good = [name for name, refusal in refusals.items() if refusal is None]
    if not good:
        said = "; ".join(f"{refusal.why} ({refusal.code})" for refusal in refusals.values() if refusal is not None)
        return Refuse(
            "no_good_candidate",
            "nobody was promoted",
            said or "the store knows no member",
            "Bring a member back; if none can be, restore from the backup.",
        )
    order = ("nothing", "up_to", "at_least", "unknown")

    def rank(name: str) -> tuple[int, int, str]:
        return order.index(loss_of(look, name, wish).kind), -(look.word(name).position or 0), name

    return _promote(look, wish, min(good, key=rank))


def _why_not_candidate(look: Look, name: str, wish: Wish) -> Refuse | None:
    member, word = look.member(name), look.word(name)
    what = f"{name} cannot lead"
    if member is None or name not in wish.members:
        missing = "not a member of the cluster" if member is None else "not in the list of members"
        known = ", ".join(one.name for one in look.view.members)
        return Refuse("not_a_member", what, f"{name} is {missing}; members are {known}", "Give the name of a member.")
    refusal = switchover_plan.barred(member, word) or switchover_plan.why_not_seen_lately(look, name)
    if refusal is not None:
        return refusal
    if word.state != "running":
        return Refuse(
            "candidate_not_running", what, f"PostgreSQL on {name} is {word.state}", "Wait until it runs, or repair it."
        )
    return _why_behind(look, name)


def _why_behind(look: Look, name: str) -> Refuse | None:
    """Promoting a member of an older timeline would undo everything since, while others have it."""
    own = look.word(name).timeline
    newer = {
        other: word.timeline
        for other, word in look.words.items()
        if own is not None and word.error is None and word.timeline is not None and word.timeline > own
    }
    if not newer:
        return None
    ahead = ", ".join(f"{other} on {timeline}" for other, timeline in sorted(newer.items()))
    return Refuse(
        "timeline", f"{name} cannot lead", f"{name} is on timeline {own}, and {ahead}", "Promote one of those instead."
    )


def _promote(look: Look, wish: Wish, candidate: str) -> Promotion | Refuse:
    followers = [
        one.name
        for one in look.view.members
        if one.name != candidate and look.word(one.name).error is None and look.word(one.name).state == "running"
    ]
    refusal = _why_not_lsn(look, wish)
    if refusal is not None:
        return refusal
    loss = loss_of(look, candidate, wish)
    if loss.text and loss.text != wish.accept_loss:
        return _not_accepted(loss, wish)
    return Promotion(Move(None, candidate, tuple(sorted(followers))), loss)


def _not_accepted(loss: Loss, wish: Wish) -> NotAccepted:
    typed = f"; accept_loss says: {wish.accept_loss}" if wish.accept_loss else ""
    return NotAccepted(
        "loss_not_accepted",
        f"{loss.candidate} was not promoted",
        f"{loss.text} ({loss.why}){typed}",
        f'To accept this, give accept_loss: "{loss.text}".',
        loss,
    )


def _why_not_lsn(look: Look, wish: Wish) -> Refuse | None:
    if wish.last_leader_lsn is None:
        return None
    more = [name for name, word in look.words.items() if (word.position or 0) > wish.last_leader_lsn]
    if not more:
        return None
    seen = ", ".join(f"{name} has {lsn(look.word(name).position or 0)}" for name in sorted(more))
    return Refuse(
        "bad_lsn",
        "nobody was promoted",
        f"last_leader_lsn is {lsn(wish.last_leader_lsn)}, and {seen}: the leader had more than that",
        "Give the end of the dead leader's log (pg_waldump tells), not its last checkpoint, or leave it out.",
    )


def last_known(look: Look) -> int:
    """The least that the leader can have had: what anybody has, and what it reported in its last loop.

    Patroni tells a member's distance to that report. A member may have received more since its own last report, so that
    the sum is never too small.
    """
    positions = [word.position for word in look.words.values() if word.position is not None]
    reported = [
        (look.word(one.name).position or 0) + (one.lag or 0)
        for one in look.view.members
        if look.word(one.name).position is not None
    ]
    return max([*positions, *reported], default=0)


def loss_of(look: Look, candidate: str, wish: Wish) -> Loss:
    """What of the acknowledged is not on the candidate (laws 3 to 5)."""
    own, member = look.word(candidate).position, look.member(candidate)
    if own is None or member is None:
        return Loss("unknown", candidate, "its position is not known")
    newest = max(look.history, default=0) + 1
    timeline = look.word(candidate).timeline
    if timeline is None or (look.history and timeline != newest):
        return Loss("unknown", candidate, f"it is on timeline {timeline}, the cluster was on {newest}", after=own)
    if look.view.synchronous_mode == "on" and member.role in SYNC:
        return Loss("nothing", candidate, f"{candidate} is a synchronous standby", size=0, after=own)
    if look.view.synchronous_mode == "quorum" and member.role in SYNC:
        return _quorum_loss(look, candidate, own, wish)
    if wish.last_leader_lsn is not None:
        return _up_to(candidate, own, wish.last_leader_lsn, "the given last position of the leader")
    known = last_known(look)
    why = f"{candidate} is not synchronous, and the leader had at least {lsn(known)}"
    if known > own:
        return Loss("at_least", candidate, why, size=known - own, after=own)
    return Loss("unknown", candidate, why, after=own)


def _up_to(candidate: str, own: int, end: int, what: str) -> Loss:
    missing = max(0, end - own)
    why = f"{what} is {lsn(end)}"
    return Loss("up_to" if missing else "nothing", candidate, why, size=missing, after=own)


def _quorum_loss(look: Look, candidate: str, own: int, wish: Wish) -> Loss:
    names = {*wish.members, *(one.name for one in look.view.members)}
    silent = sorted(name for name in names if look.word(name).position is None)
    if len(silent) <= 1:
        ahead = max(word.position or 0 for word in look.words.values())
        return _up_to(candidate, own, ahead, "the most that anybody has")
    if wish.last_leader_lsn is not None:
        return _up_to(candidate, own, wish.last_leader_lsn, "the given last position of the leader")
    why = f"in quorum mode each commit is on some standby only, and {', '.join(silent)} cannot be asked"
    return Loss("unknown", candidate, why, after=own)
