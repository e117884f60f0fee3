# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that every module speaking to Sentinels has; their documentation is the doc fragment ``redis``."""

from __future__ import annotations

import typing as t

PKI = "/etc/dedicated/pki/redis"


def redis_arguments() -> dict[str, t.Any]:
    """A fresh copy, to be merged into a module's own options."""
    return {
        "sentinels": {"type": "list", "elements": "str", "required": True},
        "master_name": {"type": "str", "required": True},
        "username": {"type": "str"},
        "password": {"type": "str", "no_log": True},
        "ca_path": {"type": "path", "default": f"{PKI}/ca.pem"},
        "client_cert": {"type": "path", "default": f"{PKI}/cert.pem"},
        "client_key": {"type": "path", "default": f"{PKI}/key.pem", "no_log": False},
        "expected_sentinels": {"type": "int"},
        "expected_nodes": {"type": "int"},
        "connect_timeout": {"type": "float", "default": 2.0},
        "timeout": {"type": "float", "default": 60.0},
        "poll_interval": {"type": "float", "default": 0.5},
    }


def redis_rules() -> dict[str, t.Any]:
    """What belongs together."""
    return {"required_by": {"username": ["password"]}}
