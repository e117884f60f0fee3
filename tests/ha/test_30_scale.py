# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fourth host joins by its groups and site.yml, and leaves by retire_host.yml; who must stay is refused.

The tests belong together and run in this order. They need a lab with a host to spare: SPARE=1 PROFILE=ha make lab-up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from labtools import Host, Lab, run, wait_until
from operating import recap, refusals, unchanged
from test_10_site import converge

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("postgres", "redis", "odoo", "edge")
REDIS_PKI = "/etc/dedicated/pki/redis"
PATRONICTL = ["timeout", "90", "patronictl", "-c", "/etc/patroni/patroni.yml"]
# Where members are written down. Certificates carry only their own host's address.
PLACES = "/opt/dedicated /etc/dedicated/firewall /etc/dedicated/vip"


def fresh(lab: Lab) -> Lab:
    """The lab as tools/lab wrote it down last."""
    return Lab(lab.path, json.loads(lab.path.read_text()))


def tool(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """tools/lab, which may fail."""
    argv = [sys.executable, str(ROOT / "tools" / "lab"), *arguments]
    done = subprocess.run(
        argv, cwd=ROOT, env=os.environ | {"LAB": lab.name}, capture_output=True, text=True, check=False
    )
    log = lab.build / "ha"
    log.mkdir(exist_ok=True)
    (log / f"{len(list(log.iterdir())):02}.log").write_text(done.stdout + done.stderr)
    return done


def retired(lab: Lab, host: Host) -> dict[str, dict[str, int]]:
    done = tool(lab, "retire", host.name, "--extra-vars", "reason=proof")
    assert done.returncode == 0, refusals(done.stdout + done.stderr)
    assert f"{host.name} is retired" in done.stdout
    return recap(done.stdout)


def refused(lab: Lab, name: str, *arguments: str) -> str:
    """The refusal; nothing was restarted on any host, and no task changed anything."""
    before = running(lab)
    done = tool(lab, "retire", name, *arguments)
    output = done.stdout + done.stderr
    assert done.returncode != 0, output[-3000:]
    assert {counts["changed"] for counts in recap(done.stdout).values()} == {0}
    assert running(lab) == before
    return output


def running(lab: Lab) -> dict[str, list[str]]:
    return {
        host.name: sorted(f"{n} {c['State']['StartedAt']}" for n, c in host.containers().items()) for host in lab.hosts
    }


def sentinel(lab: Lab, host: Host, *words: str) -> list[str]:
    tls = [
        "--tls",
        "--cacert",
        f"{REDIS_PKI}/ca.pem",
        "--cert",
        f"{REDIS_PKI}/cert.pem",
        "--key",
        f"{REDIS_PKI}/key.pem",
    ]
    argv = ["redis-cli", *tls, "-h", host.address, "-p", "26379", "--user", "admin", "--no-auth-warning", *words]
    return host.inside("redis", argv, {"REDISCLI_AUTH": lab.secrets["redis_admin_password"]}).stdout.splitlines()


def peers(lab: Lab, host: Host, what: str) -> set[str]:
    """Addresses of the replicas or Sentinels that the Sentinel of a host knows."""
    lines = sentinel(lab, host, "SENTINEL", what, "sessions")
    return {lines[number + 1] for number, line in enumerate(lines) if line == "ip"}


def known(lab: Lab, host: Host) -> tuple[int, int, int]:
    """How many replicas and other Sentinels, and how many must agree."""
    lines = sentinel(lab, host, "SENTINEL", "MASTER", "sessions")
    quorum = next(int(lines[number + 1]) for number, line in enumerate(lines) if line == "quorum")
    return len(peers(lab, host, "REPLICAS")), len(peers(lab, host, "SENTINELS")), quorum


def patroni(lab: Lab) -> dict[str, dict[str, t.Any]]:
    out = lab.leader().inside("postgres", [*PATRONICTL, "list", "--format", "json"]).stdout
    return {one["Member"]: one for one in json.loads(out)}


def dynamic(lab: Lab) -> str:
    return str(lab.leader().inside("postgres", [*PATRONICTL, "show-config"]).stdout)


def slots(host: Host) -> set[str]:
    return {row[0] for row in host.sql("SELECT slot_name FROM pg_replication_slots") if row[0]}


def serves(lab: Lab, edge: Host) -> bool:
    """The login page through this edge, past the virtual address."""
    argv = ["curl", "-sf", "-o", "/dev/null", "--max-time", "20", "--noproxy", "*", "--cacert", lab.ca_file]
    argv += ["--resolve", f"{lab.domain}:443:{edge.address}", f"{lab.url}/web/login"]
    return run(argv, check=False).returncode == 0


@pytest.fixture(scope="module")
def spare(lab: Lab) -> Host:
    found = lab.data.get("spare")
    if not found:
        pytest.skip("no host to spare: SPARE=1 PROFILE=ha make lab-up")
    one = found[0]
    return Host(one["name"], one["address"], (), one["container"])


@pytest.fixture(scope="module")
def wider(lab: Lab, spare: Host) -> Lab:
    """The lab with the spare host in its groups."""
    done = tool(lab, "join", spare.name, ",".join(GROUPS))
    assert done.returncode == 0, done.stderr
    return fresh(lab)


@pytest.fixture(scope="module")
def three(lab: Lab, spare: Host) -> Lab:
    """The lab without it, whatever the inventory says."""
    data = {**lab.data, "hosts": [one for one in lab.data["hosts"] if one["name"] != spare.name]}
    return Lab(lab.path, data)


def test_a_host_joins(wider: Lab, spare: Host) -> None:
    assert spare.name in converge(wider)
    assert all(host.healthy() for host in wider.hosts)
    assert spare.name not in {host.name for host in wider.of("etcd")}


def test_it_is_a_member_of_everything(wider: Lab, spare: Host) -> None:
    wait_until(f"{spare.name} streams", lambda: patroni(wider)[spare.name]["State"] == "streaming", 120)
    rows = wider.leader().sql("SELECT application_name, state FROM pg_stat_replication")
    assert [spare.name, "streaming"] in rows
    assert spare.name in slots(wider.leader())
    for host in wider.of("redis"):
        assert known(wider, host) == (3, 3, 3), host.name
    for host in wider.of("odoo"):
        assert spare.name in host.out("grep '  server ' /opt/dedicated/router/haproxy/haproxy.cfg"), host.name
    for edge in wider.of("edge"):
        assert serves(wider, edge), edge.name


def test_again_changes_nothing(wider: Lab) -> None:
    assert unchanged(wider, converge(wider))


def test_a_check_finds_nothing(wider: Lab) -> None:
    assert unchanged(wider, converge(wider, "--check", "--diff"))


def test_who_must_stay_is_refused(wider: Lab, spare: Host) -> None:
    said = refused(wider, wider.of("etcd")[0].name)
    assert "even-etcd" in said
    said = refused(wider, wider.of("etcd")[0].name, "--extra-vars", "retire_allow_even=true")
    assert "tier-not-kept" in said
    assert "there are 2" in said
    assert "unknown-host" in refused(wider, "nobody")
    assert "limited" in refused(wider, spare.name, "--limit", spare.name)


def test_a_leader_is_refused(wider: Lab, spare: Host) -> None:
    """Every standby becomes a synchronous one for a while: Patroni hands over to no other."""
    former = wider.leader()
    edit = [*PATRONICTL, "edit-config", "--force", "--quiet", "--set"]
    former.inside("postgres", [*edit, "synchronous_node_count=3"])
    try:
        wait_until(f"{spare.name} is synchronous", lambda: "sync" in patroni(wider)[spare.name]["Role"].lower(), 60)
        hand_over(wider, spare)
        said = refused(wider, spare.name)
        assert "postgres-leader" in said
        assert f"dedicated.odoo.switchover -e reason=… -e expect={spare.name}" in said
        hand_over(wider, former)
    finally:
        wider.leader().inside("postgres", [*edit, "synchronous_node_count=null"])
    wait_until("one standby is synchronous again", lambda: sync_standbys(wider) == 1, 60)


def sync_standbys(lab: Lab) -> int:
    return sum("sync" in one["Role"].lower() for one in patroni(lab).values())


def hand_over(lab: Lab, to: Host) -> None:
    at = lab.leader()
    argv = [*PATRONICTL, "switchover", "--force", "--leader", at.name, "--candidate", to.name]
    at.inside("postgres", argv)
    wait_until(f"{to.name} leads", lambda: to.sql("SELECT pg_is_in_recovery()") == [["f"]], 60)

    def whole() -> bool:
        states = [one["State"] for name, one in patroni(lab).items() if name != to.name]
        return len(states) == len(lab.of("postgres")) - 1 and set(states) == {"streaming"}

    wait_until("all others stream", whole, 120)
    wait_until("they are synchronous", lambda: sync_standbys(lab) == len(lab.of("postgres")) - 1, 60)


def test_it_leaves(wider: Lab, three: Lab, spare: Host) -> None:
    born = running(three)
    counts = retired(wider, spare)
    assert counts[spare.name]["changed"] > 0
    assert spare.out("docker ps --all --quiet") == ""
    assert (
        spare.out("systemctl list-unit-files 'dedicated-*' --state=enabled --no-legend | grep -v firewall || true")
        == ""
    )
    assert spare.out("cat /var/lib/dedicated/postgres/data/17/PG_VERSION") == "17"
    assert all(host.healthy() for host in three.hosts)
    # Of those that stay only the failure detectors are made anew, since they know the members.
    after = running(three)
    for name, containers in born.items():
        anew = {line.split()[0] for line in set(after[name]) - set(containers)}
        assert anew <= {"detector"}, (name, anew)


def test_nobody_knows_it_any_more(three: Lab, spare: Host) -> None:
    assert set(patroni(three)) == {host.name for host in three.of("postgres")}
    assert spare.name not in dynamic(three)
    for host in three.of("postgres"):
        wait_until(f"no slot of it on {host.name}", lambda host=host: spare.name not in slots(host), 60)
    for host in three.of("redis"):
        assert known(three, host) == (2, 2, 2), host.name
        assert spare.address not in peers(three, host, "REPLICAS") | peers(three, host, "SENTINELS")
    for host in three.hosts:
        assert host.out(f"grep -rlwF {spare.address} {PLACES} || true") == "", host.name
        assert host.out(f"grep -rlwF {spare.name} /opt/dedicated || true") == "", host.name
        assert spare.address not in host.out("nft list table inet dedicated")
    for edge in three.of("edge"):
        assert serves(three, edge), edge.name


def test_again_it_has_nothing_to_do(wider: Lab, spare: Host) -> None:
    assert {name: counts["changed"] for name, counts in retired(wider, spare).items()} == {
        host.name: 0 for host in wider.hosts
    }


def test_without_it_site_changes_nothing(three: Lab, spare: Host) -> None:
    assert tool(three, "leave", spare.name).returncode == 0
    left = fresh(three)
    assert {host.name for host in left.hosts} == {host.name for host in three.hosts}
    assert unchanged(left, converge(left))
    assert "unknown-host" in refused(left, spare.name)
