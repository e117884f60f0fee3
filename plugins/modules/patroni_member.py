#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_member
short_description: Restart the members of a Patroni cluster that wait for it
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Restarts PostgreSQL on every member whose settings wait for a restart, through Patroni's REST API.
  - One member at a time, each only while all others are healthy; the leader last. Where a setting shrinks whose value
    on a standby must not be lower than on the leader (C(max_connections) and the like), the leader goes first.
  - The first member that does not come back ends it. Running it again goes on from there.
extends_documentation_fragment:
  - dedicated.odoo.patroni
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: none
    description: A restart has no before and after.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
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
"""

RETURN = r"""
msg:
  description: What was done.
  returned: success
  type: str
restarted:
  description: Names of the members in the order of their restart; in check mode of those that wait for one.
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
    RestartService,
)

ARGUMENTS: dict[str, t.Any] = {
    **patroni_arguments(),
    "urls": {"type": "list", "elements": "str", "default": []},
    "members": {"type": "list", "elements": "str", "required": True},
    "max_lag": {"type": "int", "default": 1048576},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **patroni_rules())
    params = module.params
    clock = SystemClock()
    cluster = ClusterService([RestTransport(params, url) for url in (params["url"], *params["urls"])], clock)
    # A restart answers when it is over.
    service = RestartService(
        cluster,
        lambda url: RestTransport(params, url, request_timeout=params["timeout"]),
        clock,
        params["timeout"],
        params["poll_interval"],
    )
    try:
        done = service.restart(params["members"], params["max_lag"], module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**done.as_result())


if __name__ == "__main__":
    main()
