# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned move from the order to its end, through a simulator that may lie, lose replies and die in between."""

from __future__ import annotations

import typing as t

import pytest
from sentinel_lab import Lab

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.sentinel_service import FailoverService

M1, M2, M3 = (f"10.0.0.{number}:6379" for number in (1, 2, 3))
WRITES = ("FAILOVER", "PAUSE", "UNPAUSE", "MULTI", "SLAVEOF", "EXEC", "REWRITE", "KILL")


def move(lab: Lab, away_from: str | None = M1, timeout: float = 60, **more: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", lab.service(FailoverService, timeout).move(away_from, **more).as_result())


def written(lab: Lab) -> list[tuple[str, tuple[str, ...]]]:
    return [(address, words) for address, words in lab.calls if set(words[:2]) & set(WRITES)]


@pytest.mark.parametrize("size", [3, 5])
def test_a_move_and_its_repetition(size: int) -> None:
    lab = Lab(size)
    result = move(lab)
    new = result["master_after"]
    assert (result["changed"], result["master_before"], result["old_master"]) == (True, M1, "replica")
    assert new in result["candidates"]
    assert 1 <= result["seconds_to_switch"] <= result["seconds"] < 3
    assert (lab.nodes[new].role, lab.node(1).follows) == ("master", new)
    lab.calls.clear()
    assert move(lab)["changed"] is False
    assert written(lab) == []


def test_everything_that_is_written_in_its_order() -> None:
    lab = Lab(3)
    move(lab)
    assert written(lab) == [
        (M1, ("CLIENT", "PAUSE", "2400", "WRITE")),
        ("10.0.0.2:26379", ("SENTINEL", "FAILOVER", "sessions")),
        (M1, ("MULTI",)),
        (M1, ("SLAVEOF", "10.0.0.3", "6379")),
        (M1, ("CONFIG", "REWRITE")),
        (M1, ("CLIENT", "KILL", "TYPE", "normal")),
        (M1, ("CLIENT", "KILL", "TYPE", "pubsub")),
        (M1, ("CLIENT", "UNPAUSE")),
        (M1, ("EXEC",)),
    ]


def test_without_a_pause_and_without_our_demotion_the_sentinels_do_it() -> None:
    lab = Lab(3, demotable=False)
    result = move(lab, pause_writes=False)
    assert lab.said("CLIENT", "PAUSE") == []
    assert lab.said("SLAVEOF") == [M1]
    assert result["old_master"] == "replica"
    assert 10 <= result["seconds"] < 12


def test_check_mode_predicts_and_writes_nothing() -> None:
    lab = Lab(3)
    predicted = move(lab, check_mode=True)
    assert written(lab) == []
    assert (predicted["changed"], predicted["master_before"], predicted["master_after"]) == (True, M1, None)
    real = move(lab)
    assert (real["plan"], real["candidates"]) == (predicted["plan"], predicted["candidates"])
    assert move(lab, check_mode=True)["changed"] is False


def test_check_mode_does_not_wait_for_a_failover() -> None:
    lab = Lab(3)
    lab.sentinel(2).flags = "master,failover_in_progress"
    with pytest.raises(Refused):
        move(lab, check_mode=True)
    assert lab.clock.now == 0


def test_an_old_master_that_dies_on_the_way_is_reported() -> None:
    lab = Lab(3, old_dies=True)
    result = move(lab)
    assert result["old_master"] == "unreachable"
    assert "does not answer since" in result["msg"]
    assert lab.said("SLAVEOF") == []


def test_an_old_master_that_is_silent_for_a_moment_is_not_reported_as_gone() -> None:
    lab = Lab(3)

    def blink(lab: Lab) -> None:
        lab.node(1).alive = not 1.5 < lab.clock.now < 2.2

    lab.on_ask = blink
    assert move(lab)["old_master"] == "replica"


@pytest.mark.parametrize("failover", ["works", "deaf"])
def test_law_4_a_lost_reply_is_not_an_answer_and_the_order_is_not_repeated(failover: str) -> None:
    lab = Lab(3, failover=failover, reply_lost=True)
    if failover == "works":
        assert move(lab)["changed"]
    else:
        with pytest.raises(DedicatedError) as caught:
            move(lab)
        assert caught.value.details["code"] == "given_up"
    assert len(lab.said("SENTINEL", "FAILOVER")) == 1


@pytest.mark.parametrize(("failover", "seconds"), [("deaf", 2), ("aborts", 22)])
def test_a_move_that_is_given_up_is_no_success(failover: str, seconds: float) -> None:
    """Sentinel said OK to both."""
    lab = Lab(3, failover=failover)
    with pytest.raises(DedicatedError) as caught:
        move(lab)
    assert caught.value.details == {"code": "given_up", "master": M1}
    assert lab.clock.now <= seconds
    assert lab.said("CLIENT", "UNPAUSE") == [M1]
    assert lab.node(1).role == "master"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("INPROG Failover already in progress", "in_progress"),
        ("NOGOODSLAVE No suitable replica to promote", "no_good_replica"),
        ("NOPERM User admin has no permissions", "order_refused"),
    ],
)
def test_a_refused_order_resumes_writes(said: str, code: str) -> None:
    lab = Lab(3, failover=said)
    with pytest.raises(Refused) as caught:
        move(lab)
    assert caught.value.details["code"] == code
    assert said in caught.value.msg
    assert lab.node(1).paused_until < lab.clock.now


def test_writes_that_cannot_be_paused_stop_everything() -> None:
    lab = Lab(3)
    lab.refused["CLIENT PAUSE"] = "NOPERM"
    with pytest.raises(DedicatedError) as caught:
        move(lab)
    assert caught.value.details["code"] == "not_paused"
    assert lab.said("SENTINEL", "FAILOVER") == []
    assert move(lab, pause_writes=False)["changed"]


def test_a_master_that_dies_before_the_pause() -> None:
    lab = Lab(3)
    asked = []

    def die(lab: Lab) -> None:
        asked.append(1)
        lab.node(1).alive = len(asked) < 2

    lab.on_ask = die
    with pytest.raises(DedicatedError) as caught:
        move(lab)
    assert caught.value.details["code"] == "not_paused"
    assert lab.said("SENTINEL", "FAILOVER") == []


def test_replicas_that_do_not_catch_up_resume_writes_in_time() -> None:
    lab = Lab(3)
    lab.node(2).behind = lab.node(3).behind = 500
    with pytest.raises(DedicatedError) as caught:
        move(lab)
    assert caught.value.details["code"] == "not_caught_up"
    assert "500 bytes" in caught.value.msg
    assert lab.clock.now < 1
    assert lab.said("SENTINEL", "FAILOVER") == []
    assert lab.said("CLIENT", "UNPAUSE") == [M1]


@pytest.mark.parametrize("new", [M2, None])
def test_the_master_changed_between_look_and_order(new: str | None) -> None:
    lab = Lab(3)

    def change(lab: Lab) -> None:
        if lab.said("CLIENT", "PAUSE") and lab.said("ROLE").count(M1) > 1:
            lab.sentinel(2).master = new

    lab.on_ask = change
    with pytest.raises(Refused) as caught:
        move(lab)
    assert caught.value.details["code"] == "master_changed"
    assert lab.said("SENTINEL", "FAILOVER") == []
    assert lab.said("CLIENT", "UNPAUSE") == [M1]


def test_the_sentinel_died_between_look_and_order() -> None:
    lab = Lab(3)

    def die(lab: Lab) -> None:
        if lab.said("CLIENT", "PAUSE") and lab.said("ROLE").count(M1) > 1:
            lab.sentinel(2).alive = False

    lab.on_ask = die
    with pytest.raises(DedicatedError) as caught:
        move(lab)
    assert caught.value.details["code"] == "unreachable"
    assert lab.said("CLIENT", "UNPAUSE") == [M1]


def test_every_interruption_and_a_repetition() -> None:
    """Killed before any exchange with the servers: the repetition ends with the master elsewhere, ordered once."""
    clean = Lab(3)
    total = [0]
    clean.on_ask = lambda _lab: total.__setitem__(0, total[0] + 1)
    move(clean)
    assert total[0] > 5
    for at in range(1, total[0] + 1):
        lab, count = Lab(3), [0]

        def interrupt(_lab: Lab, count: list[int] = count, at: int = at) -> None:
            count[0] += 1
            if count[0] == at:
                raise KeyboardInterrupt

        lab.on_ask = interrupt
        with pytest.raises(KeyboardInterrupt):
            move(lab)
        lab.on_ask = None
        ordered = len(lab.said("SENTINEL", "FAILOVER"))
        result = move(lab)
        assert result["master_after"] in (M2, M3), at
        assert len(lab.said("SENTINEL", "FAILOVER")) == 1, at
        assert result["changed"] == (ordered == 0), at
        assert lab.node(1).paused_until < lab.clock.now + 2.4


def test_a_failover_that_is_going_on_is_waited_for_when_a_node_is_named() -> None:
    lab = Lab(3)
    lab.ask({"10.0.0.3:26379": [("SENTINEL", "FAILOVER", "sessions")]})
    lab.demotable = False
    with pytest.raises(Refused):
        move(lab, None, force=True)
    assert lab.clock.now == 0
    lab.events.append((2, lambda: lab._follow(M3, [M1])))
    lab.events.sort(key=lambda event: event[0])
    result = move(lab)
    assert (result["changed"], result["master_after"]) == (False, M3)
    assert lab.said("SENTINEL", "FAILOVER") == ["10.0.0.3:26379"]


def test_a_failover_that_does_not_end_is_refused_with_its_name() -> None:
    lab = Lab(3)
    lab.sentinel(2).flags = "master,failover_in_progress"
    with pytest.raises(Refused) as caught:
        move(lab, timeout=5)
    assert caught.value.details["code"] == "in_progress"
    assert lab.clock.now == 5


def test_a_sentinel_with_an_old_memory_is_waited_for() -> None:
    lab = Lab(3)
    lab.sentinel(3).replicas[M2].role = "master"
    lab.events.append((8, lambda: setattr(lab.sentinel(3).replicas[M2], "role", "slave")))
    assert move(lab)["changed"]
    assert lab.clock.now > 8


def test_there_and_back_is_too_soon_unless_forced() -> None:
    lab = Lab(3)
    new = move(lab)["master_after"]
    for sentinel in lab.sentinels.values():
        for peer in sentinel.replicas.values():
            peer.role, peer.follows, peer.link = "slave", new, "ok"
    with pytest.raises(Refused) as caught:
        move(lab, new)
    assert caught.value.details["code"] == "too_soon"
    back = move(lab, new, force=True)
    assert (back["changed"], back["master_before"]) == (True, new)


def test_the_deadline_tells_what_was_seen_last() -> None:
    lab = Lab(3, demotable=False)
    with pytest.raises(DeadlineError, match=r"10.0.0.1:6379 says master beside 10.0.0.3:6379"):
        move(lab, timeout=5)
