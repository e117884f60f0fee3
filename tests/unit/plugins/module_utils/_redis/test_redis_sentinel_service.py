# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for Sentinels, and making them forget, through a simulator with a clock."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from sentinel_lab import NAME, FakePeer, Lab

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.sentinel_service import (
    Cluster,
    ResetService,
    cluster_of,
    node_of,
)

PARAMS: dict[str, t.Any] = {
    "master_name": NAME,
    "sentinels": ["10.0.0.1:26379"],
    "nodes": ["10.0.0.1:6379"],
    "expected_sentinels": None,
    "expected_nodes": None,
}


def test_options() -> None:
    assert cluster_of(PARAMS) == Cluster(NAME, ("10.0.0.1:26379",), ("10.0.0.1:6379",))
    with pytest.raises(Refused, match="nodes cannot be used"):
        cluster_of({**PARAMS, "nodes": ["10.0.0.1"]})


@pytest.mark.parametrize(
    ("text", "code"), [("10.0.0.1", "bad_address"), ("10.0.0.2:6379", "unknown_node"), ("", "bad_address")]
)
def test_a_node_that_is_none(text: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        node_of(cluster_of(PARAMS), text)
    assert caught.value.details["code"] == code


def test_a_node_that_is_one() -> None:
    assert node_of(cluster_of(PARAMS), "10.0.0.1:6379 ") == "10.0.0.1:6379"
    assert node_of(cluster_of(PARAMS), None) is None


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("goal", ["none", "master", "healthy"])
def test_one_look_is_enough_when_all_is_well(size: int, goal: str) -> None:
    lab = Lab(size)
    result = lab.service().wait(goal).as_result()
    assert lab.clock.now == 0
    assert (result["master"], result["healthy"], result["reasons"]) == ("10.0.0.1:6379", True, [])
    assert (result["reachable"], result["quorum"], result["changed"]) == (True, True, False)
    assert [one["lag"] for one in result["nodes"]] == [None] + [0] * (size - 1)
    assert [one["master_link"] for one in result["nodes"]] == [None] + ["up"] * (size - 1)
    assert all(len(one["known_sentinels"]) == size - 1 for one in result["sentinels"])


def test_nothing_is_written_by_looking() -> None:
    lab = Lab(3)
    lab.service().wait("healthy")
    assert {words[:2] for _, words in lab.calls} == {
        ("SENTINEL", "MASTER"),
        ("SENTINEL", "REPLICAS"),
        ("SENTINEL", "SENTINELS"),
        ("SENTINEL", "CKQUORUM"),
        ("INFO", "sentinel"),
        ("INFO", "persistence"),
        ("ROLE",),
        ("CONFIG", "GET"),
    }


def test_nobody_is_there_yet() -> None:
    """What a first host sees: an answer, and no failure."""
    lab = Lab(3)
    for number in (1, 2, 3):
        lab.kill(number)
    result = lab.service().wait("none").as_result()
    assert (result["reachable"], result["master"], result["healthy"], result["quorum"]) == (False, None, False, False)


def test_a_new_host_learns_the_master_from_the_others_by_sentinels_alone() -> None:
    lab = Lab(3)
    lab.kill(3)
    cluster = dataclasses.replace(lab.cluster(), nodes=())
    result = lab.service(cluster=cluster).wait("master").as_result()
    assert (result["master"], result["quorum"], result["nodes"]) == ("10.0.0.1:6379", True, [])


@pytest.mark.parametrize("goal", ["master", "healthy"])
def test_it_waits_until_it_is_so(goal: str) -> None:
    lab = Lab(3)
    for one in lab.sentinels.values():
        one.alive = False
    lab.events += [
        (at, lambda one=one: setattr(one, "alive", True)) for at, one in zip((2, 3, 4), lab.sentinels.values())
    ]
    result = lab.service().wait(goal).as_result()
    assert result["master"] == "10.0.0.1:6379"
    assert lab.clock.now == (2 if goal == "master" else 4)


def test_the_deadline_tells_what_was_seen_last() -> None:
    lab = Lab(3)
    lab.node(2).link = "connect"
    with pytest.raises(DeadlineError, match="has no link to its master: connect"):
        lab.service(timeout=5).wait("healthy")
    assert lab.clock.now == 5
    lab.service(timeout=5).wait("healthy", ["10.0.0.2"])


def test_a_server_that_answers_nonsense_is_as_good_as_silent_and_hides_nobody() -> None:
    lab = Lab(3)
    lab.node(2).role = "chicken"
    lab.sentinel(3).sentinels["10.0.0.1:26379"] = ""
    lab.sentinel(2).master = "10.0.0.1:nowhere"
    result = lab.service().wait("none").as_result()
    assert result["nodes"][1]["reachable"] is False
    assert "cannot be understood" in result["nodes"][1]["error"]
    assert [one["reachable"] for one in result["nodes"]] == [True, False, True]
    assert result["master"] == "10.0.0.1:6379"
    assert not result["healthy"]


@pytest.mark.parametrize("command", ["ROLE", "INFO persistence", "CONFIG GET", "SENTINEL MASTER", "SENTINEL REPLICAS"])
def test_a_command_that_is_not_permitted_is_a_reason(command: str) -> None:
    lab = Lab(3)
    lab.refused[command] = "NOPERM this user has no permissions"
    assert lab.service().wait("none").as_result()["reasons"]


# -- reset -------------------------------------------------------------------------------------------------------------


def retired() -> Lab:
    lab = Lab(3)
    for sentinel in lab.sentinels.values():
        sentinel.sentinels["10.0.0.9:26379"] = "sentinel,s_down"
        sentinel.replicas["10.0.0.9:6379"] = FakePeer("slave,s_down")
    return lab


def test_reset_is_one_at_a_time_and_then_nothing() -> None:
    lab = retired()
    knowing = []

    def count(lab: Lab) -> None:
        knowing.append(sum(len(one.sentinels) >= 2 for one in lab.sentinels.values()))

    lab.on_ask = count
    result = lab.service(ResetService).reset().as_result()
    assert result["changed"]
    assert result["stale"] == ["10.0.0.9:26379", "10.0.0.9:6379"]
    assert lab.said("SENTINEL", "RESET") == list(lab.sentinels)
    assert min(knowing) == 2
    assert lab.service().wait("none").as_result()["healthy"]
    assert not lab.service(ResetService).reset().as_result()["changed"]


def test_reset_in_check_mode_says_the_same_and_does_nothing() -> None:
    lab = retired()
    predicted = lab.service(ResetService).reset(check_mode=True).as_result()
    assert lab.said("SENTINEL", "RESET") == []
    assert predicted == lab.service(ResetService).reset().as_result()


@pytest.mark.parametrize("resets", [1, 2])
def test_reset_interrupted_and_repeated(resets: int) -> None:
    """Killed after any number of resets: the next run waits for nobody it need not, and does the rest."""
    lab = retired()

    def interrupt(lab: Lab) -> None:
        if len(lab.said("SENTINEL", "RESET")) == resets:
            raise KeyboardInterrupt

    lab.on_ask = interrupt
    with pytest.raises(KeyboardInterrupt):
        lab.service(ResetService).reset()
    lab.on_ask = None
    # It has not learned again yet: another reset now would leave two Sentinels without knowledge.
    with pytest.raises(Refused) as caught:
        lab.service(ResetService).reset()
    assert caught.value.details["code"] == "not_settled"
    assert len(lab.said("SENTINEL", "RESET")) == resets
    lab.clock.now += 6
    lab.ask({})
    lab.service(ResetService).reset()
    assert lab.said("SENTINEL", "RESET") == list(lab.sentinels)


def test_reset_stops_where_a_sentinel_does_not_learn() -> None:
    lab = retired()
    lab.on_ask = lambda lab: lab.events.clear()
    with pytest.raises(DeadlineError, match="does not know"):
        lab.service(ResetService, timeout=20).reset()
    assert lab.said("SENTINEL", "RESET") == ["10.0.0.1:26379"]


def test_reset_of_what_comes_back_is_not_repeated_for_ever() -> None:
    lab = retired()

    def haunt(lab: Lab) -> None:
        if len(lab.said("SENTINEL", "RESET")) == 2:
            lab.sentinel(1).sentinels["10.0.0.9:26379"] = "sentinel,s_down"

    lab.on_ask = haunt
    with pytest.raises(DedicatedError, match="has learned stale entries again"):
        lab.service(ResetService).reset()


def test_reset_that_is_not_permitted() -> None:
    lab = retired()
    lab.refused["SENTINEL RESET"] = "NOPERM"
    with pytest.raises(DedicatedError, match="RESET was refused: NOPERM"):
        lab.service(ResetService).reset()
