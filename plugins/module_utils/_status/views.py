# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Questions to what the modules ``patroni_cluster_info``, ``etcd_cluster_info`` and ``redis_sentinel_info`` returned.

Patroni's own ``/cluster`` is accepted wherever a result of ``patroni_cluster_info`` is. Laws:

1. an answer that says nothing of a cluster (a failed task, a silent member) is never healthy and has no leader;
2. what is not one of these answers raises ValueError, so that a mistyped variable never passes for a silent cluster.
"""

from __future__ import annotations

import typing as t

from .._patroni import plan as patroni

PATRONI, ETCD, REDIS = "patroni", "etcd", "redis"

# What every task's result has, whatever became of it.
_TASK = frozenset({"msg", "failed", "unreachable", "skipped", "changed", "exception", "skip_reason"})


def kind(value: t.Any) -> str | None:
    """Whose answer this is; None: of a task that was skipped, or that failed before it had one."""
    if not isinstance(value, t.Mapping):
        raise ValueError("not a mapping: give the registered result of an _info module")
    if isinstance(value.get("sentinels"), list):
        return REDIS
    if isinstance(value.get("members"), list):
        return ETCD if "quorum" in value or "cluster_id" in value else PATRONI
    if _TASK & value.keys():
        return None
    raise ValueError(
        "neither the result of patroni_cluster_info, etcd_cluster_info or redis_sentinel_info nor Patroni's /cluster"
    )


def _of(value: t.Any, *kinds: str) -> str | None:
    found = kind(value)
    if found is not None and found not in kinds:
        raise ValueError(f"this is an answer of {found}; wanted is one of {' or '.join(kinds)}")
    return found


def patroni_view(value: t.Mapping[str, t.Any]) -> patroni.View:
    """A result of ``patroni_cluster_info``, or Patroni's ``/cluster``, as the planner of Patroni knows it."""
    mode = value.get("synchronous_mode")
    members = [
        {**one, "pending_restart_reason": one.get("pending_restart_reason", one.get("pending_reason"))}
        if isinstance(one, t.Mapping)
        else one
        for one in value["members"]
    ]
    return patroni.parse_cluster(
        {**value, "members": members, "pause": value.get("pause", value.get("paused"))},
        None if mode is None else {"synchronous_mode": mode},
    )


def names(value: t.Any) -> tuple[str, ...]:
    """A list of names; a single text is none, or each of its letters would be a name."""
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError(f"expected: {value!r} is no list of names")
    return tuple(str(one) for one in value)


def leader_of(value: t.Any) -> str | None:
    """Name of the leader of Patroni or etcd, or address of the master of Redis."""
    found = kind(value)
    if found == PATRONI:
        leader = patroni_view(value).leader
        return None if leader is None else leader.name
    said = None if found is None else value.get("leader" if found == ETCD else "master")
    return None if said is None else str(said)


def sync_standbys(value: t.Any) -> list[str]:
    """Names of Patroni's synchronous standbys, or of the members of its quorum."""
    return [] if _of(value, PATRONI) is None else list(patroni_view(value).sync_standbys)


def lags(value: t.Any) -> dict[str, int | None]:
    """Bytes behind the leader by member of Patroni or node of Redis; None: not known. The leader is not among them."""
    found = _of(value, PATRONI, REDIS)
    if found == PATRONI:
        return {one.name: one.lag for one in patroni_view(value).members if not one.is_leader}
    if found == REDIS:
        nodes = [one for one in value.get("nodes") or [] if one.get("address") != value.get("master")]
        return {str(one.get("address")): one.get("lag") for one in nodes}
    return {}


def quorum_of(value: t.Any, total: int | None = None) -> dict[str, t.Any]:
    """How many vote, how many are needed, how many answer, how many may still be lost.

    Of Sentinels those answer that name the agreed master and find their own quorum. ``total``: how many there should
    be, where not all are known.
    """
    found = _of(value, ETCD, REDIS)
    known, answering = 0, 0
    if found == ETCD:
        said = value.get("quorum") or {}
        known, answering = int(said.get("voters", 0)), int(said.get("answering", 0))
    elif found == REDIS:
        master = value.get("master")
        known = len(value["sentinels"])
        answering = sum(
            bool(one.get("reachable"))
            and master is not None
            and one.get("sees_master") == master
            and one.get("quorum_ok") is True
            for one in value["sentinels"]
        )
    count = known if total is None else int(total)
    needed = count // 2 + 1
    return {
        "total": count,
        "needed": needed,
        "answering": answering,
        "spare": max(0, answering - needed),
        "ok": count > 0 and answering >= needed,
    }


def check(value: t.Any, wanted: str) -> None:
    """Raises where one of the questions above would."""
    _of(value, wanted)
    leader_of(value)
    if wanted == PATRONI:
        sync_standbys(value)
    else:
        quorum_of(value)
    if wanted != ETCD:
        lags(value)


def why_not_patroni(value: t.Any, expected: t.Sequence[str] = (), max_lag: int = 1024**2) -> list[str]:
    """Every reason against calling Patroni's cluster healthy."""
    if _of(value, PATRONI) is None:
        return ["no answer"]
    view = patroni_view(value)
    if not view.members:
        return [str(one) for one in value.get("reasons") or []] or ["no member answers"]
    return patroni.why_not_healthy(view, expected, max_lag)


def why_not(value: t.Any, wanted: str, expected: t.Sequence[str] = ()) -> list[str]:
    """The same for etcd and Redis, by the judgement that their module already made."""
    if _of(value, wanted) is None:
        return ["no answer"]
    known = {str(one.get("name" if wanted == ETCD else "address")) for one in _members(value, wanted)}
    reasons = [f"{name} is not a member" for name in sorted(set(expected) - known)]
    if value.get("healthy") is not True:
        reasons += [str(one) for one in value.get("reasons") or []] or ["not healthy"]
    return reasons


def _members(value: t.Mapping[str, t.Any], wanted: str) -> t.Sequence[t.Mapping[str, t.Any]]:
    return value["members"] if wanted == ETCD else value.get("nodes") or []
