#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Bring a member into an etcd cluster, or out of it, and keep its space
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Decides from what the other members show whether a host starts with its data, joins, or forms a new cluster, and
    registers it if needed. It starts nothing; run it before the host's member is started.
  - A member whose data is lost is replaced, which means that it is removed and added anew. A host that has data of a
    member which the cluster does not know is refused, and so is a name or peer address that belongs to another.
  - Members are added and removed only while all others are well, and one at a time. What another look may find better,
    such as a member that is still catching up, is waited for until O(timeout) is over.
  - Each change is followed by a new look, so that a run which was interrupted is completed by the next one.
extends_documentation_fragment:
  - dedicated.odoo.etcd
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Returns the members before and after.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
options:
  state:
    description:
      - With V(present) the host is to be a member, with V(absent) not.
      - With V(disarmed) no alarm V(NOSPACE) is to stand. It is cleared only when the database of every member is below
        O(quota_bytes) again, because the next write would raise it anew.
      - With V(defragmented) members give their free space back, one after the other, the leader last, each only while
        all are well; a space alarm is no hindrance. A member stands still meanwhile. Those are left alone that have
        less than 10 MiB to gain, unless it is 1 MiB and 20 percent of their database.
    type: str
    choices: [present, absent, disarmed, defragmented]
    default: present
  name:
    description: Name of the member. Required with O(state=present) and O(state=absent).
    type: str
  peer_url:
    description: The member's address for the others, for example V(https://192.0.2.11:2380). Required with
      O(state=present).
    type: str
  data_present:
    description:
      - Whether this host has data of a member. Look for a file C(*.wal) in the data directory's C(member/wal).
      - The directory C(member) alone proves nothing, because etcd makes it before an attempt to join that then fails.
    type: bool
    default: false
  expected_members:
    description: Names of all members that there are to be. When given, another O(name) is refused with
      O(state=present).
    type: list
    elements: str
    default: []
  members_with_data:
    description: Names of other hosts that are known to have data of a member. While nobody answers, a host without data
      is refused instead of forming a new cluster.
    type: list
    elements: str
    default: []
  allow_even:
    description: Whether an even number of members may be left with O(state=absent), as in between when two are removed.
    type: bool
    default: false
  quota_bytes:
    description: The members' C(quota-backend-bytes). Required with O(state=disarmed).
    type: int
  max_lag:
    description: Entries of the log that a healthy member may be behind the leader.
    type: int
    default: 1000
"""

EXAMPLES = r"""
- name: Decide how this host's member is to start
  dedicated.odoo.etcd_member:
    url: "https://{{ dedicated_address }}:2379"
    urls: ["https://192.0.2.12:2379", "https://192.0.2.13:2379"]
    ca_path: /etc/dedicated/pki/etcd/ca.pem
    client_cert: /etc/dedicated/pki/etcd/cert.pem
    client_key: /etc/dedicated/pki/etcd/key.pem
    name: "{{ inventory_hostname }}"
    peer_url: "https://{{ dedicated_address }}:2380"
    data_present: "{{ etcd_wal.matched > 0 }}"
    expected_members: [node1, node2, node3]
  register: etcd_member

- name: Give free space back, and clear the space alarm that stood for want of it
  dedicated.odoo.etcd_member:
    url: https://192.0.2.12:2379
    urls: [https://192.0.2.11:2379, https://192.0.2.13:2379]
    ca_path: /etc/dedicated/pki/etcd/ca.pem
    client_cert: /etc/dedicated/pki/etcd/cert.pem
    client_key: /etc/dedicated/pki/etcd/key.pem
    username: root
    password: "{{ etcd_root_password }}"
    state: "{{ item }}"
    quota_bytes: 2147483648
  loop: [defragmented, disarmed]

- name: Take a member out, asked of another host
  dedicated.odoo.etcd_member:
    url: https://192.0.2.12:2379
    ca_path: /etc/dedicated/pki/etcd/ca.pem
    client_cert: /etc/dedicated/pki/etcd/cert.pem
    client_key: /etc/dedicated/pki/etcd/key.pem
    state: absent
    name: node1
    allow_even: true
"""

RETURN = r"""
msg:
  description: What was done.
  returned: always
  type: str
plan:
  description: The changes in their order, those of check mode included.
  returned: success
  type: list
  elements: str
  sample: [remove node3 (684a304b1f1633d3), "add node3 with https://192.0.2.13:2380"]
bootstrap:
  description: Whether no other member answered. The host starts with its data, or forms a new cluster with the others,
    for which they must be started at the same time.
  returned: success
  type: bool
join:
  description: Whether the host is to start without data and with RV(initial_cluster) and RV(initial_cluster_state).
  returned: success
  type: bool
initial_cluster:
  description: All members for etcd's C(initial-cluster), this one included. Empty when RV(bootstrap).
  returned: success
  type: str
  sample: node1=https://192.0.2.11:2380,node2=https://192.0.2.12:2380
initial_cluster_state:
  description: V(new) when RV(bootstrap), otherwise V(existing).
  returned: success
  type: str
member_id:
  description: Id in hexadecimal under which the host is registered, or null.
  returned: success
  type: str
leader:
  description: Name of the leader, or null.
  returned: success
  type: str
before:
  description: Peer addresses of the members by name, as they were.
  returned: success
  type: dict
after:
  description: Peer addresses of the members by name, as they are now or would be in check mode.
  returned: success
  type: dict
code:
  description: Stable name of the reason for a refusal or an error. Waited for are V(answers_differ),
    V(cluster_is_silent), V(no_answer), V(no_quorum), V(others_not_healthy), V(quorum_lost) and V(size_not_known).
    Others are V(removed_member), V(member_runs), V(name_taken), V(peer_url_taken), V(unexpected_name), V(two_clusters),
    V(last_member), V(even_left) and V(over_quota).
  returned: failure
  type: str
  sample: removed_member
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
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.plan import (
    MemberWish,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.service import (
    ClusterService,
    MemberService,
    connector,
)

ARGUMENTS: dict[str, t.Any] = {
    **etcd_arguments(),
    "state": {"type": "str", "choices": ["present", "absent", "disarmed", "defragmented"], "default": "present"},
    "name": {"type": "str"},
    "peer_url": {"type": "str"},
    "data_present": {"type": "bool", "default": False},
    "expected_members": {"type": "list", "elements": "str", "default": []},
    "members_with_data": {"type": "list", "elements": "str", "default": []},
    "allow_even": {"type": "bool", "default": False},
    "quota_bytes": {"type": "int"},
    "max_lag": {"type": "int", "default": 1000},
}


def wish(params: dict[str, t.Any]) -> MemberWish:
    return MemberWish(
        state=params["state"],
        name=params["name"] or "",
        peer_url=params["peer_url"].rstrip("/") if params["peer_url"] else None,
        data_present=params["data_present"],
        expected=tuple(params["expected_members"]),
        with_data=tuple(name for name in params["members_with_data"] if name != params["name"]),
        allow_even=params["allow_even"],
        quota=params["quota_bytes"],
        max_lag=params["max_lag"],
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[
            ("state", "present", ["name", "peer_url"]),
            ("state", "absent", ["name"]),
            ("state", "disarmed", ["quota_bytes"]),
        ],
        **etcd_rules(),
    )
    params = module.params
    connect = connector(lambda url: GatewayTransport(params, url), params["username"], params["password"])
    # Only a host that is to be a member is judged by the others alone.
    own = params["url"] if params["state"] == "present" else None
    cluster = ClusterService(connect, [*params["urls"], params["url"]], SystemClock(), own)
    service = MemberService(
        cluster, connect, SystemClock(), params["timeout"], params["poll_interval"], module.check_mode
    )
    try:
        result = service.reconcile(wish(params)).as_result()
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
