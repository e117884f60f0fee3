# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""status asks the ports that the roles name, with the certificates that these show."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = {"etcd": "etcd", "postgres": "postgres", "redis": "redis", "odoo": "router", "edge": "edge"}
STATUS = yaml.safe_load((ROOT / "playbooks/tasks/status.yml").read_text())[0]["vars"]["__status_ports"]


@pytest.mark.parametrize("layer", ROLES)
def test_status_asks_what_the_role_serves(layer: str) -> None:
    role = ROLES[layer]
    known = yaml.safe_load((ROOT / f"roles/{role}/vars/main.yml").read_text())[f"__{role}_endpoints"]
    (name,) = known
    asked = STATUS[layer]
    if isinstance(asked, str):
        # Only where edges live on other hosts.
        assert all(word in asked for word in (f"'certificate': '{name}'", "'https'", "8443"))
        assert "8443" in known[name]
        return
    assert {one["certificate"] for one in asked} == {name}
    if layer == "edge":
        # With a customer's own certificate, or a public one, there is nothing to compare by serial.
        assert "if __edge_acme or __edge_given else __edge_own_endpoints" in known[name]
        known[name] = yaml.safe_load((ROOT / "roles/edge/vars/main.yml").read_text())["__edge_own_endpoints"]
    told = [(one["protocol"], one["port"], bool(one["client"])) for one in asked]
    assert told == [(one["protocol"], one["port"], "client_cert" in one) for one in known[name]]
