#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: odoo_drain
short_description: Take a host's Odoo out of the edges' choice, and put it back
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - With O(state=drained), the HAProxy before this host's Odoo answers the edges' health checks with no and serves
    everything else as before. The module waits until every edge has asked, and then for the requests under way.
  - With O(state=serving) the edges choose the host again.
  - The mark is HAProxy's own and expires there after five minutes; a restart of HAProxy ends it too. So a run that dies
    in between leaves no host out for good.
  - Requests that are still under way when O(timeout) is over are counted in RV(in_flight), and are not ended.
notes:
  - Websockets stay open. Browsers open them again elsewhere when Odoo goes.
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: none
    description: Nothing on the host's disk is changed.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
options:
  state:
    description: What is to be true of this host's Odoo.
    type: str
    choices: [drained, serving]
    required: true
  haproxy:
    description: HAProxy's admin socket on the host.
    type: path
    default: /run/dedicated/router/haproxy.sock
  settle:
    description: Seconds in which every edge asks at least once. An edge asks every second, and waits 2 s for an answer.
    type: float
    default: 3.2
  timeout:
    description: Seconds to wait for the requests under way.
    type: float
    default: 30.0
  poll_interval:
    description: Seconds between two looks.
    type: float
    default: 0.2
"""

EXAMPLES = r"""
- name: No new request to this host's Odoo
  dedicated.odoo.odoo_drain:
    state: drained

- name: The edges may choose it again
  dedicated.odoo.odoo_drain:
    state: serving
"""

RETURN = r"""
msg:
  description: What was done.
  returned: always
  type: str
in_flight:
  description: Requests that Odoo works on or that wait for it when the module ends.
  returned: success
  type: int
code:
  description: Stable name of the error, V(haproxy_silent), V(haproxy_odd) or V(haproxy_refused).
  returned: failure
  type: str
  sample: haproxy_odd
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._router.drain import (
    DrainService,
    HaproxyConsole,
)

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["drained", "serving"], "required": True},
    "haproxy": {"type": "path", "default": "/run/dedicated/router/haproxy.sock"},
    "settle": {"type": "float", "default": 3.2},
    "timeout": {"type": "float", "default": 30.0},
    "poll_interval": {"type": "float", "default": 0.2},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    service = DrainService(
        HaproxyConsole(params["haproxy"], 5.0),
        SystemClock(),
        params["settle"],
        params["timeout"],
        params["poll_interval"],
    )
    act = service.drain if params["state"] == "drained" else service.serve
    try:
        result = act(module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
