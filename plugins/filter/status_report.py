# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: from what all hosts told to what is wrong and what to do."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._status import report

DOCUMENTATION = r"""
name: status_report
short_description: Judge a platform by what its hosts told
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Takes what M(dedicated.odoo.host_status), M(dedicated.odoo.patroni_cluster_info),
    M(dedicated.odoo.etcd_cluster_info) and M(dedicated.odoo.redis_sentinel_info) returned on every host, and returns
    what is wrong, why that matters and the next command, with one screen of text and the same for programs.
  - Whatever is missing, because a host gives no answer or a task failed, is a finding and never an error.
  - The playbook C(dedicated.odoo.status) gathers the input; see its text for the shape.
positional: _input
options:
  _input:
    description: >-
      C(cluster), C(vip), C(stanza), C(backups) (which types timers take), C(members) (by layer), C(cron) (hosts of
      scheduled jobs), C(limits), and C(hosts): by name C(address), C(asked), and the registered results C(status),
      C(postgres), C(etcd), C(redis).
    type: dict
    required: true
  fail_on:
    description: The least severity with which the platform is not well.
    type: str
    choices: [critical, warning]
    default: warning
"""

EXAMPLES = r"""
- name: What is wrong?
  ansible.builtin.debug:
    msg: "{{ (look | dedicated.odoo.status_report).lines }}"
  vars:
    look:
      cluster: example
      members: {etcd: [erp1], postgres: [erp1], redis: [erp1], odoo: [erp1], edge: [erp1]}
      hosts:
        erp1: {address: 192.0.2.11, status: "{{ told }}", postgres: "{{ seen }}"}
"""

RETURN = r"""
_value:
  description: The report.
  type: dict
  contains:
    ok:
      description: Whether nothing is as bad as O(fail_on).
      type: bool
    time:
      description: When, by the hosts' clocks (s since the epoch), or null.
      type: int
    counts:
      description: How many findings of each severity.
      type: dict
      sample: {critical: 0, warning: 1, note: 0}
    findings:
      description: What is wrong, the worst first.
      type: list
      elements: dict
      contains:
        severity:
          description: >-
            V(critical) is what does not serve, may lose data or leaves nobody to take over, V(warning) what uses
            redundancy or time up, V(note) what is worth knowing.
          type: str
        code:
          description: Stable code, for example V(postgres-no-leader).
          type: str
        host:
          description: The host that it concerns; empty when it is a cluster as a whole.
          type: str
        what:
          description: What is wrong, with its numbers.
          type: str
        why:
          description: Why that matters.
          type: str
        do:
          description: The next command.
          type: str
        cause:
          description: The code of the finding that explains it; empty when none does.
          type: str
    clusters:
      description: What each cluster shows, good or bad.
      type: dict
    hosts:
      description: What each host shows.
      type: dict
    message:
      description: What is wrong as one text.
      type: str
    metrics:
      description: When every served certificate ends, in the text format of Prometheus.
      type: str
    lines:
      description: One screen, in lines of at most 100 columns, but for commands.
      type: list
      elements: str
"""


def status_report(look: t.Any, fail_on: str = "warning") -> dict[str, t.Any]:
    """Judge; see DOCUMENTATION."""
    try:
        return report.report(look, str(fail_on))
    except ValueError as exc:
        raise AnsibleFilterError(f"bad-input: status_report: {exc}") from exc


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"status_report": status_report}
