# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that every module speaking to Patroni has; ``_patroni/arguments.py`` is their specification."""

    DOCUMENTATION = r"""
options:
  url:
    description: Address of a member's REST API, for example V(https://192.0.2.11:8008).
    type: str
    required: true
  ca_path:
    description: Certificate of the authority that signed the member's certificate.
    type: path
  client_cert:
    description: Client certificate. Needs O(client_key).
    type: path
  client_key:
    description: Key of O(client_cert).
    type: path
  username:
    description: User of Patroni's REST API, sent with writing requests only. Needs O(password).
    type: str
  password:
    description: Password of O(username).
    type: str
  timeout:
    description: Seconds to wait for what the module waits for.
    type: float
    default: 30.0
  poll_interval:
    description: Seconds between two looks.
    type: float
    default: 1.0
"""
