# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml on three hosts: from nothing, again, and with a change that restarts every member of a cluster.

The tests belong together and run in this order. `tools/lab up` has made the lab that LAB names.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

from labtools import Host, Lab, run
from operating import changes, recap, refusals, unchanged

ROOT = Path(__file__).resolve().parents[2]


def converge(lab: Lab, *arguments: str) -> dict[str, dict[str, int]]:
    """Run it; host to its counts in the recap."""
    argv = [sys.executable, str(ROOT / "tools" / "lab"), "converge", *arguments]
    began = time.monotonic()
    done = subprocess.run(
        argv, cwd=ROOT, env=os.environ | {"LAB": lab.name}, capture_output=True, text=True, check=False
    )
    log = lab.build / "ha"
    log.mkdir(exist_ok=True)
    (log / f"{len(list(log.iterdir())):02}.log").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, refusals(done.stdout + done.stderr)
    print("\n".join(changes(done.stdout)))  # noqa: T201  pytest shows it when the test fails
    print(f"site.yml {' '.join(arguments)}: {time.monotonic() - began:.0f} s")  # noqa: T201
    return recap(done.stdout)


def test_from_nothing(lab: Lab) -> None:
    recap = converge(lab)
    assert set(recap) == {host.name for host in lab.hosts}
    assert all(host.healthy() for host in lab.hosts)


def test_again_changes_nothing(lab: Lab) -> None:
    assert unchanged(lab, converge(lab))


class Watch(threading.Thread):
    """Which members of a cluster do not answer, five times a second."""

    def __init__(self, hosts: t.Sequence[Host], container: str) -> None:
        super().__init__(daemon=True)
        self.hosts, self.container = hosts, container
        self.away: list[set[str]] = []
        self.done = threading.Event()

    def run(self) -> None:
        command = ["docker", "inspect", "--format", "{{.State.Health.Status}}", self.container]
        while not self.done.wait(0.2):
            ill = {h.name for h in self.hosts if h.run(command, check=False).stdout.strip() != "healthy"}
            self.away.append(ill)

    def finish(self) -> list[set[str]]:
        self.done.set()
        self.join(60)
        return self.away


def started(host: Host, container: str) -> datetime.datetime:
    at = host.out(["docker", "inspect", "--format", "{{.State.StartedAt}}", container])
    return datetime.datetime.fromisoformat(at[:26].rstrip("Z") + "+00:00")


def test_members_take_turns_and_the_leader_is_last(lab: Lab) -> None:
    hosts = lab.of("etcd")
    before = {host.name: started(host, "etcd") for host in hosts}
    leads = {
        host.name
        for host in hosts
        for line in [host.inside("etcd", ["etcdctl", "endpoint", "status", "--write-out", "json"]).stdout]
        for status in [json.loads(line)[0]["Status"]]
        if status["leader"] == status["header"]["member_id"]
    }
    assert len(leads) == 1
    database = lab.leader().name
    watch = Watch(hosts, "etcd")
    watch.start()
    try:
        converge(lab, "--tags", "etcd", "--extra-vars", '{"etcd_heartbeat_ms": 110}')
    finally:
        away = watch.finish()
    after = {host.name: started(host, "etcd") for host in hosts}
    assert all(after[name] > before[name] for name in after), "not everybody was restarted"
    assert max(len(ill) for ill in away) == 1, [sorted(ill) for ill in away if ill]
    assert max(after, key=lambda name: after[name]) in leads
    assert lab.leader().name == database, "the database's leader moved"
    assert unchanged(lab, converge(lab, "--tags", "etcd", "--extra-vars", '{"etcd_heartbeat_ms": 110}'))


def test_a_member_that_is_ill_stops_the_turns(lab: Lab) -> None:
    """Nobody else is restarted while one is away."""
    hosts = lab.of("etcd")
    ill, others = hosts[-1], hosts[:-1]
    run(["docker", "exec", ill.container, "docker", "stop", "etcd"])
    try:
        before = {host.name: started(host, "etcd") for host in others}
        arguments = ["--tags", "etcd", "--limit", others[0].name, "--extra-vars"]
        argv = [
            sys.executable,
            str(ROOT / "tools" / "lab"),
            "converge",
            *arguments,
            '{"etcd_heartbeat_ms": 120, "etcd_turn_seconds": 10}',
        ]
        done = subprocess.run(
            argv, cwd=ROOT, env=os.environ | {"LAB": lab.name}, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0, "it went on although a member was away"
        assert ill.name in done.stdout, done.stdout[-3000:]
        assert {host.name: started(host, "etcd") for host in others} == before
    finally:
        run(["docker", "exec", ill.container, "docker", "start", "etcd"])
    converge(lab, "--tags", "etcd")


def test_etcd_lets_nobody_in_without_a_password(lab: Lab) -> None:
    """A certificate alone opens the connection and no key."""
    host = lab.of("etcd")[0]
    done = host.inside("etcd", ["etcdctl", "get", "/dedicated/", "--prefix", "--keys-only"], check=False)
    assert done.returncode != 0
    assert "/dedicated/" not in done.stdout
    assert (
        "user name is empty" in done.stderr
        or "permission denied" in done.stderr
        or "user name not found" in done.stderr
    )
    status = ". /etc/etcd/root.env; export ETCDCTL_USER ETCDCTL_PASSWORD; etcdctl auth status"
    assert "Authentication Status: true" in host.inside("etcd", ["sh", "-c", status]).stdout


def test_etcd_is_defragmented_by_its_leader_only(lab: Lab) -> None:
    said = [host.inside("etcd", ["etcd-defrag", "--force"]).stdout for host in lab.of("etcd")]
    assert sum("->" in one or "bytes" in one for one in said) == 1, said
    for host in lab.of("etcd"):
        assert host.out("systemctl is-enabled dedicated-etcd-defrag.timer") == "enabled"


def test_the_failure_detector_watches(lab: Lab) -> None:
    for host in lab.of("postgres"):
        text = host.run(
            [
                "python3",
                "-c",
                "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8010/metrics').read().decode())",
            ]
        ).stdout
        assert re.search(r"^dedicated_detector_up\S* 1", text, re.MULTILINE), text


def test_every_edge_shows_the_same_certificate(lab: Lab) -> None:
    command = (
        "openssl s_client -connect 127.0.0.1:443 -servername {} </dev/null 2>/dev/null"
        " | openssl x509 -fingerprint -noout"
    )
    prints = {host.out(command.format(lab.domain)) for host in lab.of("edge")}
    assert len(prints) == 1
    assert "Fingerprint" in next(iter(prints))


def test_members_announce_addresses_that_others_reach(lab: Lab) -> None:
    addresses = {host.address for host in lab.of("redis")}
    for host in lab.of("redis"):
        seen = host.out(
            "grep -hE '^(replica-announce-ip|sentinel announce-ip)' /var/lib/dedicated/redis/*/*.conf | tr -d '\"'"
        )
        assert {line.split()[-1] for line in seen.splitlines()} == {host.address}
        assert host.address in addresses


def test_reads_may_go_to_a_replica(lab: Lab) -> None:
    """The route is there on every host; the leader is never at its end."""
    for host in lab.of("odoo"):
        argv = ["psql", "-h", "/run/dedicated/router", "-p", "6433", "-U", "odoo", "-d", lab.database, "-XAtc"]
        env = {"PGPASSWORD": lab.secrets["odoo_db_password"]}
        assert host.inside("pgbouncer", [*argv, "SELECT pg_is_in_recovery()"], env).stdout.strip() == "t"
        refused = host.inside("pgbouncer", [*argv, "CREATE TABLE proof ()"], env, check=False)
        assert "read-only" in refused.stderr
