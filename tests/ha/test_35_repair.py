# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not heal by itself: data that is gone, a machine that is lost, and a leader that nobody may replace."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from labtools import Lab, wait_until
from operating import ROOT, operate, recap, refusals, unchanged, users
from test_10_site import converge, started

REASON = ("-e", "reason=proof")


def whole(lab: Lab) -> bool:
    """All members run, all standbys stream, and one of them is synchronous."""
    if not all(host.healthy() for host in lab.of("postgres")):
        return False
    rows = lab.leader().sql("SELECT state, sync_state FROM pg_stat_replication WHERE application_name ~ '^node'")
    return [row[0] for row in rows] == ["streaming"] * (len(lab.of("postgres")) - 1) and "sync" in {
        row[1] for row in rows
    }


def test_an_etcd_member_that_lost_its_data_is_replaced(lab: Lab) -> None:
    """A run is all it takes; the others and the database do not notice."""
    lost, others = lab.of("etcd")[1], [host for host in lab.of("etcd") if host != lab.of("etcd")[1]]
    members = ["etcdctl", "member", "list", "--write-out", "json"]
    before = {one["name"]: one["ID"] for one in json.loads(others[0].inside("etcd", members).stdout)["members"]}
    born = {host.name: started(host, "etcd") for host in others}
    lost.run("docker stop etcd && rm -rf /var/lib/dedicated/etcd/data")
    converge(lab, "--tags", "etcd")
    after = {one["name"]: one["ID"] for one in json.loads(lost.inside("etcd", members).stdout)["members"]}
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {lost.name}
    assert {host.name: started(host, "etcd") for host in others} == born
    assert unchanged(lab, converge(lab, "--tags", "etcd"))


def test_a_lost_machine_is_replaced_by_an_empty_one(lab: Lab) -> None:
    """Users go on working by the virtual address while it is."""
    holder = next(host for host in lab.of("edge") if host.out(f"ip -o -4 address show to {lab.front}"))
    lost = next(host for host in reversed(lab.hosts) if host not in (lab.leader(), holder))
    subprocess.run([sys.executable, str(ROOT / "tools" / "lab"), "lose", lost.name], cwd=ROOT, check=True)
    output = operate(lab, "switchover", *REASON, fails=True)
    assert "other-cluster" in output, refusals(output)
    assert "belongs to no cluster" in " ".join(output.split()), refusals(output)
    output = operate(lab, "replace_host", *REASON, "-e", "replace=nobody", fails=True)
    assert "unknown-host" in output, refusals(output)
    with users(lab):
        operate(lab, "replace_host", *REASON, "-e", f"replace={lost.name}")
    wait_until("all standbys stream", lambda: whole(lab), 60)
    assert all(host.healthy() for host in lab.hosts)
    assert unchanged(lab, converge(lab))


def test_nobody_is_promoted_at_a_loss_but_by_hand(lab: Lab) -> None:
    """The leader and the only synchronous standby are gone at once; whoever is left may lack commits."""
    wait_until("all standbys stream", lambda: whole(lab), 120)
    leader = lab.leader()
    [[name]] = leader.sql("SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'")
    gone = [host for host in lab.of("postgres") if host == leader or host.name == name]
    [left] = [host for host in lab.of("postgres") if host not in gone]
    for host in gone:
        host.run(["docker", "kill", "postgres", "detector"])
    try:
        output = operate(lab, "failover", *REASON, "-e", f"dead={leader.name}", fails=True)
        assert "loss_not_accepted" in output, refusals(output)
        assert left.sql("SELECT pg_is_in_recovery()") == [["t"]]
        sentence = re.search(r'give accept_loss: [\\"]*([^"\\]+)', " ".join(refusals(output).split()))
        assert sentence, refusals(output)
        accepted = json.dumps({"accept_loss": sentence[1]})
        operate(lab, "failover", *REASON, "-e", f"dead={leader.name}", "-e", accepted)
        assert left.sql("SELECT pg_is_in_recovery()") == [["f"]]
        output = operate(lab, "failover", *REASON, "-e", f"dead={leader.name}")
        assert {counts["changed"] for counts in recap(output).values()} == {0}
    finally:
        for host in gone:
            host.run(["docker", "start", "postgres", "detector"])
    wait_until("all standbys stream", lambda: whole(lab), 180)
    assert lab.leader() == left
