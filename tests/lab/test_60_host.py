# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts: services, kernel, SSH, engine, and how every container of ours is confined."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

import pytest
import testinfra
from labtools import STACKS, Host, Lab, run

UIDS = {
    "etcd": 10020,
    "postgres": 10010,
    "redis": 10030,
    "sentinel": 10030,
    "haproxy": 10040,
    "pgbouncer": 10040,
    "odoo-web": 10050,
    "odoo-cron": 10050,
    "traefik": 10060,
}
CONTAINERS = {
    "etcd": ["etcd"],
    "postgres": ["postgres"],
    "redis": ["redis", "sentinel"],
    "odoo": ["haproxy", "pgbouncer", "odoo-web", "odoo-cron"],
    "edge": ["traefik"],
}


def expected(host: Host) -> set[str]:
    return {name for group, names in CONTAINERS.items() if group in host.groups for name in names}


@pytest.fixture(scope="module")
def remote(node: Host) -> t.Any:
    return testinfra.get_host(f"docker://{node.container}")


@pytest.fixture(scope="module")
def inspected(node: Host) -> dict[str, dict[str, t.Any]]:
    return node.containers()


@pytest.mark.parametrize("service", ["docker", "ssh", "dedicated-firewall", *(f"dedicated-{name}" for name in STACKS)])
def test_service_runs_and_starts_at_boot(remote: t.Any, service: str) -> None:
    unit = remote.service(service)
    assert unit.is_running
    assert unit.is_enabled


def test_timers_of_the_backups_wait(remote: t.Any) -> None:
    for kind in ("full", "diff"):
        timer = remote.service(f"dedicated-backup-{kind}.timer")
        assert timer.is_running
        assert timer.is_enabled
    assert "dedicated-backup-full" in remote.check_output(
        "systemctl list-timers --no-legend dedicated-backup-full.timer"
    )


def test_no_unit_of_ours_has_failed(node: Host) -> None:
    assert node.out("systemctl list-units --failed --no-legend 'dedicated*' docker.service ssh.service") == ""


def test_the_engine_runs_with_the_hardened_settings(node: Host) -> None:
    info = json.loads(node.out(["docker", "info", "--format", "{{json .}}"]))
    assert info["LiveRestoreEnabled"] is True
    assert "name=no-new-privileges" in info["SecurityOptions"]
    assert info["LoggingDriver"] == "json-file"
    assert not [warning for warning in info["Warnings"] or [] if "insecure" in warning.lower()]
    bridge = json.loads(node.out("docker network inspect bridge"))[0]
    assert bridge["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert node.out("pgrep -c docker-proxy || true") == "0"
    # The engine's socket is its only door.
    assert node.out("ss -Hlntp | grep -c dockerd || true") == "0"
    assert node.out("stat -c '%U %G %a' /run/docker.sock") == "root docker 660"
    assert node.out("getent group docker").endswith(":"), "somebody is in the group docker, which is as good as root"


def test_kernel_settings(lab: Lab, node: Host) -> None:
    for name, value in lab.variables["host_sysctl"].items():
        assert node.out(["sysctl", "--values", name]) == str(value), name


@pytest.mark.parametrize(
    "setting",
    [
        "permitrootlogin no",
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "x11forwarding no",
        "permitemptypasswords no",
        "maxauthtries 4",
    ],
)
def test_ssh_settings_in_force(node: Host, setting: str) -> None:
    assert setting in node.out("sshd -T").splitlines()


def ssh(lab: Lab, host: Host, user: str, *options: str) -> tuple[int, str]:
    done = run(
        [
            "ssh",
            "-o",
            f"UserKnownHostsFile={lab.build / 'ssh' / 'known_hosts'}",
            "-o",
            "BatchMode=yes",
            "-F",
            "none",
            "-o",
            "ConnectTimeout=10",
            "-o",
            "StrictHostKeyChecking=yes",
            *options,
            f"{user}@{host.address}",
            "true",
        ],
        env={"SSH_AUTH_SOCK": ""},
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_ssh_takes_the_operators_key_and_no_password(lab: Lab, node: Host) -> None:
    key = ("-i", str(lab.build / "ssh" / "id_ed25519"), "-o", "IdentitiesOnly=yes")
    assert ssh(lab, node, "ops", *key)[0] == 0
    code, said = ssh(lab, node, "root", *key)
    assert (code, "Permission denied" in said) == (255, True), said
    code, said = ssh(lab, node, "ops", "-o", "PubkeyAuthentication=no", "-i", "/dev/null")
    # What stands in the brackets is what the server still offers: nothing but keys.
    assert (code, re.findall(r"\(([^)]*)\)", said)) == (255, ["publickey"]), said


def test_journal_is_bounded_and_kept(node: Host) -> None:
    assert "SystemMaxUse=1G" in node.out("cat /etc/systemd/journald.conf.d/dedicated.conf")
    assert node.out("ls -d /var/log/journal/*/system.journal")


def test_security_updates_come_by_themselves_and_never_reboot(node: Host) -> None:
    told = node.out("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in told
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in told


# --- containers -------------------------------------------------------------------------------------------------


def test_exactly_our_containers_run_and_are_healthy(lab: Lab) -> None:
    for host in lab.hosts:
        found = host.containers()
        assert set(found) == expected(host)
        for name, one in found.items():
            assert one["State"]["Status"] == "running", name
            assert one["State"]["Health"]["Status"] == "healthy", name
            assert one["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped", name


def test_no_container_has_more_rights_than_it_needs(inspected: dict[str, dict[str, t.Any]]) -> None:
    for name, one in inspected.items():
        limits = one["HostConfig"]
        assert limits["Privileged"] is False, name
        assert limits["ReadonlyRootfs"] is True, name
        assert not limits["CapAdd"], name
        assert limits["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in limits["SecurityOpt"], name
        assert not limits["PortBindings"], name
        assert not limits["Devices"], name
        assert (limits["PidMode"], limits["UsernsMode"]) == ("", ""), name
        assert 0 < limits["Memory"] < 8 << 30, name
        assert 0 < limits["PidsLimit"] <= 4096, name
        sources = {mount["Source"] for mount in one["Mounts"]}
        assert not [path for path in sources if "docker.sock" in path or path in ("/", "/etc", "/var", "/run")], name


def test_the_kernel_says_the_same_of_their_processes(node: Host, inspected: dict[str, dict[str, t.Any]]) -> None:
    for name, one in inspected.items():
        status = dict(
            line.split(":", 1)
            for line in node.out(f"cat /proc/{one['State']['Pid']}/status").splitlines()
            if ":" in line
        )
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(UIDS[name])}, name
        assert status["NoNewPrivs"].strip() == "1", name
        assert status["Seccomp"].strip() == "2", name
        for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, f"{name} {kind}"


def test_root_file_systems_are_read_only(node: Host, inspected: dict[str, dict[str, t.Any]]) -> None:
    for name in inspected:
        done = node.inside(name, ["touch", "/usr/proof"], check=False)
        assert done.returncode != 0
        # Root in the container would be turned away by the file system itself.
        assert (
            "Read-only file system"
            in node.run(["docker", "exec", "--user", "0", name, "touch", "/proof"], check=False).stderr
        )


def test_images_run_by_digest(node: Host, inspected: dict[str, dict[str, t.Any]]) -> None:
    for name, one in inspected.items():
        reference = one["Config"]["Image"]
        assert re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", reference), f"{name}: {reference}"
        digests = json.loads(
            node.out(["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", one["Image"]])
        )
        assert reference in digests, name


def test_no_image_of_an_earlier_deployment_runs(lab: Lab, inspected: dict[str, dict[str, t.Any]]) -> None:
    # The ACME client runs to its end, when there is something to ask.
    wanted = {v for key, v in lab.variables.items() if key.endswith("_image") and key != "edge_acme_image"}
    assert {one["Config"]["Image"] for one in inspected.values()} == wanted


# --- certificates -----------------------------------------------------------------------------------------------


def test_private_keys_are_for_their_service_alone(node: Host) -> None:
    keys = node.out("find /etc/dedicated /opt/dedicated -name 'key.pem' -printf '%p %m %U\\n'").splitlines()
    owners = {"edge": 10060, "edge-client": 10060, "etcd": 10020, "etcd-client": 10010, "postgres": 10010}
    owners |= {"redis": 10030, "router": 10040}
    assert sorted(keys) == sorted(f"/etc/dedicated/pki/{name}/key.pem 400 {uid}" for name, uid in owners.items())


def test_the_key_of_the_ca_is_on_no_host(lab: Lab, node: Host) -> None:
    roots = "/etc /opt /root /home /var/tmp /tmp /run"
    found = node.out(f"grep -rlE 'BEGIN (ENCRYPTED |EC |RSA )?PRIVATE KEY' {roots} 2>/dev/null || true")
    allowed = r"/etc/dedicated/pki/[\w-]+/key\.pem|/etc/ssl/private/\S+|/etc/docker/key\.json"
    assert not [path for path in found.splitlines() if not re.fullmatch(allowed, path)]
    for key in Path(lab.ca_file).parent.glob("*key*"):
        assert key.stat().st_mode & 0o077 == 0, key
        assert "ENCRYPTED" in key.read_text(), key


def test_leaf_certificates_are_short_lived_and_signed_by_the_pinned_ca(lab: Lab, node: Host) -> None:
    script = (
        "import glob, hashlib, json, ssl\n"
        "from cryptography import x509\n"
        "pem = open('/etc/dedicated/pki/ca.pem').read()\n"
        "ca = x509.load_pem_x509_certificate(pem.encode())\n"
        "found = {'ca': hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()}\n"
        "for path in glob.glob('/etc/dedicated/pki/*/cert.pem'):\n"
        "    one = x509.load_pem_x509_certificate(open(path, 'rb').read())\n"
        "    one.verify_directly_issued_by(ca)\n"
        "    names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value\n"
        "    days = (one.not_valid_after_utc - one.not_valid_before_utc).days\n"
        "    found[path.split('/')[-2]] = [days, [str(name.value) for name in names]]\n"
        "print(json.dumps(found))\n"
    )
    found = json.loads(node.out(["python3", "-c", script]))
    assert found.pop("ca") == node.out("cat /etc/dedicated/pki/ca.fingerprint")
    assert set(found) == {"edge", "edge-client", "etcd", "etcd-client", "postgres", "redis", "router"}
    assert max(days for days, _ in found.values()) <= 91
    assert lab.domain in found["edge"][1]
    for name in ("etcd", "postgres", "redis"):
        assert node.address in found[name][1]
