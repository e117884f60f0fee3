# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: PostgreSQL's settings from the size of a host."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._sizing import plan

DOCUMENTATION = r"""
name: postgres_sizing
short_description: PostgreSQL's memory and connection settings from the size of a host
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Derives the settings of PostgreSQL from the memory and processors of a host, or from the share of it that the
    database may use.
  - "The rules are those of the PostgreSQL manual (Resource Consumption; Write Ahead Log; Query Planning):
    C(shared_buffers) a quarter of memory and never above 40 %, C(effective_cache_size) three quarters, C(work_mem) from
    what remains for every connection."
  - A combination that cannot fit is refused with its numbers.
positional: _input
options:
  _input:
    description: A mapping with C(memory_mb) and C(vcpus), or C(ansible_facts).
    type: dict
    required: true
  share:
    description: Part of the host's memory and processors that PostgreSQL may use.
    type: float
    default: 0.25
  memory_mb:
    description: Memory in MiB, instead of the share of it.
    type: int
  max_connections:
    description: The connections that the server accepts. Take it from P(dedicated.odoo.pool_plan#filter).
    type: int
    default: 200
  members:
    description: Members of the cluster, for the number of WAL senders.
    type: int
    default: 1
  disk_gb:
    description: Size of the data disk in GiB; bounds the WAL.
    type: int
  overrides:
    description: Settings that replace the derived ones; any PostgreSQL parameter.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the settings for a quarter of this host
  ansible.builtin.debug:
    msg: "{{ ansible_facts | dedicated.odoo.postgres_sizing(share=0.25, max_connections=120) }}"
"""

RETURN = r"""
_value:
  description: The settings.
  type: dict
  contains:
    parameters:
      description: PostgreSQL parameters.
      type: dict
    memory_mb:
      description: Memory in MiB that PostgreSQL was sized for.
      type: int
    memory_limit:
      description: The same as a limit for a container.
      type: str
    shm_size:
      description: Size of the container's C(/dev/shm).
      type: str
    vcpus:
      description: Processors that PostgreSQL was sized for.
      type: int
"""


def postgres_sizing(
    facts: t.Any,
    share: float = 0.25,
    memory_mb: int | None = None,
    max_connections: int = 200,
    members: int = 1,
    disk_gb: int | None = None,
    overrides: Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Size PostgreSQL; see DOCUMENTATION."""
    if not isinstance(facts, Mapping):
        raise AnsibleFilterError("bad-input: postgres_sizing wants a mapping with memory_mb and vcpus")
    try:
        share, max_connections, members = float(share), int(max_connections), int(members)
        memory_mb = None if memory_mb is None else int(memory_mb)
        disk_gb = None if disk_gb is None else int(disk_gb)
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"bad-input: postgres_sizing: {exc}") from exc
    host = plan.parse_host(facts)
    size = (
        host
        if isinstance(host, plan.Refusal)
        else plan.plan_postgres(host, share, memory_mb, max_connections, members, disk_gb, overrides)
    )
    if isinstance(size, plan.Refusal):
        raise AnsibleFilterError(f"{size.code}: {size.message}")
    return size.as_result()


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"postgres_sizing": postgres_sizing}
