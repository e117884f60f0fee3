# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a port that serves a certificate is named in a module's options."""

from __future__ import annotations

import typing as t

from .io import Target


def target_arguments() -> dict[str, t.Any]:
    """A fresh copy, for the elements of a list."""
    return {
        "protocol": {
            "type": "str",
            "choices": ["https", "postgresql", "redis", "etcd", "patroni", "s3", "tls"],
            "required": True,
        },
        "host": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "server_name": {"type": "str", "default": ""},
        "client_cert": {"type": "path", "default": ""},
        "client_key": {"type": "path", "default": "", "no_log": False},
        "ca": {"type": "path", "default": ""},
    }


def targets(asked: t.Iterable[t.Mapping[str, t.Any]], ca: str = "") -> list[Target]:
    """The ports of the question, each with its authority."""
    return [Target(**{**one, "ca": one["ca"] or ca}) for one in asked]
