# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that every module speaking to etcd has; ``_etcd/arguments.py`` is their specification."""

    DOCUMENTATION = r"""
options:
  url:
    description: Client address of this host's own member, for example V(https://192.0.2.11:2379).
    type: str
    required: true
  urls:
    description: Client addresses of the other members. O(url) may be among them.
    type: list
    elements: str
    default: []
  ca_path:
    description: Certificate of the authority that signed the members' certificates.
    type: path
  client_cert:
    description:
      - Client certificate. Needs O(client_key).
      - It must not have a common name (CN) once authentication is enabled. etcd's gateway refuses every request that
        comes with one, logging in included.
    type: path
  client_key:
    description: Key of O(client_cert).
    type: path
  username:
    description: User of etcd, used when a member asks for one. Needs O(password).
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
