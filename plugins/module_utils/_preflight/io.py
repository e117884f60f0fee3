# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the preflight judges. Changes nothing."""

from __future__ import annotations

import base64
import concurrent.futures
import http.client
import json
import os
import platform
import socket
import ssl
import typing as t
from pathlib import Path

from ansible_collections.dedicated.odoo.plugins.module_utils._preflight import identity, plan

MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json,"
    " application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
DOCKER_SOCKET = "/var/run/docker.sock"
PATRONI_PORT = 8008
PATRONI_TIMEOUT = 2.0
HEAD = 4096
Run = t.Callable[[list[str]], tuple[int, str]]


def read(path: str | Path) -> str:
    """A file's text; nothing when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_head(path: str | Path) -> bytes:
    """The first bytes of a file; nothing when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def data_state(path: str) -> str:
    """Whether a data directory holds anything; empty when nobody asks or nobody can tell."""
    if not path:
        return ""
    try:
        return plan.PRESENT if set(os.listdir(path)) - {"lost+found"} else plan.ABSENT
    except FileNotFoundError:
        return plan.ABSENT
    except OSError:
        return ""


def etcd_cluster_id(data: str) -> str:
    """The id of the cluster that an etcd data directory belongs to."""
    files = sorted(Path(data).glob("member/wal/*.wal")) if data else []
    return identity.parse_etcd_wal(read_head(files[-1])) if files else ""


def member(expected: str, address: str, port: int = PATRONI_PORT, timeout: float = PATRONI_TIMEOUT) -> plan.Member:
    """Who answers as Patroni at this address.

    The certificate is not verified: a fresh host has no CA yet, a stranger's machine has another, and nothing secret is
    sent. An answer can only lead to a refusal.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, port, timeout=timeout, context=context)
    try:
        connection.request("GET", "/patroni")
        scope, name, identifier = identity.parse_patroni(connection.getresponse().read().decode(errors="replace"))
        return plan.Member(expected, address, name, scope, identifier)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return plan.Member(expected, address, reason=f"{type(exc).__name__}: {exc}")
    finally:
        connection.close()


def members(wanted: t.Mapping[str, str], port: int = PATRONI_PORT) -> tuple[plan.Member, ...]:
    """All members, asked at the same time: one that is away costs its timeout once."""
    if not wanted:
        return ()
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        return tuple(pool.map(lambda pair: member(pair[0], pair[1], port), sorted(wanted.items())))


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the engine's socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """Questions to the Docker engine; without an answer there is none."""

    def __init__(self, active: bool, path: str = DOCKER_SOCKET, timeout: float = 5.0) -> None:
        # Debian's socket unit would start a stopped engine by being asked.
        self._active = active
        self._path = path
        self._timeout = timeout

    def get(self, path: str) -> t.Any:
        """The decoded answer, or None."""
        if not self._active:
            return None
        connection = _UnixConnection(self._path, self._timeout)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return json.loads(reply.read()) if reply.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def projects(self) -> dict[str, str]:
        """Container id to the directory of its compose project."""
        return {
            entry["Id"]: (entry.get("Labels") or {}).get("com.docker.compose.project.working_dir", "/")
            for entry in self.get("/containers/json") or ()
        }

    def holds(self, image: str) -> bool:
        """Is this image here already."""
        return self.get(f"/images/{image}/json") is not None


def _inodes() -> dict[str, int]:
    """Socket inode to the process that has it open."""
    owners: dict[str, int] = {}
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            entries = list(os.scandir(directory / "fd"))
        except OSError:
            continue
        for entry in entries:
            # A busy process closes what was just listed: that one is skipped, not the process.
            try:
                link = os.readlink(entry)
            except OSError:
                continue
            if link.startswith("socket:["):
                owners.setdefault(link[8:-1], int(directory.name))
    return owners


def listeners(ports: t.Container[int], engine: Engine) -> tuple[plan.Listener, ...]:
    """Listening sockets on these ports, with their owners."""
    sockets = [
        found
        for name in ("tcp", "tcp6")
        for found in plan.parse_listeners(read(f"/proc/1/net/{name}") or read(f"/proc/net/{name}"))
        if found[1] in ports
    ]
    if not sockets:
        return ()
    owners, projects, outer = _inodes(), engine.projects(), read("/proc/1/cgroup")
    result = []
    for address, port, inode in sockets:
        pid = owners.get(inode, 0)
        container = plan.parse_container(read(f"/proc/{pid}/cgroup"), outer) if pid else ""
        result.append(
            plan.Listener(
                address=address,
                port=port,
                process=read(f"/proc/{pid}/comm").strip() if pid else "",
                pid=pid,
                container=container,
                project=projects.get(container, ""),
            )
        )
    return tuple(result)


def disk(path: str) -> plan.Disk:
    """Free space at a path, or at the nearest directory above it that exists."""
    place = Path(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    stat = os.statvfs(place)
    mebibyte = 1024 * 1024
    # File systems without a table of inodes say 0 of 0.
    inodes = stat.f_favail if stat.f_files else 10**9
    return plan.Disk(path, stat.f_bavail * stat.f_frsize // mebibyte, stat.f_blocks * stat.f_frsize // mebibyte, inodes)


def docker(run: Run) -> plan.Docker:
    """The engine's unit."""
    code, out = run(["systemctl", "show", "docker.service", "--property=LoadState,ActiveState"])
    if code != 0:
        return plan.Docker()
    values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    return plan.Docker(values.get("LoadState", "not-found"), values.get("ActiveState", "inactive"))


class Registries:
    """Questions to image registries, one connection for each."""

    def __init__(self, ca: str, timeout: float, user: str = "", password: str = "") -> None:
        # A private registry's certificate is judged by its own CA alone.
        self._context = ssl.create_default_context(cadata=ca) if ca else ssl.create_default_context()
        self._timeout = timeout
        self._headers = {"Accept": MANIFESTS}
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._failed: dict[str, str] = {}

    def probe(self, image: str) -> plan.Probe:
        """Does its registry hold this image."""
        parsed = plan.parse_image(image)
        if parsed is None:
            return plan.Probe(image)
        registry, name, digest = parsed
        if registry in self._failed:
            return plan.Probe(image, reason=self._failed[registry])
        connection = http.client.HTTPSConnection(registry, timeout=self._timeout, context=self._context)
        try:
            connection.request("HEAD", f"/v2/{name}/manifests/{digest}", headers=self._headers)
            return plan.Probe(image, connection.getresponse().status)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self._failed[registry] = f"{type(exc).__name__}: {exc}"
            return plan.Probe(image, reason=self._failed[registry])
        finally:
            connection.close()


def facts(
    limits: plan.Limits, images: t.Iterable[str], registries: Registries, run: Run, etc: str = "/etc/dedicated"
) -> plan.Facts:
    """The host as it is."""
    os_id, version = plan.parse_os_release(read("/etc/os-release"))
    unit = docker(run)
    engine = Engine(unit.state() == "active")
    return plan.Facts(
        os_id=os_id,
        os_version=version,
        arch=platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=plan.parse_meminfo(read("/proc/meminfo")),
        disks=tuple(disk(path) for path in sorted(limits.min_free_mb)),
        listeners=listeners({port.port for port in limits.ports}, engine),
        docker=unit,
        ca_fingerprint=read(f"{etc}/pki/ca.fingerprint").strip(),
        cluster=read(f"{etc}/cluster").strip(),
        stacks=tuple(sorted(path.parent.name for path in Path(limits.root).glob("*/compose.yaml"))),
        probes=tuple(registries.probe(image) for image in images if not engine.holds(image)),
        addresses=identity.parse_addresses(read("/proc/net/fib_trie")),
        postgres_data=data_state(limits.postgres_data),
        system_identifier=(
            identity.parse_pg_control(read_head(Path(limits.postgres_data) / "global" / "pg_control"))
            if limits.postgres_data
            else ""
        ),
        recorded_identifier=identity.parse_recorded(read(f"{etc}/postgres-system-identifier")),
        etcd_cluster_id=etcd_cluster_id(limits.etcd_data),
        members=members(limits.patroni_members),
    )
