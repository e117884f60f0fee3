# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's surface."""

from __future__ import annotations

import typing as t

import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.arguments import targets
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.io import Target
from ansible_collections.dedicated.odoo.plugins.modules import certificate_info

WEB = {
    "protocol": "https",
    "host": "10.0.0.1",
    "port": 443,
    "server_name": "erp.example.com",
    "client_cert": "",
    "client_key": "",
    "ca": "",
}


def test_documentation_equals_the_argument_specification() -> None:
    documented = yaml.safe_load(certificate_info.DOCUMENTATION)["options"]
    pairs: list[tuple[dict[str, t.Any], dict[str, t.Any]]] = [
        (documented, certificate_info.ARGUMENTS),
        (documented["targets"]["suboptions"], certificate_info.TARGET),
    ]
    for described, options in pairs:
        assert described.keys() == options.keys()
        for name, option in options.items():
            for key in ("type", "default", "choices", "elements", "required"):
                assert described[name].get(key) == option.get(key), (name, key)


def test_every_target_has_its_own_authority_or_that_of_all() -> None:
    params: dict[str, t.Any] = {
        "ca": "/all",
        "targets": [WEB, {**WEB, "ca": "/own", "client_cert": "/c", "client_key": "/k"}],
    }
    assert targets(params["targets"], params["ca"]) == [
        Target("https", "10.0.0.1", 443, "erp.example.com", "", "", "/all"),
        Target("https", "10.0.0.1", 443, "erp.example.com", "/c", "/k", "/own"),
    ]


def test_results_are_documented() -> None:
    returned = yaml.safe_load(certificate_info.RETURN)
    assert set(returned) == {"certificates", "missing"}
    documented = set(returned["certificates"]["contains"])
    assert {"serial", "days_left", "chain", "verified", "unverified_because", "fingerprint", "sans"} <= documented
