#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_verify
short_description: Verify the backups and the WAL in the repositories
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Reads every file of every backup and every segment of WAL in the repositories and compares its checksum, by
    C(pgbackrest verify), in one repository after the other.
  - Looks beside for what C(pgbackrest verify) does not see. It calls a backup valid although the full one on which it
    builds is destroyed, says nothing of a segment that is missing, and exits with 0 whatever it finds.
  - That a backup can be restored is proven by a restore only.
extends_documentation_fragment:
  - dedicated.odoo.pgbackrest
attributes:
  check_mode:
    support: full
    description: This module does not modify state.
  diff_mode:
    support: N/A
    description: This module does not modify state.
  idempotent:
    support: full
    description: This module does not modify state.
options:
  repositories:
    description: Numbers of the repositories. All when empty.
    type: list
    elements: int
    default: []
  server:
    description:
      - Whether to ask the member's own PostgreSQL too. On the leader it tells which segments must be there, at the ends
        of the timelines as well.
      - Without it, and on a standby, gaps inside each timeline are found.
    type: bool
    default: true
  fail:
    description: Whether the module fails when something is not as it should be.
    type: bool
    default: true
  verify_timeout:
    description: Seconds for each repository.
    type: int
    default: 43200
notes:
  - It fetches all that is in the repositories.
seealso:
  - module: dedicated.odoo.pgbackrest_info
"""

EXAMPLES = r"""
- name: Are the backups whole?
  dedicated.odoo.pgbackrest_verify:
    stanza: lab
"""

RETURN = r"""
ok:
  description: Whether everything is as it should be.
  returned: success, and when the repository is damaged
  type: bool
problems:
  description: What is not.
  returned: success, and when the repository is damaged
  type: list
  elements: dict
  contains:
    repository:
      description: Number of the repository.
      type: int
    code:
      description:
        - Stable name.
        - V(backup_invalid), its files are damaged or missing. V(backup_depends), it builds on one that is.
          V(backup_damaged), pages in it had a wrong checksum already in the database. V(backup_not_checked).
          V(no_backup). V(wal_invalid), V(wal_missing). V(repository_unusable). V(not_understood). V(no_repository).
          A repository that could not be asked has the code of M(dedicated.odoo.pgbackrest_info).
      type: str
    name:
      description: Label of the backup or name of the archive, or empty.
      type: str
    what:
      description: In words.
      type: str
repositories:
  description: Numbers of the repositories that were to be verified.
  returned: success, and when the repository is damaged
  type: list
  elements: int
backups:
  description: The backups that were checked.
  returned: success, and when the repository is damaged
  type: list
  elements: dict
  contains:
    repository:
      description: Number of the repository.
      type: int
    label:
      description: Name of the backup.
      type: str
    status:
      description: What pgBackRest says of it.
      type: str
    usable:
      description: Whether it and all on which it builds are whole.
      type: bool
    checked:
      description: Files that were checked.
      type: int
    valid:
      description: Files that are good.
      type: int
    missing:
      description: Files that are missing.
      type: int
    checksum_invalid:
      description: Files with a wrong checksum.
      type: int
    size_invalid:
      description: Files with a wrong size.
      type: int
    other:
      description: Files that could not be read, for example because they cannot be decrypted.
      type: int
backups_checked:
  description: Number of backups that were checked.
  returned: success, and when the repository is damaged
  type: int
backups_usable:
  description: Number of backups that can be used.
  returned: success, and when the repository is damaged
  type: int
files_checked:
  description: Number of files of backups that were checked.
  returned: success, and when the repository is damaged
  type: int
wal_checked:
  description: Number of segments of WAL that were checked.
  returned: success, and when the repository is damaged
  type: int
wal_valid:
  description: Number of segments of WAL that are good.
  returned: success, and when the repository is damaged
  type: int
code:
  description: Stable name of the reason for an error. V(repository_damaged), or one of
    M(dedicated.odoo.pgbackrest_info).
  returned: failure
  type: str
  sample: repository_damaged
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
    "repositories": {"type": "list", "elements": "int", "default": []},
    "server": {"type": "bool", "default": True},
    "fail": {"type": "bool", "default": True},
    "verify_timeout": {"type": "int", "default": 43200},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        pgbackrest = PgBackRest(SubprocessRunner(), params["container"], params["stanza"], params["timeout"])
        result = service.verify(pgbackrest, params["verify_timeout"], params["repositories"], params["server"])
        if params["fail"]:
            service.must_be_whole(result)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
