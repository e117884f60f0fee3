# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What PostgreSQL keeps of a password, computed here, so that the server never sees the password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import typing as t

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: postgres_scram
short_description: SCRAM-SHA-256 verifier of a PostgreSQL password
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns the verifier that PostgreSQL stores (C(pg_authid.rolpassword)) and accepts in place of a password.
  - A statement with the password itself would be kept in clear by logs and by C(pg_stat_statements).
  - The same password and salt give the same verifier, so that a second run changes nothing.
options:
  _input:
    description: The password, 16 printable ASCII characters or more (others would need SASLprep).
    type: str
    required: true
  salt:
    description: A text that differs by customer and role, 16 characters or more, and tells nothing of the password.
    type: str
    required: true
  iterations:
    description: Iterations; 4096 is PostgreSQL's own default (C(scram_iterations)).
    type: int
    default: 4096
"""

EXAMPLES = r"""
- name: A role whose password the server never sees
  community.postgresql.postgresql_user:
    name: odoo
    password: "{{ odoo_db_password | dedicated.odoo.postgres_scram(salt=some_random_secret) }}"
"""

RETURN = r"""
_value:
  description: The verifier, C(SCRAM-SHA-256$4096:salt$stored:server), as in RFC 5803.
  type: str
"""


def postgres_scram(password: t.Any, salt: t.Any, iterations: int = 4096) -> str:
    """The verifier of ``password``."""
    for name, value in (("password", password), ("salt", salt)):
        if not isinstance(value, str) or len(value) < 16:
            raise AnsibleFilterError(f"postgres_scram: the {name} must be a text of 16 characters or more")
    if not (password.isascii() and password.isprintable()):
        raise AnsibleFilterError("postgres_scram: the password must consist of printable ASCII characters")
    raw = hashlib.sha256(salt.encode()).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), raw, int(iterations))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    shown = [base64.b64encode(part).decode() for part in (raw, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{shown[0]}${shown[1]}:{shown[2]}"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"postgres_scram": postgres_scram}
