# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table."""

from __future__ import annotations

import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._flow import plan

SINGLE = plan.Network("a", {"edge": {"a": "10.0.0.1"}, "db": {"a": "10.0.0.1"}})
TRIO = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.10"}
HA = plan.Network("a", {"edge": {"a": "10.0.0.1"}, "db": TRIO, "app": {"d": "10.0.0.4"}})
WEB = plan.Flow(("any",), "edge", ("80", "443"), comment="web")
DB = plan.Flow(("app", "db"), "db", ("5432",))
FLOWS = [WEB, DB, plan.Flow(("app",), "app", ("8443",)), plan.Flow(("edge", "db"), "db", (), "vrrp")]


def text(flows: t.Sequence[plan.Flow] = FLOWS, network: plan.Network = HA, **options: t.Any) -> str:
    result = plan.ruleset(flows, network, plan.Options(**options))
    assert isinstance(result, str)
    return result


def chain(ruleset: str, name: str) -> list[str]:
    lines = ruleset.splitlines()
    first = lines.index(f"  chain {name} {{")
    return [line.strip() for line in lines[first + 1 : lines.index("  }", first)]]


def test_table_is_replaced_in_one_transaction() -> None:
    lines = [line for line in text().splitlines() if not line.startswith("#")]
    assert lines[:3] == ["table inet dedicated {}", "delete table inet dedicated", "table inet dedicated {"]
    assert text().count("table ") == 3


def test_judged_before_destination_nat_and_after_tracking() -> None:
    rules = chain(text(), "prerouting")
    assert rules[0] == "type filter hook prerouting priority -155; policy drop;"
    assert -200 < plan.PREROUTING_PRIORITY < -100
    assert rules[1:3] == ['iifname "lo" accept', "ct state established,related accept"]
    assert rules[-1] == "jump from_outside"


@pytest.mark.parametrize("network", [SINGLE, HA])
@pytest.mark.parametrize("egress", ["allow", "deny"])
def test_outside_ends_in_a_drop_and_only_reaches_local_addresses(network: plan.Network, egress: str) -> None:
    flows = [WEB, plan.Flow(("db",), "db", ("5432",))]
    rules = chain(text(flows, network, egress=egress), "from_outside")
    assert rules[-1] == "counter drop"
    local = rules.index("fib daddr type != local counter drop")
    assert all("tcp dport" not in rule for rule in rules[:local])
    assert rules[local + 1] == 'tcp dport 22 accept comment "ssh"'


def test_flows_to_this_host() -> None:
    rules = chain(text(), "from_outside")
    assert 'meta nfproto ipv4 tcp dport { 80, 443 } accept comment "web"' in rules
    # Numeric order; not the host's own address; neighbours joined, since nft rejects overlaps.
    assert "ip saddr { 10.0.0.2, 10.0.0.4, 10.0.0.10 } tcp dport 5432 accept" in rules
    assert not any("8443" in rule for rule in rules), "a flow to another group"
    assert rules.index("ip saddr { 10.0.0.2, 10.0.0.10 } meta l4proto vrrp accept") < rules.index(
        "fib daddr type != local counter drop"
    ), "VRRP is multicast"


def test_single_host_opens_nothing_for_itself() -> None:
    assert not any(
        "5432" in rule for rule in chain(text([WEB, plan.Flow(("db",), "db", ("5432",))], SINGLE), "from_outside")
    )


def test_ipv6_only_where_a_network_is_named() -> None:
    flow = plan.Flow(("fd00::/8", "10.9.0.0/16"), "edge", ("443",))
    rules = chain(text([flow]), "from_outside")
    assert "ip6 saddr fd00::/8 tcp dport 443 accept" in rules
    assert "ip saddr 10.9.0.0/16 tcp dport 443 accept" in rules


def test_ssh_sources() -> None:
    rules = chain(text(ssh_sources=("app", "192.0.2.0/24", "fd00::1"), ssh_port=2222), "from_outside")
    assert 'ip saddr { 10.0.0.4, 192.0.2.0/24 } tcp dport 2222 accept comment "ssh"' in rules
    assert 'ip6 saddr fd00::1 tcp dport 2222 accept comment "ssh"' in rules


def test_overlapping_sources_are_joined() -> None:
    flow = plan.Flow(("10.0.0.0/24", "10.0.0.7", "10.0.1.0/24"), "edge", ("443",))
    assert "ip saddr 10.0.0.0/23 tcp dport 443 accept" in chain(text([flow]), "from_outside")


def test_containers_reach_out_but_not_the_host() -> None:
    ruleset = text(container_to_host_ports=("53",))
    assert 'iifname "docker0" accept' in chain(ruleset, "prerouting")
    assert 'iifname "br-*" jump from_containers' in chain(ruleset, "input")
    assert chain(ruleset, "from_containers") == ["icmp type echo-request accept", "tcp dport 53 accept", "counter drop"]


def test_egress() -> None:
    assert "chain output" not in text()
    allowed = (plan.Flow(("any",), "any", ("53",), "udp"), plan.Flow(("any",), "192.0.2.5", ("8333",)))
    ruleset = text(egress="deny", egress_allow=allowed)
    out = chain(ruleset, "to_outside")
    assert chain(ruleset, "output")[0] == "type filter hook output priority filter; policy drop;"
    assert "meta nfproto ipv4 udp dport 53 accept" in out
    assert "ip daddr 192.0.2.5 tcp dport 8333 accept" in out
    assert "ip daddr { 10.0.0.2, 10.0.0.10 } tcp dport 5432 accept" in out
    assert out[-1] == "counter drop"
    assert 'iifname "docker0" jump to_outside' in chain(ruleset, "forward")


def test_log() -> None:
    assert any("log prefix" in rule for rule in chain(text(log_drops=True), "from_outside"))


def test_same_text_whatever_the_order_of_hosts() -> None:
    turned = plan.Network("a", {**HA.groups, "db": dict(reversed(TRIO.items()))})
    assert text(network=turned) == text()


@pytest.mark.parametrize(
    ("flows", "options", "code"),
    [
        ([plan.Flow(("nobody",), "db", ("1",))], {}, "unknown-group"),
        ([plan.Flow(("any",), "nobody", ("1",))], {}, "unknown-group"),
        ([plan.Flow(("any",), "10.0.0.1", ("1",))], {}, "bad-flow"),
        ([], {"ssh_sources": ()}, "bad-option"),
        ([], {"ssh_sources": ("nobody",)}, "bad-option"),
        ([], {"ssh_port": 0}, "bad-option"),
        ([], {"egress": "maybe"}, "bad-option"),
        ([], {"container_interfaces": ('x" accept',)}, "bad-option"),
        ([], {"container_to_host_ports": ("ssh",)}, "bad-option"),
        ([], {"egress_allow": (plan.Flow(("any",), "deb.example.org", ("443",)),)}, "unknown-group"),
    ],
)
def test_refusals(flows: list[plan.Flow], options: dict[str, t.Any], code: str) -> None:
    result = plan.ruleset(flows, HA, plan.Options(**options))
    assert isinstance(result, plan.Refusal)
    assert result.code == code


def test_host_without_address() -> None:
    result = plan.ruleset([WEB], plan.Network("a", {"edge": {"a": ""}}), plan.Options())
    assert isinstance(result, plan.Refusal)
    assert result.code == "bad-address"


@pytest.mark.parametrize(
    "value",
    [
        "x",
        {"from": "any", "to": "db", "ports": [0]},
        {"from": "any", "to": "db", "ports": [70000]},
        {"from": "any", "to": "db", "ports": ["9-5"]},
        {"from": "any", "to": "db", "ports": ["ssh"]},
        {"from": "any", "to": "db", "ports": []},
        {"from": "any", "to": "db", "proto": "vrrp", "ports": [1]},
        {"from": "any", "to": "db", "proto": "sctp", "ports": [1]},
        {"from": [], "to": "db", "ports": [1]},
        {"from": "any", "ports": [1]},
        {"from": "any", "to": "db", "port": [1]},
    ],
)
def test_parse_flow_refuses(value: t.Any) -> None:
    result = plan.parse_flow(value, "firewall_flows[3]")
    assert isinstance(result, plan.Refusal)
    assert result.code == "bad-flow"
    assert result.message.startswith("firewall_flows[3]")


def test_parse_flow() -> None:
    value = {"from": "any", "to": "edge", "ports": [443, "8000-8010"], "comment": 'a "quote"'}
    assert plan.parse_flow(value, "x") == plan.Flow(("any",), "edge", ("443", "8000-8010"), "tcp", "a quote")


@pytest.mark.skipif(shutil.which("nft") is None or shutil.which("unshare") is None, reason="needs nft and unshare")
@pytest.mark.parametrize("egress", ["allow", "deny"])
@pytest.mark.parametrize("network", [SINGLE, HA])
def test_nft_accepts_it_twice(egress: str, network: plan.Network) -> None:
    flows = [WEB, plan.Flow(("any", "fd00::/8"), "db", ("5000-5010", "22")), plan.Flow(("db",), "db", (), "vrrp")]
    ruleset = text(flows, network, egress=egress, log_drops=True, container_to_host_ports=("53",))
    script = 'printf %s "$1" | nft -f - && printf %s "$1" | nft -f - && nft list tables'
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", script, "sh", ruleset], capture_output=True, text=True, check=False, timeout=60
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("needs the capability NET_ADMIN")
    assert done.stderr == ""
    assert done.stdout == "table inet dedicated\n"
