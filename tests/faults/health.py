# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What full redundancy is: a pure judgement of what every host said of itself."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping

Seen = Mapping[str, t.Any]


def missing(looks: Mapping[str, Seen | None], groups: Mapping[str, frozenset[str]]) -> list[str]:
    """Why the lab is not fully redundant; nothing when it is. A host that said nothing is None."""
    silent = [f"{name} does not answer" for name, seen in looks.items() if not seen]
    if silent:
        return silent
    known = {name: seen for name, seen in looks.items() if seen}
    found: list[str] = []
    for name, seen in known.items():
        found += containers(name, seen)
    found += database(known, [name for name in known if "postgres" in groups[name]])
    found += redis(known, [name for name in known if "redis" in groups[name]])
    found += routers(known, [name for name in known if "odoo" in groups[name]])
    found += etcd(known, [name for name in known if "etcd" in groups[name]])
    return found


def containers(name: str, seen: Seen) -> Iterator[str]:
    if not seen["containers"]:
        yield f"{name}: Docker does not answer"
    for container, state in seen["containers"].items():
        if not (state.startswith("running") and "(healthy)" in state):
            yield f"{name}: {container} is {state}"


def database(looks: Mapping[str, Seen], hosts: list[str]) -> Iterator[str]:
    if not hosts:
        return
    views = {name: looks[name]["cluster"].get("members") or [] for name in hosts}
    for name, members in views.items():
        roles = [member["role"] for member in members]
        if len(members) != len(hosts):
            yield f"{name}: Patroni knows {len(members)} of {len(hosts)} members"
        elif roles.count("leader") != 1:
            yield f"{name}: Patroni knows {roles.count('leader')} leaders"
        elif len(hosts) > 1 and not {"sync_standby", "quorum_standby"} & set(roles):
            yield f"{name}: no synchronous standby"
        for member in members:
            healthy = "running" if member["role"] == "leader" else "streaming"
            if member.get("state") != healthy:
                yield f"{name}: {member['name']} is {member.get('state')}"
        if len({member.get("timeline") for member in members}) > 1:
            yield f"{name}: members are on different timelines"
    if len({next((one["name"] for one in view if one["role"] == "leader"), None) for view in views.values()}) > 1:
        yield "members name different leaders"


def redis(looks: Mapping[str, Seen], hosts: list[str]) -> Iterator[str]:
    if not hosts:
        return
    roles = {name: looks[name]["redis"].get("role") for name in hosts}
    masters = [name for name, role in roles.items() if role == "master"]
    if len(masters) != 1:
        yield f"Redis has {len(masters)} masters: {roles}"
        return
    for name in hosts:
        if name != masters[0] and looks[name]["redis"].get("master_link_status") != "up":
            yield f"{name}: Redis does not follow {masters[0]}"
    if (replicas := looks[masters[0]]["redis"].get("connected_slaves")) != str(len(hosts) - 1):
        yield f"{masters[0]}: Redis has {replicas} replicas"


def routers(looks: Mapping[str, Seen], hosts: list[str]) -> Iterator[str]:
    for name in hosts:
        for backend in ("postgres_leader", "redis_master"):
            up = looks[name]["router"].get(backend, [])
            if len(up) != 1:
                yield f"{name}: the router takes {len(up)} servers for {backend}"


def etcd(looks: Mapping[str, Seen], hosts: list[str]) -> Iterator[str]:
    known = {name: looks[name]["etcd"].get("leader") for name in hosts}
    if len(set(known.values())) > 1 or None in known.values() or 0 in known.values():
        yield f"etcd has no leader that all agree on: {known}"
