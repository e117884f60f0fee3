#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_backup
short_description: Take a backup with pgBackRest
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Takes a backup of the cluster, and looks afterwards that it is in the repository and that its pages were good.
  - Refuses on a standby, without a stanza, into the stanza of another cluster, while another backup runs on this host,
    and while WAL does not reach the repositories.
  - A backup that was interrupted leaves no half one behind that could be taken for a whole one. The next backup of the
    same type goes on with the files that are there already, pgBackRest itself sees to that.
extends_documentation_fragment:
  - dedicated.odoo.pgbackrest
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: none
    description: A backup changes nothing that could be shown.
  idempotent:
    support: none
    description: Each run takes another backup.
options:
  type:
    description:
      - The type of the backup.
      - Without a full backup every type becomes V(full), see RV(type).
    type: str
    choices: [full, diff, incr]
    required: true
  repository:
    description: Number of the repository.
    type: int
    default: 1
  annotation:
    description:
      - What is noted with the backup. Keys of lower-case letters, digits, C(_), C(.) and C(-), values of one line with
        at most 200 characters.
      - Everybody who may list backups can read it. What looks like a secret is refused.
    type: dict
    default: {}
  expect_leader:
    description:
      - Whether a standby is refused.
      - Otherwise nothing happens on a standby, so that the same task can run on all members.
    type: bool
    default: true
  backup_timeout:
    description: Seconds for the backup itself, after which it is stopped.
    type: int
    default: 43200
notes:
  - The lock that keeps a second backup away is one of the host. That no other member takes one is ensured by taking
    them on the leader only.
seealso:
  - module: dedicated.odoo.pgbackrest_info
  - module: dedicated.odoo.pgbackrest_verify
"""

EXAMPLES = r"""
- name: Take a full backup before the release, on the leader
  dedicated.odoo.pgbackrest_backup:
    stanza: lab
    type: full
    expect_leader: false
    annotation:
      reason: release
      image: "{{ odoo_image_digest }}"
"""

RETURN = r"""
msg:
  description: What was done, or would be.
  returned: always
  type: str
plan:
  description: What there was to do. Empty on a standby.
  returned: success
  type: list
  elements: str
type:
  description: Type of the backup as it was made. Null when none was.
  returned: success
  type: str
wanted:
  description: The type that was asked for.
  returned: success
  type: str
why:
  description: Why the type is another one, or why nothing was done. Empty otherwise.
  returned: success
  type: str
repository:
  description: Number of the repository.
  returned: success
  type: int
label:
  description: Name of the backup. Null in check mode.
  returned: success
  type: str
prior:
  description: Name of the backup on which it builds, or null.
  returned: success
  type: str
begun:
  description: When it began, in epoch seconds. Null in check mode.
  returned: success
  type: int
ended:
  description: When it ended, in epoch seconds. Null in check mode.
  returned: success
  type: int
seconds:
  description: How long it took. Null in check mode.
  returned: success
  type: int
database_bytes:
  description: Size of the database cluster. Null in check mode.
  returned: success
  type: int
delta_bytes:
  description: How much of it was copied. Null in check mode.
  returned: success
  type: int
repository_bytes:
  description: What was added to the repository. Null in check mode.
  returned: success
  type: int
annotation:
  description: What was noted with it.
  returned: success
  type: dict
code:
  description:
    - Stable name of the reason for a refusal or an error.
    - Refusals are V(backup_running), V(not_leader), V(no_stanza), V(no_repository), V(other_system),
      V(archiving_broken) and V(bad_annotation).
    - Errors are those of M(dedicated.odoo.pgbackrest_info), and V(no_new_backup) and V(backup_damaged).
  returned: failure
  type: str
  sample: backup_running
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
    "type": {"type": "str", "choices": ["full", "diff", "incr"], "required": True},
    "repository": {"type": "int", "default": 1},
    "annotation": {"type": "dict", "default": {}},
    "expect_leader": {"type": "bool", "default": True},
    "backup_timeout": {"type": "int", "default": 43200},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        wish = service.wish_of(params["type"], params["repository"], params["annotation"], params["expect_leader"])
        pgbackrest = PgBackRest(SubprocessRunner(), params["container"], params["stanza"], params["timeout"])
        result = service.take(pgbackrest, wish, params["backup_timeout"], module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
