# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every port serves, asked as each protocol wants it: by certificate_info, on the host."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from labtools import Host, Lab, run

ROOT = Path(__file__).resolve().parents[2]
PKI = "/etc/dedicated/pki"
# Port: how it is asked, whose certificate lies behind it, and whose a client shows.
PORTS = {
    5432: ("postgresql", "postgres", ""),
    8008: ("patroni", "postgres", ""),
    2379: ("etcd", "etcd", "etcd-client"),
    2380: ("etcd", "etcd", "etcd"),
    6379: ("redis", "redis", "redis"),
    26379: ("redis", "redis", "redis"),
    8443: ("https", "router", "edge-client"),
    443: ("https", "edge", ""),
}
CLOSED = 9


def ports(lab: Lab) -> dict[int, tuple[str, str, str]]:
    """A host that is alone has no router for the edges of others."""
    return {port: one for port, one in PORTS.items() if port != 8443 or len(lab.of("odoo")) > 1}


def target(lab: Lab, host: Host, port: int, client: str) -> dict[str, t.Any]:
    protocol = PORTS[port][0] if port in PORTS else "tls"
    keys = {"client_cert": f"{PKI}/{client}/cert.pem", "client_key": f"{PKI}/{client}/key.pem"} if client else {}
    name = {"server_name": lab.domain} if port == 443 else {}
    return {"protocol": protocol, "host": host.address, "port": port, **keys, **name}


@pytest.fixture(scope="module")
def seen(lab: Lab) -> dict[str, t.Any]:
    """One question with all of them: with the client's certificate, without it, and where nobody listens."""
    host = lab.hosts[0]
    asked = [target(lab, host, port, client) for port, (_how, _whose, client) in ports(lab).items()]
    asked += [target(lab, host, port, "") for port, (_how, _whose, client) in ports(lab).items() if client]
    asked.append(target(lab, host, CLOSED, ""))
    words = {"ca": f"{PKI}/postgres/ca.pem", "targets": asked,
             "files": sorted({f"{PKI}/{whose}/cert.pem" for _how, whose, _client in PORTS.values()})}  # fmt: skip
    argv = [str(ROOT / ".venv/bin/ansible"), host.name, "-i", lab.data["inventory"], "--become", "-o",
            "-m", "dedicated.odoo.certificate_info", "-a", json.dumps(words)]  # fmt: skip
    env = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(lab.build / "vault-password"),
    }
    output = run(argv, env).stdout
    return dict(json.loads(output[output.index("{") :]))


def test_every_port_serves_what_lies_on_the_disk(lab: Lab, seen: dict[str, t.Any]) -> None:
    files = {one["path"]: one for one in seen["certificates"] if one["source"] == "file"}
    for port, (_how, whose, _client) in ports(lab).items():
        served = [one for one in seen["certificates"] if one["port"] == port and not one["code"]]
        assert served, f"{port}: {seen}"
        for one in served:
            assert one["verified"], f"{port}: {one['unverified_because']}"
            assert one["serial"] == files[f"{PKI}/{whose}/cert.pem"]["serial"], port
            assert 0 < one["days_left"] <= 90, port


def test_who_shows_no_certificate_is_turned_away(lab: Lab, seen: dict[str, t.Any]) -> None:
    codes = {one["port"]: one["code"] for one in [*seen["certificates"], *seen["missing"]] if one["code"]}
    turned_away = {port: "client_certificate_required" for port, (_how, _whose, client) in ports(lab).items() if client}
    assert codes == {**turned_away, CLOSED: "refused"}
