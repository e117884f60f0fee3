#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_cluster_info
short_description: Look at an etcd cluster, and wait for it
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns members, leader, sizes, alarms and a judgement with reasons, from etcd's JSON gateway.
  - Can wait for a healthy cluster. When the time is over, the error tells what was seen last.
  - A cluster is healthy when every member was started, answers, votes, lists the same members and follows one leader in
    one term within O(max_lag), when the leader answers itself, and when no alarm stands.
  - Asks O(url), O(urls), and the client addresses of members that did not answer there.
extends_documentation_fragment:
  - dedicated.odoo.etcd
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
  wait_for:
    description:
      - What to wait for. With V(none) an unreachable cluster is an answer and no failure.
      - In check mode nothing is waited for.
    type: str
    choices: [none, healthy]
    default: none
  expected_members:
    description: Names of members without which the cluster is not healthy.
    type: list
    elements: str
    default: []
  except_members:
    description:
      - Names of members that may be ill, because they are the ones to be touched next.
      - Whoever they are, a leader must answer, and a quorum too.
    type: list
    elements: str
    default: []
  max_lag:
    description: Entries of the log that a healthy member may be behind the leader.
    type: int
    default: 1000
  quota_bytes:
    description: The members' C(quota-backend-bytes), to tell how much of it is used.
    type: int
"""

EXAMPLES = r"""
- name: Wait until all three members are well
  dedicated.odoo.etcd_cluster_info:
    url: "https://{{ dedicated_address }}:2379"
    urls: ["https://192.0.2.12:2379", "https://192.0.2.13:2379"]
    ca_path: /etc/dedicated/pki/etcd/ca.pem
    client_cert: /etc/dedicated/pki/etcd/cert.pem
    client_key: /etc/dedicated/pki/etcd/key.pem
    wait_for: healthy
    expected_members: [node1, node2, node3]
    timeout: 120

- name: Touch this member only while all others are well
  dedicated.odoo.etcd_cluster_info:
    url: "https://{{ dedicated_address }}:2379"
    urls: ["https://192.0.2.12:2379", "https://192.0.2.13:2379"]
    ca_path: /etc/dedicated/pki/etcd/ca.pem
    client_cert: /etc/dedicated/pki/etcd/cert.pem
    client_key: /etc/dedicated/pki/etcd/key.pem
    wait_for: healthy
    except_members: ["{{ inventory_hostname }}"]
"""

RETURN = r"""
reachable:
  description: Whether a member answered.
  returned: success
  type: bool
cluster_id:
  description: Id of the cluster in hexadecimal, as etcdctl prints it, or null.
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
      description: Name of the member; empty when it was added and never started.
      type: str
    id:
      description: Id in hexadecimal.
      type: str
    peer_urls:
      description: Addresses for the other members.
      type: list
      elements: str
    client_urls:
      description: Addresses for clients.
      type: list
      elements: str
    learner:
      description: Whether it has no vote yet.
      type: bool
    started:
      description: Whether it was ever started.
      type: bool
    reachable:
      description: Whether it answered.
      type: bool
    leader:
      description: Whether it says that it leads.
      type: bool
    alarms:
      description: Alarms that it has raised, V(NOSPACE) or V(CORRUPT).
      type: list
      elements: str
    db_size:
      description: Bytes of its database, or null. What follows is null too for a member that does not answer.
      type: int
    db_size_in_use:
      description: Bytes of these that are in use.
      type: int
    fragmentation:
      description: The part that is not in use and would be gained by defragmentation, from 0 to 1.
      type: float
    quota_fraction:
      description: The part of O(quota_bytes) that the database has, or null when that is not given.
      type: float
    version:
      description: Version of etcd.
      type: str
    raft_index:
      description: Last entry of its log.
      type: int
    raft_term:
      description: Term that it is in.
      type: int
quorum:
  description: How many members vote, are needed, answer, and may still be lost. Null when nobody answered.
  returned: success
  type: dict
  sample: {voters: 3, needed: 2, answering: 3, spare: 1}
quota_fraction:
  description: The largest RV(members[].quota_fraction), or null.
  returned: success
  type: float
healthy:
  description: Whether nothing speaks against the cluster.
  returned: success
  type: bool
reasons:
  description: What speaks against it.
  returned: success
  type: list
  elements: str
code:
  description: Stable name of the reason for an error, for example V(deadline), V(bad_login), V(login_needed) or
    V(certificate_has_common_name).
  returned: failure
  type: str
  sample: deadline
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.arguments import (
    etcd_arguments,
    etcd_rules,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.io import (
    GatewayTransport,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.service import (
    ClusterService,
    connector,
)

ARGUMENTS: dict[str, t.Any] = {
    **etcd_arguments(),
    "wait_for": {"type": "str", "choices": ["none", "healthy"], "default": "none"},
    "expected_members": {"type": "list", "elements": "str", "default": []},
    "except_members": {"type": "list", "elements": "str", "default": []},
    "max_lag": {"type": "int", "default": 1000},
    "quota_bytes": {"type": "int"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **etcd_rules())
    params = module.params
    connect = connector(lambda url: GatewayTransport(params, url), params["username"], params["password"])
    service = ClusterService(connect, [params["url"], *params["urls"]], SystemClock())
    try:
        seen = service.wait(
            # In check mode nothing was deployed that would be worth waiting for.
            "none" if module.check_mode else params["wait_for"],
            params["timeout"],
            params["poll_interval"],
            params["expected_members"],
            params["except_members"],
            params["max_lag"],
            params["quota_bytes"],
        )
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**seen.as_result())


if __name__ == "__main__":
    main()
