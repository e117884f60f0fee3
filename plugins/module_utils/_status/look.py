# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was looked at, as the judges know it; limits, findings, and words for numbers."""

from __future__ import annotations

import dataclasses
import typing as t

from . import views

CRITICAL, WARNING, NOTE = "critical", "warning", "note"
SEVERITIES = (CRITICAL, WARNING, NOTE)
ETCD, POSTGRES, REDIS, ODOO, EDGE = "etcd", "postgres", "redis", "odoo", "edge"
LAYERS = (ETCD, POSTGRES, REDIS, ODOO, EDGE)
VIEWS = {ETCD: views.ETCD, POSTGRES: views.PATRONI, REDIS: views.REDIS}

HOUR, DAY = 3600, 86400
# The containers that each layer brings to a host (container_name in the roles). Others of ours are judged as they are.
CONTAINERS = {
    ETCD: ("etcd",),
    POSTGRES: ("postgres",),
    REDIS: ("redis", "sentinel"),
    ODOO: ("haproxy", "pgbouncer", "odoo-web"),
    EDGE: ("traefik",),
}
CRON = "odoo-cron"
TIMERS = {
    ETCD: ("dedicated-etcd-defrag.timer",),
}
# Which backups are taken by timers, where pgbackrest_policy does not say otherwise.
BACKUPS = ("full", "diff")
FIREWALL = "dedicated-firewall.service"
KEEPALIVED = "keepalived.service"
# pgbackrest info: 0 ok, 1 no stanza path, 2 no valid backup, 3 no stanza data (pgBackRest's source, command/info).
NOTHING_THERE = (1, 2, 3)

PATRONICTL = "docker exec -it postgres patronictl -c /etc/patroni/patroni.yml"
PGBOUNCER = "docker exec pgbouncer psql -h /run/dedicated/router -p 6432 -U pgbouncer pgbouncer -c"
PLAYBOOK = "ansible-playbook dedicated.odoo"
SITE = f"{PLAYBOOK}.site"


@dataclasses.dataclass(frozen=True)
class Limits:
    """Where good ends."""

    # roles/postgres, maximum_lag_on_failover: beyond it Patroni promotes nobody.
    max_lag_bytes: int = 1024**2
    # A backup each night (pgbackrest_policy), ten minutes of random delay, and time to take it.
    backup_seconds: int = 26 * HOUR
    # A full one each Sunday, and a day.
    full_backup_seconds: int = 8 * DAY
    # A rehearsal of a restore each month, and a few days.
    rehearsal_seconds: int = 35 * DAY
    # The repository is read through each week at least, and a day.
    verification_seconds: int = 8 * DAY
    # What began so long ago and has not passed is not going on any more (the lock of these operations).
    unproven_seconds: int = 2 * HOUR
    # roles/pki renews by the run that finds a third of the life or less.
    certificate_fraction: float = 1 / 3
    # A week to find out why no run renewed it.
    certificate_seconds: int = 7 * DAY
    # No leaf outlives its authority, and leaves live 90 days: two lives.
    authority_seconds: int = 180 * DAY
    # The alerts of node_exporter's mixin on space: 5 % warning, 3 % critical.
    disk_warning: float = 0.05
    disk_critical: float = 0.03
    # At 1.0 etcd raises NOSPACE and refuses writes. Defragmentation runs each night: what is left here is in use.
    etcd_quota: float = 0.8
    # 16 segments of 16 MiB; archive_timeout makes two a minute at rest.
    waiting_wal: int = 16
    # A planned switchover with a pause was measured at 2.5 s, without one at 3.4 s.
    pool_wait_seconds: int = 5
    # The pools are planned to stay below what the server accepts: nearly all of it is more than was planned.
    connections: float = 0.9


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``cause``: the code of a finding that explains it."""

    severity: str
    code: str
    host: str
    what: str
    why: str
    do: str
    cause: str = ""

    def as_result(self) -> dict[str, str]:
        """Plain data for the border."""
        return dataclasses.asdict(self)


Findings = t.Iterator[Finding]


# -- what was looked at ----------------------------------------------------------------------------------------------


def mapping(value: t.Any) -> t.Mapping[str, t.Any]:
    """A mapping, whatever came."""
    return value if isinstance(value, t.Mapping) else {}


def listing(value: t.Any) -> list[t.Mapping[str, t.Any]]:
    """A list of mappings, whatever came."""
    return [one for one in value if isinstance(one, t.Mapping)] if isinstance(value, (list, tuple)) else []


def number(value: t.Any) -> float | None:
    """A number, or None."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def words(value: t.Any) -> tuple[str, ...]:
    """A list of texts, whatever came."""
    return tuple(str(one) for one in value) if isinstance(value, (list, tuple)) else ()


@dataclasses.dataclass(frozen=True)
class Host:
    """One host: what it told of itself (``status``), and what its questions to the clusters brought.

    ``silent``: why it gives no answer; ``failed``: why it answers and yet told nothing; ``asked`` False: the run was
    limited to others.
    """

    name: str
    address: str = ""
    asked: bool = True
    silent: str = ""
    failed: str = ""
    status: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    views: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)

    @property
    def told(self) -> bool:
        return bool(self.status)

    def part(self, name: str) -> t.Any:
        """One part of what it told; None when that part is missing or an error."""
        value = self.status.get(name)
        return None if isinstance(value, t.Mapping) and "error" in value else value

    def error(self, name: str) -> str:
        """Why a part is missing."""
        if not self.told:
            return self.silent or self.failed or "not asked"
        value = self.status.get(name)
        if isinstance(value, t.Mapping) and "error" in value:
            return str(value["error"])
        return "" if name in self.status else "not asked"

    @property
    def containers(self) -> dict[str, t.Mapping[str, t.Any]]:
        engine = mapping(self.status.get("engine"))
        return {str(one.get("name")): one for one in listing(engine.get("containers"))}

    @property
    def units(self) -> dict[str, t.Mapping[str, t.Any]]:
        return {str(one.get("name")): one for one in listing(self.part("units"))}


def _sight(view: t.Mapping[str, t.Any], layer: str) -> tuple[bool, bool, int]:
    """How much an answer sees."""
    leader = view.get("master" if layer == REDIS else "leader")
    members = listing(view.get("sentinels" if layer == REDIS else "members"))
    answering = sum(one.get("reachable") is not False for one in members)
    return leader is not None, view.get("healthy") is True, answering


@dataclasses.dataclass(frozen=True)
class Look:
    """Everything that was looked at."""

    cluster: str
    hosts: t.Mapping[str, Host]
    members: t.Mapping[str, tuple[str, ...]]
    cron: tuple[str, ...] = ()
    vip: str = ""
    stanza: str = ""
    limits: Limits = dataclasses.field(default_factory=Limits)
    backups: tuple[str, ...] = BACKUPS

    def timers(self, layer: str) -> tuple[str, ...]:
        """The timers that a layer brings to a host."""
        taken = self.backups if layer == POSTGRES else ()
        return *TIMERS.get(layer, ()), *(f"dedicated-backup-{kind}.timer" for kind in taken)

    def of(self, layer: str) -> list[Host]:
        """The hosts of a layer; one that nobody knows is as good as one that was not asked."""
        return [self.hosts.get(name, Host(name, asked=False)) for name in self.members.get(layer, ())]

    def layers(self, host: str) -> list[str]:
        return [layer for layer in LAYERS if host in self.members.get(layer, ())]

    def alone(self, host: str, layer: str) -> bool:
        """Whether nobody else serves this layer."""
        return self.members.get(layer, ()) == (host,)

    def name(self, address: t.Any) -> str:
        """The host of an address with or without port; the address itself when it is nobody's."""
        if not isinstance(address, str) or not address:
            return "nobody"
        bare = address.rpartition(":")[0] if address.count(":") == 1 else address
        return next((one.name for one in self.hosts.values() if one.address and one.address == bare), address)

    def answers(self, layer: str) -> dict[str, t.Mapping[str, t.Any]]:
        """Of those who asked a cluster, what it answered: results that know it."""
        found = {host.name: mapping(host.views.get(layer)) for host in self.of(layer)}
        return {name: one for name, one in found.items() if one.get("reachable")}

    def best(self, layer: str) -> t.Mapping[str, t.Any]:
        """The answer that sees most; empty when there is none. In a partition that is the majority's."""
        return max(self.answers(layer).values(), key=lambda one: _sight(one, layer), default={})

    def pgbackrest(self, verb: str) -> str:
        """A command for the operator."""
        return f"docker exec --user 10010 postgres pgbackrest --stanza={self.stanza} {verb}"

    @property
    def now(self) -> int | None:
        """The time by the hosts that answered."""
        return max((int(number(host.status.get("now")) or 0) for host in self.hosts.values()), default=0) or None


def _view(value: t.Any, layer: str) -> t.Mapping[str, t.Any]:
    """What a question to a cluster brought; what cannot be understood is as good as silence."""
    found = mapping(value)
    try:
        if found.get("reachable"):
            views.check(found, VIEWS[layer])
    except (ValueError, TypeError, AttributeError, KeyError) as exc:
        return {"msg": f"the answer cannot be understood: {exc}"}
    return found


def _host(name: str, data: t.Mapping[str, t.Any]) -> Host:
    result = mapping(data.get("status"))
    silent = failed = ""
    if result.get("unreachable"):
        silent = str(result.get("msg") or "unreachable").strip()
    elif "now" not in result:
        failed = str(result.get("msg") or "the look failed without a word").strip()
    return Host(
        name,
        address=str(data.get("address") or ""),
        asked=bool(data.get("asked", True)),
        silent=silent,
        failed=failed,
        status={} if silent or failed else result,
        views={layer: _view(data.get(layer), layer) for layer in VIEWS},
    )


def _limits(data: t.Mapping[str, t.Any]) -> Limits:
    """The defaults, with what is given instead. Raises ValueError."""
    known = {field.name: field.type for field in dataclasses.fields(Limits)}
    given: dict[str, t.Any] = {}
    for name, value in data.items():
        if name not in known:
            raise ValueError(f"limits: {name} is none of {', '.join(sorted(known))}")
        if value is None:
            continue
        try:
            given[name] = float(value) if known[name] == "float" else int(value)
        except (TypeError, ValueError):
            raise ValueError(f"limits: {name}: {value!r} is no number") from None
    return Limits(**given)


def parse_look(data: t.Any) -> Look:
    """The look as the playbook gathers it. Raises ValueError when it is none."""
    if not isinstance(data, t.Mapping) or not isinstance(data.get("hosts"), t.Mapping):
        raise ValueError("a look is a mapping with the mapping hosts")
    members = mapping(data.get("members"))
    return Look(
        cluster=str(data.get("cluster") or ""),
        hosts={str(name): _host(str(name), mapping(one)) for name, one in data["hosts"].items()},
        members={layer: words(members.get(layer)) for layer in LAYERS},
        cron=words(data.get("cron")),
        vip=str(data.get("vip") or "").partition("/")[0],
        stanza=str(data.get("stanza") or ""),
        limits=_limits(mapping(data.get("limits"))),
        backups=words(data.get("backups")) or BACKUPS,
    )


# -- texts -----------------------------------------------------------------------------------------------------------


def size(value: t.Any) -> str:
    """Bytes in words."""
    count = number(value)
    if count is None:
        return "unknown"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def age(value: t.Any) -> str:
    """A length of time in words."""
    seconds = number(value)
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < 2 * DAY else f"{seconds / DAY:.0f} d"


def logs(host: str, container: str) -> str:
    return f"on {host}: docker logs --tail 50 {container}"
