#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbouncer_pool_info
short_description: Look at the databases of a PgBouncer
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns which databases are paused, until when, who waits and for how long.
  - A PgBouncer that does not answer is an answer and no failure.
extends_documentation_fragment:
  - dedicated.odoo.pgbouncer
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
options: {}
seealso:
  - module: dedicated.odoo.pgbouncer_pool
"""

EXAMPLES = r"""
- name: Look at the PgBouncer of this application host
  dedicated.odoo.pgbouncer_pool_info:
  register: pgbouncer_seen

- name: Nothing is left paused
  ansible.builtin.assert:
    that: pgbouncer_seen.databases | selectattr('paused') | length == 0
"""

RETURN = r"""
reachable:
  description: Whether PgBouncer answered.
  returned: success
  type: bool
error:
  description: Why not, or null.
  returned: success
  type: str
state:
  description: State of the whole PgBouncer, V(active), V(paused) or V(suspended). Null when it did not answer.
  returned: success
  type: str
give_up_after:
  description: Seconds after which PgBouncer gives a waiting client up. Null when it did not answer.
  returned: success
  type: float
databases:
  description: Its databases, without the console's own.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name in PgBouncer.
      type: str
    pool_mode:
      description: V(session), V(transaction) or V(statement).
      type: str
    session_users:
      description: Users whose pools are in session mode.
      type: list
      elements: str
    paused:
      description: Whether it is paused.
      type: bool
    disabled:
      description: Whether it takes no new clients.
      type: bool
    clients_active:
      description: Clients that have a connection to the server, or have asked for none.
      type: int
    clients_waiting:
      description: Clients that wait for one.
      type: int
    servers_active:
      description: Connections to the server that are in use.
      type: int
    longest_wait:
      description: Seconds that the first of the waiting clients has waited.
      type: float
    deadline_unit:
      description: The timer that ends the pause next, or null.
      type: str
    resumes_in:
      description: Seconds until it does, or null.
      type: float
code:
  description: Stable name of the reason for an error.
  returned: failure
  type: str
  sample: refused_by_pgbouncer
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import (
    SubprocessRunner,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.arguments import (
    pgbouncer_arguments,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.io import (
    Watchdogs,
    connector,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.service import (
    InfoService,
)

ARGUMENTS: dict[str, t.Any] = {**pgbouncer_arguments()}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    watchdogs = Watchdogs(SubprocessRunner(), SystemClock(), params["socket_dir"], params["port"])
    try:
        result = InfoService(connector(params), watchdogs).show()
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
