# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that every module speaking to etcd has; their documentation is the doc fragment ``etcd``."""

from __future__ import annotations

import typing as t


def etcd_arguments() -> dict[str, t.Any]:
    """A fresh copy, to be merged into a module's own options."""
    return {
        "url": {"type": "str", "required": True},
        "urls": {"type": "list", "elements": "str", "default": []},
        "ca_path": {"type": "path"},
        "client_cert": {"type": "path"},
        "client_key": {"type": "path", "no_log": False},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "timeout": {"type": "float", "default": 30.0},
        "poll_interval": {"type": "float", "default": 1.0},
    }


def etcd_rules() -> dict[str, t.Any]:
    """What belongs together."""
    return {"required_together": [("client_cert", "client_key"), ("username", "password")]}
