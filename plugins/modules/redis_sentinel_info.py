#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_sentinel_info
short_description: Look at Sentinels and their Redis nodes, and wait for them
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns who is master, what every Sentinel and every node says of itself and the others, and a judgement with
    reasons.
  - The master is who more than half of the answering Sentinels name. Whether they are a majority of all is RV(quorum).
  - The cluster is healthy when all Sentinels and nodes answer and agree, know exactly each other, follow with at most
    O(max_lag), and announce the addresses under which they are reached, and when no failover is going on.
  - Sentinels look at replicas every ten seconds only, so that a cluster becomes healthy up to ten seconds after the
    last node has become so.
extends_documentation_fragment:
  - dedicated.odoo.redis
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
  nodes:
    description: Addresses of all Redis nodes, as V(host:port). Without them the nodes' own word is not heard.
    type: list
    elements: str
    default: []
  wait_for:
    description:
      - What to wait for. With V(none) unreachable Sentinels are an answer and no failure.
      - V(master) is a master that Sentinels agree about and that says so itself, where it is one of O(nodes).
    type: str
    choices: [none, master, healthy]
    default: none
  except_hosts:
    description:
      - Hosts that may be ill, for asking whether all others are well before these are touched.
      - When no other host is left, the cluster counts as healthy.
    type: list
    elements: str
    default: []
  max_lag:
    description: Bytes that a healthy replica may lag behind.
    type: int
    default: 1048576
notes:
  - In check mode this module looks once and does not wait.
seealso:
  - module: dedicated.odoo.redis_failover
  - module: dedicated.odoo.redis_sentinel_reset
    description: Clears stale entries of retired hosts.
"""

EXAMPLES = r"""
- name: Ask the other hosts who the master is
  dedicated.odoo.redis_sentinel_info:
    sentinels: [192.0.2.11:26379, 192.0.2.12:26379, 192.0.2.13:26379]
    master_name: sessions
    username: admin
    password: "{{ redis_admin_password }}"
  register: redis_seen

- name: Go on when all others are well
  dedicated.odoo.redis_sentinel_info:
    sentinels: [192.0.2.11:26379, 192.0.2.12:26379, 192.0.2.13:26379]
    nodes: [192.0.2.11:6379, 192.0.2.12:6379, 192.0.2.13:6379]
    master_name: sessions
    username: admin
    password: "{{ redis_admin_password }}"
    wait_for: healthy
    except_hosts: ["{{ dedicated_address }}"]
"""

RETURN = r"""
reachable:
  description: Whether a Sentinel answered.
  returned: success
  type: bool
master:
  description: Address of the master that more than half of the answering Sentinels name, or null.
  returned: success
  type: str
  sample: 192.0.2.11:6379
quorum:
  description: Whether more than half of all Sentinels name this master and find their quorum for a failover.
  returned: success
  type: bool
healthy:
  description: Whether nothing speaks against the cluster.
  returned: success
  type: bool
reasons:
  description: What speaks against it.
  returned: success
  type: list
  elements: str
sentinels:
  description: The Sentinels, in the order of the option.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: Where it was asked.
      type: str
    reachable:
      description: Whether it answered.
      type: bool
    error:
      description: Why not, or what it said instead.
      type: str
    sees_master:
      description: Whom it names as master, or null.
      type: str
    flags:
      description: What it says of the master, V(master) alone when all is well.
      type: list
      elements: str
    known_sentinels:
      description: Addresses of the other Sentinels that it knows.
      type: list
      elements: str
    known_replicas:
      description: Addresses of the replicas that it knows.
      type: list
      elements: str
    quorum_ok:
      description: Whether it finds enough others for a failover (C(CKQUORUM)).
      type: bool
    quorum_says:
      description: Its words on that.
      type: str
    quorum_needed:
      description: How many Sentinels must call a master down.
      type: int
    tilt:
      description: Whether it distrusts its clock and does not act.
      type: bool
    seconds_as_master:
      description: How long it has known this master as one, since its own start at most.
      type: float
    down_after_ms:
      description: Silence of a master after which it is down, in milliseconds.
      type: int
    failover_timeout_ms:
      description: Patience with a failover, in milliseconds.
      type: int
nodes:
  description: The nodes, in the order of the option.
  returned: success
  type: list
  elements: dict
  contains:
    address:
      description: Where it was asked.
      type: str
    reachable:
      description: Whether it answered.
      type: bool
    error:
      description: Why not.
      type: str
    role:
      description: Its own word, V(master) or V(slave).
      type: str
    follows:
      description: Address of the master that it follows.
      type: str
    master_link:
      description: V(up) or V(down), null for a master.
      type: str
    link_state:
      description: State of that link in Redis's words.
      type: str
    offset:
      description: Replication offset in bytes.
      type: int
    lag:
      description: Bytes behind the agreed master, or null when not known.
      type: int
    replicas:
      description: Addresses of the replicas that are connected to it.
      type: list
      elements: str
    loading:
      description: Whether it loads its data.
      type: bool
    aof_enabled:
      description: Whether it keeps an append-only file.
      type: bool
    aof_ok:
      description: Whether it could write that file last time.
      type: bool
    rdb_ok:
      description: Whether it could save its data in the background last time.
      type: bool
    announced:
      description: Address that it announces to the others, or null when it does not show it.
      type: str
    min_replicas:
      description: Connected replicas without which it refuses writes as a master.
      type: int
code:
  description: Stable name of the reason for an error.
  returned: failure
  type: str
  sample: deadline
last_seen:
  description: What was still missing when the time was over.
  returned: failure
  type: str
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
    Pace,
    SentinelService,
    cluster_of,
)

ARGUMENTS: dict[str, t.Any] = {
    **redis_arguments(),
    "nodes": {"type": "list", "elements": "str", "default": []},
    "wait_for": {"type": "str", "choices": ["none", "master", "healthy"], "default": "none"},
    "except_hosts": {"type": "list", "elements": "str", "default": []},
    "max_lag": {"type": "int", "default": 1048576},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **redis_rules())
    params = module.params
    # In check mode nothing was deployed that would be worth waiting for.
    goal = "none" if module.check_mode else params["wait_for"]
    try:
        pace = Pace(params["timeout"], params["poll_interval"])
        service = SentinelService(TlsNetwork(params), SystemClock(), cluster_of(params), pace)
        seen = service.wait(goal, params["except_hosts"], params["max_lag"])
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**seen.as_result())


if __name__ == "__main__":
    main()
