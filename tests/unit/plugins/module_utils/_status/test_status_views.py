# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to answers of the three clusters, of modules and of Patroni itself."""

from __future__ import annotations

import typing as t

import pytest
from status_scene import Scene, address

from ansible_collections.dedicated.odoo.plugins.module_utils._status import views

# What a task leaves that brought no answer.
SILENT: list[dict[str, t.Any]] = [
    {"changed": False, "skipped": True, "skip_reason": "Conditional result was False"},
    {"changed": False, "failed": True, "msg": "no answer"},
    {"unreachable": True, "msg": "ssh"},
]


def test_leaders() -> None:
    scene = Scene()
    assert views.leader_of(scene.patroni()) == "n1"
    assert views.leader_of(scene.cluster) == "n1"
    assert views.leader_of(scene.etcd()) == "n1"
    assert views.leader_of(scene.redis()) == f"{address('n1')}:6379"


def test_nobody_leads() -> None:
    scene = Scene(patroni_silent=True, etcd_leader=None)
    for name in scene.names:
        scene.sentinel(name, sees_master=None)
    assert [views.leader_of(one) for one in (scene.patroni(), scene.etcd(), scene.redis(), *SILENT)] == [None] * 6


@pytest.mark.parametrize(("role", "mode"), [("sync_standby", "on"), ("quorum_standby", "quorum")])
def test_synchronous_standbys(role: str, mode: str) -> None:
    scene = Scene(5)
    scene.synchronous = mode
    scene.member("n2")["role"] = scene.member("n4")["role"] = role
    scene.member("n3")["role"] = "replica"
    assert views.sync_standbys(scene.patroni()) == views.sync_standbys(scene.cluster) == ["n2", "n4"]
    assert [views.sync_standbys(one) for one in SILENT] == [[], [], []]


def test_lags() -> None:
    scene = Scene()
    scene.member("n2")["lag"] = 7
    scene.member("n3")["lag"] = "unknown"
    assert views.lags(scene.patroni()) == views.lags(scene.cluster) == {"n2": 7, "n3": None}
    scene.node("n1", offset=1500)
    scene.node("n3", link_state="connecting")
    assert views.lags(scene.redis()) == {f"{address('n2')}:6379": 500, f"{address('n3')}:6379": None}
    assert views.lags(SILENT[0]) == {}


@pytest.mark.parametrize("size", [1, 3, 5])
def test_quorums(size: int) -> None:
    scene = Scene(size)
    needed = size // 2 + 1
    for lost in range(size + 1):
        gone = scene.names[size - lost :]
        scene.etcd_down = set(gone)
        for name in gone:
            scene.sentinel(name, reachable=False, sees_master=None, quorum_ok=None)
        for view in (scene.etcd(), scene.redis()):
            total = None if view.get("quorum") is not None else size  # nobody answered: nobody knows how many there are
            found = views.quorum_of(view, total)
            left = size - lost
            assert found == {
                "total": size,
                "needed": needed,
                "answering": left,
                "spare": max(0, left - needed),
                "ok": left >= needed,
            }


def test_a_sentinel_that_names_another_master_does_not_count() -> None:
    scene = Scene()
    scene.sentinel("n3", sees_master=f"{address('n2')}:6379")
    scene.sentinel("n2", quorum_ok=False)
    assert views.quorum_of(scene.redis())["answering"] == 1


@pytest.mark.parametrize("silent", SILENT)
def test_silence_has_no_quorum(silent: dict[str, t.Any]) -> None:
    assert views.quorum_of(silent) == {"total": 0, "needed": 1, "answering": 0, "spare": 0, "ok": False}
    assert views.quorum_of(silent, 3)["needed"] == 2


def test_health_of_patroni() -> None:
    scene = Scene()
    assert views.why_not_patroni(scene.patroni()) == views.why_not_patroni(scene.cluster, scene.names) == []
    assert views.why_not_patroni(scene.cluster, ["n4"]) == ["n4 is not a member"]
    scene.member("n3")["lag"] = 11
    for answer in (scene.patroni(), scene.cluster):
        assert views.why_not_patroni(answer) == []
        assert views.why_not_patroni(answer, max_lag=10) == ["n3 lags 11 bytes behind, more than 10"]
    scene.cluster["pause"] = True
    for answer in (scene.patroni(), scene.cluster):
        assert views.why_not_patroni(answer) == ["Patroni is paused: it will not fail over"]


def test_a_standby_that_must_be_synchronous() -> None:
    scene = Scene()
    scene.member("n2")["role"] = "replica"
    assert views.why_not_patroni(scene.patroni()) == ["replication is to be synchronous, and no standby is"]
    # Patroni's own answer does not tell what is wanted.
    assert views.why_not_patroni(scene.cluster) == []


def test_silence_is_never_healthy() -> None:
    silent = Scene(patroni_silent=True).patroni()
    assert views.why_not_patroni(silent) == ["GET /cluster: connection refused"]
    assert views.why_not_patroni({"members": []}) == ["no member answers"]
    for one in SILENT:
        assert views.why_not_patroni(one) == ["no answer"]
        assert views.why_not(one, views.ETCD) == views.why_not(one, views.REDIS) == ["no answer"]


def test_health_of_etcd_and_redis() -> None:
    scene = Scene()
    assert views.why_not(scene.etcd(), views.ETCD, scene.names) == []
    assert views.why_not(scene.redis(), views.REDIS, [f"{address('n1')}:6379"]) == []
    assert views.why_not(scene.etcd(), views.ETCD, ["n9"]) == ["n9 is not a member"]
    scene.etcd_alarms["n2"] = "CORRUPT"
    scene.sentinel("n2", tilt=True)
    assert views.why_not(scene.etcd(), views.ETCD) == ["n2 has raised the alarm CORRUPT"]
    assert len(views.why_not(scene.redis(), views.REDIS)) == 1
    assert views.why_not({**scene.etcd(), "reasons": []}, views.ETCD) == ["not healthy"]


@pytest.mark.parametrize("value", [None, "x", [], {}, {"members": 3}, {"leader": "n1"}])
def test_what_is_no_answer_at_all_is_refused(value: t.Any) -> None:
    for question in (views.leader_of, views.sync_standbys, views.lags, views.quorum_of, views.why_not_patroni):
        with pytest.raises(ValueError, match=r"not a mapping|neither the result"):
            question(value)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (views.sync_standbys, Scene().etcd()),
        (views.sync_standbys, Scene().redis()),
        (views.lags, Scene().etcd()),
        (views.quorum_of, Scene().patroni()),
        (views.why_not_patroni, Scene().redis()),
        (lambda value: views.why_not(value, views.ETCD), Scene().redis()),
        (lambda value: views.why_not(value, views.REDIS), Scene().cluster),
    ],
)
def test_a_question_to_the_wrong_cluster_is_refused(question: t.Callable[[t.Any], t.Any], answer: t.Any) -> None:
    with pytest.raises(ValueError, match="this is an answer of"):
        question(answer)


@pytest.mark.parametrize("value", ["n1", None, {"n1": 1}, 3])
def test_names_are_a_list(value: t.Any) -> None:
    with pytest.raises(ValueError, match="no list of names"):
        views.names(value)
