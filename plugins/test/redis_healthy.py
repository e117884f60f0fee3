# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test: whether nothing speaks against Redis and its Sentinels."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import views

DOCUMENTATION = r"""
name: redis_healthy
short_description: Whether Redis and its Sentinels are healthy
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - They are healthy when M(dedicated.odoo.redis_sentinel_info) found nothing against them, and all O(expected) are
    nodes.
  - Sentinels that gave no answer are not healthy, nor is a task that failed or was skipped.
positional: _input
options:
  _input:
    description: A result of M(dedicated.odoo.redis_sentinel_info).
    type: dict
    required: true
  expected:
    description: Addresses of nodes, as V(host:port), without which they are not healthy.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: All is well
  ansible.builtin.assert:
    that: seen is dedicated.odoo.redis_healthy
"""

RETURN = r"""
_value:
  description: Whether nothing speaks against them.
  type: bool
"""


def redis_healthy(value: t.Any, expected: t.Sequence[str] = ()) -> bool:
    """Whether they are healthy; see DOCUMENTATION."""
    try:
        return not views.why_not(value, views.REDIS, views.names(expected))
    except ValueError as exc:
        raise AnsibleFilterError(f"bad-input: redis_healthy: {exc}") from exc


class TestModule:
    """Entry point."""

    def tests(self) -> dict[str, t.Callable[..., bool]]:
        """Tests of this file."""
        return {"redis_healthy": redis_healthy}
