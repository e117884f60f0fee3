# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way of a request: virtual address, edges, Odoo, routers, pools."""

from __future__ import annotations

import dataclasses

from . import views
from .hosts import ill, missing_part
from .look import (
    CRITICAL,
    EDGE,
    NOTE,
    ODOO,
    PGBOUNCER,
    POSTGRES,
    REDIS,
    WARNING,
    Finding,
    Findings,
    Host,
    Look,
    listing,
    logs,
    mapping,
    number,
    words,
)


def routes(host: Host, proxy: str) -> list[str]:
    """To which servers HAProxy on this host sends."""
    servers = listing(host.part("router"))
    return sorted(
        str(one.get("name")) for one in servers if one.get("proxy") == proxy and str(one.get("status")).startswith("UP")
    )


def routers(look: Look) -> Findings:
    wanted = {
        "postgres_leader": views.leader_of(look.best(POSTGRES)) if look.best(POSTGRES) else None,
        "redis_master": look.name(views.leader_of(look.best(REDIS))) if look.best(REDIS) else None,
    }
    for host in look.of(ODOO):
        if not host.told:
            continue
        for part in ("router", "pools"):
            container = "haproxy" if part == "router" else "pgbouncer"
            for missing in missing_part(host, part, container, logs(host.name, container)):
                yield dataclasses.replace(missing, cause=ill(host, container))
        if host.part("router") is not None:
            for proxy, leader in wanted.items():
                yield from _route(look, host, proxy, leader)
        yield from _pools(look, host)


def _route(look: Look, host: Host, proxy: str, leader: str | None) -> Findings:
    ups = routes(host, proxy)
    layer = POSTGRES if proxy == "postgres_leader" else REDIS
    if len(ups) > 1:
        yield Finding(
            CRITICAL,
            "route-to-two",
            host.name,
            f"HAProxy sends {proxy} to several: {', '.join(ups)}",
            "what is written may go to the wrong one",
            f"look again in a few seconds; then {logs(host.name, 'haproxy')}",
        )
    elif not ups:
        nobody = leader in (None, "nobody")
        yield Finding(
            WARNING if nobody or not look.alone(host.name, ODOO) else CRITICAL,
            "route-to-nobody",
            host.name,
            f"HAProxy knows nobody for {proxy}",
            f"the Odoo of {host.name} cannot reach its {'database' if layer == POSTGRES else 'sessions'}",
            logs(host.name, "haproxy"),
            cause=f"{layer}-no-{'leader' if layer == POSTGRES else 'master'}" if nobody else "",
        )
    elif leader not in (None, "nobody", ups[0]):
        yield Finding(
            WARNING,
            "route-differs",
            host.name,
            f"HAProxy sends {proxy} to {ups[0]}, and the leader is {leader}",
            "a change is on its way, or HAProxy cannot see the leader",
            f"look again in a few seconds; then {logs(host.name, 'haproxy')}",
        )


def _pools(look: Look, host: Host) -> Findings:
    told = mapping(host.part("pools"))
    for one in listing(told.get("databases")):
        if one.get("paused") or one.get("disabled"):
            verb = "RESUME" if one.get("paused") else "ENABLE"
            yield Finding(
                CRITICAL,
                "pool-paused",
                host.name,
                f"PgBouncer has the database {one.get('name')} {'paused' if one.get('paused') else 'disabled'}",
                "requests wait there until they fail",
                f"unless a switchover runs now, on {host.name}: {PGBOUNCER} '{verb} {one.get('name')}'",
            )
    for one in listing(told.get("pools")):
        wait = number(one.get("max_wait_seconds")) or 0
        if one.get("waiting") and wait > look.limits.pool_wait_seconds:
            yield Finding(
                WARNING,
                "pool-waits",
                host.name,
                f"{one['waiting']} clients wait for a connection to {one.get('database')}, the first for {wait:.0f} s",
                "users wait",
                f"on {host.name}: {PGBOUNCER} 'SHOW POOLS'",
            )


def holders(look: Look) -> list[str]:
    """Who has the virtual address."""
    return [host.name for host in look.hosts.values() if look.vip and look.vip in words(host.status.get("addresses"))]


def _unheld(look: Look, log: str) -> Finding:
    blind = [host for host in look.of(EDGE) if not host.told]
    if not blind:
        why = "clients reach nobody: no Traefik answers its own host"
        return Finding(CRITICAL, "vip-nobody", "", f"{look.vip} is on no edge", why, log)
    asked = [host.name for host in blind if host.asked]
    return Finding(
        WARNING if asked else NOTE,
        "vip-not-seen",
        "",
        f"{look.vip} is on no edge that answers",
        f"it may be on {', '.join(host.name for host in blind)}",
        f"bring {asked[0]} back; see from outside whether the site answers" if asked else "run again without --limit",
        cause="host-unreachable" if asked else "host-not-asked",
    )


def virtual_address(look: Look) -> Findings:
    """It is on one edge, and on no other host."""
    if not look.vip:
        return
    found = holders(look)
    log = "journalctl -u keepalived -n 20 on each edge; docs/howto/edge-pair.md"
    if len(found) > 1:
        yield Finding(
            CRITICAL,
            "vip-two-holders",
            ", ".join(found),
            f"{look.vip} is on {' and '.join(found)}",
            "clients meet one or the other, or none: VRRP does not pass between them",
            log,
        )
    elif not found:
        yield _unheld(look, log)
    elif found[0] not in look.members[EDGE]:
        yield Finding(
            CRITICAL,
            "vip-stranger",
            found[0],
            f"{look.vip} is on {found[0]}, which is no edge",
            "nobody serves there",
            log,
        )


def nobody_serves(look: Look) -> Findings:
    """Odoo and the edge as a whole: one host less is a warning, none is an outage."""
    for layer, probe, name in ((ODOO, "odoo", "Odoo"), (EDGE, "traefik", "the edge")):
        hosts = look.of(layer)
        told = [host for host in hosts if host.told]
        answering = [host for host in told if mapping(mapping(host.part("probes")).get(probe)).get("ok")]
        if len(hosts) > 1 and told and all(host.asked for host in hosts) and not answering:
            what = f"{name} answers on none of {len(told)} hosts that could be asked"
            yield Finding(CRITICAL, f"{layer}-down", "", what, "nobody is served", "see the findings of each host")


def judge(look: Look) -> Findings:
    """From the routers to the edge."""
    yield from routers(look)
    yield from virtual_address(look)
    yield from nobody_serves(look)
