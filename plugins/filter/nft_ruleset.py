# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a host's nftables table from the flow matrix."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._flow import plan

DOCUMENTATION = r"""
name: nft_ruleset
short_description: A host's nftables table from a matrix of flows
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Renders one nftables table, C(inet dedicated), that lets in what a declared matrix of flows names and drops the
    rest.
  - Packets from outside are judged before Docker's destination NAT, so a published port cannot escape.
  - SSH is open to its sources in every ruleset.
positional: _input, groups, hostvars, host
options:
  _input:
    description: >-
      The matrix, a list of mappings with C(from) (group, address, network, C(any), or a list of them), C(to) (a group),
      C(ports), C(proto) (C(tcp), C(udp), C(vrrp)) and C(comment).
    type: list
    elements: dict
    required: true
  groups:
    description: The groups of the inventory, C(groups).
    type: dict
    required: true
  hostvars:
    description: The variables of the hosts, C(hostvars). Of each host only C(dedicated_address) is read.
    type: dict
    required: true
  host:
    description: The host that the ruleset is for.
    type: str
    required: true
  options:
    description: >-
      C(ssh_port), C(ssh_sources), C(egress) (V(allow) or V(deny)), C(egress_allow), C(container_interfaces),
      C(container_to_host_ports), C(log_drops), C(optional_groups) (names that may lack in the inventory).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the ruleset of this host
  ansible.builtin.debug:
    msg: "{{ [{'from': 'any', 'to': 'edge', 'ports': [443]}]
      | dedicated.odoo.nft_ruleset(groups, hostvars, inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The text of a file for C(nft -f).
  type: str
"""


def _flows(values: t.Any, name: str) -> list[plan.Flow]:
    """The parsed lines of a list."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise AnsibleFilterError(f"bad-flow: {name} is no list")
    flows = []
    for index, value in enumerate(values):
        flow = plan.parse_flow(value, f"{name}[{index}]")
        if isinstance(flow, plan.Refusal):
            raise AnsibleFilterError(f"{flow.code}: {flow.message}")
        flows.append(flow)
    return flows


def _network(
    flows: Sequence[plan.Flow], groups: Mapping[str, t.Any], hostvars: Mapping[str, t.Any], host: str, names: set[str]
) -> plan.Network:
    """The addresses of the groups that the matrix names. A layer without hosts may lack in the inventory."""
    wanted = names | {name for flow in flows for name in (*flow.sources, flow.target) if name in groups}
    addresses: dict[str, dict[str, str]] = {}
    known: dict[str, str] = {}
    for group in sorted(wanted):
        for member in groups.get(group, ()):
            if member not in known:
                known[str(member)] = str(hostvars[member].get("dedicated_address", ""))
        addresses[group] = {str(member): known[member] for member in groups.get(group, ())}
    return plan.Network(host=str(host), groups=addresses)


def _options(options: Mapping[str, t.Any], egress: list[plan.Flow]) -> plan.Options:
    """The options as the planner takes them."""
    default = plan.Options()
    return plan.Options(
        ssh_port=int(options.get("ssh_port", default.ssh_port)),
        ssh_sources=tuple(str(item) for item in options.get("ssh_sources", default.ssh_sources)),
        egress=str(options.get("egress", default.egress)),
        egress_allow=tuple(egress),
        container_interfaces=tuple(
            str(item) for item in options.get("container_interfaces", default.container_interfaces)
        ),
        container_to_host_ports=tuple(str(item) for item in options.get("container_to_host_ports", ())),
        log_drops=bool(options.get("log_drops", False)),
    )


def nft_ruleset(
    flows: t.Any,
    groups: Mapping[str, t.Any],
    hostvars: Mapping[str, t.Any],
    host: str,
    options: Mapping[str, t.Any] | None = None,
) -> str:
    """Render the ruleset; see DOCUMENTATION."""
    options = options or {}
    matrix = _flows(flows, "firewall_flows")
    egress = _flows(options.get("egress_allow", []), "firewall_egress_allow")
    optional = {str(name) for name in options.get("optional_groups", ())}
    optional |= {str(name) for name in options.get("ssh_sources", ()) if name in groups}
    network = _network([*matrix, *egress], groups, hostvars, host, optional)
    text = plan.ruleset(matrix, network, _options(options, egress))
    if isinstance(text, plan.Refusal):
        raise AnsibleFilterError(f"{text.code}: {text.message}")
    return text


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"nft_ruleset": nft_ruleset}
