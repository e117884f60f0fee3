# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: whether a cluster can decide."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import views

DOCUMENTATION = r"""
name: quorum_of
short_description: The quorum of etcd, or of the Sentinels
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns how many members vote, how many are needed, how many answer, and how many may still be lost.
  - Of Sentinels those answer that name the agreed master and find their own quorum for a failover.
  - Patroni has no quorum of its own, since its votes are etcd's. A result of M(dedicated.odoo.patroni_cluster_info) is
    refused.
positional: _input
options:
  _input:
    description: A result of M(dedicated.odoo.etcd_cluster_info) or M(dedicated.odoo.redis_sentinel_info).
    type: dict
    required: true
  total:
    description: How many there should be. Without it, as many as the result knows.
    type: int
"""

EXAMPLES = r"""
- name: One more may go
  ansible.builtin.assert:
    that: (seen | dedicated.odoo.quorum_of).spare > 0
    fail_msg: "{{ (seen | dedicated.odoo.quorum_of(total=3)).answering }} of 3 answer"
"""

RETURN = r"""
_value:
  description: The numbers.
  type: dict
  contains:
    total:
      description: How many vote.
      type: int
    needed:
      description: How many are more than half of them.
      type: int
    answering:
      description: How many answer.
      type: int
    spare:
      description: How many of these may still go.
      type: int
    ok:
      description: Whether enough answer.
      type: bool
"""


def quorum_of(value: t.Any, total: int | None = None) -> dict[str, t.Any]:
    """The numbers; see DOCUMENTATION."""
    try:
        return views.quorum_of(value, None if total is None else int(total))
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"bad-input: quorum_of: {exc}") from exc


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"quorum_of": quorum_of}
