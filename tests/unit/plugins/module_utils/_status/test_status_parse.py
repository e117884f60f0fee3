# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs print, read as it is; and what is cut off or strange, refused with its source."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._status import parse

# Containers


def entry(
    name: str, stack: str = "redis", state: str = "running", status: str = "Up 2 hours (healthy)", **labels: str
) -> t.Any:
    return {
        "Names": [f"/{name}"],
        "State": state,
        "Status": status,
        "Labels": {
            parse.PROJECT_DIRECTORY: f"/opt/dedicated/{stack}",
            parse.SERVICE: name,
            parse.ONE_OFF: "False",
            **labels,
        },
    }


def test_containers() -> None:
    found = parse.containers(
        [
            entry("sentinel", status="Up 3 seconds (health: starting)"),
            entry("redis", status="Up 2 hours (unhealthy)"),
            entry("haproxy", "router", "exited", "Exited (137) 2 minutes ago"),
            entry("init", "odoo", **{parse.ONE_OFF: "True"}),
            {"Names": ["/mine"], "State": "running", "Status": "Up", "Labels": None},
            {"Names": ["/yours"], "Status": "Up", "Labels": {parse.PROJECT_DIRECTORY: "/opt/dedicatedly/x"}},
        ],
        "/opt/dedicated",
    )
    assert [(one["name"], one["stack"], one["state"], one["health"]) for one in found] == [
        ("haproxy", "router", "exited", "none"),
        ("redis", "redis", "running", "unhealthy"),
        ("sentinel", "redis", "running", "starting"),
    ]
    with pytest.raises(ValueError, match="not a list"):
        parse.containers({"message": "no"}, "/opt/dedicated")


# Units

UNITS = """\
chrony.service                     loaded    active   running chrony, an NTP client/server
dedicated-backup-full.service      loaded    failed   failed  full backup of lab
dedicated-backup-full.timer        loaded    active   waiting When the full backup of lab runs
dedicated-gone.service             not-found inactive dead    dedicated-gone.service
systemd-modules-load.service       loaded    failed   failed  Load Kernel Modules
ssh.service                        loaded    active   running OpenBSD Secure Shell server
"""


def test_units() -> None:
    found = parse.units(UNITS + "\nodd\n", lambda name: name.startswith("dedicated-"))
    assert [(one["name"], one["active"], one["sub"]) for one in found] == [
        ("dedicated-backup-full.service", "failed", "failed"),
        ("dedicated-backup-full.timer", "active", "waiting"),
        ("systemd-modules-load.service", "failed", "failed"),
    ]


# Router

STAT = """\
# pxname,svname,qcur,qmax,scur,status,weight,type,check_status,
monitor,FRONTEND,,,0,OPEN,,0,,
postgres_leader,n1,0,0,3,UP,1,2,L7OK,
postgres_leader,n2,0,0,0,DOWN,1,2,L7STS,
postgres_leader,BACKEND,0,0,3,UP,1,1,,
redis_master,n1,0,0,3,UP 1/2,1,2,L7OK,

"""
DATABASES = """\
name,host,port,database,force_user,pool_size,paused,disabled
odoo,/run/dedicated/router,5000,odoo,,12,1,0
pgbouncer,,6432,pgbouncer,pgbouncer,2,0,0
postgres,/run/dedicated/router,5000,postgres,,8,0,1
"""
POOLS = """\
database,user,cl_active,cl_waiting,sv_active,maxwait,maxwait_us,pool_mode
odoo,odoo,3,2,0,7,120,transaction
pgbouncer,pgbouncer,1,0,0,0,0,statement
"""


def test_servers_of_the_router() -> None:
    assert parse.servers(STAT) == [
        {"proxy": "postgres_leader", "name": "n1", "status": "UP", "check": "L7OK"},
        {"proxy": "postgres_leader", "name": "n2", "status": "DOWN", "check": "L7STS"},
        {"proxy": "redis_master", "name": "n1", "status": "UP 1/2", "check": "L7OK"},
    ]


@pytest.mark.parametrize("text", ["", "Unknown command: 'show stat'", "# pxname,svname\na,b\n"])
def test_what_is_no_table_of_servers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="show stat"):
        parse.servers(text)


def test_pools() -> None:
    assert parse.pools(DATABASES + POOLS) == {
        "databases": [
            {"name": "odoo", "paused": True, "disabled": False},
            {"name": "postgres", "paused": False, "disabled": True},
        ],
        "pools": [{"database": "odoo", "user": "odoo", "waiting": 2, "max_wait_seconds": 7}],
    }


@pytest.mark.parametrize(
    "text",
    ["", DATABASES, POOLS, DATABASES.replace("paused", "asleep") + POOLS, DATABASES + POOLS.replace("maxwait,", "x,")],
)
def test_pools_that_lack_something_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SHOW DATABASES and SHOW POOLS"):
        parse.pools(text)


# PostgreSQL and its backups


def test_database() -> None:
    assert parse.database('{"in_recovery" : false, "waiting_wal" : 3}\n')["waiting_wal"] == 3
    for text in ("", "[]", '{"in_recovery": "t"}', "psql: error"):
        with pytest.raises(ValueError, match="psql"):
            parse.database(text)


def info(**changes: t.Any) -> str:
    stanza = {
        "archive": [
            {"database": {"id": 1, "repo-key": 1}, "id": "17-1", "max": "0000000400000000000000A1", "min": "0"}
        ],
        "backup": [
            {
                "archive": {"start": "0", "stop": "0"},
                "backrest": {"format": 5, "version": "2.55.1"},
                "database": {"id": 1, "repo-key": 1},
                "error": False,
                "info": {"delta": 29_000_000, "repository": {"delta": 4_000_000}, "size": 29_000_000},
                "label": "20261122-013012F",
                "timestamp": {"start": 1795311012, "stop": 1795311040},
                "type": "full",
            }
        ],
        "cipher": "aes-256-cbc",
        "name": "lab",
        "repo": [{"cipher": "aes-256-cbc", "key": 1, "status": {"code": 0, "message": "ok"}}],
        "status": {"code": 0, "lock": {"backup": {"held": True}}, "message": "ok"},
        **changes,
    }
    return json.dumps([stanza])


def test_backups() -> None:
    assert parse.backups(info(), "lab") == {
        "code": 0,
        "message": "ok",
        "running": True,
        "backups": [
            {
                "label": "20261122-013012F",
                "type": "full",
                "start": 1795311012,
                "stop": 1795311040,
                "damaged": False,
                "bytes": 29_000_000,
            }
        ],
    }


def test_a_missing_stanza_is_seen_although_the_command_ends_well() -> None:
    missing = json.dumps(
        [{"backup": [], "db": [], "name": "lab", "status": {"code": 1, "message": "missing stanza path"}}]
    )
    assert parse.backups(missing, "lab")["code"] == 1
    assert parse.backups("[]", "lab") == {"code": 1, "message": "missing stanza path", "running": False, "backups": []}
    assert parse.backups(info(), "other")["code"] == 1


@pytest.mark.parametrize(
    "text", ["", "{}", info(status={}), info(backup=[{}]), info(backup=[{"label": "x", "type": "full"}])]
)
def test_answers_of_pgbackrest_that_lack_something_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pgbackrest info"):
        parse.backups(text, "lab")


def test_one_of_several_repositories() -> None:
    archive = [{"database": {"id": 1, "repo-key": 2}, "id": "17-1", "max": "0" * 23 + "9", "min": "0" * 23 + "1"}]
    repo = [{"cipher": "aes-256-cbc", "key": 2, "status": {"code": 2, "message": "no valid backups"}}]
    found = parse.repository(info(archive=archive, repo=repo), "lab", 2)
    assert (found["code"], found["message"], found["newest_wal"]) == (2, "no valid backups", "0" * 23 + "9")
    assert parse.repository("[]", "lab", 2)["code"] == 1


def test_several_repositories_together() -> None:
    one, away = parse.repository(info(), "lab", 1), {"error": "did not end within 20 s"}
    found = parse.together({1: away, 2: one})
    assert (found["code"], found["running"]) == (0, True)
    assert [(each["repository"], each["type"]) for each in found["backups"]] == [(2, "full")]
    assert [(each["number"], each["reached"], each["message"]) for each in found["repositories"]] == [
        (1, False, "did not end within 20 s"),
        (2, True, "ok"),
    ]
    with pytest.raises(ValueError, match=r"repository 1: did not end .*; repository 2: other"):
        parse.together({1: away, 2: {**one, "code": 99, "message": "other"}})


# Failure detector

METRICS = """\
# HELP dedicated_detector_up 1 while the loop runs.
# TYPE dedicated_detector_up gauge
dedicated_detector_up 1
dedicated_detector_suspects{leader="n1"} 1
dedicated_detector_silence_seconds 2.5
dedicated_detector_removals_total 2
dedicated_detector_etcd_errors_total 4
dedicated_detector_refusals_total{code="paused"} 3
dedicated_detector_decision{code="wait"} 0
dedicated_detector_decision{code="remove"} 1
"""


def test_detector() -> None:
    assert parse.detector(METRICS) == {
        "up": True,
        "suspects": True,
        "removals": 2,
        "etcd_errors": 4,
        "decision": "remove",
    }
    assert parse.detector("dedicated_detector_up 0\n")["up"] is False
    with pytest.raises(ValueError, match="dedicated_detector_up is missing"):
        parse.detector("<html>")
