#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_auth
short_description: Reconcile users, roles and authentication of an etcd cluster
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Makes the user and role C(root), the declared roles with exactly their permissions, and the declared users with
    exactly their roles, and then enables authentication. Users and roles that are not declared stay as they are.
  - Passwords are compared by logging in, so that a second run changes nothing. While authentication is off etcd lets
    nobody log in; therefore enabling it sets all declared passwords anew, and with O(enabled=false) passwords of users
    that exist are not touched.
  - A run that was interrupted is completed by the next one. One host of the cluster needs to run it.
extends_documentation_fragment:
  - dedicated.odoo.etcd
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Returns details on what has changed; of passwords only whether they are as wanted.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
options:
  root_password:
    description: Password of C(root).
    type: str
    required: true
  users:
    description: Further users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user. C(root) is not possible.
        type: str
        required: true
      password:
        description: Password of the user.
        type: str
        required: true
      roles:
        description: Its roles, of O(roles) or C(root). Others are taken from it.
        type: list
        elements: str
        default: []
  roles:
    description: Roles.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the role. C(root) is not possible.
        type: str
        required: true
      permissions:
        description: Its permissions. Others are taken from it.
        type: list
        elements: dict
        default: []
        suboptions:
          prefix:
            description: What the keys begin with. Empty for all keys.
            type: str
            required: true
          type:
            description: What is allowed there.
            type: str
            choices: [readwrite, read]
            default: readwrite
  enabled:
    description: Whether authentication is to be enabled.
    type: bool
    default: true
  username:
    description: A user with the role C(root), to log in as when O(root_password) is not set yet. Usually C(root) with
      its present password as O(password), to change it. Needs O(password).
    type: str
notes:
  - Before authentication is enabled, every client needs its user and password (clients do not send them unasked), and
    clients of the JSON gateway, such as Patroni and these modules, a certificate without a common name.
  - In check mode a cluster that does not answer is one that does not exist yet, and everything is reported as a change.
"""

EXAMPLES = r"""
- name: Let Patroni have its part of the keys, and nobody else anything
  dedicated.odoo.etcd_auth:
    url: "https://{{ dedicated_address }}:2379"
    ca_path: /etc/dedicated/pki/etcd/ca.pem
    client_cert: /etc/dedicated/pki/etcd/cert.pem
    client_key: /etc/dedicated/pki/etcd/key.pem
    root_password: "{{ etcd_root_password }}"
    roles:
      - name: patroni
        permissions:
          - {prefix: /service/, type: readwrite}
    users:
      - name: patroni
        password: "{{ etcd_patroni_password }}"
        roles: [patroni]
  run_once: true
"""

RETURN = r"""
msg:
  description: How much differed.
  returned: always
  type: str
reachable:
  description: Whether a member answered. False is possible in check mode only.
  returned: success
  type: bool
enabled:
  description: Whether authentication is enabled, or would be in check mode.
  returned: success
  type: bool
plan:
  description: The changes in their order, those of check mode included.
  returned: success
  type: list
  elements: str
  sample: [add role patroni, let role patroni readwrite /service/]
before:
  description: The declared users and roles as they were.
  returned: success
  type: dict
after:
  description: The declared users and roles as they are now or would be in check mode.
  returned: success
  type: dict
  sample:
    enabled: true
    users: {root: {roles: [root], password_state: as wanted}}
    roles: {patroni: {/service/: readwrite}}
code:
  description: Stable name of the reason for a refusal or an error, for example V(root_password_differs),
    V(reserved_name), V(unknown_role), V(certificate_has_common_name) or V(deadline).
  returned: failure
  type: str
  sample: root_password_differs
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
    Refuse,
    Refused,
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
    ROOT,
    auth_wish,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.service import (
    AuthOutcome,
    AuthService,
)

PERMISSION: dict[str, t.Any] = {
    "prefix": {"type": "str", "required": True},
    "type": {"type": "str", "choices": ["readwrite", "read"], "default": "readwrite"},
}
ROLE: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "permissions": {"type": "list", "elements": "dict", "default": [], "options": PERMISSION},
}
USER: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "roles": {"type": "list", "elements": "str", "default": []},
}
ARGUMENTS: dict[str, t.Any] = {
    **etcd_arguments(),
    "root_password": {"type": "str", "required": True, "no_log": True},
    "users": {"type": "list", "elements": "dict", "default": [], "options": USER},
    "roles": {"type": "list", "elements": "dict", "default": [], "options": ROLE},
    "enabled": {"type": "bool", "default": True},
}


def run(params: dict[str, t.Any], check_mode: bool) -> AuthOutcome:
    wish = auth_wish(params["users"], params["roles"], params["enabled"], params["root_password"])
    if isinstance(wish, Refuse):
        raise Refused(wish)
    service = AuthService(
        [GatewayTransport(params, url) for url in (params["url"], *params["urls"])],
        {ROOT: params["root_password"], **{user["name"]: user["password"] for user in params["users"]}},
        (params["username"], params["password"]) if params["username"] else None,
        SystemClock(),
        params["timeout"],
        params["poll_interval"],
        check_mode,
    )
    return service.reconcile(wish)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **etcd_rules())
    try:
        result = run(module.params, module.check_mode).as_result()
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
