# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts are asked and compared through a real ansible-playbook; this machine plays each of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.action import host_preflight, hosts_compare
from ansible_collections.dedicated.odoo.plugins.module_utils._hosts import plan
from ansible_collections.dedicated.odoo.plugins.modules import hosts_compare as documentation

COLLECTIONS = Path(plan.__file__).parents[6]
OURS, OTHER = (str(second << 32 | 7) for second in (1795312537, 1700000000))
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - dedicated.odoo.host_preflight:
        supported_os: "{{ supported }}"
        min_cpus: 1
        min_memory_mb: 1
        postgres_data: "{{ data }}"
      register: preflight
    - dedicated.odoo.hosts_compare:
        answers: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'preflight'))) }}"
        tier: ha
        system_identifier: "{{ pin }}"
      run_once: true
      register: compared
    - ansible.builtin.copy:
        dest: "{{ playbook_dir }}/out.json"
        content: "{{ {'preflight': preflight, 'compared': compared} | to_json }}"
        mode: "0600"
      run_once: true
"""


def system() -> str:
    text = Path("/etc/os-release").read_text()
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return f"{values['ID']}-{values.get('VERSION_ID', 'unknown')}".replace('"', "")


def play(place: Path, identifiers: dict[str, str], pin: str = "") -> tuple[int, str]:
    hosts: dict[str, t.Any] = {}
    for name, identifier in identifiers.items():
        folder = place / name / "global"
        folder.mkdir(parents=True)
        if identifier:
            (folder / "pg_control").write_bytes(int(identifier).to_bytes(8, "little") + (1700).to_bytes(4, "little"))
        hosts[name] = {"data": str(place / name)}
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "supported": [system()],
        "pin": pin,
    }
    inventory = {"all": {"vars": variables, "children": {"postgres": {"hosts": hosts}}}}
    (place / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (place / "play.yml").write_text(PLAY)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(place / "remote"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "ansible.cli.playbook", "-i", "hosts.yml", "play.yml"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_hosts_that_fit_together(tmp_path: Path) -> None:
    code, text = play(tmp_path, {"n1": OURS, "n2": OURS, "n3": ""})
    assert code == 0, text
    out = json.loads((tmp_path / "out.json").read_text())
    assert (out["compared"]["findings"], out["compared"]["changed"]) == ([], False)
    clock = out["preflight"]["clock"]
    # One clock for all: whatever the readings took, they agree.
    assert abs(clock["offset"]) <= clock["uncertainty"] + 0.01
    assert out["preflight"]["host"]["system_identifier"] == OURS
    assert "Traceback" not in text


def test_leftover_data_is_refused(tmp_path: Path) -> None:
    code, text = play(tmp_path, {"n1": OURS, "n2": OTHER})
    assert code != 0
    assert "The hosts do not fit together for 1 reason(s); nothing was changed." in text
    assert "leftover-data" in text
    assert not (tmp_path / "out.json").exists()


def test_pin_decides_which_data_is_right(tmp_path: Path) -> None:
    code, text = play(tmp_path, {"n1": OURS}, pin=OTHER)
    assert code != 0
    assert "leftover-data" in text


def test_pin_that_is_none(tmp_path: Path) -> None:
    code, text = play(tmp_path, {"n1": OURS}, pin="lab")
    assert code != 0
    assert "bad-input: 'lab' is no system identifier" in text


def test_documentation_equals_the_arguments() -> None:
    documented = yaml.safe_load(documentation.DOCUMENTATION)["options"]
    assert documented.keys() == hosts_compare.ARGUMENTS.keys()
    for name, option in hosts_compare.ARGUMENTS.items():
        for key in ("type", "default", "choices", "required"):
            assert documented[name].get(key) == option.get(key), (name, key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("102.5\n", {"offset": 1.5, "uncertainty": 1.0}),
        ("Welcome!\r\n101.0\r\n", {"offset": 0.0, "uncertainty": 1.0}),
        ("", {}),
        ("date: no such option\n", {}),
    ],
)
def test_parse_clock(text: str, expected: dict[str, float]) -> None:
    assert host_preflight.parse_clock(text, 100.0, 102.0) == expected


@pytest.mark.parametrize(
    ("round_trips", "answers", "expected"),
    [
        ([0.1], ["100.05"], {"offset": 0.0, "uncertainty": 0.05}),
        ([4.0, 1.0, 2.0], ["101", "100.5", "101"], {"offset": 0.0, "uncertainty": 0.5}),
        ([4.0, 0.1], ["101", "100.05"], {"offset": 0.0, "uncertainty": 0.05}),
        ([4.0, 1.0, 2.0], ["", "100.5", ""], {"offset": 0.0, "uncertainty": 0.5}),
        ([1.0, 1.0, 1.0], ["", "", ""], {}),
    ],
)
def test_the_sharpest_look_at_a_clock_counts(
    round_trips: list[float], answers: list[str], expected: dict[str, float]
) -> None:
    moments = iter([moment for length in round_trips for moment in (100.0, 100.0 + length)])
    texts = iter(answers)
    assert host_preflight.measure(lambda: next(texts), lambda: next(moments)) == expected
    assert next(texts, None) is None, "no more looks than needed"
