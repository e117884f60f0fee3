# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's surface."""

from __future__ import annotations

import typing as t
from pathlib import Path

import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.rotate_service import Outcome
from ansible_collections.dedicated.odoo.plugins.modules import certificate_rotate


def test_documentation_equals_the_argument_specification() -> None:
    documented = yaml.safe_load(certificate_rotate.DOCUMENTATION)["options"]
    pairs: list[tuple[dict[str, t.Any], dict[str, t.Any]]] = [
        (documented, certificate_rotate.ARGUMENTS),
        (documented["endpoints"]["suboptions"], certificate_rotate.TARGET),
    ]
    for described, options in pairs:
        assert described.keys() == options.keys()
        for name, option in options.items():
            for key in ("type", "default", "choices", "elements", "required"):
                assert described[name].get(key) == option.get(key), (name, key)


def test_results_are_documented() -> None:
    returned = set(yaml.safe_load(certificate_rotate.RETURN))
    assert set(Outcome({}, {}, None, ()).as_result()) - {"changed"} <= returned
    assert {"code", "refusal", "staged", "rolled_back"} <= returned


def test_the_former_pair_lies_beside_the_live_one(tmp_path: Path) -> None:
    live = tmp_path / "pki" / "etcd"
    live.mkdir(parents=True)
    for name in ("cert.pem", "key.pem"):
        (live / name).write_text(name)
    params = {"directory": f"{live}/", "staged": str(tmp_path / "pki" / ".staged" / "etcd"), "former": None}
    certificate_rotate.places(params).keep()
    assert (tmp_path / "pki" / ".former" / "etcd" / "cert.pem").read_text() == "cert.pem"


def test_whoever_serves_the_pair_is_reloaded_by_words() -> None:
    params = {"directory": "/d", "staged": "/s", "endpoints": [], "reload": [["docker", "kill", 1]]}
    found = certificate_rotate.consumer(params)
    assert (found.staged, found.authority) == ("/s/cert.pem", "/d/ca.pem")
    assert found.reload == (("docker", "kill", "1"),)
