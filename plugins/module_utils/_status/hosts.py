# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What single hosts tell of themselves: containers, answers, units, certificates, disks."""

from __future__ import annotations

import typing as t

from . import certificates
from .look import (
    CONTAINERS,
    CRITICAL,
    CRON,
    EDGE,
    FIREWALL,
    KEEPALIVED,
    NOTE,
    ODOO,
    SITE,
    WARNING,
    Finding,
    Findings,
    Host,
    Look,
    listing,
    logs,
    mapping,
    number,
)


def _closed(host: Host) -> t.Mapping[str, t.Any]:
    return mapping(host.part("closed"))


def judge(look: Look) -> Findings:
    closed = next((one for one in map(_closed, look.hosts.values()) if one), None)
    if closed is not None:
        yield Finding(
            CRITICAL,
            "site-closed",
            "",
            f"{closed.get('operation')} into {closed.get('place')} has closed the site ({closed.get('reason')})",
            "nobody can work until it is opened",
            f"run it again, or: ansible-playbook dedicated.odoo.reopen -e place={closed.get('place')} "
            "-e approver=<who answers for the books> -e reason=<why>",
        )
    shown = {host.name: one for host in look.hosts.values() if (one := mapping(host.part("maintenance")))}
    if shown:
        noted = shown[min(shown)]
        yield Finding(
            WARNING,
            "maintenance-page-shown",
            ", ".join(sorted(shown)),
            f"users see the maintenance page ({noted.get('reason')}, since {noted.get('since')})",
            "it stays until somebody hides it",
            "ansible-playbook dedicated.odoo.maintenance_page -e state=hidden",
        )
    for host in look.hosts.values():
        if not host.asked:
            yield Finding(
                NOTE,
                "host-not-asked",
                host.name,
                "was left out of this run",
                "nothing is known of it and of its part in the clusters",
                "run again without --limit",
            )
        elif host.silent:
            yield _silent(look, host)
        elif host.failed:
            yield Finding(
                WARNING,
                "host-not-told",
                host.name,
                f"could not be looked at: {host.failed[:200]}",
                "its containers, certificates and addresses are not known",
                "run again with -vvv",
            )
        else:
            yield from _host_itself(look, host)


def _silent(look: Look, host: Host) -> Finding:
    lone = [
        layer
        for layer in look.layers(host.name)
        if not any(other.told for other in look.of(layer) if other.name != host.name)
    ]
    return Finding(
        CRITICAL,
        "host-unreachable",
        host.name,
        f"gives no answer: {host.silent[:200]}",
        f"no other host of {', '.join(lone)} answers" if lone else "the others carry its part as long as no other goes",
        f"ansible {host.name} -m ansible.builtin.ping -vvv; then its console",
    )


def _host_itself(look: Look, host: Host) -> Findings:
    cluster = str(host.status.get("cluster") or "")
    if cluster and look.cluster and cluster != look.cluster:
        yield Finding(
            CRITICAL,
            "other-cluster",
            host.name,
            f"belongs to the cluster {cluster}, the inventory to {look.cluster}",
            "whatever is done with this inventory is done to somebody else's host",
            "use the inventory of that cluster",
        )
    yield from _containers(look, host)
    yield from _probes(look, host)
    yield from _units(look, host)
    yield from missing_part(host, "served", "what its ports serve", "run again with -vvv")
    yield from certificates.judge(host, look.limits)
    yield from _disks(look, host)


def missing_part(host: Host, part: str, what: str, do: str) -> Findings:
    """Law 1: a part that was asked for and did not come."""
    error = host.error(part)
    if error and error != "not asked":
        yield Finding(
            WARNING,
            f"{part}-unknown",
            host.name,
            f"{what} could not be read: {error[:200]}",
            "nothing is known of it",
            do,
        )


def expected_containers(look: Look, host: str) -> dict[str, str]:
    """Containers that this host must have, each with its layer."""
    found = {name: layer for layer in look.layers(host) for name in CONTAINERS[layer]}
    return {**found, **({CRON: ODOO} if host in look.cron else {})}


def _containers(look: Look, host: Host) -> Findings:
    engine = mapping(host.status.get("engine"))
    expected = expected_containers(look, host.name)
    if "error" in engine:
        yield Finding(
            CRITICAL if any(look.alone(host.name, layer) for layer in look.layers(host.name)) else WARNING,
            "docker-silent",
            host.name,
            f"the Docker engine does not answer: {str(engine['error'])[:200]}",
            "nothing on it is watched or restarted",
            f"on {host.name}: systemctl status docker; journalctl -u docker -n 50",
        )
        return
    seen = host.containers
    for name in sorted({*seen, *expected}):
        layer = expected.get(name, str(mapping(seen.get(name)).get("stack", "")))
        yield from _container(host.name, name, seen.get(name), CRITICAL if look.alone(host.name, layer) else WARNING)


def _container(host: str, name: str, one: t.Mapping[str, t.Any] | None, severity: str) -> Findings:
    if one is None:
        yield Finding(
            severity,
            "container-missing",
            host,
            f"the container {name} does not exist",
            "its part is not served here",
            f"{SITE} (without --check it makes what is missing)",
        )
        return
    state, health, stack = str(one.get("state")), str(one.get("health")), one.get("stack") or name
    if state != "running":
        do = f"on {host}: docker logs --tail 50 {name}; systemctl restart dedicated-{stack}"
        if state == "paused":
            do = f"on {host}: docker unpause {name}"
        yield Finding(severity, "container-down", host, f"the container {name} is {state}", "it does not serve", do)
    elif health == "unhealthy":
        yield Finding(
            severity,
            "container-unhealthy",
            host,
            f"the container {name} runs and fails its health check",
            "it may not serve",
            logs(host, name),
        )
    elif health == "starting":
        yield Finding(
            NOTE,
            "container-starting",
            host,
            f"the container {name} is starting",
            "it was restarted just now",
            "look again in a minute",
        )


# What is asked over HTTP, and the container that answers.
PROBED = {"odoo": "odoo-web", "websocket": "odoo-web", "haproxy": "haproxy", "traefik": "traefik"}


def ill(host: Host, container: str) -> str:
    """The code of what is wrong with a container, or nothing."""
    found = next(_container(host.name, container, host.containers.get(container), WARNING), None)
    return "" if found is None else found.code


def _probes(look: Look, host: Host) -> Findings:
    for name, probe in sorted(mapping(host.part("probes")).items()):
        one = mapping(probe)
        container = PROBED.get(name, name)
        if one.get("ok"):
            continue
        layer = EDGE if name == "traefik" else ODOO
        said = f"HTTP {one.get('status')}: {one.get('reason')}" if one.get("status") else str(one.get("reason"))
        yield Finding(
            CRITICAL if look.alone(host.name, layer) else WARNING,
            f"{name}-not-well",
            host.name,
            f"{name} does not answer well here: {said[:200]}",
            "requests go to other hosts, as long as there are any"
            if not look.alone(host.name, layer)
            else "nobody serves",
            logs(host.name, container),
            cause=ill(host, container),
        )


def _units(look: Look, host: Host) -> Findings:
    yield from missing_part(host, "units", "the state of systemd's units", f"on {host.name}: systemctl --failed")
    if host.part("units") is None:
        return
    units = host.units
    for name, unit in sorted(units.items()):
        if unit.get("active") != "failed":
            continue
        mine = name.startswith("dedicated-") or name == KEEPALIVED
        yield Finding(
            WARNING if mine else NOTE,
            "unit-failed" if mine else "other-unit-failed",
            host.name,
            f"the unit {name} has failed",
            "what it does was not done" if mine else "it is not part of this platform",
            f"on {host.name}: journalctl -u {name} -n 50",
        )
    wanted = [FIREWALL, *(timer for layer in look.layers(host.name) for timer in look.timers(layer))]
    if look.vip and host.name in look.members[EDGE]:
        wanted.append(KEEPALIVED)
    for name in wanted:
        active = mapping(units.get(name)).get("active", "missing")
        if active not in ("active", "failed"):
            yield Finding(
                WARNING,
                "unit-not-active",
                host.name,
                f"the unit {name} is {active}",
                "what it does is not done",
                f"on {host.name}: systemctl enable --now {name}; if it is missing: {SITE}",
            )


def _disks(look: Look, host: Host) -> Findings:
    yield from missing_part(host, "disks", "the disks", f"on {host.name}: df -h")
    for one in listing(host.part("disks")):
        free, total = number(one.get("free_mb")), number(one.get("total_mb"))
        if free is None or not total or free / total > look.limits.disk_warning:
            continue
        yield Finding(
            CRITICAL if free / total <= look.limits.disk_critical else WARNING,
            "disk-full",
            host.name,
            f"{one.get('path')} has {free:.0f} of {total:.0f} MiB free ({100 * free / total:.0f} %)",
            "a full disk stops PostgreSQL, etcd and Redis",
            f"on {host.name}: du -xh -d2 /var/lib /opt | sort -h | tail; docker system df",
        )
