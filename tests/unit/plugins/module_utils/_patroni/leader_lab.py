# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Patroni cluster with its store, by its own clock. It may lie, lose replies, and stop in the middle.

What it does on an order is what Patroni 4.0.7 does (``api.py``, ``ha.py``): the API checks and writes the failover key,
the leader notices it, stops, and releases its lease; the candidate takes it and is promoted; the others follow.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni import failover_plan, switchover_plan
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import PatroniUnreachable, Reply
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.switchover_service import (
    FailoverService,
    Lookout,
    Pace,
    SwitchoverService,
)

EPOCH = 1_800_000_000
SYSTEM = "7500000000000000001"
NOTICE, STOP, PROMOTE, FOLLOW, REJOIN = 0.3, 1.2, 0.5, 0.3, 2.0
TTL, LOOP = 20, 5


@dataclasses.dataclass
class Node:
    """One member: its PostgreSQL, and its Patroni."""

    name: str
    role: str = "replica"
    state: str = "running"
    position: int = 1000
    timeline: int = 3
    follows: str | None = None
    answers: bool = True
    behind: int = 0
    system: str = SYSTEM
    tags: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    pending: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    watchdog_failed: bool = False
    failsafe: bool = False
    lag: int = 0


class Lab:
    """Members ``a`` (leader), ``b``, ``c`` and so on."""

    def __init__(self, size: int = 3, mode: str = "on") -> None:
        self.now = 0.0
        self.nodes = {name: Node(name, follows="a") for name in "abcde"[:size]}
        self.nodes["a"].role, self.nodes["a"].follows = "primary", None
        self.leader: str | None = "a"
        self.mode = mode
        self.sync = {"off": set(), "on": {"b"}, "quorum": set("bcde"[: size - 1])}[mode]
        self.failover: dict[str, t.Any] | None = None
        self.paused = False
        self.history = [[1, 100, "x"], [2, 200, "y"]]
        self.gone: set[str] = set()  # members whose key in the store has run out
        self.events: list[tuple[float, t.Callable[[], None]]] = []
        self.calls: list[tuple[str, str, str, t.Any]] = []
        # Lies and mishaps.
        self.elect: str | None = None
        self.lie: str = ""
        self.old_returns = True
        self.frozen: dict[str, bytes] = {}
        self.slow: dict[str, float] = {}
        self.store_away = False
        self.on_post: t.Callable[[], None] | None = None

    # -- time ----------------------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = min((event for event in self.events if event[0] <= end), key=lambda one: one[0], default=None)
            if due is None:
                break
            self.events.remove(due)
            self.now = max(self.now, due[0])
            due[1]()
        self.now = end

    def after(self, seconds: float, do: t.Callable[[], None]) -> None:
        self.events.append((self.now + seconds, do))

    # -- the way in ----------------------------------------------------------------------------------------------------

    def transport(self, url: str) -> Transport:
        return Transport(self, url.removeprefix("https://").removesuffix(":8008"))

    def lookout(self, *first: str, history: bool = False) -> Lookout:
        return Lookout([Transport(self, name) for name in first or tuple(self.nodes)], self.transport, self, history)

    def switch(
        self,
        check_mode: bool = False,
        wait_for: str = "healthy",
        first: str = "",
        between: t.Callable[[], None] | None = None,
        **wish: t.Any,
    ) -> dict[str, t.Any]:
        """``between``: what happens after the look of a run that waits at a gate."""
        wish.setdefault("members", tuple(self.nodes))
        service = SwitchoverService(
            self.lookout(*first), self, Pace(60, 0.25), switchover_plan.Wish(**wish), send=self.send
        )
        if between is not None:
            service.prepare()
            between()
        return service.move(check_mode, wait_for).as_result()

    def promote(self, check_mode: bool = False, wait_for: str = "healthy", **wish: t.Any) -> dict[str, t.Any]:
        wish.setdefault("members", tuple(self.nodes))
        service = FailoverService(
            self.lookout(history=True), self, Pace(60, 0.25), failover_plan.Wish(**wish), send=self.send
        )
        return service.promote(check_mode, wait_for).as_result()

    def send(self, transport: t.Any, path: str, body: t.Mapping[str, t.Any]) -> Pending:
        return Pending(self, transport.name, path, dict(body))

    def look(self) -> switchover_plan.Look:
        return self.lookout(history=True).look()

    def posts(self) -> list[tuple[str, str, t.Any]]:
        return [(name, path, body) for method, name, path, body in self.calls if method == "POST"]

    # -- what it tells -------------------------------------------------------------------------------------------------

    def cluster(self) -> dict[str, t.Any]:
        ahead = max(node.position for node in self.nodes.values())
        members = []
        for node in self.nodes.values():
            if node.name in self.gone:
                continue
            leads = node.name == self.leader
            role = "leader" if leads else "replica"
            if not leads and self.mode != "off" and node.name in self.sync:
                role = "quorum_standby" if self.mode == "quorum" else "sync_standby"
            streams = node.follows is not None and node.follows == self.leader and node.state == "running"
            one: dict[str, t.Any] = {
                "name": node.name,
                "role": role,
                "state": "streaming" if streams else node.state,
                "api_url": f"https://{node.name}:8008/patroni",
                "timeline": node.timeline,
                "tags": node.tags,
            }
            if not leads:
                one["lag"] = node.lag or ahead - node.position
            if node.pending:
                one |= {"pending_restart": True, "pending_restart_reason": node.pending}
            members.append(one)
        told: dict[str, t.Any] = {"scope": "lab", "members": members}
        if self.paused:
            told["pause"] = True
        if self.failover and self.failover.get("scheduled_at"):
            told["scheduled_switchover"] = {
                "at": datetime.datetime.fromisoformat(self.failover["scheduled_at"]).isoformat(),
                "from": self.failover["leader"],
                "to": self.failover["candidate"],
            }
        return told

    def own(self, name: str) -> dict[str, t.Any]:
        node = self.nodes[name]
        told: dict[str, t.Any] = {
            "state": node.state,
            "role": node.role,
            "patroni": {"name": name, "version": "4.0.7", "scope": "lab"},
            "database_system_identifier": node.system,
            "dcs_last_seen": EPOCH + int(self.now) - node.behind,
        }
        if node.state == "running":
            told["timeline"] = node.timeline
            key = ("location",) if node.role == "primary" else ("received_location", "replayed_location")
            told["xlog"] = dict.fromkeys(key, node.position)
        followers = [one for one in self.nodes.values() if one.follows == name and one.state == "running"]
        if followers and node.state == "running":
            told["replication"] = [
                {"application_name": one.name, "state": "streaming", "sync_state": self.sync_state(one.name)}
                for one in followers
            ]
        if self.leader is None:
            told["cluster_unlocked"] = True
        if node.watchdog_failed:
            told["watchdog_failed"] = True
        if node.failsafe:
            told["failsafe_mode_is_active"] = True
        return told

    def sync_state(self, name: str) -> str:
        if self.mode == "off" or name not in self.sync:
            return "async"
        return "quorum" if self.mode == "quorum" else "sync"

    def get(self, name: str, path: str) -> Reply:
        node = self.nodes[name]
        self.sleep(self.slow.get(name, 0))
        if not node.answers:
            raise PatroniUnreachable(f"GET https://{name}:8008{path}: no answer", code="unreachable")
        if path == "/patroni":
            return Reply(200, json.dumps(self.own(name)).encode())
        if self.store_away:
            return Reply(503, b"")
        if path == "/cluster":
            return Reply(200, self.frozen.get(name) or json.dumps(self.cluster()).encode())
        if path == "/history":
            return Reply(200, json.dumps(self.history).encode())
        assert path == "/config"
        mode = {"off": False, "on": True, "quorum": "quorum"}[self.mode]
        return Reply(200, json.dumps({"ttl": TTL, "loop_wait": LOOP, "synchronous_mode": mode}).encode())

    # -- what it does --------------------------------------------------------------------------------------------------

    def order(self, name: str, path: str, body: dict[str, t.Any]) -> tuple[float, Reply | DedicatedError]:
        """When the reply comes, and what it is."""
        self.calls.append(("POST", name, path, body))
        if self.on_post is not None:
            self.on_post()
        lost = PatroniUnreachable(f"POST https://{name}:8008{path}: no answer", code="unreachable")
        if self.lie == "deaf":
            return 0.0, lost
        refusal = self.refuses(path, body)
        if refusal is not None:
            return 0.0, refusal
        if self.lie == "says done":
            return 1.0, Reply(200, b'Successfully switched over to "%s"' % body["candidate"].encode())
        if self.lie == "takes back":
            return 2.0, Reply(503, b"Switchover failed")
        if body.get("scheduled_at"):
            self.failover = body
            return 0.0, Reply(202, b"Switchover scheduled")
        self.failover = body
        delay = 30.0 if self.lie == "late" else NOTICE
        self.after(
            delay if self.leader else 0.0, self.step_down if self.leader else lambda: self.take(body["candidate"])
        )
        if self.lie == "reply lost":
            return 0.5, lost
        if self.lie in ("early 503", "late"):
            return 1.0, Reply(503, b"Switchover status unknown")
        new = self.elect or body["candidate"]
        text = f'Switched over to "{new}" instead of "{body["candidate"]}"' if self.elect else f"Switched over to {new}"
        return 3.0, Reply(200, text.encode())

    def refuses(self, path: str, body: dict[str, t.Any]) -> Reply | None:
        if self.lie in ("401", "403"):
            return Reply(int(self.lie), b"no auth")
        if path == "/switchover" and body["leader"] != self.leader:
            return Reply(412, b"leader name does not match")
        if body["candidate"] == self.leader:
            return Reply(400, b"Switchover target and source are the same")
        if not self.nodes[body["candidate"]].answers:
            return Reply(412, b"failover is not possible: no good candidates have been found")
        return None

    def step_down(self) -> None:
        if self.failover is None or self.leader is None or self.nodes[self.leader].state != "running":
            return
        if self.failover["leader"] != self.leader:
            self.failover = None
            return
        old = self.nodes[self.leader]
        old.state = "stopping"
        self.after(STOP, lambda: self.release(old))

    def release(self, old: Node) -> None:
        assert self.failover is not None
        old.state, old.role, self.leader = "stopped", "replica", None
        if self.lie == "nobody":
            return
        new = self.elect or self.failover["candidate"]
        self.after(0.1, lambda: self.take(new, old if self.old_returns else None))

    def take(self, new: str, old: Node | None = None) -> None:
        self.leader, self.failover = new, None
        self.after(PROMOTE, lambda: self.lead(new, old))

    def lead(self, new: str, old: Node | None) -> None:
        node = self.nodes[new]
        self.history.append([node.timeline, node.position, "no recovery target specified"])
        node.role, node.follows, node.timeline = "primary", None, node.timeline + 1
        self.sync = {"off": set(), "on": set(), "quorum": set(self.nodes) - {new}}[self.mode]
        for other in self.nodes.values():
            if other.name != new and other.state == "running" and other.answers:
                self.after(FOLLOW, lambda other=other: self.follow(other, node))  # type: ignore[misc]
        if old is not None:
            self.after(REJOIN, lambda: self.follow(old, node))

    def follow(self, other: Node, leader: Node) -> None:
        other.state, other.role, other.follows, other.timeline = "running", "replica", leader.name, leader.timeline
        other.position = leader.position
        if self.mode == "on" and not self.sync:
            self.sync = {other.name}

    # -- what happens to it --------------------------------------------------------------------------------------------

    def kill(self, name: str, lease: bool = True) -> None:
        """A host dies. Its lease runs out after ttl, unless it has already."""
        node = self.nodes[name]
        node.answers, node.state = False, "running"
        if name == self.leader:
            for other in self.nodes.values():
                other.follows = None
            if lease:
                self.after(TTL, self.lapse)
            else:
                self.lapse()
        else:
            node.follows = None

    def lapse(self) -> None:
        self.gone.add(str(self.leader))
        self.leader = None


@dataclasses.dataclass
class Transport:
    lab: Lab
    name: str

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        assert method == "GET"
        self.lab.calls.append((method, self.name, path, data))
        return self.lab.get(self.name, path)


class Pending:
    """A reply that comes when the lab's clock says so."""

    def __init__(self, lab: Lab, name: str, path: str, body: dict[str, t.Any]) -> None:
        self._lab = lab
        delay, self._reply = lab.order(name, path, body)
        self._at = lab.now + delay

    def outcome(self) -> Reply | DedicatedError | None:
        return self._reply if self._lab.now >= self._at else None
