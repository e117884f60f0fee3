# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that every module asking pgBackRest has; their documentation is the doc fragment ``pgbackrest``."""

from __future__ import annotations

import typing as t


def pgbackrest_arguments() -> dict[str, t.Any]:
    """A fresh copy, to be merged into a module's own options."""
    return {
        "container": {"type": "str", "default": "postgres"},
        "stanza": {"type": "str", "required": True},
        "timeout": {"type": "int", "default": 60},
    }
