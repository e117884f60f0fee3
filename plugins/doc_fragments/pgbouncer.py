# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that every module speaking to a PgBouncer has; ``_pgbouncer/arguments.py`` is their specification."""

    DOCUMENTATION = r"""
options:
  socket_dir:
    description: Directory of PgBouncer's Unix socket, on the host where the module runs.
    type: path
    default: /run/dedicated/router
  port:
    description: PgBouncer's C(listen_port), which is part of its socket's name.
    type: int
    default: 6432
  connect_timeout:
    description: Seconds for each answer of PgBouncer's console.
    type: float
    default: 5.0
notes:
  - Over its Unix socket PgBouncer lets a process of its own user in as C(pgbouncer) without a password. The module runs
    as root, and connects as the owner of the socket.
"""
