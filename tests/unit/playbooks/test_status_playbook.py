# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook status: what it gathers reaches the report, hosts that are down do not stop it, its exit code tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._status import look

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "module_utils" / "_status"))
from status_scene import LAYERS, Scene, address

PLAYBOOK = Path(look.__file__).parents[3] / "playbooks" / "status.yml"
ASKING = ("host_status", "patroni_cluster_info", "etcd_cluster_info", "redis_sentinel_info")


def inventory(names: list[str]) -> dict[str, t.Any]:
    hosts = {name: {"dedicated_address": address(name)} for name in names}
    return {
        "all": {
            "vars": {
                "dedicated_cluster": "example",
                "edge_vip": "10.20.0.10/24",
                # Nobody listens there: the connection is refused at once.
                "ansible_host": "127.0.0.1",
                "ansible_port": 1,
                "ansible_user": "nobody",
                "ansible_ssh_common_args": "-o ConnectTimeout=2 -o ControlMaster=no",
            },
            "hosts": hosts,
            "children": {layer: {"hosts": dict.fromkeys(hosts)} for layer in LAYERS},
        }
    }


def with_answers(scene: Scene) -> list[dict[str, t.Any]]:
    """The playbook, with what the modules would have returned in the place of its questions."""
    (play,) = yaml.safe_load(PLAYBOOK.read_text(encoding="utf-8"))
    assert play["tasks"][0]["ansible.builtin.import_tasks"] == "tasks/status.yml"
    play["tasks"][0:1] = look_tasks(scene)
    return [play]


def look_tasks(scene: Scene) -> list[dict[str, t.Any]]:
    """The tasks that status and ready share."""
    tasks = yaml.safe_load((PLAYBOOK.parent / "tasks" / "status.yml").read_text(encoding="utf-8"))
    hosts = scene.look()["hosts"]
    asked = []
    for task in tasks[0]["block"]:
        module = next((name for name in ASKING if f"dedicated.odoo.{name}" in task), None)
        if module is None:
            continue
        asked.append(module)
        part = task["register"].removeprefix("__status_").replace("host", "status")
        answers = {name: host[part] for name, host in hosts.items()}
        arguments = task.pop(f"dedicated.odoo.{module}")
        task["ansible.builtin.set_fact"] = {task.pop("register"): "{{ __answers[inventory_hostname] }}"}
        # What the module would have been given must be there and have a value.
        task["vars"] = {**task.get("vars", {}), "__answers": answers, "__arguments": arguments}
        task["failed_when"] = "__arguments | to_json | length == 0"
    assert tuple(asked) == ASKING
    return t.cast("list[dict[str, t.Any]]", tasks)


def run(place: Path, playbook: t.Any, names: list[str], *arguments: str) -> tuple[int, str, dict[str, t.Any]]:
    (place / "hosts.yml").write_text(yaml.safe_dump(inventory(names)))
    if not isinstance(playbook, Path):
        (place / "play.yml").write_text(yaml.safe_dump(playbook, sort_keys=False))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(look.__file__).parents[6]),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_NOCOLOR": "1",
    }
    path = playbook if isinstance(playbook, Path) else place / "play.yml"
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "hosts.yml", str(path)]
    argv += ["-e", f"status_file={place}/status.json", *arguments]
    done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=240)
    output = done.stdout + done.stderr
    assert "changed=1" not in output
    assert (place / "status.json").exists(), output
    return done.returncode, output, json.loads((place / "status.json").read_text())


def test_all_is_well(tmp_path: Path) -> None:
    scene = Scene()
    ended, output, found = run(tmp_path, with_answers(scene), scene.names)
    assert ended == 0, output
    assert found["findings"] == []
    assert found["clusters"]["edge"]["holders"] == ["n1"]
    assert found["clusters"]["postgres"]["sync_standbys"] == ["n2"]
    assert "ALL WELL" in output


def test_something_is_wrong(tmp_path: Path) -> None:
    scene = Scene()
    scene.host_down("n3")
    scene.member("n2")["lag"] = 5_000_000
    arguments = ("-e", '{"status_limits": {"max_lag_bytes": 4000000}}', "--check")
    ended, output, found = run(tmp_path, with_answers(scene), scene.names, *arguments)
    assert ended == 2
    assert [one["code"] for one in found["findings"] if not one["cause"]] == ["host-unreachable", "postgres-lag"]
    assert "1 CRITICAL, 5 WARNING: host-unreachable n3, postgres-lag n2" in " ".join(output.split())


@pytest.mark.parametrize("arguments", [(), ("--limit", "n1,n3", "-e", "status_format=json")])
def test_hosts_that_give_no_answer_do_not_stop_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    names = ["n1", "n2", "n3"]
    ended, output, found = run(tmp_path, PLAYBOOK, names, *arguments)
    assert ended == 2
    asked = [name for name in names if not arguments or name != "n2"]
    silent = [one["host"] for one in found["findings"] if one["code"] == "host-unreachable"]
    assert silent == asked
    assert [one["host"] for one in found["findings"] if one["code"] == "host-not-asked"] == sorted({*names} - {*asked})
    assert "unreachable=1" not in output
    assert output.count("UNREACHABLE!") == len(asked)
