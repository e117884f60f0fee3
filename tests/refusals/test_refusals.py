# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input is refused before anything is touched, with what is wrong, why, and what to do.

Case.refuse() proves for each: an exit code that is not 0, the words, an unchanged host, no secret in the output.
The last tests install a Docker engine on the host; nothing before them changes it.
"""

from __future__ import annotations

import contextlib
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from .conftest import Case, Host

NO_HOST = "no host was touched"
NO_CHANGE = "nothing was changed"


def encrypted(password: bytes, values: dict[str, str]) -> bytes:
    """Variables as `ansible-vault encrypt` writes them."""
    data: bytes = VaultLib([("default", VaultSecret(password))]).encrypt(yaml.safe_dump(values))
    return data


def inline(password: bytes, name: str, value: str) -> str:
    """A variable as `ansible-vault encrypt_string` writes it."""
    text = VaultLib([("default", VaultSecret(password))]).encrypt(value).decode()
    return f"{name}: !vault |\n" + "".join(f"  {line}\n" for line in text.splitlines())


# --- the inventory ------------------------------------------------------------------------------------------------


def test_unknown_variable(case: Case) -> None:
    case.set(postgres_frobnication_level=3)
    said = case.refuse("unknown-variable", "postgres_frobnication_level", "zz-spoilt.yml", "no effect", NO_HOST)
    assert "The inventory has 1 problem(s)" in said


def test_misspelt_variable(case: Case) -> None:
    case.set(odoo_modles=["base"])
    case.refuse("unknown-variable", "odoo_modles", "did you mean odoo_modules?", NO_HOST)


def test_missing_secret(case: Case) -> None:
    values = {name: value for name, value in case.secrets.items() if name not in ("vault password", "odoo_db_password")}
    path = case.inventory / "group_vars" / "all" / "secrets.yml"
    path.write_bytes(encrypted(case.password.read_bytes().strip(), values))
    case.refuse("missing-secret", "odoo_db_password", "openssl rand", "secrets.yml", NO_HOST)


def test_wrong_vault_password(case: Case, tmp_path: Path) -> None:
    # A wholly encrypted file: Ansible itself stops while it reads the inventory, before any task of ours could speak.
    wrong = tmp_path / "wrong-password"
    wrong.write_text("not the password\n")
    said = case.refuse("Decryption failed (no vault secrets were found that could decrypt)", password=wrong)
    assert "TASK" not in said


def test_wrong_vault_password_of_one_variable(case: Case, tmp_path: Path) -> None:
    secret = inline(b"another password", "odoo_admin_password", case.secrets["odoo_admin_password"])
    (case.inventory / "group_vars" / "all" / "zz-spoilt.yml").write_text(secret)
    case.refuse("vault-undecryptable", "odoo_admin_password", "--vault-password-file", NO_HOST)


def test_even_number_of_etcd_members(case: Case) -> None:
    case.add_hosts(["etcd"], "node2")
    case.refuse("even-etcd", "2 members (node1, node2)", "use 1, 3 or 5", NO_HOST)


def test_group_without_hosts(case: Case) -> None:
    data = case.hosts()
    data["all"]["children"]["redis"]["hosts"] = {}
    case.write_hosts(data)
    case.refuse("empty-group", "group redis", "hosts.yml", NO_HOST)


LAYERS = ("edge", "odoo", "redis", "postgres", "etcd")


def test_two_hosts_under_a_tier_that_promises_more(case: Case) -> None:
    # Two PostgreSQL members mean tier ha, unless the inventory says single.
    case.add_hosts(LAYERS, "node2")
    said = case.refuse("tier-not-kept", "tier ha needs 3 hosts in group postgres, there are 2 (node1, node2)", NO_HOST)
    assert "dedicated_tier to single" in said


def test_one_host_under_a_tier_that_promises_more(case: Case) -> None:
    case.set(dedicated_tier="ha")
    case.refuse("5 problem(s)", "tier-not-kept", "group redis, there is 1 (node1)", "group edge, there is 1", NO_HOST)


def test_tier_that_is_none(case: Case) -> None:
    case.set(dedicated_tier="platinum")
    case.refuse("invalid-tier", "'platinum'", "single, ha", NO_HOST)


def test_tier_whose_promise_a_setting_breaks(case: Case) -> None:
    case.add_hosts(LAYERS, "node2", "node3")
    case.set(postgres_synchronous_mode=False)
    case.refuse("tier-not-kept", "postgres_synchronous_mode", "no acknowledged commit is lost", NO_HOST)


def test_all_members_in_one_failure_domain(case: Case) -> None:
    case.add_hosts(LAYERS, "node2", "node3")
    data = case.hosts()
    for host in data["all"]["hosts"].values():
        host["dedicated_failure_domain"] = "rack-1"
    case.write_hosts(data)
    case.refuse(
        "5 problem(s)",
        "failure-domain-holds-too-much",
        "failure domain rack-1 holds 3 of the 3 hosts of group etcd",
        "leaves 0, and 2 are needed for a majority",
        NO_HOST,
    )


def test_failure_domains_of_some_hosts_only(case: Case) -> None:
    case.add_hosts(LAYERS, "node2", "node3")
    data = case.hosts()
    for name, domain in (("node1", "rack-1"), ("node2", "rack-2")):
        data["all"]["hosts"][name]["dedicated_failure_domain"] = domain
    case.write_hosts(data)
    case.refuse("failure-domain-missing", "not for host node3", NO_HOST)


def test_two_names_of_one_machine(case: Case) -> None:
    case.add_hosts(["odoo", "edge"], "node2")
    data = case.hosts()
    hosts = data["all"]["hosts"]
    hosts["node2"]["ansible_host"] = hosts["node1"]["ansible_host"]
    case.write_hosts(data)
    case.refuse("duplicate-host", "node1 and node2 are both reached at", "give each its own address", NO_HOST)


def test_two_hosts_with_one_address(case: Case) -> None:
    case.add_hosts(["odoo", "edge"], "node2")
    data = case.hosts()
    hosts = data["all"]["hosts"]
    hosts["node2"]["dedicated_address"] = hosts["node1"]["dedicated_address"]
    case.write_hosts(data)
    case.refuse("duplicate-address", "node1 and node2 have the same dedicated_address", NO_HOST)


def test_name_that_no_member_can_have(case: Case) -> None:
    case.add_hosts(["odoo", "edge"], "node=2")
    case.refuse("invalid-name", "'node=2'", "letters, digits, dots, dashes or underscores", NO_HOST)


def test_pin_that_is_no_system_identifier(case: Case) -> None:
    case.set(postgres_system_identifier="lab")
    case.refuse("invalid-system-identifier", "'lab'", "up to 20 digits", NO_HOST)


def test_several_problems_are_told_at_once(case: Case) -> None:
    case.set(odoo_modles=["base"], redis_odoo_password="redis", etcd_image="registry.test/etcd:latest")
    case.refuse("3 problem(s)", "unknown-variable", "weak-secret", "image-not-by-digest", NO_HOST)


# --- the hosts ------------------------------------------------------------------------------------------------------


def test_unreachable_host(case: Case) -> None:
    # The other host answers and would be converged.
    case.add_hosts(["odoo", "edge"], "node2")
    case.refuse("host-unreachable", "node2", "ssh", NO_CHANGE)


def test_too_small_a_host(case: Case, host: Host) -> None:
    there = int(host.sh("awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    case.set(host_min_memory_mb=there + 1000, host_min_cpus=4096)
    case.refuse("host-too-small", f"{there} MiB", f"{there + 1000} MiB", "4096", "give the machine more", NO_CHANGE)


def test_unsupported_operating_system(case: Case, host: Host) -> None:
    with host.file("/etc/os-release", 'ID=ubuntu\nVERSION_ID="22.04"\n'):
        case.refuse("os-unsupported", "ubuntu-22.04", "debian-13", "host_docker_source", NO_CHANGE)


def test_taken_port(case: Case, host: Host) -> None:
    host.run("systemd-run", "--quiet", "--unit=squatter", "python3", "-m", "http.server", "443")
    try:
        host.sh("for _ in $(seq 50); do ss -ltnH 'sport = :443' | grep -q . && exit; sleep 0.1; done; exit 1")
        case.refuse("port-taken", "port 443", "python3 (pid", "stop it", NO_CHANGE)
    finally:
        host.run("systemctl", "stop", "squatter")


def other_ca() -> str:
    """The fingerprint of a CA that is not this cluster's."""
    return "ab" * 32


def test_other_ca_than_the_inventory_pins(case: Case, host: Host) -> None:
    case.set(pki_ca_fingerprint="cd" * 32)
    with host.file("/etc/dedicated/pki/ca.fingerprint", other_ca() + "\n"):
        case.refuse("other-ca", other_ca()[:16], "restore the CA", NO_CHANGE)
    host.sh("rmdir -p --ignore-fail-on-non-empty /etc/dedicated/pki")


def make_ca(folder: Path) -> None:
    """A CA in a controller's hands."""
    folder.mkdir(mode=0o700)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         "/CN=refuse internal CA", "-keyout", folder / "ca.key", "-out", folder / "ca.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


def test_other_ca_than_the_controller_has(case: Case, host: Host) -> None:
    make_ca(Path(case.hosts()["all"]["vars"]["pki_dir"]))
    with host.file("/etc/dedicated/pki/ca.fingerprint", other_ca() + "\n"):
        case.refuse("other-ca", other_ca()[:16], "restore the CA", NO_CHANGE)
    host.sh("rmdir -p --ignore-fail-on-non-empty /etc/dedicated/pki")


def test_other_ca_and_none_on_the_controller(case: Case, host: Host) -> None:
    # The CA was lost: a new one would cut the cluster in two.
    with host.file("/etc/dedicated/pki/ca.fingerprint", other_ca() + "\n"):
        case.refuse("other-ca", other_ca()[:16], "restore the CA", NO_CHANGE)
    host.sh("rmdir -p --ignore-fail-on-non-empty /etc/dedicated/pki")


def test_other_cluster(case: Case, host: Host) -> None:
    with host.file("/etc/dedicated/cluster", "somebody-else\n"):
        case.refuse("other-cluster", "somebody-else", "take another host", NO_CHANGE)
    host.sh("rmdir -p --ignore-fail-on-non-empty /etc/dedicated")


def test_address_of_another_machine(case: Case) -> None:
    data = case.hosts()
    node = data["all"]["hosts"]["node1"]
    there = node["dedicated_address"]
    node["dedicated_address"] = there.rsplit(".", 1)[0] + ".91"
    case.write_hosts(data)
    case.refuse("address-not-here", f"is on no interface of the host, which has {there}", NO_CHANGE)


RECORD = "/etc/dedicated/postgres-system-identifier"
OURS, OTHER = (str(second << 32 | 7) for second in (1795312537, 1700000000))


@contextlib.contextmanager
def leftover(host: Host, identifier: str) -> Iterator[None]:
    """The one file of a data directory that tells whose it is."""
    folder = "/var/lib/dedicated/postgres/data/17/global"
    write = (
        f"open('{folder}/pg_control', 'wb').write(({identifier}).to_bytes(8, 'little') + (1700).to_bytes(4, 'little'))"
    )
    host.sh(f'mkdir -p {folder}; python3 -c "{write}"')
    try:
        yield
    finally:
        host.sh(f"rm {folder}/pg_control; rmdir -p --ignore-fail-on-non-empty {folder}")


def test_leftover_data_of_another_cluster_than_is_pinned(case: Case, host: Host) -> None:
    case.set(postgres_system_identifier=OURS)
    with leftover(host, OTHER):
        case.refuse("other-system-identifier", OTHER, OURS, "never overwritten", "data/17.leftover-", NO_CHANGE)


def test_leftover_data_of_another_cluster_than_was_recorded(case: Case, host: Host) -> None:
    with leftover(host, OTHER), host.file(RECORD, OURS + "\n"):
        case.refuse("other-system-identifier", OTHER, OURS, "never overwritten", NO_CHANGE)
    host.sh("rmdir -p --ignore-fail-on-non-empty /etc/dedicated")


def test_cluster_whose_data_is_nowhere(case: Case, host: Host) -> None:
    # The disk is not mounted: a run would initialise an empty database in its place.
    with host.file(RECORD, OURS + "\n"):
        case.refuse("data-lost", OURS, "not mounted", "restore", NO_CHANGE)
    host.sh("rmdir -p --ignore-fail-on-non-empty /etc/dedicated")


def test_digest_that_the_registry_does_not_hold(case: Case, lab: types.ModuleType) -> None:
    digest = "sha256:" + "0" * 64
    case.set(odoo_image=f"registry.{lab.DOMAIN}:5000/dedicated-odoo/odoo@{digest}")
    case.refuse("image-missing", digest, "push the image", NO_CHANGE)


def test_registry_that_does_not_answer(case: Case, lab: types.ModuleType) -> None:
    case.set(edge_image=f"registry.{lab.DOMAIN}:5999/dedicated-odoo/traefik@sha256:" + "0" * 64)
    case.refuse("registry-unreachable", ":5999", "curl -v https://", NO_CHANGE)


def test_full_disk(case: Case, host: Host) -> None:
    host.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/opt")
    try:
        case.refuse("disk-full", "/opt has 64 MiB free of 64 MiB", "needed are 1024 MiB", "du -xh", NO_CHANGE)
    finally:
        host.run("umount", "/opt")


# --- a host with an engine: these come last ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(host: Host) -> Host:
    """The same host with Debian's Docker engine."""
    host.sh("apt-get update -qq && apt-get install -qq --no-install-recommends docker.io >/dev/null 2>&1")
    return host


def test_engine_that_fails(case: Case, engine: Host) -> None:
    engine.run("systemctl", "stop", "docker.socket", "docker.service")
    with engine.file("/etc/docker/daemon.json", "{ this is no JSON\n"):
        engine.run("systemctl", "start", "docker.service", check=False)
        try:
            engine.sh("for _ in $(seq 100); do systemctl is-failed -q docker && exit; sleep 0.2; done; exit 1")
            case.refuse("docker-down", "failed", "journalctl -u docker", NO_CHANGE)
        finally:
            engine.run("systemctl", "reset-failed", "docker.service")


def test_engine_that_is_stopped_under_stacks(case: Case, engine: Host) -> None:
    engine.run("systemctl", "stop", "docker.socket", "docker.service")
    with engine.file("/opt/dedicated/etcd/compose.yaml", "services: {}\n"):
        case.refuse("docker-down", "inactive", "it carries etcd", "systemctl start docker", NO_CHANGE)
