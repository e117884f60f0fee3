# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that every module speaking to a PgBouncer has; their documentation is the doc fragment ``pgbouncer``."""

from __future__ import annotations

import typing as t


def pgbouncer_arguments() -> dict[str, t.Any]:
    """A fresh copy, to be merged into a module's own options."""
    return {
        "socket_dir": {"type": "path", "default": "/run/dedicated/router"},
        "port": {"type": "int", "default": 6432},
        "connect_timeout": {"type": "float", "default": 5.0},
    }
