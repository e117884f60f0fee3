# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: in which order the consumers of a certificate take a new one."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse

DOCUMENTATION = r"""
name: rotation_plan
short_description: The order in which consumers of a certificate safely take a new one
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns the steps of a rotation. A layer is finished before the next one begins. Within a layer whoever reloads
    comes before whoever restarts, and among these a follower before a leader.
  - No step holds two members of one quorum group, or two of one host, and the first of each kind in a layer goes alone,
    so that a bad certificate meets one consumer only. While a member of a group has a step, all members of that group
    must be known and well, whether they have a step or not; otherwise the plan is refused.
  - "Whoever serves the wanted certificate already is left out by O(done): a rotation that was interrupted is planned
    again, and goes on where it stopped."
  - Give all consumers always, and choose with O(layers) and O(hosts), so that groups can be judged.
positional: _input
options:
  _input:
    description: >-
      The consumers, each a mapping with C(layer), C(host), C(name) and C(kind) (V(reload) or V(restart)), and where it
      applies C(leader) (a boolean), C(quorum_group) and C(healthy) (a boolean, false by default, which matters for
      members of a group only).
    type: list
    elements: dict
    required: true
  done:
    description: Consumers that serve the wanted certificate already, each as C(host/name).
    type: list
    elements: str
    default: []
  layers:
    description: Layers to rotate. Empty means all.
    type: list
    elements: str
    default: []
  hosts:
    description: Hosts to rotate. Empty means all.
    type: list
    elements: str
    default: []
  order:
    description: The order of layers.
    type: list
    elements: str
    default: [etcd, postgres, redis, odoo, edge]
  group_sizes:
    description: How many hosts a quorum group must have, by its name. Only this notices a member that nobody named.
    type: dict
    default: {}
  at_once:
    description: How many consumers of one kind a step may hold, after the first of them.
    type: int
    default: 1
"""

EXAMPLES = r"""
- name: Plan the rotation of etcd, of which one member has the new certificate
  ansible.builtin.set_fact:
    rotation: "{{ consumers | dedicated.odoo.rotation_plan(done=['n2/etcd'], group_sizes={'etcd': 3}) }}"
  vars:
    consumers:
      - {layer: etcd, host: n1, name: etcd, kind: restart, leader: true, quorum_group: etcd, healthy: true}
      - {layer: etcd, host: n2, name: etcd, kind: restart, quorum_group: etcd, healthy: true}
      - {layer: etcd, host: n3, name: etcd, kind: restart, quorum_group: etcd, healthy: true}
"""

RETURN = r"""
_value:
  description: The steps that are left. Empty when there is nothing to do.
  type: list
  elements: dict
  contains:
    number:
      description: Its place, from 1.
      type: int
    layer:
      description: Layer of its consumers.
      type: str
    kind:
      description: V(reload) or V(restart).
      type: str
    leader:
      description: Whether its consumers lead.
      type: bool
    consumers:
      description: C(key) (C(host/name)), C(host), C(name) and C(quorum_group) of those that take it together.
      type: list
      elements: dict
"""


def _texts(name: str, value: t.Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} is no list of names")
    return tuple(str(one) for one in value)


def _wish(options: Mapping[str, t.Any], sizes: t.Any, at_once: t.Any) -> plan.Wish:
    if not isinstance(sizes, Mapping) or int(at_once) < 1:
        raise ValueError("group_sizes is a mapping of groups to numbers, and at_once at least 1")
    texts = {name: _texts(name, value) for name, value in options.items()}
    if len(set(texts["order"])) != len(texts["order"]):
        raise ValueError("order names a layer twice")
    return plan.Wish(
        order=texts["order"],
        layers=texts["layers"],
        hosts=texts["hosts"],
        done=frozenset(texts["done"]),
        sizes={str(group): int(size) for group, size in sizes.items()},
        at_once=int(at_once),
    )


def rotation_plan(
    consumers: t.Any,
    done: t.Any = (),
    layers: t.Any = (),
    hosts: t.Any = (),
    order: t.Any = plan.LAYERS,
    group_sizes: t.Any = None,
    at_once: t.Any = 1,
) -> list[dict[str, t.Any]]:
    """The steps; see DOCUMENTATION."""
    try:
        wish = _wish({"done": done, "layers": layers, "hosts": hosts, "order": order}, group_sizes or {}, at_once)
        if isinstance(consumers, (str, Mapping)) or not isinstance(consumers, Sequence):
            raise ValueError("no list of consumers")
        steps = plan.rotation([plan.parse_consumer(one) for one in consumers], wish)
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"bad-input: rotation_plan: {exc}") from exc
    if isinstance(steps, Refuse):
        raise AnsibleFilterError(f"{steps.code}: {steps.message}")
    return [step.as_result(number) for number, step in enumerate(steps, 1)]


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"rotation_plan": rotation_plan}
