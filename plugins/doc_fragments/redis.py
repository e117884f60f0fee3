# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that every module speaking to Sentinels has; ``_redis/arguments.py`` is their specification."""

    DOCUMENTATION = r"""
options:
  sentinels:
    description: Addresses of all Sentinels, as V(host:port), under which they also announce themselves.
    type: list
    elements: str
    required: true
  master_name:
    description: Sentinel's name for the master.
    type: str
    required: true
  username:
    description: ACL user to log in as, on Sentinels and nodes. Needs O(password).
    type: str
  password:
    description: Password of O(username).
    type: str
  ca_path:
    description: Certificate of the authority that signed the servers' certificates.
    type: path
    default: /etc/dedicated/pki/redis/ca.pem
  client_cert:
    description: Client certificate.
    type: path
    default: /etc/dedicated/pki/redis/cert.pem
  client_key:
    description: Key of O(client_cert).
    type: path
    default: /etc/dedicated/pki/redis/key.pem
  expected_sentinels:
    description: How many Sentinels there should be. When not given, as many as O(sentinels) has.
    type: int
  expected_nodes:
    description: How many Redis nodes there should be. When not given, as many as O(nodes) has.
    type: int
  connect_timeout:
    description: Seconds for the whole exchange with one server. All servers are asked at the same time.
    type: float
    default: 2.0
  timeout:
    description: Seconds to wait for what the module waits for.
    type: float
    default: 60.0
  poll_interval:
    description: Seconds between two looks.
    type: float
    default: 0.5
notes:
  - Speaks to the servers over the network, with TLS and a client certificate. It needs no container and no client
    program on the host where it runs, so that a new host can ask the others.
"""
