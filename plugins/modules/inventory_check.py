# SPDX-FileCopyrightText: dedicated.odoo contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: inventory_check
short_description: Judge the whole inventory before any host is touched
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Reads the variables of every host of every layer on the controller, without a connection, and reports everything
    that is wrong in one failure.
  - "Every finding has a stable code: C(empty-group), C(even-etcd), C(invalid-tier), C(tier-not-kept),
    C(invalid-failure-domain), C(failure-domain-missing), C(failure-domain-holds-too-much), C(invalid-name),
    C(duplicate-name), C(vault-undecryptable), C(unresolved-value), C(unknown-variable), C(missing-variable),
    C(missing-secret), C(weak-secret), C(image-not-by-digest), C(invalid-address), C(duplicate-address),
    C(duplicate-host), C(invalid-system-identifier), C(invalid-repository), C(duplicate-repository), C(shared-secret),
    C(repository-on-data-host), C(invalid-policy), C(backup-in-peak), C(rpo-not-kept)."
  - What is allowed and worth a thought is a warning, C(tier-promises-nothing), C(no-failure-domains) or
    C(standby-in-same-domain).
  - The variable C(dedicated_tier), V(single) or V(ha), says what the topology is judged against. Without it several
    hosts in group C(postgres) mean V(ha). The variable C(dedicated_failure_domain) names what a host goes down with.
  - What a variable of this collection is, and whether it is required, comes from the argument specifications of its
    roles.
  - The value of a secret is never shown.
options:
  layers:
    description:
      - Groups with the roles that their hosts get. A group without hosts is a finding.
      - C(all) stands for every host of the other groups.
      - Without it the layers of the playbook C(dedicated.odoo.site) are taken.
    type: dict
  etcd_group:
    description: The group whose number of hosts must be odd.
    type: str
    default: etcd
  known_variables:
    description: Further variables of ours that are no option of a role.
    type: list
    elements: str
    default: []
  ignored_variables:
    description: Variables that look like ours and are the operator's own.
    type: list
    elements: str
    default: []
  provided_variables:
    description: Required options that the playbook itself gives to its roles.
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
"""

EXAMPLES = r"""
- name: Judge the inventory
  dedicated.odoo.inventory_check:
  run_once: true
"""

RETURN = r"""
findings:
  description: What is wrong.
  returned: always
  type: list
  elements: dict
  contains:
    code:
      description: Stable code of the kind.
      type: str
    subject:
      description: The variable or group.
      type: str
    hosts:
      description: The hosts concerned.
      type: list
      elements: str
    message:
      description: What is wrong, why, and what to do.
      type: str
tier:
  description: The tier, V(single) or V(ha); empty when it is declared wrongly.
  returned: always
  type: str
"""
