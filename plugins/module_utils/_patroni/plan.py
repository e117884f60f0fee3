# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Patroni's dynamic configuration and the state of a cluster: what to change, and what to think of it.

Invariants:

1. a patch touches only keys that were asked for, and only those whose value really differs;
2. timings that Patroni would silently clamp, or that break ``loop_wait + 2 * retry_timeout <= ttl``, are never sent:
   Patroni stores them and answers 200, so that reading back proves nothing;
3. a member whose role or state is not known to be good makes the cluster unhealthy; new words never pass as healthy;
4. members restart one at a time, each only while all others are well, and the leader last. One exception: PostgreSQL
   stops on a standby whose ``max_connections`` and the like are lower than the leader's, so where one of them shrinks
   the leader goes first (until then Patroni keeps the standbys at the old value).
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .._common.errors import Refuse

# Patroni's minima and defaults (its dynamic_configuration documentation).
MINIMA = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}
DEFAULTS = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10}

_TRUE, _FALSE = ("on", "true", "yes"), ("off", "false", "no")
_MEMORY = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_TIME = {"us": 1, "ms": 1000, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
_QUANTITY = re.compile(r"(\d+)\s*([A-Za-z]+)\Z")
_NUMBER = re.compile(r"-?\d+(\.\d+)?\Z")

# Their value on a standby must not be lower than on the leader (PostgreSQL's documentation, hot standby).
NOT_LOWER_ON_STANDBY = (
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
)

LEADERS = ("leader", "standby_leader")
SYNC = ("sync_standby", "quorum_standby")


def normal(value: t.Any) -> tuple[str, t.Any]:
    """A value in the form in which two spellings of the same setting are equal."""
    if value is None:
        return ("null", None)
    text = str(value).strip()
    if text.lower() in _TRUE:
        return ("bool", True)
    if text.lower() in _FALSE:
        return ("bool", False)
    if _NUMBER.match(text):
        return ("number", float(text) if "." in text else int(text))
    found = _QUANTITY.match(text)
    if found:
        number, unit = int(found.group(1)), found.group(2)
        if unit in _MEMORY:
            return ("bytes", number * _MEMORY[unit])
        if unit in _TIME:
            return ("microseconds", number * _TIME[unit])
    return ("text", text)


def same(left: t.Any, right: t.Any) -> bool:
    """Whether two values of the configuration mean the same."""
    if isinstance(left, t.Mapping) or isinstance(right, t.Mapping):
        return (
            isinstance(left, t.Mapping)
            and isinstance(right, t.Mapping)
            and set(left) == set(right)
            and all(same(left[key], right[key]) for key in left)
        )
    if isinstance(left, list) or isinstance(right, list):
        return (
            isinstance(left, list)
            and isinstance(right, list)
            and len(left) == len(right)
            and all(same(one, other) for one, other in zip(left, right))
        )
    return normal(left) == normal(right)


def _without_nulls(value: t.Any) -> t.Any:
    """Patroni deletes by null only inside of what exists; in something new it would store the null."""
    if isinstance(value, t.Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def difference(current: t.Mapping[str, t.Any], wanted: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The smallest body for ``PATCH /config`` that makes the wanted keys true; empty when they are."""
    changes: dict[str, t.Any] = {}
    for key, value in wanted.items():
        if value is None:
            if current.get(key) is not None:
                changes[key] = None
        elif isinstance(value, t.Mapping) and isinstance(current.get(key), t.Mapping):
            nested = difference(current[key], value)
            if nested:
                changes[key] = nested
        elif isinstance(value, t.Mapping):
            fresh = _without_nulls(value)
            if fresh or key not in current:
                changes[key] = fresh
        elif key not in current or not same(current[key], value):
            changes[key] = value
    return changes


def merged(current: t.Mapping[str, t.Any], changes: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The configuration after Patroni has taken the patch."""
    result = dict(current)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, t.Mapping) and isinstance(result.get(key), t.Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def excerpt(current: t.Mapping[str, t.Any], wanted: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Only the wanted keys of the configuration, for showing before and after."""
    shown: dict[str, t.Any] = {}
    for key, value in wanted.items():
        if key not in current:
            continue
        if isinstance(value, t.Mapping) and isinstance(current[key], t.Mapping):
            shown[key] = excerpt(current[key], value)
        else:
            shown[key] = current[key]
    return shown


def why_not_timing(config: t.Mapping[str, t.Any]) -> Refuse | None:
    """Whether the lease timings hold together; the leader must notice a lost key before it runs out."""
    timing: dict[str, int] = {}
    for key, default in DEFAULTS.items():
        kind, number = normal(config.get(key, default))
        if kind != "number" or number != int(number):
            return Refuse(
                "bad_timing", f"{key} is {config[key]!r}", "Patroni wants whole seconds", "Give a whole number."
            )
        timing[key] = int(number)
        if timing[key] < MINIMA[key]:
            return Refuse(
                "clamped_timing",
                f"{key} is {timing[key]}",
                f"Patroni stores it, but works with its minimum of {MINIMA[key]}",
                f"Set {key} to {MINIMA[key]} or more.",
            )
    needed = timing["loop_wait"] + 2 * timing["retry_timeout"]
    if needed > timing["ttl"]:
        return Refuse(
            "unsafe_timing",
            f"ttl is {timing['ttl']}",
            f"loop_wait + 2 * retry_timeout is {timing['loop_wait']} + 2 * {timing['retry_timeout']} = {needed}, "
            "so a leader could lose its key while it still retries",
            f"Raise ttl to {needed}, or lower the other two.",
        )
    return None


def plan_patch(current: t.Mapping[str, t.Any], wanted: t.Mapping[str, t.Any]) -> dict[str, t.Any] | Refuse:
    """What to send to Patroni; empty when nothing differs."""
    changes = difference(current, wanted)
    if any(key in wanted for key in DEFAULTS):
        refusal = why_not_timing(merged(current, changes))
        if refusal is not None:
            return refusal
    return changes


@dataclasses.dataclass(frozen=True)
class Member:
    """One member as the cluster sees it. ``lag`` None: not known, or the leader itself."""

    name: str
    role: str
    state: str
    host: str | None
    port: int | None
    api_url: str | None
    timeline: int | None
    lag: int | None
    pending_restart: bool
    tags: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    pending_reason: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def is_leader(self) -> bool:
        return self.role in LEADERS

    def as_result(self) -> dict[str, t.Any]:
        return {**dataclasses.asdict(self), "tags": dict(self.tags), "pending_reason": dict(self.pending_reason)}


@dataclasses.dataclass(frozen=True)
class View:
    """The cluster at one moment."""

    scope: str | None
    members: tuple[Member, ...]
    paused: bool
    synchronous_mode: str | None
    scheduled_switchover: t.Mapping[str, t.Any] | None = None

    @property
    def leader(self) -> Member | None:
        return next((member for member in self.members if member.is_leader), None)

    @property
    def sync_standbys(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members if member.role in SYNC)


def synchronous_mode(config: t.Mapping[str, t.Any] | None) -> str | None:
    """``off``, ``on`` or ``quorum``; None when the configuration could not be read."""
    if config is None:
        return None
    value = str(config.get("synchronous_mode", "off")).lower()
    if value == "quorum":
        return "quorum"
    return "on" if value in _TRUE else "off"


def _whole(value: t.Any) -> int | None:
    """Patroni writes ``unknown`` where it does not know a number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_cluster(data: t.Any, config: t.Mapping[str, t.Any] | None) -> View:
    """The answer of ``GET /cluster``. Raises ValueError that names the place when its shape is wrong."""
    if not isinstance(data, t.Mapping) or not isinstance(data.get("members"), list):
        raise ValueError("Patroni /cluster: no list of members")
    members = []
    for number, entry in enumerate(data["members"]):
        for key in ("name", "role", "state"):
            if not isinstance(entry, t.Mapping) or not isinstance(entry.get(key), str):
                raise ValueError(f"Patroni /cluster: members/{number}/{key}: missing")
        # receive_lag and replay_lag exist since Patroni 4.1; lag is what both know.
        lag = entry.get("lag", entry.get("replay_lag"))
        members.append(
            Member(
                name=entry["name"],
                role=entry["role"],
                state=entry["state"],
                host=entry.get("host"),
                port=_whole(entry.get("port")),
                api_url=entry.get("api_url"),
                timeline=_whole(entry.get("timeline")),
                lag=_whole(lag),
                pending_restart=bool(entry.get("pending_restart")),
                tags=entry.get("tags") or {},
                pending_reason=entry.get("pending_restart_reason") or {},
            )
        )
    return View(
        scope=data.get("scope"),
        members=tuple(sorted(members, key=lambda member: member.name)),
        paused=bool(data.get("pause")),
        synchronous_mode=synchronous_mode(config),
        scheduled_switchover=data.get("scheduled_switchover"),
    )


def system_identifier(data: t.Any) -> str | None:
    """The answer of ``GET /patroni``: which PostgreSQL cluster this is; None while the member does not know it."""
    found = data.get("database_system_identifier") if isinstance(data, t.Mapping) else None
    return found if isinstance(found, str) and found.isdigit() else None


def why_not_member(member: Member, leader: Member, max_lag: int) -> str | None:
    """What is wrong with one member, or None."""
    if member.is_leader:
        return None if member.state == "running" else f"the leader {member.name} is {member.state}"
    if member.role not in ("replica", *SYNC):
        return f"{member.name} has the role {member.role}, which is not known here"
    if member.state != "streaming":
        return f"{member.name} is {member.state} instead of streaming"
    if member.timeline != leader.timeline:
        return f"{member.name} is on timeline {member.timeline}, the leader on {leader.timeline}"
    if member.lag is None:
        return f"the lag of {member.name} is not known"
    if member.lag > max_lag:
        return f"{member.name} lags {member.lag} bytes behind, more than {max_lag}"
    return None


def why_not_healthy(
    view: View, expected: t.Sequence[str] = (), max_lag: int = 1024**2, exempt: t.Sequence[str] = ()
) -> list[str]:
    """Every reason against calling the cluster healthy; empty when it is.

    Members that are ``exempt`` may be ill or away. There must be a leader all the same, and if one of them is the only
    synchronous standby, its being away still counts.
    """
    missing = set(expected) - set(exempt) - {one.name for one in view.members}
    reasons = [f"{name} is not a member" for name in sorted(missing)]
    if view.paused:
        reasons.append("Patroni is paused: it will not fail over")
    leader = view.leader
    if leader is None:
        return ["there is no leader", *reasons]
    reasons += [
        reason
        for reason in (why_not_member(member, leader, max_lag) for member in view.members if member.name not in exempt)
        if reason is not None
    ]
    candidates = [one for one in view.members if not one.is_leader and not one.tags.get("nosync")]
    if view.synchronous_mode in ("on", "quorum") and candidates and not view.sync_standbys:
        reasons.append("replication is to be synchronous, and no standby is")
    return reasons


def _shrinks(member: Member) -> bool:
    """Whether the restart of this member lowers something that no standby may have lower than the leader."""
    for name in NOT_LOWER_ON_STANDBY:
        reason = member.pending_reason.get(name)
        if isinstance(reason, t.Mapping):
            old, new = normal(reason.get("old_value")), normal(reason.get("new_value"))
            if old[0] == new[0] == "number" and new[1] < old[1]:
                return True
    return False


def next_restart(view: View, wanted: t.Sequence[str], max_lag: int = 1024**2) -> Member | Refuse | None:
    """Who restarts now, of those that wait for a restart; None when nobody does."""
    waiting = [one for one in view.members if one.pending_restart and one.name in wanted]
    if not waiting:
        return None
    leader = view.leader
    leader_first = leader is not None and _shrinks(leader)

    def order(one: Member) -> tuple[bool, bool, str]:
        # One that is ill already takes nobody further down.
        ill = leader is not None and why_not_member(one, leader, max_lag) is not None
        return not ill, one.is_leader is not leader_first, one.name

    turn = min(waiting, key=order)
    reasons = why_not_healthy(view, wanted, max_lag, exempt=(turn.name,))
    if reasons:
        return Refuse(
            "not_healthy",
            f"{turn.name} is not restarted",
            "; ".join(reasons),
            "Bring the cluster to health first (patronictl list), then run again.",
        )
    return turn
