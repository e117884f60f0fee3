# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: how far standbys are behind."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import views

DOCUMENTATION = r"""
name: lag_of
short_description: How far the standbys of a cluster are behind
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns for every standby of Patroni, or every replica of Redis, the bytes that it is behind the leader.
positional: _input
options:
  _input:
    description: >-
      A result of M(dedicated.odoo.patroni_cluster_info) or M(dedicated.odoo.redis_sentinel_info), or what Patroni
      answers to C(GET /cluster).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Nobody is a mebibyte behind
  ansible.builtin.assert:
    that: (seen | dedicated.odoo.lag_of).values() | reject('none') | select('gt', 1048576) | list | length == 0
"""

RETURN = r"""
_value:
  description: Bytes by member name, of Redis by address; null where it is not known. Empty when nobody answered.
  type: dict
"""


def lag_of(value: t.Any) -> dict[str, int | None]:
    """How far behind; see DOCUMENTATION."""
    try:
        return views.lags(value)
    except ValueError as exc:
        raise AnsibleFilterError(f"bad-input: lag_of: {exc}") from exc


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"lag_of": lag_of}
