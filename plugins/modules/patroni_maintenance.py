#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_maintenance
short_description: Pause Patroni for a while, so that nobody has to remember to end it
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - While Patroni is paused it promotes nobody and restarts nothing, whatever happens.
  - A pause always has an end, an operator and a reason, which stand in the cluster's own configuration beside the pause
    and are shown to whoever asks next. Pausing again renews the end.
  - Each host that this runs on gets a timer of its own systemd, C(dedicated-patroni-resume.timer), which ends the pause
    although nobody runs Ansible any more, after a reboot too. Patroni is not paused before the timer was seen.
  - Run it on the hosts of all members, so that one that is down at the end is no matter. The first pauses, all lay
    their timer down.
  - It is a module of its own because it acts on the host that it runs on, which M(dedicated.odoo.patroni_member) does
    not.
extends_documentation_fragment:
  - dedicated.odoo.patroni
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Shows the pause and the timer before and after.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    details:
      - Pausing again later than some ninety seconds after renews the end.
options:
  urls:
    description: Addresses of further members, asked in this order when O(url) does not answer.
    type: list
    elements: str
    default: []
  state:
    description: Whether Patroni is to be paused. V(resumed) also removes the timer from this host.
    type: str
    choices: [paused, resumed]
    required: true
  operator:
    description: Who asks for it, one line.
    type: str
    required: true
  reason:
    description: Why, one line. Required for O(state=paused). Everybody who reaches Patroni's port can read it.
    type: str
  minutes:
    description: How long the pause lasts at most, from 5 to 1440, counted from now.
    type: int
    default: 60
  force:
    description: Take over a pause by another operator for another reason, or one that was made by hand.
    type: bool
    default: false
notes:
  - The timer's script enters the container C(postgres) and uses what is in Patroni's own file there. No password is
    copied.
  - Needs root, systemd, C(docker) and C(flock) on the host.
  - A pause that was ended by C(patronictl resume) leaves the timers and the record behind. Both do nothing then, the
    timers remove themselves after their time, and O(state=resumed) removes all of it.
seealso:
  - module: dedicated.odoo.patroni_cluster_info
"""

EXAMPLES = r"""
- name: Nobody is promoted for half an hour
  dedicated.odoo.patroni_maintenance:
    url: "https://{{ dedicated_address }}:8008"
    ca_path: /etc/dedicated/pki/postgres/ca.pem
    client_cert: /etc/dedicated/pki/postgres/cert.pem
    client_key: /etc/dedicated/pki/postgres/key.pem
    username: patroni
    password: "{{ postgres_rest_password }}"
    state: paused
    operator: alice
    reason: storage of node2 is replaced, CHG-1234
    minutes: 30

- name: It is over
  dedicated.odoo.patroni_maintenance:
    url: "https://{{ dedicated_address }}:8008"
    ca_path: /etc/dedicated/pki/postgres/ca.pem
    client_cert: /etc/dedicated/pki/postgres/cert.pem
    client_key: /etc/dedicated/pki/postgres/key.pem
    username: patroni
    password: "{{ postgres_rest_password }}"
    state: resumed
    operator: alice
"""

RETURN = r"""
msg:
  description: What is now, or why nothing was done.
  returned: always
  type: str
plan:
  description: The changes in their order, those of check mode included.
  returned: success
  type: list
  elements: str
paused:
  description: Whether Patroni is paused.
  returned: success
  type: bool
operator:
  description: Who paused it, null when it is not paused or was paused by hand.
  returned: success
  type: str
reason:
  description: Why it is paused.
  returned: success
  type: str
since:
  description: When the pause began, in UTC.
  returned: success
  type: str
  sample: "2026-01-31T21:30:12Z"
until:
  description: When it ends by itself, in UTC.
  returned: success
  type: str
  sample: "2026-01-31T22:31:00Z"
aware:
  description: Members that say themselves what RV(paused) says.
  returned: success
  type: list
  elements: str
silent:
  description: Members that Patroni knows and that gave no answer.
  returned: success
  type: list
  elements: str
before:
  description: RV(paused), RV(operator), RV(reason), RV(since), RV(until), and the end that the timer of this host has
    (C(timer), null when there is no sound one), as they were. With a refusal they are how things are.
  returned: success, or when it was refused
  type: dict
after:
  description: The same afterwards.
  returned: success
  type: dict
code:
  description: Stable name of the reason for a refusal or an error. V(bad_text), V(bad_expiry), V(paused_by_another),
    V(paused_by_hand), V(timer_not_seen), V(timer_lost), V(systemctl_failed), V(patch_refused), V(deadline).
  returned: failure
  type: str
  sample: paused_by_another
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
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import (
    SubprocessRunner,
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
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.maintenance_io import (
    SystemdHost,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.maintenance_plan import (
    Wish,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.maintenance_service import (
    MaintenanceService,
)

ARGUMENTS: dict[str, t.Any] = {
    **patroni_arguments(),
    "urls": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["paused", "resumed"], "required": True},
    "operator": {"type": "str", "required": True},
    "reason": {"type": "str"},
    "minutes": {"type": "int", "default": 60},
    "force": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "paused", ["reason"])],
        **patroni_rules(),
    )
    params = module.params
    service = MaintenanceService(
        [RestTransport(params, url) for url in (params["url"], *params["urls"])],
        lambda url: RestTransport(params, url),
        SystemdHost(SubprocessRunner()),
        SystemClock(),
        params["timeout"],
        params["poll_interval"],
    )
    wish = Wish(params["state"], params["operator"], params["reason"] or "", params["minutes"], params["force"])
    try:
        result = service.reconcile(wish, module.check_mode).as_result()
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
