# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of the operations, run by Ansible itself, with answers of hosts in the place of its question."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._operation import plan

GATE = Path(plan.__file__).parents[3] / "playbooks" / "tasks" / "gate.yml"
OURS: dict[str, t.Any] = {"stdout": "example"}
NOBODY: dict[str, t.Any] = {"stdout": ""}
OTHER: dict[str, t.Any] = {"stdout": "globex"}
# As Ansible registers a host that gives no answer, and a task that could not be run at all.
SILENT: dict[str, t.Any] = {"unreachable": True, "msg": "Connection refused"}
BROKEN: dict[str, t.Any] = {"failed": True, "msg": "sudo: a password is required"}


def gate(place: Path, answers: dict[str, t.Any], *arguments: str, **given: t.Any) -> tuple[int, str]:
    tasks = []
    for task in yaml.safe_load(GATE.read_text(encoding="utf-8")):
        if task.get("register") == "__gate":
            asked = {"__gate": "{{ __answers[inventory_hostname] }}"}
            tasks.append({"name": task["name"], "ansible.builtin.set_fact": asked, "vars": {"__answers": answers}})
        elif "evidence_record" not in str(task) and "lock.yml" not in str(task) and "__gate_record" not in str(task):
            tasks.append(task)
    tasks.append({"ansible.builtin.debug": {"msg": "PRESENT {{ groups.dedicated_present | sort | join(',') }}"}})
    play = {
        "hosts": "all",
        "gather_facts": False,
        "any_errors_fatal": True,
        "connection": "local",
        "vars": {"dedicated_cluster": "example", "lock_operation": "trial", "gate_away": []},
        "tasks": tasks,
    }
    (place / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    (place / "given.yml").write_text(yaml.safe_dump({"reason": "trial", **given}))
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", ",".join([*answers, ""]), "-e", "@given.yml"]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(plan.__file__).parents[6]),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        [*argv, *arguments, "play.yml"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("answers", "given", "present"),
    [
        ({"n1": OURS, "n2": OURS, "n3": OURS}, {}, "n1,n2,n3"),
        ({"n1": OURS, "n2": SILENT, "n3": OURS}, {"gate_away": ["n2"]}, "n1,n3"),
        ({"n1": OURS, "n2": BROKEN, "n3": OURS}, {"gate_away": ["n2"]}, "n1,n3"),
        ({"n1": OURS, "n2": OURS, "n3": NOBODY}, {"gate_new": ["n3"]}, "n1,n2,n3"),
        ({"n1": OURS, "n2": OURS, "n3": OURS}, {"gate_new": ["n3"], "gate_away": [""]}, "n1,n2,n3"),
    ],
)
def test_who_may_pass(tmp_path: Path, answers: dict[str, t.Any], given: dict[str, t.Any], present: str) -> None:
    code, said = gate(tmp_path, answers, **given)
    assert code == 0, said
    assert f"PRESENT {present}" in said


@pytest.mark.parametrize(
    ("answers", "given", "words"),
    [
        ({"n1": OURS}, {"reason": " "}, "no-reason: trial would be done"),
        ({"n1": OURS, "n2": SILENT}, {}, "host-unreachable: n2 gives no answer"),
        ({"n1": OURS, "n2": SILENT, "n3": SILENT}, {"gate_away": ["n3"]}, "host-unreachable: n2 gives no answer"),
        # Somebody must be there.
        ({"n1": SILENT, "n2": SILENT}, {"gate_away": ["n1", "n2"]}, "host-unreachable: n1, n2 gives no answer"),
        ({"n1": OURS, "n2": OTHER}, {}, "other-cluster: n2 belongs to cluster globex, and the inventory"),
        ({"n1": NOBODY, "n2": OTHER}, {"gate_new": ["n2"]}, "n1 belongs to no cluster, n2 belongs to cluster globex,"),
        ({"n1": OURS, "n2": BROKEN}, {}, "host-unreachable: n2 gives no answer"),
    ],
)
def test_who_is_refused(tmp_path: Path, answers: dict[str, t.Any], given: dict[str, t.Any], words: str) -> None:
    code, said = gate(tmp_path, answers, **given)
    assert code != 0
    assert words in said
    assert "nothing was changed" in said
    assert "PRESENT" not in said


def test_a_part_of_the_hosts_is_refused(tmp_path: Path) -> None:
    code, said = gate(tmp_path, {"n1": OURS, "n2": OURS, "n3": OURS}, "--limit", "n1")
    assert code != 0
    assert "limited: n2, n3 would not take part; nothing was changed" in said
    assert "PRESENT" not in said
