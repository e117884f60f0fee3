# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters around the planners: also in a playbook, where values are tagged and templated lazily."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.filter import nft_ruleset, odoo_sizing, pool_plan, postgres_sizing
from ansible_collections.dedicated.odoo.plugins.module_utils._sizing import plan

FACTS = {"memory_mb": 24000, "vcpus": 2}
GROUPS = {"edge": ["a"], "db": ["a", "b"]}
HOSTVARS = {"a": {"dedicated_address": "10.0.0.1"}, "b": {"dedicated_address": "10.0.0.2"}}
FLOWS = [{"from": "any", "to": "edge", "ports": [443]}, {"from": "db", "to": "db", "ports": [5432]}]


PLAY = """
- hosts: all
  gather_facts: false
  vars:
    facts: {memory_mb: 24000, vcpus: 2}
    postgres: "{{ facts | dedicated.odoo.postgres_sizing(memory_mb=2048, max_connections=100) }}"
    pools: "{{ {'n1': facts | dedicated.odoo.odoo_sizing(share=0.5)} | dedicated.odoo.pool_plan(max_connections=100) }}"
    flows: [{from: any, to: edge, ports: [443]}, {from: app, to: db, ports: [5432]}]
    ruleset: "{{ flows | dedicated.odoo.nft_ruleset(groups, hostvars, inventory_hostname, {'egress': 'deny'}) }}"
  tasks:
    - ansible.builtin.assert:
        that:
          - postgres.parameters.shared_buffers == '512MB'
          - pools.used + pools.reserved <= pools.max_connections
          - pools.hosts.n1.default_pool_size == 12
          - "('ip saddr 10.0.0.1 tcp dport 5432 accept' in ruleset) == (inventory_hostname == 'b')"
          - "('ip daddr 10.0.0.2 tcp dport 5432 accept' in ruleset) == (inventory_hostname == 'a')"
          - "('443' in ruleset) == (inventory_hostname == 'a')"
          - (postgres | to_nice_yaml) is search('shared_buffers')
"""
INVENTORY = """
all:
  children:
    edge: {hosts: {a: {dedicated_address: "{{ first }}"}}}
    app: {hosts: {a: {}}}
    db: {hosts: {b: {dedicated_address: 10.0.0.2}}}
  vars: {first: 10.0.0.1}
"""


def test_in_a_playbook(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    (tmp_path / "play.yml").write_text(PLAY)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(plan.__file__).parents[6]),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
    }
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "hosts.yml", "play.yml"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_plain_data() -> None:
    size = postgres_sizing.postgres_sizing(FACTS, memory_mb="2048")  # type: ignore[arg-type]
    assert "shared_buffers: 512MB" in yaml.safe_dump(size)


def test_firewall() -> None:
    text = nft_ruleset.nft_ruleset(FLOWS, GROUPS, HOSTVARS, "b")
    assert "ip saddr 10.0.0.1 tcp dport 5432 accept" in text
    assert "443" not in text
    optional = nft_ruleset.nft_ruleset(
        [{"from": "any", "to": "app", "ports": [1]}], GROUPS, HOSTVARS, "b", {"optional_groups": ["app"]}
    )
    assert "dport 1 " not in optional
    assert "ip saddr { 10.0.0.1, 10.0.0.2 } tcp dport 22" not in text
    ssh = nft_ruleset.nft_ruleset(FLOWS, GROUPS, HOSTVARS, "a", {"ssh_sources": ["db"]})
    assert 'ip saddr 10.0.0.2 tcp dport 22 accept comment "ssh"' in ssh


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: postgres_sizing.postgres_sizing("x"), "bad-input"),
        (lambda: postgres_sizing.postgres_sizing({}), "bad-input"),
        (lambda: postgres_sizing.postgres_sizing(FACTS, share="half"), "bad-input"),
        (lambda: postgres_sizing.postgres_sizing(FACTS, memory_mb=100), "too-little-memory: .*100 MiB"),
        (lambda: odoo_sizing.odoo_sizing([]), "bad-input"),
        (lambda: odoo_sizing.odoo_sizing({}), "bad-input"),
        (lambda: odoo_sizing.odoo_sizing(FACTS, users="many"), "bad-input"),
        (lambda: odoo_sizing.odoo_sizing(FACTS, users=900), "too-many-users: 900 users"),
        (lambda: pool_plan.pool_plan([]), "bad-input"),
        (lambda: pool_plan.pool_plan({"a": {}}), "bad-input: a"),
        (lambda: pool_plan.pool_plan({"a": {"web": 2, "cron": 1}}, "x"), "bad-input"),
        (lambda: pool_plan.pool_plan({"a": {"web": 2, "cron": 1}}, 30), "pool-exceeds-server: .*max_connections 30"),
        (lambda: nft_ruleset.nft_ruleset("x", GROUPS, HOSTVARS, "a"), "bad-flow"),
        (lambda: nft_ruleset.nft_ruleset([{}], GROUPS, HOSTVARS, "a"), "bad-flow"),
        (lambda: nft_ruleset.nft_ruleset(FLOWS, GROUPS, {"a": {}, "b": {}}, "a"), "bad-address"),
        (
            lambda: nft_ruleset.nft_ruleset([{"to": "x", "ports": [1]}], GROUPS, HOSTVARS, "a"),
            "unknown-group: .*names x",
        ),
    ],
)
def test_refusals(call: t.Callable[[], t.Any], words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        call()


@pytest.mark.parametrize("module", [nft_ruleset, odoo_sizing, pool_plan, postgres_sizing])
def test_documented(module: t.Any) -> None:
    ((name, function),) = module.FilterModule().filters().items()
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    arguments = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    assert set(options) == {"_input", *arguments}
    assert yaml.safe_load(module.DOCUMENTATION)["name"] == name
