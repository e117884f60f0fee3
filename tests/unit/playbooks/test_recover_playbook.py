# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificates are made anew when some are over, and in which turns: run by Ansible itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._operation import plan

ROOT = Path(plan.__file__).parents[3]
THREE = ("erp1", "erp2", "erp3")
EVERYTHING = ["edge", "edge-client", "etcd", "etcd-client", "postgres", "redis", "router"]
GATHER = ("Who reads which certificate here?", "As a list", "One moment for all", "By the calendar",
          "What is made anew here", "What happens now")  # fmt: skip


def recover_play() -> dict[str, t.Any]:
    plays = yaml.safe_load((ROOT / "playbooks" / "recover_certificates.yml").read_text(encoding="utf-8"))
    (play,) = [one for one in plays if one["name"] == "Recover"]
    return dict(play)


def run(
    place: Path, days: dict[str, dict[str, float]], former: dict[str, list[str]] | None = None, **given: t.Any
) -> dict[str, t.Any]:
    """What each host found. `days`: what is left of each, by host."""
    play = recover_play()
    tasks = [one for one in play["tasks"] if one["name"] in GATHER]
    seen = {
        host: [
            {"path": f"/etc/dedicated/pki/{name}/cert.pem", "not_after": int(time.time() + left * 86400)}
            for name, left in ends.items()
        ]
        for host, ends in days.items()
    }
    opened = {host: [f"/etc/dedicated/pki/.former/{name}" for name in (former or {}).get(host, [])] for host in days}
    answers = {
        "__recover_seen": {"certificates": "{{ __given[inventory_hostname] }}"},
        "__rotate_open": {"stdout_lines": "{{ __opened[inventory_hostname] }}"},
    }
    tasks.insert(
        2, {"name": "Answers", "ansible.builtin.set_fact": answers, "vars": {"__given": seen, "__opened": opened}}
    )
    layer = yaml.safe_load((ROOT / "playbooks" / "tasks" / "recover_layer.yml").read_text(encoding="utf-8"))
    turns = layer[0]["vars"]["__recover_turns"]
    tasks.append(
        {
            "name": "Turns",
            "ansible.builtin.set_fact": {"__turns": "{{ (__turns | default([])) + __recover_turns }}"},
            "vars": {"__recover_turns": turns},
            "loop": "{{ __recover_layers | dict2items }}",
            "loop_control": {"loop_var": "__recover_layer"},
        }
    )
    shown = {
        "due": "{{ __recover_due }}",
        "names": "{{ __recover_names }}",
        "turns": "{{ __turns }}",
        "much": "{{ __recover_much }}",
    }
    show = {"content": "{{ __shown | to_json }}", "dest": "{{ __to }}/{{ inventory_hostname }}.json", "mode": "0600"}
    tasks.append({"name": "Show", "ansible.builtin.copy": show, "vars": {"__shown": shown}})
    certificates = str(ROOT / "playbooks" / "vars" / "certificates.yml")
    play.update(hosts="all", connection="local", become=False, tasks=tasks, vars_files=[certificates])
    inventory = {
        "all": {
            "hosts": {name: {"dedicated_address": f"10.0.0.{number}"} for number, name in enumerate(days, 1)},
            "vars": {
                "dedicated_cluster": "example",
                "dedicated_domain": "erp.example.com",
                "ansible_python_interpreter": sys.executable,
                "__to": str(place),
            },
            "children": {
                name: {"hosts": dict.fromkeys(days)} for name in ("etcd", "postgres", "redis", "odoo", "edge")
            },
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
    found = {name: json.loads((place / f"{name}.json").read_text()) for name in days}
    found["said"] = done.stdout
    return found


def test_everything_is_over(tmp_path: Path) -> None:
    """etcd first, everywhere at once; Redis one after the other."""
    found = run(tmp_path, {host: dict.fromkeys(EVERYTHING, -1) for host in THREE})
    assert all(sorted(found[host]["due"]) == EVERYTHING for host in THREE)
    everywhere = list(THREE)
    assert [(one["name"], one["host"]) for one in found["erp1"]["turns"]] == [
        ("etcd", everywhere),
        ("etcd-client", everywhere),
        ("postgres", everywhere),
        ("redis", ["erp1"]),
        ("redis", ["erp2"]),
        ("redis", ["erp3"]),
        ("router", everywhere),
        ("edge-client", everywhere),
        ("edge", everywhere),
    ]
    assert found["erp2"]["turns"] == found["erp1"]["turns"]


def test_nothing_is_over(tmp_path: Path) -> None:
    found = run(tmp_path, {host: dict.fromkeys(EVERYTHING, 20) for host in THREE})
    assert not any(found[host]["much"] or found[host]["turns"] for host in THREE)
    assert "nothing is done" in found["said"]


def test_only_what_ends_in_time_and_a_shared_one_for_all(tmp_path: Path) -> None:
    left = {host: dict.fromkeys(EVERYTHING, 20.0) for host in THREE}
    left["erp2"] |= {"redis": 9, "edge": 5, "postgres": 11}
    found = run(tmp_path, left, within_days=10)
    assert found["erp2"]["due"] == ["edge", "redis"]
    assert found["erp1"]["due"] == found["erp3"]["due"] == ["edge"]
    assert [(one["name"], one["host"]) for one in found["erp1"]["turns"]] == [
        ("redis", ["erp2"]),
        ("edge", list(THREE)),
    ]


def test_what_a_killed_run_has_begun_has_its_turn(tmp_path: Path) -> None:
    """It is not made anew: what lies there is new, and has only not been seen to be served."""
    found = run(tmp_path, {host: dict.fromkeys(EVERYTHING, 80) for host in THREE}, {"erp3": ["postgres"]})
    assert (found["erp3"]["due"], found["erp3"]["names"]) == ([], ["postgres"])
    assert [(one["name"], one["host"]) for one in found["erp1"]["turns"]] == [("postgres", ["erp3"])]


def test_every_certificate_has_its_layer() -> None:
    """One that is in none would be made anew, and never brought in."""
    known = yaml.safe_load((ROOT / "playbooks" / "vars" / "certificates.yml").read_text(encoding="utf-8"))
    layers = recover_play()["vars"]["__recover_layers"]
    assert sorted(name for names in layers.values() for name in names) == sorted(
        one["name"] for one in known["__certificates_all"]
    )
