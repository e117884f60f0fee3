# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters around the judgement of certificates: also in a playbook, with values tagged and templated lazily."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.filter import expiring, rotation_plan, san_mismatch
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate import plan

FILTERS = [expiring, san_mismatch, rotation_plan]
CERTIFICATE = {
    "name": "a",
    "subject": "CN=a",
    "serial": "1",
    "days_left": 9,
    "chain": [],
    "sans": {"dns": ["a"], "ip": ["10.0.0.1"]},
}
ETCD = [
    {
        "layer": "etcd",
        "host": host,
        "name": "etcd",
        "kind": "restart",
        "leader": host == "a",
        "quorum_group": "etcd",
        "healthy": True,
    }
    for host in "abc"
]
PLAY = """
- hosts: all
  gather_facts: false
  vars:
    wanted: [a]
    left: "{{ 9 }}"
    certificates:
      - {name: a, subject: CN=a, serial: "1", days_left: "{{ left | int }}", chain: [], sans: {dns: "{{ wanted }}"}}
    consumers:
      - {layer: etcd, host: n1, name: etcd, kind: restart, quorum_group: etcd, healthy: "{{ 1 == 1 }}", leader: true}
      - {layer: etcd, host: n2, name: etcd, kind: restart, quorum_group: etcd, healthy: true}
      - {layer: "{{ 'edge' }}", host: n1, name: traefik, kind: reload}
    steps: "{{ consumers | dedicated.odoo.rotation_plan(done=[], group_sizes={'etcd': 2}) }}"
  tasks:
    - ansible.builtin.assert:
        that:
          - (certificates | dedicated.odoo.expiring(days=14))[0].level == 14
          - certificates | dedicated.odoo.expiring(days=7) | length == 0
          - (certificates[0] | dedicated.odoo.san_mismatch(wanted)).matches
          - steps | map(attribute='consumers') | flatten | map(attribute='key') | list
            == ['n2/etcd', 'n1/etcd', 'n1/traefik']
"""


@pytest.mark.parametrize("module", FILTERS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_documented_under_its_own_name(module: t.Any) -> None:
    (name,) = module.FilterModule().filters()
    documented = yaml.safe_load(module.DOCUMENTATION)
    assert documented["name"] == name == module.__name__.rpartition(".")[2]
    assert set(yaml.safe_load(module.RETURN)) == {"_value"}


def test_documented_order_of_layers_is_the_real_one() -> None:
    documented = yaml.safe_load(rotation_plan.DOCUMENTATION)["options"]["order"]["default"]
    assert tuple(documented) == plan.LAYERS


def test_expiring() -> None:
    (found,) = expiring.expiring([CERTIFICATE])
    assert (found["level"], found["ends_in_days"], found["name"]) == (14, 9, "a")
    assert expiring.expiring([CERTIFICATE], days="9") == []


def test_san_mismatch() -> None:
    assert san_mismatch.san_mismatch(CERTIFICATE, ["a", "b"]) == {
        "missing": ["dns:b"],
        "superfluous": ["ip:10.0.0.1"],
        "matches": False,
    }


def test_rotation_plan() -> None:
    steps = rotation_plan.rotation_plan(ETCD, done=["c/etcd"], group_sizes={"etcd": 3})
    member = {"name": "etcd", "quorum_group": "etcd"}
    assert steps == [
        {
            "number": number,
            "layer": "etcd",
            "kind": "restart",
            "leader": host == "a",
            "consumers": [{**member, "key": f"{host}/etcd", "host": host}],
        }
        for number, host in ((1, "b"), (2, "a"))
    ]


def test_rotation_plan_is_refused_with_its_code() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^quorum_not_whole: no member of etcd is touched"):
        rotation_plan.rotation_plan([{**ETCD[0], "healthy": False}, *ETCD[1:]])


@pytest.mark.parametrize(
    "ask",
    [
        lambda: expiring.expiring("a"),
        lambda: expiring.expiring([{}]),
        lambda: expiring.expiring([CERTIFICATE], days="soon"),
        lambda: expiring.expiring([CERTIFICATE], days=None),
        lambda: san_mismatch.san_mismatch({}, []),
        lambda: san_mismatch.san_mismatch(CERTIFICATE, "a"),
        lambda: rotation_plan.rotation_plan("a"),
        lambda: rotation_plan.rotation_plan({}),
        lambda: rotation_plan.rotation_plan([{}]),
        lambda: rotation_plan.rotation_plan(ETCD, done="a/etcd"),
        lambda: rotation_plan.rotation_plan(ETCD, hosts=[1]),
        lambda: rotation_plan.rotation_plan(ETCD, at_once=0),
        lambda: rotation_plan.rotation_plan(ETCD, at_once="many"),
        lambda: rotation_plan.rotation_plan(ETCD, group_sizes=[3]),
        lambda: rotation_plan.rotation_plan(ETCD, order=["etcd", "etcd"]),
    ],
)
def test_bad_input(ask: t.Callable[[], t.Any]) -> None:
    with pytest.raises(AnsibleFilterError, match=r"^bad-input: (expiring|san_mismatch|rotation_plan): "):
        ask()


@pytest.mark.parametrize("module", FILTERS, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_argument_is_documented(module: t.Any) -> None:
    (function,) = module.FilterModule().filters().values()
    arguments = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    assert set(yaml.safe_load(module.DOCUMENTATION)["options"]) == {"_input", *arguments}


def test_in_a_playbook(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(plan.__file__).parents[6]),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
    }
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "play.yml"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
