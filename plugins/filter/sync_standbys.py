# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: who has every commit that was acknowledged."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import views

DOCUMENTATION = r"""
name: sync_standbys
short_description: Patroni's synchronous standbys
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns the names of the synchronous standbys, or of the members of the quorum (C(synchronous_mode=quorum), where
    Patroni calls them V(quorum_standby)).
  - A cluster that gave no answer has none.
positional: _input
options:
  _input:
    description: A result of M(dedicated.odoo.patroni_cluster_info), or what Patroni answers to C(GET /cluster).
    type: dict
    required: true
seealso:
  - plugin: dedicated.odoo.leader_of
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Somebody else has every commit
  ansible.builtin.assert:
    that: seen | dedicated.odoo.sync_standbys | length > 0
"""

RETURN = r"""
_value:
  description: The names.
  type: list
  elements: str
"""


def sync_standbys(value: t.Any) -> list[str]:
    """Who is synchronous; see DOCUMENTATION."""
    try:
        return views.sync_standbys(value)
    except ValueError as exc:
        raise AnsibleFilterError(f"bad-input: sync_standbys: {exc}") from exc


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"sync_standbys": sync_standbys}
