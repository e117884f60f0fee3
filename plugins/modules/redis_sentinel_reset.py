#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_sentinel_reset
short_description: Make Sentinels forget retired hosts
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Sentinels never forget a Sentinel or a replica by themselves, and count the Sentinels that they know when they need
    a majority.
  - Resets each Sentinel that knows others than O(sentinels) and O(nodes), one at a time, and the next when it knows
    everybody again.
  - Refuses while no master is agreed, during a failover, while anything listed does not answer, and while what is not
    listed still lives, because it would be learned again.
extends_documentation_fragment:
  - dedicated.odoo.redis
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Shows the stale entries.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
options:
  nodes:
    description: Addresses of all Redis nodes that remain, as V(host:port).
    type: list
    elements: str
    required: true
seealso:
  - module: dedicated.odoo.redis_sentinel_info
"""

EXAMPLES = r"""
- name: Forget 192.0.2.13, which was retired
  dedicated.odoo.redis_sentinel_reset:
    sentinels: [192.0.2.11:26379, 192.0.2.12:26379, 192.0.2.14:26379]
    nodes: [192.0.2.11:6379, 192.0.2.12:6379, 192.0.2.14:6379]
    master_name: sessions
    username: admin
    password: "{{ redis_admin_password }}"
"""

RETURN = r"""
msg:
  description: What was done.
  returned: always
  type: str
plan:
  description: The Sentinels that were reset, or would be in check mode, with the reason.
  returned: success
  type: list
  elements: str
stale:
  description: Addresses that were forgotten, or would be in check mode.
  returned: success
  type: list
  elements: str
code:
  description: Stable name of the reason for a refusal or an error.
  returned: failure
  type: str
  sample: not_retired
refusal:
  description: The refusal in parts. What was refused, why, and what to do.
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
    Pace,
    ResetService,
    cluster_of,
)

ARGUMENTS: dict[str, t.Any] = {
    **redis_arguments(),
    "nodes": {"type": "list", "elements": "str", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **redis_rules())
    params = module.params
    try:
        pace = Pace(params["timeout"], params["poll_interval"])
        service = ResetService(TlsNetwork(params), SystemClock(), cluster_of(params), pace)
        result = service.reset(module.check_mode).as_result()
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    if module._diff:
        result["diff"] = {"before": {"stale": result["stale"]}, "after": {"stale": []}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
