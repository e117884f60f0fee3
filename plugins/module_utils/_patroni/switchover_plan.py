# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the leader of a Patroni cluster may be moved on purpose, to whom, and when the move is over.

Laws:

1. a switchover is ordered only while Patroni's store and the leader's own word agree who leads, and no member says that
   it is a primary beside it;
2. the candidate is a listed member that answers, streams from the leader by the leader's own word, is on its timeline,
   lags by at most ``max_lag`` by the two positions of this moment, and waits for no restart. With synchronous
   replication it is synchronous, by Patroni's store and by the leader's own word: nothing acknowledged can be missing;
3. a majority of the listed members is well, the cluster is the one that was meant, and Patroni is not paused and has no
   other switchover scheduled;
4. a look that is older than ``max_age`` proves nothing and orders nothing;
5. where the candidate leads already, or ``away_from`` does not lead, nothing is ordered, so that a repetition changes
   nothing;
6. the candidate is always named in the order, so that the plan says who leads next;
7. the move is judged by looks at the cluster, never by Patroni's reply: it answers 200 although another member was
   promoted, and 503 while it still works;
8. a second order is given only when the first one's reply was lost, and the cluster was seen well and as before for
   longer than Patroni needs to notice an order.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from .._common.errors import Refuse
from .plan import SYNC, Member, View, system_identifier

# Refusals that time alone may clear: an interrupted run, or Patroni itself, may be in the middle of a move.
TRANSIENT = ("no_answer", "no_leader", "leader_silent", "in_progress", "stale")
PRIMARY = ("primary", "master", "standby_leader")
SYNC_STATES = ("sync", "quorum")
# Patroni's poll of a switchover ends with this when it has taken the order back, else the order is still open.
GIVEN_UP = "failed"


@dataclasses.dataclass(frozen=True)
class Word:
    """What a member says of itself. ``position`` in bytes: what it has written, or received as a standby.

    ``followers`` are those that stream from it, by lower-case name, with PostgreSQL's ``sync_state``.
    ``seen`` is when it last reached the store, in seconds by its own clock.
    """

    error: str | None = None
    name: str | None = None
    role: str | None = None
    state: str | None = None
    position: int | None = None
    timeline: int | None = None
    system_identifier: str | None = None
    unlocked: bool = False
    failsafe: bool = False
    watchdog_failed: bool = False
    seen: int | None = None
    followers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def leads(self) -> bool:
        """Whether it is a primary that runs, with the lease in force as it knows it."""
        return self.error is None and self.role in PRIMARY and self.state == "running" and not self.unlocked


def _number(value: t.Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_word(data: t.Any) -> Word:
    """The answer of ``GET /patroni``; a shape that is not known becomes a word with an error."""
    if not isinstance(data, t.Mapping):
        return Word(error="the answer is not a mapping")
    xlog = data.get("xlog")
    xlog = xlog if isinstance(xlog, t.Mapping) else {}
    keys = ("location", "received_location", "replayed_location")
    positions = [number for number in (_number(xlog.get(key)) for key in keys) if number is not None]
    streams = data.get("replication")
    about = data.get("patroni")
    return Word(
        name=about.get("name") if isinstance(about, t.Mapping) else None,
        role=data.get("role"),
        state=data.get("state"),
        # After its restart a standby has received less than it has replayed.
        position=max(positions, default=None),
        timeline=_number(data.get("timeline")),
        system_identifier=system_identifier(data),
        unlocked=bool(data.get("cluster_unlocked")),
        failsafe=bool(data.get("failsafe_mode_is_active")),
        watchdog_failed=bool(data.get("watchdog_failed")),
        seen=_number(data.get("dcs_last_seen")),
        followers={
            str(one.get("application_name")).lower(): str(one.get("sync_state"))
            for one in (streams if isinstance(streams, list) else ())
            if isinstance(one, t.Mapping) and one.get("state") == "streaming"
        },
    )


@dataclasses.dataclass(frozen=True)
class Look:
    """The cluster by one member's ``/cluster``, and what the members say of themselves.

    ``silent`` are the reasons why nobody could be asked, and empty when somebody answered. ``elapsed`` are the seconds
    that the look took. ``history`` are the timelines that ended.
    """

    view: View
    words: t.Mapping[str, Word] = dataclasses.field(default_factory=dict)
    source: str | None = None
    elapsed: float = 0
    ttl: int = 30
    loop_wait: int = 10
    history: tuple[int, ...] = ()
    silent: tuple[str, ...] = ()

    def member(self, name: str | None) -> Member | None:
        return next((one for one in self.view.members if one.name == name), None)

    def word(self, name: str) -> Word:
        return self.words.get(name, Word(error="it was not asked"))

    @property
    def newest(self) -> int:
        """When anybody last reached the store."""
        return max((word.seen for word in self.words.values() if word.seen is not None), default=0)

    def unseen(self, name: str | None) -> int:
        """For how many seconds less than the others a member has reached the store."""
        seen = None if name is None else self.word(name).seen
        return 0 if seen is None else self.newest - seen

    @property
    def age(self) -> float:
        """How old what was seen may be. Members' clocks are compared with each other, never with ours."""
        return max(self.elapsed, self.unseen(self.source))

    @property
    def leader(self) -> str | None:
        """Who leads, by the store and by its own word."""
        leader = self.view.leader
        return leader.name if leader is not None and self.word(leader.name).leads else None

    def lag(self, name: str, leader: str) -> int | None:
        """Bytes behind the leader. The leader was asked last, so that it is never too small."""
        ahead, behind = self.word(leader).position, self.word(name).position
        return None if ahead is None or behind is None else max(0, ahead - behind)


@dataclasses.dataclass(frozen=True)
class Transaction:
    """A transaction that is open in PostgreSQL."""

    pid: int
    seconds: float
    user: str = ""
    state: str = ""

    def __str__(self) -> str:
        who = ", ".join(part for part in (self.user, self.state) if part)
        return f"pid {self.pid}{f' ({who})' if who else ''} is open for {self.seconds:.0f} s"


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is wanted, and within which limits."""

    members: tuple[str, ...]
    candidate: str | None = None
    away_from: str | None = None
    expected_leader: str | None = None
    scheduled_at: str | None = None
    max_lag: int = 1024**2
    max_transaction_seconds: float = 60
    max_age: float = 5
    system_identifier: str | None = None
    transactions: tuple[Transaction, ...] = ()


@dataclasses.dataclass(frozen=True)
class Nothing:
    """The leader is where it should be."""

    leader: str
    why: str


@dataclasses.dataclass(frozen=True)
class Move:
    """The order. ``leader`` is who leads now, None when nobody does; ``followers`` must stream when it is over."""

    leader: str | None
    candidate: str
    followers: tuple[str, ...]
    scheduled_at: str | None = None

    @property
    def path(self) -> str:
        return "/failover" if self.leader is None else "/switchover"

    @property
    def body(self) -> dict[str, t.Any]:
        body = {"leader": self.leader, "candidate": self.candidate, "scheduled_at": self.scheduled_at}
        return {key: value for key, value in body.items() if value is not None}

    @property
    def targets(self) -> tuple[str, ...]:
        """To whom the order is given, and to whom if it has to be given again: who must act first, notices first."""
        return (self.candidate,) if self.leader is None else (self.leader, self.candidate)

    def steps(self) -> list[str]:
        rest = [f"wait until {', '.join(self.followers)} stream from {self.candidate}"] if self.followers else []
        if self.leader is None:
            return [f"POST /failover: promote {self.candidate}, without a leader's help", *rest]
        if self.scheduled_at is not None:
            return [f"POST /switchover: from {self.leader} to {self.candidate} at {self.scheduled_at}"]
        return [f"POST /switchover: from {self.leader} to {self.candidate}", *rest]


def quorum_of(members: t.Sequence[str]) -> int:
    """The smallest majority."""
    return len(set(members)) // 2 + 1


# -- whether and to whom -----------------------------------------------------------------------------------------------


def plan_switchover(look: Look, wish: Wish) -> Move | Nothing | Refuse:
    """What to do, from one look."""
    refusal = _why_not_wish(wish) or why_not_this_cluster(look, wish.system_identifier, wish.max_age)
    if refusal is not None:
        return refusal
    leader = look.leader
    refusal = _why_no_leader(look)
    if refusal is not None or leader is None:
        return refusal or _no_leader()
    if wish.candidate == leader:
        return Nothing(leader, f"{leader} leads already")
    if wish.away_from is not None and wish.away_from != leader:
        return Nothing(leader, f"{leader} leads, not {wish.away_from}")
    return (
        _why_not_leader(leader, wish)
        or _scheduled(look, leader, wish)
        or _why_not_paused(look, leader)
        or _why_not_members(look, leader, wish)
        or _why_not_transactions(leader, wish)
        or _choose(look, leader, wish)
    )


def instant(text: str) -> datetime.datetime | None:
    """A moment with its zone; None when the text is something else."""
    try:
        moment = datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


def _why_not_wish(wish: Wish) -> Refuse | None:
    if wish.candidate is not None and wish.candidate == wish.away_from:
        return Refuse(
            "bad_target",
            "nothing was moved",
            f"{wish.candidate} is candidate and away_from at once",
            "Give another candidate.",
        )
    if wish.scheduled_at is not None and instant(wish.scheduled_at) is None:
        return Refuse(
            "bad_schedule",
            "nothing was scheduled",
            f"{wish.scheduled_at} is no moment with a zone",
            "Give one like 2030-01-31T03:00:00+00:00.",
        )
    return None


def why_not_this_cluster(look: Look, identifier: str | None, max_age: float) -> Refuse | None:
    """Whether this is the cluster that was meant, and seen as it is now."""
    if look.silent:
        return Refuse(
            "no_answer",
            "nothing is known of the cluster",
            "; ".join(look.silent),
            "Start Patroni on a member, or its store (etcd_cluster_info tells), or correct the addresses.",
        )
    known = {name: word.system_identifier for name, word in look.words.items() if word.system_identifier is not None}
    wanted = identifier or next(iter(known.values()), None)
    others = sorted(f"{name} has {found}" for name, found in known.items() if found != wanted)
    if others or (identifier is not None and not known):
        return Refuse(
            "other_cluster",
            "nothing was done",
            f"the system identifier is to be {wanted}, and {', '.join(others) or 'no member tells its own'}",
            "Use the inventory that belongs to this cluster.",
        )
    if look.age > max_age:
        slow = f"asking took {look.elapsed:.1f} s, and {look.source} has reached its store {look.unseen(look.source)} s"
        return Refuse(
            "stale",
            "nothing was done",
            f"what was seen may be {look.age:.1f} s old, more than {max_age:g}: {slow} before another member",
            "Run again; if that repeats, look at the store's health and at the members' clocks.",
        )
    return None


def _no_leader() -> Refuse:
    return Refuse(
        "no_leader",
        "nothing was moved",
        "there is no leader",
        "Patroni elects one by itself where that is safe; if it does not, see patroni_failover.",
    )


def _why_no_leader(look: Look) -> Refuse | None:
    """Whether a leader leads by the store and by its own word, and nobody beside it."""
    leader = look.view.leader
    if leader is None:
        return _no_leader()
    word = look.word(leader.name)
    if word.error is not None:
        return Refuse(
            "leader_silent",
            f"{leader.name} is not moved",
            f"it holds the lease and does not answer: {word.error}",
            "Bring it back; if it is dead, Patroni elects another when the lease runs out (see patroni_failover).",
        )
    if word.failsafe:
        return Refuse(
            "failsafe",
            f"{leader.name} is not moved",
            "it cannot reach its store and stays leader in failsafe mode only",
            "Bring the store back first (etcd_cluster_info tells what is wrong).",
        )
    doubles = [one.name for one in look.view.members if one is not leader and look.word(one.name).role in PRIMARY]
    if not word.leads or doubles:
        says = f"the leader {leader.name} says {word.role}, {word.state}{', without a lease' if word.unlocked else ''}"
        also = f"; {', '.join(doubles)} says primary" if doubles else ""
        return Refuse(
            "in_progress",
            f"{leader.name} is not moved",
            f"a move or a restart is going on: {says}{also}",
            "Wait until patroni_cluster_info says healthy, and run again.",
        )
    return None


def _why_not_leader(leader: str, wish: Wish) -> Refuse | None:
    if wish.expected_leader in (None, leader):
        return None
    return Refuse(
        "other_leader",
        f"{leader} is not moved",
        f"{leader} leads, and {wish.expected_leader} was expected to",
        "Look with patroni_cluster_info whether this is still needed.",
    )


def _scheduled(look: Look, leader: str, wish: Wish) -> Nothing | Refuse | None:
    """An order overwrites what is scheduled."""
    there = look.view.scheduled_switchover
    if not there:
        return None
    at = str(there.get("at"))
    same = wish.scheduled_at is not None and instant(at) == instant(wish.scheduled_at)
    if same and there.get("from", leader) == leader and wish.candidate in (None, there.get("to")):
        return Nothing(leader, f"a switchover to {there.get('to') or 'any member'} is scheduled at {at} already")
    return Refuse(
        "scheduled",
        f"{leader} is not moved",
        f"a switchover from {there.get('from')} to {there.get('to')} is scheduled at {at}",
        "Wait for it, or take it back with patronictl flush <cluster> switchover.",
    )


def _why_not_paused(look: Look, leader: str) -> Refuse | None:
    if not look.view.paused:
        return None
    return Refuse(
        "paused",
        f"{leader} is not moved",
        "Patroni is paused: it would not repair what goes wrong on the way",
        "Resume it first (patronictl resume).",
    )


def why_not_well(look: Look, name: str, leader: str) -> str | None:
    """Why a member does not count as well; the lag matters only for a candidate."""
    member, word = look.member(name), look.word(leader)
    if member is None:
        return f"{name} is not a member"
    if name == leader:
        return None
    if member.state != "streaming" or name.lower() not in word.followers:
        seen = "streams" if name.lower() in word.followers else "does not stream"
        return f"{name} is {member.state}, and {seen} from {leader} by its word"
    timeline = look.word(name).timeline or member.timeline
    if timeline != word.timeline:
        return f"{name} is on timeline {timeline}, the leader on {word.timeline}"
    return None


def _well(look: Look, leader: str, members: t.Iterable[str]) -> list[str]:
    return [name for name in members if why_not_well(look, name, leader) is None]


def _why_not_members(look: Look, leader: str, wish: Wish) -> Refuse | None:
    needed, well = quorum_of(wish.members), _well(look, leader, sorted(set(wish.members)))
    if len(well) >= needed:
        return None
    reasons = (why_not_well(look, name, leader) for name in sorted(set(wish.members)))
    return Refuse(
        "members_missing",
        f"{leader} is not moved",
        f"{len(well)} of {len(set(wish.members))} members are well, and {needed} are needed: "
        + "; ".join(reason for reason in reasons if reason is not None),
        "Bring the others back first, or correct the list of members.",
    )


def _why_not_transactions(leader: str, wish: Wish) -> Refuse | None:
    """A switchover ends every transaction; what is open now says nothing about a later moment."""
    long = [one for one in wish.transactions if one.seconds > wish.max_transaction_seconds]
    if not long or wish.scheduled_at is not None:
        return None
    long.sort(key=lambda one: (-one.seconds, one.pid))
    more = f", and {len(long) - 5} more" if len(long) > 5 else ""
    return Refuse(
        "long_transaction",
        f"{leader} is not moved",
        f"the limit is {wish.max_transaction_seconds:g} s: {', '.join(map(str, long[:5]))}{more}",
        f"Let them end, or end them (SELECT pg_terminate_backend({long[0].pid})), or raise max_transaction_seconds.",
    )


def _choose(look: Look, leader: str, wish: Wish) -> Move | Refuse:
    """The wanted one, or the best: synchronous, then the least lag, then by name."""
    if wish.candidate is not None:
        return why_not_candidate(look, wish.candidate, leader, wish) or _move(look, leader, wish.candidate, wish)
    names = sorted(one.name for one in look.view.members if one.name != leader)
    refusals = {name: why_not_candidate(look, name, leader, wish) for name in names}
    good = [name for name, refusal in refusals.items() if refusal is None]
    if not good:
        said = "; ".join(f"{refusal.why} ({refusal.code})" for refusal in refusals.values() if refusal is not None)
        return Refuse(
            "no_good_candidate",
            f"{leader} is not moved",
            said or "it is the only member",
            "Repair one of the others first.",
        )
    chosen = min(good, key=lambda name: (not _synchronous(look, name, leader), look.lag(name, leader), name))
    return _move(look, leader, chosen, wish)


def _move(look: Look, leader: str, candidate: str, wish: Wish) -> Move:
    followers = [leader, *_well(look, leader, (one.name for one in look.view.members if one.name != leader))]
    return Move(leader, candidate, tuple(sorted(set(followers) - {candidate})), wish.scheduled_at)


def _synchronous(look: Look, name: str, leader: str) -> bool:
    member = look.member(name)
    state = look.word(leader).followers.get(name.lower())
    return member is not None and member.role in SYNC and state in SYNC_STATES


def _nofailover(tags: t.Mapping[str, t.Any]) -> bool:
    """As Patroni reads its tags: the older one counts when both are there."""
    if tags.get("nofailover") is not None:
        return bool(tags["nofailover"])
    priority = tags.get("failover_priority", 1)
    return not isinstance(priority, int) or priority <= 0


def barred(member: Member, word: Word) -> Refuse | None:
    """Whether Patroni will promote this member at all."""
    what = f"{member.name} cannot lead"
    if word.error is not None:
        return Refuse("candidate_silent", what, f"{member.name} does not answer: {word.error}", "Bring it back first.")
    if _nofailover(member.tags):
        tags = ", ".join(f"{key}: {member.tags[key]}" for key in sorted(member.tags))
        return Refuse("nofailover", what, f"{member.name} has the tags {tags}", "Choose another, or take the tag away.")
    if word.watchdog_failed:
        return Refuse("watchdog", what, f"the watchdog of {member.name} does not work", "Choose another, or repair it.")
    return None


def why_not_seen_lately(look: Look, name: str) -> Refuse | None:
    """A member that cannot reach the store cannot take the lease."""
    unseen = look.unseen(name)
    if unseen <= look.ttl:
        return None
    return Refuse(
        "candidate_stale",
        f"{name} cannot lead",
        f"{name} has reached the store {unseen} s before another member, and ttl is {look.ttl} s",
        "Bring its way to the store back, or set its clock.",
    )


def why_not_candidate(look: Look, name: str, leader: str, wish: Wish) -> Refuse | None:
    """Whether a member may become the leader on purpose (law 2)."""
    member = look.member(name)
    if member is None or name not in wish.members:
        missing = "not a member of the cluster" if member is None else "not in the list of members"
        return Refuse(
            "not_a_member",
            f"{name} cannot lead",
            f"{name} is {missing}; members are {', '.join(one.name for one in look.view.members)}",
            "Give the name of a member.",
        )
    return (
        barred(member, look.word(name))
        or why_not_seen_lately(look, name)
        or _why_not_streaming(look, member, leader)
        or _why_not_synchronous(look, member, leader)
        or _why_not_near(look, name, leader, wish.max_lag)
        or _why_not_restarted(member)
    )


def _why_not_streaming(look: Look, member: Member, leader: str) -> Refuse | None:
    what, name = f"{member.name} cannot lead", member.name
    word = look.word(leader)
    if member.state != "streaming" or name.lower() not in word.followers:
        return Refuse(
            "candidate_not_streaming",
            what,
            str(why_not_well(look, name, leader)),
            "Wait until it streams, or reinitialise it (patronictl reinit).",
        )
    timeline = look.word(name).timeline or member.timeline
    if timeline is None or timeline != word.timeline:
        return Refuse(
            "timeline",
            what,
            f"{name} is on timeline {timeline}, the leader on {word.timeline}",
            "Wait until it follows, or reinitialise it (patronictl reinit).",
        )
    return None


def _why_not_synchronous(look: Look, member: Member, leader: str) -> Refuse | None:
    mode = look.view.synchronous_mode
    if mode == "off" or (mode is not None and _synchronous(look, member.name, leader)):
        return None
    synchronous = ", ".join(look.view.sync_standbys) or "nobody"
    state = look.word(leader).followers.get(member.name.lower())
    return Refuse(
        "candidate_not_synchronous",
        f"{member.name} cannot lead",
        f"synchronous_mode is {mode or 'not known'}, and {member.name} is {member.role} with the state {state}; "
        f"synchronous: {synchronous}",
        "Choose one that is, or wait until it is.",
    )


def _why_not_near(look: Look, name: str, leader: str, max_lag: int) -> Refuse | None:
    lag = look.lag(name, leader)
    if lag is not None and lag <= max_lag:
        return None
    return Refuse(
        "lag",
        f"{name} cannot lead",
        f"the lag of {name} is not known" if lag is None else f"{name} lags {lag} bytes behind, more than {max_lag}",
        "Wait until it has caught up, or raise max_lag.",
    )


def _why_not_restarted(member: Member) -> Refuse | None:
    if not member.pending_restart:
        return None
    return Refuse(
        "pending_restart",
        f"{member.name} cannot lead",
        f"{member.name} waits for a restart for {', '.join(sorted(member.pending_reason)) or 'unknown settings'}",
        "Restart it first (patroni_member).",
    )


# -- the way there -----------------------------------------------------------------------------------------------------


def why_not_following(look: Look, followers: t.Iterable[str]) -> str | None:
    """Who does not stream from the leader yet, by the leader's own word."""
    leader = look.leader
    if leader is None:
        return "nobody leads"
    streaming = look.word(leader).followers
    missing = [name for name in followers if name != leader and name.lower() not in streaming]
    return f"{', '.join(missing)} does not stream from {leader} yet" if missing else None


def calm(look: Look, move: Move) -> bool:
    """Whether all is as before the order: nobody leads, or the same one and everybody streams from it."""
    if look.silent:
        return False
    if move.leader is None:
        return look.view.leader is None
    return look.leader == move.leader and why_not_following(look, set(move.followers) - {move.leader}) is None


def says(look: Look) -> str:
    """What was seen, in a few words."""
    if look.silent:
        return "; ".join(look.silent)
    leader = look.view.leader
    if leader is None:
        return "nobody leads"
    if look.leader is not None:
        return f"{leader.name} leads"
    word = look.word(leader.name)
    return f"{leader.name} holds the lease and says {word.error or f'{word.role}, {word.state}'}"


def is_scheduled(look: Look, move: Move) -> bool:
    """Whether the store holds what was ordered for later."""
    there = look.view.scheduled_switchover or {}
    same = instant(str(there.get("at"))) == instant(str(move.scheduled_at))
    return bool(there) and same and (there.get("from"), there.get("to")) == (move.leader, move.candidate)
