# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test: whether nothing speaks against an etcd cluster."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import views

DOCUMENTATION = r"""
name: etcd_healthy
short_description: Whether an etcd cluster is healthy
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - A cluster is healthy when M(dedicated.odoo.etcd_cluster_info) found nothing against it, and all O(expected) are
    members.
  - A cluster that gave no answer is not healthy, nor is a task that failed or was skipped.
positional: _input
options:
  _input:
    description: A result of M(dedicated.odoo.etcd_cluster_info).
    type: dict
    required: true
  expected:
    description: Names of members without which the cluster is not healthy.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: All members are well
  ansible.builtin.assert:
    that: seen is dedicated.odoo.etcd_healthy(expected=groups.etcd)
"""

RETURN = r"""
_value:
  description: Whether nothing speaks against it.
  type: bool
"""


def etcd_healthy(value: t.Any, expected: t.Sequence[str] = ()) -> bool:
    """Whether it is healthy; see DOCUMENTATION."""
    try:
        return not views.why_not(value, views.ETCD, views.names(expected))
    except ValueError as exc:
        raise AnsibleFilterError(f"bad-input: etcd_healthy: {exc}") from exc


class TestModule:
    """Entry point."""

    def tests(self) -> dict[str, t.Callable[..., bool]]:
        """Tests of this file."""
        return {"etcd_healthy": etcd_healthy}
