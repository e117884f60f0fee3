#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: site_copy
short_description: Every backup holds what the site is made from
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Seals directories of the controller, the inventory and the home of the internal authority, and lays them into the
    data directory of PostgreSQL, in C(dedicated/). From there they are in every backup, under the same encryption,
    retention and object lock as the data that they belong to, and come back with a restore to the same moment.
  - Sealed means encrypted as M(ansible.builtin.ansible_vault) files are, with the run's vault password, on the
    controller. No host can open it. C(ansible-vault decrypt --output site.tgz site.vault) does.
  - Written only when the content or the password is another. Where there is no database, nothing is written.
options:
  data:
    description: Data directory of PostgreSQL on the host.
    type: path
    required: true
  trees:
    description: Directories on the controller.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Under which name it is in the archive.
        type: str
        required: true
      path:
        description: Where it is.
        type: path
        required: true
      folders:
        description: Its files, and of its folders only these. Empty for all.
        type: list
        elements: str
        default: []
  survey:
    description: Whether to refuse what could not be copied, and do no more. The host is not asked.
    type: bool
    default: false
  owner:
    description: Whose the files are, uid and gid; the user of PostgreSQL.
    type: int
    required: true
  about:
    description: What is noted in the clear beside it, such as the name of the cluster. No secrets.
    type: dict
    default: {}
  passphrase:
    description: Seals instead of the run's vault password.
    type: str
  digest:
    description: Set by the action itself.
    type: str
  sealed:
    description: Set by the action itself.
    type: str
attributes:
  check_mode:
    support: full
    description: Says whether it would be written.
  diff_mode:
    support: none
    description: Its content is secret.
  idempotent:
    support: full
    description: The same content and password are not written again.
seealso:
  - module: dedicated.odoo.pgbackrest_backup
"""

EXAMPLES = r"""
- name: What the site is made from is in its backups
  dedicated.odoo.site_copy:
    data: /var/lib/dedicated/postgres/data/17
    owner: 10010
    trees:
      - {name: inventory, path: "{{ inventory_dir }}", folders: [group_vars, host_vars]}
      - {name: pki, path: "{{ pki_dir }}"}
    about: {cluster: "{{ dedicated_cluster }}"}
"""

RETURN = r"""
database:
  description: Whether there is a database at O(data). Without one nothing is written.
  returned: success, without O(survey)
  type: bool
files:
  description: How many files each of O(trees) has.
  returned: success
  type: dict
  sample: {inventory: 6, pki: 4}
code:
  description:
    - Why it was refused, V(nothing-to-copy), V(too-large), V(no-secret), V(bad-input).
    - Or V(no-write), when the host's file system did not take it.
  returned: failure
  type: str
refusal:
  description: The refusal in parts, C(code), C(what), C(why) and C(do).
  returned: refusal
  type: dict
"""

import base64
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy.io import Place

ARGUMENTS: dict[str, t.Any] = {
    "data": {"type": "path", "required": True},
    "trees": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "folders": {"type": "list", "elements": "str", "default": []},
        },
    },
    "survey": {"type": "bool", "default": False},
    "owner": {"type": "int", "required": True},
    "about": {"type": "dict", "default": {}},
    "passphrase": {"type": "str", "no_log": True},
    "digest": {"type": "str"},
    # Nobody can open it; the host's journal need not repeat it.
    "sealed": {"type": "str", "no_log": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    if not params["digest"]:
        module.fail_json(msg="This module is the host's half of the action dedicated.odoo.site_copy; use that.")
    place = Place(params["data"], params["owner"])
    found = place.look()
    due = plan.is_due(found, params["digest"])
    if due and params["sealed"] and not module.check_mode:
        try:
            place.write(base64.b64decode(params["sealed"]), {**params["about"], "digest": params["digest"]})
        except DedicatedError as exc:
            module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(changed=due, database=found.database)


if __name__ == "__main__":
    main()
