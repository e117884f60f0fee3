#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_stanza
short_description: Create the stanza of a cluster, and check that WAL arrives
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Creates the stanza in all repositories where it is missing, and upgrades it after a major upgrade of PostgreSQL.
  - Refuses when the stanza in a repository belongs to another cluster. C(pgbackrest stanza-upgrade) itself would take
    any cluster without a word, and the WAL of two would be mixed.
extends_documentation_fragment:
  - dedicated.odoo.pgbackrest
attributes:
  check_mode:
    support: partial
    description: Can run in check mode and return changed status prediction without modifying the target.
    details:
      - With O(check) the check itself does not run in check mode, for it switches to a new segment of WAL.
  diff_mode:
    support: none
    description: RV(plan) tells what is to be done.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
options:
  state:
    description: What is wanted.
    type: str
    choices: [present]
    default: present
  upgrade_from:
    description:
      - System identifier of the cluster to which the stanza may belong till now.
      - After C(pg_upgrade) the identifier is another one. Name the old one, and the stanza becomes this cluster's.
    type: str
    default: ""
  check:
    description: Whether to switch to a new segment of WAL and to wait until it is in all repositories.
    type: bool
    default: false
  check_timeout:
    description: Seconds for the check. pgBackRest itself waits for minutes when a repository does not answer.
    type: int
    default: 120
seealso:
  - module: dedicated.odoo.pgbackrest_info
  - module: dedicated.odoo.pgbackrest_backup
"""

EXAMPLES = r"""
- name: The stanza is there, and WAL arrives
  dedicated.odoo.pgbackrest_stanza:
    stanza: lab
    check: true
"""

RETURN = r"""
msg:
  description: What was done, or would be.
  returned: always
  type: str
plan:
  description: What there was to do.
  returned: success
  type: list
  elements: str
system_id:
  description: System identifier of this cluster.
  returned: success
  type: str
repositories:
  description: Numbers of the repositories.
  returned: success
  type: list
  elements: int
checked:
  description: Whether it was checked that WAL arrives.
  returned: success
  type: bool
code:
  description:
    - Stable name of the reason for a refusal or an error.
    - Refusals are V(other_system) and V(not_leader).
    - Errors are those of M(dedicated.odoo.pgbackrest_info), V(archiving_broken) when WAL does not arrive,
      V(backup_running) when another command holds the lock, and V(no_effect).
  returned: failure
  type: str
  sample: other_system
refusal:
  description: The refusal in parts. What was refused, why with the numbers, and what to do.
  returned: when it was refused
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import (
    SubprocessRunner,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import service
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.arguments import (
    pgbackrest_arguments,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.io import (
    PgBackRest,
)

ARGUMENTS: dict[str, t.Any] = {
    **pgbackrest_arguments(),
    "state": {"type": "str", "choices": ["present"], "default": "present"},
    "upgrade_from": {"type": "str", "default": ""},
    "check": {"type": "bool", "default": False},
    "check_timeout": {"type": "int", "default": 120},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        pgbackrest = PgBackRest(SubprocessRunner(), params["container"], params["stanza"], params["timeout"])
        result = service.stanza(
            pgbackrest, params["upgrade_from"], params["check"], params["check_timeout"], module.check_mode
        )
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
