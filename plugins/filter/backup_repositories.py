# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: where backups go, without its secrets."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._repositories import plan

DOCUMENTATION = r"""
name: backup_repositories
short_description: Where backups go, without the secrets
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Reads C(pgbackrest_repositories) with all defaults, and returns of each repository what everybody may know, by
    number.
  - What M(dedicated.odoo.inventory_check) would refuse is an error.
positional: _input
options:
  _input:
    description: The repositories. An empty list is one of none.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: dedicated.odoo.backup_configuration
    plugin_type: filter
"""

EXAMPLES = r"""
- name: For how long can any moment be recovered?
  ansible.builtin.debug:
    msg: >-
      {{ pgbackrest_repositories | dedicated.odoo.backup_repositories | map(attribute='retention_days') | min }} days
"""

RETURN = r"""
_value:
  description: The repositories.
  type: list
  elements: dict
  contains:
    number:
      description: pgBackRest's number of it.
      type: int
    type:
      description: V(s3), V(posix) or V(sftp).
      type: str
    at:
      description: The host that has it; empty for a path.
      type: str
    shared:
      description: Whether it is a path that all data hosts share.
      type: bool
    retention_days:
      description: How long backups and WAL are kept.
      type: int
    hold:
      description: Backups that are kept whatever their age.
      type: list
      elements: dict
      contains:
        backup:
          description: Its label.
          type: str
        reason:
          description: Why.
          type: str
    bucket:
      description: The bucket; empty for other types than V(s3).
      type: str
    mount:
      description: The path on the hosts, to be mounted into containers; empty for other types than V(posix).
      type: str
    inside:
      description: Where containers have that path.
      type: str
"""


def backup_repositories(value: t.Any) -> list[dict[str, t.Any]]:
    """Where backups go; see DOCUMENTATION."""
    repositories, problems = plan.judge(value) if value else ((), [])
    if problems:
        raise AnsibleFilterError(f"{problems[0].code}: {problems[0].message}")
    return [one.public() for one in repositories]


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"backup_repositories": backup_repositories}
