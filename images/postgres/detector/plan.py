# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When Patroni's leader key may be removed before its lease runs out.

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
 7. Never in pause; never while ``operation`` exists or ``failover`` holds an order; never while ``detector-hold``
    exists, so that at most one removal happens within its time; never for a leader that is no configured member.
 8. Never on data that is missing, malformed or contradicts itself. When in doubt nothing is done, and the lease runs
    out.
 9. Only a member that is itself among those who agree removes. A named standby that was streaming does so at once, the
    others a little later. That only spares needless races: what makes it right is rule 10.
10. One transaction compares everything that 1 to 7 read (holder and revision of the key, revisions of ``/sync``, of
    ``/config``, of ``failover`` and of every counted vote, absence of ``operation`` and ``detector-hold``) and in the
    same step removes the key and puts the hold. If anything changed in between, nothing happens.

Silence (``Watch``): every kind of probe has failed since the last sign of life, and lately. Any sign resets the clock.
A probe that could not ask (a file missing, no free descriptor) is not a failure of the leader, and a probe that took
much longer than its own deadline shows that this process stood still: both mean that nothing is known.
A leader whose PostgreSQL hangs is silent although its Patroni runs, since Patroni is asked what it asks PostgreSQL. One
whose PostgreSQL is down or starting is not silent: to bring it back or give up is Patroni's (primary_start_timeout).
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
CODES = (NO_LEADER, OWN_LEADER, QUIET, WAIT_TURN, REMOVE, *REFUSALS)

# How the compared key must be found.
VALUE, REVISION, ABSENT = "value", "revision", "absent"


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

    def why_not(self, found: Entry | None) -> str | None:
        if self.kind == ABSENT:
            return None if found is None else f"{self.key} exists"
        if found is None:
            return f"{self.key} is gone"
        if self.kind == VALUE and found.value != self.value:
            return f"{self.key} is {found.value!r}, not {self.value!r}"
        if self.kind == REVISION and found.revision != self.revision:
            return f"{self.key} has revision {found.revision}, not {self.revision}"
        return None


@dataclasses.dataclass(frozen=True)
class Removal:
    """The one act: under all guards, delete the leader key and put the hold."""

    leader: str
    revision: int
    delete: str
    hold: str
    guards: tuple[Guard, ...]


@dataclasses.dataclass(frozen=True)
class Decision:
    code: str
    reasons: tuple[str, ...]
    leader: str | None = None
    leader_revision: int = 0
    agreeing: tuple[str, ...] = ()
    removal: Removal | None = None

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
    if view.hold is not None:
        return Why(HOLD_OFF, "a leader key was removed a short while ago")
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


def _why_not_agreed(law: Law, counted: t.Mapping[str, Vote], witnesses: t.Collection[str]) -> Why | None:
    if not counted:
        return Why(QUIET, "nobody suspects the leader")
    if 2 * len(counted) <= len(law.members):
        return Why(MINORITY, f"{len(counted)} of {len(law.members)} members suspect the leader")
    if not witnesses:
        return Why(NO_SYNC_WITNESS, "no synchronous standby that was streaming from the leader is among them")
    if law.me not in counted:
        return Why(NOT_AMONG, "this member does not suspect the leader")
    return None


def _removal(view: Snapshot, law: Law, leader: Entry, counted: t.Mapping[str, Vote]) -> Removal:
    keys = law.keys
    guards = [Guard(keys.leader, VALUE, leader.value), Guard(keys.leader, REVISION, revision=leader.revision)]
    for key, entry in ((keys.sync, view.sync), (keys.config, view.config)):
        guards.append(Guard(key, REVISION, revision=entry.revision if entry else 0))
    guards += [Guard(keys.vote(name), REVISION, revision=view.votes[name].revision) for name in counted]
    guards += [Guard(key, ABSENT) for key in (keys.operation, keys.hold)]
    empty = view.failover
    guards.append(Guard(keys.failover, REVISION, revision=empty.revision) if empty else Guard(keys.failover, ABSENT))
    return Removal(leader.value, leader.revision, keys.leader, keys.hold, tuple(guards))


def decide(view: Snapshot, law: Law, agreed_seconds: float = 0.0) -> Decision:
    """``agreed_seconds``: for how long this process has seen the present agreement against this leader."""
    leader = view.leader
    if leader is None:
        return Decision(NO_LEADER, ("nobody holds the leader key",))
    counted = agreeing_votes(view, law)

    def no(why: Why) -> Decision:
        return Decision(why.code, (why.text,), leader.value, leader.revision, tuple(counted))

    if leader.value == law.me:
        return no(Why(OWN_LEADER, "this member is the leader"))
    if leader.value not in law.members:
        return no(Why(FOREIGN_LEADER, f"the leader {leader.value!r} is none of the configured members"))
    refused = _why_not_config(view) or _why_not_locks(view)
    if refused is not None:
        return no(refused)
    standbys = sync_standbys(view, leader.value)
    if isinstance(standbys, Why):
        return no(standbys)
    witnesses = [name for name, vote in counted.items() if name in standbys and vote.streaming]
    refused = _why_not_agreed(law, counted, witnesses)
    if refused is not None:
        return no(refused)
    if law.me not in witnesses and agreed_seconds < law.timing.turn:
        return no(Why(WAIT_TURN, f"the synchronous standby {', '.join(witnesses)} goes first"))
    heard = [f"{name}: {leader.value} is silent for {vote.silence:.1f} s" for name, vote in counted.items()]
    heard.append(f"synchronous standby that was streaming: {', '.join(witnesses)}")
    act = _removal(view, law, leader, counted)
    return Decision(REMOVE, tuple(heard), leader.value, leader.revision, tuple(counted), act)
