# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: when backups are taken, and how much may be lost."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._repositories import policy

DOCUMENTATION = r"""
name: backup_policy
short_description: When backups are taken, and how much may be lost
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Puts C(pgbackrest_policy) over the defaults.
  - A calendar that is not understood, or is not there for full backups, is an error.
positional: _input
options:
  _input:
    description: A mapping with C(full), C(diff), C(incr) (calendars of systemd) and C(rpo_seconds).
    type: dict
    required: true
  rpo_seconds:
    description: The variable C(dedicated_rpo_seconds), where it is set. Another number than C(rpo_seconds) is an error.
    type: float
"""

EXAMPLES = r"""
- name: What is promised?
  ansible.builtin.debug:
    msg: "{{ (pgbackrest_policy | dedicated.odoo.backup_policy).rpo_seconds }} s"
"""

RETURN = r"""
_value:
  description: The policy.
  type: dict
  contains:
    full:
      description: When full backups begin.
      type: str
    diff:
      description: When differential ones begin; empty for never.
      type: str
    incr:
      description: When incremental ones begin; empty for never.
      type: str
    rpo_seconds:
      description: How old a commit may be that is in no repository yet.
      type: float
    calendars:
      description: The calendars of the types that are taken.
      type: dict
"""


def backup_policy(value: t.Any, rpo_seconds: t.Any = None) -> dict[str, t.Any]:
    """The policy; see DOCUMENTATION."""
    found, problems = policy.read_policy(value, rpo_seconds)
    if found is None:
        raise AnsibleFilterError(f"{problems[0].code}: {problems[0].message}")
    return found.as_result()


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"backup_policy": backup_policy}
