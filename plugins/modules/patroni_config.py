#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_config
short_description: Reconcile the dynamic configuration of a Patroni cluster
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Compares the given keys with the dynamic configuration that Patroni keeps in its DCS, and patches what differs.
  - Patroni reads C(bootstrap.dcs) only once, so this is the only way in which later changes arrive.
  - Two spellings of one value, such as V(on) and V(true) or V(1GB) and V(1024MB), do not differ.
  - Timings that Patroni would silently replace by its minimum, or that do not satisfy C(loop_wait + 2 * retry_timeout
    <= ttl), are refused.
extends_documentation_fragment:
  - dedicated.odoo.patroni
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Returns details on what has changed.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
options:
  config:
    description: Wanted keys, nested as in Patroni. Keys that are not named stay as they are. A null value deletes the
      key.
    type: dict
    required: true
  verify:
    description: Whether to wait until Patroni returns the new configuration.
    type: bool
    default: true
  settle:
    description: Seconds to give the members, after a change below C(postgresql), for marking themselves as in need of
      a restart.
    type: float
    default: 2.0
notes:
  - In check mode a cluster that does not answer is one that does not exist yet, and all keys are reported as changes.
"""

EXAMPLES = r"""
- name: Reconcile the dynamic configuration
  dedicated.odoo.patroni_config:
    url: "https://{{ dedicated_address }}:8008"
    ca_path: /etc/dedicated/pki/ca.pem
    username: rest
    password: "{{ postgres_rest_password }}"
    config:
      ttl: 20
      loop_wait: 5
      retry_timeout: 5
      synchronous_mode: true
      postgresql:
        parameters:
          max_connections: 200
          work_mem: null
  register: result
"""

RETURN = r"""
msg:
  description: Whether something differed.
  returned: always
  type: str
reachable:
  description: Whether Patroni answered. False is possible in check mode only.
  returned: success
  type: bool
before:
  description: The wanted keys as they were.
  returned: success
  type: dict
after:
  description: The wanted keys as they are now, or would be in check mode.
  returned: success
  type: dict
patch:
  description: What was sent to Patroni.
  returned: success
  type: dict
pending_restart:
  description: Names of members that need a restart for a setting to take effect.
  returned: success
  type: list
  elements: str
code:
  description: Stable name of the reason for a refusal or an error.
  returned: failure
  type: str
  sample: unsafe_timing
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
    ConfigService,
)

ARGUMENTS: dict[str, t.Any] = {
    **patroni_arguments(),
    "config": {"type": "dict", "required": True},
    "verify": {"type": "bool", "default": True},
    "settle": {"type": "float", "default": 2.0},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **patroni_rules())
    params = module.params
    service = ConfigService(
        RestTransport(params), SystemClock(), params["timeout"], params["poll_interval"], module.check_mode
    )
    try:
        outcome = service.reconcile(params["config"], params["verify"], params["settle"])
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    result = outcome.as_result()
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
