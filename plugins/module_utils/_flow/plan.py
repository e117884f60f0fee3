# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table of a host, from a declared matrix of who may speak to whom on which port.

Invariants (checked by the tests):

* a packet from outside is judged in C(prerouting), after connection tracking (-200) and before Docker's DNAT (-100):
  it is dropped unless it belongs to a known connection or a flow of the matrix names it, so that a published port
  cannot escape;
* only packets to an address of this host can be accepted from outside, so that nobody routes into a container network;
* SSH is open to its sources in every ruleset, whatever the matrix says;
* the text replaces the whole table in one transaction and touches no other table.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

PROTOCOLS = ("tcp", "udp", "vrrp")
ANY = "any"
# Between connection tracking (-200) and Docker's destination NAT (-100).
PREROUTING_PRIORITY = -155


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why there is no ruleset: a stable code, and a message with what, why and what to do."""

    code: str
    message: str


@dataclasses.dataclass(frozen=True)
class Flow:
    """One line of the matrix."""

    sources: tuple[str, ...]
    target: str
    ports: tuple[str, ...]
    proto: str = "tcp"
    comment: str = ""


@dataclasses.dataclass(frozen=True)
class Options:
    """What is not in the matrix."""

    ssh_port: int = 22
    ssh_sources: tuple[str, ...] = (ANY,)
    egress: str = "allow"
    egress_allow: tuple[Flow, ...] = ()
    container_interfaces: tuple[str, ...] = ("docker0", "br-*")
    container_to_host_ports: tuple[str, ...] = ()
    log_drops: bool = False


@dataclasses.dataclass(frozen=True)
class Network:
    """Who is where: the addresses of the hosts of every group, and the host that the ruleset is for."""

    host: str
    groups: t.Mapping[str, t.Mapping[str, str]]

    def addresses(self, group: str) -> tuple[str, ...]:
        """Addresses of a group without this host's own: that traffic stays on the loopback device."""
        members = self.groups.get(group, {})
        own = self.groups_address()
        return tuple(sorted({address for address in members.values() if address != own}, key=_sort_key))

    def groups_address(self) -> str:
        """The address of this host, as far as any group names it."""
        return next((members[self.host] for members in self.groups.values() if self.host in members), "")

    def is_member(self, group: str) -> bool:
        """Is this host in the group."""
        return self.host in self.groups.get(group, {})


def _sort_key(address: str) -> tuple[int, int, int]:
    """Addresses in numeric order, so that the text is the same on every run."""
    network = ipaddress.ip_network(address, strict=False)
    return network.version, int(network.network_address), network.prefixlen


def is_network(text: str) -> bool:
    """Is this an address or a network."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _texts(value: t.Any) -> tuple[str, ...]:
    """One text or a list of them."""
    if isinstance(value, (str, int)):
        return (str(value),)
    return tuple(str(item) for item in value or ())


def parse_port(text: str) -> str | None:
    """A port or a range of ports in nft's notation, or None."""
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= 65535:
        return None
    return text if first != last else str(first)


def parse_flow(value: t.Any, where: str) -> Flow | Refusal:
    """A line of the matrix from plain data; `where` names it in a refusal."""
    if not isinstance(value, t.Mapping):
        return Refusal("bad-flow", f"{where} is no mapping; write from, to, ports, proto, comment")
    unknown = set(value) - {"from", "to", "ports", "proto", "comment"}
    if unknown:
        return Refusal("bad-flow", f"{where}: unknown key {', '.join(sorted(map(str, unknown)))}")
    proto = str(value.get("proto", "tcp"))
    if proto not in PROTOCOLS:
        return Refusal("bad-flow", f"{where}: proto is {proto}; known are {', '.join(PROTOCOLS)}")
    ports = []
    for text in _texts(value.get("ports", ())):
        port = parse_port(text)
        if port is None:
            return Refusal("bad-flow", f"{where}: port {text} is neither 1-65535 nor a range such as 8000-8010")
        ports.append(port)
    if (proto == "vrrp") == bool(ports):
        return Refusal("bad-flow", f"{where}: tcp and udp need ports, vrrp has none")
    sources = _texts(value.get("from", ANY))
    target = str(value.get("to", ""))
    if not sources or not target:
        return Refusal("bad-flow", f"{where}: from or to is empty")
    # The comment ends up between quotes in the ruleset.
    comment = re.sub(r"[^A-Za-z0-9 ,.:/()_+-]", "", str(value.get("comment", "")))[:60]
    return Flow(sources, target, tuple(ports), proto, comment)


def unknown_name(flow: Flow, groups: t.Container[str]) -> str | None:
    """The first name in a flow that is neither a group nor an address, or None."""
    for source in flow.sources:
        if source != ANY and source not in groups and not is_network(source):
            return source
    if flow.target != ANY and flow.target not in groups and not is_network(flow.target):
        return flow.target
    return None


def _set(items: t.Sequence[str]) -> str:
    """A value or an anonymous set."""
    return items[0] if len(items) == 1 else "{ " + ", ".join(items) + " }"


def _families(addresses: t.Iterable[str]) -> dict[str, list[str]]:
    """Addresses by family, each in order and without those that another one contains (nft rejects overlaps)."""
    networks = [ipaddress.ip_network(address, strict=False) for address in addresses]
    v4 = ipaddress.collapse_addresses(each for each in networks if isinstance(each, ipaddress.IPv4Network))
    v6 = ipaddress.collapse_addresses(each for each in networks if isinstance(each, ipaddress.IPv6Network))

    def short(network: t.Any) -> str:
        return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)

    return {"ip": [short(each) for each in v4], "ip6": [short(each) for each in v6]}


def _peers(names: t.Iterable[str], network: Network) -> dict[str, list[str]] | None:
    """Addresses of groups, networks and addresses by family; None means anybody."""
    addresses: list[str] = []
    for name in names:
        if name == ANY:
            return None
        addresses.extend(network.addresses(name) if name in network.groups else (name,))
    return _families(addresses)


def _match(flow: Flow) -> str:
    """What a flow matches besides addresses."""
    return "meta l4proto vrrp" if flow.proto == "vrrp" else f"{flow.proto} dport {_set(flow.ports)}"


def _rules(flow: Flow, peers: dict[str, list[str]] | None, side: str) -> list[str]:
    """The rules of a flow; `side` is the peer's place in the packet, saddr or daddr."""
    tail = f' accept comment "{flow.comment}"' if flow.comment else " accept"
    if peers is None:
        # IPv6 is closed but for what names an IPv6 network.
        return [f"meta nfproto ipv4 {_match(flow)}{tail}"]
    return [
        f"{family} {side} {_set(addresses)} {_match(flow)}{tail}" for family, addresses in peers.items() if addresses
    ]


def inbound(flows: t.Iterable[Flow], network: Network) -> list[str]:
    """Rules that let the matrix's flows reach this host."""
    rules: list[str] = []
    for flow in flows:
        if flow.target in network.groups and network.is_member(flow.target):
            rules.extend(_rules(flow, _peers(flow.sources, network), "saddr"))
    return rules


def outbound(flows: t.Iterable[Flow], network: Network, allowed: t.Iterable[Flow]) -> list[str]:
    """Rules that let this host reach what the matrix and the allow list name."""
    rules: list[str] = []
    for flow in flows:
        ours = any(source in network.groups and network.is_member(source) for source in flow.sources)
        if ours and flow.target in network.groups:
            rules.extend(_rules(flow, _peers((flow.target,), network), "daddr"))
    for flow in allowed:
        rules.extend(_rules(flow, _peers((flow.target,), network), "daddr"))
    return rules


def _ssh(options: Options, network: Network) -> list[str]:
    """SSH, in both families, so that an operator is never locked out by the matrix."""
    match = f'tcp dport {options.ssh_port} accept comment "ssh"'
    peers = _peers(options.ssh_sources, network)
    if peers is None:
        return [match]
    return [f"{family} saddr {_set(addresses)} {match}" for family, addresses in peers.items() if addresses]


ICMP = [
    "icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept",
]
ICMPV6 = [
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept",
    "icmpv6 type echo-request accept",
    "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept",
]
ICMPV6_OUT = [
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request } accept",
    "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept",
]
DHCP_IN = [
    "udp sport 67 udp dport 68 accept",
    "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
]
DHCP_OUT = [
    "udp sport 68 udp dport 67 accept",
    "ip6 saddr fe80::/10 udp sport 546 udp dport 547 accept",
]


def _chain(name: str, *rules: str) -> list[str]:
    """A chain's text."""
    return [f"  chain {name} {{", *(f"    {rule}" for rule in rules), "  }"]


def _drop(options: Options, where: str) -> list[str]:
    """The end of a chain."""
    log = [f'limit rate 5/second burst 20 packets log prefix "dedicated-{where}: "'] if options.log_drops else []
    return [*log, "counter drop"]


def _chains(flows: t.Sequence[Flow], network: Network, options: Options) -> list[str]:
    """All chains of the table."""
    multicast = list(inbound([each for each in flows if each.proto == "vrrp"], network))
    unicast = inbound([each for each in flows if each.proto != "vrrp"], network)
    containers = [f'iifname "{name}"' for name in options.container_interfaces]
    to_host = [f"tcp dport {_set(options.container_to_host_ports)} accept"] if options.container_to_host_ports else []
    lines = _chain(
        "from_outside",
        *ICMPV6,
        *DHCP_IN,
        *multicast,
        "fib daddr type != local counter drop",
        *_ssh(options, network),
        *ICMP,
        *unicast,
        *_drop(options, "in"),
    )
    lines += _chain(
        "prerouting",
        f"type filter hook prerouting priority {PREROUTING_PRIORITY}; policy drop;",
        'iifname "lo" accept',
        "ct state established,related accept",
        *(f"{match} accept" for match in containers),
        "ct state invalid counter drop",
        "jump from_outside",
    )
    lines += _chain("from_containers", "icmp type echo-request accept", *to_host, *_drop(options, "container"))
    lines += _chain(
        "input",
        "type filter hook input priority filter; policy accept;",
        "ct state established,related accept",
        *(f"{match} jump from_containers" for match in containers),
    )
    if options.egress == "deny":
        lines += _egress(flows, network, options, containers)
    return lines


def _egress(flows: t.Sequence[Flow], network: Network, options: Options, containers: t.Sequence[str]) -> list[str]:
    """The chains that judge what leaves, from the host itself and from containers on bridges."""
    between = [f'{match} oifname "{name}" accept' for match in containers for name in options.container_interfaces]
    lines = _chain(
        "to_outside",
        *ICMPV6_OUT,
        *DHCP_OUT,
        "icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept",
        *outbound(flows, network, options.egress_allow),
        *_drop(options, "out"),
    )
    lines += _chain(
        "output",
        "type filter hook output priority filter; policy drop;",
        'oifname "lo" accept',
        "ct state established,related accept",
        *(f'oifname "{name}" accept' for name in options.container_interfaces),
        "jump to_outside",
    )
    lines += _chain(
        "forward",
        "type filter hook forward priority filter; policy accept;",
        "ct state established,related accept",
        *between,
        *(f"{match} jump to_outside" for match in containers),
    )
    return lines


def why_not(flows: t.Sequence[Flow], network: Network, options: Options) -> Refusal | None:
    """The reason why this matrix cannot become a ruleset, or None."""
    for flow in (*flows, *options.egress_allow):
        name = unknown_name(flow, network.groups)
        if name is not None:
            return Refusal(
                "unknown-group",
                f"flow '{flow.comment or flow.target}' names {name}, which is neither a group of the inventory nor an"
                " address; correct the name or drop the flow",
            )
    for flow in flows:
        if flow.target not in network.groups:
            return Refusal("bad-flow", f"flow '{flow.comment or flow.target}': to must be a group, not {flow.target}")
    for source in options.ssh_sources:
        if source != ANY and source not in network.groups and not is_network(source):
            return Refusal("bad-option", f"firewall_ssh_sources names {source}: neither any, a group nor an address")
    if not options.ssh_sources:
        return Refusal("bad-option", "firewall_ssh_sources is empty: nobody could reach the host; name a source")
    return _why_not_options(network, options)


def _why_not_options(network: Network, options: Options) -> Refusal | None:
    """The reason why these options cannot work, or None."""
    if options.egress not in ("allow", "deny"):
        return Refusal("bad-option", f"firewall_egress is {options.egress}; it is allow or deny")
    if not 1 <= options.ssh_port <= 65535:
        return Refusal("bad-option", f"firewall_ssh_port is {options.ssh_port}; it is 1 to 65535")
    for name in options.container_interfaces:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}\*?", name):
            return Refusal("bad-option", f"firewall_container_interfaces: {name!r} is no name of an interface")
    for text in options.container_to_host_ports:
        if parse_port(text) is None:
            return Refusal("bad-option", f"firewall_container_to_host_ports: {text} is no port")
    for group, members in network.groups.items():
        for host, address in members.items():
            if not is_network(address):
                return Refusal(
                    "bad-address", f"{host} in group {group} has the address {address!r}; set dedicated_address"
                )
    return None


def ruleset(flows: t.Sequence[Flow], network: Network, options: Options) -> str | Refusal:
    """The file for nft: replaces the table in one transaction."""
    refusal = why_not(flows, network, options)
    if refusal is not None:
        return refusal
    lines = [
        "#!/usr/sbin/nft -f",
        f"# Managed by Ansible (role dedicated.odoo.firewall) for {network.host}: changes are lost.",
        "table inet dedicated {}",
        "delete table inet dedicated",
        "table inet dedicated {",
        *_chains(flows, network, options),
        "}",
    ]
    return "\n".join(lines) + "\n"
