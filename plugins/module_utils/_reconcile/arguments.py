# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that both modules of this domain have. Their documentation is the doc fragment ``reconcile``."""

from __future__ import annotations

import typing as t


def database_arguments() -> dict[str, t.Any]:
    """A fresh copy, to be merged into a module's own options."""
    return {
        "host": {"type": "str", "default": "/run/dedicated/postgres"},
        "port": {"type": "int", "default": 5432},
        "database": {"type": "str", "default": "odoo"},
        "user": {"type": "str", "default": "postgres"},
        "connect_timeout": {"type": "int", "default": 5},
        "statement_timeout": {"type": "float", "default": 600.0},
    }
