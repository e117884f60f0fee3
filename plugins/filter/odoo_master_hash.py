# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hash that Odoo keeps of its database-manager password."""

from __future__ import annotations

import base64
import hashlib
import typing as t

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: odoo_master_hash
short_description: Hash Odoo's database-manager password
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns the PBKDF2-SHA512 hash, in passlib's notation, that Odoo accepts as C(admin_passwd).
  - The same password and salt give the same hash, so that a second run changes nothing.
options:
  _input:
    description: The password, 16 characters or more.
    type: str
    required: true
  salt:
    description: A text that is different for every customer, 16 characters or more, and tells nothing of the password.
    type: str
    required: true
  rounds:
    description: Rounds of PBKDF2; Odoo 19 itself uses 600000 (C(MIN_ROUNDS) of its res.users).
    type: int
    default: 600000
"""

EXAMPLES = r"""
- name: Show the hash
  ansible.builtin.debug:
    msg: "{{ odoo_master_password | dedicated.odoo.odoo_master_hash(salt=some_random_secret) }}"
"""

RETURN = r"""
_value:
  description: The hash, C($pbkdf2-sha512$600000$salt$checksum).
  type: str
"""


def _ab64(data: bytes) -> str:
    """passlib's base64: dots for plus signs, no padding."""
    return base64.b64encode(data).decode().rstrip("=").replace("+", ".")


def odoo_master_hash(password: t.Any, salt: t.Any, rounds: int = 600_000) -> str:
    """``password`` as Odoo's admin_passwd."""
    for name, value in (("password", password), ("salt", salt)):
        if not isinstance(value, str) or len(value) < 16:
            raise AnsibleFilterError(f"odoo_master_hash: the {name} must be a text of 16 characters or more")
    short = hashlib.sha256(salt.encode()).digest()[:16]
    checksum = hashlib.pbkdf2_hmac("sha512", password.encode(), short, int(rounds))
    return f"$pbkdf2-sha512${rounds}${_ab64(short)}${_ab64(checksum)}"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"odoo_master_hash": odoo_master_hash}
