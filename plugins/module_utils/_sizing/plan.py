# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of PostgreSQL, Odoo and the pools between them, from the size of a host.

Invariants (checked by the tests over a grid of hosts):

* what PostgreSQL may use at once, shared buffers, maintenance and one C(work_mem) per connection, fits its memory;
* the Odoo services' memory limits together never exceed the memory given to Odoo;
* the server connections that all pools may open, plus those reserved, never exceed the server's C(max_connections).

Sources:

* PostgreSQL 17 manual, 19.4 Resource Consumption: shared_buffers a quarter of memory, never over 40 %; work_mem may
  be used several times by one query; 19.5 and 28.5: larger shared_buffers want a larger max_wal_size; 19.7:
  effective_cache_size is what the kernel and PostgreSQL cache together.
* Odoo 19 manual, System configuration: workers = CPUs * 2 + 1 with cron workers counted in, one worker for about six
  users, memory = workers * (0.8 * 150 MB + 0.2 * 1 GB).
* PgBouncer manual: in session mode a client keeps its server connection; max_client_conn counts clients of all pools.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing as t

Number = t.Union[int, float]

MIB_KB = 1024
UNITS_KB = {"kB": 1.0, "MB": 1024.0, "GB": 1024.0**2, "TB": 1024.0**3}
# An integer without unit means this many kB for these settings (pg_settings.unit).
BARE_UNIT_KB = {"shared_buffers": 8, "effective_cache_size": 8, "work_mem": 1, "maintenance_work_mem": 1}

POSTGRES_MIN_MB = 512
BACKEND_KB = 1024  # private memory of an idle backend, apart from work_mem
WORK_MEM_MIN_KB = 1024
WORK_MEM_MAX_KB = 64 * 1024
SHARED_BUFFERS_SHARE = 0.25
SHARED_BUFFERS_LIMIT = 0.40

LIGHT_MB, HEAVY_MB = 150, 1024
WORKER_MB = math.ceil(0.8 * LIGHT_MB + 0.2 * HEAVY_MB)
MASTER_MB = 150  # the process that forks the workers
GEVENT_MB = WORKER_MB
CRON_MB = 512  # a job is rarely a light request
USERS_PER_WORKER = 6
# One worker cannot print: the report's HTML is fetched back over HTTP while that worker waits for it.
MIN_WORKERS = 2

RESERVED = {"superuser": 5, "patroni": 5, "replication": 3, "backup": 2, "monitoring": 3, "operator": 5}
CURSORS = 3  # cursors that one Odoo process may hold at once: request, signalling, a nested one
SESSION_SPARE = 3  # health checks, initialisation, an operator


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why there is no plan: a stable code, and a message with what, why and what to do."""

    code: str
    message: str


@dataclasses.dataclass(frozen=True)
class Host:
    """The size of a host."""

    memory_mb: int
    vcpus: int


@dataclasses.dataclass(frozen=True)
class PostgresSize:
    """What PostgreSQL gets."""

    memory_mb: int
    vcpus: int
    shm_mb: int
    parameters: dict[str, t.Any]

    def as_result(self) -> dict[str, t.Any]:
        """Plain data for the border."""
        return {
            "memory_mb": self.memory_mb,
            "memory_limit": f"{self.memory_mb}m",
            "vcpus": self.vcpus,
            "shm_size": f"{self.shm_mb}m",
            "parameters": dict(self.parameters),
        }


@dataclasses.dataclass(frozen=True)
class OdooSize:
    """What the services of Odoo get on one host."""

    memory_mb: int
    web_memory_mb: int
    cron_memory_mb: int
    settings: dict[str, int]

    def as_result(self) -> dict[str, t.Any]:
        """Plain data for the border."""
        workers, cron = self.settings["workers"], self.settings["cron_workers"]
        return {
            **self.settings,
            "users": workers * USERS_PER_WORKER,
            "processes": {"web": workers, "cron": cron, "gevent": 1},
            "memory_mb": self.memory_mb,
            "web_memory_mb": self.web_memory_mb,
            "cron_memory_mb": self.cron_memory_mb,
            "web_memory_limit": f"{self.web_memory_mb}m",
            "cron_memory_limit": f"{self.cron_memory_mb}m",
        }


@dataclasses.dataclass(frozen=True)
class Demand:
    """The Odoo processes of one host, and how many connections each may open."""

    name: str
    web: int
    cron: int
    gevent: int = 1
    db_maxconn: int = 16
    db_maxconn_gevent: int = 32

    @property
    def processes(self) -> int:
        """How many processes talk to the database."""
        return self.web + self.cron + self.gevent


@dataclasses.dataclass(frozen=True)
class Pool:
    """The pools of one host's PgBouncer."""

    default_pool_size: int
    session_pool_size: int
    reserve_pool_size: int
    max_client_conn: int

    @property
    def server_connections(self) -> int:
        """The most server connections that this host can open: each of the two pools has its own reserve."""
        return self.default_pool_size + self.session_pool_size + 2 * self.reserve_pool_size

    def as_result(self) -> dict[str, int]:
        """Plain data for the border."""
        return {
            **dataclasses.asdict(self),
            "max_db_connections": self.default_pool_size + self.reserve_pool_size,
            "max_session_db_connections": self.session_pool_size + self.reserve_pool_size,
        }


@dataclasses.dataclass(frozen=True)
class PoolPlan:
    """The pools of every host, and the server that they share."""

    max_connections: int
    reserved: int
    pools: dict[str, Pool]

    @property
    def used(self) -> int:
        """Server connections of all pools together."""
        return sum(pool.server_connections for pool in self.pools.values())

    def check_invariants(self) -> None:
        """Never more connections than the server has."""
        if self.used + self.reserved > self.max_connections:
            raise AssertionError(f"{self.used} + {self.reserved} > {self.max_connections}")

    def as_result(self) -> dict[str, t.Any]:
        """Plain data for the border."""
        return {
            "max_connections": self.max_connections,
            "reserved": self.reserved,
            "available": self.max_connections - self.reserved,
            "used": self.used,
            "hosts": {name: pool.as_result() for name, pool in self.pools.items()},
        }


def clamp(value: float, low: float, high: float) -> int:
    """An integer between two limits."""
    return int(max(low, min(high, value)))


def parse_int(value: t.Any) -> int | None:
    """An integer, also from its text; None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def parse_host(facts: t.Mapping[str, t.Any]) -> Host | Refusal:
    """The host from its own keys or from Ansible's facts."""
    memory = parse_int(facts.get("memory_mb", facts.get("memtotal_mb", facts.get("ansible_memtotal_mb"))))
    vcpus = parse_int(facts.get("vcpus", facts.get("processor_vcpus", facts.get("ansible_processor_vcpus"))))
    if memory is None or vcpus is None or memory < 1 or vcpus < 1:
        return Refusal(
            "bad-input",
            "the host's size is unknown: give a mapping with memory_mb and vcpus, or gather the facts"
            " memtotal_mb and processor_vcpus first",
        )
    return Host(memory, vcpus)


def _memory(host: Host, share: Number, memory_mb: int | None) -> int | Refusal:
    """The memory that a layer gets, in MiB."""
    if not 0 < share <= 1:
        return Refusal("bad-input", f"share is {share}; it is a part of the host: above 0, at most 1")
    if memory_mb is None:
        return int(host.memory_mb * share)
    if memory_mb > host.memory_mb:
        return Refusal(
            "memory-exceeded",
            f"memory_mb is {memory_mb}, the host has {host.memory_mb} MiB; lower memory_mb or take a larger host",
        )
    return memory_mb


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def parse_size_kb(name: str, value: t.Any) -> float | None:
    """A PostgreSQL memory setting in kB, or None when it is none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(kB|MB|GB|TB)?\s*", str(value))
    if isinstance(value, bool) or match is None:
        return None
    unit = UNITS_KB[match[2]] if match[2] else float(BARE_UNIT_KB.get(name, 1))
    return float(match[1]) * unit


def _size(kilobytes: float) -> str:
    """A PostgreSQL memory setting as text, in whole MB where it is one MB or more."""
    return f"{int(kilobytes // MIB_KB)}MB" if kilobytes >= MIB_KB else f"{int(kilobytes)}kB"


def _postgres_parameters(
    memory_mb: int, vcpus: int, max_connections: int, members: int, disk_gb: int | None
) -> dict[str, t.Any]:
    """The settings before overrides."""
    memory_kb = memory_mb * MIB_KB
    shared_kb = max(128 * MIB_KB, memory_kb * SHARED_BUFFERS_SHARE)
    maintenance_kb = clamp(memory_kb / 16, 32 * MIB_KB, 2048 * MIB_KB)
    vacuum_kb = maintenance_kb // 2
    vacuum_workers = 3
    free_kb = memory_kb - shared_kb - maintenance_kb - vacuum_workers * vacuum_kb - max_connections * BACKEND_KB
    work_kb = clamp(free_kb / (2 * max_connections), WORK_MEM_MIN_KB, WORK_MEM_MAX_KB)
    wal_mb = clamp(2 * shared_kb / MIB_KB, 1024, 16384)
    if disk_gb is not None:
        wal_mb = max(256, min(wal_mb, disk_gb * 1024 // 10))
    return {
        "max_connections": max_connections,
        "superuser_reserved_connections": RESERVED["superuser"],
        "shared_buffers": _size(shared_kb),
        "effective_cache_size": _size(memory_kb * 0.75),
        "work_mem": _size(work_kb),
        "maintenance_work_mem": _size(maintenance_kb),
        "autovacuum_work_mem": _size(vacuum_kb),
        "autovacuum_max_workers": vacuum_workers,
        "max_worker_processes": max(8, vcpus),
        "max_parallel_workers": vcpus,
        # Odoo's statements are short; parallel workers multiply work_mem.
        "max_parallel_workers_per_gather": min(2, vcpus // 2),
        "max_parallel_maintenance_workers": min(4, max(1, vcpus // 2)),
        "wal_buffers": _size(clamp(shared_kb / 32, 4 * MIB_KB, 16 * MIB_KB)),
        "max_wal_size": f"{wal_mb}MB",
        "min_wal_size": f"{max(80, wal_mb // 4)}MB",
        "wal_keep_size": f"{min(256, wal_mb)}MB",
        "max_slot_wal_keep_size": f"{4 * wal_mb}MB",
        # Room for eight members: these need a restart, and a host more shall not cause one.
        "max_wal_senders": max(20, 2 * members + 4),
        "max_replication_slots": max(20, 2 * members + 4),
        "max_locks_per_transaction": 128,
        "max_prepared_transactions": 0,
    }


def _why_not_postgres(memory_mb: int, parameters: t.Mapping[str, t.Any]) -> Refusal | None:
    """The reason why these settings cannot work in this memory, or None."""
    names = ("shared_buffers", "work_mem", "maintenance_work_mem")
    sizes = {name: parse_size_kb(name, parameters[name]) for name in names}
    for name, value in sizes.items():
        if value is None:
            return Refusal("bad-input", f"{name} is no PostgreSQL memory size; write for example 512MB")
    connections, superuser = (
        parse_int(parameters[name]) for name in ("max_connections", "superuser_reserved_connections")
    )
    if connections is None or superuser is None or connections <= superuser:
        return Refusal(
            "bad-input",
            f"max_connections ({parameters['max_connections']}) must be an integer above"
            f" superuser_reserved_connections ({parameters['superuser_reserved_connections']})",
        )
    shared, work, maintenance = (int((sizes[name] or 0) // MIB_KB) for name in names)
    if shared > memory_mb * SHARED_BUFFERS_LIMIT:
        return Refusal(
            "memory-exceeded",
            f"shared_buffers is {shared} MB of {memory_mb} MiB; at most 40 % ({int(memory_mb * SHARED_BUFFERS_LIMIT)}"
            " MB) is of use, the rest is the kernel's cache; lower it or give PostgreSQL more memory",
        )
    backends = int(connections * ((sizes["work_mem"] or 0) + BACKEND_KB) // MIB_KB)
    total = shared + maintenance + backends
    if total > memory_mb:
        return Refusal(
            "memory-exceeded",
            f"shared_buffers {shared} MB + maintenance_work_mem {maintenance} MB + {connections} connections * "
            f"(work_mem {work} MB + 1 MB) = {total} MB, more than the {memory_mb} MiB of PostgreSQL;"
            " lower max_connections or work_mem, or give it more memory",
        )
    return None


def plan_postgres(
    host: Host,
    share: Number = 0.25,
    memory_mb: int | None = None,
    max_connections: int = 200,
    members: int = 1,
    disk_gb: int | None = None,
    overrides: t.Mapping[str, t.Any] | None = None,
) -> PostgresSize | Refusal:
    """PostgreSQL's settings for its share of a host."""
    memory = _memory(host, share, memory_mb)
    if isinstance(memory, Refusal):
        return memory
    if memory < POSTGRES_MIN_MB:
        return Refusal(
            "too-little-memory",
            f"PostgreSQL would get {memory} MiB of {host.memory_mb} MiB, and needs {POSTGRES_MIN_MB};"
            " raise its share or take a larger host",
        )
    if max_connections < 1:
        return Refusal("bad-input", f"max_connections is {max_connections}; give a positive number")
    vcpus = max(1, round(host.vcpus * share))
    base = _postgres_parameters(memory, vcpus, max_connections, members, disk_gb)
    parameters = {**base, **dict(overrides or {})}
    if "max_connections" in (overrides or {}):
        connections = parse_int(parameters["max_connections"])
        if connections is not None and connections > 0:
            parameters = {
                **_postgres_parameters(memory, vcpus, connections, members, disk_gb),
                **dict(overrides or {}),
            }
    refusal = _why_not_postgres(memory, parameters)
    return refusal or PostgresSize(memory, vcpus, max(64, memory // 8), parameters)


# --- Odoo ------------------------------------------------------------------------------------------------------------

ODOO_LIMITS: dict[str, int] = {
    # Odoo's own defaults. They act on virtual memory; the resident part is bounded by the service's memory limit.
    "limit_memory_soft": 2048 * 1024**2,
    "limit_memory_hard": 2560 * 1024**2,
    "limit_memory_soft_gevent": 2048 * 1024**2,
    "limit_memory_hard_gevent": 2560 * 1024**2,
    "limit_time_cpu": 60,
    "limit_time_real": 120,
    "limit_time_real_cron": 1800,
    "limit_request": 65536,
    "db_maxconn": 16,
    "db_maxconn_gevent": 32,
}


def web_need_mb(workers: int) -> int:
    """Memory that the http service needs by Odoo's formula."""
    return workers * WORKER_MB + GEVENT_MB + MASTER_MB


def cron_need_mb(cron_workers: int) -> int:
    """Memory that the cron service needs."""
    return cron_workers * CRON_MB + MASTER_MB


def _workers(host: Host, share: Number, memory: int, users: int | None, cron: int) -> int | Refusal:
    """Http workers that processor and memory allow, no more than the users need."""
    by_cpu = max(MIN_WORKERS, int(2 * host.vcpus * share) + 1 - cron)
    by_memory = (memory - cron_need_mb(cron) - GEVENT_MB - MASTER_MB) // WORKER_MB
    if by_memory < MIN_WORKERS:
        need = web_need_mb(MIN_WORKERS) + cron_need_mb(cron)
        return Refusal(
            "too-little-memory",
            f"Odoo would get {memory} MiB of {host.memory_mb} MiB; {MIN_WORKERS} http workers, the websocket process"
            f" and {cron} cron worker(s) need {need} MiB; raise its share or take a larger host",
        )
    most = min(by_cpu, by_memory)
    if users is None:
        return most
    wanted = max(MIN_WORKERS, math.ceil(users / USERS_PER_WORKER))
    if wanted > most:
        return Refusal(
            "too-many-users",
            f"{users} users need {wanted} http workers ({USERS_PER_WORKER} users each); this host allows {most}"
            f" (processor {by_cpu}, memory {by_memory}); add hosts to the odoo group or take larger ones",
        )
    return wanted


def _why_not_odoo(memory: int, settings: t.Mapping[str, int]) -> Refusal | None:
    """The reason why these settings cannot work, or None."""
    if settings["workers"] < MIN_WORKERS or settings["cron_workers"] < 1:
        return Refusal(
            "bad-input",
            f"workers is {settings['workers']} and cron_workers {settings['cron_workers']}; the least are {MIN_WORKERS}"
            " (a single worker waits for itself when it prints) and 1",
        )
    for suffix in ("", "_gevent"):
        soft, hard = settings[f"limit_memory_soft{suffix}"], settings[f"limit_memory_hard{suffix}"]
        if soft > hard:
            return Refusal(
                "bad-input", f"limit_memory_soft{suffix} ({soft}) is above limit_memory_hard{suffix} ({hard})"
            )
    if settings["limit_time_cpu"] > settings["limit_time_real"]:
        return Refusal(
            "bad-input",
            f"limit_time_cpu ({settings['limit_time_cpu']} s) is above limit_time_real"
            f" ({settings['limit_time_real']} s): it would never be reached",
        )
    need = web_need_mb(settings["workers"]) + cron_need_mb(settings["cron_workers"])
    if need > memory:
        return Refusal(
            "memory-exceeded",
            f"{settings['workers']} http and {settings['cron_workers']} cron workers need {need} MiB, Odoo has {memory}"
            " MiB; lower the workers or raise its share",
        )
    return None


def plan_odoo(
    host: Host,
    share: Number = 0.5,
    memory_mb: int | None = None,
    users: int | None = None,
    overrides: t.Mapping[str, t.Any] | None = None,
) -> OdooSize | Refusal:
    """Workers and limits of Odoo's services for its share of a host."""
    memory = _memory(host, share, memory_mb)
    if isinstance(memory, Refusal):
        return memory
    given = _parse_overrides(overrides or {}, {*ODOO_LIMITS, "workers", "cron_workers"}, zero=False)
    if isinstance(given, Refusal):
        return given
    cron = given.get("cron_workers", 1 if host.vcpus * share < 4 else 2)
    workers = given.get("workers")
    if workers is None:
        derived = _workers(host, share, memory, users, cron)
        if isinstance(derived, Refusal):
            return derived
        workers = derived
    settings = {**ODOO_LIMITS, **given, "workers": workers, "cron_workers": cron}
    refusal = _why_not_odoo(memory, settings)
    if refusal:
        return refusal
    # The formula is an average: let a service grow to a heavy request in every worker, as far as there is memory.
    spare = memory - web_need_mb(workers) - cron_need_mb(cron)
    cron_memory = min(cron_need_mb(cron) + spare // 4, cron * HEAVY_MB + MASTER_MB)
    web_memory = min(memory - cron_memory, workers * HEAVY_MB + HEAVY_MB + MASTER_MB)
    return OdooSize(memory, web_memory, cron_memory, settings)


def _parse_overrides(overrides: t.Mapping[str, t.Any], known: set[str], zero: bool) -> dict[str, int] | Refusal:
    """Overrides as positive integers under known names."""
    result: dict[str, int] = {}
    for name, value in overrides.items():
        if name not in known:
            return Refusal("bad-input", f"unknown override {name}; known are {', '.join(sorted(known))}")
        number = parse_int(value)
        if number is None or number < (0 if zero else 1):
            return Refusal("bad-input", f"override {name} is {value!r}; give a positive integer")
        result[str(name)] = number
    return result


# --- Pools -----------------------------------------------------------------------------------------------------------


def parse_demand(name: str, value: t.Mapping[str, t.Any]) -> Demand | Refusal:
    """The demand of a host from plain process counts or from a result of C(odoo_sizing)."""
    counts = value.get("processes", value)
    numbers: dict[str, int] = {}
    for key, default in (("web", None), ("cron", None), ("gevent", 1)):
        number = parse_int(counts.get(key, default))
        if number is None or number < 0:
            return Refusal("bad-input", f"{name}: {key} is {counts.get(key)!r}; give the number of processes")
        numbers[key] = number
    for key in ("db_maxconn", "db_maxconn_gevent"):
        number = parse_int(value.get(key, getattr(Demand, key)))
        if number is None or number < 1:
            return Refusal("bad-input", f"{name}: {key} is {value.get(key)!r}; give a positive integer")
        numbers[key] = number
    demand = Demand(name=name, **numbers)
    if demand.processes < 1:
        return Refusal("bad-input", f"{name}: no process at all")
    return demand


def _pool(demand: Demand, overrides: t.Mapping[str, int]) -> Pool:
    """What a host would like to have."""
    # In session mode every process that ever touched the database `postgres` keeps a connection: http workers to
    # notify, cron and websocket processes to listen and to notify.
    session = demand.web + 2 * demand.cron + 2 * demand.gevent + SESSION_SPARE
    clients = (demand.web + demand.cron) * demand.db_maxconn + demand.gevent * demand.db_maxconn_gevent + 20
    return Pool(
        default_pool_size=overrides.get("default_pool_size", CURSORS * demand.processes),
        session_pool_size=overrides.get("session_pool_size", session),
        reserve_pool_size=overrides.get("reserve_pool_size", math.ceil(demand.processes / 4)),
        max_client_conn=overrides.get("max_client_conn", clients),
    )


def least_pool(demand: Demand) -> int:
    """The smallest pool in which processes that hold cursors while asking for another one cannot block each other."""
    return (CURSORS - 1) * demand.processes + 1


def _shrink(demands: t.Sequence[Demand], pools: dict[str, Pool], available: int) -> dict[str, Pool] | Refusal:
    """Smaller application pools, in proportion, when the server is too small for the wanted ones."""
    fixed = sum(pool.server_connections - pool.default_pool_size for pool in pools.values())
    wanted = sum(pool.default_pool_size for pool in pools.values())
    result = {}
    for demand in demands:
        pool = pools[demand.name]
        size = (available - fixed) * pool.default_pool_size // wanted
        if size < least_pool(demand):
            need = fixed + sum(least_pool(each) for each in demands)
            return Refusal(
                "pool-exceeds-server",
                f"the pools of {len(demands)} host(s) need at least {need} server connections, {available} are"
                " available; raise max_connections, or lower the workers",
            )
        result[demand.name] = dataclasses.replace(pool, default_pool_size=size)
    return result


def _why_not_pools(demands: t.Sequence[Demand], pools: t.Mapping[str, Pool], limit: int, kept: int) -> Refusal | None:
    """The reason why pools that an operator has set cannot work, or None."""
    for demand in demands:
        pool = pools[demand.name]
        if pool.default_pool_size < least_pool(demand):
            return Refusal(
                "pool-too-small",
                f"{demand.name}: default_pool_size {pool.default_pool_size} for {demand.processes} processes; below"
                f" {least_pool(demand)} they can wait for each other for ever",
            )
        if pool.max_client_conn < pool.default_pool_size + pool.session_pool_size:
            return Refusal(
                "pool-too-small",
                f"{demand.name}: max_client_conn {pool.max_client_conn} is below the pools it feeds"
                f" ({pool.default_pool_size} + {pool.session_pool_size})",
            )
    total = sum(pool.server_connections for pool in pools.values())
    if total + kept > limit:
        return Refusal(
            "pool-exceeds-server",
            f"{total} connections of all pools + {kept} reserved = {total + kept}, the server's max_connections is"
            f" {limit}; raise it, or lower the pools or the workers",
        )
    return None


def plan_pools(
    demands: t.Sequence[Demand],
    max_connections: int | None = None,
    reserved: t.Mapping[str, t.Any] | None = None,
    overrides: t.Mapping[str, t.Any] | None = None,
) -> PoolPlan | Refusal:
    """The pools of all hosts, within what the server offers."""
    if not demands:
        return Refusal("bad-input", "no host with Odoo processes was given")
    spared = _parse_overrides({**RESERVED, **dict(reserved or {})}, {*RESERVED, *dict(reserved or {})}, zero=True)
    names = {"default_pool_size", "session_pool_size", "reserve_pool_size", "max_client_conn"}
    given = _parse_overrides(overrides or {}, names, zero=False)
    for parsed in (spared, given):
        if isinstance(parsed, Refusal):
            return parsed
    if isinstance(spared, Refusal) or isinstance(given, Refusal):
        raise AssertionError("unreachable")
    kept = sum(spared.values())
    pools = {demand.name: _pool(demand, given) for demand in demands}
    total = sum(pool.server_connections for pool in pools.values())
    limit = max(100, math.ceil((total + kept) / 10) * 10) if max_connections is None else max_connections
    if total + kept > limit and "default_pool_size" not in given:
        shrunk = _shrink(demands, pools, limit - kept)
        if isinstance(shrunk, Refusal):
            return Refusal(
                shrunk.code, f"{shrunk.message} (max_connections {limit}, reserved {kept}: {_listed(spared)})"
            )
        pools = shrunk
    return _why_not_pools(demands, pools, limit, kept) or PoolPlan(limit, kept, pools)


def _listed(numbers: t.Mapping[str, int]) -> str:
    """The numbers of a mapping in words."""
    return ", ".join(f"{name} {number}" for name, number in numbers.items())
