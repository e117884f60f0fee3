# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of PostgreSQL, Odoo and the pools."""

from __future__ import annotations

import itertools
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._sizing import plan

LAB = plan.Host(24000, 2)
GRID = [
    plan.Host(memory, cpus) for memory, cpus in itertools.product((4000, 8000, 24000, 64000, 512000), (1, 2, 8, 64))
]


def code(result: t.Any) -> str:
    return result.code if isinstance(result, plan.Refusal) else "ok"


@pytest.mark.parametrize("host", GRID, ids=str)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_postgres_fits_its_memory(host: plan.Host, share: float) -> None:
    size = plan.plan_postgres(host, share, max_connections=100)
    assert isinstance(size, plan.PostgresSize)
    read = {
        name: plan.parse_size_kb(name, size.parameters[name]) or 0
        for name in ("shared_buffers", "work_mem", "maintenance_work_mem", "effective_cache_size")
    }
    connections = size.parameters["max_connections"]
    used = read["shared_buffers"] + read["maintenance_work_mem"] + connections * read["work_mem"]
    assert used <= size.memory_mb * 1024
    assert read["shared_buffers"] <= 0.4 * size.memory_mb * 1024
    assert read["shared_buffers"] < read["effective_cache_size"] <= size.memory_mb * 1024


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "ok"),
        ({"share": 0}, "bad-input"),
        ({"share": 1.5}, "bad-input"),
        ({"share": 0.01}, "too-little-memory"),
        ({"memory_mb": 25000}, "memory-exceeded"),
        ({"memory_mb": 400}, "too-little-memory"),
        ({"memory_mb": 1024, "max_connections": 1000}, "memory-exceeded"),
        ({"max_connections": 0}, "bad-input"),
        ({"max_connections": 5}, "bad-input"),
        ({"overrides": {"shared_buffers": "3GB"}}, "memory-exceeded"),
        ({"overrides": {"work_mem": "1GB"}}, "memory-exceeded"),
        ({"overrides": {"work_mem": "a lot"}}, "bad-input"),
        ({"overrides": {"work_mem": True}}, "bad-input"),
        ({"overrides": {"max_connections": "many"}}, "bad-input"),
        ({"overrides": {"max_connections": 50}}, "ok"),
        ({"overrides": {"random_page_cost": 1.1}}, "ok"),
    ],
)
def test_postgres_refusals(arguments: dict[str, t.Any], expected: str) -> None:
    assert code(plan.plan_postgres(LAB, **arguments)) == expected


def test_postgres_refusal_has_the_numbers() -> None:
    refusal = plan.plan_postgres(LAB, memory_mb=1024, overrides={"work_mem": "16MB"})
    assert isinstance(refusal, plan.Refusal)
    assert "200 connections" in refusal.message
    assert "1024 MiB" in refusal.message


def test_postgres_override_of_connections_sizes_work_mem_anew() -> None:
    few = plan.plan_postgres(LAB, overrides={"max_connections": 50})
    many = plan.plan_postgres(LAB)
    assert isinstance(few, plan.PostgresSize)
    assert isinstance(many, plan.PostgresSize)
    assert few.parameters["max_connections"] == 50
    assert plan.parse_size_kb("work_mem", few.parameters["work_mem"]) > plan.parse_size_kb(  # type: ignore[operator]
        "work_mem", many.parameters["work_mem"]
    )


def test_postgres_wal_fits_the_disk() -> None:
    size = plan.plan_postgres(LAB, disk_gb=10)
    assert isinstance(size, plan.PostgresSize)
    assert size.parameters["max_wal_size"] == "1024MB"
    assert size.as_result()["memory_limit"] == "6000m"


@pytest.mark.parametrize(
    ("name", "value", "kilobytes"),
    [
        ("work_mem", "4MB", 4096),
        ("work_mem", 4096, 4096),
        ("shared_buffers", 16384, 131072),
        ("shared_buffers", "0.5GB", 524288),
        ("work_mem", "4mb", None),
    ],
)
def test_parse_size(name: str, value: t.Any, kilobytes: float | None) -> None:
    assert plan.parse_size_kb(name, value) == kilobytes


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"memory_mb": 8000, "vcpus": 4}, plan.Host(8000, 4)),
        ({"memtotal_mb": 8000, "processor_vcpus": 4}, plan.Host(8000, 4)),
        ({"ansible_memtotal_mb": "8000", "ansible_processor_vcpus": 4}, plan.Host(8000, 4)),
    ],
)
def test_parse_host(facts: dict[str, t.Any], expected: plan.Host) -> None:
    assert plan.parse_host(facts) == expected


@pytest.mark.parametrize("facts", [{}, {"memory_mb": 1}, {"memory_mb": "x", "vcpus": 1}, {"memory_mb": 0, "vcpus": 1}])
def test_parse_host_refuses(facts: dict[str, t.Any]) -> None:
    assert code(plan.parse_host(facts)) == "bad-input"


@pytest.mark.parametrize("host", GRID, ids=str)
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_odoo_services_fit_their_memory(host: plan.Host, share: float) -> None:
    size = plan.plan_odoo(host, share)
    if isinstance(size, plan.Refusal):
        assert size.code == "too-little-memory"
        assert host.memory_mb * share < plan.web_need_mb(2) + plan.cron_need_mb(2)
        return
    workers, cron = size.settings["workers"], size.settings["cron_workers"]
    assert size.web_memory_mb + size.cron_memory_mb <= size.memory_mb
    assert size.web_memory_mb >= plan.web_need_mb(workers)
    assert size.cron_memory_mb >= plan.cron_need_mb(cron)
    assert 2 <= workers <= max(2, 2 * host.vcpus + 1 - cron)


@pytest.mark.parametrize(
    ("host", "share", "workers"),
    [(LAB, 0.5, 2), (LAB, 1, 4), (plan.Host(64000, 8), 1, 15), (plan.Host(8000, 8), 0.5, 7)],
)
def test_odoo_workers(host: plan.Host, share: float, workers: int) -> None:
    size = plan.plan_odoo(host, share)
    assert isinstance(size, plan.OdooSize)
    assert size.settings["workers"] == workers
    assert size.as_result()["processes"]["web"] == workers


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "ok"),
        ({"memory_mb": 1500}, "too-little-memory"),
        ({"memory_mb": 30000}, "memory-exceeded"),
        ({"share": -1}, "bad-input"),
        ({"users": 12}, "ok"),
        ({"users": 13}, "too-many-users"),
        ({"overrides": {"workers": 6}}, "ok"),
        ({"overrides": {"workers": 1}}, "bad-input"),
        ({"overrides": {"workers": 0}}, "bad-input"),
        ({"overrides": {"workers": True}}, "bad-input"),
        ({"overrides": {"worker": 4}}, "bad-input"),
        ({"overrides": {"workers": 60}}, "memory-exceeded"),
        ({"overrides": {"limit_memory_hard": 1024}}, "bad-input"),
        ({"overrides": {"limit_memory_soft_gevent": 2**40}}, "bad-input"),
        ({"overrides": {"limit_time_cpu": 600}}, "bad-input"),
    ],
)
def test_odoo_refusals(arguments: dict[str, t.Any], expected: str) -> None:
    assert code(plan.plan_odoo(LAB, **arguments)) == expected


def demand(name: str, web: int, cron: int = 1) -> plan.Demand:
    return plan.Demand(name, web, cron)


@pytest.mark.parametrize("hosts", [1, 2, 3, 7])
@pytest.mark.parametrize("web", [2, 4, 15, 60])
@pytest.mark.parametrize("limit", [None, 100, 200, 500])
def test_pools_never_exceed_the_server(hosts: int, web: int, limit: int | None) -> None:
    result = plan.plan_pools([demand(f"h{number}", web) for number in range(hosts)], limit)
    if isinstance(result, plan.Refusal):
        assert result.code == "pool-exceeds-server"
        assert limit is not None
        return
    result.check_invariants()
    for pool in result.pools.values():
        assert pool.default_pool_size >= plan.least_pool(demand("x", web))
        assert pool.max_client_conn >= pool.default_pool_size + pool.session_pool_size


def test_invariant_is_checked() -> None:
    pool = plan.Pool(50, 50, 1, 200)
    with pytest.raises(AssertionError):
        plan.PoolPlan(100, 10, {"a": pool}).check_invariants()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_connections": 100}, "ok"),
        ({"max_connections": 44}, "ok"),
        ({"max_connections": 40}, "pool-exceeds-server"),
        ({"max_connections": 100, "reserved": {"operator": 70}}, "pool-exceeds-server"),
        ({"max_connections": 100, "reserved": {"operator": "x"}}, "bad-input"),
        ({"max_connections": 100, "overrides": {"default_pool_size": 90}}, "pool-exceeds-server"),
        ({"max_connections": 100, "overrides": {"session_pool_size": 90}}, "pool-exceeds-server"),
        ({"overrides": {"default_pool_size": 3}}, "pool-too-small"),
        ({"overrides": {"max_client_conn": 3}}, "pool-too-small"),
        ({"overrides": {"pool": 3}}, "bad-input"),
        ({"overrides": {"default_pool_size": 60}}, "ok"),
    ],
)
def test_pool_refusals(arguments: dict[str, t.Any], expected: str) -> None:
    assert code(plan.plan_pools([demand("a", 2)], **arguments)) == expected


def test_pool_refusal_has_the_numbers() -> None:
    refusal = plan.plan_pools([demand("a", 2)], max_connections=40)
    assert isinstance(refusal, plan.Refusal)
    for number in ("17 are available", "max_connections 40", "reserved 23"):
        assert number in refusal.message


def test_no_host() -> None:
    assert code(plan.plan_pools([])) == "bad-input"


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"web": 1},
        {"web": "x", "cron": 1},
        {"web": 0, "cron": 0, "gevent": 0},
        {"web": 1, "cron": 1, "db_maxconn": 0},
    ],
)
def test_parse_demand_refuses(value: dict[str, t.Any]) -> None:
    assert code(plan.parse_demand("a", value)) == "bad-input"
