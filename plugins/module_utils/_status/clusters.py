# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the clusters of PostgreSQL, etcd and Redis show, seen from every host that could ask."""

from __future__ import annotations

import dataclasses
import typing as t

from . import backups, views
from .hosts import ill, missing_part
from .look import (
    CONTAINERS,
    CRITICAL,
    ETCD,
    NOTE,
    PATRONICTL,
    PLAYBOOK,
    POSTGRES,
    REDIS,
    SITE,
    WARNING,
    Finding,
    Findings,
    Host,
    Look,
    age,
    listing,
    logs,
    mapping,
    number,
    size,
    words,
)

# -- clusters: what they have in common ------------------------------------------------------------------------------

CLUSTER_NAMES = {ETCD: "etcd", POSTGRES: "Patroni", REDIS: "Sentinel"}


def _cause(look: Look, member: str) -> str:
    """The code of what explains that a member is away."""
    host = look.hosts.get(member)
    if host is None or not host.asked:
        return ""
    if host.silent:
        return "host-unreachable"
    return "docker-silent" if "error" in mapping(host.status.get("engine")) else ""


def _cluster_unseen(look: Look, layer: str) -> Findings:
    """Who could not ask, or saw nothing; and whether nobody did."""
    seen = look.answers(layer)
    askers = [host for host in look.of(layer) if host.asked and not host.silent]
    name = CLUSTER_NAMES[layer]
    for host in askers:
        if host.name in seen:
            continue
        view = mapping(host.views.get(layer))
        why = "; ".join(words(view.get("reasons"))) or str(view.get("msg") or "it was not asked")
        yield Finding(
            WARNING,
            f"{layer}-unseen",
            host.name,
            f"{host.name} cannot see {name}: {why[:200]}",
            "the others can: it is cut off from them" if seen else "no other host can either",
            logs(host.name, CONTAINERS[layer][0]),
            cause="" if seen else f"{layer}-silent",
        )
    if not seen and askers:
        yield Finding(
            CRITICAL,
            f"{layer}-silent",
            askers[0].name,
            f"no member of {name} answers",
            SILENT[layer],
            logs(askers[0].name, CONTAINERS[layer][0]),
        )
    elif not seen and look.members.get(layer):
        asked = any(host.asked for host in look.of(layer))
        yield Finding(
            CRITICAL if asked else NOTE,
            f"{layer}-not-asked",
            "",
            f"nobody could be asked about {name}",
            "nothing is known of it",
            "bring one of its hosts back" if asked else "run again without --limit",
            cause="host-unreachable" if asked else "host-not-asked",
        )


ACTIVITY = (
    "docker exec --user 10010 postgres psql -h /run/postgresql"
    " -c 'SELECT usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2 ORDER BY 3 DESC'"
)
SILENT = {
    ETCD: "without it Patroni changes no leader, and after its lease the database stops",
    POSTGRES: "the database may be down",
    REDIS: "sessions may be down, and nobody moves the master",
}


def _leaders_differ(look: Look, layer: str) -> Findings:
    said: dict[str, list[str]] = {}
    for host, view in look.answers(layer).items():
        leader = views.leader_of(view)
        said.setdefault(look.name(leader) if layer == REDIS else leader or "nobody", []).append(host)
    if len(said) > 1:
        told = "; ".join(f"{leader} by {', '.join(hosts)}" for leader, hosts in sorted(said.items()))
        yield Finding(
            WARNING,
            f"{layer}-views-differ",
            "",
            f"hosts name different leaders: {told}",
            "a change is on its way, or the network is cut in two",
            "look again in a minute",
        )


def _others(look: Look, layer: str, found: t.Sequence[Finding]) -> Findings:
    """Law 2: reasons of the module that no rule here has found."""
    best = look.best(layer)
    if best and best.get("healthy") is not True and not any(one.severity != NOTE for one in found):
        reasons = "; ".join(words(best.get("reasons"))) or "it does not say why"
        yield Finding(
            WARNING,
            f"{layer}-not-healthy",
            "",
            f"{CLUSTER_NAMES[layer]} is not healthy: {reasons[:300]}",
            "its own module judges so",
            "look again in a minute; if it stays, read the logs of the member that is named",
        )


# -- PostgreSQL ------------------------------------------------------------------------------------------------------


def _patroni(look: Look) -> Findings:
    view = look.best(POSTGRES)
    if not view:
        return
    members = {str(one.get("name")): one for one in listing(view.get("members"))}
    leader = views.leader_of(view)
    first = next(iter(look.answers(POSTGRES)), "")
    if leader is None:
        yield Finding(
            CRITICAL,
            "postgres-no-leader",
            "",
            "no member leads",
            "nothing can be written: requests wait, then fail",
            f"see that etcd is well; then on {first}: {PATRONICTL} list; docker logs --tail 50 postgres; if nobody is"
            f" elected: {PLAYBOOK}.failover -e reason=… --check",
        )
    elif members[leader].get("state") != "running":
        yield Finding(
            CRITICAL,
            "postgres-leader-not-running",
            leader,
            f"the leader {leader} is {members[leader].get('state')}",
            "nothing can be written",
            logs(leader, "postgres"),
        )
    for name in look.members[POSTGRES]:
        if name not in members:
            yield Finding(
                WARNING,
                "postgres-member-missing",
                name,
                f"{name} is no member of the cluster ({len(members)} are)",
                "one copy less: nobody else may go",
                logs(name, "postgres"),
                cause=_cause(look, name),
            )
    for name, one in members.items():
        if name != leader and leader is not None:
            yield from _standby(look, name, one, members[leader], first)
        if one.get("pending_restart"):
            settings = ", ".join(sorted(mapping(one.get("pending_reason"))))
            yield Finding(
                WARNING,
                "postgres-pending-restart",
                name,
                f"{name} waits for a restart{': ' if settings else ''}{settings}",
                "a setting is not in force",
                f"{SITE} --tags postgres (restarts those that wait, the leader last)",
            )
    yield from _patroni_modes(look, view, members, leader, first)


def _standby(look: Look, name: str, one: t.Mapping[str, t.Any], leader: t.Mapping[str, t.Any], first: str) -> Findings:
    reinit = (
        f"{logs(name, 'postgres')}; if it does not come back:"
        f" {PLAYBOOK}.reinit_member -e member={name} -e reason=… --check"
    )
    lag = number(one.get("lag"))
    if one.get("state") != "streaming":
        yield Finding(
            WARNING,
            "postgres-not-streaming",
            name,
            f"{name} is {one.get('state')} instead of streaming",
            "one copy less: nobody else may go",
            reinit,
            cause=_cause(look, name),
        )
    elif one.get("timeline") != leader.get("timeline"):
        yield Finding(
            WARNING,
            "postgres-timeline",
            name,
            f"{name} is on timeline {one.get('timeline')}, the leader on {leader.get('timeline')}",
            "it does not follow the leader",
            reinit,
            cause=_cause(look, name),
        )
    elif lag is None or lag > look.limits.max_lag_bytes:
        yield Finding(
            WARNING,
            "postgres-lag",
            name,
            f"{name} is {'an unknown number of' if lag is None else f'{lag:.0f}'} bytes behind, more than"
            f" {look.limits.max_lag_bytes}",
            "it would not be promoted",
            f"on {first}: {PATRONICTL} list, again in a minute; if it grows, look at disk and network of {name}",
            cause=_cause(look, name),
        )


def _patroni_modes(
    look: Look,
    view: t.Mapping[str, t.Any],
    members: t.Mapping[str, t.Mapping[str, t.Any]],
    leader: str | None,
    first: str,
) -> Findings:
    mode = view.get("synchronous_mode")
    if view.get("paused"):
        yield Finding(
            WARNING,
            "postgres-paused",
            leader or "",
            "Patroni is paused",
            "it does not fail over",
            f"by whom and until when: {PLAYBOOK}.maintenance -e state=resumed --check; without --check it ends",
        )
    standbys = [one for one in members.values() if one.get("name") != leader]
    if mode in ("on", "quorum") and len(look.members[POSTGRES]) > 1 and leader and not views.sync_standbys(view):
        gone = [_cause(look, name) for name in look.members[POSTGRES] if name != leader]
        yield Finding(
            CRITICAL,
            "postgres-no-sync-standby",
            leader,
            "no standby is synchronous, and one must be",
            "a commit has one copy, or waits; if the leader goes, nobody is promoted",
            f"bring a standby back (on {first}: {PATRONICTL} list)",
            cause="" if any(one.get("state") == "streaming" for one in standbys) else next(filter(None, gone), ""),
        )
    elif mode == "off" and len(look.members[POSTGRES]) > 1:
        yield Finding(
            NOTE,
            "postgres-asynchronous",
            "",
            "replication is asynchronous",
            "a failover may lose the last commits",
            "set postgres_synchronous_mode, unless this is meant",
        )
    if view.get("scheduled_switchover"):
        at = mapping(view["scheduled_switchover"]).get("at", "a set time")
        yield Finding(
            NOTE,
            "postgres-switchover-scheduled",
            leader or "",
            f"a switchover is scheduled for {at}",
            "the leader will move then",
            f"to take it back, on {first}: {PATRONICTL} flush {view.get('scope')} switchover",
        )


def databases(look: Look) -> Findings:
    """What the servers themselves say: archiving, connections, slots."""
    for host in look.of(POSTGRES):
        if not host.told:
            continue
        cause = ill(host, "postgres")
        for missing in missing_part(host, "database", "PostgreSQL", logs(host.name, "postgres")):
            yield dataclasses.replace(missing, cause=cause)
        told = mapping(host.part("database"))
        if told.get("in_recovery") is False:
            yield from _leading_database(look, host.name, told)
        yield from _detector(host)


def _leading_database(look: Look, host: str, told: t.Mapping[str, t.Any]) -> Findings:
    check = f"on {host}: {look.pgbackrest('check')}"
    waiting, used, most = (number(told.get(name)) or 0 for name in ("waiting_wal", "connections", "max_connections"))
    if told.get("archive_failing"):
        yield Finding(
            CRITICAL,
            "archive-failing",
            host,
            f"WAL is not archived: failed {age(number(told.get('failed_seconds_ago')))} ago, last success"
            f" {age(number(told.get('archived_seconds_ago')))} ago, {waiting:.0f} segments wait",
            "what is not archived cannot be restored, and it fills the disk",
            check,
            cause=backups.archiving_cause(look),
        )
    elif waiting > look.limits.waiting_wal:
        yield Finding(
            WARNING,
            "archive-behind",
            host,
            f"{waiting:.0f} segments of WAL wait to be archived, more than {look.limits.waiting_wal}",
            "what is not archived cannot be restored",
            check,
        )
    if most and used / most > look.limits.connections:
        yield Finding(
            WARNING,
            "connections-near-limit",
            host,
            f"{used:.0f} of {most:.0f} connections are in use",
            "beyond it the server refuses",
            f"on {host}: {ACTIVITY}",
        )
    lost = words(told.get("lost_slots"))
    if lost:
        yield Finding(
            WARNING,
            "slot-lost",
            host,
            f"the replication slots {', '.join(lost)} lost the WAL that they need",
            "their members cannot catch up by themselves",
            f"on {host}: {PATRONICTL} reinit {look.best(POSTGRES).get('scope')} <member>",
        )


def _detector(host: Host) -> Findings:
    if "detector" not in host.containers:
        return
    told, error = mapping(host.part("detector")), host.error("detector")
    if error or not told.get("up"):
        yield Finding(
            WARNING,
            "detector-down",
            host.name,
            f"the failure detector is not at work: {error or 'its loop stands still'}"[:240],
            "a lost leader is found by the lease alone, 20 s later",
            logs(host.name, "detector"),
            cause=ill(host, "detector"),
        )
    elif told.get("suspects"):
        yield Finding(
            WARNING,
            "detector-suspects",
            host.name,
            "the failure detector here holds the leader for dead",
            "alone it does nothing; with a majority it takes the lease",
            logs(host.name, "detector"),
        )


# -- etcd ------------------------------------------------------------------------------------------------------------


def _etcd(look: Look) -> Findings:
    view = look.best(ETCD)
    if not view:
        return
    quorum = views.quorum_of(view, None)
    numbers = f"{quorum['answering']} of {quorum['total']} answer, {quorum['needed']} are needed"
    if not quorum["ok"]:
        yield Finding(
            CRITICAL,
            "etcd-no-quorum",
            "",
            f"etcd has no quorum: {numbers}",
            "Patroni changes no leader, and after its lease the database stops",
            "bring a member back: see those that are silent",
        )
    elif view.get("leader") is None:
        yield Finding(
            CRITICAL,
            "etcd-no-leader",
            "",
            f"etcd has no leader ({numbers})",
            "nothing can be written to it",
            "look again in a few seconds; then docker logs --tail 50 etcd on each member",
        )
    members = {str(one.get("name")): one for one in listing(view.get("members"))}
    for name in look.members[ETCD]:
        if name not in members:
            yield Finding(
                WARNING,
                "etcd-member-missing",
                name,
                f"{name} is no member of etcd",
                "one vote less",
                f"{SITE} --tags etcd",
                cause=_cause(look, name),
            )
    for name, one in members.items():
        yield from _etcd_member(look, name, one, numbers)
    fraction = number(view.get("quota_fraction"))
    if fraction is not None and fraction > look.limits.etcd_quota:
        yield Finding(
            WARNING,
            "etcd-quota",
            "",
            f"etcd's database has {100 * fraction:.0f} % of its quota",
            "at 100 % it refuses writes",
            f"on {view.get('leader')}: docker exec etcd etcd-defrag; else raise etcd_quota_mb",
        )


def _etcd_member(look: Look, name: str, one: t.Mapping[str, t.Any], numbers: str) -> Findings:
    label = name or ", ".join(words(one.get("peer_urls")))
    if not one.get("started", True):
        yield Finding(
            WARNING,
            "etcd-member-not-started",
            label,
            f"{label} was added to etcd and never started",
            "it is needed for the quorum",
            f"{SITE} --tags etcd",
        )
    elif not one.get("reachable"):
        yield Finding(
            WARNING,
            "etcd-member-silent",
            name,
            f"{name} does not answer ({numbers})",
            "its vote is lacking",
            logs(name, "etcd"),
            cause=_cause(look, name),
        )
    elif one.get("learner"):
        yield Finding(
            WARNING,
            "etcd-learner",
            name,
            f"{name} has no vote yet",
            "it still copies the data",
            "look again in a minute",
        )
    for alarm in words(one.get("alarms")):
        yield Finding(
            CRITICAL,
            "etcd-alarm",
            name,
            f"{name} has raised the alarm {alarm}",
            "etcd refuses writes: Patroni cannot keep its lease"
            if alarm == "NOSPACE"
            else "its data differ from the others'",
            f"on {look.best(ETCD).get('leader')}: docker exec etcd etcd-defrag; then module etcd_member, state=disarmed"
            if alarm == "NOSPACE"
            else f"{logs(name, 'etcd')}; take the member out and let it join anew",
        )


# -- Redis -----------------------------------------------------------------------------------------------------------


def _redis(look: Look) -> Findings:
    view = look.best(REDIS)
    if not view:
        return
    quorum = views.quorum_of(view)
    numbers = f"{quorum['answering']} of {quorum['total']}, {quorum['needed']} are needed"
    named = sorted(
        {look.name(one.get("sees_master")) for one in listing(view.get("sentinels")) if one.get("sees_master")}
    )
    if len(named) > 1:
        yield Finding(
            WARNING,
            "sentinels-disagree",
            "",
            f"Sentinels name different masters: {', '.join(named)}",
            "a failover is on its way, or the network is cut in two",
            "look again in a minute; then docker logs --tail 50 sentinel",
        )
    if view.get("master") is None:
        yield Finding(
            CRITICAL,
            "redis-no-master",
            "",
            "the Sentinels agree on no master",
            "sessions cannot be written",
            "docker logs --tail 50 sentinel on each host",
        )
    elif not view.get("quorum"):
        yield Finding(
            CRITICAL,
            "sentinel-no-quorum",
            "",
            f"the Sentinels have no quorum: {numbers}",
            "if the master goes, nobody takes its place",
            "bring a Sentinel back: see those that are silent",
        )
    for one in listing(view.get("sentinels")):
        yield from _sentinel(look, one, numbers)
    masters = [str(one.get("address")) for one in listing(view.get("nodes")) if one.get("role") == "master"]
    if len(masters) > 1:
        yield Finding(
            CRITICAL,
            "redis-two-masters",
            "",
            f"nodes that call themselves master: {', '.join(map(look.name, masters))}",
            "what is written to the wrong one is lost when it becomes a replica",
            "look again in ten seconds, which the Sentinels need; then docker logs --tail 50 sentinel",
        )
    for one in listing(view.get("nodes")):
        yield from _node(look, one, view.get("master"))


def _sentinel(look: Look, one: t.Mapping[str, t.Any], numbers: str) -> Findings:
    name = look.name(str(one.get("address")))
    if not one.get("reachable"):
        yield Finding(
            WARNING,
            "sentinel-silent",
            name,
            f"the Sentinel of {name} does not answer ({numbers})",
            "its vote is lacking",
            logs(name, "sentinel"),
            cause=_cause(look, name),
        )
    elif one.get("tilt"):
        yield Finding(
            WARNING,
            "sentinel-tilt",
            name,
            f"the Sentinel of {name} distrusts its clock",
            "for 30 s it does not act",
            f"on {name}: chronyc tracking",
        )


def _node(look: Look, one: t.Mapping[str, t.Any], master: t.Any) -> Findings:
    name = look.name(str(one.get("address")))
    log, lag, cause = logs(name, "redis"), number(one.get("lag")), _cause(look, name)
    if not one.get("reachable"):
        severity = CRITICAL if one.get("address") == master else WARNING
        yield Finding(
            severity,
            "redis-node-silent",
            name,
            f"Redis on {name} does not answer: {one.get('error')}"[:240],
            "sessions cannot be written" if severity == CRITICAL else "one copy less",
            log,
            cause=cause,
        )
        return
    if one.get("role") == "slave" and one.get("master_link") != "up":
        yield Finding(
            WARNING,
            "redis-link-down",
            name,
            f"Redis on {name} has no link to its master: {one.get('link_state')}",
            "one copy less",
            log,
        )
    elif lag is not None and lag > look.limits.max_lag_bytes:
        yield Finding(
            WARNING,
            "redis-lag",
            name,
            f"Redis on {name} is {size(lag)} behind ({lag:.0f} bytes)",
            "sessions of the last moments would be lost with the master",
            log,
        )
    connected, least = len(words(one.get("replicas"))), number(one.get("min_replicas"))
    if one.get("address") == master and least is not None and connected < least:
        yield Finding(
            CRITICAL,
            "redis-refuses-writes",
            name,
            f"{connected} replicas are connected, and {least:.0f} must be",
            "the master refuses writes: nobody can log in",
            "bring a replica back: see those that are silent",
        )
    if (one.get("aof_enabled") and one.get("aof_ok") is False) or one.get("rdb_ok") is False:
        yield Finding(
            WARNING,
            "redis-not-saved",
            name,
            f"Redis on {name} could not save its data",
            "a restart would lose sessions",
            f"{log}; df -h /var/lib",
        )


_JUDGES: tuple[tuple[str, t.Callable[[Look], Findings]], ...] = ((POSTGRES, _patroni), (ETCD, _etcd), (REDIS, _redis))


def judge(look: Look) -> Findings:
    """All three."""
    for layer, members in _JUDGES:
        if look.members.get(layer):
            own = [*_cluster_unseen(look, layer), *members(look), *_leaders_differ(look, layer)]
            yield from own
            yield from _others(look, layer, own)
