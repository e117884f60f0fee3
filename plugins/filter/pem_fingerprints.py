# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: who is in a PEM text."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._pki import crypto

DOCUMENTATION = r"""
name: pem_fingerprints
short_description: The certificates of a PEM text by their SHA-256 fingerprints
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns the fingerprints in lower case and without colons, in an order that depends on the certificates alone.
positional: _input
options:
  _input:
    description: The text. What is no certificate in it is passed over.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Whom do hosts trust?
  ansible.builtin.debug:
    msg: "{{ lookup('ansible.builtin.file', pki_dir ~ '/ca.pem') | dedicated.odoo.pem_fingerprints }}"
"""

RETURN = r"""
_value:
  description: The fingerprints.
  type: list
  elements: str
"""


def pem_fingerprints(text: t.Any) -> list[str]:
    """The fingerprints of a PEM text."""
    if not isinstance(text, str):
        raise AnsibleFilterError(f"pem_fingerprints: a text is wanted, not {type(text).__name__}")
    return list(crypto.pem_fingerprints(text))


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"pem_fingerprints": pem_fingerprints}
