# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: PgBouncer's pools, whose sum fits the server."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._sizing import plan

DOCUMENTATION = r"""
name: pool_plan
short_description: PgBouncer pools whose sum never exceeds the server's limit
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Gives every host that runs Odoo its PgBouncer pools, such that all pools together, with their reserves, never open
    more connections than PostgreSQL accepts minus those that are reserved.
  - The application database is pooled by transaction; the database C(postgres), on which Odoo listens, by session.
  - When the server is too small for the wanted pools, they are made smaller, down to the size below which processes
    could wait for each other; below that the plan is refused with its numbers.
positional: _input
options:
  _input:
    description: >-
      A mapping of host name to a result of P(dedicated.odoo.odoo_sizing#filter), or to a mapping with C(web), C(cron)
      and C(gevent).
    type: dict
    required: true
  max_connections:
    description: What the server accepts. Without it the plan says what the server must accept.
    type: int
  reserved:
    description: Connections kept free, by purpose; merged over the default.
    type: dict
    default: {}
  overrides:
    description: >-
      Values for every host that replace the derived ones: C(default_pool_size), C(session_pool_size),
      C(reserve_pool_size), C(max_client_conn).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Plan the pools of two hosts
  ansible.builtin.debug:
    msg: "{{ {'app1': {'web': 4, 'cron': 1}, 'app2': {'web': 4, 'cron': 1}}
      | dedicated.odoo.pool_plan(max_connections=120) }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    max_connections:
      description: What the server accepts, or must accept.
      type: int
    reserved:
      description: Connections kept free.
      type: int
    available:
      description: Connections that the pools may open.
      type: int
    used:
      description: Connections that the pools can open at most.
      type: int
    hosts:
      description: >-
        For every host C(default_pool_size), C(session_pool_size), C(reserve_pool_size), C(max_db_connections),
        C(max_session_db_connections), C(max_client_conn).
      type: dict
"""


def pool_plan(
    demand: t.Any,
    max_connections: int | None = None,
    reserved: Mapping[str, t.Any] | None = None,
    overrides: Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Plan the pools; see DOCUMENTATION."""
    if not isinstance(demand, Mapping) or not all(isinstance(value, Mapping) for value in demand.values()):
        raise AnsibleFilterError("bad-input: pool_plan wants a mapping of host name to its processes")
    demands = []
    for name, value in demand.items():
        parsed = plan.parse_demand(str(name), value)
        if isinstance(parsed, plan.Refusal):
            raise AnsibleFilterError(f"{parsed.code}: {parsed.message}")
        demands.append(parsed)
    try:
        limit = None if max_connections is None else int(max_connections)
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"bad-input: pool_plan: {exc}") from exc
    pools = plan.plan_pools(demands, limit, reserved, overrides)
    if isinstance(pools, plan.Refusal):
        raise AnsibleFilterError(f"{pools.code}: {pools.message}")
    return pools.as_result()


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"pool_plan": pool_plan}
