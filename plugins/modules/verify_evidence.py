#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_evidence
short_description: Judge copies of the record of operations
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Reads copies of the record and says of each whether it is whole. Changes nothing, and does not fail because of what
    it finds. RV(ok) tells.
  - "Problems have stable codes: C(bad_json), C(bad_hash), C(broken_link), C(gap), C(reordered), C(duplicate),
    C(other_chain), C(unfinished_line), C(empty); against O(anchors) also C(differs) and C(truncated); of signatures
    C(missing_signature), C(unsigned), C(unknown_key) and C(bad_signature)."
  - Any edit, insertion, deletion or reordering shows in a copy alone, save one. Records that were taken off the end
    leave a chain that is whole, and only a longer copy shows it.
  - A copy that is shorter than others is behind, which is no problem, unless it is O(complete).
  - Whoever can write every copy can write another history with hashes to fit; signatures prevent that. They are checked
    on the controller, by the library cryptography, from what the host returns; hosts need nothing. A record without
    one after a signed one is a problem also without O(public_keys).
options:
  path:
    description: A file on the host, or a directory whose C(*.jsonl) are judged. When there is none, nothing is found
      and nothing is wrong.
    type: path
  controller:
    description: Judge the record that the controller keeps of this cluster (variable C(dedicated_cluster)), on the
      controller. Implies O(complete). Either this or O(path) is needed.
    type: bool
    default: false
  anchors:
    description: Records that were seen elsewhere, above all the last ones of other copies.
    type: list
    elements: dict
    default: []
    suboptions:
      chain:
        description: The chain.
        type: str
        required: true
      seq:
        description: Number of the record.
        type: int
        required: true
      hash:
        description: Its hash.
        type: str
        required: true
      where:
        description: Where it was seen, for messages.
        type: str
        default: ""
  where:
    description: What this place is called in RV(heads).
    type: str
    default: ""
  complete:
    description: Whether these copies are the ones that all others come from, so that none may be longer.
    type: bool
    default: false
  public_keys:
    description: Public Ed25519 keys (PEM texts) of whoever may sign records; several while a key is replaced, and for
      what older ones signed. Without them no signature is checked.
    type: list
    elements: str
  require_signature:
    description: Whether a copy without any signature is a problem. Needs O(public_keys).
    type: bool
    default: false
  signatures:
    description: Whether to return all signatures for the check on the controller. Set by the action itself.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: This module does not modify state.
  diff_mode:
    support: N/A
    description: This module does not modify state.
  idempotent:
    support: full
    description: This module does not modify state.
seealso:
  - module: dedicated.odoo.evidence_record
"""

EXAMPLES = r"""
- name: The copies on this host
  dedicated.odoo.verify_evidence:
    path: /var/lib/dedicated/evidence
  become: true
  register: copies

- name: The controller's copy
  dedicated.odoo.verify_evidence:
    controller: true
  run_once: true

- name: The copies on this host, and who signed them
  dedicated.odoo.verify_evidence:
    path: /var/lib/dedicated/evidence
    public_keys: "{{ evidence_public_keys }}"
    require_signature: true
  become: true

- name: A copy against a head that was written down
  dedicated.odoo.verify_evidence:
    path: /srv/archive/acme.jsonl
    complete: true
    anchors:
      - {chain: 6f0c1d6a0ce04f1d8d8b9a35c2f1b7aa, seq: 412, hash: "{{ head }}", where: the auditor's note}
"""

RETURN = r"""
ok:
  description: Whether every copy is whole and none contradicts O(anchors).
  returned: success
  type: bool
copies:
  description: The copies that were found.
  returned: success
  type: list
  elements: dict
  contains:
    file:
      description: Path of the copy.
      type: str
    chain:
      description: The chain, a random name that its first record gave it.
      type: str
    records:
      description: How many sound records there are.
      type: int
    runs:
      description: How many runs they tell of.
      type: int
    head:
      description: The last sound record as C(chain), C(seq) and C(hash), or an empty mapping.
      type: dict
    signed:
      description: How many records are signed.
      type: int
    signed_from:
      description: Number of the first that is; 0 when none is.
      type: int
    signers:
      description: Names of the keys that signed, the first 16 hexadecimal digits of SHA-256 over a public key's DER.
      type: list
      elements: str
    checked:
      description: Whether every signature was held against O(public_keys).
      type: bool
    behind:
      description: By how many records the longest of O(anchors) is ahead.
      type: int
    ok:
      description: Whether nothing is wrong with it.
      type: bool
    problems:
      description: What is wrong, each as C(code), C(line) (0 means the copy as a whole) and C(what).
      type: list
      elements: dict
    unfinished:
      description: Runs without an end, each as C(run), C(since), C(operator) and C(playbook). They were cut off, or are
        still going on.
      type: list
      elements: dict
heads:
  description: The last record of each copy, as O(anchors) for looking at another place.
  returned: success
  type: list
  elements: dict
absent:
  description: Chains of O(anchors) of which there is no copy here, each as C(chain), C(records) and C(where).
  returned: success
  type: list
  elements: dict
summary:
  description: All of it in lines for a person.
  returned: success
  type: list
  elements: str
code:
  description: Stable name of the reason for an error.
  returned: failure
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import service
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence.plan import (
    Anchor,
)

ANCHOR: dict[str, t.Any] = {
    "chain": {"type": "str", "required": True},
    "seq": {"type": "int", "required": True},
    "hash": {"type": "str", "required": True},
    "where": {"type": "str", "default": ""},
}
ARGUMENTS: dict[str, t.Any] = {
    "path": {"type": "path"},
    "controller": {"type": "bool", "default": False},
    "anchors": {"type": "list", "elements": "dict", "options": ANCHOR, "default": []},
    "where": {"type": "str", "default": ""},
    "complete": {"type": "bool", "default": False},
    "public_keys": {"type": "list", "elements": "str", "no_log": False},
    "require_signature": {"type": "bool", "default": False},
    "signatures": {"type": "bool", "default": False},
}


RULES: dict[str, t.Any] = {
    "required_if": [("controller", False, ["path"]), ("require_signature", True, ["public_keys"])],
    "mutually_exclusive": [("path", "controller")],
}


def anchors_of(given: list[dict[str, t.Any]]) -> list[Anchor]:
    """The argument as values."""
    return [Anchor(one["chain"], one["seq"], one["hash"], one["where"]) for one in given]


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **RULES)
    params = module.params
    if params["controller"]:
        module.fail_json(msg="The controller's copy is judged by the action dedicated.odoo.verify_evidence; use that.")
    anchors = anchors_of(params["anchors"])
    try:
        found = service.verify(
            params["path"],
            anchors,
            params["complete"],
            params["where"],
            params["require_signature"],
            params["signatures"],
        )
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
