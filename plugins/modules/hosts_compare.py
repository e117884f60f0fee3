# SPDX-FileCopyrightText: dedicated.odoo contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hosts_compare
short_description: Judge hosts together before anything is changed on any of them
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Takes what M(dedicated.odoo.host_preflight) returned for each host and reports, in one failure, why hosts that are
    each sound alone are not sound together. Runs on the controller and changes nothing.
  - "Every reason has a stable code: C(wrong-cluster), C(leftover-data), C(other-system-identifier), C(data-lost),
    C(leftover-etcd-data), C(clocks-apart), C(replica-too-small)."
  - The last two are refused in tier V(ha) and are warnings in tier V(single). Further warnings are C(systems-differ),
    C(controller-clock) and C(clock-unknown).
  - A host that is left out with C(--limit) is not compared.
options:
  answers:
    description: Names of hosts with the registered results of M(dedicated.odoo.host_preflight).
    type: dict
    required: true
  tier:
    description: What the hosts are judged against, as M(dedicated.odoo.inventory_check) returned it.
    type: str
    choices: [single, ha]
    required: true
  postgres_group:
    description: The group whose hosts are members of one PostgreSQL cluster.
    type: str
    default: postgres
  etcd_group:
    description: The group whose hosts are members of one etcd cluster.
    type: str
    default: etcd
  postgres_scope:
    description: Patroni's name of the cluster. Empty means not compared.
    type: str
    default: ""
  system_identifier:
    description: System identifier that the PostgreSQL cluster must have. Without it the hosts' own records count.
    type: str
    default: ""
  max_clock_difference:
    description: Seconds that the clocks of two hosts may be apart. The time that the answers took is in their favour.
    type: float
    default: 1.0
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details: Changes nothing.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    support: full
"""

EXAMPLES = r"""
- name: Judge the hosts together
  dedicated.odoo.hosts_compare:
    answers: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'preflight'))) }}"
    tier: ha
    postgres_scope: acme
  run_once: true
"""

RETURN = r"""
findings:
  description: Why the hosts do not fit together.
  returned: always
  type: list
  elements: dict
  contains:
    code:
      description: Stable code of the reason.
      type: str
    hosts:
      description: The hosts concerned.
      type: list
      elements: str
    message:
      description: What is wrong, why, and what to do.
      type: str
"""
