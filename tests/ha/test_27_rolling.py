# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations that users do not notice: whatever leads is led by another, while they work by the virtual address."""

from __future__ import annotations

import csv
import socket
import time

import pytest
from labtools import Host, Lab, unique, wait_until
from operating import begin, end, operate, recap, refusals, slay, users

REASON = ("-e", "reason=proof")
STATISTICS = """python3 -c '
import socket
with socket.socket(socket.AF_UNIX) as talk:
    talk.connect("/run/dedicated/router/haproxy.sock")
    talk.sendall(b"show stat redis_master 4 -1\\n")
    print(talk.makefile().read().lstrip("# "))
'"""


def redis_masters(lab: Lab) -> set[str]:
    """By the word of every router."""
    found = set()
    for host in lab.of("odoo"):
        rows = csv.DictReader(host.out(STATISTICS).splitlines())
        found |= {row["svname"] for row in rows if row["status"].startswith("UP")}
    return found


def holders(lab: Lab) -> list[str]:
    return [host.name for host in lab.of("edge") if host.out(f"ip -o -4 address show to {lab.front}")]


def started(lab: Lab) -> dict[str, str]:
    """When PostgreSQL was started on each member."""
    return {host.name: host.sql("SELECT pg_postmaster_start_time()")[0][0] for host in lab.of("postgres")}


def booted(host: Host) -> str:
    return host.out("systemctl show --property UserspaceTimestamp --value")


def kill(host: Host, container: str) -> None:
    host.run(["docker", "kill", container])


def test_a_wrong_inventory_is_refused(lab: Lab) -> None:
    output = operate(lab, "redis_failover", *REASON, "-e", "dedicated_cluster=other", fails=True)
    assert "other-cluster" in output, refusals(output)
    assert f"belongs to cluster {lab.variables['dedicated_cluster']}" in " ".join(output.split()), refusals(output)
    assert {counts["changed"] for counts in recap(output).values()} == {0}


@pytest.mark.parametrize(
    "playbook", ["failover", "redis_failover", "edge_failover", "restart_cluster", "patch", "rehearse_failover"]
)
def test_nothing_is_done_without_a_reason(lab: Lab, playbook: str) -> None:
    output = operate(lab, playbook, "-e", "fault=redis", fails=True)
    assert "no-reason" in output, refusals(output)
    assert {counts["changed"] for counts in recap(output).values()} == {0}


def test_the_redis_master_moves(lab: Lab) -> None:
    [before] = redis_masters(lab)
    with users(lab):
        operate(lab, "redis_failover", *REASON)
    wait_until("the routers agree about another", lambda: redis_masters(lab) not in (set(), {before}), 30)
    assert len(redis_masters(lab)) == 1
    # It is not there any more: nothing to do.
    output = operate(lab, "redis_failover", *REASON, "-e", f"away_from={before}")
    assert {counts["changed"] for counts in recap(output).values()} == {0}


def test_the_virtual_address_moves(lab: Lab) -> None:
    [before] = holders(lab)
    with users(lab):
        operate(lab, "edge_failover", *REASON)
    [after] = holders(lab)
    assert after != before
    assert "dedicated_hold" not in next(host for host in lab.of("edge") if host.name == before).out("nft list tables")


def test_the_address_stays_when_nobody_could_take_it(lab: Lab) -> None:
    [before] = holders(lab)
    others = [host for host in lab.of("edge") if host.name != before]
    for host in others:
        kill(host, "traefik")
    try:
        output = operate(lab, "edge_failover", *REASON, fails=True)
        assert "no-other-edge" in output, refusals(output)
        assert holders(lab) == [before]
    finally:
        for host in others:
            host.run(["docker", "start", "traefik"])
    wait_until("all edges are well", lambda: all(host.healthy() for host in others), 60)


def test_a_living_leader_is_not_replaced(lab: Lab) -> None:
    leader = lab.leader().name
    output = operate(lab, "failover", *REASON, fails=True)
    assert "leader_alive" in output, refusals(output)
    assert lab.leader().name == leader


def test_every_member_is_restarted_and_the_leader_moves_once(lab: Lab) -> None:
    before, leader = started(lab), lab.leader()
    timeline = "SELECT timeline_id FROM pg_control_checkpoint()"
    lab.leader().sql("CHECKPOINT")
    [[old]] = lab.leader().sql(timeline)
    with users(lab):
        operate(lab, "restart_cluster", *REASON)
    after = started(lab)
    assert not [name for name, moment in after.items() if moment == before[name]]
    assert lab.leader().name != leader.name
    lab.leader().sql("CHECKPOINT")
    [[new]] = lab.leader().sql(timeline)
    assert int(new) == int(old) + 1


def test_a_rehearsal_measures_what_users_notice(lab: Lab) -> None:
    leader = lab.leader().name
    # No timed test: the lease, should the failure detector hold still after an earlier removal, and a busy machine.
    output = operate(lab, "rehearse_failover", *REASON, "-e", "fault=postgres", "-e", "target_seconds=45")
    assert "nobody could work for" in output, output[-3000:]
    assert lab.leader().name != leader
    left = "SELECT count(*) FROM account_move WHERE ref LIKE 'rehearsal-%'"
    assert lab.leader().sql(left, lab.database) == [["0"]]
    output = operate(lab, "rehearse_failover", *REASON, "-e", "fault=odoo", "-e", "target_seconds=0", fails=True)
    assert "beyond-target" in output, refusals(output)


def test_hosts_are_rebooted_one_by_one(lab: Lab) -> None:
    """Killed after the first host, and run again: the first is not rebooted twice."""
    before = {host.name: booted(host) for host in lab.hosts}
    word = unique("proof")
    arguments = (*REASON, "-e", f"round={word}", "-e", "images=false")
    marked = "cat /var/lib/dedicated/patch-round 2>/dev/null || true"

    def done() -> list[str]:
        """Of those that are up: one of them is just booting."""
        said = {host.name: host.run(marked, check=False).stdout for host in lab.hosts}
        return [name for name, mark in said.items() if mark == word]

    with users(lab):
        process = begin(lab, "patch", *arguments)
        try:
            wait_until("the first host is done", lambda: bool(done()) or process.poll() is not None, 600, 1)
            assert process.poll() is None, end(lab, "patch", process)[-3000:]
        finally:
            slay(process)
        first = done()
        between = {host.name: booted(host) for host in lab.hosts}
        assert len(first) == 1, first
        assert between[first[0]] != before[first[0]]
        output = operate(lab, "patch", *arguments)
    after = {host.name: booted(host) for host in lab.hosts}
    assert after[first[0]] == between[first[0]], output[-3000:]
    assert not [name for name, moment in after.items() if moment == before[name]]
    assert all(host.healthy() for host in lab.hosts)


def test_a_client_that_was_left_behind_is_told(lab: Lab) -> None:
    """keepalived stands still, another edge takes the address for a moment, and somebody connects to that one."""
    [name] = holders(lab)
    holder = next(host for host in lab.of("edge") if host.name == name)
    holder.run(["pkill", "-STOP", "keepalived"])
    try:
        wait_until("another edge has it, too", lambda: len(holders(lab)) == 2, 20)
        # It announces itself at once; who asks again is sent to it.
        time.sleep(1)
        with lab.context().wrap_socket(
            socket.create_connection((lab.front, 443), timeout=10), server_hostname=lab.domain
        ) as client:
            # Half of a request: this client waits, and sends nothing that could be answered with a reset.
            head = f"POST /web/login HTTP/1.1\r\nHost: {lab.domain}\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
            client.sendall(head.encode())
            holder.run(["pkill", "-CONT", "keepalived"])
            wait_until("one edge has it", lambda: len(holders(lab)) == 1, 20)
            client.settimeout(15)
            if holders(lab) == [name]:
                with pytest.raises(ConnectionResetError):
                    client.recv(100)
            else:
                client.sendall(b"x")
                assert client.recv(100).startswith(b"HTTP/1.1 ")
    finally:
        holder.run(["pkill", "-CONT", "keepalived"])
    assert lab.answers()
