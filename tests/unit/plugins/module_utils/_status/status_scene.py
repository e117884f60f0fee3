# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A platform as the playbook would look at it: what the modules themselves return for a state that can be spoilt."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.dedicated.odoo.plugins.module_utils._etcd import plan as etcd_plan
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.service import Observation as EtcdObservation
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni import plan as patroni_plan
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.service import Observation as PatroniObservation
from ansible_collections.dedicated.odoo.plugins.module_utils._redis import sentinel_plan
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.sentinel_service import (
    Observation as RedisObservation,
)

NOW = 1_800_000_000
DAY, HOUR = 86400, 3600
VIP = "10.20.0.10"
LAYERS = ("etcd", "postgres", "redis", "odoo", "edge")
QUOTA = 2 * 1024**3
STACKS = {
    "etcd": "etcd",
    "postgres": "postgres",
    "detector": "postgres",
    "redis": "redis",
    "sentinel": "redis",
    "haproxy": "router",
    "pgbouncer": "router",
    "odoo-web": "odoo",
    "odoo-cron": "odoo",
    "traefik": "edge",
}
TIMERS = ("dedicated-etcd-defrag.timer", "dedicated-backup-full.timer", "dedicated-backup-diff.timer")
SERVICES = ("dedicated-firewall.service", "keepalived.service", "docker.service")


def address(name: str) -> str:
    return f"10.20.0.{10 + int(name[1:])}"


def certificate(name: str, left: float = 60 * DAY, life: float = 90 * DAY) -> dict[str, t.Any]:
    path = "/etc/dedicated/pki/ca.pem" if name == "ca" else f"/etc/dedicated/pki/{name}/cert.pem"
    until = NOW + int(left)
    return {
        "name": name,
        "path": path,
        "authority": name == "ca",
        "serial": f"{name}1",
        "not_before": until - int(life),
        "not_after": until,
    }


PORTS = (("etcd", 2379), ("etcd", 2380), ("postgres", 5432), ("postgres", 8008), ("redis", 6379), ("redis", 26379),
         ("router", 8443))  # fmt: skip


def served(name: str, port: int, left: float = 60 * DAY, life: float = 90 * DAY, **more: t.Any) -> dict[str, t.Any]:
    until = NOW + int(left)
    return {
        "certificate": name,
        "name": f"{name}://192.0.2.1:{port}",
        "protocol": "tls",
        "code": "",
        "why": "",
        "serial": f"{name}1",
        "issuer": "CN=lab",
        "not_before": until - int(life),
        "not_after": until,
        "verified": True,
        "unverified_because": "",
        **more,
    }


def backup(kind: str, hours: float, damaged: bool = False) -> dict[str, t.Any]:
    stop = NOW - int(hours * HOUR)
    return {
        "label": f"{kind}-{hours}",
        "type": kind,
        "start": stop - 60,
        "stop": stop,
        "damaged": damaged,
        "bytes": 10**9,
    }


def host_status(name: str, size: int, leads: bool) -> dict[str, t.Any]:
    """What host_status returns where all is well."""
    containers = [
        one for one in STACKS if (one != "detector" or size > 2) and (one != "odoo-cron" or name in ("n1", "n2"))
    ]
    return {
        "changed": False,
        "now": NOW,
        "cluster": "example",
        "addresses": ["127.0.0.1", address(name), *([VIP] if leads and size > 1 else [])],
        "engine": {
            "state": "active",
            "containers": [
                {
                    "name": one,
                    "stack": STACKS[one],
                    "service": one,
                    "state": "running",
                    "health": "healthy",
                    "status": "Up 3 days (healthy)",
                }
                for one in containers
            ],
        },
        "units": [
            *({"name": one, "load": "loaded", "active": "active", "sub": "waiting"} for one in TIMERS),
            *({"name": one, "load": "loaded", "active": "active", "sub": "running"} for one in SERVICES),
        ],
        "certificates": [
            *map(certificate, ("etcd", "postgres", "redis", "router")),
            certificate("ca", 3000 * DAY, 3650 * DAY),
        ],
        "served": [served(name, port) for name, port in PORTS],
        "disks": [
            {"path": "/opt", "free_mb": 40_000, "total_mb": 100_000},
            {"path": "/var/lib", "free_mb": 30_000, "total_mb": 100_000},
        ],
        "probes": {
            probe: {"ok": True, "status": 200, "reason": ""} for probe in ("odoo", "websocket", "haproxy", "traefik")
        },
        "router": [
            {"proxy": proxy, "name": f"n{number}", "status": "UP" if number == 1 else "DOWN", "check": "L7OK"}
            for proxy in ("postgres_leader", "redis_master")
            for number in range(1, size + 1)
        ],
        "pools": {
            "databases": [
                {"name": "odoo", "paused": False, "disabled": False},
                {"name": "postgres", "paused": False, "disabled": False},
            ],
            "pools": [{"database": "odoo", "user": "odoo", "waiting": 0, "max_wait_seconds": 0}],
        },
        "database": {
            "in_recovery": not leads,
            "archive_failing": False,
            "archived_seconds_ago": 30,
            "failed_seconds_ago": None,
            "waiting_wal": 0,
            "connections": 40,
            "max_connections": 200,
            "lost_slots": [],
        },
        "rehearsal": {
            "at": NOW - 5 * DAY,
            "rto_seconds": 61.5,
            "rto_target_seconds": 3600.0,
            "rpo_seconds": 12.0,
            "rpo_target_seconds": 60.0,
            "reconciled": True,
            "neutralized": True,
        },
        "rehearsal_begun": {"at": NOW - 5 * DAY - 300},
        "verification": {"at": NOW - DAY, "backups_checked": 3, "backups_usable": 3, "repositories": [1]},
        "verification_begun": {"at": NOW - DAY - 60},
        "closed": {},
        "maintenance": {},
        "backups": {
            "code": 0,
            "message": "ok",
            "running": False,
            "backups": [backup("full", 80), backup("diff", 32), backup("diff", 8)],
        },
        "detector": {"up": True, "suspects": False, "removals": 0, "etcd_errors": 0, "decision": "leader_well"}
        if size > 2
        else {"up": False, "absent": True},
    }


@dataclasses.dataclass
class Scene:
    """``size`` hosts with every layer on each; n1 leads everything. Faults spoil the fields, ``look`` puts together."""

    size: int = 3
    unreachable: set[str] = dataclasses.field(default_factory=set)
    left_out: set[str] = dataclasses.field(default_factory=set)
    status: dict[str, t.Any] = dataclasses.field(init=False)
    cluster: dict[str, t.Any] = dataclasses.field(init=False)
    synchronous: t.Any = None
    patroni_silent: bool = False
    etcd_down: set[str] = dataclasses.field(default_factory=set)
    etcd_gone: set[str] = dataclasses.field(default_factory=set)
    etcd_fresh: set[str] = dataclasses.field(default_factory=set)
    etcd_learners: set[str] = dataclasses.field(default_factory=set)
    etcd_alarms: dict[str, str] = dataclasses.field(default_factory=dict)
    etcd_leader: str | None = "n1"
    etcd_size: int = 20_000_000
    sentinels: dict[str, sentinel_plan.Sentinel] = dataclasses.field(init=False)
    nodes: dict[str, sentinel_plan.Node] = dataclasses.field(init=False)
    replaced: dict[tuple[str, str], t.Any] = dataclasses.field(default_factory=dict)
    limits: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = [f"n{number}" for number in range(1, self.size + 1)]
        self.vip = VIP + "/24" if self.size > 1 else ""
        self.status = {name: host_status(name, self.size, name == "n1") for name in self.names}
        self.synchronous = self.size > 1
        self.cluster = {
            "scope": "example",
            "members": [
                {
                    "name": name,
                    "role": "leader" if name == "n1" else "sync_standby" if name == "n2" else "replica",
                    "state": "running" if name == "n1" else "streaming",
                    "host": address(name),
                    "port": 5432,
                    "api_url": f"https://{address(name)}:8008/patroni",
                    "timeline": 4,
                    **({} if name == "n1" else {"lag": 0}),
                }
                for name in self.names
            ],
        }
        self.sentinels = {name: self._sentinel(name) for name in self.names}
        self.nodes = {name: self._node(name) for name in self.names}

    # -- spoiling

    def member(self, name: str) -> dict[str, t.Any]:
        return next(one for one in self.cluster["members"] if one["name"] == name)

    def container(self, name: str, container: str, **changes: t.Any) -> None:
        next(one for one in self.status[name]["engine"]["containers"] if one["name"] == container).update(changes)

    def route(self, name: str, proxy: str, *targets: str) -> None:
        for one in self.status[name]["router"]:
            if one["proxy"] == proxy:
                one["status"] = "UP" if one["name"] in targets else "DOWN"

    def sentinel(self, name: str, **changes: t.Any) -> None:
        self.sentinels[name] = dataclasses.replace(self.sentinels[name], **changes)

    def node(self, name: str, **changes: t.Any) -> None:
        self.nodes[name] = dataclasses.replace(self.nodes[name], **changes)

    def host_down(self, name: str) -> None:
        """A host that vanished: every cluster misses it."""
        self.unreachable.add(name)
        self.etcd_down.add(name)
        self.cluster["members"].remove(self.member(name))
        self.sentinels[name] = sentinel_plan.Sentinel(f"{address(name)}:26379", error="timed out")
        self.nodes[name] = sentinel_plan.Node(f"{address(name)}:6379", error="timed out")

    # -- what the modules would say

    def _sentinel(self, name: str) -> sentinel_plan.Sentinel:
        master = f"{address('n1')}:6379"
        peer = sentinel_plan.Peer
        return sentinel_plan.Sentinel(
            f"{address(name)}:26379",
            reachable=True,
            sees_master=master,
            flags=("master",),
            known_sentinels=tuple(peer(f"{address(one)}:26379", ("sentinel",)) for one in self.names if one != name),
            known_replicas=tuple(
                peer(f"{address(one)}:6379", ("slave",), "slave", master, "ok", 100) for one in self.names[1:]
            ),
            quorum_ok=True,
            quorum_says="OK",
            quorum_needed=self.size // 2 + 1,
        )

    def _node(self, name: str) -> sentinel_plan.Node:
        own = f"{address(name)}:6379"
        common: dict[str, t.Any] = {
            "reachable": True,
            "offset": 1000,
            "aof_enabled": True,
            "aof_ok": True,
            "rdb_ok": True,
            "announced": own,
            "min_replicas": 1 if self.size > 2 else 0,
        }
        if name == "n1":
            replicas = tuple(f"{address(one)}:6379" for one in self.names[1:])
            return sentinel_plan.Node(own, role="master", replicas=replicas, **common)
        return sentinel_plan.Node(own, role="slave", follows=f"{address('n1')}:6379", link_state="connected", **common)

    def patroni(self) -> dict[str, t.Any]:
        if self.patroni_silent:
            return PatroniObservation(None, ("GET /cluster: connection refused",)).as_result()
        view = patroni_plan.parse_cluster(self.cluster, {"synchronous_mode": self.synchronous})
        return PatroniObservation(view, tuple(patroni_plan.why_not_healthy(view, self.names)), "77").as_result()

    def etcd(self) -> dict[str, t.Any]:
        names = [name for name in self.names if name not in self.etcd_gone]
        ids = {name: number for number, name in enumerate(self.names, start=1)}
        members = tuple(
            etcd_plan.Member(
                ids[name],
                name,
                (f"https://{address(name)}:2380",),
                () if name in self.etcd_fresh else (f"https://{address(name)}:2379",),
                name in self.etcd_learners,
            )
            for name in names
        )
        answering = [name for name in names if name not in self.etcd_down | self.etcd_fresh]
        if not answering:
            return EtcdObservation(None, ("no address answers",)).as_result()
        leader = ids[self.etcd_leader] if self.etcd_leader else 0
        view = etcd_plan.View(
            cluster_id=255,
            members=members,
            statuses={
                ids[name]: etcd_plan.Status(ids[name], leader, "3.5.16", self.etcd_size, self.etcd_size, 10, 2)
                for name in answering
            },
            leader_id=leader,
            alarms=tuple(etcd_plan.Alarm(ids[name], kind) for name, kind in self.etcd_alarms.items()),
        )
        return EtcdObservation(view, tuple(etcd_plan.why_not_healthy(view, self.names)), QUOTA).as_result()

    def redis(self) -> dict[str, t.Any]:
        view = sentinel_plan.View("sessions", tuple(self.sentinels.values()), tuple(self.nodes.values()))
        return RedisObservation(view, tuple(sentinel_plan.why_not_healthy(view))).as_result()

    def look(self) -> dict[str, t.Any]:
        """As the playbook gathers it."""
        skipped = {"changed": False, "skipped": True, "skip_reason": "Conditional result was False"}
        hosts: dict[str, dict[str, t.Any]] = {}
        seen = {"postgres": self.patroni(), "etcd": self.etcd(), "redis": self.redis()}
        for name in self.names:
            host: dict[str, t.Any] = {"address": address(name), "asked": name not in self.left_out}
            if name in self.left_out:
                host.update(status={}, postgres={}, etcd={}, redis={})
            elif name in self.unreachable:
                silent = {"changed": False, "unreachable": True, "msg": "ssh: connect: timed out"}
                host.update(status=silent, postgres=skipped, etcd=skipped, redis=skipped)
            else:
                host.update(status=self.status[name], **seen)
            for (whose, part), value in self.replaced.items():
                if whose == name:
                    host[part] = value
            hosts[name] = host
        return {
            "cluster": "example",
            "vip": self.vip,
            "stanza": "example",
            "members": {layer: list(self.names) for layer in LAYERS},
            "cron": self.names[:2],
            "limits": self.limits,
            "hosts": hosts,
        }
