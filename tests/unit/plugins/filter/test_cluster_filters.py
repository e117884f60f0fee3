# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters and tests around the views of clusters: also in a playbook, where values are tagged and templated lazily."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.filter import (
    lag_of,
    leader_of,
    quorum_of,
    status_report,
    sync_standbys,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._status import views
from ansible_collections.dedicated.odoo.plugins.test import etcd_healthy, patroni_healthy, redis_healthy

FILTERS = [lag_of, leader_of, quorum_of, status_report, sync_standbys]
TESTS = [etcd_healthy, patroni_healthy, redis_healthy]

PATRONI: dict[str, t.Any] = {
    "scope": "example",
    "members": [
        {"name": "n1", "role": "leader", "state": "running", "timeline": 4, "host": "10.0.0.1", "port": 5432},
        {"name": "n2", "role": "sync_standby", "state": "streaming", "timeline": 4, "lag": 0},
        {"name": "n3", "role": "replica", "state": "streaming", "timeline": 4, "lag": 2048},
    ],
}
ETCD: dict[str, t.Any] = {
    "reachable": True,
    "cluster_id": "ff",
    "leader": "n2",
    "members": [{"name": name, "reachable": name != "n3"} for name in ("n1", "n2", "n3")],
    "quorum": {"voters": 3, "needed": 2, "answering": 2, "spare": 0},
    "healthy": False,
    "reasons": ["n3 does not answer"],
}
REDIS: dict[str, t.Any] = {
    "reachable": True,
    "master": "10.0.0.1:6379",
    "quorum": True,
    "sentinels": [
        {"address": f"10.0.0.{one}:26379", "reachable": True, "sees_master": "10.0.0.1:6379", "quorum_ok": True}
        for one in (1, 2, 3)
    ],
    "nodes": [{"address": "10.0.0.1:6379", "lag": None}, {"address": "10.0.0.2:6379", "lag": 5}],
    "healthy": True,
    "reasons": [],
}

PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    nothing: {changed: false, skipped: true}
    which: "{{ patroni }}"
    look: {hosts: {n1: {status: "{{ nothing }}"}}}
  tasks:
    - ansible.builtin.assert:
        that:
          - which | dedicated.odoo.leader_of == 'n1'
          - etcd | dedicated.odoo.leader_of == 'n2'
          - redis | dedicated.odoo.leader_of == '10.0.0.1:6379'
          - nothing | dedicated.odoo.leader_of is none
          - which | dedicated.odoo.sync_standbys == ['n2']
          - (which | dedicated.odoo.lag_of).n3 == 2048
          - (etcd | dedicated.odoo.quorum_of).spare == 0
          - (redis | dedicated.odoo.quorum_of(total=5)).needed == 3
          - which is dedicated.odoo.patroni_healthy
          - which is dedicated.odoo.patroni_healthy(expected=['n1', 'n2', 'n3'])
          - which is not dedicated.odoo.patroni_healthy(expected=['n4'])
          - which is not dedicated.odoo.patroni_healthy(max_lag=1024)
          - etcd is not dedicated.odoo.etcd_healthy
          - redis is dedicated.odoo.redis_healthy(expected=['10.0.0.2:6379'])
          - nothing is not dedicated.odoo.redis_healthy
          - (look | dedicated.odoo.status_report).findings[0].code == 'host-not-told'
          - (which | to_json | from_json).members | community.general.json_query('[?lag>`1`].name') == ['n3']
"""


def test_in_a_playbook(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "vars.json").write_text(json.dumps({"patroni": PATRONI, "etcd": ETCD, "redis": REDIS}))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(views.__file__).parents[6]),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
    }
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-e", "@vars.json", "play.yml"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "call",
    [
        lambda: leader_of.leader_of("n1"),
        lambda: sync_standbys.sync_standbys(ETCD),
        lambda: lag_of.lag_of(ETCD),
        lambda: quorum_of.quorum_of(PATRONI),
        lambda: quorum_of.quorum_of(ETCD, "many"),  # type: ignore[arg-type]
        lambda: status_report.status_report({}),
        lambda: status_report.status_report({"hosts": {}}, "note"),
        lambda: patroni_healthy.patroni_healthy(REDIS),
        lambda: patroni_healthy.patroni_healthy(PATRONI, "n1"),
        lambda: patroni_healthy.patroni_healthy(PATRONI, [], "much"),  # type: ignore[arg-type]
        lambda: etcd_healthy.etcd_healthy(PATRONI),
        lambda: redis_healthy.redis_healthy(REDIS, "10.0.0.1:6379"),
    ],
)
def test_refusals(call: t.Callable[[], t.Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="bad-input: "):
        call()


def test_arguments() -> None:
    assert quorum_of.quorum_of(ETCD, "5")["total"] == 5  # type: ignore[arg-type]
    assert patroni_healthy.patroni_healthy(PATRONI, max_lag="2048")  # type: ignore[arg-type]
    assert etcd_healthy.etcd_healthy({**ETCD, "healthy": True}, ("n3",))
    assert not etcd_healthy.etcd_healthy({**ETCD, "healthy": True}, ["n4"])
    assert status_report.status_report({"hosts": {}})["ok"]


@pytest.mark.parametrize("plugin", [*FILTERS, *TESTS])
def test_documented(plugin: t.Any) -> None:
    entry = plugin.FilterModule().filters() if plugin in FILTERS else plugin.TestModule().tests()
    ((name, function),) = entry.items()
    documented = yaml.safe_load(plugin.DOCUMENTATION)
    arguments = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    assert set(documented["options"]) == {"_input", *arguments}
    assert documented["name"] == name == Path(plugin.__file__).stem
    assert yaml.safe_load(plugin.RETURN)["_value"]["type"]
