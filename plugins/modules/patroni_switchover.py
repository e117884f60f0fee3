#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_switchover
short_description: Move the leader of a Patroni cluster on purpose
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Orders a switchover from Patroni, and looks until the store and the new leader's own word agree who leads, and until
    the others stream from it. Patroni's reply alone proves neither.
  - Refuses unless the candidate answers, streams on the leader's timeline within O(max_lag), waits for no restart, and
    is synchronous where replication is. Lag and streaming are what leader and candidate themselves say at that moment.
  - Refuses also while Patroni is paused, while a move is going on or is scheduled, without a majority of well members,
    with a long transaction, and from what was seen too long ago.
  - A move that is going on is waited for first, for it may be this one, interrupted.
  - A second order is given only when the reply to the first was lost, and the cluster was seen well and unchanged for
    longer than Patroni needs to notice an order.
  - In check mode it only plans, from one look.
extends_documentation_fragment:
  - dedicated.odoo.patroni
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Shows the leader before and after.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    details:
      - Without O(candidate) and O(away_from) it moves the leader each time, or refuses because of O(expected_leader).
options:
  timeout:
    description: Seconds to wait for a move that is going on, and again for the end of this one.
    type: float
    default: 60.0
  urls:
    description: Addresses of further members, asked when O(url) does not answer.
    type: list
    elements: str
    default: []
  members:
    description: Names of all members of the cluster. A majority of them must be well.
    type: list
    elements: str
    required: true
  candidate:
    description:
      - Name of the member that is to lead. When it leads already, nothing is done.
      - Without it the best member is chosen, synchronous first, then by lag, then by name, and named in the order.
    type: str
  away_from:
    description: Name of a member. Only when this one leads, the leader is moved.
    type: str
  expected_leader:
    description: Name of the member that is expected to lead. Another leader is a reason to refuse.
    type: str
  scheduled_at:
    description:
      - When Patroni is to do it, in ISO 8601 with a zone, for example V(2030-01-31T03:00:00+00:00).
      - The module ends when it is scheduled. O(transactions) are not looked at.
    type: str
  gate:
    description:
      - A file on the host where the module runs. Nothing is ordered before it is there, so that a caller can have
        this module running before it holds clients back, and begin at once. The file is removed then.
      - While the module waits, there is a file of that name with C(.ready) at its end.
      - The cluster is looked at before. That look counts if it is not older than O(max_age) when the gate is open.
      - Not there within O(timeout), nothing is done, and the module fails.
    type: path
  quiet:
    description:
      - Behind the O(gate), wait until all poolers hold their clients back, as PostgreSQL on this host sees it, which
        must be the leader. A pooler that pauses closes its connections. So the order follows the last pause at once.
      - A pooler without a connection when the module begins proves nothing by having none. Then, and in any other case,
        a file named as O(gate) with C(.go) at its end says that all poolers are paused.
      - Without psycopg2 on this host only that file counts.
      - When O(gate) is removed before that, nothing is done, and the module fails. It also fails after O(timeout).
    type: dict
    suboptions:
      database:
        description: The database whose connections are counted.
        type: str
        required: true
      poolers:
        description: The addresses that the poolers' connections come from.
        type: list
        elements: str
        required: true
      local:
        description: The address of this host. Connections by the socket count as coming from it. Those of superusers
          do not count at all.
        type: str
        required: true
      socket_dir:
        description: Directory of PostgreSQL's socket.
        type: path
        default: /run/dedicated/postgres
      user:
        description: Who looks.
        type: str
        default: postgres
  wait_for:
    description:
      - With V(leader) the module ends as soon as the candidate leads and runs, for callers that hold back clients.
      - With V(healthy) it ends when all that streamed before, and the old leader, stream from it.
    type: str
    choices: [leader, healthy]
    default: healthy
  max_lag:
    description: Bytes that the candidate may lag behind.
    type: int
    default: 1048576
  max_age:
    description: Seconds that what was seen may be old.
    type: float
    default: 5.0
  max_transaction_seconds:
    description: Seconds that a transaction of O(transactions) may be open.
    type: float
    default: 60.0
  transactions:
    description:
      - Transactions that are open in PostgreSQL on the leader, from C(pg_stat_activity). They end with the move.
      - Text of queries is not wanted here.
    type: list
    elements: dict
    default: []
    suboptions:
      pid:
        description: Process of the transaction.
        type: int
        required: true
      seconds:
        description: Seconds since its start.
        type: float
        required: true
      user:
        description: User of the database.
        type: str
        default: ""
      state:
        description: State of the session, for example V(idle in transaction).
        type: str
        default: ""
  system_identifier:
    description: PostgreSQL's identifier of the cluster. Another one is a reason to refuse.
    type: str
seealso:
  - module: dedicated.odoo.patroni_cluster_info
  - module: dedicated.odoo.patroni_failover
    description: For a leader that is dead.
"""

EXAMPLES = r"""
- name: Move the leader away before this host is restarted
  dedicated.odoo.patroni_switchover:
    url: "https://{{ dedicated_address }}:8008"
    ca_path: /etc/dedicated/pki/postgres/ca.pem
    client_cert: /etc/dedicated/pki/postgres/cert.pem
    client_key: /etc/dedicated/pki/postgres/key.pem
    username: patroni
    password: "{{ postgres_rest_password }}"
    members: [node1, node2, node3]
    away_from: node1

- name: Move it to a certain member, and end as soon as that one leads
  dedicated.odoo.patroni_switchover:
    url: https://192.0.2.11:8008
    urls: [https://192.0.2.12:8008, https://192.0.2.13:8008]
    username: patroni
    password: "{{ postgres_rest_password }}"
    members: [node1, node2, node3]
    candidate: node2
    expected_leader: node1
    wait_for: leader
    poll_interval: 0.2
"""

RETURN = r"""
msg:
  description: What was done, or why nothing was.
  returned: always
  type: str
leader_before:
  description: Who led.
  returned: when it was not refused before the order
  type: str
leader_after:
  description: Who leads, by the store and its own word, or null. In check mode who would.
  returned: when it was not refused before the order
  type: str
candidate:
  description: Who was to lead, or null when nothing was to be done and nobody was named.
  returned: when it was not refused before the order
  type: str
as_planned:
  description: Whether the candidate leads, or the switchover is scheduled, or nothing had to be done.
  returned: when it was not refused before the order
  type: bool
plan:
  description: The steps of the move.
  returned: when it was not refused before the order
  type: list
  elements: str
scheduled_at:
  description: For when the switchover is scheduled, or null.
  returned: when it was not refused before the order
  type: str
answer:
  description: What Patroni replied, with its status. Null when the module ended before that, or the reply was lost.
  returned: when it was not refused before the order
  type: str
  sample: 200 Successfully switched over to "node2"
orders:
  description: How often the order was given.
  returned: when it was not refused before the order
  type: int
seconds_to_leader:
  description: Seconds from the order until the new leader was seen to run, or null.
  returned: when it was not refused before the order
  type: float
seconds_to_healthy:
  description: Seconds from the order until the others were seen to stream from it, or null.
  returned: when it was not refused before the order
  type: float
last_seen:
  description: What was seen last.
  returned: when the time was over
  type: str
code:
  description:
    - Stable name of the reason for a refusal or an error.
    - 'Refusals before anything was done: V(gate_closed), V(bad_target), V(bad_schedule), V(no_answer),
      V(other_cluster), V(stale), V(no_leader), V(leader_silent), V(failsafe), V(in_progress), V(other_leader),
      V(scheduled), V(paused), V(members_missing), V(long_transaction), V(not_a_member), V(candidate_silent),
      V(nofailover), V(watchdog), V(candidate_stale), V(candidate_not_streaming), V(timeline),
      V(candidate_not_synchronous), V(lag), V(pending_restart), V(no_good_candidate).'
    - 'Errors after the order: V(order_refused), V(not_heard) and V(given_up) left everything as it was.
      V(wrong_leader), V(no_leader), V(not_moved), V(not_healthy) and V(not_scheduled) tell how it was when the module
      ended.'
  returned: failure
  type: str
  sample: candidate_not_synchronous
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
from ansible_collections.dedicated.odoo.plugins.module_utils._common.gate import (
    Gate,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    Clock,
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.arguments import (
    patroni_arguments,
    patroni_rules,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.quiet import (
    Postgres,
    Quiet,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.switchover_plan import (
    Transaction,
    Wish,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.switchover_service import (
    Pace,
    SwitchoverService,
    lookout_of,
)

ARGUMENTS: dict[str, t.Any] = {
    **patroni_arguments(),
    "timeout": {"type": "float", "default": 60.0},
    "urls": {"type": "list", "elements": "str", "default": []},
    "members": {"type": "list", "elements": "str", "required": True},
    "candidate": {"type": "str"},
    "away_from": {"type": "str"},
    "expected_leader": {"type": "str"},
    "scheduled_at": {"type": "str"},
    "gate": {"type": "path"},
    "quiet": {
        "type": "dict",
        "options": {
            "database": {"type": "str", "required": True},
            "poolers": {"type": "list", "elements": "str", "required": True},
            "local": {"type": "str", "required": True},
            "socket_dir": {"type": "path", "default": "/run/dedicated/postgres"},
            "user": {"type": "str", "default": "postgres"},
        },
    },
    "wait_for": {"type": "str", "choices": ["leader", "healthy"], "default": "healthy"},
    "max_lag": {"type": "int", "default": 1048576},
    "max_age": {"type": "float", "default": 5.0},
    "max_transaction_seconds": {"type": "float", "default": 60.0},
    "transactions": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "pid": {"type": "int", "required": True},
            "seconds": {"type": "float", "required": True},
            "user": {"type": "str", "default": ""},
            "state": {"type": "str", "default": ""},
        },
    },
    "system_identifier": {"type": "str"},
}


def wish_of(params: t.Mapping[str, t.Any]) -> Wish:
    """What is wanted. An empty name is what a template makes of a value that is not there."""
    return Wish(
        members=tuple(params["members"]),
        candidate=params["candidate"] or None,
        away_from=params["away_from"] or None,
        expected_leader=params["expected_leader"] or None,
        scheduled_at=params["scheduled_at"] or None,
        max_lag=params["max_lag"],
        max_transaction_seconds=params["max_transaction_seconds"],
        max_age=params["max_age"],
        system_identifier=params["system_identifier"] or None,
        transactions=tuple(Transaction(**one) for one in params["transactions"]),
    )


def wait_at_gate(params: t.Mapping[str, t.Any], clock: Clock) -> None:
    """Until the caller opens it, and until the poolers are quiet where that is asked for."""
    if params["gate"] is None:
        return
    gate, quiet = Gate(params["gate"], clock), params["quiet"]
    if quiet is None:
        gate.wait(params["timeout"])
        gate.close()
        return
    look = Postgres(quiet["socket_dir"], quiet["user"], quiet["database"], quiet["local"])
    try:
        Quiet(gate, look, quiet["poolers"], clock).wait(params["timeout"])
    finally:
        look.close()


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **patroni_rules())
    params = module.params
    clock = SystemClock()
    pace = Pace(params["timeout"], params["poll_interval"])
    service = SwitchoverService(lookout_of(params, clock), clock, pace, wish_of(params))
    try:
        if not module.check_mode:
            if params["gate"] is not None:
                service.prepare()
            wait_at_gate(params, clock)
        result = service.move(module.check_mode, params["wait_for"]).as_result()
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    del result["loss"]
    if module._diff:
        result["diff"] = {"before": {"leader": result["leader_before"]}, "after": {"leader": result["leader_after"]}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
