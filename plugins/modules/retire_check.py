# SPDX-FileCopyrightText: dedicated.odoo contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: retire_check
short_description: Judge whether a host may leave, before anything is stopped
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Judges on the controller whether the hosts that stay keep what the tier promises, and tells the order in which a
    host leaves its layers. It opens no connection; what the clusters show is given to it.
  - What is left must be an inventory that M(dedicated.odoo.inventory_check) accepts, judged by the tier that was
    promised while the host was still there. Its codes are passed on, for example C(tier-not-kept), C(empty-group),
    C(even-etcd) and C(failure-domain-holds-too-much).
  - "Further codes: C(no-host-named), C(unknown-host), C(no-layer), C(limited), C(last-cron-host),
    C(virtual-address-alone), C(etcd-quorum), C(etcd-not-healthy), C(etcd-does-not-answer), C(postgres-leader),
    C(postgres-not-healthy), C(postgres-does-not-answer), C(no-synchronous-standby), C(sentinel-quorum),
    C(redis-not-healthy), C(redis-does-not-answer)."
  - A host that is dead, or that its clusters no longer know, is no reason to refuse, so that a run that was cut off can
    be run again.
options:
  host:
    description: Inventory name of the host that is to leave.
    type: str
    required: true
  reached:
    description: The hosts of this run. When one that serves is lacking (C(--limit)), nothing is done.
    type: list
    elements: str
    required: true
  allow_even:
    description: Whether an even number of etcd members may be left, as in between when two are retired.
    type: bool
    default: false
  clusters:
    description: Whether the clusters are judged too, by what is given below. Without it only the inventory is.
    type: bool
    default: false
  answers:
    description: Whether the host itself answers. Of a dead one only the others' part is done.
    type: bool
    default: true
  etcd:
    description: The result of M(dedicated.odoo.etcd_cluster_info) with the host among C(except_members).
    type: dict
  postgres:
    description: The result of M(dedicated.odoo.patroni_cluster_info) with the host among C(except_members).
    type: dict
  redis:
    description: The result of M(dedicated.odoo.redis_sentinel_info) with the host among C(except_hosts).
    type: dict
  known_variables:
    description: As in M(dedicated.odoo.inventory_check).
    type: list
    elements: str
    default: []
  ignored_variables:
    description: As in M(dedicated.odoo.inventory_check).
    type: list
    elements: str
    default: []
  provided_variables:
    description: As in M(dedicated.odoo.inventory_check).
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details: Changes nothing.
seealso:
  - module: dedicated.odoo.inventory_check
"""

EXAMPLES = r"""
- name: May node4 leave, by the inventory?
  dedicated.odoo.retire_check:
    host: node4
    reached: "{{ ansible_play_hosts_all }}"
  run_once: true
"""

RETURN = r"""
layers:
  description: The layers of the host, in the order in which it leaves them.
  returned: always
  type: list
  elements: str
tier:
  description: The tier that is promised, V(single) or V(ha).
  returned: always
  type: str
plan:
  description: The steps in their order. Empty where O(clusters=false).
  returned: always
  type: list
  elements: str
moves_redis_master:
  description: Whether the host is the master of Redis, which is moved before it is stopped.
  returned: always
  type: bool
refusals:
  description: Every reason against it.
  returned: always
  type: list
  elements: dict
  contains:
    code:
      description: Stable code.
      type: str
    what:
      description: What is refused.
      type: str
    why:
      description: The reason, with numbers.
      type: str
    do:
      description: What to do next.
      type: str
code:
  description: The code of the first of RV(refusals).
  returned: failure
  type: str
"""
