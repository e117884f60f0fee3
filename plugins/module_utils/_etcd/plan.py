# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of an etcd cluster, what to think of it, who may join or leave, and who may read and write.

Invariants:

1. a member is added only when every other member is registered alike everywhere, has been started, answers, follows
   one answering leader and raises no alarm, so that never more than one member is on its way;
2. a member is removed only when those that are left are well and form a quorum among themselves; neither the last
   member nor one that answers while its host claims to have no data is ever removed;
3. a new cluster is formed only when no other member answers and none is known to have data;
4. nothing is decided from answers that contradict each other;
5. authentication is enabled last, and only with a password of root that this very plan has set;
6. a space alarm is cleared only when every member's database is known to be below the quota.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
import typing as t

from .._common.errors import Refuse

# Refusals that another look may lift.
MAY_PASS = frozenset(
    {
        "answers_differ",
        "cluster_is_silent",
        "no_answer",
        "no_quorum",
        "others_not_healthy",
        "quorum_lost",
        "size_not_known",
    }
)

_ALARM_IN_ERROR = re.compile(r"memberID:(\d+) alarm:(\w+)")


def hex_id(number: int) -> str:
    """An id as etcdctl prints it."""
    return format(number, "x")


# -- the cluster ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Member:
    """One member as the cluster has registered it."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    learner: bool = False

    @property
    def started(self) -> bool:
        """Whether it was ever up. A member of the first hour has its name before; only its own start publishes its
        client addresses."""
        return bool(self.client_urls)

    @property
    def label(self) -> str:
        return self.name or next(iter(self.peer_urls), hex_id(self.id))

    @property
    def registration(self) -> tuple[int, tuple[str, ...], bool]:
        return (self.id, tuple(sorted(self.peer_urls)), self.learner)


@dataclasses.dataclass(frozen=True)
class Status:
    """One member as it sees itself. ``leader`` 0: it knows none."""

    member_id: int
    leader: int
    version: str
    db_size: int
    db_size_in_use: int
    raft_index: int
    raft_term: int
    errors: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Alarm:
    member_id: int
    kind: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one address says. ``own``: it is this host's own member, whose word about the others does not count."""

    url: str
    cluster_id: int
    members: tuple[Member, ...]
    status: Status
    own: bool = False


@dataclasses.dataclass(frozen=True)
class View:
    """The cluster at one moment.

    ``members`` is the leader's list, or else that of who is furthest in the log. ``addresses`` are where members
    answered. ``differing`` are members that list others, ``foreign`` addresses of another cluster, ``stray`` addresses
    of members that are not registered, ``silence`` what became of the addresses that did not answer. ``alarms`` None:
    they could not be read.
    """

    cluster_id: int
    members: tuple[Member, ...]
    statuses: t.Mapping[int, Status]
    leader_id: int
    addresses: t.Mapping[int, str] = dataclasses.field(default_factory=dict)
    alarms: tuple[Alarm, ...] | None = None
    differing: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    stray: tuple[str, ...] = ()
    silence: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    def member(self, member_id: int) -> Member | None:
        return next((one for one in self.members if one.id == member_id), None)

    @property
    def leader(self) -> Member | None:
        return self.member(self.leader_id)

    @property
    def voters(self) -> tuple[Member, ...]:
        return tuple(one for one in self.members if not one.learner)

    @property
    def quorum(self) -> int:
        return len(self.voters) // 2 + 1

    def alarms_of(self, member_id: int) -> tuple[str, ...]:
        return tuple(sorted({one.kind for one in self.all_alarms() if one.member_id == member_id}))

    def all_alarms(self) -> tuple[Alarm, ...]:
        """As the cluster lists them; without a quorum, as the members' own errors name them."""
        if self.alarms is not None:
            return self.alarms
        found = {
            Alarm(int(number), kind)
            for status in self.statuses.values()
            for error in status.errors
            for number, kind in _ALARM_IN_ERROR.findall(error)
        }
        return tuple(sorted(found, key=lambda one: (one.member_id, one.kind)))


def _number(data: t.Mapping[str, t.Any], key: str, where: str) -> int:
    """Numbers of 64 bits come as strings, and not at all when they are 0."""
    value = data.get(key, 0)
    if isinstance(value, bool):
        raise ValueError(f"etcd {where}: {key}: not a number")
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"etcd {where}: {key}: not a number") from None


def _header(data: t.Any, where: str) -> t.Mapping[str, t.Any]:
    header = data.get("header") if isinstance(data, t.Mapping) else None
    if not isinstance(header, t.Mapping):
        raise ValueError(f"etcd {where}: header: missing")
    return header


def _texts(data: t.Mapping[str, t.Any], key: str, where: str) -> tuple[str, ...]:
    value = data.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"etcd {where}: {key}: not a list of texts")
    return tuple(value)


def parse_members(data: t.Any) -> tuple[int, tuple[Member, ...]]:
    """The answer of ``/v3/cluster/member/list``: the cluster's id and its members."""
    where = "member/list"
    cluster_id = _number(_header(data, where), "cluster_id", where)
    entries = data.get("members")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"etcd {where}: members: missing")
    members = []
    for number, entry in enumerate(entries):
        place = f"{where}: members/{number}"
        if not isinstance(entry, t.Mapping) or not entry.get("ID"):
            raise ValueError(f"etcd {place}: ID: missing")
        members.append(
            Member(
                id=_number(entry, "ID", place),
                name=str(entry.get("name") or ""),
                peer_urls=_texts(entry, "peerURLs", place),
                client_urls=_texts(entry, "clientURLs", place),
                learner=bool(entry.get("isLearner")),
            )
        )
    return cluster_id, tuple(sorted(members, key=lambda one: (one.name, one.id)))


def parse_status(data: t.Any) -> Status:
    """The answer of ``/v3/maintenance/status``."""
    where = "maintenance/status"
    member_id = _number(_header(data, where), "member_id", where)
    if not member_id:
        raise ValueError(f"etcd {where}: member_id: missing")
    size = _number(data, "dbSize", where)
    return Status(
        member_id=member_id,
        leader=_number(data, "leader", where),
        version=str(data.get("version") or ""),
        db_size=size,
        db_size_in_use=_number(data, "dbSizeInUse", where),
        raft_index=_number(data, "raftIndex", where),
        raft_term=_number(data, "raftTerm", where),
        errors=_texts(data, "errors", where),
    )


def parse_alarms(data: t.Any) -> tuple[Alarm, ...]:
    """The answer of ``/v3/maintenance/alarm``."""
    where = "maintenance/alarm"
    _header(data, where)
    entries = data.get("alarms") or []
    if not isinstance(entries, list) or not all(isinstance(one, t.Mapping) for one in entries):
        raise ValueError(f"etcd {where}: alarms: not a list of mappings")
    return tuple(Alarm(_number(one, "memberID", where), str(one.get("alarm") or "NONE")) for one in entries)


def _furthest(answers: t.Iterable[Answer]) -> Answer:
    """Whose word counts: who leads, else who is furthest. Not this host's own member while any other speaks."""
    return max(
        answers,
        key=lambda one: (
            not one.own,
            one.status.leader == one.status.member_id,
            one.status.raft_term,
            one.status.raft_index,
            one.url,
        ),
    )


def assemble(answers: t.Sequence[Answer], silence: t.Mapping[str, str] | None = None) -> View | None:
    """One view out of what the addresses say; None when none spoke."""
    if not answers:
        return None
    others = [one for one in answers if not one.own] or list(answers)
    sizes: dict[int, int] = {}
    for one in others:
        sizes[one.cluster_id] = sizes.get(one.cluster_id, 0) + 1
    authority = _furthest(one for one in others if sizes[one.cluster_id] == max(sizes.values()))
    listed = {one.registration for one in authority.members}
    registered = {one.id: one for one in authority.members}
    statuses: dict[int, Status] = {}
    addresses: dict[int, str] = {}
    differing, foreign, stray = [], [], []
    for one in answers:
        status = one.status
        if one.cluster_id != authority.cluster_id:
            foreign.append(one.url)
        elif status.member_id not in registered:
            stray.append(one.url)
        else:
            known = statuses.get(status.member_id)
            if known is None or known.raft_index < status.raft_index:
                statuses[status.member_id] = status
                addresses[status.member_id] = one.url
            if {other.registration for other in one.members} != listed:
                differing.append(registered[status.member_id].label)
    return View(
        cluster_id=authority.cluster_id,
        members=authority.members,
        statuses=statuses,
        leader_id=authority.status.leader,
        addresses=addresses,
        differing=tuple(sorted(set(differing))),
        foreign=tuple(sorted(foreign)),
        stray=tuple(sorted(stray)),
        silence=dict(silence or {}),
    )


def _excepted(member: Member, names: t.Collection[str]) -> bool:
    """An exception is named, or given by its peer address while it has no name."""
    return member.name in names or any(url in names for url in member.peer_urls)


def why_not_member(view: View, member: Member, max_lag: int) -> str | None:
    """What is wrong with one member, or None."""
    if not member.started:
        return f"{member.label} is registered and was never started"
    status = view.statuses.get(member.id)
    if status is None:
        said = next((view.silence[url] for url in member.client_urls if url in view.silence), "no address is known")
        return f"{member.label} does not answer: {said}"
    if member.learner:
        return f"{member.label} is still a learner, without a vote"
    if not status.leader:
        return f"{member.label} knows no leader"
    if status.leader != view.leader_id:
        leader = view.leader
        return (
            f"{member.label} follows {hex_id(status.leader)}, "
            f"others {hex_id(view.leader_id) if leader is None else leader.label}"
        )
    leading = view.statuses.get(view.leader_id)
    if leading is not None and status.raft_term != leading.raft_term:
        return f"{member.label} is in term {status.raft_term}, the leader in {leading.raft_term}"
    lag = 0 if leading is None else leading.raft_index - status.raft_index
    if lag > max_lag:
        return f"{member.label} is {lag} entries of the log behind, more than {max_lag}"
    strange = [one for one in status.errors if not _ALARM_IN_ERROR.search(one)]
    return f"{member.label} reports: {'; '.join(strange)}" if strange else None


def _why_not_leader(view: View) -> str | None:
    if not view.leader_id:
        return "there is no leader"
    leader = view.leader
    if leader is None:
        return f"the leader {hex_id(view.leader_id)} is not a member"
    status = view.statuses.get(leader.id)
    # Followers name a dead leader until its time is over.
    if status is None:
        return f"the leader {leader.label} does not answer itself"
    if status.leader != leader.id:
        return f"{leader.label} is called the leader and does not lead"
    return None


def _why_not_alarms(view: View, names: t.Collection[str]) -> list[str]:
    reasons = []
    for alarm in view.all_alarms():
        member = view.member(alarm.member_id)
        if member is None:
            reasons.append(f"the alarm {alarm.kind} of a member that is gone ({hex_id(alarm.member_id)}) stands")
        elif not _excepted(member, names):
            reasons.append(f"{member.label} has raised the alarm {alarm.kind}")
    return reasons if view.alarms is not None else [*reasons, "the alarms could not be read"]


def why_not_healthy(
    view: View, expected: t.Sequence[str] = (), excepted: t.Collection[str] = (), max_lag: int = 1000
) -> list[str]:
    """Every reason against calling the cluster healthy; empty when it is. ``excepted`` members (names or peer
    addresses) may be ill, but the leader must answer, and a quorum too, whoever they are."""
    reasons = [
        f"{name} is not a member"
        for name in sorted(set(expected) - set(excepted) - {member.name for member in view.members})
    ]
    reasons += [f"{url} belongs to another cluster" for url in view.foreign]
    reasons += [f"{url} answers as a member that is not registered" for url in view.stray]
    leaderless = _why_not_leader(view)
    reasons += [leaderless] if leaderless else []
    answering = sum(member.id in view.statuses for member in view.voters)
    if answering < view.quorum:
        reasons.append(f"{answering} of {len(view.voters)} voting members answer, {view.quorum} are needed")
    for member in view.members:
        reason = None if _excepted(member, excepted) else why_not_member(view, member, max_lag)
        reasons += [reason] if reason else []
    labels = {member.label for member in view.members if _excepted(member, excepted)}
    reasons += [f"{label} lists other members" for label in view.differing if label not in labels]
    return reasons + _why_not_alarms(view, excepted)


# -- who is a member -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class MemberWish:
    """What one host wants to be."""

    state: str
    name: str = ""
    peer_url: str | None = None
    data_present: bool = False
    expected: tuple[str, ...] = ()
    with_data: tuple[str, ...] = ()
    allow_even: bool = False
    quota: int | None = None
    max_lag: int = 1000


@dataclasses.dataclass(frozen=True)
class Step:
    """A change: add, remove, transfer, disarm, defragment. ``member_id``: its object; ``to``: where leadership goes."""

    kind: str
    text: str
    member_id: int = 0
    peer_url: str = ""
    to: int = 0


@dataclasses.dataclass(frozen=True)
class Decision:
    """Steps to take, and how the host is to start then. ``bootstrap``: it forms a new cluster with the others."""

    steps: tuple[Step, ...] = ()
    bootstrap: bool = False
    join: bool = False


Judged = t.Union[Decision, Refuse]


def _contradiction(view: View) -> Refuse | None:
    if view.foreign:
        return Refuse(
            "two_clusters",
            "nothing is changed",
            f"the addresses belong to several clusters ({', '.join(view.foreign)} to another than the others)",
            "Take the wrong ones out, or move the data of those members aside.",
        )
    if view.differing:
        return Refuse(
            "answers_differ",
            "nothing is changed",
            f"{', '.join(view.differing)} lists other members than the leader",
            "Wait until they agree, and run again.",
        )
    return None


def _unhealthy(view: View, wish: MemberWish, what: str, excepted: t.Collection[str]) -> Refuse | None:
    reasons = why_not_healthy(view, (), excepted, wish.max_lag)
    if not reasons:
        return None
    return Refuse(
        "others_not_healthy", what, "the other members are not well: " + "; ".join(reasons), "Mend them, and run again."
    )


def _why_not_name(view: View, wish: MemberWish) -> Refuse | None:
    what = f"{wish.name} is not touched"
    for member in view.members:
        same_url = wish.peer_url is not None and wish.peer_url in member.peer_urls
        if same_url and member.name and member.name != wish.name:
            return Refuse(
                "peer_url_taken",
                what,
                f"its peer address {wish.peer_url} is that of {member.name}",
                "Correct the address, or remove the other member first.",
            )
        if member.name == wish.name and wish.peer_url is not None and not same_url:
            return Refuse(
                "name_taken",
                what,
                f"a member of this name is registered with {', '.join(member.peer_urls)} instead of {wish.peer_url}",
                "Correct the address, or remove the registered member first.",
            )
    return None


def find(view: View, wish: MemberWish) -> Member | None:
    """The registration that is meant: by name, or by peer address while it has no name."""
    for member in view.members:
        if (wish.name and member.name == wish.name) or (not member.name and wish.peer_url in member.peer_urls):
            return member
    return None


def _add(wish: MemberWish) -> Step:
    return Step("add", f"add {wish.name} with {wish.peer_url}", peer_url=wish.peer_url or "")


def _remove(member: Member) -> Step:
    return Step("remove", f"remove {member.label} ({hex_id(member.id)})", member_id=member.id)


def plan_present(view: View | None, wish: MemberWish) -> Judged:
    """How a host becomes a member, or stays one.

    Law: a host with data just starts, if it is registered; a host without joins a cluster that answers, by a
    registration of its own; only where none answers and nobody has data, a new cluster may be formed.
    """
    if wish.expected and wish.name not in wish.expected:
        return Refuse(
            "unexpected_name",
            f"{wish.name} is not added",
            f"the members are to be {', '.join(wish.expected)}",
            "Correct the name or the list.",
        )
    if view is None:
        if wish.with_data and not wish.data_present:
            return Refuse(
                "cluster_is_silent",
                f"{wish.name} is not started as a new cluster",
                f"no member answers, but {', '.join(wish.with_data)} have data of one",
                "Bring those back first.",
            )
        return Decision(bootstrap=True)
    refusal = _contradiction(view) or _why_not_name(view, wish)
    if refusal is not None:
        return refusal
    member = find(view, wish)
    if member is None and wish.data_present:
        return Refuse(
            "removed_member",
            f"{wish.name} is not started",
            "this host has data of a member, and the cluster knows no such member (it was removed)",
            "Move the data directory aside and run again: the host joins as a new member.",
        )
    if member is None:
        return _unhealthy(view, wish, f"{wish.name} is not added", ()) or Decision((_add(wish),), join=True)
    if wish.data_present:
        return Decision()
    if member.id in view.statuses:
        return Refuse(
            "member_runs",
            f"{wish.name} is not replaced",
            "this host claims to have no data, and the member answers",
            "Correct the name, the address, or the place where data is looked for.",
        )
    if not member.started:
        return _reuse(view, wish)
    # Its data is lost. Started with its old name on an empty disk, it would vote against what it once confirmed.
    return (
        _quorum_lost(view, member)
        or _unhealthy(view, wish, f"{wish.name} is not replaced", (wish.name,))
        or Decision((_remove(member), _add(wish)), join=True)
    )


def _reuse(view: View, wish: MemberWish) -> Judged:
    if _why_not_leader(view):
        return Refuse(
            "no_quorum",
            f"{wish.name} does not join",
            "it is registered, but " + str(_why_not_leader(view)),
            "Bring a quorum of the other members back.",
        )
    return Decision(join=True)


def _quorum_lost(view: View, gone: Member) -> Refuse | None:
    """Whether those that are left would be a quorum of themselves."""
    left = [one for one in view.voters if one.id != gone.id]
    well = sum(one.id in view.statuses for one in left)
    needed = len(left) // 2 + 1
    if well >= needed:
        return None
    return Refuse(
        "quorum_lost",
        f"{gone.label} is not removed",
        f"of the {len(left)} members that would be left {well} answer, {needed} are needed",
        "Bring the others back first.",
    )


def plan_absent(view: View | None, wish: MemberWish) -> Judged:
    """How a member leaves. Law: those that stay are well, a quorum, and an odd number; a leader hands over first."""
    if view is None:
        return Refuse(
            "no_answer",
            f"{wish.name} is not removed",
            "no member answers",
            "Bring the cluster back first, or remove its data where it is to go as a whole.",
        )
    refusal = _contradiction(view) or _why_not_name(view, wish)
    if refusal is not None:
        return refusal
    member = find(view, wish)
    if member is None:
        return Decision()
    refusal = _why_not_leave(view, wish, member)
    if refusal is not None:
        return refusal
    heir = _heir(view, member)
    if member.id == view.leader_id and heir is not None:
        step = Step("transfer", f"move leadership from {member.label} to {heir.label}", member.id, to=heir.id)
        return Decision((step, _remove(member)))
    return Decision((_remove(member),))


def _why_not_leave(view: View, wish: MemberWish, member: Member) -> Refuse | None:
    what = f"{member.label} is not removed"
    left = len([one for one in view.voters if one.id != member.id])
    if not left:
        return Refuse("last_member", what, "it is the last member", "Stop the stack instead; its data stays.")
    if not member.learner and left % 2 == 0 and not wish.allow_even:
        return Refuse(
            "even_left",
            what,
            f"{left} members would be left, which bear no more losses than {left - 1}",
            "Remove a second one right after it and allow the even number in between (allow_even).",
        )
    return _quorum_lost(view, member) or _unhealthy(view, wish, what, (member.label,))


def _heir(view: View, leader: Member) -> Member | None:
    """Who is to lead: of those that answer and vote, the one furthest in the log."""
    able = [one for one in view.voters if one.id != leader.id and one.id in view.statuses]
    return max(able, key=lambda one: (view.statuses[one.id].raft_index, one.name), default=None)


def plan_disarm(view: View | None, wish: MemberWish) -> Judged:
    """Whether the space alarm may go. Law: only when every member's database is known to be below the quota."""
    what = "the alarm is not cleared"
    if view is None:
        return Refuse("no_answer", what, "no member answers", "Bring the cluster back first.")
    refusal = _contradiction(view)
    if refusal is not None:
        return refusal
    if view.alarms is None or _why_not_leader(view):
        why = _why_not_leader(view) or "the alarms could not be read"
        return Refuse("no_quorum", what, why, "Bring a quorum of the members back.")
    raised = [one for one in view.alarms if one.kind == "NOSPACE"]
    if not raised:
        return Decision()
    unknown = [one.label for one in view.members if one.id not in view.statuses]
    if unknown:
        return Refuse(
            "size_not_known", what, f"{', '.join(unknown)} does not answer", "Bring it back, or remove the member."
        )
    quota = wish.quota or 0
    full = [one for one in view.members if view.statuses[one.id].db_size >= quota]
    if full:
        sizes = ", ".join(f"{one.label} has {view.statuses[one.id].db_size}" for one in full)
        return Refuse(
            "over_quota",
            what,
            f"the quota is {quota} bytes, and {sizes}; the next write would raise it again",
            "Compact and defragment first (etcdctl compact, etcd-defrag), or raise the quota.",
        )
    return Decision(tuple(Step("disarm", f"clear NOSPACE of {hex_id(one.member_id)}", one.member_id) for one in raised))


# A member with less free space than this is left alone (bytes): the next compaction would free as much again.
WORTH = 10 * 1024**2
# A smaller database is worth it when this share of it is free, and this many bytes.
WORTH_SHARE, WORTH_SMALL = 0.2, 1024**2


def worth_defragmenting(status: Status) -> bool:
    free = status.db_size - status.db_size_in_use
    return free >= WORTH or (free >= WORTH_SMALL and free >= WORTH_SHARE * status.db_size)


def plan_defragment(view: View | None, wish: MemberWish) -> Judged:
    """Whose free space is given back. Law: a member stands still meanwhile, so it is one after the other, the leader
    last, each only while all are well. A space alarm is no hindrance: this is the way out of it."""
    what = "nothing is defragmented"
    if view is None:
        return Refuse("no_answer", what, "no member answers", "Bring the cluster back first.")
    refusal = _contradiction(view)
    if refusal is not None:
        return refusal
    alarms = None if view.alarms is None else tuple(one for one in view.alarms if one.kind != "NOSPACE")
    refusal = _unhealthy(dataclasses.replace(view, alarms=alarms), wish, what, ())
    if refusal is not None:
        return refusal
    members = sorted(view.members, key=lambda one: (one.id == view.leader_id, one.name))
    return Decision(tuple(_defragment(view, one) for one in members if worth_defragmenting(view.statuses[one.id])))


def _defragment(view: View, member: Member) -> Step:
    status = view.statuses[member.id]
    free = status.db_size - status.db_size_in_use
    return Step("defragment", f"defragment {member.label}: {free} of {status.db_size} bytes are free", member.id)


def plan_member(view: View | None, wish: MemberWish) -> Judged:
    planners = {
        "present": plan_present,
        "absent": plan_absent,
        "disarmed": plan_disarm,
        "defragmented": plan_defragment,
    }
    return planners[wish.state](view, wish)


def membership(members: t.Iterable[Member], wish: MemberWish) -> dict[str, list[str]]:
    """Name and peer addresses of each, sorted; this host's own registration under its name, a nameless other one under
    its id (etcd compares addresses, and wants distinct names only)."""
    named = {}
    for member in members:
        own = not member.name and wish.peer_url in member.peer_urls
        named[wish.name if own else member.name or hex_id(member.id)] = sorted(member.peer_urls)
    return dict(sorted(named.items()))


def predicted(members: t.Sequence[Member], steps: t.Iterable[Step], wish: MemberWish) -> tuple[Member, ...]:
    """The members after the steps. What is added has no id yet."""
    result = list(members)
    for step in steps:
        if step.kind == "remove":
            result = [one for one in result if one.id != step.member_id]
        elif step.kind == "add":
            result.append(Member(0, wish.name, (step.peer_url,)))
    return tuple(result)


def initial_cluster(members: t.Iterable[Member], wish: MemberWish) -> str:
    """etcd's ``initial-cluster``."""
    return ",".join(f"{name}={url}" for name, urls in membership(members, wish).items() for url in urls)


# -- who may read and write ----------------------------------------------------------------------------------------

ROOT = "root"


@dataclasses.dataclass(frozen=True, order=True)
class Range:
    """Keys from ``key`` up to ``end``; without an end the one key."""

    key: bytes
    end: bytes = b""

    @classmethod
    def of_prefix(cls, prefix: str) -> Range:
        key = prefix.encode()
        # The smallest key that no longer has the prefix. No prefix: etcd's way to say all keys.
        stem = key.rstrip(b"\xff")
        return cls(key, stem[:-1] + bytes([stem[-1] + 1])) if stem else cls(b"\0", b"\0")

    @property
    def text(self) -> str:
        shown = self.key.decode("utf-8", "backslashreplace")
        if self == Range(b"\0", b"\0"):
            return "(all keys)"
        if not self.end:
            return f"(key) {shown}"
        if self.end == Range.of_prefix(shown).end:
            return shown
        return f"{shown} to {self.end.decode('utf-8', 'backslashreplace')}"


@dataclasses.dataclass(frozen=True)
class UserWish:
    name: str
    roles: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class AuthWish:
    """What is to be; passwords stay with the caller."""

    users: tuple[UserWish, ...] = ()
    roles: t.Mapping[str, t.Mapping[Range, str]] = dataclasses.field(default_factory=dict)
    enabled: bool = True


@dataclasses.dataclass(frozen=True)
class AuthView:
    """What is. ``passwords`` by user: whether the wanted one is set; None (or missing): nobody can tell, because
    authentication is off."""

    enabled: bool = False
    users: t.Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    roles: t.Mapping[str, t.Mapping[Range, str]] = dataclasses.field(default_factory=dict)
    passwords: t.Mapping[str, bool | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class AuthStep:
    """One call. ``kind``: add_role, grant, revoke, add_user, set_password, grant_role, revoke_role, enable, disable."""

    kind: str
    name: str = ""
    role: str = ""
    range: Range | None = None
    type: str = ""

    @property
    def text(self) -> str:
        shown = "" if self.range is None else self.range.text
        return {
            "add_role": f"add role {self.name}",
            "grant": f"let role {self.name} {self.type} {shown}",
            "revoke": f"take {shown} from role {self.name}",
            "add_user": f"add user {self.name}",
            "set_password": f"set the password of {self.name}",
            "grant_role": f"give {self.name} the role {self.role}",
            "revoke_role": f"take the role {self.role} from {self.name}",
            "enable": "enable authentication",
            "disable": "disable authentication",
        }[self.kind]


def parse_permissions(data: t.Mapping[str, t.Any]) -> dict[Range, str]:
    """The answer of ``/v3/auth/role/get``. READ is the type that is not written."""
    found: dict[Range, str] = {}
    for number, entry in enumerate(data.get("perm") or []):
        try:
            key = base64.b64decode(entry.get("key") or "", validate=True)
            end = base64.b64decode(entry.get("range_end") or "", validate=True)
        except (AttributeError, TypeError, ValueError, binascii.Error):
            raise ValueError(f"etcd auth/role/get: perm/{number}: no range") from None
        found[Range(key, end)] = str(entry.get("permType") or "READ").lower()
    return found


def auth_wish(
    users: t.Sequence[t.Mapping[str, t.Any]],
    roles: t.Sequence[t.Mapping[str, t.Any]],
    enabled: bool,
    root_password: str,
) -> AuthWish | Refuse:
    """The options, looked through."""
    refusal = _why_not_auth(users, roles)
    if not root_password:
        # etcd takes it, and then nobody can log in as root.
        refusal = Refuse("no_password", "users and roles are not touched", "root_password is empty", "Give one.")
    if refusal is not None:
        return refusal
    return AuthWish(
        users=tuple(UserWish(str(one["name"]), frozenset(one.get("roles") or ())) for one in users),
        roles={
            str(one["name"]): {Range.of_prefix(item["prefix"]): item["type"] for item in one.get("permissions") or ()}
            for one in roles
        },
        enabled=enabled,
    )


def _why_not_auth(users: t.Sequence[t.Mapping[str, t.Any]], roles: t.Sequence[t.Mapping[str, t.Any]]) -> Refuse | None:
    what = "users and roles are not touched"
    for kind, declared in (("user", users), ("role", roles)):
        names = [one["name"] for one in declared]
        if ROOT in names:
            return Refuse("reserved_name", what, f"the {kind} root is this module's own", "Take it out of the list.")
        if len(set(names)) != len(names) or "" in names:
            return Refuse("bad_names", what, f"a {kind} is given twice or without a name", "Correct the list.")
    known = {ROOT, *(one["name"] for one in roles)}
    for user in users:
        if not user.get("password"):
            return Refuse("no_password", what, f"{user['name']} has an empty password", "Give it one.")
        unknown = sorted(set(user.get("roles") or ()) - known)
        if unknown:
            why = f"{user['name']} is to have {', '.join(unknown)}, which is not among the roles"
            return Refuse("unknown_role", what, why, "Declare the role.")
    for role in roles:
        prefixes = [item["prefix"] for item in role.get("permissions") or ()]
        if len(set(prefixes)) != len(prefixes):
            return Refuse("bad_names", what, f"a prefix of role {role['name']} is given twice", "Correct the list.")
    return None


def plan_auth(view: AuthView, wish: AuthWish) -> list[AuthStep]:
    """What differs, in an order that may end anywhere: the next plan starts from what is then.

    Law: permissions are taken before others are given; root is complete before anyone else, and enabling comes last.
    While authentication is off nobody can say whether a password fits, so that enabling it sets all of them anew.
    Root's password of a running cluster comes last: it ends the login that the other steps need.
    """
    enabling = wish.enabled and not view.enabled
    steps: list[AuthStep] = [] if ROOT in view.roles else [AuthStep("add_role", ROOT)]
    own = _plan_user(view, UserWish(ROOT, frozenset({ROOT})), enabling, exact=False)
    late = [one for one in own if one.kind == "set_password" and view.enabled]
    steps += [one for one in own if one not in late]
    for name in wish.roles:
        steps += _plan_role(view, name, wish.roles[name])
    for user in wish.users:
        steps += _plan_user(view, user, enabling, exact=True)
    steps += late
    if wish.enabled != view.enabled:
        steps.append(AuthStep("enable" if wish.enabled else "disable"))
    return steps


def _plan_role(view: AuthView, name: str, wanted: t.Mapping[Range, str]) -> list[AuthStep]:
    has = view.roles.get(name)
    steps = [AuthStep("add_role", name)] if has is None else []
    has = has or {}
    steps += [AuthStep("revoke", name, range=one) for one in sorted(has) if one not in wanted]
    return steps + [
        AuthStep("grant", name, range=one, type=wanted[one]) for one in sorted(wanted) if has.get(one) != wanted[one]
    ]


def _plan_user(view: AuthView, user: UserWish, enabling: bool, exact: bool) -> list[AuthStep]:
    has = view.users.get(user.name)
    if has is None:
        return [
            AuthStep("add_user", user.name),
            *(AuthStep("grant_role", user.name, role) for role in sorted(user.roles)),
        ]
    steps = [AuthStep("revoke_role", user.name, role) for role in sorted(has - user.roles) if exact]
    fits = view.passwords.get(user.name)
    if fits is False or (fits is None and enabling):
        steps.append(AuthStep("set_password", user.name))
    return steps + [AuthStep("grant_role", user.name, role) for role in sorted(user.roles - has)]


def auth_after(view: AuthView, step: AuthStep) -> AuthView:
    """What is after one step."""
    users, roles, passwords = (
        dict(view.users),
        {name: dict(has) for name, has in view.roles.items()},
        {**view.passwords},
    )
    if step.kind == "add_role":
        roles[step.name] = {}
    elif step.kind in ("grant", "revoke") and step.range is not None:
        roles[step.name].pop(step.range, None)
        if step.kind == "grant":
            roles[step.name][step.range] = step.type
    elif step.kind == "add_user":
        users[step.name] = frozenset()
        passwords[step.name] = True if view.enabled else None
    elif step.kind == "set_password":
        passwords[step.name] = True if view.enabled else None
    elif step.kind == "grant_role":
        users[step.name] |= {step.role}
    elif step.kind == "revoke_role":
        users[step.name] -= {step.role}
    elif step.kind in ("enable", "disable"):
        passwords = {name: True if step.kind == "enable" else None for name in passwords}
    enabled = {"enable": True, "disable": False}.get(step.kind, view.enabled)
    return AuthView(enabled, users, roles, passwords)


def auth_shown(view: AuthView, wish: AuthWish) -> dict[str, t.Any]:
    """The declared part, for people; of a password only whether it is as wanted."""
    words = {True: "as wanted", False: "differs", None: "cannot be compared while authentication is off"}
    names = [ROOT, *(user.name for user in wish.users)]
    return {
        "enabled": view.enabled,
        "users": {
            name: {"roles": sorted(view.users[name]), "password_state": words[view.passwords.get(name)]}
            for name in names
            if name in view.users
        },
        "roles": {
            name: {one.text: view.roles[name][one] for one in sorted(view.roles[name])}
            for name in wish.roles
            if name in view.roles
        },
    }
