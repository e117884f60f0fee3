# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host may leave, and in which order, judged before anything is stopped.

Laws (checked by the tests):

1. what is left must be an inventory that the preflight of C(site) accepts, judged by the tier that was promised while
   the host was still there: leaving never lowers the promise without a word;
2. of each voting cluster, those that stay and answer are a majority of those that stay;
3. the leader of PostgreSQL is never stopped, nor the last standby that may be synchronous; the master of Redis is
   stopped only after it was moved;
4. silence is no health: a cluster that does not answer, or of which those that stay are not well, loses nobody;
5. what was done is not asked again: a host that its clusters no longer know, or that is dead, passes by what is left,
   so that a run that was cut off is run again.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import Refuse
from .._inventory import plan as inventory

# Who serves leaves first, who decides leaves last.
ORDER = ("edge", "odoo", "redis", "postgres", "etcd")
ASYNCHRONOUS = "off"
SWITCHOVER = "ansible-playbook dedicated.odoo.switchover -e reason=…"
AGAIN = "then run this again"


@dataclasses.dataclass(frozen=True)
class Wish:
    """Who is to leave; what of the inventory only this judgement needs."""

    host: str
    reached: tuple[str, ...]  # hosts of this run
    allow_even: bool = False
    cron: tuple[str, ...] | None = None  # hosts of scheduled jobs, where they are declared
    vip: str = ""


@dataclasses.dataclass(frozen=True)
class Etcd:
    """What the members show."""

    members: tuple[str, ...]
    answering: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    reachable: bool = True


@dataclasses.dataclass(frozen=True)
class Postgres:
    """What Patroni shows. ``streaming``: standbys that may be synchronous; ``synchronous``: those that are."""

    members: tuple[str, ...]
    leader: str
    streaming: tuple[str, ...]
    synchronous_mode: str = "on"
    synchronous: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    reachable: bool = True


@dataclasses.dataclass(frozen=True)
class Redis:
    """What the Sentinels show, by hosts."""

    master: str
    sentinels: tuple[str, ...]
    answering: tuple[str, ...]
    quorum: int
    reasons: tuple[str, ...] = ()
    reachable: bool = True


@dataclasses.dataclass(frozen=True)
class Look:
    """The clusters of which the host is a member; None: it is in none such, so nobody asked."""

    address: str
    answers: bool = True
    etcd: Etcd | None = None
    postgres: Postgres | None = None
    redis: Redis | None = None


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer's part. ``move`` says that the master is moved first, ``here`` that the host itself is touched."""

    layer: str
    text: str
    here: bool = True
    move: bool = False

    def as_result(self) -> dict[str, t.Any]:
        """Plain data for the border."""
        return dataclasses.asdict(self)


# -- what was read ---------------------------------------------------------------------------------------------------


def _reasons(result: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    return tuple(map(str, result.get("reasons") or ()))


def parse_etcd(result: t.Mapping[str, t.Any]) -> Etcd:
    """The result of C(etcd_cluster_info)."""
    voters = [one for one in result.get("members") or () if not one.get("learner")]
    return Etcd(
        members=tuple(str(one.get("name") or one.get("id")) for one in voters),
        answering=tuple(str(one["name"]) for one in voters if one.get("reachable")),
        reasons=_reasons(result),
        reachable=bool(result.get("reachable")),
    )


def parse_postgres(result: t.Mapping[str, t.Any]) -> Postgres:
    """The result of C(patroni_cluster_info)."""
    members = result.get("members") or ()
    leader = str(result.get("leader") or "")
    return Postgres(
        members=tuple(str(one["name"]) for one in members),
        leader=leader,
        streaming=tuple(
            str(one["name"])
            for one in members
            if one["name"] != leader and one.get("state") == "streaming" and not (one.get("tags") or {}).get("nosync")
        ),
        # What could not be read may be on.
        synchronous_mode=str(result.get("synchronous_mode") or "on"),
        synchronous=tuple(map(str, result.get("sync_standbys") or ())),
        reasons=_reasons(result),
        reachable=bool(result.get("reachable")),
    )


def _host(address: t.Any) -> str:
    return str(address or "").rpartition(":")[0].strip("[]")


def parse_redis(result: t.Mapping[str, t.Any]) -> Redis:
    """The result of C(redis_sentinel_info)."""
    sentinels = result.get("sentinels") or ()
    return Redis(
        master=_host(result.get("master")),
        sentinels=tuple(_host(one["address"]) for one in sentinels),
        answering=tuple(_host(one["address"]) for one in sentinels if one.get("reachable")),
        quorum=max((int(one.get("quorum_needed") or 0) for one in sentinels), default=0),
        reasons=_reasons(result),
        reachable=bool(result.get("reachable")),
    )


# -- the inventory ---------------------------------------------------------------------------------------------------


def layers_of(snapshot: inventory.Snapshot, host: str) -> tuple[str, ...]:
    """The layers of a host, in the order in which it leaves them."""
    groups = {"etcd": snapshot.etcd_group}
    return tuple(layer for layer in ORDER if host in snapshot.members(groups.get(layer, layer)))


def without(snapshot: inventory.Snapshot, host: str) -> inventory.Snapshot:
    """The inventory as it will be, with the tier as it is now."""
    promised = inventory.tier(snapshot)
    declared = {"dedicated_tier": inventory.Value(promised)} if promised else {}
    return dataclasses.replace(
        snapshot,
        groups={group: tuple(name for name in hosts if name != host) for group, hosts in snapshot.groups.items()},
        hosts={
            name: dataclasses.replace(view, values={**view.values, **declared})
            for name, view in snapshot.hosts.items()
            if name != host
        },
    )


def _refuse(host: str, code: str, why: str, do: str) -> Refuse:
    return Refuse(code, f"{host} is not retired", why, do)


def why_not_named(snapshot: inventory.Snapshot, wish: Wish) -> Refuse | None:
    """Whether there is such a host at all, and whether all others can be told."""
    known = snapshot.groups.get("all", ())
    if not wish.host:
        return Refuse(
            "no-host-named",
            "nobody is retired",
            "the host to retire is not named",
            "Name it: ansible-playbook dedicated.odoo.retire_host -e retire=<inventory name>.",
        )
    if wish.host not in known:
        return _refuse(
            wish.host,
            "unknown-host",
            f"the inventory has no such host among its {len(known)}; retired hosts are taken out of it at the very end",
            "Write its inventory name as ansible-inventory --graph shows it.",
        )
    if not layers_of(snapshot, wish.host):
        return _refuse(
            wish.host,
            "no-layer",
            f"it is in none of the groups {', '.join(ORDER)}, so it serves nothing",
            "If it was taken out of its groups too early, put it back and run this again; otherwise take it out of the"
            " inventory.",
        )
    missing = sorted(set(snapshot.members(inventory.ALL)) - set(wish.reached))
    if missing:
        return _refuse(
            wish.host,
            "limited",
            f"{', '.join(missing)} would not be told (--limit)",
            "Run it without --limit.",
        )
    return None


def judge_inventory(snapshot: inventory.Snapshot, wish: Wish) -> tuple[Refuse, ...]:
    """Everything in the inventory that speaks against it."""
    refusal = why_not_named(snapshot, wish)
    if refusal is not None:
        return (refusal,)
    refusals = [
        _refuse(
            wish.host,
            finding.code,
            f"without it: {finding.message}",
            "Where a host is lacking, add one first: put it into the group, run ansible-playbook dedicated.odoo.site,"
            f" {AGAIN}." + (" Where two leave one after the other: -e retire_allow_even=true." * _even(finding)),
        )
        for finding in inventory.judge(without(snapshot, wish.host))
        if not (wish.allow_even and _even(finding))
    ]
    return (*refusals, *_odoo(snapshot, wish), *_edge(snapshot, wish))


def _even(finding: inventory.Finding) -> bool:
    return finding.code == "even-etcd"


def _odoo(snapshot: inventory.Snapshot, wish: Wish) -> t.Iterator[Refuse]:
    """Scheduled jobs need a host that is declared for them and runs Odoo."""
    if wish.cron is None or wish.host not in wish.cron:
        return
    left = [name for name in snapshot.members("odoo") if name in wish.cron and name != wish.host]
    if not left:
        yield _refuse(
            wish.host,
            "last-cron-host",
            f"odoo_cron_members names {len(wish.cron)} ({', '.join(wish.cron)}), and without it no Odoo host runs"
            " scheduled jobs",
            f"Name another host in odoo_cron_members, run ansible-playbook dedicated.odoo.site --tags odoo, {AGAIN}.",
        )


def _edge(snapshot: inventory.Snapshot, wish: Wish) -> t.Iterator[Refuse]:
    """A virtual address is held by two edges or more."""
    edges = snapshot.members("edge")
    left = [name for name in edges if name != wish.host]
    if wish.vip and wish.host in edges and len(left) == 1:
        yield _refuse(
            wish.host,
            "virtual-address-alone",
            f"1 edge would be left ({left[0]}) for the virtual address {wish.vip}, and at least 2 hold one",
            f"Add an edge, or give the address up first (docs/howto/edge-pair.md), {AGAIN}.",
        )


# -- the clusters ----------------------------------------------------------------------------------------------------


def judge_clusters(layers: t.Sequence[str], wish: Wish, look: Look) -> tuple[Refuse, ...]:
    """Everything in the running clusters that speaks against it."""
    checks = {"etcd": _etcd, "postgres": _postgres, "redis": _redis}
    found: list[Refuse] = []
    for layer in layers:
        if layer in checks:
            found.extend(checks[layer](wish, look))
    return tuple(found)


def _silent(wish: Wish, what: str, command: str) -> Refuse:
    return _refuse(
        wish.host,
        f"{what}-does-not-answer",
        f"of {what} nobody answers, so nobody can say what is left without it",
        f"Bring it back first: {command} on its hosts; {AGAIN}.",
    )


def _ill(wish: Wish, what: str, reasons: t.Sequence[str]) -> Refuse:
    return _refuse(
        wish.host,
        f"{what}-not-healthy",
        f"those of {what} that stay have {len(reasons)} problem(s): {'; '.join(reasons)}",
        f"Bring them back first (ansible-playbook dedicated.odoo.site --tags {what}), {AGAIN}.",
    )


def _etcd(wish: Wish, look: Look) -> t.Iterator[Refuse]:
    """A quorum of those that stay."""
    seen = look.etcd
    if seen is None or not seen.reachable:
        yield _silent(wish, "etcd", "docker logs etcd")
        return
    left = [name for name in seen.members if name != wish.host]
    well = [name for name in left if name in seen.answering]
    needed = len(left) // 2 + 1
    if len(well) < needed:
        ill = ", ".join(sorted(set(left) - set(well)))
        yield _refuse(
            wish.host,
            "etcd-quorum",
            f"of the {len(left)} etcd members that stay {len(well)} answer and {needed} are needed"
            + (f" ({ill} does not)" if ill else ""),
            f"Bring the others back first: docker logs etcd; {AGAIN}.",
        )
    elif seen.reasons:
        yield _ill(wish, "etcd", seen.reasons)


def _postgres(wish: Wish, look: Look) -> t.Iterator[Refuse]:
    """A leader elsewhere, and a standby for it."""
    seen = look.postgres
    if seen is None or not seen.reachable:
        yield _silent(wish, "postgres", "docker logs postgres")
        return
    if seen.leader == wish.host:
        # Patroni promotes nobody else while replication is synchronous.
        heirs = sorted(seen.streaming if seen.synchronous_mode == ASYNCHRONOUS else seen.synchronous)
        yield _refuse(
            wish.host,
            "postgres-leader",
            f"it leads PostgreSQL; {len(heirs)} member(s) could take over ({', '.join(heirs)})",
            f"Move the lead first: {SWITCHOVER} -e expect={wish.host}; {AGAIN}.",
        )
        return
    if seen.reasons:
        yield _ill(wish, "postgres", seen.reasons)
    standbys = [name for name in seen.streaming if name != wish.host]
    if seen.synchronous_mode != ASYNCHRONOUS and not standbys:
        yield _refuse(
            wish.host,
            "no-synchronous-standby",
            f"of the {len([one for one in seen.members if one != wish.host])} PostgreSQL members that stay none streams"
            " and may be synchronous, so a commit would have one copy",
            "Add a member first, or set postgres_synchronous_mode to false with tier single; run ansible-playbook"
            f" dedicated.odoo.site, {AGAIN}.",
        )


def _redis(wish: Wish, look: Look) -> t.Iterator[Refuse]:
    """Sentinels that can still promote, and replicas that are well."""
    seen = look.redis
    if seen is None or not seen.reachable:
        yield _silent(wish, "redis", "docker logs sentinel")
        return
    left = [one for one in seen.sentinels if one != look.address]
    well = [one for one in left if one in seen.answering]
    needed = max(seen.quorum, len(left) // 2 + 1)
    if len(well) < needed:
        yield _refuse(
            wish.host,
            "sentinel-quorum",
            f"of the {len(left)} Sentinels that stay {len(well)} answer, and {needed} are needed to promote a replica",
            f"Bring the others back, or add a host to group redis (ansible-playbook dedicated.odoo.site), {AGAIN}.",
        )
    elif seen.reasons:
        yield _ill(wish, "redis", seen.reasons)


# -- the order -------------------------------------------------------------------------------------------------------


def steps(layers: t.Sequence[str], wish: Wish, look: Look) -> tuple[Step, ...]:
    """What is done, in this order; of a dead host only what the others have to forget."""
    host, here = wish.host, look.answers
    texts = {
        "edge": f"{host} gives the virtual address up and stops Traefik; the other edges forget its Odoo",
        "odoo": f"{host} stops Odoo and its router",
        "redis": f"{host} stops Redis and its Sentinel; the other Sentinels forget it",
        "postgres": f"{host} stops PostgreSQL, its data stay; its replication slot is dropped",
        "etcd": f"{host} is removed from etcd and stops it, its data are put aside",
    }
    dead = {
        "edge": f"the other edges forget the Odoo of {host}",
        "redis": f"the other Sentinels forget {host}",
        "postgres": f"the replication slot of {host} is dropped",
        "etcd": f"{host} is removed from etcd",
    }
    found = []
    for layer in ORDER:
        if layer not in layers or not (here or layer in dead):
            continue
        move = layer == "redis" and here and moves_master(look)
        text = (texts if here else dead)[layer]
        found.append(Step(layer, ("the master of Redis moves to another host; " if move else "") + text, here, move))
    others = "the hosts that stay get firewall, PostgreSQL, Redis, routers and Odoo without it"
    return (*found, Step("others", others, here=False))


def moves_master(look: Look) -> bool:
    """Whether the host is the master of Redis."""
    return look.redis is not None and bool(look.redis.master) and look.redis.master == look.address
