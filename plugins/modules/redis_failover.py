#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_failover
short_description: Move a Redis master that Sentinels watch
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Orders a failover from one Sentinel, and looks until a majority of all Sentinels and the nodes' own word agree
    about the new master, and the old one is its replica with a link, or does not answer.
  - Refuses without a majority, during a failover, without a good replica, when the new master would refuse writes,
    while a Sentinel remembers a replica as a master, and soon after the last move.
  - Pauses writes on the old master first, so that no acknowledged write is lost. The pause is shorter than the time
    after which Sentinels call a master down, and ends by itself.
  - Tells the old master to follow the new one as soon as these agree. Sentinels do so some eight seconds later, and
    till then two nodes say that they are master.
  - This is for a living master. Sentinels replace a dead one by themselves.
extends_documentation_fragment:
  - dedicated.odoo.redis
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Shows the master before and after.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    details:
      - O(force) without O(away_from) moves the master each time.
options:
  nodes:
    description: Addresses of all Redis nodes, as V(host:port).
    type: list
    elements: str
    required: true
  away_from:
    description:
      - Address of a node. Only when this one is the master, it is moved.
      - When a failover is going on, it is waited for first, for it may be this one, interrupted.
    type: str
  force:
    description:
      - Move the master wherever it is, unless O(away_from) says where, and also when it was moved within
        C(failover-timeout).
      - No other refusal is lifted by it.
    type: bool
    default: false
  max_lag:
    description: Bytes that a good replica may lag behind.
    type: int
    default: 1048576
  pause_writes:
    description:
      - Whether to pause writes on the old master for up to four fifths of C(down-after-milliseconds).
      - Clients wait instead of writing what would be lost.
    type: bool
    default: true
notes:
  - Which replica is promoted is Sentinel's choice, by C(replica-priority) and then by data.
  - O(username) needs the rights to C(CLIENT), C(CONFIG), C(EXEC), C(INFO), C(MULTI), C(ROLE), C(SENTINEL) and
    C(SLAVEOF).
seealso:
  - module: dedicated.odoo.redis_sentinel_info
"""

EXAMPLES = r"""
- name: Move the master away before this host is restarted
  dedicated.odoo.redis_failover:
    sentinels: [192.0.2.11:26379, 192.0.2.12:26379, 192.0.2.13:26379]
    nodes: [192.0.2.11:6379, 192.0.2.12:6379, 192.0.2.13:6379]
    master_name: sessions
    username: admin
    password: "{{ redis_admin_password }}"
    away_from: "{{ dedicated_address }}:6379"
"""

RETURN = r"""
msg:
  description: What was done, or why nothing was.
  returned: always
  type: str
master_before:
  description: Address of the master as it was.
  returned: success
  type: str
master_after:
  description: Address of the master as it is, null in check mode when it would move.
  returned: success
  type: str
plan:
  description: The steps of the move.
  returned: success
  type: list
  elements: str
candidates:
  description: Replicas of which one is promoted.
  returned: success
  type: list
  elements: str
old_master:
  description: What became of the old master, V(replica) or V(unreachable). Null when nothing was moved.
  returned: success
  type: str
seconds_to_switch:
  description: Seconds from the order until a majority of Sentinels and the new master's own word agreed.
  returned: success
  type: float
seconds:
  description: Seconds from the order until all was over.
  returned: success
  type: float
code:
  description: Stable name of the reason for a refusal or an error.
  returned: failure
  type: str
  sample: no_good_replica
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
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.arguments import (
    redis_arguments,
    redis_rules,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.resp import (
    TlsNetwork,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.sentinel_service import (
    FailoverService,
    Pace,
    cluster_of,
    node_of,
)

ARGUMENTS: dict[str, t.Any] = {
    **redis_arguments(),
    "nodes": {"type": "list", "elements": "str", "required": True},
    "away_from": {"type": "str"},
    "force": {"type": "bool", "default": False},
    "max_lag": {"type": "int", "default": 1048576},
    "pause_writes": {"type": "bool", "default": True},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        **redis_rules(),
    )
    params = module.params
    try:
        cluster = cluster_of(params)
        pace = Pace(params["timeout"], params["poll_interval"])
        result = (
            FailoverService(TlsNetwork(params), SystemClock(), cluster, pace)
            .move(
                node_of(cluster, params["away_from"]),
                params["force"],
                params["max_lag"],
                params["pause_writes"],
                module.check_mode,
            )
            .as_result()
        )
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    if module._diff:
        after = result["master_after"] or f"one of {', '.join(result['candidates'])}"
        result["diff"] = {"before": {"master": result["master_before"]}, "after": {"master": after}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
