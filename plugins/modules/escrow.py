#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: escrow
short_description: What is needed to read backups, sealed for keepers elsewhere
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Seals the configuration of pgBackRest, with passphrases and credentials, and the run's vault password into one file,
    which each of several keepers can open alone; and opens it again, to restore with what is in it.
  - "No collection is needed to open it: C(openssl cms -decrypt -inform PEM -inkey keeper.key -in escrow.pem | base64 -d
    | tar xz)."
  - An action on the controller; hosts are not asked. Returns secrets with V(opened), so register it with C(no_log).
options:
  state:
    description:
      - V(sealed) writes the file.
      - V(opened) returns what is in it.
      - V(proven) opens a copy of the site that came out of a backup with the vault password that is in it.
    type: str
    choices: [sealed, opened, proven]
    required: true
  path:
    description: The file, on the controller.
    type: path
    required: true
  cluster:
    description: Of which cluster it is. One of another cluster is not opened.
    type: str
    required: true
  keepers:
    description: Paths of the keepers' certificates (PEM, of RSA or EC keys) on the controller.
    type: list
    elements: path
  files:
    description: Names of files with their content in base64.
    type: dict
  about:
    description: What is noted in it, besides.
    type: dict
    default: {}
  site_passphrase:
    description: What seals copies of the site (module site_copy) where it is not the run's vault password.
    type: str
  key:
    description: Path of a keeper's key on the controller.
    type: path
  key_passphrase:
    description: What opens that key.
    type: str
  copy:
    description: The copy of a site, C(site.vault) of module site_copy, in base64.
    type: str
attributes:
  check_mode:
    support: full
    description: Seals, and writes nothing.
  diff_mode:
    support: none
    description: Its content is secret.
  idempotent:
    support: partial
    description: Each V(sealed) writes another file of the same content.
seealso:
  - module: dedicated.odoo.site_copy
  - module: dedicated.odoo.pgbackrest_restore
"""

EXAMPLES = r"""
- name: What keepers are given
  dedicated.odoo.escrow:
    state: sealed
    path: acme-escrow.pem
    cluster: acme
    keepers: [keeper-a.pem, keeper-b.pem]
    files: {pgbackrest.conf: "{{ __conf.content }}"}
"""

RETURN = r"""
sha256:
  description: Digest of the file, in hexadecimal.
  returned: with V(sealed)
  type: str
keepers:
  description: SHA-256 fingerprints of the keepers' certificates.
  returned: with V(sealed)
  type: list
  elements: str
names:
  description: Names of the files in it.
  returned: with V(sealed)
  type: list
  elements: str
about:
  description: What was noted in it.
  returned: with V(opened) and V(proven)
  type: dict
files:
  description: Names of files with their content in base64. Secret.
  returned: with V(opened)
  type: dict
proven:
  description: Names of the files in the copy of the site.
  returned: with V(proven)
  type: list
  elements: str
code:
  description:
    - Why it was refused, V(no-keeper), V(keeper-ended), V(no-secret), V(no-files), V(not-sealed), V(not-written),
      V(no-file), V(not-opened), V(no-escrow), V(other-cluster), V(password-does-not-fit), V(no-openssl).
  returned: refusal
  type: str
refusal:
  description: The refusal in parts, C(code), C(what), C(why) and C(do).
  returned: refusal
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["sealed", "opened", "proven"], "required": True},
    "path": {"type": "path", "required": True},
    "cluster": {"type": "str", "required": True},
    "keepers": {"type": "list", "elements": "path"},
    "files": {"type": "dict", "no_log": True},
    "about": {"type": "dict", "default": {}},
    "site_passphrase": {"type": "str", "no_log": True},
    "key": {"type": "path", "no_log": False},
    "key_passphrase": {"type": "str", "no_log": True},
    "copy": {"type": "str", "no_log": True},
}
RULES: dict[str, t.Any] = {
    "required_if": [
        ("state", "sealed", ["keepers", "files"]),
        ("state", "opened", ["key"]),
        ("state", "proven", ["key", "copy"]),
    ]
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **RULES)
    module.fail_json(msg="This module runs on the controller, as the action dedicated.odoo.escrow; use that.")


if __name__ == "__main__":
    main()
