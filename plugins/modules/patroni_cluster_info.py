#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_cluster_info
short_description: Look at a Patroni cluster, and wait for it
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns members, roles, lags and a judgement with reasons, from Patroni's REST API.
  - Can wait for a leader or for a healthy cluster. When the time is over, the error tells what was seen last.
  - A cluster is healthy when it is not paused, has a running leader, and every other member streams on the leader's
    timeline within O(max_lag). With synchronous replication at least one standby must be synchronous.
extends_documentation_fragment:
  - dedicated.odoo.patroni
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
  urls:
    description: Addresses of further members, asked in this order when O(url) does not answer.
    type: list
    elements: str
    default: []
  wait_for:
    description: What to wait for. With V(none) an unreachable cluster is an answer and no failure.
    type: str
    choices: [none, leader, healthy]
    default: none
  expected_members:
    description: Names of members without which the cluster is not healthy.
    type: list
    elements: str
    default: []
  except_members:
    description: Names of members that may be ill or away, for example the one that is about to be restarted.
    type: list
    elements: str
    default: []
  max_lag:
    description: Bytes that a healthy member may lag behind.
    type: int
    default: 1048576
"""

EXAMPLES = r"""
- name: Wait until all three members are well
  dedicated.odoo.patroni_cluster_info:
    url: "https://{{ dedicated_address }}:8008"
    ca_path: /etc/dedicated/pki/ca.pem
    wait_for: healthy
    expected_members: [node1, node2, node3]
    timeout: 120
"""

RETURN = r"""
reachable:
  description: Whether a member answered.
  returned: success
  type: bool
scope:
  description: Patroni's name of the cluster.
  returned: success
  type: str
system_identifier:
  description: PostgreSQL's identifier of the cluster as the member that answered knows it, or null.
  returned: success
  type: str
leader:
  description: Name of the leader, or null.
  returned: success
  type: str
members:
  description: The members by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the member.
      type: str
    role:
      description: Role as Patroni names it, for example V(leader), V(replica), V(sync_standby) or V(quorum_standby).
      type: str
    state:
      description: State as Patroni names it, for example V(running) or V(streaming).
      type: str
    timeline:
      description: Timeline of the member.
      type: int
    lag:
      description: Bytes behind the leader, or null when not known.
      type: int
    host:
      description: Address of PostgreSQL.
      type: str
    port:
      description: Port of PostgreSQL.
      type: int
    api_url:
      description: Address of the REST API.
      type: str
    pending_restart:
      description: Whether a setting waits for a restart.
      type: bool
    tags:
      description: Tags of the member.
      type: dict
    pending_reason:
      description: The settings that wait for a restart, each with C(old_value) and C(new_value).
      type: dict
paused:
  description: Whether Patroni is paused.
  returned: success
  type: bool
sync_standbys:
  description: Names of synchronous standbys, or of members of the quorum.
  returned: success
  type: list
  elements: str
synchronous_mode:
  description: V(off), V(on) or V(quorum), or null when the configuration could not be read.
  returned: success
  type: str
scheduled_switchover:
  description: A switchover that is scheduled, as Patroni describes it.
  returned: success
  type: dict
healthy:
  description: Whether nothing speaks against the cluster.
  returned: success
  type: bool
reasons:
  description: What speaks against it.
  returned: success
  type: list
  elements: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.arguments import (
    patroni_arguments,
    patroni_rules,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import (
    RestTransport,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.service import (
    ClusterService,
)

ARGUMENTS: dict[str, t.Any] = {
    **patroni_arguments(),
    "urls": {"type": "list", "elements": "str", "default": []},
    "wait_for": {"type": "str", "choices": ["none", "leader", "healthy"], "default": "none"},
    "expected_members": {"type": "list", "elements": "str", "default": []},
    "except_members": {"type": "list", "elements": "str", "default": []},
    "max_lag": {"type": "int", "default": 1048576},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **patroni_rules())
    params = module.params
    transports = [RestTransport(params, url) for url in (params["url"], *params["urls"])]
    service = ClusterService(transports, SystemClock())
    # In check mode nothing was deployed that would be worth waiting for.
    goal = "none" if module.check_mode else params["wait_for"]
    try:
        seen = service.wait(
            goal,
            params["expected_members"],
            params["max_lag"],
            params["timeout"],
            params["poll_interval"],
            params["except_members"],
        )
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**seen.as_result())


if __name__ == "__main__":
    main()
