# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: Odoo's workers and limits from the size of a host."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._sizing import plan

DOCUMENTATION = r"""
name: odoo_sizing
short_description: Odoo's workers and limits from the size of a host
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Derives the number of http and cron workers, their limits and the memory limits of the two services from the memory
    and processors of a host, or from the share of it that Odoo may use.
  - "The rules are those of Odoo's manual (System configuration): at most C(CPUs * 2 + 1) workers with the cron workers
    counted in, one worker for about six users, memory C(workers * (0.8 * 150 MB + 0.2 * 1 GB))."
  - A combination that cannot fit is refused with its numbers.
positional: _input
options:
  _input:
    description: A mapping with C(memory_mb) and C(vcpus), or C(ansible_facts).
    type: dict
    required: true
  share:
    description: Part of the host's memory and processors that Odoo may use.
    type: float
    default: 0.5
  memory_mb:
    description: Memory in MiB, instead of the share of it.
    type: int
  users:
    description: Users at the same time; no more workers than they need, and a refusal when there are not enough.
    type: int
  overrides:
    description: >-
      Values that replace the derived ones: C(workers), C(cron_workers), C(limit_*), C(db_maxconn),
      C(db_maxconn_gevent).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the workers for half of this host
  ansible.builtin.debug:
    msg: "{{ ansible_facts | dedicated.odoo.odoo_sizing(share=0.5) }}"
"""

RETURN = r"""
_value:
  description: >-
    C(workers), C(cron_workers), the C(limit_*) settings (bytes and seconds), C(db_maxconn), C(db_maxconn_gevent),
    C(users), C(processes) for P(dedicated.odoo.pool_plan#filter), and the memory limits C(web_memory_limit),
    C(cron_memory_limit), C(web_memory_mb), C(cron_memory_mb) and C(memory_mb).
  type: dict
"""


def odoo_sizing(
    facts: t.Any,
    share: float = 0.5,
    memory_mb: int | None = None,
    users: int | None = None,
    overrides: Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Size Odoo; see DOCUMENTATION."""
    if not isinstance(facts, Mapping):
        raise AnsibleFilterError("bad-input: odoo_sizing wants a mapping with memory_mb and vcpus")
    try:
        share = float(share)
        memory_mb = None if memory_mb is None else int(memory_mb)
        users = None if users is None else int(users)
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"bad-input: odoo_sizing: {exc}") from exc
    host = plan.parse_host(facts)
    size = host if isinstance(host, plan.Refusal) else plan.plan_odoo(host, share, memory_mb, users, overrides)
    if isinstance(size, plan.Refusal):
        raise AnsibleFilterError(f"{size.code}: {size.message}")
    return size.as_result()


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"odoo_sizing": odoo_sizing}
