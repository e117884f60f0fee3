# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host may become, or stay, a host of a cluster, judged before anything is changed on it.

Invariants (checked by the tests): every reason of a snapshot is reported at once; a host that already carries our
stacks is never refused for what our stacks do on it; data of another PostgreSQL cluster is always a reason.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .identity import shown

# Debian's own packages are used on the first; the others get Docker's.
DOCKER_SOURCES: dict[str, tuple[str, ...]] = {
    "debian": (),
    "docker": ("debian-12", "ubuntu-22.04", "ubuntu-24.04"),
}
ARCHITECTURES = ("x86_64", "aarch64")
MIN_FREE_INODES = 10000
ABSENT, PRESENT = "absent", "present"
NO_CA = "none"  # the controller has no CA yet
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound
CONTAINER = re.compile(r"[0-9a-f]{64}")
IMAGE = re.compile(r"(?P<registry>[^/@\s]+)/(?P<name>[^@\s]+)@(?P<digest>sha256:[0-9a-f]{64})")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One reason to refuse: stable code, and a message with what, why and what to do."""

    code: str
    message: str

    def as_result(self) -> dict[str, str]:
        """Plain data for the border."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Listener:
    """A listening TCP socket and its owner, as far as it is known."""

    address: str
    port: int
    process: str = ""
    pid: int = 0
    container: str = ""  # id of the container that the owner runs in
    project: str = ""  # directory of the container's compose project

    def owner(self) -> str:
        """The owner in words."""
        if not self.pid:
            return "an unknown process"
        inside = f" in container {self.container[:12]}" if self.container else ""
        return f"{self.process} (pid {self.pid}){inside}"


@dataclasses.dataclass(frozen=True)
class Disk:
    """Free space of the file system that a path lies on."""

    path: str
    free_mb: int
    total_mb: int
    free_inodes: int = 10**9


@dataclasses.dataclass(frozen=True)
class Docker:
    """The engine's unit as systemd shows it."""

    load: str = "not-found"
    active: str = "inactive"

    def state(self) -> str:
        """C(absent), or what systemd calls it."""
        return "absent" if self.load == "not-found" else self.active


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a registry answered about an image: HTTP status, or the reason why there was no answer."""

    image: str
    status: int = 0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Member:
    """What answered as Patroni at a member's address; nothing in it is proven by a certificate."""

    expected: str
    address: str
    name: str = ""
    scope: str = ""
    system_identifier: str = ""
    reason: str = ""  # why there was no answer


@dataclasses.dataclass(frozen=True)
class Facts:
    """The host as it is."""

    os_id: str
    os_version: str
    arch: str
    cpus: int
    memory_mb: int
    disks: tuple[Disk, ...] = ()
    listeners: tuple[Listener, ...] = ()
    docker: Docker = dataclasses.field(default_factory=Docker)
    ca_fingerprint: str = ""
    cluster: str = ""
    stacks: tuple[str, ...] = ()  # compose projects of ours on this host
    probes: tuple[Probe, ...] = ()
    addresses: tuple[str, ...] = ()  # the host's own; none when they could not be read
    postgres_data: str = ""  # absent or present; empty when it was not asked, or could not be told
    system_identifier: str = ""  # of the PostgreSQL data on this host
    recorded_identifier: str = ""  # of the cluster that this host was made a member of
    etcd_cluster_id: str = ""
    members: tuple[Member, ...] = ()

    @property
    def os(self) -> str:
        """The operating system as limits name it."""
        return f"{self.os_id}-{self.os_version}"


@dataclasses.dataclass(frozen=True)
class Port:
    """A port that a stack of ours wants; without an address any listener is in its way."""

    port: int
    address: str = ""
    stack: str = ""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the caller asks of the host."""

    cluster: str = ""
    ca_fingerprint: str = ""
    ca_others: tuple[str, ...] = ()
    root: str = "/opt/dedicated"
    docker_source: str = "debian"
    supported_os: tuple[str, ...] = ("debian-13",)
    min_cpus: int = 2
    min_memory_mb: int = 3500
    min_free_mb: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    address: str = ""
    system_identifier: str = ""
    postgres_data: str = ""
    etcd_data: str = ""
    patroni_members: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse_image(reference: str) -> tuple[str, str, str] | None:
    """Registry, name and digest of an image, or None."""
    match = IMAGE.fullmatch(reference)
    if match is None:
        return None
    # A tag beside the digest decides nothing.
    name = re.sub(r":[A-Za-z0-9_.-]+$", "", match["name"])
    return match["registry"], name, match["digest"]


def parse_listeners(text: str) -> list[tuple[str, int, str]]:
    """Address, port and inode of the listening sockets of C(/proc/net/tcp) or C(tcp6)."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != "0A":
            continue
        address, port = fields[1].rsplit(":", 1)
        found.append((parse_address(address), int(port, 16), fields[9]))
    return found


def parse_address(text: str) -> str:
    """An address of C(/proc/net), which holds 32-bit words in the processor's order (little-endian where we run)."""
    raw = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    if len(raw) == 4:
        return ".".join(map(str, raw))
    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        return ".".join(map(str, raw[12:]))
    if not any(raw):
        return "::"
    return ":".join(f"{raw[at]:02x}{raw[at + 1]:02x}" for at in range(0, 16, 2))


def parse_container(cgroup: str, outer: str) -> str:
    """The container that a process runs in by its C(/proc/<pid>/cgroup), but for those that the host itself runs in."""
    above = set(CONTAINER.findall(outer))
    inner = [found for found in CONTAINER.findall(cgroup) if found not in above]
    return inner[-1] if inner else ""


def parse_os_release(text: str) -> tuple[str, str]:
    """ID and version of C(/etc/os-release)."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return values.get("ID", "unknown").strip("\"'"), values.get("VERSION_ID", "unknown").strip("\"'")


def parse_meminfo(text: str) -> int:
    """Memory of C(/proc/meminfo) in MiB."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) // 1024 if match else 0


def judge(facts: Facts, limits: Limits) -> tuple[Finding, ...]:
    """Every reason to refuse this host."""
    findings: list[Finding] = []
    for check in (_cluster, _ca, _address, _identity, _os, _size, _disks, _docker, _ports):
        findings.extend(check(facts, limits))
    findings.extend(_images(facts))
    return tuple(findings)


def message(host: str, findings: t.Sequence[Finding]) -> str:
    """All reasons as one text."""
    lines = [f"{host} is refused for {len(findings)} reason(s); nothing was changed."]
    return "\n".join(lines + [f"- {finding.code}: {finding.message}" for finding in findings])


def _cluster(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    if facts.cluster and limits.cluster and facts.cluster != limits.cluster:
        yield Finding(
            "other-cluster",
            f"the host belongs to cluster {facts.cluster} (/etc/dedicated/cluster), the inventory is that of"
            f" {limits.cluster}; use the inventory of {facts.cluster}, or take another host",
        )


def _ca(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    if limits.ca_fingerprint == NO_CA:
        if facts.ca_fingerprint:
            yield Finding(
                "other-ca",
                f"the host trusts the CA {facts.ca_fingerprint[:16]}… (/etc/dedicated/pki/ca.fingerprint), the"
                " controller has none; a second CA would cut the cluster in two: restore the CA of this cluster on the"
                " controller (pki_dir)",
            )
        return
    wanted, found = (re.sub(r"[^0-9a-f]", "", each.lower()) for each in (limits.ca_fingerprint, facts.ca_fingerprint))
    if wanted and found and found not in (wanted, *limits.ca_others):
        yield Finding(
            "other-ca",
            f"the host trusts the CA {found[:16]}… (/etc/dedicated/pki/ca.fingerprint), the inventory"
            f" has {wanted[:16]}…; a second CA would cut the cluster in two: restore the CA of"
            " this cluster on the controller",
        )


def _address(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    if limits.address and facts.addresses and limits.address not in facts.addresses:
        yield Finding(
            "address-not-here",
            f"dedicated_address {limits.address} is on no interface of the host, which has"
            f" {', '.join(each for each in facts.addresses if not each.startswith('127.'))}; correct dedicated_address,"
            " or ansible_host if this is another machine than meant",
        )


def how_to_move(path: str, container: str) -> str:
    """The operation that makes room without destroying anything."""
    return f"docker stop {container}; mv {path} {path}.leftover-$(date +%F)"


def _identity(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    pinned, recorded, found = limits.system_identifier, facts.recorded_identifier, facts.system_identifier
    record = "/etc/dedicated/postgres-system-identifier"
    if pinned and recorded and pinned != recorded:
        yield Finding(
            "other-system-identifier",
            f"the host was made a member of the PostgreSQL cluster {shown(recorded)} ({record}), the inventory pins"
            f" {shown(pinned)} (postgres_system_identifier); use the inventory of that cluster; if the cluster was made"
            f" anew on purpose, correct the pin, or remove {record} on the host",
        )
    wanted, source = (pinned, "the inventory pins") if pinned else (recorded, f"{record} says")
    if wanted and found and found not in (wanted, *limits.ca_others):
        yield Finding(
            "other-system-identifier",
            f"{limits.postgres_data} on the host is data of the PostgreSQL cluster {shown(found)}, {source}"
            f" {shown(wanted)}; it is never overwritten: if it is what you want, use its inventory, else move it aside"
            f" on the host: {how_to_move(limits.postgres_data, 'postgres')}",
        )


def _os(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    extra = DOCKER_SOURCES.get(limits.docker_source, ())
    supported = (*limits.supported_os, *(each for each in extra if each not in limits.supported_os))
    if facts.os not in supported:
        others = [each for each in DOCKER_SOURCES["docker"] if each not in supported]
        hint = ""
        if facts.os in others:
            hint = " or set host_docker_source to docker, which installs Docker's own packages"
        yield Finding(
            "os-unsupported",
            f"the host runs {facts.os}; supported are {', '.join(supported)}: install one of them{hint}",
        )
    if facts.arch not in ARCHITECTURES:
        yield Finding(
            "os-unsupported", f"the host's processor is {facts.arch}; supported are {', '.join(ARCHITECTURES)}"
        )


def _size(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    if facts.cpus < limits.min_cpus:
        yield Finding(
            "host-too-small",
            f"the host has {facts.cpus} processor(s), its layers need {limits.min_cpus}; give the machine more",
        )
    if facts.memory_mb < limits.min_memory_mb:
        yield Finding(
            "host-too-small",
            f"the host has {facts.memory_mb} MiB of memory, its layers need {limits.min_memory_mb} MiB; give the"
            " machine more, or move layers to other hosts",
        )


def _disks(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    disks = {disk.path: disk for disk in facts.disks}
    for path, least in sorted(limits.min_free_mb.items()):
        disk = disks.get(path)
        if disk is None:
            continue
        if disk.free_mb < least:
            yield Finding(
                "disk-full",
                f"{path} has {disk.free_mb} MiB free of {disk.total_mb} MiB, needed are {least} MiB; see what fills it:"
                f" du -xh -d2 {path} | sort -h | tail",
            )
        elif disk.free_inodes < MIN_FREE_INODES:
            yield Finding(
                "disk-full",
                f"{path} has {disk.free_inodes} free inodes, needed are {MIN_FREE_INODES}; see where small files"
                f" pile up: du -x --inodes -d2 {path} | sort -n | tail",
            )


def _docker(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    state = facts.docker.state()
    # A new host whose engine was installed but never started is what the role host is for.
    if state == "failed" or (state not in ("absent", "active", "activating", "reloading") and facts.stacks):
        carried = f"; it carries {', '.join(facts.stacks)}" if facts.stacks else ""
        yield Finding(
            "docker-down",
            f"the Docker engine is installed and {state}{carried}; see why: journalctl -u docker -n 50, then:"
            " systemctl start docker",
        )


def is_ours(listener: Listener, facts: Facts, limits: Limits) -> bool:
    """Does this socket belong to a container of one of our stacks."""
    if not listener.container:
        return False
    if listener.project:
        return listener.project == limits.root or listener.project.startswith(limits.root.rstrip("/") + "/")
    # The engine did not say whose container it is: believe in it when our stacks are on this host.
    return bool(facts.stacks)


def _ports(facts: Facts, limits: Limits) -> t.Iterator[Finding]:
    for wanted in limits.ports:
        for listener in facts.listeners:
            if listener.port != wanted.port or is_ours(listener, facts, limits):
                continue
            everywhere = not wanted.address or wanted.address in WILDCARDS
            if not everywhere and listener.address not in (wanted.address, *WILDCARDS):
                continue
            stack = f" of {wanted.stack}" if wanted.stack else ""
            yield Finding(
                "port-taken",
                f"port {wanted.port}{stack} is taken on {listener.address} by {listener.owner()}; stop it and keep it"
                f" from starting again (ss -ltnp 'sport = :{wanted.port}')",
            )
            break


def _images(facts: Facts) -> t.Iterator[Finding]:
    for probe in facts.probes:
        parsed = parse_image(probe.image)
        if parsed is None:
            yield Finding("image-missing", f"{probe.image} is not of the form registry/name@sha256:<64 hex digits>")
            continue
        registry, name, digest = parsed
        if probe.status == 200:
            continue
        if probe.status == 404:
            yield Finding(
                "image-missing",
                f"registry {registry} does not hold {name}@{digest}; push the image, or correct its digest in the"
                " inventory",
            )
        elif probe.status in (401, 403):
            yield Finding(
                "registry-unauthorized",
                f"registry {registry} refuses to show {name} (status {probe.status}); check the registry's user and"
                " password",
            )
        else:
            reason = probe.reason or f"status {probe.status}"
            yield Finding(
                "registry-unreachable",
                f"registry {registry} gave no answer about {name}: {reason}; check the name, the firewall and the"
                f" certificate: curl -v https://{registry}/v2/",
            )
