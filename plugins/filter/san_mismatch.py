# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: names that a certificate lacks, or has for nothing."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate import plan

DOCUMENTATION = r"""
name: san_mismatch
short_description: Names that a certificate lacks, and those that it has for nothing
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Compares the alternative names of a certificate with those that it should have. The common name does not count, as
    it counts for no client any more.
  - A wildcard of the certificate covers names of its one label, and is not superfluous if it covers any.
positional: _input, wanted
options:
  _input:
    description: One of the C(certificates) of M(dedicated.odoo.certificate_info).
    type: dict
    required: true
  wanted:
    description:
      - Names that it should have. V(dns:), V(ip:), V(uri:) or V(email:) may stand before each; without it what looks
        like an address is one, and all else is a name of DNS.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: The certificate is for exactly this site
  ansible.builtin.assert:
    that: (seen.certificates[0] | dedicated.odoo.san_mismatch(['erp.example.com', '192.0.2.10'])).matches
"""

RETURN = r"""
_value:
  description: The differences.
  type: dict
  contains:
    missing:
      description: Wanted names that the certificate is not for, with their kind, for example V(dns:erp.example.com).
      type: list
      elements: str
    superfluous:
      description: Names of the certificate that nobody wanted, with their kind.
      type: list
      elements: str
    matches:
      description: Whether both are empty.
      type: bool
"""


def san_mismatch(certificate: t.Any, wanted: t.Any) -> dict[str, t.Any]:
    """Which names differ; see DOCUMENTATION."""
    try:
        return plan.san_mismatch(certificate, wanted)
    except (TypeError, ValueError) as exc:
        raise AnsibleFilterError(f"bad-input: san_mismatch: {exc}") from exc


class FilterModule:
    """Entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Filters of this file."""
        return {"san_mismatch": san_mismatch}
