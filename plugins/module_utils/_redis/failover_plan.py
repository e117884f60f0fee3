# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a Redis master may be moved on purpose, when the move is over, and which Sentinels may be made to forget.

Laws of a move:

1. it is ordered only while a majority of all Sentinels names the same master and finds its quorum, nobody is failing
   over, and exactly one node says that it is master: the one that the Sentinels name;
2. it is ordered only when the replica that Sentinel will choose is connected and lags by at most ``max_lag``, and the
   others are enough for the new master to take writes even if the old one stays away;
3. no Sentinel may remember a replica as something else: it would turn the promoted one back;
4. it is ordered once. Whether the order was heard is read from the cluster, never from its reply;
5. with ``away_from`` nothing is moved unless that node is the master, so that a repetition changes nothing;
6. writes are paused for less than the time after which Sentinels call a master down, and the pause ends by itself;
7. the old master is told to follow only when a majority of all Sentinels and the new master's own word agree.

Laws of a reset, which makes one Sentinel forget and learn again:

8. never while anything that is listed is silent or unsettled: what is silent is forgotten, and quorums shrink;
9. only a Sentinel with a stale entry is reset, one at a time, the next when it knows everybody again;
10. an entry is stale when it is not listed and down; one that answers is alive and would come back.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import Refuse
from . import sentinel_plan
from .sentinel_plan import Node, Peer, Sentinel, View, host_of, why_not_replica, why_not_seen_as_replica

# Refusals that time alone may clear.
TRANSIENT = ("in_progress", "not_settled", "two_masters")
# Looks in a row after which an old master counts as gone, or a move as given up.
PATIENCE = 3
MAX_PAUSE_MS = 5000


@dataclasses.dataclass(frozen=True)
class Nothing:
    """The master is where it should be."""

    master: str
    why: str


@dataclasses.dataclass(frozen=True)
class Move:
    """The order: to whom it is given, and from where to where. ``followers`` are the replicas that must follow."""

    sentinel: str
    master: str
    candidates: tuple[str, ...]
    followers: tuple[str, ...]
    pause_ms: int

    def steps(self) -> list[str]:
        pause = [f"pause writes on {self.master} for {self.pause_ms} ms"] if self.pause_ms else []
        return [
            *pause,
            f"SENTINEL FAILOVER on {self.sentinel}: away from {self.master}, to one of {', '.join(self.candidates)}",
            f"make {self.master} a replica of the new master",
        ]


def plan_failover(
    view: View, away_from: str | None, force: bool = False, max_lag: int = 1024**2, pause_writes: bool = True
) -> Move | Nothing | Refuse:
    """What to do, from one look."""
    master = view.master
    refusal = _why_no_order(view)
    if refusal is not None or master is None:
        return refusal or _no_master(view)
    if away_from is not None and away_from != master:
        return _elsewhere(view, away_from, master)
    if away_from is None and not force:
        return Refuse(
            "no_target",
            "nothing was moved",
            "neither away_from nor force is given",
            f"Give away_from: {master} to move the master away from there.",
        )
    good = [one for one in view.nodes if one.address != master and why_not_replica(view, one, max_lag) is None]
    sentinels = [one for one in view.voters if one.quorum_ok and one.flags == ("master",) and not one.tilt]
    # Not the one beside the master, when there is a choice: that host is what often goes away next.
    sentinels.sort(key=lambda one: (host_of(one.address) == host_of(master), one.address))
    if not sentinels:
        return _master_ill(view, master)
    chosen = sentinels[0]
    candidates = _candidates(chosen, good)
    return (
        _why_not_roles(view, master)
        or _why_not_master(view, master)
        or _why_not_replicas(view, master, good, chosen, candidates, max_lag)
        or _why_not_writable(view, master, good)
        or _why_not_settled(view)
        or _why_not_again(view, force)
        or Move(
            chosen.address,
            master,
            tuple(candidates),
            tuple(sorted(one.address for one in good)),
            _pause(view) if pause_writes else 0,
        )
    )


def _no_master(view: View) -> Refuse:
    named = ", ".join(f"{one.address} names {one.sees_master}" for one in view.sentinels if one.reachable)
    return Refuse(
        "no_master",
        "no master is agreed",
        named or "no Sentinel answers",
        "Look with redis_sentinel_info, and let the Sentinels settle.",
    )


def _why_no_order(view: View) -> Refuse | None:
    """What forbids any order, whoever is master."""
    answering = sum(one.reachable for one in view.sentinels)
    if not answering:
        said = "; ".join(str(one.error) for one in view.sentinels)
        return Refuse("no_sentinel", "no Sentinel answers", said, "Start the Sentinels, or correct their addresses.")
    if view.in_progress:
        return Refuse(
            "in_progress",
            "a failover is going on",
            f"{', '.join(view.in_progress)} says so",
            "Wait until redis_sentinel_info says healthy, and run again.",
        )
    if view.master is None:
        return _no_master(view)
    if not view.majority:
        return Refuse(
            "no_quorum",
            "the master stays where it is",
            f"{len(view.voters)} of {view.total} Sentinels name {view.master} as master, {answering} answer",
            "Bring the other Sentinels back first.",
        )
    return None


def _elsewhere(view: View, away_from: str, master: str) -> Nothing | Refuse:
    node = view.node(away_from)
    if node is not None and node.role == "master":
        return Refuse(
            "two_masters",
            f"{away_from} should not be master",
            f"it says that it is, and the Sentinels name {master}",
            "Wait until the Sentinels have made it a replica; if they do not know it, give it REPLICAOF.",
        )
    return Nothing(master, f"the master is {master}, not {away_from}")


def _master_ill(view: View, master: str) -> Refuse:
    said = "; ".join(f"{one.address} says {','.join(one.flags)}, {one.quorum_says}" for one in view.voters)
    return Refuse(
        "master_ill",
        f"{master} is not moved",
        f"no Sentinel is fit to be given the order: {said}",
        "Sentinels replace a dead master by themselves; wait, and look with redis_sentinel_info.",
    )


def _why_not_roles(view: View, master: str) -> Refuse | None:
    node = view.node(master)
    if node is None or not node.reachable or node.role != "master":
        says = "is not among the nodes" if node is None else node.error or f"says {node.role}"
        return Refuse(
            "role_mismatch",
            f"{master} is not moved",
            f"Sentinels name it as master, and itself: {says}",
            "Look with redis_sentinel_info, and let the Sentinels settle.",
        )
    others = [one.address for one in view.nodes if one.role == "master" and one.address != master]
    if others:
        return Refuse(
            "two_masters",
            f"{master} is not moved",
            f"{', '.join(others)} says that it is master too",
            "Wait until the Sentinels have made it a replica; if they do not know it, give it REPLICAOF.",
        )
    return None


def _why_not_master(view: View, master: str) -> Refuse | None:
    if not view.quorum:
        found = sum(one.quorum_ok is True for one in view.voters)
        said = "; ".join(str(one.quorum_says) for one in view.voters if not one.quorum_ok)
        return Refuse(
            "no_quorum",
            f"{master} is not moved",
            f"{found} of {view.total} Sentinels find their quorum{': ' if said else ''}{said}",
            "Bring the other Sentinels back, or clear stale ones with redis_sentinel_reset.",
        )
    ill = [f"{one.address} says {','.join(one.flags)}" for one in view.voters if one.flags != ("master",)]
    ill += [f"{one.address} is in TILT" for one in view.sentinels if one.tilt]
    if ill:
        return Refuse(
            "master_ill",
            f"{master} is not moved",
            "; ".join(ill),
            "Sentinels replace a dead master by themselves; wait, and look with redis_sentinel_info.",
        )
    return None


def _electable(sentinel: Sentinel) -> dict[str, int]:
    """Replicas that Sentinel may promote, with their priority; the lowest goes first, 0 never."""
    return {
        peer.address: 100 if peer.priority is None else peer.priority
        for peer in sentinel.known_replicas
        if peer.flags == ("slave",) and peer.priority != 0
    }


def _candidates(sentinel: Sentinel, good: t.Sequence[Node]) -> list[str]:
    """The good replicas among those that Sentinel will choose from."""
    electable = _electable(sentinel)
    first = min(electable.values(), default=0)
    return sorted(one.address for one in good if electable.get(one.address) == first)


def _why_not_replicas(
    view: View,
    master: str,
    good: t.Sequence[Node],
    sentinel: Sentinel,
    candidates: t.Sequence[str],
    max_lag: int,
) -> Refuse | None:
    if candidates:
        return None
    bad = [f"{one.address} {why_not_replica(view, one, max_lag) or 'is good'}" for one in _others(view, master)]
    if good:
        priorities = ", ".join(f"{name} {number}" for name, number in sorted(_electable(sentinel).items()))
        return Refuse(
            "bad_candidate",
            f"{master} is not moved",
            f"Sentinel would promote a replica that is not good: {'; '.join(bad)}; priorities: {priorities or 'none'}",
            "Correct replica-priority, or repair that replica.",
        )
    return Refuse(
        "no_good_replica",
        f"{master} is not moved",
        "; ".join(bad) or "it has no replica",
        f"Repair a replica: its link must be up, its lag at most {max_lag} bytes.",
    )


def _others(view: View, master: str) -> list[Node]:
    return [one for one in view.nodes if one.address != master]


def _why_not_writable(view: View, master: str, good: t.Sequence[Node]) -> Refuse | None:
    wanted = max((one.min_replicas or 0 for one in view.nodes), default=0)
    if len(good) - 1 >= wanted:
        return None
    bad = [f"{one.address} is not good" for one in _others(view, master) if one not in good]
    return Refuse(
        "too_few_replicas",
        f"{master} is not moved",
        f"the new master would have {len(good) - 1} good replicas without the old one, and min-replicas-to-write is "
        f"{wanted}: it would refuse writes{'; ' if bad else ''}{'; '.join(bad)}",
        "Repair the other replicas first.",
    )


def _why_not_settled(view: View) -> Refuse | None:
    said = []
    for one in view.sentinels:
        reasons = (why_not_seen_as_replica(one, peer) for peer in one.known_replicas if _is_listed(view, peer))
        said += [f"{one.address} {reason}" for reason in reasons if reason is not None]
    if not said:
        return None
    return Refuse(
        "not_settled",
        "the master stays where it is",
        "; ".join(said) + ". Such a Sentinel would turn a promoted replica back",
        "Sentinels look every ten seconds: run again in a moment.",
    )


def _is_listed(view: View, peer: Peer) -> bool:
    """An ill replica is no hindrance, nor is a stale entry: Sentinel does not promote what is down."""
    node = view.node(peer.address)
    return peer.flags == ("slave",) and node is not None and node.reachable and node.master_link == "up"


def _why_not_again(view: View, force: bool) -> Refuse | None:
    # A Sentinel that was restarted remembers less; the one that remembers most counts.
    since = max(one.seconds_as_master for one in view.voters)
    needed = max(one.failover_timeout_ms for one in view.voters) / 1000
    if force or since >= needed:
        return None
    return Refuse(
        "too_soon",
        "the master stays where it is",
        f"it has been master for {since:.0f} s, and failover-timeout is {needed:g} s",
        f"Run again in {needed - since:.0f} s, or give force: true.",
    )


def _pause(view: View) -> int:
    """Four fifths of the shortest patience of a Sentinel."""
    patience = min((one.down_after_ms for one in view.voters if one.down_after_ms > 0), default=0)
    return min(MAX_PAUSE_MS, patience * 4 // 5)


# -- the way there -----------------------------------------------------------------------------------------------------


def caught_up(view: View, move: Move) -> str | None:
    """Whether a replica that may be promoted has everything that the paused master has."""
    node = view.node(move.master)
    if node is None or node.offset is None or node.role != "master":
        return f"{move.master} is not a master any more"
    lags = [view.lag(one) for one in view.nodes if one.address in move.candidates]
    known = [lag for lag in lags if lag is not None]
    if not known:
        return "no candidate follows any more"
    return None if min(known) == 0 else f"the best candidate still lags {min(known)} bytes behind"


def switched(view: View, old: str) -> str | None:
    """The new master, when a majority of all Sentinels and its own word agree on it."""
    master = view.master
    node = view.node(master)
    if master is None or master == old or not view.majority:
        return None
    return master if node is not None and node.reachable and node.role == "master" else None


def must_demote(view: View, old: str) -> str | None:
    """The new master that the old one is to be told to follow, when it still calls itself master."""
    node = view.node(old)
    if node is None or not node.reachable or node.role != "master":
        return None
    return switched(view, old)


def why_not_moved(view: View, move: Move) -> str | None:
    """What is still missing before the move is over; whether the old master answers is judged apart."""
    new = switched(view, move.master)
    if new is None:
        says = [f"{one.address} names {one.sees_master or one.error}" for one in view.sentinels]
        says += [f"{one.address} says {one.role or one.error}" for one in view.nodes]
        return "; ".join(says)
    if view.in_progress:
        return f"{', '.join(view.in_progress)} has not ended the failover"
    others = [one.address for one in view.nodes if one.role == "master" and one.address != new]
    if others:
        return f"{', '.join(others)} says master beside {new}"
    must = [one for one in view.nodes if one.address in (move.master, *move.followers) and one.address != new]
    for node in must:
        if node.address == move.master and not node.reachable:
            continue
        if node.follows != new or node.master_link != "up":
            state = node.link_state if node.reachable else node.error
            return f"{node.address} does not follow {new} yet: {state}"
    return None


def given_up(view: View, move: Move) -> bool:
    """Whether the Sentinels name the old master, and nobody is failing over."""
    return view.majority and view.master == move.master and not view.in_progress


# -- reset -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reset:
    """One Sentinel that is to forget, and the entries for which it is."""

    sentinel: str
    stale: tuple[str, ...]


def plan_reset(view: View) -> tuple[Reset, ...] | Refuse:
    """Which Sentinels have stale entries. Empty when none has."""
    master = view.master
    refusal = _why_no_order(view)
    if refusal is not None or master is None:
        return refusal or _no_master(view)
    stale = [(one, _stale(view, one)) for one in sorted(view.sentinels, key=lambda one: one.address)]
    steps = tuple(Reset(one.address, tuple(peer.address for peer in peers)) for one, peers in stale if peers)
    if not steps:
        return ()
    return _why_not_forget(view, master, [peer for _one, peers in stale for peer in peers]) or steps


def _stale(view: View, one: Sentinel) -> list[Peer]:
    sentinels = {sentinel.address for sentinel in view.sentinels}
    nodes = {node.address for node in view.nodes} | {one.sees_master}
    return [
        *(peer for peer in one.known_sentinels if peer.address not in sentinels),
        *(peer for peer in one.known_replicas if peer.address not in nodes),
    ]


def _why_not_forget(view: View, master: str, stale: t.Sequence[Peer]) -> Refuse | None:
    node = view.node(master)
    listed = set() if node is None else set(node.replicas)
    alive = sorted({peer.address for peer in stale if "s_down" not in peer.flags or peer.address in listed})
    if alive:
        return Refuse(
            "not_retired",
            "no Sentinel is reset",
            f"{', '.join(alive)} is not listed, and is alive: it would be learned again",
            "Stop it first, or list it.",
        )
    silent = [one.address for one in view.sentinels if not one.reachable]
    silent += [one.address for one in view.nodes if not one.reachable]
    if silent:
        return Refuse(
            "somebody_silent",
            "no Sentinel is reset",
            f"{', '.join(silent)} does not answer and would be forgotten too",
            "Bring it back, or take it out of the list.",
        )
    ill = [reason for one in view.sentinels for reason in _why_not_knowing(view, one)]
    if ill or sentinel_plan.why_no_master(view) is not None:
        return Refuse(
            "not_settled",
            "no Sentinel is reset",
            "; ".join(ill) or str(sentinel_plan.why_no_master(view)),
            "Look with redis_sentinel_info, and let the Sentinels settle.",
        )
    return None


def _why_not_knowing(view: View, one: Sentinel) -> list[str]:
    """What a Sentinel does not know, or knows as ill, of those that are listed."""
    if not one.reachable:
        return [f"{one.address} does not answer: {one.error}"]
    if one.sees_master != view.master or one.flags != ("master",):
        return [f"{one.address} says {one.sees_master} is {','.join(one.flags)}"]
    wanted = {other.address: "sentinel" for other in view.sentinels if other.address != one.address}
    wanted.update({node.address: "slave" for node in view.nodes if node.address != view.master})
    known = {peer.address: peer for peer in (*one.known_sentinels, *one.known_replicas)}
    return [
        f"{one.address} {'does not know' if address not in known else 'has as ill'} {address}"
        for address, flag in sorted(wanted.items())
        if address not in known or known[address].flags != (flag,)
    ]


def why_not_learned(view: View, sentinel: str) -> str | None:
    """What a Sentinel that was reset does not know again."""
    if not view.majority:
        return "no majority of Sentinels names a master"
    one = next(one for one in view.sentinels if one.address == sentinel)
    missing = _why_not_knowing(view, one)
    if missing:
        return "; ".join(missing)
    if one.quorum_ok is not True:
        return f"{sentinel} finds no quorum: {one.quorum_says}"
    left = [peer.address for peer in _stale(view, one)]
    return f"{sentinel} still knows {', '.join(left)}" if left else None
