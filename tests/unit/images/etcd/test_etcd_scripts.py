# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The etcd image's own commands, with a stand-in for etcd and etcdctl that keeps state in a file."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

BIN = Path(__file__).parents[4] / "images" / "etcd" / "bin"

# What etcdctl 3.5.16 prints. Each defragmentation may change the state further ("then").
ETCDCTL = """#!{python} -ISs
import json, os, sys
path = os.environ["FAKE_STATE"]
state = json.load(open(path))
words = [word for word in sys.argv[1:] if not word.startswith("--")]
options = [word for word in sys.argv[1:] if word.startswith("--")]
if any(option.startswith("--endpoints") for option in options):
    sys.exit("conflicting environment variable is shadowed by corresponding command-line flag")
state["argv"].append(sys.argv[1:])
nodes = state["nodes"]
own = [one for one in nodes if one["url"] == os.environ["ETCDCTL_ENDPOINTS"]]
asked = nodes if "--cluster" in options else own
code = 0
if words == ["member", "list"]:
    for one in nodes:
        url = "" if one.get("unstarted") else one["url"]
        print(f"{{one['id']:x}}, started, {{one['name']}}, https://peer, {{url}}, {{str(bool(one.get('learner'))).lower()}}")
elif words == ["endpoint", "status"]:
    shown = []
    for one in asked:
        if one.get("down"):
            print("Failed to get the status of endpoint", file=sys.stderr)
            code = 1
        elif not one.get("unstarted"):
            status = {{"header": {{"cluster_id": 7, "member_id": one["id"], "raft_term": 2}}, "version": "3.5.16",
                      "dbSize": one["size"], "leader": one.get("leader", state["leader"]), "raftIndex": 9}}
            if state.get("alarm"):
                status["errors"] = ["memberID:16584373575713555829 alarm:" + state["alarm"] + " "]
            status["dbSizeInUse"] = one["used"]
            if not status["leader"]:
                del status["leader"]
                status["errors"] = ["etcdserver: no leader"]
            shown.append({{"Endpoint": one["url"], "Status": status}})
    print(json.dumps(shown, separators=(",", ":")))
elif words == ["endpoint", "health"]:
    for one in asked:
        if state.get("alarm"):
            print(one["url"], "is unhealthy: failed to commit proposal: Active Alarm(s):", state["alarm"], "")
            code = 1
        elif one.get("slow"):
            print(one["url"], "is unhealthy: failed to commit proposal: context deadline exceeded")
            code = 1
        else:
            print(one["url"], "is healthy: successfully committed proposal: took = 2ms")
elif words == ["defrag"]:
    if state.get("password") not in (None, os.environ.get("ETCDCTL_USER", "") + ":" + os.environ.get("ETCDCTL_PASSWORD", "")):
        sys.exit("auth: user name is empty")
    own[0]["size"] = own[0]["used"]
    state["done"].append(own[0]["name"])
    for name, changes in state["then"].pop(own[0]["name"], {{}}).items():
        if name == "cluster":
            state.update(changes)
        for one in nodes:
            if one["name"] == name:
                one.update(changes)
else:
    sys.exit("unknown: " + " ".join(sys.argv[1:]))
json.dump(state, open(path, "w"))
sys.exit(code)
"""  # noqa: E501

BIG = 16584373575713555829


@dataclasses.dataclass
class Host:
    """A folder that stands for a container's file system."""

    root: Path

    def script(self, name: str) -> Path:
        text = (BIN / name).read_text()
        for place in ("/var/lib/etcd", "/etc/etcd"):
            text = text.replace(place, f"{self.root}{place}")
        path = self.root / name
        # Waiting is for members that need a moment.
        path.write_text(text.replace("all_well 30", "all_well 1"))
        path.chmod(0o755)
        return path

    def stub(self, name: str, text: str) -> None:
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.script(name), *arguments],
            env={"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def write(self, path: str, text: str = "") -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# etcd-start

WAL = "var/lib/etcd/data/member/wal/0000000000000000-0000000000000000.wal"


FIRST = "etc/etcd/first.yml"


@pytest.mark.parametrize(
    ("files", "config"),
    [
        ([], "etcd.yml"),
        ([WAL], "etcd.yml"),
        ([FIRST], "first.yml"),
        ([FIRST, WAL], "etcd.yml"),
        # What an attempt to join that failed leaves behind.
        ([FIRST, "var/lib/etcd/data/member/snap/db"], "first.yml"),
        ([FIRST, "var/lib/etcd/data/member/wal/0.tmp"], "first.yml"),
    ],
)
def test_the_configuration_of_the_first_start_counts_only_without_a_log(
    host: Host, files: list[str], config: str
) -> None:
    host.stub("etcd", '#!/bin/sh\necho "$@"\n')
    for path in files:
        host.write(path)
    done = host.run("etcd-start")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"--config-file {host.root}/etc/etcd/{config}\n"


# etcd-defrag


def node(number: int, size: int = 40_000_000, used: int = 1_000_000, **changes: t.Any) -> dict[str, t.Any]:
    # Ids as large as etcd's, which a double cannot tell apart.
    return {
        "id": BIG + number,
        "name": f"n{number}",
        "url": f"https://n{number}:2379",
        "size": size,
        "used": used,
        **changes,
    }


@dataclasses.dataclass
class Cluster:
    host: Host
    state: dict[str, t.Any]

    def defrag(self, on: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = self.host.root / "state.json"
        path.write_text(json.dumps(self.state))
        self.host.stub("etcdctl", ETCDCTL.format(python=sys.executable))
        url = f"https://n{on}:2379"
        done = self.host.run("etcd-defrag", *arguments, FAKE_STATE=str(path), ETCDCTL_ENDPOINTS=url)
        self.state = json.loads(path.read_text())
        return done


def cluster(host: Host, *nodes: dict[str, t.Any], leader: int = 1, **changes: t.Any) -> Cluster:
    members = list(nodes) or [node(1), node(2), node(3)]
    return Cluster(host, {"nodes": members, "leader": BIG + leader, "done": [], "then": {}, "argv": [], **changes})


def test_followers_first_the_leader_last_and_a_line_for_each(host: Host) -> None:
    found = cluster(host, leader=2)
    done = found.defrag(2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"https://n{number}:2379: 40000000 bytes before, 1000000 after" for number in (1, 3, 2)
    ]
    assert found.state["done"] == ["n1", "n3", "n2"]


def test_only_the_leader_does_something(host: Host) -> None:
    found = cluster(host, leader=2)
    for on in (1, 3):
        assert found.defrag(on).stdout == "not the leader: nothing to do\n"
    assert found.state["done"] == []


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("size", "used", "skipped"),
    [
        (100 * MIB, 91 * MIB, True),
        (100 * MIB, 90 * MIB, False),
        (10 * MIB, 9 * MIB, True),
        (10 * MIB, 8 * MIB, False),
    ],
)
def test_what_gains_little_is_skipped_unless_forced(host: Host, size: int, used: int, skipped: bool) -> None:
    found = cluster(host, node(1, size, used))
    done = found.defrag(1)
    assert ("skipped" in done.stdout, done.returncode) == (skipped, 0)
    assert found.state["done"] == ([] if skipped else ["n1"])
    forced = cluster(host, node(1, size, used))
    forced.defrag(1, "--force")
    assert forced.state["done"] == ["n1"]


@pytest.mark.parametrize(
    ("third", "changes", "why"),
    [
        ({"down": True}, {}, "a member does not answer"),
        ({"unstarted": True}, {}, "not started"),
        ({"learner": True}, {}, "without a vote"),
        ({"leader": BIG + 2}, {}, "do not agree about the leader"),
        ({"leader": 0}, {}, "do not agree about the leader"),
        ({"slow": True}, {}, "context deadline exceeded"),
        ({}, {"alarm": "CORRUPT"}, "CORRUPT"),
    ],
)
def test_nothing_is_touched_while_one_is_ill(
    host: Host, third: dict[str, t.Any], changes: dict[str, t.Any], why: str
) -> None:
    found = cluster(host, node(1), node(2), node(3, **third), **changes)
    done = found.defrag(1)
    assert (done.returncode, done.stdout, found.state["done"]) == (1, "", [])
    assert why in done.stderr


@pytest.mark.parametrize("then", [{"n2": {"down": True}}, {"n3": {"slow": True}}, {"cluster": {"leader": BIG + 3}}])
def test_it_stops_where_a_step_did_harm(host: Host, then: dict[str, t.Any]) -> None:
    found = cluster(host, then={"n2": then})
    done = found.defrag(1)
    assert (done.returncode, found.state["done"]) == (1, ["n2"])
    assert "stopped: " in done.stderr


def test_a_leader_that_is_replaced_by_its_own_turn_is_no_harm(host: Host) -> None:
    found = cluster(host, then={"n1": {"cluster": {"leader": BIG + 3}}})
    done = found.defrag(1)
    assert (done.returncode, found.state["done"]) == (0, ["n2", "n3", "n1"])


def test_a_space_alarm_is_no_hindrance(host: Host) -> None:
    found = cluster(host, alarm="NOSPACE")
    assert found.defrag(1).returncode == 0
    assert found.state["done"] == ["n2", "n3", "n1"]


def test_the_login_comes_from_a_file_and_no_password_is_an_argument(host: Host) -> None:
    found = cluster(host, password="root:canary-9f")
    assert found.defrag(1).returncode == 1
    assert found.state["done"] == []
    host.write("etc/etcd/root.env", "ETCDCTL_USER=root\nETCDCTL_PASSWORD=canary-9f\n")
    done = found.defrag(1)
    assert (done.returncode, found.state["done"]) == (0, ["n2", "n3", "n1"])
    assert "canary" not in json.dumps(found.state["argv"]) + done.stdout + done.stderr


def test_without_a_leader_and_with_a_wrong_option_it_fails(host: Host) -> None:
    done = cluster(host, leader=-BIG).defrag(1)
    assert done.returncode == 1
    assert "knows no leader" in done.stderr
    assert cluster(host).defrag(1, "--now").returncode == 1
