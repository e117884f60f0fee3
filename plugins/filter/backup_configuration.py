# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: pgBackRest's configuration of the repositories."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._repositories import plan

DOCUMENTATION = r"""
name: backup_configuration
short_description: The configuration of pgBackRest's repositories
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Makes of C(pgbackrest_repositories) the lines of C(pgbackrest.conf), and the files that have to lie beside it.
  - The result holds secrets.
  - What M(dedicated.odoo.inventory_check) would refuse is an error.
positional: _input
options:
  _input:
    description: The repositories.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: dedicated.odoo.backup_repositories
    plugin_type: filter
"""

EXAMPLES = r"""
- name: How many lines are there?
  ansible.builtin.debug:
    msg: "{{ (pgbackrest_repositories | dedicated.odoo.backup_configuration).lines | length }}"
"""

RETURN = r"""
_value:
  description: The configuration.
  type: dict
  contains:
    lines:
      description: Lines for the section C(global), by repository.
      type: list
      elements: str
    files:
      description: Files beside it.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the file.
          type: str
        content:
          description: Its content.
          type: str
        secret:
          description: Whether only pgBackRest may read it.
          type: bool
"""


def backup_configuration(value: t.Any) -> dict[str, t.Any]:
    """The configuration; see DOCUMENTATION."""
    repositories, problems = plan.judge(value)
    if problems:
        raise AnsibleFilterError(f"{problems[0].code}: {problems[0].message}")
    return {
        "lines": [line for one in repositories for line in one.lines()],
        "files": [
            {"name": name, "content": content, "secret": secret}
            for one in repositories
            for name, content, secret in one.files()
        ],
    }


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"backup_configuration": backup_configuration}
