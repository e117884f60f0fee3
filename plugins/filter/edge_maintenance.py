# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: Traefik's configuration while the maintenance page is shown."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._edge import plan

DOCUMENTATION = r"""
name: edge_maintenance
short_description: Traefik's configuration while the maintenance page is shown
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Routers and middlewares by which everybody gets the page, but whoever comes from one of the given networks.
  - What is no address and no network is an error with the code C(invalid-source).
positional: _input
options:
  _input:
    description: Addresses and networks that see the site meanwhile.
    type: list
    elements: str
    required: true
  domains:
    description: Host names under which Odoo is served.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: What would Traefik be told?
  ansible.builtin.debug:
    msg: "{{ ['192.0.2.0/24'] | dedicated.odoo.edge_maintenance(domains=['books.example.com']) }}"
"""

RETURN = r"""
_value:
  description: A part of Traefik's dynamic configuration, C(routers) and C(middlewares).
  type: dict
"""


def edge_maintenance(value: t.Any, domains: t.Any) -> dict[str, t.Any]:
    """The part of the configuration; see DOCUMENTATION."""
    if not isinstance(value, (list, tuple)):
        raise AnsibleFilterError("invalid-source: a list of addresses and networks is wanted")
    whys = [why for one in value if (why := plan.why_no_source(one))]
    if whys:
        raise AnsibleFilterError(f"invalid-source: {'; '.join(whys)}")
    return plan.maintenance([str(one) for one in domains], [str(one) for one in value])


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"edge_maintenance": edge_maintenance}
