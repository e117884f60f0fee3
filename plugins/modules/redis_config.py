#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_config
short_description: Reconcile run-time settings of a Redis server or a Sentinel in a container
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Compares settings with those of the running server, sets what differs in one command, and writes its configuration.
  - Redis and Sentinel rewrite their configuration files themselves, so their files are seeded once and never templated
    again. This module is how later changes arrive.
  - Two spellings of one value, such as V(256mb) and V(268435456), do not differ.
  - Talks to the server by C(redis-cli) inside the container. No password and no value is part of an argument list.
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Returns details on what has changed, with secret values withheld.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    details:
      - O(acl_load) and O(sentinel_apply_secrets) report a change each time, because the server does not show what it
        has.
options:
  container:
    description: Name of the container.
    type: str
    required: true
  cli:
    description: Name of the client program in the container.
    type: str
    choices: [redis-cli, valkey-cli]
    default: redis-cli
  host:
    description: Address of the server as seen from inside the container.
    type: str
    default: 127.0.0.1
  port:
    description: Port of the server.
    type: int
    default: 6379
  tls:
    description: Whether to connect with TLS.
    type: bool
    default: true
  tls_cert:
    description: Client certificate inside the container.
    type: str
    default: /etc/dedicated/pki/redis/cert.pem
  tls_key:
    description: Key of O(tls_cert) inside the container.
    type: str
    default: /etc/dedicated/pki/redis/key.pem
  tls_ca:
    description: Certificate of the authority inside the container.
    type: str
    default: /etc/dedicated/pki/redis/ca.pem
  username:
    description: ACL user to log in as.
    type: str
  password:
    description: Password of O(username).
    type: str
  settings:
    description: Settings by name, as in C(CONFIG SET). With O(sentinel_master), as in C(SENTINEL CONFIG SET).
    type: dict
    default: {}
  secret_settings:
    description: Further O(settings) whose values are secrets and never shown.
    type: dict
    default: {}
  sentinel_master:
    description: Name of the master that a Sentinel watches. Required when the server is a Sentinel.
    type: str
  sentinel_settings:
    description:
      - Options of the master, as in C(SENTINEL SET).
      - Possible are V(down-after-milliseconds), V(failover-timeout), V(parallel-syncs) and V(quorum), which can be
        read back.
    type: dict
    default: {}
  sentinel_secret_settings:
    description: Options of the master that cannot be read back, such as V(auth-user) and V(auth-pass).
    type: dict
    default: {}
  sentinel_apply_secrets:
    description: Whether to set O(sentinel_secret_settings). Give the condition under which they have changed.
    type: bool
    default: false
  acl_load:
    description: Whether to make the server read its ACL file again.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the server to answer.
    type: float
    default: 30.0
  poll_interval:
    description: Seconds between two attempts.
    type: float
    default: 1.0
notes:
  - In check mode a server that does not answer is one that does not exist yet, and all settings are reported as
    changes.
"""

EXAMPLES = r"""
- name: Reconcile the server
  dedicated.odoo.redis_config:
    container: redis
    host: "{{ dedicated_address }}"
    username: admin
    password: "{{ redis_admin_password }}"
    settings:
      maxmemory: 256mb
      appendonly: true
    secret_settings:
      masterauth: "{{ redis_replication_password }}"

- name: Reconcile the Sentinel
  dedicated.odoo.redis_config:
    container: sentinel
    host: "{{ dedicated_address }}"
    port: 26379
    username: admin
    password: "{{ redis_admin_password }}"
    sentinel_master: odoo
    sentinel_settings:
      down-after-milliseconds: 5000
      quorum: 2
"""

RETURN = r"""
msg:
  description: Whether something differed.
  returned: always
  type: str
reachable:
  description: Whether the server answered. False is possible in check mode only.
  returned: success
  type: bool
role:
  description: Role of the server, one of V(master), V(slave) and V(sentinel).
  returned: success
  type: str
before:
  description: Settings that differed, as they were.
  returned: success
  type: dict
after:
  description: Settings that differed, as they are now or would be in check mode.
  returned: success
  type: dict
rewritten:
  description: Whether the server wrote its configuration file.
  returned: success
  type: bool
acl_loaded:
  description: Whether the ACL file was read again, or would be in check mode.
  returned: success
  type: bool
code:
  description: Stable name of the reason for a refusal or an error.
  returned: failure
  type: str
  sample: unknown_setting
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
    Refuse,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import (
    SubprocessRunner,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.io import (
    DockerConnection,
    Target,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.plan import (
    Setting,
    settings,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.service import (
    RedisService,
    Wish,
)

PKI = "/etc/dedicated/pki/redis"
ARGUMENTS: dict[str, t.Any] = {
    "container": {"type": "str", "required": True},
    "cli": {"type": "str", "choices": ["redis-cli", "valkey-cli"], "default": "redis-cli"},
    "host": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int", "default": 6379},
    "tls": {"type": "bool", "default": True},
    "tls_cert": {"type": "str", "default": f"{PKI}/cert.pem"},
    "tls_key": {"type": "str", "default": f"{PKI}/key.pem", "no_log": False},
    "tls_ca": {"type": "str", "default": f"{PKI}/ca.pem"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "settings": {"type": "dict", "default": {}},
    "secret_settings": {"type": "dict", "default": {}, "no_log": True},
    "sentinel_master": {"type": "str"},
    "sentinel_settings": {"type": "dict", "default": {}},
    "sentinel_secret_settings": {"type": "dict", "default": {}, "no_log": True},
    "sentinel_apply_secrets": {"type": "bool", "default": False, "no_log": False},
    "acl_load": {"type": "bool", "default": False},
    "timeout": {"type": "float", "default": 30.0},
    "poll_interval": {"type": "float", "default": 1.0},
}


def accept(wanted: tuple[Setting, ...] | Refuse) -> tuple[Setting, ...]:
    """Settings, or their refusal as an error."""
    if isinstance(wanted, Refuse):
        raise Refused(wanted)
    return wanted


def wish(params: dict[str, t.Any]) -> Wish:
    """The parameters as what the service understands."""
    secrets = params["sentinel_secret_settings"] if params["sentinel_apply_secrets"] else {}
    if (params["sentinel_settings"] or secrets) and not params["sentinel_master"]:
        refusal = Refuse(
            "no_master",
            "settings of a master are given",
            "sentinel_master is not",
            "Name the master that they are for.",
        )
        raise Refused(refusal)
    return Wish(
        settings=accept(settings(params["settings"], params["secret_settings"])),
        master=params["sentinel_master"],
        master_settings=accept(settings(params["sentinel_settings"], {})),
        master_secrets=accept(settings({}, secrets)),
        acl_load=params["acl_load"],
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    target = Target(
        **{
            name: params[name]
            for name in (
                *("container", "cli", "host", "port", "username", "password"),
                *("tls", "tls_cert", "tls_key", "tls_ca"),
            )
        }
    )
    service = RedisService(
        DockerConnection(SubprocessRunner(), target),
        SystemClock(),
        f"{target.container} port {target.port}",
        params["timeout"],
        params["poll_interval"],
        module.check_mode,
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
