#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbouncer_pool
short_description: Pause, resume or reconnect a database in PgBouncer
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - While a database is paused, its clients stay connected and wait instead of failing. PgBouncer has then no connection
    to the server, which may be switched over.
  - A pause ends by itself when O(deadline) is over. Before it begins, a timer of the host's systemd is armed that sends
    C(RESUME), and is seen armed. So neither the end of this module, of Ansible or of its connection, nor the loss of
    the controller leaves a database paused.
  - A pause that is there already, whoever began it, gets a new deadline. Its earlier timers are disarmed.
  - Running transactions are waited for. When O(drain_timeout) is over, the pause is taken back and the module fails, as
    with every other error after the timer was armed.
  - Refuses a database with session pooling, whose clients a pause would wait for, and a deadline after which PgBouncer
    had given waiting clients up (C(query_wait_timeout), C(query_timeout)), by what one has waited already and 2
    seconds of slack.
extends_documentation_fragment:
  - dedicated.odoo.pgbouncer
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Shows whether the database is paused, before and after.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    details:
      - O(state=reconnected) is a change each time.
      - O(state=paused) on a paused database is no change, but begins O(deadline) anew.
options:
  database:
    description: Name of the database in PgBouncer.
    type: str
    required: true
  state:
    description:
      - With V(paused) no transaction runs on the database and none begins.
      - With V(active) it is not paused. The timers of a pause that was ended are disarmed.
      - With V(reconnected) PgBouncer is told to close its connections to the server as soon as each is free.
    type: str
    choices: [paused, active, reconnected]
    required: true
  deadline:
    description:
      - Seconds after which the pause ends by itself, counted from before it begins. Longer than O(drain_timeout).
      - Required with O(state=paused).
    type: float
  until_moved:
    description:
      - End the pause also as soon as HAProxy sends connections to another server, so that it lasts no longer than the
        move of the leader. Begins when the transactions have ended.
      - Nothing rests on it. The pause ends by O(deadline) in any case.
    type: dict
    suboptions:
      old:
        description: Name of the server in HAProxy that is left.
        type: str
        required: true
      backend:
        description: Name of the backend in HAProxy.
        type: str
        default: postgres_leader
      haproxy:
        description: HAProxy's socket for statistics.
        type: path
        default: /run/dedicated/router/haproxy.sock
  gate:
    description:
      - A file on the host where the module runs. When all else is ready, the pause begins as soon as the file is there,
        so that several hosts can begin theirs together. The file is removed then.
      - While the module waits, there is a file of that name with C(.ready) at its end. The time counts for
        O(deadline), and what is left must be enough for O(drain_timeout). Otherwise nothing is done, and the module
        fails.
    type: path
  drain_timeout:
    description: Seconds that running transactions may take to end.
    type: float
    default: 5.0
  poll_interval:
    description: Seconds between two looks at them.
    type: float
    default: 0.02
notes:
  - Paused, resumed or reconnected is one PgBouncer, on the host where the module runs. Others keep serving.
  - While PgBouncer does not answer, the timer's program keeps trying for 10 minutes. A PgBouncer that was started anew
    is not paused.
seealso:
  - module: dedicated.odoo.pgbouncer_pool_info
"""

EXAMPLES = r"""
- name: Let the clients of the application database wait, for 30 seconds at most
  dedicated.odoo.pgbouncer_pool:
    database: odoo
    state: paused
    deadline: 30

- name: Let them wait until another member leads than db1, for 30 seconds at most
  dedicated.odoo.pgbouncer_pool:
    database: odoo
    state: paused
    deadline: 30
    until_moved: {old: db1}

- name: Let them go on
  dedicated.odoo.pgbouncer_pool:
    database: odoo
    state: active

- name: Close the connections to a server that has become a replica
  dedicated.odoo.pgbouncer_pool:
    database: odoo
    port: 6433
    state: reconnected
"""

RETURN = r"""
msg:
  description: What was done, or why nothing was.
  returned: always
  type: str
plan:
  description: The steps in their order, those of check mode included.
  returned: success
  type: list
  elements: str
  sample: [arm a watchdog that resumes odoo in 30 s, PAUSE odoo]
paused:
  description: Whether the database is paused, or would be in check mode.
  returned: success
  type: bool
seconds:
  description: Seconds from C(PAUSE) until the last transaction had ended. Null when it was not sent.
  returned: success
  type: float
clients_waiting:
  description: Clients that wait for a connection to the server.
  returned: success, or when O(drain_timeout) was over
  type: int
servers_active:
  description: Connections to the server that are in a transaction.
  returned: success, or when O(drain_timeout) was over
  type: int
deadline_unit:
  description: The timer that ends the pause, or null. In check mode its name is not known yet.
  returned: success
  type: str
  sample: dedicated-pgbouncer-resume-6432-odoo-5f0c9a1e.timer
resumes_in:
  description: Seconds that were left to that timer, or null.
  returned: success
  type: float
before:
  description: Whether the database was paused.
  returned: success
  type: dict
after:
  description: Whether it is paused now, or would be in check mode.
  returned: success
  type: dict
code:
  description:
    - Stable name of the reason for a refusal or an error.
    - Refused beforehand are V(unknown_database), V(session_pooling), V(pooler_not_active), V(deadline_too_short),
      V(deadline_too_long) and V(no_watchdog).
    - Later come V(drain_timeout), V(watchdog_gone), V(watchdog_failed), V(gate_closed), V(taken_over) by another run,
      V(no_effect), V(unreachable) and V(refused_by_pgbouncer).
  returned: failure
  type: str
  sample: drain_timeout
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
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.plan import (
    Route,
    Wish,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.service import (
    PoolService,
)

ARGUMENTS: dict[str, t.Any] = {
    **pgbouncer_arguments(),
    "database": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["paused", "active", "reconnected"], "required": True},
    "deadline": {"type": "float"},
    "until_moved": {
        "type": "dict",
        "options": {
            "old": {"type": "str", "required": True},
            "backend": {"type": "str", "default": "postgres_leader"},
            "haproxy": {"type": "path", "default": "/run/dedicated/router/haproxy.sock"},
        },
    },
    "gate": {"type": "path"},
    "drain_timeout": {"type": "float", "default": 5.0},
    "poll_interval": {"type": "float", "default": 0.02},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "paused", ["deadline"])],
    )
    params = module.params
    clock = SystemClock()
    watchdogs = Watchdogs(SubprocessRunner(), clock, params["socket_dir"], params["port"])
    service = PoolService(connector(params), watchdogs, clock, params["poll_interval"])
    moved = params["until_moved"]
    wish = Wish(
        database=params["database"],
        state=params["state"],
        deadline=params["deadline"] or 0.0,
        drain_timeout=params["drain_timeout"],
        until_moved=Route(**moved) if moved else None,
        gate=params["gate"],
    )
    try:
        result = service.reconcile(wish, module.check_mode).as_result()
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
