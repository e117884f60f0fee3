#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: odoo_reconcile
short_description: Judge a restored Odoo ledger
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Reads one database of Odoo 19 with C(account) in one read-only snapshot, and judges it by the laws of bookkeeping,
    by Odoo's own hash chain, and by a fingerprint that M(dedicated.odoo.odoo_reconcile_info) took.
  - Fails with code V(not_reconciled) when a rule has an error, unless O(fail=false).
  - What was not checked is told, in RV(checks_not_run) and in the report. A rule that had nothing to check is not
    counted as passed.
extends_documentation_fragment:
  - dedicated.odoo.reconcile
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
  fingerprint:
    description:
      - The fingerprint that this database must have. It is refused when it was altered since.
      - Without it only what the rows show by themselves is judged. Whole months may be missing then.
    type: dict
  attachments:
    description: V(all), or the number of attachments of which the content is read. Each run takes another sample.
    type: str
    default: all
  filestore:
    description:
      - Odoo's directory of this database's attachments, on the host where the module runs.
      - Without it the content of attachments that are not in the database is not checked.
    type: path
  objects:
    description:
      - What the object store has of the documents that this database names there, as C(odoo-attachments check) says it.
      - Without it they are not looked for.
    type: dict
    suboptions:
      asked:
        description: For how many names it was asked. Refused when this database has another number.
        type: int
        required: true
      wrong:
        description: What it has instead, by name.
        type: dict
        required: true
      read:
        description: Whether bytes were compared, and not only sizes.
        type: bool
        default: false
  amcheck:
    description:
      - Whether to check all indexes with PostgreSQL's extension amcheck. V(true) fails when it is missing.
      - When not given, they are checked if the extension is there.
    type: bool
  fail:
    description: Whether a ledger that is not accepted makes the task fail.
    type: bool
    default: true
notes:
  - Run it before anybody works in the restored database. What was added since differs from the fingerprint.
  - The extension amcheck is created by C(CREATE EXTENSION amcheck) in the restored database.
requirements:
  - psycopg2 (Debian's package C(python3-psycopg2)) on the host
seealso:
  - module: dedicated.odoo.odoo_reconcile_info
"""

EXAMPLES = r"""
- name: The restored ledger is the one of the close
  dedicated.odoo.odoo_reconcile:
    host: /run/dedicated/restore/postgres
    fingerprint: "{{ lookup('ansible.builtin.file', 'close-2026-10.json') | from_json }}"
    amcheck: true
  register: close_restored

- name: Report for finance
  ansible.builtin.copy:
    content: "{{ close_restored.report }}"
    dest: /var/lib/dedicated/reports/close-2026-10.txt
    mode: "0600"
"""

RETURN = r"""
msg:
  description: The verdict in a line.
  returned: always
  type: str
accepted:
  description: Whether no rule has an error.
  returned: when it was judged
  type: bool
findings:
  description: What was found, up to some fifty by rule.
  returned: when it was judged
  type: list
  elements: dict
  contains:
    code:
      description: Stable name of the rule.
      type: str
    severity:
      description: V(error) or V(note).
      type: str
    company:
      description: Id of the company, or null.
      type: int
    what:
      description: The thing that is judged.
      type: str
    expected:
      description: What it should be.
      type: raw
    found:
      description: What it is.
      type: raw
rules:
  description: All rules.
  returned: when it was judged
  type: list
  elements: dict
  contains:
    code:
      description: Stable name of the rule.
      type: str
    checked:
      description: How many things it looked at.
      type: int
    ok:
      description: Whether all were right. Null when there was nothing to look at.
      type: bool
checks_not_run:
  description: What was not checked, or not all of it.
  returned: when it was judged
  type: list
  elements: dict
  contains:
    code:
      description: Name of the rule.
      type: str
    why:
      description: Why, and how much.
      type: str
fingerprint:
  description: The fingerprint of this database, as M(dedicated.odoo.odoo_reconcile_info) returns it.
  returned: when it was judged
  type: dict
report:
  description: The judgement as text for people, with what was not checked.
  returned: when it was judged
  type: str
code:
  description: Stable name of the reason for a refusal or an error.
  returned: failure
  type: str
  sample: not_reconciled
refusal:
  description: The refusal in parts. What was refused, why, and what to do.
  returned: when it was refused
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile import io
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.arguments import (
    database_arguments,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.service import (
    ReconcileService,
    wish_of,
)

ARGUMENTS: dict[str, t.Any] = {
    **database_arguments(),
    "fingerprint": {"type": "dict"},
    "attachments": {"type": "str", "default": "all"},
    "filestore": {"type": "path"},
    "objects": {
        "type": "dict",
        "options": {
            "asked": {"type": "int", "required": True},
            "wrong": {"type": "dict", "required": True},
            "read": {"type": "bool", "default": False},
        },
    },
    "amcheck": {"type": "bool"},
    "fail": {"type": "bool", "default": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if io.PSYCOPG2_ERROR is not None:
        module.fail_json(msg=missing_required_lib("psycopg2"), exception=io.PSYCOPG2_ERROR)
    params = module.params
    store = io.Filestore(params["filestore"]) if params["filestore"] else None
    try:
        outcome = ReconcileService(io.connector(params), store).reconcile(params["fingerprint"], wish_of(params))
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    result = outcome.as_result()
    if params["fail"] and not result["accepted"]:
        module.fail_json(code="not_reconciled", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
