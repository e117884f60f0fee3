# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When Patroni's leader key may be removed before its lease runs out, and when it may be handed to a standby.

Why it may at all: under synchronous replication whoever is promoted has every acknowledged commit, and the old leader
acknowledges nothing more without the standby that ``/sync`` names. Removing the key of a healthy leader costs a moment
(it takes the key back); removing it without that fence costs data. Hence the law:

 1. Only in ``synchronous_mode: on``. Off has no fence. ``quorum`` is refused too: there any standby of several may have
    confirmed a commit, and this law rests on standbys that are named. The same goes for a standby cluster.
 2. Only while ``/sync`` names this very leader and at least one standby, none of them the leader, with quorum 0.
 3. Only by a strict majority of all configured members. Each of them says that this leader, under this revision of its
    key, has been silent for ``suspect_seconds`` or longer.
 4. Among them at least one standby named in ``/sync`` whose WAL receiver was streaming from that leader when the
    silence began.
 5. A vote counts while its key exists: it hangs on a lease of a few seconds that only its living detector renews.
 6. The leader's own member has no vote against itself, nobody outside the configured members has one, and a vote that
    cannot be read is none.
 7. Never in pause; never while ``operation`` exists or ``failover`` holds an order; never for a leader that is no
    configured member. While ``detector-hold`` exists nothing happens but what 11 allows: within its time there is at
    most one removal, and at most one handing over after it.
 8. Never on data that is missing, malformed or contradicts itself. When in doubt nothing is done, and the lease runs
    out.
 9. Only a member that is itself among those who agree removes. A named standby that was streaming does so at once, the
    others a little later. That only spares needless races: what makes it right is rule 10.
10. One transaction compares everything that 1 to 7 read (holder and revision of the key, revisions of ``/sync``, of
    ``/config``, of ``failover`` and of every counted vote, absence of ``operation`` and ``detector-hold``) and in the
    same step removes the key and puts the hold. If anything changed in between, nothing happens.
11. A leader that takes its key back and stays silent reaches etcd, but not its standbys. Removing its key again would
    end as before, since a running primary takes a free key at once. So the key is handed to a standby, by that standby
    itself: only while the hold tells of a removal (step 1) from this very leader, whose key was created after it; only
    when 1 to 8 hold against the new key, with the full silence; and only by a standby of 4 whose member key hangs on a
    lease and tells of a running standby that may be promoted. The transaction compares what 10 says, with the hold's
    revision for its absence, and that lease; it puts the leader key under the lease, which is the session of the
    standby's Patroni, then ``/sync`` as it is, then the hold as step 2. If Patroni is gone, its session soon ends.
    ``/sync`` is put for its revision: a leader that goes on alone writes there first, comparing what it has read, and
    one in the middle of its loop must not get through after the standby was chosen. After the leader key, since whoever
    follows etcd's events and has seen the new revision must have seen the new holder too.

Silence (``Watch``): every kind of probe has failed since the last sign of life, and lately. Any sign resets the clock.
A probe that could not ask (a file missing, no free descriptor) is not a failure of the leader, and a probe that took
much longer than its own deadline shows that this process stood still: both mean that nothing is known.
A leader whose PostgreSQL hangs is silent although its Patroni runs, since Patroni is asked what it asks PostgreSQL. One
whose PostgreSQL is down or starting is not silent: to bring it back or give up is Patroni's (primary_start_timeout).
A new revision of the key begins a new silence. Whether the receiver was streaming before is carried over from an old
one that was not broken: a leader that takes its key back in silence gives no second chance to see that.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing as t
import urllib.parse

VERSION = 1
REST, POSTGRES, STREAM = "rest", "postgres", "stream"
KINDS = (REST, POSTGRES, STREAM)

# Decisions. QUIET: armed, and nobody suspects the leader.
NO_LEADER = "no_leader"
OWN_LEADER = "own_leader"
QUIET = "quiet"
WAIT_TURN = "wait_turn"
REMOVE = "remove"
HAND_OVER = "hand_over"
# Refusals: why a key stays although somebody may suspect its holder.
FOREIGN_LEADER = "foreign_leader"
BAD_CONFIG = "bad_config"
NOT_SYNCHRONOUS = "not_synchronous"
QUORUM_MODE = "quorum_mode"
STANDBY_CLUSTER = "standby_cluster"
PAUSED = "paused"
OPERATION = "operation"
FAILOVER_ASKED = "failover_asked"
HOLD_OFF = "hold_off"
BAD_SYNC = "bad_sync"
SYNC_OF_ANOTHER = "sync_of_another"
NO_SYNC_STANDBY = "no_sync_standby"
MINORITY = "minority"
NO_SYNC_WITNESS = "no_sync_witness"
NOT_AMONG = "not_among"
REFUSALS = (
    FOREIGN_LEADER,
    BAD_CONFIG,
    NOT_SYNCHRONOUS,
    QUORUM_MODE,
    STANDBY_CLUSTER,
    PAUSED,
    OPERATION,
    FAILOVER_ASKED,
    HOLD_OFF,
    BAD_SYNC,
    SYNC_OF_ANOTHER,
    NO_SYNC_STANDBY,
    MINORITY,
    NO_SYNC_WITNESS,
    NOT_AMONG,
)
CODES = (NO_LEADER, OWN_LEADER, QUIET, WAIT_TURN, REMOVE, HAND_OVER, *REFUSALS)

# How the compared key must be found.
VALUE, REVISION, LEASE, ABSENT = "value", "revision", "lease", "absent"
# What Patroni says of itself in its member key.
RUNNING = "running"
STANDBY_ROLES = ("replica", "sync_standby")


class Malformed(ValueError):
    """What a key holds cannot be read as what it should be."""


Address = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds. ``late``: a probe that took longer shows that we stood still. ``fresh``: how old a failure may be."""

    suspect: float = 2.0
    late: float = 2.0
    fresh: float = 3.5
    turn: float = 1.0
    streaming_grace: float = 2.0


@dataclasses.dataclass(frozen=True)
class Entry:
    """A key as etcd holds it."""

    value: str
    revision: int
    created: int = 0
    lease: int = 0


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything that is decided on, as of one revision of etcd."""

    revision: int
    leader: Entry | None = None
    config: Entry | None = None
    sync: Entry | None = None
    failover: Entry | None = None
    operation: Entry | None = None
    hold: Entry | None = None
    members: t.Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    votes: t.Mapping[str, Entry] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Keys:
    """Where everything lies: Patroni's keys, and ours under a prefix that Patroni does not watch."""

    patroni: str
    own: str

    @classmethod
    def of(cls, namespace: str, scope: str) -> Keys:
        return cls(f"{namespace}{scope}/", f"{namespace.rstrip('/')}-ops/{scope}/")

    @property
    def leader(self) -> str:
        return self.patroni + "leader"

    @property
    def config(self) -> str:
        return self.patroni + "config"

    @property
    def sync(self) -> str:
        return self.patroni + "sync"

    @property
    def failover(self) -> str:
        return self.patroni + "failover"

    @property
    def members(self) -> str:
        return self.patroni + "members/"

    @property
    def operation(self) -> str:
        return self.own + "operation"

    @property
    def hold(self) -> str:
        return self.own + "detector-hold"

    @property
    def votes(self) -> str:
        return self.own + "detector/"

    def member(self, member: str) -> str:
        return self.members + member

    def vote(self, member: str) -> str:
        return self.votes + member


# --- what one member hears of the leader ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Target:
    """The leader that is watched. Another revision of its key is another target: the watch begins anew."""

    leader: str
    revision: int
    rest: Address
    postgres: Address


@dataclasses.dataclass(frozen=True)
class Observation:
    """One probe. ``alive`` None: it could not ask. ``streaming``: the WAL receiver streams from the target."""

    kind: str
    target: Target
    started: float
    ended: float
    alive: bool | None
    detail: str
    streaming: bool = False


@dataclasses.dataclass(frozen=True)
class Trace:
    """What one kind of probe found since the last sign of life."""

    failures: int = 0
    at: float = 0.0
    detail: str = "not asked since"


_NOTHING: t.Mapping[str, Trace] = {kind: Trace() for kind in KINDS}


@dataclasses.dataclass(frozen=True)
class Watch:
    """What this member knows about one leader. ``since``: the last sign of life, or when the watch began."""

    target: Target
    since: float
    traces: t.Mapping[str, Trace] = dataclasses.field(default_factory=lambda: _NOTHING)
    streaming_at: float | None = None
    streaming: bool = False

    @classmethod
    def of(cls, target: Target, now: float, before: Watch | None) -> Watch:
        """``before``: the watch until the key changed."""
        if before is None or dataclasses.replace(before.target, revision=target.revision) != target:
            return cls(target, now)
        return cls(target, now, streaming=before.streaming and before.silence(now) > 0)

    def heard(self, seen: Observation, timing: Timing) -> Watch:
        if seen.target != self.target:
            return self
        streaming_at = seen.ended if seen.kind == STREAM and seen.streaming else self.streaming_at
        watch = dataclasses.replace(self, streaming_at=streaming_at)
        if seen.alive or seen.ended - seen.started > timing.late:
            since = max(self.since, seen.ended)
            recent = streaming_at is not None and since - streaming_at <= timing.streaming_grace
            return dataclasses.replace(watch, since=since, traces=_NOTHING, streaming=recent)
        if seen.alive is None:
            return dataclasses.replace(watch, traces={**self.traces, seen.kind: Trace(0, seen.ended, seen.detail)})
        if seen.started < self.since:
            return watch
        trace = Trace(self.traces[seen.kind].failures + 1, seen.ended, seen.detail)
        return dataclasses.replace(watch, traces={**self.traces, seen.kind: trace})

    def silence(self, now: float) -> float:
        """Seconds without a sign of life; 0 until every kind of probe has failed in them, and lately."""
        return max(0.0, now - self.since) if self._all_failed(now, math.inf) else 0.0

    def suspects(self, now: float, timing: Timing) -> bool:
        return self._all_failed(now, timing.fresh) and now - self.since >= timing.suspect

    def _all_failed(self, now: float, fresh: float) -> bool:
        return all(trace.failures > 0 and now - trace.at <= fresh for trace in self.traces.values())

    def evidence(self, now: float) -> dict[str, t.Any]:
        return {
            kind: {"failures": trace.failures, "last": trace.detail, "ago": round(now - trace.at, 2)}
            for kind, trace in self.traces.items()
            if trace.at
        }


# --- what the members tell each other ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Vote:
    """What one member says. ``suspects`` None: it has nothing against the leader."""

    suspects: str | None = None
    leader_revision: int = 0
    silence: float = 0.0
    streaming: bool = False
    evidence: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    def as_text(self) -> str:
        return json.dumps(
            {
                "version": VERSION,
                "suspects": self.suspects,
                "leader_mod_revision": self.leader_revision,
                "silence_seconds": round(self.silence, 3),
                "streaming": self.streaming,
                "evidence": dict(self.evidence),
            },
            sort_keys=True,
        )

    def says_the_same(self, other: Vote | None) -> bool:
        """Silence only grows while a vote stands, so a longer one is no reason to write it again."""
        return (
            other is not None
            and (self.suspects, self.leader_revision, self.streaming)
            == (other.suspects, other.leader_revision, other.streaming)
            and self.silence >= other.silence
        )


def own_vote(watch: Watch | None, now: float, timing: Timing) -> Vote:
    if watch is None or not watch.suspects(now, timing):
        return Vote()
    return Vote(watch.target.leader, watch.target.revision, watch.silence(now), watch.streaming, watch.evidence(now))


def mapping_of(source: str, text: str) -> dict[str, t.Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"{source}: no JSON") from exc
    if not isinstance(data, dict):
        raise Malformed(f"{source}: no JSON object")
    return data


def _whole(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _seconds(value: t.Any) -> bool:
    # False for NaN too.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9


def parse_vote(member: str, text: str) -> Vote:
    source = f"vote of {member}"
    data = mapping_of(source, text)
    if not _whole(data.get("version")) or data["version"] != VERSION:
        raise Malformed(f"{source}: version is {data.get('version')!r}, not {VERSION}")
    if data.get("suspects") is None:
        return Vote()
    right = {
        "suspects": isinstance(data["suspects"], str),
        "leader_mod_revision": _whole(data.get("leader_mod_revision")),
        "silence_seconds": _seconds(data.get("silence_seconds")),
        "streaming": isinstance(data.get("streaming"), bool),
        "evidence": isinstance(data.get("evidence", {}), dict),
    }
    for field, is_right in right.items():
        if not is_right:
            raise Malformed(f"{source}: {field} is {data.get(field)!r}")
    return Vote(
        data["suspects"],
        data["leader_mod_revision"],
        float(data["silence_seconds"]),
        data["streaming"],
        data.get("evidence", {}),
    )


def _address(source: str, url: t.Any, port: int) -> Address:
    if not isinstance(url, str):
        raise Malformed(f"{source}: missing")
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port or port
    except ValueError as exc:
        raise Malformed(f"{source}: {url!r} is no address") from exc
    if not host:
        raise Malformed(f"{source}: {url!r} has no host")
    return host, port


def target_of(view: Snapshot, me: str, members: t.Collection[str]) -> Target | None:
    """Whom to watch: nobody when there is no leader, or when it is this member or a stranger."""
    if view.leader is None or view.leader.value == me or view.leader.value not in members:
        return None
    name = view.leader.value
    entry = view.members.get(name)
    if entry is None:
        raise Malformed(f"members/{name}: missing, so the leader's addresses are not known")
    data = mapping_of(f"members/{name}", entry.value)
    return Target(
        name,
        view.leader.revision,
        _address(f"members/{name}/api_url", data.get("api_url"), 8008),
        _address(f"members/{name}/conn_url", data.get("conn_url"), 5432),
    )


# --- the decision -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Guard:
    """One comparison of the transaction: the key is found so, or nothing happens."""

    key: str
    kind: str
    value: str = ""
    revision: int = 0
    lease: int = 0

    def why_not(self, found: Entry | None) -> str | None:
        if self.kind == ABSENT:
            return None if found is None else f"{self.key} exists"
        if found is None:
            return f"{self.key} is gone"
        if self.kind == VALUE and found.value != self.value:
            return f"{self.key} is {found.value!r}, not {self.value!r}"
        if self.kind == REVISION and found.revision != self.revision:
            return f"{self.key} has revision {found.revision}, not {self.revision}"
        if self.kind == LEASE and found.lease != self.lease:
            return f"{self.key} hangs on another lease"
        return None


@dataclasses.dataclass(frozen=True)
class Put:
    """What is written, under which lease (0: none)."""

    key: str
    value: str
    lease: int = 0


@dataclasses.dataclass(frozen=True)
class Act:
    """Under all guards or not at all: ``delete`` goes, ``puts`` are written in their order, and the hold tells of it.

    ``code``: REMOVE or HAND_OVER. ``story``: how the hold begins, which rule 11 reads.
    """

    code: str
    leader: str
    revision: int
    story: t.Mapping[str, t.Any]
    guards: tuple[Guard, ...]
    hold: str
    delete: str | None = None
    puts: tuple[Put, ...] = ()


@dataclasses.dataclass(frozen=True)
class Decision:
    code: str
    reasons: tuple[str, ...]
    leader: str | None = None
    leader_revision: int = 0
    agreeing: tuple[str, ...] = ()
    act: Act | None = None

    @property
    def key(self) -> tuple[t.Any, ...]:
        """What makes it another decision; its wording and numbers do not."""
        return (self.code, self.leader, self.leader_revision, self.agreeing)


@dataclasses.dataclass(frozen=True)
class Law:
    """Who decides, for which members, with which patience."""

    me: str
    members: tuple[str, ...]
    keys: Keys
    timing: Timing = dataclasses.field(default_factory=Timing)


@dataclasses.dataclass(frozen=True)
class Why:
    """Why nothing is done."""

    code: str
    text: str


def _why_not_leader(law: Law, leader: Entry) -> Why | None:
    if leader.value == law.me:
        return Why(OWN_LEADER, "this member is the leader")
    if leader.value not in law.members:
        return Why(FOREIGN_LEADER, f"the leader {leader.value!r} is none of the configured members")
    return None


def _why_not_mode(config: t.Mapping[str, t.Any]) -> Why | None:
    if config.get("standby_cluster"):
        return Why(STANDBY_CLUSTER, "this is a standby cluster: its leader takes no commits and is fenced by nothing")
    mode = str(config.get("synchronous_mode", False)).lower()
    if mode == "quorum":
        return Why(QUORUM_MODE, "synchronous_mode is quorum: no standby is named that surely has every commit")
    if mode not in ("on", "true", "yes", "1"):
        return Why(NOT_SYNCHRONOUS, f"synchronous_mode is {mode}: a promotion could lose acknowledged commits")
    # Only what Patroni takes for false is no pause.
    if str(config.get("pause", False)).lower() not in ("off", "false", "no", "0", "none"):
        return Why(PAUSED, "the cluster is paused")
    return None


def _why_not_config(view: Snapshot) -> Why | None:
    if view.config is None:
        return Why(BAD_CONFIG, "config: missing")
    try:
        return _why_not_mode(mapping_of("config", view.config.value))
    except Malformed as exc:
        return Why(BAD_CONFIG, str(exc))


def _done(failover: Entry) -> bool:
    """Patroni never deletes the key: an order that was carried out or given up is overwritten by an empty one."""
    try:
        return failover.value == "" or not mapping_of("failover", failover.value)
    except Malformed:
        return False


def _why_not_locks(view: Snapshot) -> Why | None:
    if view.operation is not None:
        return Why(OPERATION, "an operation holds the lock")
    if view.failover is not None and not _done(view.failover):
        return Why(FAILOVER_ASKED, "a failover or switchover is asked for")
    return None


def sync_standbys(view: Snapshot, leader: str) -> tuple[str, ...] | Why:
    """The standbys that have every acknowledged commit of this leader, or why that is not known."""
    if view.sync is None:
        return Why(NO_SYNC_STANDBY, "sync: missing")
    try:
        data = mapping_of("sync", view.sync.value)
    except Malformed as exc:
        return Why(BAD_SYNC, str(exc))
    named, quorum = data.get("sync_standby"), data.get("quorum")
    if quorum not in (None, 0) or isinstance(quorum, bool):
        return Why(QUORUM_MODE, f"sync: quorum is {quorum!r}")
    if not isinstance(data.get("leader"), (str, type(None))) or not isinstance(named, (str, type(None))):
        return Why(BAD_SYNC, "sync: leader or sync_standby is no name")
    if data.get("leader") != leader:
        return Why(SYNC_OF_ANOTHER, f"sync: it is about {data.get('leader')!r}, the leader is {leader}")
    standbys = tuple(name.strip() for name in (named or "").split(",") if name.strip())
    if not standbys:
        return Why(NO_SYNC_STANDBY, "sync: no synchronous standby")
    if leader in standbys:
        return Why(BAD_SYNC, "sync: the leader is named as its own standby")
    return standbys


def agreeing_votes(view: Snapshot, law: Law) -> dict[str, Vote]:
    """The votes that count against the leader of this view (rules 3, 5, 6)."""
    counted: dict[str, Vote] = {}
    for name in law.members:
        entry = view.votes.get(name)
        if view.leader is None or entry is None or name == view.leader.value:
            continue
        try:
            vote = parse_vote(name, entry.value)
        except Malformed:
            continue
        if (vote.suspects, vote.leader_revision) == (view.leader.value, view.leader.revision) and (
            vote.silence >= law.timing.suspect
        ):
            counted[name] = vote
    return counted


def unreadable_votes(view: Snapshot, law: Law) -> list[str]:
    """Votes that are not counted because they make no sense, for the log."""
    found = [f"vote of {name}: no member" for name in sorted(set(view.votes) - set(law.members))]
    for name in law.members:
        if name in view.votes:
            try:
                parse_vote(name, view.votes[name].value)
            except Malformed as exc:
                found.append(str(exc))
    return found


def _witnesses(view: Snapshot, law: Law, leader: Entry, counted: t.Mapping[str, Vote]) -> tuple[str, ...] | Why:
    """The named standbys that were streaming among those who agree, or why there is no agreement (2 to 4, 9)."""
    standbys = sync_standbys(view, leader.value)
    if isinstance(standbys, Why):
        return standbys
    if not counted:
        return Why(QUIET, "nobody suspects the leader")
    if 2 * len(counted) <= len(law.members):
        return Why(MINORITY, f"{len(counted)} of {len(law.members)} members suspect the leader")
    witnesses = tuple(name for name, vote in counted.items() if name in standbys and vote.streaming)
    if not witnesses:
        return Why(NO_SYNC_WITNESS, "no synchronous standby that was streaming from the leader is among them")
    if law.me not in counted:
        return Why(NOT_AMONG, "this member does not suspect the leader")
    return witnesses


def _guards(view: Snapshot, law: Law, leader: Entry, counted: t.Collection[str]) -> tuple[Guard, ...]:
    """Rule 10: everything as it was read. What may be absent is compared as absent."""
    keys = law.keys

    def as_read(key: str, entry: Entry | None) -> Guard:
        return Guard(key, ABSENT) if entry is None else Guard(key, REVISION, revision=entry.revision)

    return (
        Guard(keys.leader, VALUE, leader.value),
        Guard(keys.leader, REVISION, revision=leader.revision),
        as_read(keys.sync, view.sync),
        as_read(keys.config, view.config),
        *(as_read(keys.vote(name), view.votes[name]) for name in counted),
        Guard(keys.operation, ABSENT),
        as_read(keys.failover, view.failover),
        as_read(keys.hold, view.hold),
    )


def _why_not_retaken(hold: Entry, leader: Entry) -> str | None:
    """Rule 11: whether this leader took its key back after the removal of which the hold tells."""
    try:
        story = mapping_of("detector-hold", hold.value)
    except Malformed as exc:
        return str(exc)
    # Who wrote no step knew only the first.
    step = story.get("step", 1)
    if not _whole(step) or step != 1 or story.get("removed") != leader.value:
        return f"the hold tells of no removal from {leader.value}"
    if leader.created <= hold.revision:
        return f"{leader.value} has not taken its key back since"
    return None


def _why_not_promotable(law: Law, own: Entry, witnesses: t.Collection[str]) -> str | None:
    """Rule 11: whether this member's own Patroni may be given the key."""
    source = f"members/{law.me}"
    if law.me not in witnesses:
        return f"that is for {', '.join(witnesses)} to do"
    if own.lease <= 0:
        return f"{source}: no lease"
    try:
        data = mapping_of(source, own.value)
    except Malformed as exc:
        return str(exc)
    if data.get("state") != RUNNING or data.get("role") not in STANDBY_ROLES:
        return f"{source}: state is {data.get('state')!r}, role is {data.get('role')!r}"
    tags = data.get("tags", {})
    if not isinstance(tags, dict) or tags.get("nofailover"):
        return f"{source}: tagged nofailover, or its tags cannot be read"
    # Not positive, it means nofailover too.
    priority = tags.get("failover_priority", 1)
    if not _whole(priority) or priority <= 0:
        return f"{source}: failover_priority is {priority!r}"
    return None


def _held(why: str) -> Why:
    return Why(HOLD_OFF, f"a leader key was removed a short while ago, and is not handed over: {why}")


def _first_step(view: Snapshot, law: Law, leader: Entry, counted: t.Collection[str]) -> Act:
    story = {"step": 1, "removed": leader.value}
    guards = _guards(view, law, leader, counted)
    return Act(REMOVE, leader.value, leader.revision, story, guards, law.keys.hold, delete=law.keys.leader)


def _second_step(
    view: Snapshot, law: Law, leader: Entry, hold: Entry, counted: t.Collection[str], witnesses: t.Collection[str]
) -> Act | Why:
    keys, own, sync = law.keys, view.members.get(law.me), view.sync
    if own is None or sync is None:
        return _held(f"members/{law.me} or sync: missing")
    why = _why_not_retaken(hold, leader) or _why_not_promotable(law, own, witnesses)
    if why is not None:
        return _held(why)
    story = {"step": 2, "taken_from": leader.value, "handed_to": law.me}
    guards = (*_guards(view, law, leader, counted), Guard(keys.member(law.me), LEASE, lease=own.lease))
    puts = (Put(keys.leader, law.me, own.lease), Put(keys.sync, sync.value))
    return Act(HAND_OVER, leader.value, leader.revision, story, guards, keys.hold, puts=puts)


def decide(view: Snapshot, law: Law, agreed_seconds: float = 0.0) -> Decision:
    """``agreed_seconds``: for how long this process has seen the present agreement against this leader."""
    leader = view.leader
    if leader is None:
        return Decision(NO_LEADER, ("nobody holds the leader key",))
    counted = agreeing_votes(view, law)

    def no(why: Why) -> Decision:
        return Decision(why.code, (why.text,), leader.value, leader.revision, tuple(counted))

    refused = _why_not_leader(law, leader) or _why_not_config(view) or _why_not_locks(view)
    if refused is not None:
        return no(refused)
    witnesses = _witnesses(view, law, leader, counted)
    if isinstance(witnesses, Why):
        return no(witnesses if view.hold is None else _held(witnesses.text))
    named = ", ".join(witnesses)
    act: Act | Why
    if view.hold is not None:
        act = _second_step(view, law, leader, view.hold, counted, witnesses)
    elif law.me not in witnesses and agreed_seconds < law.timing.turn:
        act = Why(WAIT_TURN, f"the synchronous standby {named} goes first")
    else:
        act = _first_step(view, law, leader, counted)
    if isinstance(act, Why):
        return no(act)
    heard = [f"{name}: {leader.value} is silent for {vote.silence:.1f} s" for name, vote in counted.items()]
    heard.append(f"synchronous standby that was streaming: {named}")
    if act.code == HAND_OVER:
        heard.append(f"{leader.value} took its key back after it was removed, and is silent on")
    return Decision(act.code, tuple(heard), leader.value, leader.revision, tuple(counted), act)
