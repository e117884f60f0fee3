#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_record
short_description: Put facts into the record of operations, and keep the record on a host
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - With O(facts), hands them to the callback P(dedicated.odoo.evidence#callback), which writes them into the record on
    the controller. No connection is opened.
  - Without, sends the host what it lacks of the controller's record of this cluster (variable C(dedicated_cluster)).
    The host only adds, and only what continues its copy. Each chain is a file of its own there, so that several
    controllers do not mix.
  - "Refused with a stable code: C(chain_fork), the host's copy and the controller's contradict each other;
    C(chain_ahead), the host has records that the controller lacks; C(chain_gap), records in between are missing;
    C(chain_broken), a copy is not whole; C(bad_record), what was sent is no sound record; C(evidence_file), a file
    cannot be read or written."
  - Never reports a change. The record grows with every run, also with one that changes nothing.
options:
  facts:
    description:
      - What an operation planned, found before and after, and measured, as plain data. Secrets do not belong here;
        values under names like C(password) or C(token) are left out.
    type: dict
  directory:
    description: Where the host keeps its copies. It is made with mode 0700, its files with 0600.
    type: path
    default: /var/lib/dedicated/evidence
  chain:
    description: The chain that O(records) belong to. Set by the action itself.
    type: str
  cluster:
    description: The cluster that the record is about. A host that belongs to another one, or to none yet, keeps nothing
      of it. Set by the action itself.
    type: str
    default: ""
  cluster_file:
    description: File on the host that names its cluster.
    type: path
    default: /etc/dedicated/cluster
  records:
    description: Lines of the record, in their order. Set by the action itself.
    type: list
    elements: str
attributes:
  check_mode:
    support: full
    description: Nothing is written on the host.
  diff_mode:
    support: none
    description: Nothing of the platform is changed.
  idempotent:
    support: full
    description: Records that the host has are not added again.
seealso:
  - plugin: dedicated.odoo.evidence
    plugin_type: callback
  - module: dedicated.odoo.verify_evidence
"""

EXAMPLES = r"""
- name: What was measured
  dedicated.odoo.evidence_record:
    facts:
      operation: switchover
      planned: {from: node1, to: node2}
      measured: {write_stall_seconds: 2.1}
  run_once: true

- name: Keep the record on this host
  dedicated.odoo.evidence_record:
  become: true
"""

RETURN = r"""
evidence:
  description: The facts, as the callback takes them.
  returned: with O(facts)
  type: dict
chain:
  description: The chain that was kept. Empty when this controller has no record of the cluster.
  returned: success, without O(facts)
  type: str
stranger:
  description: Whether the host keeps nothing, because it does not belong to this cluster, or not yet.
  returned: when it is so
  type: bool
added:
  description: How many records the host lacked. In check mode, how many it lacks.
  returned: success, without O(facts)
  type: int
head:
  description: The last record of the host's copy, or an empty mapping.
  returned: success, without O(facts)
  type: dict
  contains:
    chain:
      description: The chain.
      type: str
    seq:
      description: Number of the record.
      type: int
    hash:
      description: Its hash, which stands for all records before it.
      type: str
code:
  description: Stable name of the reason for a refusal or an error.
  returned: failure
  type: str
refusal:
  description: The refusal in parts, C(code), C(what), C(why) and C(do).
  returned: refusal
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import io, service

ARGUMENTS: dict[str, t.Any] = {
    "facts": {"type": "dict"},
    "directory": {"type": "path", "default": "/var/lib/dedicated/evidence"},
    "chain": {"type": "str"},
    "cluster": {"type": "str", "default": ""},
    "cluster_file": {"type": "path", "default": "/etc/dedicated/cluster"},
    # No secret, but the host's journal need not repeat the record.
    "records": {"type": "list", "elements": "str", "no_log": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    chain = params["chain"]
    if not chain:
        module.fail_json(msg="This module is the host's half of the action dedicated.odoo.evidence_record; use that.")
    belongs = io.cluster_of_host(params["cluster_file"])
    if belongs != params["cluster"]:
        why = f"it belongs to cluster {belongs}" if belongs else "it belongs to no cluster yet"
        msg = f"Nothing is kept here: {why}."
        module.exit_json(changed=False, chain=chain, added=0, head={}, stranger=True, msg=msg)
    try:
        path = service.host_path(params["directory"], chain)
        head, added = service.keep(io.FileStore(path), params["records"] or [], path, module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(changed=False, chain=chain, added=added, head=head.as_result() if head else {})


if __name__ == "__main__":
    main()
