# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: certificates that end soon."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate import plan

DOCUMENTATION = r"""
name: expiring
short_description: Certificates that end soon, the soonest first
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns the certificates that end in fewer days than given, the soonest first. Those that have ended are among them.
  - A certificate ends with the first of its chain. Roots that a server sends do not count.
  - What could not be looked at is not here; it is in C(missing) of M(dedicated.odoo.certificate_info).
positional: _input
options:
  _input:
    description: The C(certificates) of M(dedicated.odoo.certificate_info), or several such lists together.
    type: list
    elements: dict
    required: true
  days:
    description: Full days that a certificate must last not to be spoken of.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: Warn of certificates that end within two weeks
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.ends_in_days }} days"
  loop: "{{ seen.certificates | dedicated.odoo.expiring(days=14) }}"
"""

RETURN = r"""
_value:
  description: The certificates as they were given, and beside that what follows.
  type: list
  elements: dict
  contains:
    level:
      description: 30, 14, 7 or 1, the smallest that it has fewer days than; 0 when it has ended, null above 30.
      type: int
    ends_in_days:
      description: Full days until the first of its chain ends, negative once it has.
      type: int
    ends_first:
      description: Subject of that one.
      type: str
"""


def expiring(certificates: t.Any, days: t.Any = 30) -> list[dict[str, t.Any]]:
    """Which end soon; see DOCUMENTATION."""
    try:
        return plan.expiring(certificates, float(days))
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"bad-input: expiring: {exc}") from exc


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"expiring": expiring}
