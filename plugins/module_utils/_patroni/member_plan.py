# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose turn it is when every member is restarted, and whether a member may be made anew.

Laws of restarting (those of ``plan.next_restart`` hold as well: one at a time, all others well, the leader last):

1. a member is restarted once, and it was when its PostgreSQL has another start time than when the run began; one that
   somebody else restarted meanwhile is not restarted again;
2. with ``leader: skip`` whoever leads at that moment is left alone, also when the lead moved since the last look.

Laws of making a member anew, which throws away what it holds:

3. never the leader, and never without a leader that runs: there would be nothing to copy;
4. never the last standby that could take over, unless that is allowed by name (``allow_alone``); ``force`` is no such
   word. One that Patroni names synchronous counts even when it is ill: it may hold the only other copy of a commit;
5. one that is well, or that has a newer history than the leader, only by ``force``;
6. a copy that is being made is waited for and never begun again, also with ``force``: that is how a run that was cut
   off goes on;
7. it is over when the member streams on the leader's timeline and its PostgreSQL has another start time than before.
   Patroni's 200 says only that it has begun.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import typing as t

from .._common.errors import Refuse
from . import plan

COPYING = "creating replica"
# The request knows from_leader since this version; older ones ignore it and answer 200.
FROM_LEADER_SINCE = (4, 1)


@dataclasses.dataclass(frozen=True)
class Own:
    """What a member says of itself (``GET /patroni``). ``started`` None: its PostgreSQL gives no answer."""

    state: str
    started: str | None
    version: tuple[int, ...] = ()


def parse_own(data: t.Any) -> Own:
    """The answer of ``GET /patroni``. Raises ValueError that names the place when its shape is wrong."""
    if not isinstance(data, t.Mapping) or not isinstance(data.get("state"), str):
        raise ValueError("Patroni /patroni: state: missing")
    started = data.get("postmaster_start_time")
    patroni = data.get("patroni")
    version = str(patroni.get("version", "")) if isinstance(patroni, t.Mapping) else ""
    return Own(
        state=data["state"],
        started=started if isinstance(started, str) else None,
        version=tuple(int(part) for part in re.findall(r"\d+", version)[:3]),
    )


def moment(text: str) -> datetime.datetime | None:
    """A time with its zone, as ISO 8601 or as Patroni writes it; None when it is not one."""
    try:
        found = datetime.datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", text.strip()))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


# -- restarting everybody ----------------------------------------------------------------------------------------------


def still_due(now: t.Mapping[str, str | None], noted: t.Mapping[str, str | None], before: str | None) -> set[str]:
    """Who is still to be restarted: by the start times of now and of when the run began, or older than ``before``."""
    limit = None if before is None else moment(before)
    due = set()
    for name, started in now.items():
        since = None if started is None else moment(started)
        if limit is not None and since is not None:
            if since < limit:
                due.add(name)
        elif started is None or started == noted.get(name):
            due.add(name)
    return due


def why_not_cutoff(before: str | None) -> Refuse | None:
    """Whether the given time can be compared with the members' own."""
    if before is None or moment(before) is not None:
        return None
    return Refuse(
        "bad_time",
        f"started_before is {before!r}",
        "it is no time with a zone",
        "Write it like 2026-01-31T22:00:00Z.",
    )


def next_in_turn(
    view: plan.View, due: t.Collection[str], wanted: t.Sequence[str], skip_leader: bool, max_lag: int = 1024**2
) -> plan.Member | Refuse | None:
    """Who of ``due`` restarts now; None when nobody is left to restart."""

    def marked(one: plan.Member) -> plan.Member:
        return dataclasses.replace(one, pending_restart=one.name in due and not (skip_leader and one.is_leader))

    turned = dataclasses.replace(view, members=tuple(marked(one) for one in view.members))
    return plan.next_restart(turned, wanted, max_lag)


# -- making a member anew ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Wish:
    """Which member, and what may be lost by it."""

    name: str
    members: tuple[str, ...]
    force: bool = False
    allow_alone: bool = False
    from_leader: bool = False
    max_lag: int = 1024**2


@dataclasses.dataclass(frozen=True)
class Begin:
    """Ask Patroni for it. ``started`` is the start time that must be another one afterwards."""

    member: plan.Member
    leader: str
    body: t.Mapping[str, t.Any]
    started: str | None
    discards: str


@dataclasses.dataclass(frozen=True)
class Join:
    """A copy is being made already: wait for it."""

    member: plan.Member
    leader: str


def plan_reinit(view: plan.View, own: Own | None, wish: Wish) -> Begin | Join | Refuse:
    """What to do, from one look. ``own`` None: the member itself gave no answer."""
    member = next((one for one in view.members if one.name == wish.name), None)
    leader = view.leader
    refusal = _why_no_such_member(wish, member) or _why_no_source(wish, leader)
    if refusal is not None or member is None or leader is None:
        return refusal or _away(wish)
    if member.is_leader:
        return is_leader(wish.name)
    if member.state == COPYING or (own is not None and own.state == COPYING):
        return Join(member, leader.name)
    if own is None:
        return Refuse(
            "member_silent",
            f"{wish.name} is not made anew",
            f"Patroni on {wish.name} gives no answer, and it is the one that copies",
            f"Start it there: systemctl start dedicated-postgres, then docker logs postgres on {wish.name}.",
        )
    return (
        _why_not_alone(view, member, leader, wish)
        or _why_not_lose(member, leader, wish)
        or _why_not_from_leader(view, member, own, wish)
        or Begin(
            member,
            leader.name,
            {"from_leader": True} if wish.from_leader and own.version >= FROM_LEADER_SINCE else {},
            own.started,
            _discards(member, leader, wish.max_lag),
        )
    )


def _why_no_such_member(wish: Wish, member: plan.Member | None) -> Refuse | None:
    if wish.name not in wish.members:
        return Refuse(
            "unknown_member",
            f"{wish.name} is none of the members" if wish.name else "no member is named",
            f"there are {', '.join(sorted(wish.members)) or 'none'}",
            "Name one of these.",
        )
    return _away(wish) if member is None else None


def _away(wish: Wish) -> Refuse:
    return Refuse(
        "member_away",
        f"{wish.name} is not made anew",
        "Patroni does not know it: its own Patroni does not run, or reaches no etcd",
        f"Start it there: systemctl start dedicated-postgres, then docker logs postgres on {wish.name}. One whose data "
        "directory is empty copies from the leader by itself.",
    )


def _why_no_source(wish: Wish, leader: plan.Member | None) -> Refuse | None:
    if leader is not None and leader.state == "running":
        return None
    return no_leader(
        wish.name, "there is no leader" if leader is None else f"the leader {leader.name} is {leader.state}"
    )


def no_leader(name: str, why: str) -> Refuse:
    return Refuse(
        "no_leader",
        f"{name} is not made anew",
        f"{why}, so there is nothing to copy, and {name} may hold what no other member has",
        "Bring a leader back first (patronictl list).",
    )


def is_leader(name: str) -> Refuse:
    return Refuse(
        "is_leader",
        f"{name} is not made anew",
        "it is the leader: its data are the cluster's",
        f"Move the lead to another member first, if it is really {name} that is meant.",
    )


def _why_not_alone(view: plan.View, member: plan.Member, leader: plan.Member, wish: Wish) -> Refuse | None:
    synchronous = member.role in plan.SYNC
    counts = synchronous or plan.why_not_member(member, leader, wish.max_lag) is None
    others = [one for one in view.members if one.name not in (member.name, leader.name)]
    reasons = [plan.why_not_member(one, leader, wish.max_lag) for one in others]
    if not counts or wish.allow_alone or None in reasons:
        return None
    known = {one.name for one in view.members}
    said = [reason for reason in reasons if reason is not None]
    said += [f"{name} is not a member" for name in sorted(set(wish.members) - known)]
    kind = "synchronous standby" if synchronous else "standby that streams"
    return Refuse(
        "last_standby",
        f"{member.name} is not made anew",
        f"it is the last {kind} ({'; '.join(said) or 'there is no other member'}): until the copy is made "
        f"{leader.name} would hold the only good copy of the database",
        "Bring another standby back first, or allow it with allow_alone after a backup.",
    )


def _why_not_lose(member: plan.Member, leader: plan.Member, wish: Wish) -> Refuse | None:
    if wish.force:
        return None
    if plan.why_not_member(member, leader, wish.max_lag) is None:
        return Refuse(
            "healthy",
            f"{member.name} is not made anew",
            f"nothing is wrong with it; lost would be {_discards(member, leader, wish.max_lag)}",
            "If it is to be made anew all the same, give force.",
        )
    if member.timeline is not None and leader.timeline is not None and member.timeline > leader.timeline:
        return Refuse(
            "newer_history",
            f"{member.name} is not made anew",
            f"it is on timeline {member.timeline}, the leader {leader.name} on {leader.timeline}: it was promoted "
            "later, and may hold what the leader has not",
            "Find out which of the two is right. To throw away the member's, give force.",
        )
    return None


def _why_not_from_leader(view: plan.View, member: plan.Member, own: Own, wish: Wish) -> Refuse | None:
    if not wish.from_leader or own.version >= FROM_LEADER_SINCE:
        return None
    sources = [one.name for one in view.members if one.tags.get("clonefrom") and one.name != member.name]
    # Without such a tag Patroni copies from the leader in any case.
    if all(name == getattr(view.leader, "name", None) for name in sources):
        return None
    version = ".".join(str(part) for part in own.version) or "unknown"
    return Refuse(
        "from_leader_unknown",
        f"{member.name} is not made anew",
        f"Patroni {version} there cannot be told to copy from the leader, and would copy from one of "
        f"{', '.join(sources)} (tag clonefrom)",
        "Take the tag off these members, update Patroni, or leave from_leader out.",
    )


def _discards(member: plan.Member, leader: plan.Member, max_lag: int) -> str:
    """What the member holds, in words."""
    reason = plan.why_not_member(member, leader, max_lag)
    if reason is None:
        kind = "synchronous " if member.role in plan.SYNC else ""
        return f"a good {kind}copy of the database (timeline {member.timeline}, {member.lag} bytes behind)"
    return f"the data directory of {member.name}, and in it whatever the leader {leader.name} has not ({reason})"


RUNNING, BUSY = "running", "busy"
_OURS = re.compile(r"(reinitialize|bootstrap\b.*) already in progress")


def heard(name: str, answer: str) -> str | Refuse:
    """What Patroni's 503 means: a copy is running, the member is busy with something else, or a refusal."""
    if _OURS.search(answer):
        return RUNNING
    if "already in progress" in answer:
        return BUSY
    if "I am the leader" in answer:
        return is_leader(name)
    if "no leader" in answer:
        return no_leader(name, "there is no leader any more")
    return Refuse(
        "reinit_refused",
        f"{name} is not made anew",
        f"Patroni says: {answer}",
        f"Look into docker logs postgres on {name}.",
    )


def why_not_anew(view: plan.View | None, own: Own | None, decision: Begin | Join, max_lag: int) -> str | None:
    """What is still missing before the copy is done."""
    name = decision.member.name
    if view is None:
        return "no member answers"
    if view.leader is None:
        return "there is no leader"
    member = next((one for one in view.members if one.name == name), None)
    if member is None:
        return f"{name} is not a member"
    if own is None:
        return f"{name} gives no answer"
    if own.state != "running" or own.started is None:
        return f"{name} is {own.state}"
    if isinstance(decision, Begin) and own.started == decision.started:
        return f"{name} still runs since {own.started}"
    return plan.why_not_member(member, view.leader, max_lag)
