# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's surface."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._preflight import plan
from ansible_collections.dedicated.odoo.plugins.modules import host_preflight


def test_documentation_equals_the_argument_specification() -> None:
    documented = yaml.safe_load(host_preflight.DOCUMENTATION)["options"]
    assert documented.keys() == host_preflight.ARGUMENTS.keys()
    for name, option in host_preflight.ARGUMENTS.items():
        for key in ("type", "default", "choices", "elements"):
            assert documented[name].get(key) == option.get(key), (name, key)


def test_limits() -> None:
    params: dict[str, t.Any] = {name: option["default"] for name, option in host_preflight.ARGUMENTS.items()}
    params.update(min_free_mb={"/opt": "5"}, ports=[{"port": 443, "address": "", "stack": "edge"}])
    assert host_preflight.limits(params) == plan.Limits(min_free_mb={"/opt": 5}, ports=(plan.Port(443, "", "edge"),))


def test_limits_of_a_member() -> None:
    params: dict[str, t.Any] = {name: option["default"] for name, option in host_preflight.ARGUMENTS.items()}
    params.update(system_identifier=" 77 ", patroni_members={"n1": "10.0.0.1"}, postgres_data="/pg", etcd_data="/etcd")
    found = host_preflight.limits(params)
    assert (found.system_identifier, found.patroni_members) == ("77", {"n1": "10.0.0.1"})
    assert (found.postgres_data, found.etcd_data) == ("/pg", "/etcd")


def test_pin_that_is_none() -> None:
    params: dict[str, t.Any] = {name: option["default"] for name, option in host_preflight.ARGUMENTS.items()}
    params.update(system_identifier="lab")
    with pytest.raises(ValueError, match="'lab' is no system identifier"):
        host_preflight.limits(params)


def test_host_is_plain_data() -> None:
    facts = plan.Facts(
        "debian",
        "13",
        "x86_64",
        2,
        4000,
        disks=(plan.Disk("/opt", 1, 2),),
        listeners=(plan.Listener("::", 443),),
        probes=(plan.Probe("odoo:19"),),
        members=(plan.Member("n1", "10.0.0.1", reason="timed out"),),
    )
    host = host_preflight.as_host(facts)
    assert host["os"] == "debian-13"
    assert host["free_mb"] == {"/opt": 1}
    assert host["docker"] == "absent"
    assert host["listeners"][0]["port"] == 443
    assert (host["os_id"], host["os_version"]) == ("debian", "13")
    assert host["members"][0]["reason"] == "timed out"
    assert json.loads(json.dumps(host)) == host
