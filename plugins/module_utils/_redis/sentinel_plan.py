# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Sentinels and Redis nodes say about themselves and each other, and what to think of it.

Laws:

1. who is master is what more than half of the Sentinels that answer say; a tie or silence names nobody;
2. a node's own word on its role (``ROLE``) counts more than a Sentinel's about it, so a cluster is healthy only when
   both say the same;
3. a majority is one of all Sentinels that there should be, never of those that happen to answer;
4. what is not known does not pass as good: silence, a flag or a state with an unknown name is a reason against it;
5. an ill host may be excused by name, but nothing that healthy hosts say wrong is excused with it.
"""

from __future__ import annotations

import collections
import dataclasses
import ipaddress
import typing as t

from .._common.errors import Refuse

Pairs = t.Mapping[str, str]


# -- addresses -------------------------------------------------------------------------------------------------------


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port``. Raises ValueError with the reason."""
    host, colon, port = address.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address}: an IPv6 address needs brackets, as in [2001:db8::1]:6379")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{address}: not of the form host:port")
    return normal_host(host), int(port)


def normal_host(host: str) -> str:
    """Two spellings of one host are equal."""
    host = host.strip().strip("[]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def join_address(host: t.Any, port: t.Any) -> str:
    """The form in which addresses are compared and shown."""
    name = normal_host(str(host))
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def host_of(address: str) -> str:
    """The host of an address in that form."""
    return normal_host(address.rpartition(":")[0])


def addresses(texts: t.Sequence[str], option: str) -> tuple[str, ...] | Refuse:
    """The addresses of an option, each once."""
    found: list[str] = []
    for text in texts:
        try:
            address = join_address(*split_address(text))
        except ValueError as exc:
            return Refuse("bad_address", f"{option} cannot be used", str(exc), "Correct it.")
        if address in found:
            return Refuse(
                "duplicate_address", f"{option} cannot be used", f"{address} is given twice", "Remove one: it counts."
            )
        found.append(address)
    return tuple(found)


# -- what was seen ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Peer:
    """A replica or another Sentinel in the list of one Sentinel."""

    address: str
    flags: tuple[str, ...]
    role_reported: str | None = None
    follows: str | None = None
    link: str | None = None
    priority: int | None = None


@dataclasses.dataclass(frozen=True)
class Sentinel:
    """One Sentinel's view. ``seconds_as_master``: how long it has known the master as one."""

    address: str
    reachable: bool = False
    error: str | None = None
    sees_master: str | None = None
    flags: tuple[str, ...] = ()
    known_sentinels: tuple[Peer, ...] = ()
    known_replicas: tuple[Peer, ...] = ()
    quorum_ok: bool | None = None
    quorum_says: str | None = None
    quorum_needed: int = 0
    tilt: bool = False
    seconds_as_master: float = 0.0
    down_after_ms: int = 0
    failover_timeout_ms: int = 0

    @property
    def in_progress(self) -> bool:
        return "failover_in_progress" in self.flags

    def as_result(self) -> dict[str, t.Any]:
        return {
            **dataclasses.asdict(self),
            "flags": list(self.flags),
            "known_sentinels": sorted(peer.address for peer in self.known_sentinels),
            "known_replicas": sorted(peer.address for peer in self.known_replicas),
        }


@dataclasses.dataclass(frozen=True)
class Node:
    """One Redis node by its own word. ``replicas`` are those that are connected to it."""

    address: str
    reachable: bool = False
    error: str | None = None
    role: str | None = None
    follows: str | None = None
    link_state: str | None = None
    offset: int | None = None
    replicas: tuple[str, ...] = ()
    loading: bool = False
    aof_enabled: bool | None = None
    aof_ok: bool | None = None
    rdb_ok: bool | None = None
    announced: str | None = None
    min_replicas: int | None = None

    @property
    def master_link(self) -> str | None:
        if self.role != "slave":
            return None
        return "up" if self.link_state == "connected" else "down"

    def as_result(self, lag: int | None) -> dict[str, t.Any]:
        return {
            **dataclasses.asdict(self),
            "replicas": list(self.replicas),
            "master_link": self.master_link,
            "lag": lag,
        }


@dataclasses.dataclass(frozen=True)
class View:
    """Everything that was seen in one look, and how many there should be (None: as many as were asked)."""

    master_name: str
    sentinels: tuple[Sentinel, ...]
    nodes: tuple[Node, ...] = ()
    expected_sentinels: int | None = None
    expected_nodes: int | None = None

    @property
    def total(self) -> int:
        """How many Sentinels a majority is counted against."""
        return self.expected_sentinels or len(self.sentinels)

    @property
    def addresses(self) -> tuple[str, ...]:
        return (*(one.address for one in self.sentinels), *(one.address for one in self.nodes))

    @property
    def master(self) -> str | None:
        """Who more than half of the answering Sentinels call master."""
        answering = [one.sees_master for one in self.sentinels if one.reachable]
        named = collections.Counter(name for name in answering if name is not None).most_common(1)
        return named[0][0] if named and 2 * named[0][1] > len(answering) else None

    @property
    def voters(self) -> tuple[Sentinel, ...]:
        """The Sentinels that name the agreed master."""
        master = self.master
        return tuple(one for one in self.sentinels if one.reachable and master and one.sees_master == master)

    @property
    def majority(self) -> bool:
        """Whether more than half of all Sentinels name the same master."""
        return 2 * len(self.voters) > self.total

    @property
    def quorum(self) -> bool:
        """Whether such a majority could also carry a failover through, by its own check."""
        return 2 * sum(one.quorum_ok is True for one in self.voters) > self.total

    @property
    def in_progress(self) -> tuple[str, ...]:
        return tuple(one.address for one in self.sentinels if one.in_progress)

    def node(self, address: str | None) -> Node | None:
        return next((one for one in self.nodes if one.address == address), None)

    def lag(self, node: Node) -> int | None:
        """Bytes behind the agreed master; None when it does not follow it, or the master's offset is not known.

        Nodes are asked at nearly the same time, so that a busy master seems a little ahead and never behind.
        """
        master = self.node(self.master)
        if master is None or master.role != "master" or master.offset is None or node.offset is None:
            return None
        if node.role != "slave" or node.follows != master.address or node.master_link != "up":
            return None
        return max(0, master.offset - node.offset)


# -- parsing -----------------------------------------------------------------------------------------------------------


def pairs(flat: t.Any, source: str) -> dict[str, str]:
    """Sentinel's flat list of names and values. Raises ValueError that names the source."""
    if not isinstance(flat, list) or len(flat) % 2 or not all(isinstance(one, (str, int)) for one in flat):
        raise ValueError(f"{source}: no list of names and values")
    return {str(name): str(value) for name, value in zip(flat[::2], flat[1::2])}


def info(text: t.Any, source: str) -> dict[str, str]:
    """``INFO``: lines of ``name:value``."""
    if not isinstance(text, str):
        raise ValueError(f"{source}: no text")
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split(":", 1) for line in lines if line and not line.startswith("#") and ":" in line)


def _need(found: Pairs, name: str, source: str) -> str:
    if name not in found:
        raise ValueError(f"{source}: {name} is missing")
    return found[name]


def _number(found: Pairs, name: str, source: str) -> int:
    text = _need(found, name, source)
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{source}: {name} is {text[:40]!r} and no number") from None


def _flags(found: Pairs, source: str) -> tuple[str, ...]:
    return tuple(flag for flag in _need(found, "flags", source).split(",") if flag)


def parse_peers(answer: t.Any, source: str) -> tuple[Peer, ...]:
    """``SENTINEL REPLICAS`` or ``SENTINEL SENTINELS``."""
    if not isinstance(answer, list):
        raise ValueError(f"{source}: no list")
    peers = []
    for entry in answer:
        found = pairs(entry, source)
        follows = found.get("master-host")
        peers.append(
            Peer(
                join_address(_need(found, "ip", source), _need(found, "port", source)),
                _flags(found, source),
                found.get("role-reported"),
                None if follows in (None, "?") else join_address(follows, found.get("master-port")),
                found.get("master-link-status"),
                _number(found, "slave-priority", source) if "slave-priority" in found else None,
            )
        )
    return tuple(sorted(peers, key=lambda peer: peer.address))


def parse_sentinel(
    address: str, master: t.Any, replicas: t.Any, sentinels: t.Any, quorum: tuple[bool, str], about: t.Any
) -> Sentinel:
    """The answers of one Sentinel that knows the master. Raises ValueError."""
    found = pairs(master, "SENTINEL MASTER")
    return Sentinel(
        address,
        reachable=True,
        sees_master=join_address(_need(found, "ip", "SENTINEL MASTER"), _need(found, "port", "SENTINEL MASTER")),
        flags=_flags(found, "SENTINEL MASTER"),
        known_sentinels=parse_peers(sentinels, "SENTINEL SENTINELS"),
        known_replicas=parse_peers(replicas, "SENTINEL REPLICAS"),
        quorum_ok=quorum[0],
        quorum_says=quorum[1],
        quorum_needed=_number(found, "quorum", "SENTINEL MASTER"),
        tilt=_need(info(about, "INFO sentinel"), "sentinel_tilt", "INFO sentinel") != "0",
        seconds_as_master=_number(found, "role-reported-time", "SENTINEL MASTER") / 1000,
        down_after_ms=_number(found, "down-after-milliseconds", "SENTINEL MASTER"),
        failover_timeout_ms=_number(found, "failover-timeout", "SENTINEL MASTER"),
    )


def _parse_role(role: t.Any) -> dict[str, t.Any]:
    """``ROLE``: three values of a master, five of a replica."""
    if isinstance(role, list) and len(role) == 3 and role[0] == "master" and isinstance(role[2], list):
        replicas = tuple(sorted(join_address(one[0], one[1]) for one in role[2]))
        return {"role": "master", "offset": int(role[1]), "replicas": replicas}
    if isinstance(role, list) and len(role) == 5 and role[0] == "slave":
        return {
            "role": "slave",
            "follows": join_address(role[1], role[2]),
            "link_state": str(role[3]),
            "offset": int(role[4]),
        }
    kind = role[0] if isinstance(role, list) and role else role
    raise ValueError(f"ROLE: {str(kind)[:40]!r} is neither a master nor a replica")


def parse_node(address: str, role: t.Any, persistence: t.Any, settings: Pairs | None) -> Node:
    """The answers of one Redis node. ``settings`` None: it did not show them. Raises ValueError."""
    state = info(persistence, "INFO persistence")
    announced, min_replicas = None, None
    if settings is not None:
        ports = [settings.get(name, "0") for name in ("replica-announce-port", "tls-port", "port")]
        port = next((port for port in ports if port not in ("", "0")), split_address(address)[1])
        announced = join_address(settings.get("replica-announce-ip") or host_of(address), port)
        min_replicas = _number(settings, "min-replicas-to-write", "CONFIG GET")
    return Node(
        address,
        reachable=True,
        loading=_need(state, "loading", "INFO persistence") != "0",
        aof_enabled=_need(state, "aof_enabled", "INFO persistence") == "1",
        aof_ok=_need(state, "aof_last_write_status", "INFO persistence") == "ok",
        rdb_ok=_need(state, "rdb_last_bgsave_status", "INFO persistence") == "ok",
        announced=announced,
        min_replicas=min_replicas,
        **_parse_role(role),
    )


# -- judgement ---------------------------------------------------------------------------------------------------------


def why_not_healthy(view: View, except_hosts: t.Sequence[str] = (), max_lag: int = 1024**2) -> list[str]:
    """Every reason against calling the cluster healthy; empty when it is, or when every host is excused."""
    skip = frozenset(normal_host(host) for host in except_hosts)
    if all(host_of(address) in skip for address in view.addresses):
        return []
    reasons = list(_cluster_reasons(view))
    for sentinel in view.sentinels:
        if host_of(sentinel.address) not in skip:
            reasons += [f"Sentinel {sentinel.address} {reason}" for reason in _sentinel_reasons(view, sentinel, skip)]
    for node in view.nodes:
        if host_of(node.address) not in skip:
            reasons += [f"node {node.address} {reason}" for reason in _node_reasons(view, node, max_lag, skip)]
    return reasons


def _cluster_reasons(view: View) -> t.Iterator[str]:
    if view.master is None:
        opinions = sorted({one.sees_master for one in view.sentinels if one.sees_master is not None})
        names = ", ".join(opinions)
        yield f"Sentinels disagree about the master: {names}" if opinions else "no Sentinel names a master"
    elif not view.majority:
        yield f"only {len(view.voters)} of {view.total} Sentinels name {view.master} as master, which is no majority"
    if view.master is not None and view.nodes and view.node(view.master) is None:
        yield f"the master {view.master} is not among the nodes"


def _sentinel_reasons(view: View, one: Sentinel, skip: t.AbstractSet[str]) -> t.Iterator[str]:
    if not one.reachable or one.sees_master is None:
        yield f"does not answer: {one.error}" if not one.reachable else f"does not know {view.master_name}: {one.error}"
        return
    if view.master is not None and one.sees_master != view.master:
        yield f"names {one.sees_master} as master, the majority {view.master}"
    if one.flags != ("master",):
        yield f"says of the master: {','.join(one.flags)}"
    if one.tilt:
        yield "is in TILT: it watches and does not act"
    if one.quorum_ok is not True:
        yield f"finds no quorum: {one.quorum_says}"
    given = [sentinel.address for sentinel in view.sentinels]
    yield from _membership("Sentinel", one.address, one.known_sentinels, given, view.expected_sentinels, skip)
    nodes = [node.address for node in view.nodes]
    yield from _membership("replica", one.sees_master, one.known_replicas, nodes, view.expected_nodes, skip)
    for peer in (*one.known_sentinels, *one.known_replicas):
        if host_of(peer.address) not in skip:
            yield from _peer_reasons(one, peer)


def _peer_reasons(one: Sentinel, peer: Peer) -> t.Iterator[str]:
    if peer.flags not in (("sentinel",), ("slave",)):
        yield f"has {peer.address} as {','.join(peer.flags)}"
    elif peer.flags == ("slave",):
        reason = why_not_seen_as_replica(one, peer)
        if reason is not None:
            yield reason


def why_not_seen_as_replica(one: Sentinel, peer: Peer) -> str | None:
    """Whether a Sentinel has seen for itself what its replica has become.

    It looks every ten seconds only. One that still remembers a former master as a master turns it back into a replica
    when it is promoted again, and the failover fails (seen with Redis 8.0).
    """
    if peer.role_reported != "slave":
        return f"remembers the replica {peer.address} as {peer.role_reported}"
    if peer.follows != one.sees_master:
        return f"remembers the replica {peer.address} as following {peer.follows}"
    if peer.link != "ok":
        return f"remembers the link of the replica {peer.address} as {peer.link}"
    return None


def strange(own: str, known: t.Iterable[Peer], given: t.Iterable[str]) -> tuple[str, ...]:
    """Entries that belong to nobody who is given: stale ones of replaced hosts, or wrongly announced addresses."""
    return tuple(sorted({peer.address for peer in known} - set(given) - {own}))


def _membership(
    what: str,
    own: str,
    known: t.Sequence[Peer],
    given: t.Sequence[str],
    expected: int | None,
    skip: t.AbstractSet[str],
) -> t.Iterator[str]:
    """Compared by name where all names are given, else by number."""
    known = [peer for peer in known if host_of(peer.address) not in skip]
    if given and expected in (None, len(given)):
        for address in strange(own, known, given):
            yield f"knows a {what} {address} that is not one of them: a stale entry, or a wrongly announced address"
        for address in sorted(set(given) - {peer.address for peer in known} - {own}):
            if host_of(address) not in skip:
                yield f"does not know the {what} {address}"
    elif expected is not None:
        count = len({peer.address for peer in known} | {own})
        if not expected - len(skip) <= count <= expected:
            more = "more" if count > expected else "fewer"
            number = f"{count - 1} {what}{'' if count == 2 else 's'} beside {own}"
            yield f"knows {number}, {more} than the {expected - 1} expected"


def _node_reasons(view: View, node: Node, max_lag: int, skip: t.AbstractSet[str]) -> t.Iterator[str]:
    if not node.reachable:
        yield f"does not answer: {node.error}"
        return
    if node.announced is None:
        yield "does not show which address it announces"
    elif node.announced != node.address:
        yield f"announces {node.announced}, which is not the address under which it is reached"
    if node.loading:
        yield "loads its data"
    if node.aof_enabled and not node.aof_ok:
        yield "could not write its append-only file"
    if not node.rdb_ok:
        yield "could not save its data in the background"
    if node.address == view.master:
        yield from _master_reasons(view, node, skip)
    else:
        reason = why_not_replica(view, node, max_lag)
        if reason is not None:
            yield reason


def _master_reasons(view: View, node: Node, skip: t.AbstractSet[str]) -> t.Iterator[str]:
    if node.role != "master":
        yield f"is master by the Sentinels, and itself says {node.role}"
        return
    given = {one.address for one in view.nodes}
    for address in node.replicas:
        if address not in given and host_of(address) not in skip and view.expected_nodes in (None, len(given)):
            yield f"has a replica {address} that is not one of the nodes"
    for one in view.nodes:
        follows = one.reachable and one.follows == node.address and one.master_link == "up"
        if follows and one.address not in node.replicas and host_of(one.address) not in skip:
            yield f"does not list its replica {one.address}: that one announces another address"
    count, wanted = len(node.replicas), node.min_replicas
    if wanted is not None and count < wanted:
        yield f"refuses writes: {count} replicas are connected, min-replicas-to-write is {wanted}"


def why_not_replica(view: View, node: Node, max_lag: int) -> str | None:
    """What speaks against a node as replica of the agreed master."""
    if not node.reachable:
        return "does not answer"
    if node.role != "slave":
        return f"says {node.role}, and the master is {view.master}"
    if node.follows != view.master:
        return f"follows {node.follows}, and the master is {view.master}"
    if node.master_link != "up":
        return f"has no link to its master: {node.link_state}"
    if node.loading:
        return "loads its data"
    lag = view.lag(node)
    if lag is None:
        return "lags by an unknown number of bytes"
    if lag > max_lag:
        return f"lags {lag} bytes behind, more than {max_lag}"
    return None


def why_no_master(view: View) -> str | None:
    """Whether there is a master that Sentinels agree about and that says so itself, where nodes are given."""
    if view.master is None:
        return next(_cluster_reasons(view), None)
    if not view.nodes:
        return None
    node = view.node(view.master)
    if node is None:
        return f"the master {view.master} is not among the nodes"
    if not node.reachable:
        return f"the master {view.master} does not answer: {node.error}"
    return None if node.role == "master" else f"{view.master} is master by the Sentinels, and itself says {node.role}"
