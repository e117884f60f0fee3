# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sentinels and Redis nodes as one simulator with state and a clock; it answers in the shapes of the real ones."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.dedicated.odoo.plugins.module_utils._redis.io import Answer, RedisUnreachable
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.sentinel_plan import View
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.sentinel_service import (
    Cluster,
    Pace,
    SentinelService,
)

NAME = "sessions"
OK = Answer("OK")


@dataclasses.dataclass
class FakeClock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclasses.dataclass
class FakeNode:
    """One Redis. ``behind``: bytes that it lacks of its master."""

    role: str = "slave"
    follows: str | None = None
    link: str = "connected"
    offset: int = 10_000_000
    behind: int = 0
    alive: bool = True
    announced: str | None = None
    min_replicas: int = 1
    loading: bool = False
    aof_ok: bool = True
    rdb_ok: bool = True
    shows_settings: bool = True
    priority: int = 100
    paused_until: float = -1.0


@dataclasses.dataclass
class FakePeer:
    flags: str = "slave"
    role: str = "slave"
    follows: str | None = None
    link: str = "ok"
    priority: int = 100


@dataclasses.dataclass
class FakeSentinel:
    """One Sentinel and what it remembers."""

    master: str | None
    alive: bool = True
    flags: str = "master"
    sentinels: dict[str, str] = dataclasses.field(default_factory=dict)
    replicas: dict[str, FakePeer] = dataclasses.field(default_factory=dict)
    quorum_ok: bool = True
    tilt: bool = False
    since: float = -1000.0


@dataclasses.dataclass
class Lab:
    """A cluster of ``size`` hosts; the first is the master. What Sentinels do is scheduled on the clock.

    ``failover``: works; aborts (taken and given up); deaf (said OK, nothing happens); or an error of Sentinel.
    ``reply_lost``: the order's answer does not arrive.
    """

    size: int = 3
    failover: str = "works"
    reply_lost: bool = False
    demotable: bool = True
    old_dies: bool = False
    clock: FakeClock = dataclasses.field(default_factory=FakeClock)
    calls: list[tuple[str, tuple[str, ...]]] = dataclasses.field(default_factory=list)
    events: list[tuple[float, t.Callable[[], None]]] = dataclasses.field(default_factory=list)
    on_ask: t.Callable[[Lab], None] | None = None
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    nodes: dict[str, FakeNode] = dataclasses.field(default_factory=dict)
    sentinels: dict[str, FakeSentinel] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes, sentinels = self.names(6379), self.names(26379)
        for address in nodes:
            self.nodes[address] = FakeNode(follows=nodes[0], announced=address, min_replicas=1 if self.size > 2 else 0)
        self.nodes[nodes[0]].role, self.nodes[nodes[0]].follows = "master", None
        for address in sentinels:
            self.sentinels[address] = FakeSentinel(
                nodes[0],
                sentinels={other: "sentinel" for other in sentinels if other != address},
                replicas={other: FakePeer(follows=nodes[0]) for other in nodes[1:]},
            )

    def names(self, port: int) -> list[str]:
        return [f"10.0.0.{number}:{port}" for number in range(1, self.size + 1)]

    def node(self, number: int) -> FakeNode:
        return self.nodes[f"10.0.0.{number}:6379"]

    def sentinel(self, number: int) -> FakeSentinel:
        return self.sentinels[f"10.0.0.{number}:26379"]

    def kill(self, number: int) -> None:
        """A host dies; the others notice."""
        self.node(number).alive = self.sentinel(number).alive = False
        for one in self.sentinels.values():
            address = f"10.0.0.{number}"
            if f"{address}:26379" in one.sentinels:
                one.sentinels[f"{address}:26379"] = "sentinel,s_down"
            if f"{address}:6379" in one.replicas:
                one.replicas[f"{address}:6379"].flags = "slave,s_down"

    # -- as the service sees it --------------------------------------------------------------------------------------

    def cluster(self) -> Cluster:
        return Cluster(NAME, tuple(self.names(26379)), tuple(self.names(6379)))

    def service(self, kind: t.Any = SentinelService, timeout: float = 60, cluster: Cluster | None = None) -> t.Any:
        return kind(self, self.clock, cluster or self.cluster(), Pace(timeout, 0.5))

    def view(self, **more: t.Any) -> View:
        return t.cast(View, self.service(cluster=dataclasses.replace(self.cluster(), **more)).look())

    def said(self, *words: str) -> list[str]:
        """Who was told this."""
        return [address for address, command in self.calls if command[: len(words)] == words]

    # -- Network -----------------------------------------------------------------------------------------------------

    def ask(self, requests: t.Any) -> dict[str, t.Any]:
        if self.on_ask is not None:
            self.on_ask(self)
        for event in sorted((event for event in self.events if event[0] <= self.clock.now), key=lambda one: one[0]):
            self.events.remove(event)
            event[1]()
        return {address: self._answers(address, commands) for address, commands in requests.items()}

    def _answers(self, address: str, commands: t.Any) -> list[Answer] | RedisUnreachable:
        server = self.sentinels.get(address) or self.nodes.get(address)
        if server is None or not server.alive:
            return RedisUnreachable(f"{address}: connection refused", code="unreachable")
        answers = []
        for words in commands:
            self.calls.append((address, tuple(words)))
            said = self.refused.get(" ".join(words[:2]))
            answers.append(Answer(error=said) if said else self._answer(address, server, tuple(words)))
        if self.reply_lost and ("SENTINEL", "FAILOVER", NAME) in [tuple(words) for words in commands]:
            return RedisUnreachable(f"{address}: no answer in time", code="unreachable")
        return answers

    def _answer(self, address: str, server: t.Any, words: tuple[str, ...]) -> Answer:
        name = "_".join(words[:2]).lower().replace("-", "_") if words[0] in ("SENTINEL", "CLIENT") else words[0].lower()
        return t.cast(Answer, getattr(self, f"_{name}")(address, server, words))

    # -- Sentinel ----------------------------------------------------------------------------------------------------

    def _sentinel_master(self, _address: str, one: FakeSentinel, _words: t.Any) -> Answer:
        if one.master is None:
            return Answer(error="ERR No such master with that name")
        host, port = one.master.split(":")
        age = str(int(1000 * (self.clock.now - one.since)))
        found = {"name": NAME, "ip": host, "port": port, "flags": one.flags, "role-reported-time": age, "quorum": "2"}
        found.update({"down-after-milliseconds": "3000", "failover-timeout": "20000"})
        return _flat(found)

    def _sentinel_replicas(self, _address: str, one: FakeSentinel, _words: t.Any) -> Answer:
        found = []
        for address, peer in one.replicas.items():
            host, port = address.split(":")
            master = (peer.follows or "?:0").split(":")
            entry = {"ip": host, "port": port, "flags": peer.flags, "role-reported": peer.role}
            entry.update({"master-host": master[0], "master-port": master[1], "master-link-status": peer.link})
            found.append(_flat({**entry, "slave-priority": str(peer.priority)}).value)
        return Answer(found)

    def _sentinel_sentinels(self, _address: str, one: FakeSentinel, _words: t.Any) -> Answer:
        split = [(address.split(":"), flags) for address, flags in one.sentinels.items()]
        return Answer([_flat({"ip": host, "port": port, "flags": flags}).value for (host, port), flags in split])

    def _sentinel_ckquorum(self, _address: str, one: FakeSentinel, _words: t.Any) -> Answer:
        known = 1 + len(one.sentinels)
        usable = 1 + sum(flags == "sentinel" for flags in one.sentinels.values())
        if one.quorum_ok and 2 * usable > known:
            return Answer(f"OK {usable} usable Sentinels. Quorum and failover authorization can be reached")
        return Answer(error=f"NOQUORUM {usable} usable Sentinels. Not enough available Sentinels")

    def _sentinel_get_master_addr_by_name(self, _address: str, one: FakeSentinel, _words: t.Any) -> Answer:
        return Answer(one.master.split(":") if one.master else None)

    def _sentinel_reset(self, address: str, one: FakeSentinel, _words: t.Any) -> Answer:
        one.sentinels.clear()
        one.replicas.clear()

        def learn() -> None:
            one.sentinels.update(
                {name: "sentinel" for name, o in self.sentinels.items() if o.alive and name != address}
            )
            live = {name: node for name, node in self.nodes.items() if node.alive and node.follows == one.master}
            one.replicas.update({name: FakePeer(follows=one.master) for name in live})

        self.events.append((self.clock.now + 5, learn))
        return Answer(1)

    def _sentinel_failover(self, address: str, one: FakeSentinel, _words: t.Any) -> Answer:
        if self.failover not in ("works", "aborts", "deaf"):
            return Answer(error=self.failover)
        if self.failover != "deaf":
            one.flags = "master,failover_in_progress,force_failover"
            self._later(20 if self.failover == "aborts" else 1.6, lambda: self._end(one))
        if self.failover == "works":
            old = t.cast(str, one.master)
            best = [name for name, peer in one.replicas.items() if peer.flags == "slave" and self.nodes[name].alive]
            new = max(best, key=lambda name: (-one.replicas[name].priority, self.nodes[name].offset, name))
            self._later(0.3, lambda: self._promote(new))
            self._later(1.2, lambda: self._switch(new, [o for name, o in self.sentinels.items() if name != address]))
            self._later(1.3, lambda: self._follow(new, [n for n in self.nodes if n not in (old, new)]))
            self._later(1.6, lambda: self._switch(new, [one]))
            self._later(10, lambda: self._follow(new, [old]))
            if self.old_dies:
                self._later(1.0, lambda: setattr(self.nodes[old], "alive", False))
        return OK

    def _later(self, seconds: float, do: t.Callable[[], None]) -> None:
        self.events.append((self.clock.now + seconds, do))

    def _end(self, one: FakeSentinel) -> None:
        one.flags = "master"

    def _promote(self, new: str) -> None:
        self.nodes[new].role, self.nodes[new].follows = "master", None

    def _switch(self, new: str, sentinels: t.Iterable[FakeSentinel]) -> None:
        for one in sentinels:
            if one.master is None:
                continue
            one.replicas.pop(new, None)
            one.replicas[one.master] = FakePeer(role="master", link="err")
            one.master, one.flags, one.since = new, "master", self.clock.now

    def _follow(self, new: str, names: t.Iterable[str]) -> None:
        for name in names:
            self.nodes[name].role, self.nodes[name].follows, self.nodes[name].link = "slave", new, "connected"
            self.nodes[name].offset = self.nodes[new].offset

    # -- Redis -------------------------------------------------------------------------------------------------------

    def _role(self, address: str, node: FakeNode, _words: t.Any) -> Answer:
        if node.role == "master":
            if node.paused_until < self.clock.now:
                node.offset += 10
            names = [n for n, o in self.nodes.items() if o.alive and o.follows == address and o.link == "connected"]
            return Answer(["master", node.offset, [[*name.split(":"), str(node.offset)] for name in names]])
        if node.role != "slave":
            return Answer([node.role])
        host, port = (node.follows or "?:0").split(":")
        master = self.nodes.get(node.follows or "")
        if master is not None and node.link == "connected":
            node.offset = max(0, master.offset - node.behind)
        return Answer(["slave", host, int(port), node.link, node.offset])

    def _info(self, _address: str, server: t.Any, words: t.Any) -> Answer:
        if words[1] == "sentinel":
            return Answer(f"# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:{int(server.tilt)}\r\n")
        aof, rdb = ("ok" if fine else "err" for fine in (server.aof_ok, server.rdb_ok))
        return Answer(
            f"# Persistence\r\nloading:{int(server.loading)}\r\nrdb_last_bgsave_status:{rdb}\r\naof_enabled:1\r\n"
            f"aof_last_write_status:{aof}\r\n"
        )

    def _config(self, address: str, node: FakeNode, words: t.Any) -> Answer:
        if words[1] == "REWRITE":
            return Answer("QUEUED")
        if not node.shows_settings:
            return Answer(error="NOPERM User admin has no permissions to run the 'config|get' command")
        host, port = (node.announced or f":{address.split(':')[1]}").split(":")
        return _flat(
            {
                "replica-announce-ip": host,
                "replica-announce-port": port if node.announced else "0",
                "tls-port": "6379",
                "port": "0",
                "min-replicas-to-write": str(node.min_replicas),
            }
        )

    def _client_pause(self, _address: str, node: FakeNode, words: t.Any) -> Answer:
        node.paused_until = self.clock.now + int(words[2]) / 1000
        return OK

    def _client_unpause(self, _address: str, node: FakeNode, _words: t.Any) -> Answer:
        node.paused_until = -1
        return OK

    def _client_kill(self, _address: str, _node: FakeNode, _words: t.Any) -> Answer:
        return Answer("QUEUED")

    def _multi(self, _address: str, _node: FakeNode, _words: t.Any) -> Answer:
        return OK

    def _slaveof(self, address: str, _node: FakeNode, words: t.Any) -> Answer:
        if self.demotable:
            self._follow(f"{words[1]}:{words[2]}", [address])
        return Answer("QUEUED")

    def _exec(self, _address: str, _node: FakeNode, _words: t.Any) -> Answer:
        return Answer(["OK"])


def _flat(found: t.Mapping[str, str]) -> Answer:
    return Answer([word for pair in found.items() for word in pair])
