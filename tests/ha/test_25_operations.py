# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations on a running site: one operator at a time, refusals with numbers, a run that is killed, and the record.

What a switchover costs those who work meanwhile is measured by the experiment `switchover` (tests/faults).
"""

from __future__ import annotations

import csv
import json
import subprocess
import typing as t

from labtools import Host, Lab, wait_until
from operating import LOCK, begin, end, operate, recap, refusals, slay, unchanged

RECORD = {"ANSIBLE_CALLBACKS_ENABLED": "dedicated.odoo.evidence", "DEDICATED_EVIDENCE": "required"}


def refused(lab: Lab, code: str, *arguments: str) -> str:
    """A switchover that must not be, and that touched nothing."""
    leader = lab.leader().name
    output = operate(lab, "switchover", *arguments, fails=True)
    assert {counts["changed"] for counts in recap(output).values()} == {0}, output[-3000:]
    assert lab.leader().name == leader
    assert code in output, refusals(output)
    return refusals(output)


def status(lab: Lab) -> dict[str, t.Any]:
    path = lab.build / "status.json"
    path.unlink(missing_ok=True)
    process = begin(lab, "status", "-e", f"status_file={path}")
    output = end(lab, "status", process)
    found: dict[str, t.Any] = json.loads(path.read_text())
    assert found["ok"] == (process.returncode == 0), output[-3000:]
    assert unchanged(lab, recap(output))
    return found


def codes(found: dict[str, t.Any]) -> set[str]:
    return {one["code"] for one in found["findings"] if one["severity"] != "note"}


def paused(host: Host) -> bool:
    """Whether the application's database is paused in the PgBouncer of a host, by its own word."""
    argv = ["psql", "-h", "/run/dedicated/router", "-p", "6432", "-U", "pgbouncer", "--csv", "pgbouncer"]
    shown = host.inside("pgbouncer", [*argv, "-c", "SHOW DATABASES"]).stdout.splitlines()
    return any(row["name"] == "odoo" and row["paused"] == "1" for row in csv.DictReader(shown))


def test_the_status_of_a_healthy_site(lab: Lab) -> None:
    found = status(lab)
    assert not codes(found), found["findings"]


def test_the_status_names_what_is_missing(lab: Lab) -> None:
    host = next(one for one in lab.of("redis") if one != lab.leader())
    host.run(["docker", "stop", "redis"])
    try:
        found = status(lab)
    finally:
        host.run(["docker", "start", "redis"])
    assert not found["ok"]
    assert [one for one in found["findings"] if one["host"] == host.name and "redis" in json.dumps(one)], found[
        "findings"
    ]
    wait_until("the status is good again", lambda: not codes(status(lab)), 120)


def test_a_switchover_is_refused_before_anything_is_touched(lab: Lab) -> None:
    assert "reason" in refused(lab, "no-reason")
    assert "nobody" in refused(lab, "not_a_member", "-e", "reason=proof", "-e", "to=nobody")
    out = lab.leader().sql("SELECT application_name FROM pg_stat_replication WHERE sync_state = 'async'")
    [[asynchronous]] = out
    assert asynchronous in refused(lab, "candidate_not_synchronous", "-e", "reason=proof", "-e", f"to={asynchronous}")
    assert asynchronous in refused(lab, "other_leader", "-e", "reason=proof", "-e", f"expect={asynchronous}")


def test_a_long_transaction_is_named_and_refuses(lab: Lab) -> None:
    leader = lab.leader()
    hold = "BEGIN; SELECT 1; SELECT pg_sleep(60)"
    who = f"FROM pg_stat_activity WHERE query = '{hold}' AND xact_start < clock_timestamp() - interval '2 s'"
    argv = ["docker", "exec", leader.container, "docker", "exec", "postgres"]
    argv += ["psql", "-h", "/run/postgresql", "-U", "postgres", "-c", hold]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as holding:
        wait_until("the transaction is open", lambda: bool(leader.sql(f"SELECT pid {who}")), 30)
        [[pid]] = leader.sql(f"SELECT pid {who}")
        said = refused(lab, "long_transaction", "-e", "reason=proof", "-e", "transaction_seconds=1")
        leader.sql(f"SELECT pg_terminate_backend(pid) {who}")
        holding.wait(60)
    assert pid in said


def test_a_second_operator_is_refused_with_who_and_since_when(lab: Lab) -> None:
    host = lab.hosts[0]
    first = begin(lab, "site", "--tags", "etcd", DEDICATED_OPERATOR="alice")
    try:
        wait_until("the first one holds the lock", lambda: "alice" in host.out(f"cat {LOCK} || true"), 120)
        said = refused(lab, "operation_running", "-e", "reason=proof")
        assert first.poll() is None, "the first one was over before the second was refused: this proves nothing"
    finally:
        output = end(lab, "site", first)
    assert first.returncode == 0, output[-3000:]
    assert "alice" in said
    assert "site" in said
    assert all(one.run(["test", "-e", LOCK], check=False).returncode != 0 for one in lab.hosts)


def test_a_run_that_is_killed_in_the_pause_leaves_nothing_paused(lab: Lab) -> None:
    process = begin(lab, "switchover", "-e", "reason=proof")
    pools = lab.of("odoo")
    wait_until("one is paused", lambda: any(paused(host) for host in pools) or process.poll() is not None, 120, 0.1)
    assert process.poll() is None, end(lab, "switchover", process)[-3000:]
    slay(process)
    # The deadline of a pause is 20 s.
    wait_until("none is paused", lambda: not any(paused(host) for host in pools), 40, 1)
    assert lab.answers()
    # Whether its order was given or not, all is well without a hand; then its lock is taken over.
    wait_until("the status is good again", lambda: not codes(status(lab)), 120)
    before = lab.leader().name
    output = operate(lab, "switchover", "-e", "reason=proof")
    assert lab.leader().name != before, output[-3000:]
    assert not any(paused(host) for host in pools)
    wait_until("the status is good again", lambda: not codes(status(lab)), 120)


def test_the_record_shows_what_was_done_and_every_tampering(lab: Lab) -> None:
    operate(lab, "switchover", "-e", "reason=recorded", DEDICATED_OPERATOR="alice", **RECORD)
    operate(lab, "site", "--tags", "etcd", DEDICATED_OPERATOR="bob", **RECORD)
    file = lab.build / "evidence" / lab.variables["dedicated_cluster"] / "evidence.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    started = [one for one in records if one["kind"] == "started"]
    assert {"alice", "bob"} <= {one["operator"] for one in started}, started
    assert not [word for word in lab.secrets.values() if len(word) > 5 and word in file.read_text()]
    operate(lab, "verify_evidence")
    host = lab.hosts[0]
    [copy] = host.out("ls /var/lib/dedicated/evidence/*.jsonl").split()
    assert host.run(["cat", copy]).stdout == file.read_text()
    host.run(["cp", "-a", copy, "/root/evidence.before"])
    try:
        host.run(["sed", "-i", "0,/alice/s/alice/mallory/", copy])
        output = operate(lab, "verify_evidence", fails=True)
        assert "bad_hash" in output, output[-3000:]
        assert host.name in output
    finally:
        host.run(["cp", "-a", "/root/evidence.before", copy])
        host.run(["rm", "/root/evidence.before"])
    operate(lab, "verify_evidence")
