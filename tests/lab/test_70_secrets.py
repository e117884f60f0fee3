# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every generated secret is a canary: it may be in its own files, readable to its own service, and nowhere else."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from labtools import Host, Lab, run

# Which secrets lie where, and who may read them: (mode, owner, group). Everything else is a leak.
CONF = 0o440
EXPECTED: dict[str, tuple[set[str], int, int, int]] = {
    "/opt/dedicated/postgres/conf/patroni.yml": (
        {
            "postgres_superuser_password",
            "postgres_replication_password",
            "postgres_rewind_password",
            "postgres_rest_password",
            "etcd_patroni_password",
        },
        CONF,
        0,
        10010,
    ),
    "/opt/dedicated/etcd/conf/root.env": ({"etcd_root_password"}, CONF, 0, 10020),
    "/opt/dedicated/pgbackrest/conf/pgbackrest.conf": (
        {f"backup_{number}_{name}" for number in (1, 2) for name in ("cipher_pass", "s3_key", "s3_key_secret")},
        CONF,
        0,
        10010,
    ),
    "/opt/dedicated/router/haproxy/haproxy.cfg": ({"redis_router_password"}, CONF, 0, 10040),
    "/opt/dedicated/router/pgbouncer/userlist.txt": ({"odoo_db_password"}, CONF, 0, 10040),
    "/opt/dedicated/odoo/conf/odoo.conf": ({"odoo_db_password", "redis_odoo_password"}, CONF, 0, 10050),
    "/opt/dedicated/odoo/secrets/odoo_admin_password": ({"odoo_admin_password"}, CONF, 0, 10050),
    # Redis and Sentinel rewrite these themselves, and then with 0644: their folders are closed instead (below).
    "/var/lib/dedicated/redis/redis/redis.conf": ({"redis_replication_password"}, 0o600, 10030, 10030),
    "/var/lib/dedicated/redis/sentinel/sentinel.conf": ({"redis_sentinel_password"}, 0o600, 10030, 10030),
}
# Patroni writes it for its replicas, on the container's own tmpfs.
IN_CONTAINERS = {("postgres", "/tmp/pgpass")}

# Runs on the host. Secrets come by standard input, so that the search itself puts them nowhere.
SEARCH = r"""
import json, os, stat, subprocess, sys

ask = json.load(sys.stdin)
needles = {name: value.encode() for name, value in ask["secrets"].items()}

def names_in(data):
    return sorted(name for name, value in needles.items() if value in data)

def file_names(path):
    found, tail = set(), b""
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            found.update(names_in(tail + chunk))
            tail = chunk[-200:]
    return sorted(found)

def walk(root, skip=()):
    for folder, folders, files in os.walk(root):
        folders[:] = [one for one in folders if os.path.join(folder, one) not in skip
                      and not os.path.islink(os.path.join(folder, one))]
        for name in files:
            path = os.path.join(folder, name)
            try:
                about = os.lstat(path)
                if stat.S_ISREG(about.st_mode) and (found := file_names(path)):
                    yield path, found, stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid
            except OSError:
                pass  # gone meanwhile

def output(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout

result = {"files": [list(one) for root in ask["roots"] for one in walk(root, set(ask["skip"]))], "places": {}}
ids = output("docker", "ps", "--all", "--quiet").decode().split()
places = {
    "docker inspect": output("docker", "inspect", *ids),
    "docker image inspect": output("docker", "image", "inspect", *output("docker", "images", "-q").decode().split()),
    "process list": output("ps", "auxwwe"),
    "journal": output("journalctl", "--all", "--no-pager", "--output=cat"),
    "kernel log": output("dmesg"),
    "units": output("systemctl", "show", "--all", "*"),
}
for one in ids:
    name = output("docker", "inspect", "--format", "{{.Name}}", one).decode().strip()
    places["log of " + name] = output("docker", "logs", one)
seen = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) == os.getpid():
        continue
    for what in ("cmdline", "environ"):
        try:
            data = open(f"/proc/{pid}/{what}", "rb").read()
        except OSError:
            continue
        seen += 1
        comm = data.split(b"\0")[0][:60].decode(errors="replace")
        if found := names_in(data):
            result["places"][f"{what} of {pid} ({comm})"] = found
for where, data in places.items():
    if found := names_in(data):
        result["places"][where] = found
result["sizes"] = {where: len(data) for where, data in places.items()} | {"proc": seen}
result["containers"] = {}
for one in ids:
    name, pid = output("docker", "inspect", "--format", "{{.Name}} {{.State.Pid}}", one).decode().split()
    for folder in ("/tmp", "/run", "/dev/shm", "/var/tmp"):
        for path, found, mode, uid, gid in walk(f"/proc/{pid}/root{folder}"):
            key = name.strip("/") + ":" + path.split("/root", 1)[1]
            result["containers"][key] = [found, mode]
print(json.dumps(result))
"""
ROOTS = [
    "/etc",
    "/opt",
    "/root",
    "/home",
    "/tmp",
    "/var/tmp",
    "/var/log",
    "/var/lib/dedicated",
    "/usr/local",
    "/dev/shm",
    "/run",
    "/var/lib/docker/containers",
    "/var/lib/docker/volumes",
    "/var/lib/systemd",
    "/var/backups",
]
Found = dict[str, t.Any]


@pytest.fixture(scope="module")
def found(lab: Lab) -> dict[str, Found]:
    ask = {"secrets": lab.secrets, "roots": ROOTS, "skip": ["/run/docker", "/run/credentials"]}
    return {
        host.name: json.loads(host.out(["python3", "-c", SEARCH], stdin=json.dumps(ask), timeout=300))
        for host in lab.hosts
    }


def test_the_canaries_are_worth_searching_for(lab: Lab) -> None:
    assert len(lab.secrets) >= 16
    assert all(len(value) >= 20 for value in lab.secrets.values())
    assert len(set(lab.secrets.values())) == len(lab.secrets)
    assert lab.password == lab.secrets["odoo_admin_password"]


def test_the_search_sees_what_it_is_to_see(found: dict[str, Found]) -> None:
    """Otherwise every 'nothing found' below would be worth nothing."""
    for one in found.values():
        assert {path for path, *_ in one["files"]} >= set(EXPECTED)
        sizes = one["sizes"]
        assert all(
            sizes[where] > 1000
            for where in ("docker inspect", "process list", "journal", "units", "docker image inspect")
        )
        assert sizes["proc"] > 50
        assert len([where for where in sizes if where.startswith("log of")]) >= 9


def test_no_secret_in_inspect_process_list_journal_or_logs(found: dict[str, Found]) -> None:
    assert {name: one["places"] for name, one in found.items() if one["places"]} == {}


def test_secrets_lie_in_their_own_files_only(found: dict[str, Found]) -> None:
    for one in found.values():
        for path, names, mode, owner, group in one["files"]:
            assert path in EXPECTED, f"{names} leaked into {path} ({mode:o})"
            allowed, most, *owners = EXPECTED[path]
            assert set(names) <= allowed, path
            assert mode | most == most, f"{path}: {mode:o}"
            assert [owner, group] == owners, f"{path}: {owner}:{group}"


def test_no_secret_in_what_containers_keep_for_themselves(found: dict[str, Found]) -> None:
    for one in found.values():
        for place, (names, mode) in one["containers"].items():
            container, _, path = place.partition(":")
            # The project's own mounts show here again; they are checked by the path that they have on the host.
            if f"/run{path.removeprefix('/run')}" in EXPECTED:
                continue
            assert (container, path) in IN_CONTAINERS, f"{names} in {place}"
            assert mode & 0o077 == 0, f"{place}: {mode:o}"


def test_folders_with_secrets_are_closed(node: Host) -> None:
    for path in EXPECTED:
        folder = path.rsplit("/", 1)[0]
        mode = int(node.out(["stat", "-c", "%a", folder]), 8)
        assert mode & 0o007 == 0, f"{folder}: {mode:o}"


def test_somebody_without_rights_reads_none(node: Host) -> None:
    for path in EXPECTED:
        done = node.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", path], check=False)
        assert done.returncode != 0, path


def test_one_service_does_not_read_the_secrets_of_another(node: Host) -> None:
    for path, (_, _, _, group) in EXPECTED.items():
        for uid in {10010, 10020, 10030, 10040, 10050, 10060} - {group}:
            words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "cat", path]
            assert node.run(words, check=False).returncode != 0, f"{uid} reads {path}"


def test_nothing_leaks_on_the_operators_side(lab: Lab) -> None:
    """Secrets are encrypted in the inventory, and the lab's containers carry none."""
    ids = run(["docker", "ps", "--all", "--quiet", "--filter", f"label=dedicated.odoo.lab={lab.name}"]).stdout.split()
    shown = run(["docker", "inspect", *ids]).stdout
    assert len(shown) > 1000
    assert not [name for name, value in lab.secrets.items() if value in shown]
    for path in (file for file in Path(lab.data["inventory"]).rglob("*") if file.is_file()):
        text = path.read_text()
        assert not [name for name, value in lab.secrets.items() if value in text], path


def test_the_master_password_is_a_hash(lab: Lab) -> None:
    for host in lab.of("odoo"):
        conf = host.out("cat /opt/dedicated/odoo/conf/odoo.conf")
        line = next(line for line in conf.splitlines() if line.startswith("admin_passwd"))
        assert "$pbkdf2-sha512$" in line
