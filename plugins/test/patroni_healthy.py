# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test: whether nothing speaks against a Patroni cluster."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import views

DOCUMENTATION = r"""
name: patroni_healthy
short_description: Whether a Patroni cluster is healthy
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - A cluster is healthy when it is not paused, has a running leader, and every other member streams on the leader's
    timeline within O(max_lag). With synchronous replication at least one standby must be synchronous.
  - A cluster that gave no answer is not healthy, nor is a task that failed or was skipped.
positional: _input
options:
  _input:
    description: >-
      A result of M(dedicated.odoo.patroni_cluster_info), or what Patroni answers to C(GET /cluster). The latter does
      not tell whether replication is synchronous, so that this is not judged.
    type: dict
    required: true
  expected:
    description: Names of members without which the cluster is not healthy.
    type: list
    elements: str
    default: []
  max_lag:
    description: Bytes that a healthy member may lag behind.
    type: int
    default: 1048576
"""

EXAMPLES = r"""
- name: Ask a member, without the module
  ansible.builtin.uri:
    url: "https://{{ dedicated_address }}:8008/cluster"
    ca_path: /etc/dedicated/pki/ca.pem
  register: said

- name: All three are well
  ansible.builtin.assert:
    that: said.json is dedicated.odoo.patroni_healthy(expected=['node1', 'node2', 'node3'])
"""

RETURN = r"""
_value:
  description: Whether nothing speaks against it.
  type: bool
"""


def patroni_healthy(value: t.Any, expected: t.Sequence[str] = (), max_lag: int = 1024**2) -> bool:
    """Whether it is healthy; see DOCUMENTATION."""
    try:
        return not views.why_not_patroni(value, views.names(expected), int(max_lag))
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"bad-input: patroni_healthy: {exc}") from exc


class TestModule:
    """Entry point."""

    def tests(self) -> dict[str, t.Callable[..., bool]]:
        """Tests of this file."""
        return {"patroni_healthy": patroni_healthy}
