# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement: every fault alone and in pairs, hosts and answers that are missing, and what the screen shows."""

from __future__ import annotations

import copy
import itertools
import json
import typing as t

import pytest
from status_scene import DAY, HOUR, NOW, Scene, address, backup, certificate, served

from ansible_collections.dedicated.odoo.plugins.module_utils._redis import sentinel_plan
from ansible_collections.dedicated.odoo.plugins.module_utils._status import look, plan, report

Fault = t.Callable[[Scene], None]


def _set(value: t.Any, *path: t.Any) -> Fault:
    """A fault that replaces one thing of what a host told."""

    def spoil(scene: Scene) -> None:
        place: t.Any = scene.status
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return spoil


def _no_leader(scene: Scene) -> None:
    for one in scene.cluster["members"]:
        one["role"], one["state"] = "replica", "running"


def _no_sync(scene: Scene) -> None:
    for one in scene.cluster["members"]:
        if one["role"] != "leader":
            one["role"] = "replica"


def _no_redis_master(scene: Scene) -> None:
    for name, sees in (("n1", "n1"), ("n2", "n2"), ("n3", "n3")):
        scene.sentinel(name, sees_master=f"{address(sees)}:6379")


def _quorumless_sentinels(scene: Scene) -> None:
    for name in ("n2", "n3"):
        scene.sentinel(name, quorum_ok=False, quorum_says="NOQUORUM")


def _redis_lag(scene: Scene) -> None:
    scene.node("n1", offset=3 * 1024**2)
    scene.node("n2", offset=0)


def _unheld_and_blind(scene: Scene) -> None:
    scene.status["n1"]["addresses"].pop()
    scene.unreachable.add("n2")


def _other_unit(scene: Scene) -> None:
    scene.status["n3"]["units"].append(
        {"name": "systemd-modules-load.service", "load": "loaded", "active": "failed", "sub": "failed"}
    )


def _without(scene: Scene, name: str, unit: str) -> None:
    scene.status[name]["units"] = [one for one in scene.status[name]["units"] if one["name"] != unit]


def _drop_container(scene: Scene) -> None:
    containers = scene.status["n2"]["engine"]["containers"]
    containers[:] = [one for one in containers if one["name"] != "traefik"]


def _sees_leader(scene: Scene, name: str, leader: str) -> None:
    view = scene.patroni()
    view["leader"] = leader
    for one in view["members"]:
        one["role"] = "leader" if one["name"] == leader else "replica"
    scene.replaced[(name, "postgres")] = view


def _everywhere(change: t.Callable[[Scene, str], t.Any]) -> Fault:
    def spoil(scene: Scene) -> None:
        for name in scene.names:
            change(scene, name)

    return spoil


def _all_backups(*kept: t.Any, **told: t.Any) -> Fault:
    def spoil(scene: Scene) -> None:
        for name in scene.names:
            scene.status[name]["backups"].update(backups=list(kept), **told)

    return spoil


def _second(**changes: t.Any) -> Fault:
    """A second repository on every host, which differs from a good one."""
    wal = "0000000400000001000000AA"

    def spoil(scene: Scene) -> None:
        for name in scene.names:
            told = scene.status[name]["backups"]
            kept = [{**one, "repository": key} for one in told["backups"] for key in (1, 2)]
            old = changes.get("old", 0)
            told["backups"] = [
                {**one, "stop": one["stop"] - old} if old and one["repository"] == 2 else one for one in kept
            ]
            one = {"code": 0, "message": "ok", "reached": True, "newest_wal": wal}
            more = {key: value for key, value in changes.items() if key != "old"}
            told["repositories"] = [{"number": 1, **one}, {"number": 2, **one, **more}]

    return spoil


def _probe(name: str, probe: str) -> Fault:
    return _set({"ok": False, "status": 503, "reason": "no database"}, name, "probes", probe)


# Code, host and severity of what a fault is found as; what spoils a healthy scene of three hosts.
FAULTS: list[tuple[str, str, str, Fault]] = [
    ("host-unreachable", "n3", "critical", lambda scene: scene.host_down("n3")),
    ("host-unreachable", "n3", "critical", lambda scene: scene.unreachable.add("n3")),
    ("host-not-asked", "n3", "note", lambda scene: scene.left_out.add("n3")),
    ("host-not-told", "n2", "warning", lambda scene: scene.replaced.update({("n2", "status"): {"msg": "no python"}})),
    ("other-cluster", "n1", "critical", _set("other", "n1", "cluster")),
    ("docker-silent", "n2", "warning", _set({"state": "inactive", "error": "no answer"}, "n2", "engine")),
    ("container-missing", "n2", "warning", _drop_container),
    ("container-down", "n2", "warning", lambda scene: scene.container("n2", "redis", state="exited", health="none")),
    ("container-down", "n3", "warning", lambda scene: scene.container("n3", "postgres", state="paused")),
    ("container-unhealthy", "n3", "warning", lambda scene: scene.container("n3", "odoo-web", health="unhealthy")),
    ("container-starting", "n3", "note", lambda scene: scene.container("n3", "haproxy", health="starting")),
    ("odoo-not-well", "n1", "warning", _probe("n1", "odoo")),
    ("websocket-not-well", "n2", "warning", _probe("n2", "websocket")),
    ("haproxy-not-well", "n2", "warning", _probe("n2", "haproxy")),
    ("traefik-not-well", "n2", "warning", _probe("n2", "traefik")),
    ("odoo-down", "", "critical", _everywhere(lambda scene, name: _probe(name, "odoo")(scene))),
    ("edge-down", "", "critical", _everywhere(lambda scene, name: _probe(name, "traefik")(scene))),
    ("units-unknown", "n2", "warning", _set({"error": "no systemd"}, "n2", "units")),
    ("unit-failed", "n1", "warning", _set("failed", "n1", "units", 1, "active")),
    ("other-unit-failed", "n3", "note", _other_unit),
    ("unit-not-active", "n2", "warning", lambda scene: _without(scene, "n2", "dedicated-backup-full.timer")),
    ("unit-not-active", "n2", "warning", lambda scene: _without(scene, "n2", "keepalived.service")),
    ("unit-not-active", "n3", "warning", lambda scene: _without(scene, "n3", "dedicated-firewall.service")),
    ("certificate-due", "n1", "warning", _set(certificate("etcd-client", 29 * DAY), "n1", "certificates", 2)),
    ("certificate-due", "n2", "critical", _set(certificate("etcd-client", 6 * DAY), "n2", "certificates", 2)),
    ("certificate-ended", "n2", "critical", _set(certificate("etcd-client", -HOUR), "n2", "certificates", 2)),
    ("certificate-due", "n3", "warning", _set(certificate("ca", 170 * DAY, 3650 * DAY), "n3", "certificates", 4)),
    ("certificate-due", "n1", "critical", _set(served("etcd", 2380, 6 * DAY), "n1", "served", 1)),
    ("certificate-not-served", "n1", "warning", _set(served("router", 8443, serial="old"), "n1", "served", 6)),
    ("certificate-not-trusted", "n1", "warning", _set(served("router", 8443, verified=False), "n1", "served", 6)),
    (
        "certificate-unreadable",
        "n3",
        "warning",
        _set({"name": "x", "path": "/x", "error": "?"}, "n3", "certificates", 0),
    ),
    ("disk-full", "n1", "warning", _set(5_000, "n1", "disks", 1, "free_mb")),
    ("disk-full", "n2", "critical", _set(3_000, "n2", "disks", 1, "free_mb")),
    ("postgres-silent", "n1", "critical", lambda scene: setattr(scene, "patroni_silent", True)),
    ("postgres-unseen", "n3", "warning", lambda scene: scene.replaced.update({("n3", "postgres"): {"msg": "bad CA"}})),
    ("postgres-views-differ", "", "warning", lambda scene: _sees_leader(scene, "n3", "n2")),
    ("postgres-no-leader", "", "critical", _no_leader),
    ("postgres-leader-not-running", "n1", "critical", lambda scene: scene.member("n1").update(state="starting")),
    ("postgres-member-missing", "n3", "warning", lambda scene: scene.cluster["members"].pop()),
    ("postgres-not-streaming", "n3", "warning", lambda scene: scene.member("n3").update(state="in archive recovery")),
    ("postgres-timeline", "n3", "warning", lambda scene: scene.member("n3").update(timeline=3)),
    ("postgres-lag", "n3", "warning", lambda scene: scene.member("n3").update(lag=1024**2 + 1)),
    ("postgres-lag", "n2", "warning", lambda scene: scene.member("n2").update(lag="unknown")),
    ("postgres-paused", "n1", "warning", lambda scene: scene.cluster.update(pause=True)),
    ("postgres-pending-restart", "n2", "warning", lambda scene: scene.member("n2").update(pending_restart=True)),
    ("postgres-no-sync-standby", "n1", "critical", _no_sync),
    ("postgres-asynchronous", "", "note", lambda scene: setattr(scene, "synchronous", False)),
    (
        "postgres-switchover-scheduled",
        "n1",
        "note",
        lambda scene: scene.cluster.update(scheduled_switchover={"at": "2027-01-16T01:00:00+00:00", "from": "n1"}),
    ),
    ("database-unknown", "n2", "warning", _set({"error": "psql: refused"}, "n2", "database")),
    ("archive-failing", "n1", "critical", _set(True, "n1", "database", "archive_failing")),
    ("archive-behind", "n1", "warning", _set(17, "n1", "database", "waiting_wal")),
    ("connections-near-limit", "n1", "warning", _set(181, "n1", "database", "connections")),
    ("slot-lost", "n1", "warning", _set(["n3"], "n1", "database", "lost_slots")),
    ("detector-down", "n2", "warning", _set({"error": "detector: HTTP 503"}, "n2", "detector")),
    ("detector-suspects", "n2", "warning", _set(True, "n2", "detector", "suspects")),
    ("backups-unknown", "n2", "warning", _set({"error": "did not end within 20 s"}, "n2", "backups")),
    (
        "backups-not-known",
        "",
        "critical",
        _everywhere(lambda scene, name: scene.status[name].update(backups={"error": "the store is away"})),
    ),
    ("backup-none", "", "critical", _all_backups(code=1, message="missing stanza path")),
    ("backup-none", "", "critical", _all_backups(code=2, message="no valid backups")),
    ("backup-status", "", "critical", _all_backups(code=99, message="other")),
    ("backup-repository-2-unreachable", "", "warning", _second(reached=False, code=None, message="it is away")),
    ("backup-repository-2-none", "", "warning", _second(code=2, message="no valid backups")),
    ("backup-repository-2-old", "", "warning", _second(old=30 * HOUR)),
    ("backup-repository-2-lags", "", "warning", _second(newest_wal="000000040000000100000080")),
    ("backup-repository-2-lags", "", "warning", _second(newest_wal="0000000300000001000000FF")),
    ("backup-old", "", "warning", _all_backups(backup("full", 40), backup("diff", 27))),
    ("backup-old", "", "warning", _all_backups()),
    ("backup-full-old", "", "warning", _all_backups(backup("full", 9 * 24), backup("diff", 3))),
    ("backup-damaged", "", "critical", _all_backups(backup("full", 40), backup("diff", 3, damaged=True))),
    ("etcd-silent", "n1", "critical", lambda scene: scene.etcd_down.update(scene.names)),
    ("etcd-unseen", "n2", "warning", lambda scene: scene.replaced.update({("n2", "etcd"): {"msg": "bad_login"}})),
    ("etcd-no-quorum", "", "critical", lambda scene: scene.etcd_down.update({"n2", "n3"})),
    ("etcd-no-leader", "", "critical", lambda scene: setattr(scene, "etcd_leader", None)),
    ("etcd-member-silent", "n3", "warning", lambda scene: scene.etcd_down.add("n3")),
    ("etcd-member-missing", "n3", "warning", lambda scene: scene.etcd_gone.add("n3")),
    ("etcd-member-not-started", "n3", "warning", lambda scene: scene.etcd_fresh.add("n3")),
    ("etcd-learner", "n3", "warning", lambda scene: scene.etcd_learners.add("n3")),
    ("etcd-alarm", "n2", "critical", lambda scene: scene.etcd_alarms.update(n2="NOSPACE")),
    ("etcd-quota", "", "warning", lambda scene: setattr(scene, "etcd_size", 1_800_000_000)),
    (
        "redis-silent",
        "n1",
        "critical",
        _everywhere(lambda scene, name: scene.sentinel(name, reachable=False, sees_master=None)),
    ),
    ("redis-unseen", "n1", "warning", lambda scene: scene.replaced.update({("n1", "redis"): {"msg": "no key"}})),
    ("redis-no-master", "", "critical", _no_redis_master),
    ("sentinels-disagree", "", "warning", lambda scene: scene.sentinel("n3", sees_master=f"{address('n2')}:6379")),
    ("sentinel-no-quorum", "", "critical", _quorumless_sentinels),
    ("sentinel-silent", "n2", "warning", lambda scene: scene.sentinel("n2", reachable=False, sees_master=None)),
    ("sentinel-tilt", "n2", "warning", lambda scene: scene.sentinel("n2", tilt=True)),
    ("redis-two-masters", "", "critical", lambda scene: scene.node("n3", role="master", follows=None)),
    ("redis-node-silent", "n2", "warning", lambda scene: scene.node("n2", reachable=False, error="refused")),
    ("redis-node-silent", "n1", "critical", lambda scene: scene.node("n1", reachable=False, error="refused")),
    ("redis-link-down", "n2", "warning", lambda scene: scene.node("n2", link_state="connecting")),
    (
        "redis-lag",
        "n2",
        "warning",
        _redis_lag,
    ),
    ("redis-refuses-writes", "n1", "critical", lambda scene: scene.node("n1", replicas=())),
    ("redis-not-saved", "n3", "warning", lambda scene: scene.node("n3", rdb_ok=False)),
    ("redis-not-healthy", "", "warning", lambda scene: scene.node("n2", loading=True)),
    ("router-unknown", "n2", "warning", _set({"error": "no socket"}, "n2", "router")),
    ("pools-unknown", "n2", "warning", _set({"error": "no container"}, "n2", "pools")),
    ("route-to-two", "n3", "critical", lambda scene: scene.route("n3", "postgres_leader", "n1", "n2")),
    ("route-to-nobody", "n3", "warning", lambda scene: scene.route("n3", "redis_master")),
    ("route-differs", "n3", "warning", lambda scene: scene.route("n3", "postgres_leader", "n2")),
    ("pool-paused", "n2", "critical", _set(True, "n2", "pools", "databases", 0, "paused")),
    ("pool-paused", "n2", "critical", _set(True, "n2", "pools", "databases", 1, "disabled")),
    (
        "pool-waits",
        "n2",
        "warning",
        _set({"database": "odoo", "waiting": 3, "max_wait_seconds": 6}, "n2", "pools", "pools", 0),
    ),
    ("vip-two-holders", "n1, n2", "critical", lambda scene: scene.status["n2"]["addresses"].append("10.20.0.10")),
    ("vip-nobody", "", "critical", lambda scene: scene.status["n1"]["addresses"].pop()),
    (
        "vip-not-seen",
        "",
        "warning",
        _unheld_and_blind,
    ),
]
STRIDE = 7
IDS = [f"{number}-{code}" for number, (code, *__) in enumerate(FAULTS)]
# What these hide, because nobody is left to tell it, or because a graver word stands in its place.
HIDING = {"host-unreachable", "host-not-asked", "host-not-told", "docker-silent", "vip-not-seen"}


def told(scene: Scene, **options: t.Any) -> dict[str, t.Any]:
    found = report.report(scene.look(), **options)
    assert json.loads(json.dumps(found)) == found
    screen = "\n".join(found["lines"])
    for one in found["findings"]:
        assert set(one) == {"severity", "code", "host", "what", "why", "do", "cause"}
        assert all(one[key] for key in ("severity", "code", "what", "why", "do")), one
        assert one["code"] in screen, f"{one['code']} is not on the screen"
    codes = {one["code"] for one in found["findings"] if not one["cause"]}
    assert all(one["cause"] in codes for one in found["findings"] if one["cause"])
    assert found["ok"] == all(one["severity"] == "note" for one in found["findings"])
    assert found["counts"] == {
        severity: sum(one["severity"] == severity for one in found["findings"]) for severity in look.SEVERITIES
    }
    assert all(len(line) <= report.WIDTH for line in found["lines"] if not line.lstrip().startswith("do  "))
    return found


@pytest.mark.parametrize("size", [1, 3, 5])
def test_well(size: int) -> None:
    found = told(Scene(size))
    assert found["findings"] == []
    assert found["ok"]
    assert "ALL WELL" in found["lines"][0]
    assert found["message"] == "ALL WELL"


@pytest.mark.parametrize(("code", "host", "severity", "fault"), FAULTS, ids=IDS)
def test_each_fault_alone(code: str, host: str, severity: str, fault: Fault) -> None:
    scene = Scene()
    fault(scene)
    found = told(scene)
    named = [(one["code"], one["host"], one["severity"]) for one in found["findings"]]
    assert (code, host, severity) in named
    assert found["ok"] == (severity == "note")
    if severity != "note":
        assert any(one["code"] == code for one in found["findings"])
        assert severity.upper() in found["lines"][0]


# Every fault meets each seventh of the others: all pairs take a minute.
PAIRS = [
    (left, right) for (x, left), (y, right) in itertools.combinations(enumerate(FAULTS), 2) if (x + y) % STRIDE == 0
]


def test_pairs_of_faults_are_both_found() -> None:
    met = set()
    for left, right in PAIRS:
        scene = Scene()
        try:
            left[3](scene)
            right[3](scene)
        except (KeyError, TypeError, IndexError, StopIteration):
            continue  # the first took away what the second spoils
        met |= {left[0], right[0]}
        codes = {one["code"] for one in told(scene)["findings"]}
        for code, other in ((left[0], right[0]), (right[0], left[0])):
            alike = code.partition("-")[0] == other.partition("-")[0]
            found = code in codes or other in HIDING or alike or _explained(code, other)
            assert found, (left[0], right[0], sorted(codes))
    assert met == {code for code, *__ in FAULTS}


def _explained(code: str, other: str) -> bool:
    """Whether the other fault changes what this one is about."""
    kinds = [
        {"postgres-silent", "postgres-no-leader", "postgres-views-differ", "route-differs", "route-to-nobody"},
        {"redis-silent", "redis-no-master", "sentinel", "route-to-nobody", "redis", "sentinels"},
        {"backup", "backups"},
        {"archive", "database", "connections", "slot"},
        {"pool", "pools"},
        {"route", "router"},
        {"certificate", "disk", "unit", "units", "other"},
        {"vip"},
    ]
    return any({code, code.partition("-")[0]} & kind and {other, other.partition("-")[0]} & kind for kind in kinds)


# What is missing


@pytest.mark.parametrize("junk", [None, "", [], {}, "junk", 7, [None], {"error": "it broke"}])
def test_no_missing_or_strange_part_is_an_error(junk: t.Any) -> None:
    whole = Scene().look()
    whole["hosts"]["n1"] = copy.deepcopy(whole["hosts"]["n1"])
    paths = list(_paths(whole["hosts"]["n1"], ("hosts", "n1")))
    paths += [(one,) for one in ("cluster", "vip", "stanza", "members", "cron")]
    paths += [("members", one) for one in whole["members"]]
    for path in paths:
        place: t.Any = whole
        for step in path[:-1]:
            place = place[step]
        good, place[path[-1]] = place[path[-1]], junk
        assert report.report(whole)["lines"], path
        place[path[-1]] = good
    assert report.report(whole)["findings"] == []


def _paths(value: t.Any, at: tuple[t.Any, ...]) -> t.Iterator[tuple[t.Any, ...]]:
    keys: t.Iterable[t.Any] = value if isinstance(value, dict) else range(min(len(value), 1))
    for key in keys:
        yield (*at, key)
        if isinstance(value[key], (dict, list)):
            yield from _paths(value[key], (*at, key))


def test_a_part_that_was_taken_away_is_named() -> None:
    for part in ("units", "disks", "database", "backups", "router", "pools"):
        scene = Scene()
        scene.status["n2"][part] = {"error": "it broke"}
        codes = [one["code"] for one in told(scene)["findings"]]
        assert codes == [f"{part}-unknown"]


def test_nobody_answers() -> None:
    scene = Scene()
    for name in scene.names:
        scene.unreachable.add(name)
    found = told(scene)
    roots = [(one["code"], one["host"]) for one in found["findings"] if not one["cause"]]
    assert roots == [("host-unreachable", name) for name in scene.names]
    assert found["time"] is None
    assert "0 of 3 hosts answer" in found["lines"][0]
    assert not found["ok"]


def test_a_lost_host_takes_its_members_along_and_is_the_one_cause() -> None:
    scene = Scene()
    scene.host_down("n3")
    found = told(scene)
    assert [one["code"] for one in found["findings"] if not one["cause"]] == ["host-unreachable"]
    assert {one["code"] for one in found["findings"] if one["cause"] == "host-unreachable"} == {
        "postgres-member-missing",
        "etcd-member-silent",
        "sentinel-silent",
        "redis-node-silent",
    }
    assert "members 2 of 3 (2 needed, none may go)" in "\n".join(found["lines"])
    assert found["clusters"]["etcd"]["quorum"]["answering"] == 2


def test_a_limited_run_is_no_fault_of_the_platform() -> None:
    scene = Scene()
    scene.left_out.update({"n2", "n3"})
    found = told(scene)
    assert {one["code"] for one in found["findings"]} == {"host-not-asked"}
    assert found["ok"]
    scene.left_out.add("n1")
    assert told(scene)["ok"]


def test_two_of_three_hosts_lost() -> None:
    scene = Scene()
    scene.host_down("n2")
    scene.host_down("n3")
    by_code = {one["code"]: one for one in told(scene)["findings"]}
    assert by_code["etcd-no-quorum"]["severity"] == "critical"
    assert "1 of 3 answer, 2 are needed" in by_code["etcd-no-quorum"]["what"]
    assert by_code["postgres-no-sync-standby"]["cause"] == "host-unreachable"


# Single host


@pytest.mark.parametrize("container", ["postgres", "redis", "odoo-web", "traefik", "etcd"])
def test_alone_every_container_counts(container: str) -> None:
    scene = Scene(1)
    scene.container("n1", container, state="exited", health="none")
    (one,) = [one for one in told(scene)["findings"] if one["code"] == "container-down"]
    assert (one["severity"], one["host"]) == ("critical", "n1")
    assert f"docker logs --tail 50 {container}" in one["do"]


def test_alone_nothing_of_several_is_asked_for() -> None:
    found = told(Scene(1))
    assert found["clusters"]["edge"]["address"] is None
    assert not any("detector" in line for line in found["lines"])
    assert found["clusters"]["postgres"]["sync_standbys"] == []


def test_alone_and_unreachable() -> None:
    scene = Scene(1)
    scene.unreachable.add("n1")
    first = told(scene)["findings"][0]
    assert first["why"] == "no other host of etcd, postgres, redis, odoo, edge answers"


# Causes, limits, severity


def test_a_silent_part_of_a_stopped_container_names_it() -> None:
    scene = Scene()
    scene.container("n2", "odoo-web", state="exited", health="none")
    _probe("n2", "odoo")(scene)
    _probe("n2", "websocket")(scene)
    causes = {one["code"]: one["cause"] for one in told(scene)["findings"]}
    assert causes == {"container-down": "", "odoo-not-well": "container-down", "websocket-not-well": "container-down"}


def test_a_cause_is_followed_to_its_root() -> None:
    chain = [
        plan.Finding("warning", code, "", "what", "why", "do", cause)
        for code, cause in (("c", "b"), ("b", "a"), ("a", ""), ("x", "nowhere"))
    ]
    assert [(one.code, one.cause) for one in plan.rooted(chain)] == [("c", "a"), ("b", "a"), ("a", ""), ("x", "")]


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_lag_bytes": 10}, "postgres-lag"),
        ({"backup_seconds": HOUR}, "backup-old"),
        ({"full_backup_seconds": "3600"}, "backup-full-old"),
        ({"certificate_fraction": 0.7}, "certificate-due"),
        ({"disk_warning": 0.31}, "disk-full"),
        ({"etcd_quota": 0.001}, "etcd-quota"),
        ({"connections": 0.1}, "connections-near-limit"),
    ],
)
def test_limits_can_be_given(limits: dict[str, t.Any], code: str) -> None:
    scene = Scene()
    scene.member("n3").update(lag=11)
    scene.limits = limits
    assert {one["code"] for one in told(scene)["findings"]} == {code}


@pytest.mark.parametrize(
    ("limits", "words"), [({"lag": 1}, "lag is none of"), ({"max_lag_bytes": "much"}, "is no number")]
)
def test_limits_that_are_none_are_refused(limits: dict[str, t.Any], words: str) -> None:
    scene = Scene()
    scene.limits = limits
    with pytest.raises(ValueError, match=words):
        report.report(scene.look())


def test_what_makes_the_status_bad() -> None:
    scene = Scene()
    scene.container("n3", "haproxy", health="starting")
    assert report.report(scene.look())["ok"]
    scene.cluster["pause"] = True
    assert not report.report(scene.look())["ok"]
    assert report.report(scene.look(), "critical")["ok"]
    _no_leader(scene)
    assert not report.report(scene.look(), "critical")["ok"]
    with pytest.raises(ValueError, match="neither critical nor warning"):
        report.report(scene.look(), "note")


@pytest.mark.parametrize("data", [None, [], {}, {"hosts": []}])
def test_what_is_no_look_is_refused(data: t.Any) -> None:
    with pytest.raises(ValueError, match="a look is a mapping"):
        report.report(data)


# The best view


def test_in_a_partition_the_majority_s_view_counts() -> None:
    scene = Scene()
    alone = Scene()
    for name in ("n2", "n3"):
        alone.sentinels[name] = sentinel_plan.Sentinel(f"{address(name)}:26379", error="timed out")
    scene.replaced[("n1", "redis")] = alone.redis()
    found = told(scene)
    assert found["clusters"]["redis"]["quorum"]["answering"] == 3


def test_the_last_backup_is_counted_by_the_clock_of_the_host_that_told_it() -> None:
    scene = Scene()
    for name in scene.names:
        scene.status[name]["now"] = NOW + 20 * HOUR
    found = told(scene)
    assert found["clusters"]["backups"]["last"]["age_seconds"] == 28 * HOUR
    assert [one["code"] for one in found["findings"]] == ["backup-old"]
    assert "100800 s" in found["findings"][0]["what"]


# The screen


def test_the_screen_of_a_switchover_that_left_traces() -> None:
    scene = Scene()
    scene.status["n2"]["pools"]["databases"][0]["paused"] = True
    scene.member("n3").update(lag=5 * 1024**2)
    lines = told(scene)["lines"]
    assert lines[0] == "example  2027-01-15 08:00:00 UTC  3 of 3 hosts answer  1 CRITICAL, 1 WARNING"
    assert "PostgreSQL   leader n1  timeline 4  synchronous" in lines
    assert "             n3              replica         streaming   lag 5.0 MiB     detector on" in lines
    assert any(line.startswith(" 1 CRITICAL  pool-paused n2: PgBouncer has the database odoo paused") for line in lines)
    assert any(
        line.strip().startswith("do  unless a switchover runs now, on n2: docker exec pgbouncer") for line in lines
    )


def test_a_member_that_is_missing_is_on_the_screen() -> None:
    scene = Scene()
    scene.cluster["members"].pop()
    assert "             n3              MISSING" in told(scene)["lines"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "unknown"), (5, "5 s"), (600, "10 min"), (7200, "2 h"), (5 * DAY, "5 d")]
)
def test_ages(seconds: float | None, words: str) -> None:
    assert look.age(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(None, "unknown"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 1024**4, "5120.0 GiB")],
)
def test_sizes(count: float | None, words: str) -> None:
    assert look.size(count) == words


@pytest.mark.parametrize(
    ("part", "days", "severity", "code"),
    [
        ("rehearsal", 36, "warning", "restore-rehearsal-old"),
        ("rehearsal", None, "note", "restore-never-rehearsed"),
        ("verification", 9, "warning", "backup-verification-old"),
        ("verification", None, "note", "backup-verification-never"),
    ],
)
def test_what_was_not_proven_for_long(part: str, days: int | None, severity: str, code: str) -> None:
    scene = Scene()
    for status in scene.status.values():
        status[part] = {} if days is None else {"at": status["now"] - days * DAY}
        status[f"{part}_begun"] = {}
    found = told(scene)["findings"]
    assert [(one["severity"], one["code"]) for one in found] == [(severity, code)]
    # One host that knows of a newer one is enough.
    scene.status["n2"][part] = {"at": scene.status["n2"]["now"] - DAY}
    assert told(scene)["findings"] == []


@pytest.mark.parametrize(
    ("part", "code", "never"),
    [
        ("rehearsal", "restore-rehearsal-failed", "restore-never-rehearsed"),
        ("verification", "backup-verification-failed", "backup-verification-never"),
    ],
)
def test_a_proof_that_began_and_did_not_pass(part: str, code: str, never: str) -> None:
    scene = Scene()
    # One host that knows of it is enough: the others may have been away.
    scene.status["n3"][f"{part}_begun"] = {"at": NOW - 7200}
    report = told(scene)
    assert [(one["severity"], one["code"]) for one in report["findings"]] == [("note", code)]
    assert "or is going on" in report["findings"][0]["what"]
    assert any("NOT PASSED since" in line for line in report["lines"])
    scene.status["n3"][f"{part}_begun"] = {"at": NOW - 7201}
    found = told(scene)["findings"]
    assert [(one["severity"], one["code"]) for one in found] == [("warning", code)]
    assert "going on" not in found[0]["what"]
    for status in scene.status.values():
        status[part] = {}
    found = told(scene)["findings"]
    assert [(one["severity"], one["code"], one["cause"]) for one in found] == [
        ("warning", code, ""),
        ("note", never, code),
    ]
    scene.status["n2"][part] = {"at": NOW - 7000}
    assert told(scene)["findings"] == []


def test_what_was_proven_is_told_to_programs_and_people() -> None:
    report = told(Scene())
    seen = report["clusters"]["backups"]
    assert (seen["rehearsal"]["passed"]["rto_seconds"], seen["rehearsal"]["unproven_since"]) == (61.5, 0)
    assert seen["verification"]["passed"]["backups_usable"] == 3
    assert "             verified 24 h ago  restore rehearsed 5 d ago" in report["lines"]


def test_a_maintenance_page_that_somebody_forgot() -> None:
    scene = Scene()
    for name in ("n1", "n2"):
        scene.status[name]["maintenance"] = {"reason": "year end", "since": "2026-01-01T00:00:00Z"}
    (found,) = told(scene)["findings"]
    assert (found["severity"], found["code"], found["host"]) == ("warning", "maintenance-page-shown", "n1, n2")
    assert "year end" in found["what"]


def test_a_site_that_an_operation_has_closed() -> None:
    scene = Scene()
    scene.status["n3"]["closed"] = {"operation": "restore", "place": "before", "reason": "import"}
    found = told(scene)["findings"]
    assert [(one["severity"], one["code"]) for one in found] == [("critical", "site-closed")]
    assert "reopen" in found[0]["do"]


# Several repositories


def test_two_repositories_that_are_well() -> None:
    scene = Scene()
    _second()(scene)
    report = told(scene)
    assert report["findings"] == []
    assert [(one["number"], one["count"]) for one in report["clusters"]["backups"]["repositories"]] == [(1, 3), (2, 3)]
    assert [line.split()[:2] for line in report["lines"] if "repository" in line] == [
        ["repository", "1:"],
        ["repository", "2:"],
    ]


def test_archiving_that_fails_for_one_of_two_is_explained_by_it() -> None:
    scene = Scene()
    _second(reached=False, code=None, message="it is away")(scene)
    scene.status["n1"]["database"]["archive_failing"] = True
    causes = {one["code"]: one["cause"] for one in told(scene)["findings"]}
    assert causes == {"archive-failing": "backup-repository-2-unreachable", "backup-repository-2-unreachable": ""}


def test_what_the_leader_reaches_counts() -> None:
    """A standby that reaches a repository does not help: the leader archives."""
    scene = Scene()
    _second()(scene)
    scene.status["n1"]["backups"] = copy.deepcopy(scene.status["n1"]["backups"])
    scene.status["n1"]["backups"]["repositories"][0].update(reached=False, message="no route")
    assert [one["code"] for one in told(scene)["findings"]] == ["backup-repository-1-unreachable"]


def test_timers_are_those_of_the_policy() -> None:
    look = {**Scene().look(), "backups": ["full", "incr"]}
    (finding, *_others) = [one for one in report.report(look)["findings"] if one["code"] == "unit-not-active"]
    assert "dedicated-backup-incr.timer is missing" in finding["what"]
