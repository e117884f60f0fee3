# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""retire_check through a real ansible-playbook, and the playbook up to its first refusal; no host is connected to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.action import inventory_check, retire_check
from ansible_collections.dedicated.odoo.plugins.module_utils._retire import plan
from ansible_collections.dedicated.odoo.plugins.modules import retire_check as documentation

ROOT = Path(__file__).resolve().parents[4]
COLLECTIONS = Path(plan.__file__).parents[6]
PLAYBOOK = ROOT / "playbooks" / "retire_host.yml"
LAYERS = ("edge", "odoo", "redis", "postgres", "etcd")
KNOWN = ["dedicated_cluster", "dedicated_address", "dedicated_domain", "dedicated_secure_logging"]


def variables() -> dict[str, t.Any]:
    """Something for every required option."""
    found: dict[str, t.Any] = {"dedicated_cluster": "proof", "dedicated_domain": "odoo.test"}
    for option in inventory_check.read_options(ROOT / "roles"):
        if option.required and option.role not in ("stack",):
            image = option.name.endswith("_image")
            found[option.name] = "r.test/x@sha256:" + "a" * 64 if image else "kU3x9PqLw7Zr2VbN8sTd"
    store = {"endpoint": "s3.test", "bucket": "backup", "key": "key", "key_secret": "kU3x9PqLw7Zr2VbN8sTe"}
    repository = {"number": 1, "type": "s3", "path": "/pgbackrest", "cipher_pass": "kU3x9PqLw7Zr2VbN8sTd", "s3": store}
    found["pgbackrest_repositories"] = [repository]
    return found


def play(place: Path, playbook: Path, members: dict[str, int], *arguments: str, **more: t.Any) -> tuple[int, str]:
    """Run it. Nothing listens where the hosts are said to be, and nothing may be asked for."""
    every = [f"n{number}" for number in range(1, max(members.values()) + 1)]
    hosts = {name: {"dedicated_address": f"192.0.2.{number}"} for number, name in enumerate(every, 1)}
    children = {layer: {"hosts": dict.fromkeys(every[: members[layer]])} for layer in LAYERS}
    inventory = {"all": {"hosts": hosts, "vars": {**variables(), **more}, "children": children}}
    (place / "hosts.yml").write_text(yaml.safe_dump(inventory))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_TIMEOUT": "1",
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
    }
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "hosts.yml", str(playbook), *arguments]
    done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=180)
    return done.returncode, done.stdout + done.stderr


def four(**more: int) -> dict[str, int]:
    return {**dict.fromkeys(LAYERS, 4), "etcd": 3, **more}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "no-host-named"),
        (("-e", "retire=n9"), "unknown-host"),
        (("-e", "retire=n1"), "even-etcd"),
        (("-e", "retire=n1", "-e", "retire_allow_even=true"), "tier-not-kept"),
        (("-e", "retire=n4", "--limit", "n1,n4"), "limited"),
    ],
)
def test_the_playbook_refuses_before_it_connects(tmp_path: Path, arguments: tuple[str, ...], code: str) -> None:
    ended, output = play(tmp_path, PLAYBOOK, four(), *arguments)
    assert ended != 0
    assert f"{code}: " in output
    assert "Nothing was changed." in output
    assert "UNREACHABLE" not in output
    assert "changed=0" in output


def looks() -> dict[str, dict[str, t.Any]]:
    members = [f"n{number}" for number in range(1, 5)]
    return {
        "etcd": {
            "reachable": True,
            "reasons": [],
            "members": [{"name": name, "id": name, "learner": False, "reachable": True} for name in members[:3]],
        },
        "postgres": {
            "reachable": True,
            "leader": "n1",
            "reasons": [],
            "synchronous_mode": "on",
            "members": [{"name": name, "state": "streaming", "tags": {}} for name in members],
        },
        "redis": {
            "reachable": True,
            "master": "192.0.2.4:6379",
            "reasons": [],
            "sentinels": [
                {"address": f"192.0.2.{number}:26379", "reachable": True, "quorum_needed": 3} for number in range(1, 5)
            ],
        },
    }


def judge(place: Path, host: str, seen: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    task = {
        "dedicated.odoo.retire_check": {
            "host": host,
            "reached": "{{ ansible_play_hosts_all }}",
            "clusters": True,
            "known_variables": KNOWN,
            **seen,
            **more,
        },
        "run_once": True,
        "ignore_errors": True,
        "register": "judged",
    }
    out = {
        "ansible.builtin.copy": {"dest": str(place / "out.json"), "content": "{{ judged | to_json }}", "mode": "0600"},
        "run_once": True,
        "delegate_to": "localhost",
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    }
    (place / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task, out]}]))
    _, output = play(place, place / "play.yml", four())
    assert (place / "out.json").exists(), output
    return t.cast("dict[str, t.Any]", json.loads((place / "out.json").read_text()))


def test_a_host_that_may_leave(tmp_path: Path) -> None:
    result = judge(tmp_path, "n4", looks())
    assert result["changed"] is False
    assert result["refusals"] == []
    assert (result["tier"], result["layers"]) == ("ha", ["edge", "odoo", "redis", "postgres"])
    assert result["moves_redis_master"] is True
    assert len(result["plan"]) == 5


def test_a_leader_may_not(tmp_path: Path) -> None:
    seen = looks()
    seen["postgres"]["leader"] = "n4"
    result = judge(tmp_path, "n4", seen)
    assert (result["failed"], result["code"], result["plan"]) == (True, "postgres-leader", [])
    assert "dedicated.odoo.switchover" in result["refusals"][0]["do"]


def test_nobody_was_asked_is_no_health(tmp_path: Path) -> None:
    result = judge(tmp_path, "n4", {})
    assert [one["code"] for one in result["refusals"]] == ["redis-does-not-answer", "postgres-does-not-answer"]
    assert "There are 2 reasons against it." in result["msg"]


def test_documentation_is_of_the_arguments() -> None:
    options = yaml.safe_load(documentation.DOCUMENTATION)["options"]
    assert options.keys() == retire_check.ARGUMENTS.keys()
    for name, option in options.items():
        for key in ("type", "required", "default", "elements"):
            assert option.get(key) == retire_check.ARGUMENTS[name].get(key), name


def plays() -> list[dict[str, t.Any]]:
    return t.cast("list[dict[str, t.Any]]", yaml.safe_load(PLAYBOOK.read_text()))


def staying() -> dict[str, t.Any]:
    (found,) = {json.dumps(each["vars"], sort_keys=True) for each in plays() if "edge_backends" in each.get("vars", {})}
    return t.cast("dict[str, t.Any]", json.loads(found))


def test_no_role_counts_the_host_by_its_groups() -> None:
    """Whatever a role derives from the groups is given by the playbook, without the host."""
    derived = {
        name
        for path in ROOT.glob("roles/*/defaults/main.yml")
        for name, value in yaml.safe_load(path.read_text()).items()
        if isinstance(value, str) and re.search(r"\bgroups\b", value)
    }
    # The firewall's is empty by default: the inventory's groups.
    assert derived | {"firewall_groups"} == {name for name in staying() if not name.startswith("__")}


def test_only_declared_hosts_are_left(tmp_path: Path) -> None:
    names = sorted(name for name in staying() if not name.startswith("__"))
    show = "{{ {" + ", ".join(f"'{name}': {name}" for name in names) + "} | to_json }}"
    write = {
        "ansible.builtin.copy": {"dest": str(tmp_path / "out.json"), "content": show, "mode": "0600"},
        "delegate_to": "localhost",
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    }
    check = [{"hosts": "odoo:!{{ retire }}", "gather_facts": False, "vars": staying(), "tasks": [write]}]
    check[0]["tasks"][0]["run_once"] = True  # type: ignore[index]  # a play is a mapping of anything
    (tmp_path / "play.yml").write_text(yaml.safe_dump(check))
    declared = {"odoo_cron_members": ["n4", "n3"], "edge_backends": "{{ groups.odoo[1:] }}"}
    ended, output = play(tmp_path, tmp_path / "play.yml", four(), "-e", "retire=n4", **declared)
    assert ended == 0, output
    lists = json.loads((tmp_path / "out.json").read_text())
    groups = lists.pop("firewall_groups")
    assert groups["redis"] == groups["edge"] == ["n1", "n2", "n3"]
    assert not any("n4" in hosts for hosts in groups.values())
    assert lists.pop("odoo_cron_members") == ["n3"]
    assert lists.pop("edge_backends") == ["n2", "n3"]
    assert set(map(tuple, lists.values())) == {("n1", "n2", "n3")}
