# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: who leads a cluster."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import views

DOCUMENTATION = r"""
name: leader_of
short_description: Who leads a cluster
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns the name of the leader of Patroni or etcd, or the address of the master of Redis.
  - Nobody (null) is the answer also for a cluster that gave no answer, and for a task that failed or was skipped.
positional: _input
options:
  _input:
    description: >-
      A result of M(dedicated.odoo.patroni_cluster_info), M(dedicated.odoo.etcd_cluster_info) or
      M(dedicated.odoo.redis_sentinel_info), or what Patroni answers to C(GET /cluster).
    type: dict
    required: true
seealso:
  - plugin: dedicated.odoo.sync_standbys
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ask the cluster
  dedicated.odoo.patroni_cluster_info:
    url: "https://{{ dedicated_address }}:8008"
    ca_path: /etc/dedicated/pki/ca.pem
  register: seen

- name: Only where the leader is
  ansible.builtin.debug:
    msg: "I lead"
  when: seen | dedicated.odoo.leader_of == inventory_hostname
"""

RETURN = r"""
_value:
  description: The name, or the address as V(host:port); null when nobody leads, or nobody answered.
  type: str
"""


def leader_of(value: t.Any) -> str | None:
    """Who leads; see DOCUMENTATION."""
    try:
        return views.leader_of(value)
    except ValueError as exc:
        raise AnsibleFilterError(f"bad-input: leader_of: {exc}") from exc


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"leader_of": leader_of}
