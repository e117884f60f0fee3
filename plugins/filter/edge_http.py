# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: Traefik's routers for a table of routes."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._edge import plan

DOCUMENTATION = r"""
name: edge_http
short_description: Traefik's routers for a table of routes
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Turns C(edge_routes) into the routers, middlewares, services and transports of Traefik's file provider, those that
    are there without any route among them.
  - The routes C(login), C(api) and C(integrations) are there unless they are switched off with V(null); their options
    can be changed one by one.
  - A table that is not understood is an error with a stable code, C(invalid-route), C(unknown-option) or C(path-twice).
positional: _input
options:
  _input:
    description: Names of routes with their options, as C(edge_routes) of the role P(dedicated.odoo.edge#role).
    type: dict
    required: true
  domains:
    description: Host names under which Odoo is served.
    type: list
    elements: str
    required: true
  denied:
    description: Path prefixes that nobody reaches.
    type: list
    elements: str
    default: []
  several:
    description: Whether there is another host to try when one does not answer.
    type: bool
    default: false
  inspected:
    description: Whether a firewall for applications is asked about every request.
    type: bool
    default: false
  pool:
    description: Traefik's load balancer for Odoo; for routes with a time of their own.
    type: dict
    default: {}
  transport:
    description: Traefik's transport to Odoo; for routes with a time of their own.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Which router takes what partners send?
  ansible.builtin.debug:
    msg: "{{ ({'partners': {'paths': ['/edi'], 'sources': ['192.0.2.0/24']}}
      | dedicated.odoo.edge_http(domains=['books.example.com'])).routers.partners }}"
"""

RETURN = r"""
_value:
  description: A part of Traefik's dynamic configuration.
  type: dict
  contains:
    routers:
      description: Names of routers with C(rule), C(priority), C(entryPoints), C(middlewares) and C(service).
      type: dict
    middlewares:
      description: Those of the routes.
      type: dict
    services:
      description: Those of routes with a time or a backend of their own.
      type: dict
    serversTransports:
      description: Those of routes with a time of their own.
      type: dict
"""


def edge_http(
    value: t.Any,
    domains: t.Any = (),
    denied: t.Any = (),
    several: t.Any = False,
    inspected: t.Any = False,
    pool: t.Any = None,
    transport: t.Any = None,
) -> dict[str, t.Any]:
    """The part of the configuration; see DOCUMENTATION."""
    routes, problems = plan.judge(value)
    if problems:
        raise AnsibleFilterError("; ".join(f"{one.code}: {one.message}" for one in problems))
    if not domains or isinstance(domains, str):
        raise AnsibleFilterError("edge_http: domains is a list of at least one host name")
    for given in (pool, transport):
        if given is not None and not isinstance(given, Mapping):
            raise AnsibleFilterError("edge_http: pool and transport are mappings")
    edge = plan.Edge(
        tuple(str(one) for one in domains),
        tuple(str(one) for one in denied),
        bool(several),
        bool(inspected),
        pool or {},
        transport or {},
    )
    return plan.http(routes, edge)


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"edge_http": edge_http}
