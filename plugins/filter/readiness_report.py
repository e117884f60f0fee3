# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: from what was found to whether a ledger may live on a platform."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import ready

DOCUMENTATION = r"""
name: readiness_report
short_description: Judge whether a platform is ready for production
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Holds what was found against what must be there before a ledger that matters may live on a platform, and returns
    every demand, met or not, with its numbers.
  - Only what a repository holds, and what was proven by reading and restoring it, counts as a backup. A replica is
    none.
  - What was not found is a demand that is not met, and never an error.
  - The playbook C(dedicated.odoo.ready) gathers the input; see its text for the shape.
positional: _input
options:
  _input:
    description: >-
      C(report) (what P(dedicated.odoo.status_report#filter) returned), C(rpo_seconds), C(rto_seconds), C(repositories)
      (each with C(number), C(type), C(at) and C(shared)), C(site) (names and addresses of the hosts), C(retention)
      (what M(dedicated.odoo.pgbackrest_expire) returned in check mode), C(evidence) (by place, what
      M(dedicated.odoo.verify_evidence) returned), C(signatures) (whether they are demanded) and C(limits).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: May a ledger live here?
  ansible.builtin.debug:
    msg: "{{ (found | dedicated.odoo.readiness_report).lines }}"
  vars:
    found:
      report: "{{ look | dedicated.odoo.status_report }}"
      rpo_seconds: 60
      rto_seconds: 3600
      repositories: [{number: 1, type: s3, at: object-store.example.com}]
      site: [erp1, 192.0.2.11]
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether every demand is met.
      type: bool
    time:
      description: When, by the hosts' clocks (s since the epoch), or null.
      type: int
    demands:
      description: Everything that must be so.
      type: list
      elements: dict
      contains:
        code:
          description: >-
            Stable code. V(status-well), V(backup-recent), V(backups-verified), V(restore-rehearsed),
            V(restore-targets), V(repository-elsewhere), V(retention-kept), V(certificates-valid), V(evidence-whole),
            and V(evidence-signed) when that is demanded.
          type: str
        met:
          description: Whether it is so.
          type: bool
        what:
          description: What was found, with its numbers.
          type: str
        why:
          description: Why that matters.
          type: str
        do:
          description: The next command.
          type: str
    missing:
      description: Codes of the demands that are not met.
      type: list
      elements: str
    message:
      description: What is missing as one text.
      type: str
    lines:
      description: A table for people.
      type: list
      elements: str
"""


def readiness_report(found: t.Any) -> dict[str, t.Any]:
    """Judge; see DOCUMENTATION."""
    try:
        return ready.report(ready.parse_found(found))
    except ValueError as exc:
        raise AnsibleFilterError(f"bad-input: readiness_report: {exc}") from exc


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"readiness_report": readiness_report}
