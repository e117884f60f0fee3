# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's surface."""

from __future__ import annotations

import typing as t

import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._status.io import Wish
from ansible_collections.dedicated.odoo.plugins.module_utils._status.look import LAYERS
from ansible_collections.dedicated.odoo.plugins.modules import host_status


def test_documentation_equals_the_argument_specification() -> None:
    documented = yaml.safe_load(host_status.DOCUMENTATION)["options"]
    assert documented.keys() == host_status.ARGUMENTS.keys()
    for name, option in host_status.ARGUMENTS.items():
        for key in ("type", "default", "choices", "elements"):
            assert documented[name].get(key) == option.get(key), (name, key)


def test_every_option_reaches_the_look() -> None:
    params: dict[str, t.Any] = {name: option["default"] for name, option in host_status.ARGUMENTS.items()}
    assert host_status.wish(params) == Wish(disks=("/opt", "/var/lib"))
    params.update(layers=["odoo"], stanza="lab", backup_container="pg", disks=["/"], root="/x", pki="/y", timeout=3.0)
    params.update(repositories=[1, 2])
    assert host_status.wish(params) == Wish(("odoo",), "lab", "pg", (1, 2), ("/",), "/x", "/y", 3.0)


def test_layers_are_those_that_are_judged() -> None:
    assert set(host_status.ARGUMENTS["layers"]["choices"]) == set(LAYERS)
