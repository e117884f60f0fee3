#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_rotate
short_description: The controller's next step when one internal authority takes the place of another
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Without O(hosts), tells of the host whom it trusts, and who has signed the certificates that lie there. Changes
    nothing.
  - "With O(hosts), on the controller, takes the one step that their state allows: makes the successor, from when on
    both are trusted; lets the successor sign; lets only the successor be trusted. The hosts learn of each step by
    C(site.yml), which also has every service read it. Playbook C(rotate_ca) does all in turn."
  - What lies in O(ca_dir) tells how far it is, so that a run which was cut off is run again.
  - "Refused with a stable code: V(host-left-behind), hosts are not where the next step needs them; V(other-ca), a host
    shows a certificate of a third authority; V(ca-missing), V(ca-broken), V(wrong-passphrase), V(bad-input)."
options:
  ca_dir:
    description: The CA's home on the controller.
    type: path
    required: true
  ca_name:
    description: Common name of the successor.
    type: str
    default: ""
  ca_domains:
    description:
      - Names of DNS at or below which the successor may sign, as constraints in its own certificate. Empty for all.
      - Whoever gets hold of its key can then deceive nobody about other names, also where browsers trust it.
    type: list
    elements: str
    default: []
  passphrase:
    description: What opens the CA's key, the successor's, too. Required with O(hosts).
    type: str
  directory:
    description: Where certificates lie on the host.
    type: path
    default: /etc/dedicated/pki
  names:
    description: Names of the certificates that the host is to have. Required without O(hosts).
    type: list
    elements: str
    default: []
  hosts:
    description: Names of hosts with the registered results of this module without O(hosts). All of them.
    type: dict
  begin:
    description: Whether a successor is to be made, when none is under way.
    type: bool
    default: false
  sign:
    description: Whether the successor may begin to sign. Until then nobody shows a certificate of it.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Says which step would be taken.
  diff_mode:
    support: none
    description: Keys are secret; the result names the authorities.
  idempotent:
    support: partial
    description: Each run takes the next step, until there is none.
seealso:
  - module: dedicated.odoo.pki_certificates
"""

EXAMPLES = r"""
- name: Whom does this host trust, and who signed what it shows?
  dedicated.odoo.ca_rotate:
    ca_dir: "{{ pki_dir }}"
    names: [etcd, postgres]
  register: seen

- name: The next step
  dedicated.odoo.ca_rotate:
    ca_dir: "{{ pki_dir }}"
    ca_name: "{{ dedicated_cluster }} internal CA"
    passphrase: "{{ pki_ca_passphrase }}"
    hosts: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'seen'))) }}"
    begin: true
  run_once: true
"""

RETURN = r"""
trusts:
  description: Fingerprints of those whom every certificate's C(ca.pem) on the host holds.
  returned: without O(hosts)
  type: list
  elements: str
signers:
  description: Fingerprints of the controller's authorities that signed them, V(unknown) for another.
  returned: without O(hosts)
  type: list
  elements: str
sans:
  description: Names in them.
  returned: without O(hosts)
  type: list
  elements: str
step:
  description: The step that was taken, V(prepare), V(promote) or V(settle). Empty when there is none left.
  returned: with O(hosts)
  type: str
phase:
  description: Where it stands now, V(settled), V(trusting) or V(issuing).
  returned: with O(hosts)
  type: str
authorities:
  description: Fingerprints of all that are trusted now; the first one signs.
  returned: with O(hosts)
  type: list
  elements: str
code:
  description: Stable name of the reason for a refusal.
  returned: refusal
  type: str
refusal:
  description: The refusal in parts, C(code), C(what), C(why) and C(do).
  returned: refusal
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._pki.io import Files
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.service import CA, CERT

ARGUMENTS: dict[str, t.Any] = {
    "ca_dir": {"type": "path", "required": True},
    "ca_name": {"type": "str", "default": ""},
    "ca_domains": {"type": "list", "elements": "str", "default": []},
    "passphrase": {"type": "str", "no_log": True},
    "directory": {"type": "path", "default": "/etc/dedicated/pki"},
    "names": {"type": "list", "elements": "str", "default": []},
    "hosts": {"type": "dict"},
    "begin": {"type": "bool", "default": False},
    "sign": {"type": "bool", "default": True},
}


def look(directory: str, names: t.Sequence[str]) -> list[dict[str, str]]:
    """The texts; the controller judges them."""
    files = Files(directory)
    found = []
    for name in names:
        cert, ca = files.read(f"{name}/{CERT}"), files.read(f"{name}/{CA}")
        found.append({"name": name, "cert": "" if cert is None else cert.text, "ca": "" if ca is None else ca.text})
    return found


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, found=look(module.params["directory"], module.params["names"]))


if __name__ == "__main__":
    main()
