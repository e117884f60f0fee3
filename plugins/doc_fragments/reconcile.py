# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that both modules of the ledger have; ``_reconcile/arguments.py`` is their specification."""

    DOCUMENTATION = r"""
options:
  host:
    description: Directory of PostgreSQL's Unix socket on the host where the module runs, or a host's name.
    type: str
    default: /run/dedicated/postgres
  port:
    description: PostgreSQL's port, which is part of its socket's name.
    type: int
    default: 5432
  database:
    description: The one database to read.
    type: str
    default: odoo
  user:
    description: Role to log in as. Over the socket the server knows the module's user, so no password is asked.
    type: str
    default: postgres
  connect_timeout:
    description: Seconds to wait for a connection.
    type: int
    default: 5
  statement_timeout:
    description: Seconds for each statement.
    type: float
    default: 600.0
"""
