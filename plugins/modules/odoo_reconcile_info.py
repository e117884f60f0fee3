#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: odoo_reconcile_info
short_description: Take the fingerprint of an Odoo ledger
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Reads one database of Odoo 19 with C(account) in one read-only snapshot, and returns what a restored copy of it must
    have, as totals, counts and hashes. It holds no partner, and no amount of one partner.
  - Keep it with the backup, and give it to M(dedicated.odoo.odoo_reconcile) after a restore.
  - With O(restore_point) the fingerprint belongs to an exact moment. A recovery to this name must give the same one.
    The tables that it is made of are locked against changes for some milliseconds, while the snapshot begins and the
    restore point is written to WAL. Readers are not held up.
extends_documentation_fragment:
  - dedicated.odoo.reconcile
attributes:
  check_mode:
    support: full
    description: In check mode no restore point is made, and the fingerprint is that of a snapshot.
  diff_mode:
    support: none
    description: Nothing of the database is changed.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    details:
      - Each run with O(restore_point) makes a restore point.
options:
  tables:
    description: Tables of schema C(public) whose rows are counted, besides those of the ledger.
    type: list
    elements: str
    default: []
  restore_point:
    description:
      - Make a restore point of this name, of 1 to 63 letters, digits, C(-) and C(_).
      - Give each one a name of its own. PostgreSQL accepts a name twice, and a recovery ends at the first.
    type: str
  lock_timeout:
    description:
      - Seconds that an attempt to lock the tables may take, up to 0.9. For so long new changes may wait.
      - Below PostgreSQL's C(deadlock_timeout) of one second, no other transaction becomes the victim of a deadlock.
    type: float
    default: 0.5
  lock_attempts:
    description: How often to try.
    type: int
    default: 20
  lock_pause:
    description: Seconds between two attempts.
    type: float
    default: 1.0
notes:
  - A transaction that writes to the ledger for minutes, for example an import, keeps the locks away for as long.
  - Bundles of assets, which Odoo makes of its own code, are no documents and not counted.
requirements:
  - psycopg2 (Debian's package C(python3-psycopg2)) on the host
seealso:
  - module: dedicated.odoo.odoo_reconcile
"""

EXAMPLES = r"""
- name: Fingerprint at an exact moment
  dedicated.odoo.odoo_reconcile_info:
    restore_point: "close-2026-10"
    tables: [sale_order, stock_move]
  register: close_seen

- name: Keep it
  ansible.builtin.copy:
    content: "{{ close_seen.fingerprint | to_nice_json }}"
    dest: /var/lib/dedicated/fingerprints/close-2026-10.json
    mode: "0600"
"""

RETURN = r"""
msg:
  description: What was taken.
  returned: success
  type: str
fingerprint:
  description: The fingerprint. All amounts are texts with at least two decimals.
  returned: success
  type: dict
  contains:
    version:
      description: Version of this form.
      type: int
    taken_at:
      description: When it was taken, in UTC.
      type: str
    lsn:
      description: Position in WAL at which it was taken.
      type: str
    snapshot:
      description: PostgreSQL's snapshot.
      type: str
    database:
      description: Name of the database.
      type: str
    odoo_version:
      description: Version of the module C(base).
      type: str
    restore_point:
      description: The same as RV(restore_point).
      type: dict
    companies:
      description: >-
        Each company with its posted totals by month and by account, drafts, open items, payments in process, ends of
        hash chains, and sequences with up to 20 gaps and 20 duplicates each.
      type: list
      elements: dict
    attachments:
      description: Number, bytes and places of documents, and a digest over the checksum of each.
      type: dict
    tables:
      description: Number of rows by table.
      type: dict
    max_ids:
      description: Highest id by table. For C(ir_attachment) that of the documents.
      type: dict
    digest:
      description: SHA-256 over everything that must be equal after a restore.
      type: str
restore_point:
  description: The restore point that was made, or null.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    lsn:
      description: Its position in WAL.
      type: str
    time:
      description: When it was made, in UTC.
      type: str
    timeline:
      description: Timeline of the leader.
      type: int
    held_ms:
      description: Milliseconds for which the tables were locked.
      type: float
code:
  description: Stable name of the reason for a refusal or an error.
  returned: failure
  type: str
  sample: in_recovery
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
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile import io
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.arguments import (
    database_arguments,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.plan import (
    Point,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.service import (
    InfoService,
)

ARGUMENTS: dict[str, t.Any] = {
    **database_arguments(),
    "tables": {"type": "list", "elements": "str", "default": []},
    "restore_point": {"type": "str"},
    "lock_timeout": {"type": "float", "default": 0.5},
    "lock_attempts": {"type": "int", "default": 20},
    "lock_pause": {"type": "float", "default": 1.0},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if io.PSYCOPG2_ERROR is not None:
        module.fail_json(msg=missing_required_lib("psycopg2"), exception=io.PSYCOPG2_ERROR)
    params = module.params
    point = None
    if params["restore_point"] is not None:
        point = Point(params["restore_point"], params["lock_timeout"], params["lock_attempts"], params["lock_pause"])
    try:
        result = InfoService(io.connector(params), SystemClock()).take(params["tables"], point, module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
