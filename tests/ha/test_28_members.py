# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patroni paused with an end, a member that is copied anew, and etcd's space given back.

In the stage scale, for the time of the default run.
"""

from __future__ import annotations

import json
from pathlib import Path

from labtools import Host, Lab, run
from operating import ROOT, operate, refusals

REASON = ("-e", "reason=proof")


def test_a_pause_has_an_end_and_refuses_a_switchover(lab: Lab) -> None:
    leader = lab.leader()
    show = ["timeout", "60", "patronictl", "-c", "/etc/patroni/patroni.yml", "show-config"]
    operate(lab, "maintenance", *REASON, "-e", "state=paused", "-e", "minutes=5")
    try:
        assert "pause: true" in leader.inside("postgres", show).stdout
        for host in lab.of("postgres"):
            assert host.out("systemctl is-active dedicated-patroni-resume.timer").strip() == "active"
        output = operate(lab, "switchover", *REASON, fails=True)
        assert "paused" in output, refusals(output)
    finally:
        operate(lab, "maintenance", "-e", "state=resumed")
    assert "pause: true" not in leader.inside("postgres", show).stdout
    assert lab.leader() == leader


def test_a_member_is_made_anew(lab: Lab) -> None:
    [[member]] = lab.leader().sql("SELECT application_name FROM pg_stat_replication WHERE sync_state = 'async'")
    output = operate(lab, "reinit_member", *REASON, "-e", f"member={member}", fails=True)
    assert "healthy" in output, refusals(output)
    output = operate(lab, "reinit_member", *REASON, "-e", f"member={lab.leader().name}", fails=True)
    assert "is_leader" in output, refusals(output)
    host = next(one for one in lab.hosts if one.name == member)
    born = host.out("stat --format %W /var/lib/dedicated/postgres/data/17/PG_VERSION")
    operate(lab, "reinit_member", *REASON, "-e", f"member={member}", "-e", "reinit_force=true")
    assert host.out("stat --format %W /var/lib/dedicated/postgres/data/17/PG_VERSION") != born
    assert [member, "streaming"] in lab.leader().sql("SELECT application_name, state FROM pg_stat_replication")


DEFRAGMENT = """
- hosts: etcd
  gather_facts: false
  become: true
  tasks:
    - dedicated.odoo.etcd_member:
        url: "https://{{ dedicated_address }}:2379"
        urls: "{{ groups.etcd | map('extract', hostvars, 'dedicated_address') | map('regex_replace', '^(.*)$', url)
                  | list }}"
        ca_path: /etc/dedicated/pki/etcd-client/ca.pem
        client_cert: /etc/dedicated/pki/etcd-client/cert.pem
        client_key: /etc/dedicated/pki/etcd-client/key.pem
        username: root
        password: "{{ etcd_root_password }}"
        state: defragmented
      vars: {url: "https://\\\\1:2379"}
      run_once: true
"""


def etcdctl(host: Host, words: str) -> str:
    script = "set -a; . /etc/etcd/root.env; set +a; etcdctl " + words
    return host.inside("etcd", ["bash", "-c", script]).stdout


def sizes(lab: Lab) -> list[int]:
    """Of the databases (bytes)."""
    shown = json.loads(etcdctl(lab.of("etcd")[0], "endpoint status --cluster --write-out=json"))
    return sorted(one["Status"]["dbSize"] for one in shown)


def test_etcd_gives_its_space_back(lab: Lab, tmp_path: Path) -> None:
    host, value = lab.of("etcd")[0], "head -c 1000000 /dev/zero | tr '\\0' x"
    etcdctl(host, f'version; for n in $(seq 24); do {value} | etcdctl put "/proof/$n"; done >/dev/null')
    etcdctl(host, "del --prefix /proof/")
    [newest] = [one["Status"]["header"]["revision"] for one in
                json.loads(etcdctl(host, "endpoint status --write-out=json"))]  # fmt: skip
    etcdctl(host, f"compact {newest}")
    before = sizes(lab)
    assert before[0] > 20_000_000
    (tmp_path / "defragment.yml").write_text(DEFRAGMENT)
    argv = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", lab.data["inventory"], str(tmp_path / "defragment.yml")]
    env = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(lab.build / "vault-password"),
    }
    assert "changed=1" in run(argv, env).stdout
    after = sizes(lab)
    assert after[-1] < before[0] / 2, (before, after)
    assert "changed=1" not in run(argv, env).stdout
    assert all(one.healthy() for one in lab.hosts)
