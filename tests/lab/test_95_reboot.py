# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host goes away, cleanly or not, and everything comes back by itself."""

from __future__ import annotations

import time

import pytest
from labtools import Browser, Host, Lab, run, unique, wait_until


def is_back(host: Host) -> bool:
    return (
        run(["docker", "exec", host.container, "docker", "ps", "--quiet"], check=False).returncode == 0
        and host.healthy()
    )


@pytest.mark.parametrize("how", ["reboot", "power-cut"])
def test_everything_comes_back(lab: Lab, node: Host, admin: Browser, how: str) -> None:
    word = unique("Kept")
    partner = admin.call("res.partner", "create", [{"name": word}])[0]
    table, session = node.out("nft --stateless list table inet dedicated"), admin.session_id
    time.sleep(2)  # Redis writes its log every second
    if how == "reboot":
        run(["docker", "restart", "--time", "240", node.container], timeout=300)
    else:
        run(["docker", "kill", "--signal", "KILL", node.container])
        run(["docker", "start", node.container], timeout=60)
    took = wait_until("the login page answers", lab.answers, 180, 1)
    wait_until("every container is healthy", lambda: is_back(node), 180, 1)
    print(f"{how}: login page after {took:.0f} s")  # noqa: T201
    # The session from before, and what was written.
    assert admin.whoami() == lab.login
    assert admin.session_id == session
    assert admin.call("res.partner", "read", [partner], ["name"])[0]["name"] == word
    assert node.out("nft --stateless list table inet dedicated") == table
    state = "systemctl list-units --all --no-legend --plain 'dedicated-*.service' docker.service"
    states = {line.split()[0]: line.split()[2] for line in node.out(state).splitlines()}
    names = ("etcd", "postgres", "redis", "router", "odoo", "edge", "firewall")
    assert {states[f"dedicated-{name}.service"] for name in names} == {"active"}
    assert not [name for name, active in states.items() if active == "failed"]


def test_the_firewall_was_there_before_the_services(node: Host) -> None:
    """At no moment of the boot was a service up without the table."""

    def started(unit: str) -> int:
        return int(node.out(["systemctl", "show", "--value", "--property", "ActiveEnterTimestampMonotonic", unit]))

    assert 0 < started("dedicated-firewall.service") < started("docker.service")
    assert started("docker.service") <= started("dedicated-edge.service")


def test_archiving_goes_on_after_the_boot(lab: Lab) -> None:
    leader = lab.leader()
    leader.sql("SELECT pg_create_restore_point('proof')")
    segment = leader.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")[0][0]
    wait_until(
        f"{segment} is archived",
        lambda: leader.sql(f"SELECT last_archived_wal >= '{segment}' FROM pg_stat_archiver") == [["t"]],
        90,
    )
