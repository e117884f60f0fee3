# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full redundancy: nothing is missing on a whole lab, and every single thing that lacks is named."""

from __future__ import annotations

import copy
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))

import health

NAMES = ("n1", "n2", "n3")
GROUPS = dict.fromkeys(NAMES, frozenset({"edge", "odoo", "redis", "postgres", "etcd"}))


def member(name: str, role: str, state: str = "streaming") -> dict[str, t.Any]:
    return {"name": name, "role": role, "state": state, "timeline": 4}


def host(name: str) -> dict[str, t.Any]:
    members = [member("n1", "leader", "running"), member("n2", "sync_standby"), member("n3", "replica")]
    return {
        "containers": {"postgres": "running Up 3 minutes (healthy)", "redis": "running Up 1 second (healthy)"},
        "cluster": {"members": members},
        "router": {"postgres_leader": ["n1"], "redis_master": ["n2"]},
        "redis": {"role": "master", "connected_slaves": "2"}
        if name == "n2"
        else {"role": "slave", "master_link_status": "up"},
        "etcd": {"leads": name == "n3", "leader": 77},
    }


def whole() -> dict[str, t.Any]:
    return {name: copy.deepcopy(host(name)) for name in NAMES}


def test_nothing_is_missing_on_a_whole_lab() -> None:
    assert health.missing(whole(), GROUPS) == []


def test_a_quorum_standby_is_a_synchronous_one() -> None:
    looks = whole()
    for seen in looks.values():
        seen["cluster"]["members"][1]["role"] = "quorum_standby"
    assert health.missing(looks, GROUPS) == []


def put(looks: dict[str, t.Any], *path: t.Any) -> None:
    """Set the value that is last in the path, on one host or (*) on all."""
    *way, last, value = path
    for name in NAMES if way[0] == "*" else way[:1]:
        place = looks[name]
        for step in way[1:]:
            place = place[step]
        place[last] = value


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("n2", "containers", "redis", "running Up 2 seconds (health: starting)"), "n2: redis is running"),
        (("n2", "containers", "postgres", "exited Exited (1)"), "n2: postgres is exited"),
        (("n2", "containers", {}), "n2: Docker does not answer"),
        (("n3", "cluster", {}), "n3: Patroni knows 0 of 3"),
        (("*", "cluster", "members", 1, "role", "replica"), "no synchronous standby"),
        (("*", "cluster", "members", 0, "role", "replica"), "0 leaders"),
        (("*", "cluster", "members", 2, "state", "starting"), "n3 is starting"),
        (("*", "cluster", "members", 0, "state", "stopped"), "n1 is stopped"),
        (("n1", "cluster", "members", 2, "timeline", 3), "different timelines"),
        (("n1", "redis", "role", "master"), "2 masters"),
        (("n2", "redis", {}), "0 masters"),
        (("n3", "redis", "master_link_status", "down"), "does not follow"),
        (("n2", "redis", "connected_slaves", "1"), "has 1 replicas"),
        (("n1", "router", "postgres_leader", []), "0 servers for postgres_leader"),
        (("n1", "router", "redis_master", ["n1", "n2"]), "2 servers for redis_master"),
        (("n1", "etcd", {}), "etcd has no leader"),
        (("n1", "etcd", "leader", 78), "etcd has no leader"),
        (("*", "etcd", "leader", 0), "etcd has no leader"),
    ],
)
def test_whatever_lacks_is_named(path: tuple[t.Any, ...], said: str) -> None:
    looks = whole()
    put(looks, *path)
    assert any(said in why for why in health.missing(looks, GROUPS)), health.missing(looks, GROUPS)


def test_members_that_name_different_leaders() -> None:
    looks = whole()
    members = looks["n3"]["cluster"]["members"]
    members[0] |= {"role": "sync_standby", "state": "streaming"}
    members[1] |= {"role": "leader", "state": "running"}
    assert "members name different leaders" in health.missing(looks, GROUPS)


def test_a_silent_host_is_all_that_is_told() -> None:
    assert health.missing(whole() | {"n2": None}, GROUPS) == ["n2 does not answer"]


def test_a_host_is_asked_only_for_what_it_has() -> None:
    looks = {"n1": {"containers": {"traefik": "running Up (healthy)"}}}
    assert health.missing(looks, {"n1": frozenset({"edge"})}) == []
