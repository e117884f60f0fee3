# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reads which certificate by the word of the roles, and in which order they are rotated: run by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._operation import plan

ROOT = Path(plan.__file__).parents[3]
PLAYBOOK = ROOT / "playbooks" / "rotate_certificates.yml"
ROLES = ("etcd", "postgres", "redis", "router", "edge")
THREE = ("erp1", "erp2", "erp3")


def rotate_play() -> dict[str, t.Any]:
    plays = yaml.safe_load(PLAYBOOK.read_text(encoding="utf-8"))
    (play,) = [one for one in plays if one["name"] == "Rotate"]
    return dict(play)


def tasks(waiting: dict[str, list[str]]) -> list[dict[str, t.Any]]:
    """Those that gather and judge, with answers in the place of the questions."""
    kept = []
    for task in rotate_play()["tasks"]:
        if task["name"] in ("Who reads which certificate here?", "As a list", "The order"):
            kept.append(task)
    answers = {
        "__pki_staged": "{{ __given[inventory_hostname] }}",
        "__rotate_leads": "{{ {'postgres': inventory_hostname == 'erp2', 'etcd': inventory_hostname == 'erp1'} }}",
    }
    given = {host: {"staged": [{"name": name, "serial": "1"} for name in names]} for host, names in waiting.items()}
    kept.insert(2, {"name": "Answers", "ansible.builtin.set_fact": answers, "vars": {"__given": given}})
    show = {"content": "{{ __shown | to_json }}", "dest": "{{ __to }}/{{ inventory_hostname }}.json", "mode": "0600"}
    shown = {
        "consumers": "{{ __rotate_consumers }}",
        "steps": "{{ __rotate_steps }}",
        "certificates": "{{ __certificates_here | map(attribute='name') }}",
    }
    kept.append({"name": "Show", "ansible.builtin.copy": show, "vars": {"__shown": shown}})
    return kept


def run(place: Path, hosts: t.Sequence[str], waiting: dict[str, list[str]], **given: t.Any) -> dict[str, t.Any]:
    """What each host found."""
    play = rotate_play()
    play.update(
        hosts="all",
        connection="local",
        become=False,
        tasks=tasks(waiting),
        vars_files=[str(ROOT / "playbooks" / "vars" / "certificates.yml")],
    )
    groups = {name: {"hosts": dict.fromkeys(hosts)} for name in ("etcd", "postgres", "redis", "odoo", "edge")}
    inventory = {
        "all": {
            "hosts": {name: {"dedicated_address": f"10.0.0.{number}"} for number, name in enumerate(hosts, 1)},
            "vars": {
                "dedicated_cluster": "example",
                "dedicated_domain": "erp.example.com",
                "ansible_python_interpreter": sys.executable,
                "__to": str(place),
            },
            "children": groups,
        }
    }
    (place / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (place / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    (place / "given.yml").write_text(yaml.safe_dump({"reason": "trial", **given}))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(plan.__file__).parents[6]),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
    }
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "hosts.yml", "-e", "@given.yml", "play.yml"]
    done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return {name: json.loads((place / f"{name}.json").read_text()) for name in hosts}


EVERYTHING = ["edge", "edge-client", "etcd", "etcd-client", "postgres", "redis", "router"]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    return run(tmp_path_factory.mktemp("three"), THREE, dict.fromkeys(THREE, EVERYTHING))


def readers(found: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    return {one["name"]: one for one in found["consumers"]}


def test_every_certificate_of_a_site_has_a_reader(three: dict[str, t.Any]) -> None:
    for found in three.values():
        assert sorted(readers(found)) == sorted(found["certificates"]) == EVERYTHING


def test_who_is_told_and_who_restarts(three: dict[str, t.Any]) -> None:
    found = readers(three["erp2"])
    assert [name for name, one in found.items() if one["kind"] == "restart"] == ["redis"]
    assert found["redis"]["reload"][0][:3] == ["docker", "compose", "--project-directory"]
    assert "--force-recreate" in found["redis"]["reload"][0]
    assert found["postgres"]["reload"] == [["docker", "exec", "postgres", "sh", "-c", "kill -HUP 1"]]
    # Patroni shows it to etcd, and has to be told.
    assert (found["etcd-client"]["stack"], found["etcd-client"]["layer"]) == ("postgres", "postgres")
    assert (found["etcd"]["reload"], found["etcd"]["group"]) == ([], "")
    assert (found["router"]["group"], found["router"]["layer"]) == ("haproxy", "odoo")
    assert found["edge"]["directory"] == "/etc/dedicated/pki/edge"


def test_where_each_is_seen(three: dict[str, t.Any]) -> None:
    found = readers(three["erp2"])
    seen = {name: [(one["protocol"], one["port"]) for one in reader["endpoints"]] for name, reader in found.items()}
    assert seen == {
        "edge": [("https", 443)],
        "edge-client": [],
        "etcd": [("etcd", 2379), ("etcd", 2380)],
        "etcd-client": [],
        "postgres": [("postgresql", 5432), ("patroni", 8008)],
        "redis": [("redis", 6379), ("redis", 26379)],
        "router": [("https", 8443)],
    }
    assert {one["host"] for reader in found.values() for one in reader["endpoints"]} == {"10.0.0.2"}
    assert found["edge"]["endpoints"][0]["server_name"] == "erp.example.com"


def test_etcd_first_and_the_leader_last(three: dict[str, t.Any]) -> None:
    steps = three["erp1"]["steps"]
    assert all(found["steps"] == steps for found in three.values())
    keys = [one["key"] for step in steps for one in step["consumers"]]
    assert len(keys) == len(set(keys)) == len(THREE) * len(EVERYTHING)
    assert keys[:3] == ["erp2/etcd", "erp3/etcd", "erp1/etcd"]
    assert {one.split("/")[0] for one in keys[7:9]} == {"erp2"}
    assert [step["layer"] for step in steps] == sorted(
        (step["layer"] for step in steps), key=["etcd", "postgres", "redis", "odoo", "edge"].index
    )


def test_a_part_and_what_is_done_already(tmp_path: Path) -> None:
    waiting = {"erp1": ["postgres"], "erp2": [], "erp3": ["etcd", "postgres"]}
    found = run(tmp_path, THREE, waiting, layer="postgres,redis", host="erp1,erp3")
    keys = [one["key"] for step in found["erp1"]["steps"] for one in step["consumers"]]
    assert keys == ["erp1/postgres", "erp3/postgres"]


def test_a_single_host_has_no_router_port_and_no_other_edge(tmp_path: Path) -> None:
    found = run(tmp_path, ["one"], {"one": EVERYTHING})["one"]
    assert readers(found)["router"]["endpoints"] == []
    assert "edge-client" not in readers(found)
    assert found["steps"][0]["consumers"][0]["key"] == "one/etcd"


def test_the_roles_lay_their_stacks_down_with_the_same_words() -> None:
    """What is watched and how it is told stands once, in the role's variables."""
    for role in ROLES:
        said = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "roles" / role / "tasks").glob("*.yml"))
        assert said.count(f'stack_watch: "{{{{ __{role}_watch }}}}"') == 2, role
