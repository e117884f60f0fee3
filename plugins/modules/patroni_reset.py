#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_reset
short_description: Let a restored member lead a cluster whose members are all stopped
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - After a restore in place the store still knows how far the old data were, and Patroni lets nobody lead who is behind
    that. This takes out of the store what speaks of the old data. The dynamic configuration and the cluster's
    identifier stay.
  - Refused while any member tells of itself, and for the store of another cluster.
extends_documentation_fragment:
  - dedicated.odoo.etcd
attributes:
  check_mode:
    support: full
    description: Tells which keys would go.
  diff_mode:
    support: none
    description: The keys are in the result.
  idempotent:
    support: full
    description: What is gone is not taken out again.
options:
  scope:
    description: Patroni's scope, the name of the cluster in the store.
    type: str
    required: true
  namespace:
    description: Patroni's namespace.
    type: str
    default: /dedicated/
  system_id:
    description: Identifier of the restored cluster, as C(pg_control_system) tells it.
    type: str
    required: true
seealso:
  - module: dedicated.odoo.pgbackrest_restore
"""

EXAMPLES = r"""
- name: The store forgets the old data
  dedicated.odoo.patroni_reset:
    url: https://192.0.2.11:2379
    username: patroni
    password: "{{ postgres_etcd_password }}"
    scope: acme
    system_id: "7391823764598172634"
"""

RETURN = r"""
removed:
  description: Names of the keys that went, or in check mode would, without the cluster's prefix.
  returned: success
  type: list
  elements: str
  sample: [status, sync]
code:
  description: Stable name of the reason for an error.
  returned: failure
  type: str
  sample: other_system
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
    Client,
    GatewayTransport,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.reset import (
    ResetService,
)

ARGUMENTS: dict[str, t.Any] = {
    **etcd_arguments(),
    "scope": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "/dedicated/"},
    "system_id": {"type": "str", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **etcd_rules())
    params = module.params
    client = Client(GatewayTransport(params, params["url"]), params["username"], params["password"])
    try:
        service = ResetService(client.call, SystemClock(), params["scope"], params["namespace"])
        removed = service.reset(params["system_id"], params["timeout"], module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
