#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_expire
short_description: Expire old backups, never below the policy
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Asks pgBackRest in a dry run what would go by the retention that is in effect, and lets it go if the policy allows.
  - Refuses when a backup would go that is younger than the policy, when no moment as old as the policy could be
    recovered any more, and when no good full backup would be left.
extends_documentation_fragment:
  - dedicated.odoo.pgbackrest
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: none
    description: RV(expired) tells what goes.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
options:
  retention_days:
    description:
      - The policy. Each moment of so many days must be recoverable.
      - It is compared with the retention that is in effect in pgBackRest's configuration, and does not replace it.
    type: int
    required: true
  by_repository:
    description:
      - Other policies for single repositories, number to days. The others keep O(retention_days).
    type: dict
    default: {}
notes:
  - pgBackRest expires by itself too, after each backup and by the retention of its configuration. RV(policy_met) tells
    whether that one is long enough.
seealso:
  - module: dedicated.odoo.pgbackrest_info
"""

EXAMPLES = r"""
- name: What would go?
  dedicated.odoo.pgbackrest_expire:
    stanza: lab
    retention_days: 30
    by_repository: {2: 365}
  check_mode: true
"""

RETURN = r"""
msg:
  description: What was done, or would be.
  returned: always
  type: str
expired:
  description: The backups that go.
  returned: success
  type: list
  elements: dict
  contains:
    repository:
      description: Number of the repository.
      type: int
    label:
      description: Name of the backup.
      type: str
    type:
      description: V(full), V(diff) or V(incr).
      type: str
    ended:
      description: When it ended, in epoch seconds.
      type: int
archives:
  description: The WAL that goes.
  returned: success
  type: list
  elements: dict
  contains:
    repository:
      description: Number of the repository.
      type: int
    archive_id:
      description: Name of the archive.
      type: str
    first:
      description: First segment.
      type: str
    last:
      description: Last segment.
      type: str
in_effect:
  description: The retention in pgBackRest's configuration.
  returned: success
  type: list
  elements: dict
  contains:
    repository:
      description: Number of the repository.
      type: int
    kind:
      description: V(time) when it counts days, V(count) when it counts full backups.
      type: str
    number:
      description: How many.
      type: int
    policy_days:
      description: The policy for this repository.
      type: int
    policy_met:
      description: Whether it is one of days, and not shorter than the policy.
      type: bool
policy_days:
  description: The policy.
  returned: success
  type: int
policy_met:
  description: Whether the retention in effect is one of days, and not shorter than the policy, in every repository.
  returned: success
  type: bool
code:
  description:
    - Stable name of the reason for a refusal or an error.
    - Refusals are V(below_policy), V(backup_running) and V(bad_policy).
    - Errors are those of M(dedicated.odoo.pgbackrest_info), and V(no_effect) when something else went.
  returned: failure
  type: str
  sample: below_policy
refusal:
  description: The refusal in parts. What was refused, why with the numbers, and what to do.
  returned: when it was refused
  type: dict
"""

import time
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
    "retention_days": {"type": "int", "required": True},
    "by_repository": {"type": "dict", "default": {}},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        pgbackrest = PgBackRest(SubprocessRunner(), params["container"], params["stanza"], params["timeout"])
        result = service.expire(
            pgbackrest,
            params["retention_days"],
            params["timeout"],
            time.time(),
            module.check_mode,
            params["by_repository"],
        )
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
