# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook ready: what it gathers reaches the judge, no secret does, hosts that are down do not stop it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from test_status_playbook import PLAYBOOK as STATUS
from test_status_playbook import Scene, inventory, look, look_tasks

PLAYBOOK = STATUS.with_name("ready.yml")
CANARY = "canary-5d1f-secret"
ENDPOINT = "s3.example.com"


def repositories(endpoint: str = ENDPOINT) -> list[dict[str, t.Any]]:
    """As an inventory has them; the first keeps longer than the second."""
    first = {
        "number": 1,
        "type": "s3",
        "path": "/pgbackrest",
        "cipher_pass": CANARY,
        "retention_days": 90,
        "s3": {"endpoint": endpoint, "bucket": "backup", "key": "key", "key_secret": f"{CANARY}-2"},
    }
    second = {"number": 2, "type": "posix", "path": "/mnt/backup", "cipher_pass": f"{CANARY}-3", "retention_days": 30}
    return [first, {**second, "shared": True}] if endpoint == ENDPOINT else [first]


PROMISED = {"policy_met": True, "policy_days": 30, "in_effect": [{"repository": 1, "kind": "time", "number": 30}]}
GOOD = {"ok": True, "heads": [], "copies": [{"records": 9, "signed": 9, "signers": ["a" * 16], "checked": True}]}


def with_answers(scene: Scene, retention: t.Any, controller: t.Any, hosts: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """The playbook, with answers in the place of its questions."""
    (play,) = yaml.safe_load(PLAYBOOK.read_text(encoding="utf-8"))
    assert [one.get("ansible.builtin.import_tasks") for one in play["tasks"][:2]] == [
        "tasks/status.yml",
        "tasks/evidence.yml",
    ]
    evidence = yaml.safe_load((PLAYBOOK.parent / "tasks" / "evidence.yml").read_text(encoding="utf-8"))
    asked = [*evidence[0]["block"], *play["tasks"]]
    for task in asked:
        module = next(
            (name for name in ("verify_evidence", "pgbackrest_expire") if f"dedicated.odoo.{name}" in task), ""
        )
        if not module:
            continue
        arguments = task.pop(f"dedicated.odoo.{module}")
        answers: dict[str, t.Any] = {name: hosts.get(name, GOOD) for name in scene.names}
        if module == "pgbackrest_expire":
            answers = dict.fromkeys(scene.names, retention)
            task["failed_when"] = "__arguments.retention_days | int != 30 and __arguments.by_repository | length == 2"
        elif arguments.get("controller"):
            answers = dict.fromkeys(scene.names, controller)
        task["ansible.builtin.set_fact"] = {task.pop("register"): "{{ __answers[inventory_hostname] }}"}
        task["vars"] = {**task.get("vars", {}), "__answers": answers, "__arguments": arguments}
    play["tasks"] = [*look_tasks(scene), *evidence, *play["tasks"][2:]]
    return [play]


def run(place: Path, playbook: t.Any, names: list[str], **variables: t.Any) -> tuple[int, str, dict[str, t.Any]]:
    site = inventory(names)
    site["all"]["vars"].update({"pgbackrest_repositories": repositories()})
    (place / "hosts.yml").write_text(yaml.safe_dump(site))
    if not isinstance(playbook, Path):
        (place / "play.yml").write_text(yaml.safe_dump(playbook, sort_keys=False))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(look.__file__).parents[6]),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_NOCOLOR": "1",
        "DEDICATED_EVIDENCE_DIR": str(place / "state"),
    }
    path = playbook if isinstance(playbook, Path) else place / "play.yml"
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "hosts.yml", str(path)]
    argv += ["-e", json.dumps({"ready_file": f"{place}/ready.json", **variables})]
    done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=240)
    output = done.stdout + done.stderr
    assert (place / "ready.json").exists(), output
    written = (place / "ready.json").read_text()
    assert CANARY not in output + written
    return done.returncode, output, json.loads(written)


def test_a_platform_that_is_ready(tmp_path: Path) -> None:
    scene = Scene()
    for one in scene.status.values():
        one["verification"]["repositories"] = [1, 2]
    play = with_answers(scene, PROMISED, GOOD, {})
    ended, output, found = run(tmp_path, play, scene.names, evidence_require_signature=True)
    assert ended == 0, output
    assert (found["ok"], len(found["demands"])) == (True, 10)
    assert "READY: 10 demands are met" in output
    assert "4 places agree, 9 records" in output
    assert "1 (s3 at s3.example.com), 2 (posix, shared)" in " ".join(output.split())


def test_everything_that_was_asked_reaches_the_judge(tmp_path: Path) -> None:
    scene = Scene()
    bad = {**GOOD, "ok": False}
    play = with_answers(scene, {"failed": True, "code": "below_policy", "msg": "it keeps 7 days"}, GOOD, {"n2": bad})
    ended, output, found = run(
        tmp_path,
        play,
        scene.names,
        rto_seconds=61,
        ready_limits={"backup_seconds": 7200},
        pgbackrest_repositories=repositories("10.20.0.12"),
    )
    assert ended == 2
    assert found["missing"] == [
        "backup-recent", "restore-targets", "repository-elsewhere", "retention-kept", "evidence-whole",
    ]  # fmt: skip
    assert "not-ready: NOT READY: 5 of 9 demands are not met: backup-recent, " in " ".join(output.split())
    told = {one["code"]: one["what"] for one in found["demands"]}
    assert told["retention-kept"] == "it keeps 7 days"
    assert told["evidence-whole"].endswith(": n2")


@pytest.mark.parametrize("variables", [{}, {"evidence_require_signature": True, "ready_format": "json"}])
def test_hosts_that_give_no_answer_do_not_stop_it(tmp_path: Path, variables: dict[str, t.Any]) -> None:
    ended, output, found = run(tmp_path, PLAYBOOK, ["n1", "n2", "n3"], **variables)
    assert ended == 2
    assert [one["code"] for one in found["demands"] if one["met"]] == ["repository-elsewhere"]
    assert "unreachable=1" not in output
