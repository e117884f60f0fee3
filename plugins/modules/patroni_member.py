#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_member
short_description: Restart the members of a Patroni cluster in turn, or make one anew
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - With O(state=restarted), restarts PostgreSQL through Patroni's REST API on every member whose settings wait for it,
    or with O(all) on every member.
  - One member at a time, each only while all others are healthy; the leader last. Where a setting shrinks whose value
    on a standby must not be lower than on the leader (C(max_connections) and the like), the leader goes first.
  - The first member that does not come back ends it. Running it again goes on from there; with O(all) that needs
    O(started_before), or those that were restarted are restarted again.
  - With O(state=reinitialised), throws the data directory of one member away and copies it anew, and waits until that
    member streams on the leader's timeline. A copy that is being made already is waited for, so that a run that was cut
    off goes on.
extends_documentation_fragment:
  - dedicated.odoo.patroni
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: none
    description: A restart has no before and after, and what a member loses by a new copy is not known.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    details:
      - O(all) without O(started_before) restarts everybody each time.
      - O(state=reinitialised) is refused for a member that is healthy, and with O(force) copies each time.
options:
  urls:
    description: Addresses of further members, asked in this order when O(url) does not answer.
    type: list
    elements: str
    default: []
  members:
    description: Names of all members of the cluster.
    type: list
    elements: str
    required: true
  max_lag:
    description: Bytes that a healthy member may lag behind.
    type: int
    default: 1048576
  state:
    description: What is to be true afterwards, of the members that wait for a restart (or all of them), or of O(name).
    type: str
    choices: [restarted, reinitialised]
    default: restarted
  all:
    description: Whether every member is restarted, and not only those whose settings wait for it.
    type: bool
    default: false
  leader:
    description:
      - Whether the leader is restarted too, after all others, or left alone and named in RV(left).
      - V(skip) is for moving the lead by a switchover first, and running this again. Who leads is looked up before each
        restart.
    type: str
    choices: [last, skip]
    default: last
  started_before:
    description:
      - With O(all), restart only members whose PostgreSQL was started before this time, which ISO 8601 writes with its
        zone. The time when an operation began lets a run that was cut off go on where it was.
      - It is compared with the members' own clocks.
    type: str
  name:
    description: The member that is made anew. Required for O(state=reinitialised).
    type: str
  force:
    description:
      - With O(state=reinitialised), also copy a member that is healthy or has a newer timeline than the leader, and end
        what else Patroni is doing on it.
      - No other refusal is lifted by it, and a copy that is being made is never begun again.
    type: bool
    default: false
  allow_alone:
    description: With O(state=reinitialised), whether the leader may be left without any standby that could take over.
    type: bool
    default: false
  from_leader:
    description:
      - With O(state=reinitialised), copy from the leader also when other members have the tag C(clonefrom).
      - Patroni can be told so since 4.1. An older one is refused where it would copy from such a member.
    type: bool
    default: false
notes:
  - For O(state=reinitialised), O(timeout) has to be as long as the copy takes. When it passes, the copy goes on, and
    another run waits for it.
seealso:
  - module: dedicated.odoo.patroni_maintenance
  - module: dedicated.odoo.patroni_cluster_info
"""

EXAMPLES = r"""
- name: Restart what waits for it
  dedicated.odoo.patroni_member:
    url: "https://{{ dedicated_address }}:8008"
    ca_path: /etc/dedicated/pki/postgres/ca.pem
    client_cert: /etc/dedicated/pki/postgres/cert.pem
    client_key: /etc/dedicated/pki/postgres/key.pem
    username: patroni
    password: "{{ postgres_rest_password }}"
    members: [node1, node2, node3]
    timeout: 180
  run_once: true

- name: Restart the standbys, before the lead is moved
  dedicated.odoo.patroni_member:
    url: "https://{{ dedicated_address }}:8008"
    members: [node1, node2, node3]
    all: true
    leader: skip
    started_before: "2026-01-31T22:00:00Z"
    timeout: 180
  run_once: true

- name: Make a member anew
  dedicated.odoo.patroni_member:
    url: https://192.0.2.11:8008
    ca_path: /etc/dedicated/pki/postgres/ca.pem
    client_cert: /etc/dedicated/pki/postgres/cert.pem
    client_key: /etc/dedicated/pki/postgres/key.pem
    username: patroni
    password: "{{ postgres_rest_password }}"
    members: [node1, node2, node3]
    state: reinitialised
    name: node2
    timeout: 3600
  run_once: true
"""

RETURN = r"""
msg:
  description: What was done, or why nothing was.
  returned: always
  type: str
restarted:
  description: Names of the members in the order of their restart; in check mode of those that would be.
  returned: success with O(state=restarted)
  type: list
  elements: str
left:
  description: Names of the members that are still to be restarted, which is the leader with O(leader=skip).
  returned: success with O(state=restarted), when O(all) or O(leader=skip)
  type: list
  elements: str
name:
  description: The member that was made anew.
  returned: success with O(state=reinitialised)
  type: str
leader:
  description: The leader when it began.
  returned: success with O(state=reinitialised)
  type: str
joined:
  description: Whether a copy was being made already, and was waited for.
  returned: success with O(state=reinitialised)
  type: bool
discards:
  description: What was thrown away, in words. Null when RV(joined).
  returned: success with O(state=reinitialised)
  type: str
before:
  description: Role, state, timeline and lag (in bytes) of the member as they were.
  returned: success with O(state=reinitialised)
  type: dict
after:
  description: The same afterwards, null in check mode.
  returned: success with O(state=reinitialised)
  type: dict
seconds:
  description: Seconds from the request until the member streamed.
  returned: success with O(state=reinitialised)
  type: float
code:
  description: Stable name of the reason for a refusal or an error. Of a restart V(not_healthy), V(bad_time),
    V(still_pending), V(deadline). Of a new copy V(unknown_member), V(member_away), V(member_silent), V(no_leader),
    V(is_leader), V(last_standby), V(healthy), V(newer_history), V(from_leader_unknown), V(busy), V(reinit_refused),
    V(unreachable), V(deadline). Of both V(request_refused).
  returned: failure
  type: str
  sample: last_standby
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
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.arguments import (
    patroni_arguments,
    patroni_rules,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import (
    RestTransport,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.member_plan import (
    Wish,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.member_service import (
    ReinitService,
    Rolling,
    RollingService,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.service import (
    ClusterService,
    RestartService,
)

ARGUMENTS: dict[str, t.Any] = {
    **patroni_arguments(),
    "urls": {"type": "list", "elements": "str", "default": []},
    "members": {"type": "list", "elements": "str", "required": True},
    "max_lag": {"type": "int", "default": 1048576},
    "state": {"type": "str", "choices": ["restarted", "reinitialised"], "default": "restarted"},
    "all": {"type": "bool", "default": False},
    "leader": {"type": "str", "choices": ["last", "skip"], "default": "last"},
    "started_before": {"type": "str"},
    "name": {"type": "str"},
    "force": {"type": "bool", "default": False},
    "allow_alone": {"type": "bool", "default": False},
    "from_leader": {"type": "bool", "default": False},
}


def act(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """What the module was asked for."""
    clock = SystemClock()
    cluster = ClusterService([RestTransport(params, url) for url in (params["url"], *params["urls"])], clock)
    names, max_lag = tuple(params["members"]), params["max_lag"]
    pace = (clock, params["timeout"], params["poll_interval"])

    def member(url: str) -> RestTransport:
        return RestTransport(params, url)

    def patient(url: str) -> RestTransport:
        # A restart answers when it is over.
        return RestTransport(params, url, request_timeout=params["timeout"])

    if params["state"] == "reinitialised":
        wish = Wish(params["name"] or "", names, params["force"], params["allow_alone"], params["from_leader"], max_lag)
        return ReinitService(cluster, member, *pace).reinitialise(wish, check_mode).as_result()
    if not params["all"] and params["leader"] == "last":
        return RestartService(cluster, patient, *pace).restart(names, max_lag, check_mode).as_result()
    rolling = Rolling(names, params["all"], params["leader"] == "skip", params["started_before"], max_lag)
    return RollingService(cluster, member, patient, *pace).restart(rolling, check_mode).as_result()


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "reinitialised", ["name"])],
        **patroni_rules(),
    )
    try:
        result = act(module.params, module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
