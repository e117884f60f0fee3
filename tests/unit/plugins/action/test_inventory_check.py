# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory check through a real ansible-playbook: vault, templates, names, one failure with everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.action import inventory_check
from ansible_collections.dedicated.odoo.plugins.module_utils._inventory import plan
from ansible_collections.dedicated.odoo.plugins.modules import inventory_check as documentation

COLLECTIONS = Path(plan.__file__).parents[6]
CANARY = "Canary-7Fq2-short"
HOSTS: dict[str, t.Any] = {
    "all": {
        "children": {
            group: {"hosts": {"n1": {"dedicated_address": "10.0.0.1"}}}
            for group in ("etcd", "postgres", "redis", "odoo", "edge")
        }
    }
}
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - dedicated.odoo.inventory_check:
        layers: {odoo: [], etcd: [], edge: []}
      run_once: true
"""


def vaulted(place: Path, password: str, value: str, name: str) -> str:
    (place / "vault").write_text(password)
    argv = [
        sys.executable,
        "-m",
        "ansible.cli.vault",
        "encrypt_string",
        "--vault-password-file",
        "vault",
        "--stdin-name",
        name,
    ]
    done = subprocess.run(argv, cwd=place, input=value, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout + "\n"


def check(
    place: Path, variables: str, hosts: dict[str, t.Any] = HOSTS, play: str = PLAY
) -> tuple[dict[str, t.Any], str]:
    (place / "hosts.yml").write_text(yaml.safe_dump(hosts))
    (place / "play.yml").write_text(play)
    (place / "group_vars").mkdir(exist_ok=True)
    (place / "group_vars" / "all.yml").write_text(variables)
    (place / "vault").write_text("right")
    argv = [
        sys.executable,
        "-m",
        "ansible.cli.playbook",
        "-i",
        "hosts.yml",
        "play.yml",
        "--vault-password-file",
        "vault",
    ]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
    }
    done = subprocess.run(
        [*argv, "-v"], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    text = done.stdout + done.stderr
    marker = "=> {"
    assert marker in done.stdout, text
    result, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index(marker) + 3 :])
    return result, text


def codes(result: dict[str, t.Any]) -> set[tuple[str, str]]:
    return {(finding["code"], finding["subject"]) for finding in result["findings"]}


def test_sound(tmp_path: Path) -> None:
    result, _ = check(tmp_path, "company: x\n")
    assert (result["changed"], result["findings"], result["tier"]) == (False, [], "single")


def test_everything_at_once(tmp_path: Path) -> None:
    variables = "firewall_egres: deny\nodoo_image: odoo:19\nodoo_db_password: !unsafe Canary-7Fq2-sh\n"
    variables += 'router_image: "{{ nowhere }}/x"\n'
    variables += vaulted(tmp_path, "wrong", CANARY, "odoo_master_password")
    hosts = json.loads(json.dumps(HOSTS))
    hosts["all"]["children"]["etcd"]["hosts"]["n2"] = {"dedicated_address": "10.0.0.1"}
    del hosts["all"]["children"]["edge"]
    result, text = check(tmp_path, variables, hosts)
    assert result["changed"] is False
    assert codes(result) >= {
        ("empty-group", "edge"),
        ("even-etcd", "etcd"),
        ("unknown-variable", "firewall_egres"),
        ("image-not-by-digest", "odoo_image"),
        ("unresolved-value", "router_image"),
        ("weak-secret", "odoo_db_password"),
        ("vault-undecryptable", "odoo_master_password"),
        ("duplicate-address", "dedicated_address"),
    }
    assert "did you mean firewall_egress?" in text
    assert "all.yml:1" in text
    assert "Canary-7Fq2" not in text


def test_right_vault_password(tmp_path: Path) -> None:
    result, text = check(tmp_path, vaulted(tmp_path, "right", CANARY + "-long-enough", "odoo_db_password"))
    assert result["findings"] == []
    assert CANARY not in text


def test_secrets_of_repositories_are_read_and_not_shown(tmp_path: Path) -> None:
    play = PLAY.replace("{odoo: [], etcd: [], edge: []}", "{postgres: [pgbackrest], etcd: []}")
    variables = vaulted(tmp_path, "right", CANARY, "backup_1_cipher_pass") + yaml.safe_dump(
        {
            "pgbackrest_repositories": [
                {"number": 1, "type": "posix", "path": "/mnt/backup", "cipher_pass": "{{ backup_1_cipher_pass }}"}
            ],
            "pgbackrest_policy": {"full": "Sun 09:00"},
            "pgbackrest_finance_peaks": [{"days": ["sun"], "from": "08:00", "to": "10:00"}],
        }
    )
    result, text = check(tmp_path, variables + "pgbackrest_stanza: x\n", play=play)
    assert codes(result) == {
        ("repository-on-data-host", "pgbackrest_repositories"),
        ("backup-in-peak", "pgbackrest_policy.full"),
    }
    assert CANARY not in text
    missing = variables.replace("backup_1_cipher_pass }}", "backup_2_cipher_pass }}")
    result, _text = check(tmp_path, missing, play=play)
    assert ("unresolved-value", "pgbackrest_repositories") in codes(result)


def test_options_of_this_collection_are_found() -> None:
    names = {option.name for option in inventory_check.read_options(inventory_check.ROLES)}
    assert "firewall_flows" in names


def test_documented_options() -> None:
    assert set(yaml.safe_load(documentation.DOCUMENTATION)["options"]) == {
        "layers",
        "etcd_group",
        "known_variables",
        "ignored_variables",
        "provided_variables",
    }


HA_PLAY = PLAY.replace("{odoo: [], etcd: [], edge: []}", "{edge: [], odoo: [], redis: [], postgres: [], etcd: []}")


def several(*names: str, **variables: str) -> dict[str, t.Any]:
    hosts = {name: {"dedicated_address": f"10.0.0.{number}", **variables} for number, name in enumerate(names, 1)}
    return {"all": {"children": {group: {"hosts": hosts} for group in HOSTS["all"]["children"]}}}


def test_two_hosts_do_not_keep_the_promise(tmp_path: Path) -> None:
    result, _ = check(tmp_path, "company: x\n", several("n1", "n2"), HA_PLAY)
    assert codes(result) == {
        ("even-etcd", "etcd"),
        ("tier-not-kept", "etcd"),
        ("tier-not-kept", "postgres"),
        ("tier-not-kept", "redis"),
    }
    assert result["tier"] == "ha"


def test_three_hosts_without_domains_are_warned(tmp_path: Path) -> None:
    result, text = check(tmp_path, "company: x\n", several("n1", "n2", "n3"), HA_PLAY)
    assert (result["findings"], result["tier"], result.get("failed", False)) == ([], "ha", False)
    assert "[WARNING]: no-failure-domains" in text.replace("\n", " ")


def test_three_hosts_in_one_domain(tmp_path: Path) -> None:
    hosts = several("n1", "n2", "n3", dedicated_failure_domain="{{ rack }}")
    result, _ = check(tmp_path, "rack: north\n", hosts, HA_PLAY)
    assert {code for code, _ in codes(result)} == {"failure-domain-holds-too-much"}
    assert "failure domain north holds 3 of the 3" in result["msg"]


def test_two_names_of_one_machine(tmp_path: Path) -> None:
    result, _ = check(tmp_path, "ansible_host: 192.0.2.1\n", several("n1", "n2", "n3"), HA_PLAY)
    assert codes(result) == {("duplicate-host", "ansible_host")}


@pytest.mark.parametrize("value", [None, "x", 3])
def test_origin_of_an_untagged_value(value: t.Any) -> None:
    assert inventory_check.origin(value) == ""
