#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: odoo_probe
short_description: Work like a user of Odoo for a while, and measure how long he could not
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Logs in and writes a draft entry into the ledger, again and again, each time as somebody who has just arrived, while
    something is done to the site. Returns for how long nobody could, in RV(outage_seconds).
  - The drafts carry O(reference), are never posted, and are deleted at the end, which no sequence notices.
  - It reaches Odoo over HTTPS as a browser does, by O(address) if the name does not lead there.
  - Without O(seconds) it only tries once that all of this works.
attributes:
  check_mode:
    support: full
    description: Logs in and looks for the journal, and writes nothing.
  diff_mode:
    support: none
    description: What is written is deleted again.
  idempotent:
    support: none
    description: It measures.
options:
  domain:
    description: Name of the site.
    type: str
    required: true
  address:
    description: Address to connect to, for example the virtual one. Empty means what the name resolves to.
    type: str
    default: ""
  port:
    description: Port of HTTPS.
    type: int
    default: 443
  ca_path:
    description: File on the host with the CA of the site's certificate. Empty means the system's.
    type: path
    default: ""
  database:
    description: Name of Odoo's database.
    type: str
    required: true
  login:
    description: Login of a user who may write draft entries.
    type: str
    required: true
  password:
    description: His password.
    type: str
    required: true
  reference:
    description: What the drafts carry as their reference. It should be unlike that of any other entry.
    type: str
    required: true
  seconds:
    description: For how long to work. 0 only tries once.
    type: float
    default: 0.0
  interval:
    description: Seconds from the beginning of one attempt to that of the next, or until it is over.
    type: float
    default: 0.25
  timeout:
    description: Seconds that a single connection may be silent.
    type: float
    default: 60.0
"""

EXAMPLES = r"""
- name: Measure while something is done
  dedicated.odoo.odoo_probe:
    domain: erp.example.com
    address: 192.0.2.10
    database: odoo
    login: admin
    password: "{{ odoo_admin_password }}"
    reference: rehearsal-2026-11-22
    seconds: 60
  async: 300
  poll: 0
  register: probe
"""

RETURN = r"""
msg:
  description: What a user noticed.
  returned: always
  type: str
outage_seconds:
  description: The longest time from the end of one good attempt to the end of the next.
  returned: success with O(seconds)
  type: float
tries:
  description: How often it was tried.
  returned: success with O(seconds)
  type: int
tries_failed:
  description: How often it failed.
  returned: success with O(seconds)
  type: int
usual_seconds:
  description: Median time of a good attempt, null when there was none.
  returned: success with O(seconds)
  type: float
longest_seconds:
  description: Longest time of a good attempt.
  returned: success with O(seconds)
  type: float
back:
  description: Whether the last attempt was good.
  returned: success with O(seconds)
  type: bool
errors:
  description: Different errors, five at most.
  returned: success with O(seconds)
  type: list
  elements: str
left:
  description: Whether drafts may be left, because the site did not answer when they were to be deleted.
  returned: success with O(seconds)
  type: bool
code:
  description: Stable name of the reason for an error, such as V(not_logged_in), V(no_journal), V(bad_ca),
    V(odoo_error), V(http_status), V(unreachable).
  returned: failure
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._probe.io import Site
from ansible_collections.dedicated.odoo.plugins.module_utils._probe.service import (
    ProbeService,
)

ARGUMENTS: dict[str, t.Any] = {
    "domain": {"type": "str", "required": True},
    "address": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 443},
    "ca_path": {"type": "path", "default": ""},
    "database": {"type": "str", "required": True},
    "login": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "reference": {"type": "str", "required": True},
    "seconds": {"type": "float", "default": 0.0},
    "interval": {"type": "float", "default": 0.25},
    "timeout": {"type": "float", "default": 60.0},
}


def probe(params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """What the module was asked for."""

    def arrive() -> Site:
        return Site(params["domain"], params["address"], params["port"], params["ca_path"], params["timeout"])

    service = ProbeService(
        arrive, SystemClock(), params["login"], params["password"], params["database"], params["reference"]
    )
    journal = service.ready()
    if check_mode or not params["seconds"]:
        return {"msg": f"{params['login']} can log in at {params['domain']} and write into journal {journal}"}
    seen = service.run(journal, params["seconds"], params["interval"])
    try:
        service.tidy()
        left = False
    except (DedicatedError, OSError):
        left = True
    said = f"nobody could work for {seen.outage:.1f} s; {seen.failed} of {seen.attempts} attempts failed"
    return {"msg": said, "left": left, **seen.as_result()}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = probe(module.params, module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    except OSError as exc:
        module.fail_json(msg=f"{module.params['domain']}: {exc}", code="unreachable", exception=exc)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
