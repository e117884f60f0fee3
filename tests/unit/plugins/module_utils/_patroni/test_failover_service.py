# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dead leader from the first look to the new one, through a Patroni that may lie and be left in the middle."""

from __future__ import annotations

import json
import typing as t

import pytest
from leader_lab import LOOP, TTL, Lab

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import Reply

ORDER = ("b", "/failover", {"candidate": "b"})


def dead(size: int = 3, mode: str = "on", lease: bool = False) -> Lab:
    lab = Lab(size, mode)
    lab.kill("a", lease=lease)
    return lab


def fails(lab: Lab, **wish: t.Any) -> dict[str, t.Any]:
    with pytest.raises(DedicatedError) as caught:
        lab.promote(**wish)
    assert json.dumps(caught.value.details)
    return {"msg": caught.value.msg, **caught.value.details}


@pytest.mark.parametrize("mode", ["on", "quorum"])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("wish", [{"candidate": "b"}, {"dead_leader": "a"}, {"candidate": "b", "dead_leader": "a"}])
def test_a_promotion_and_its_repetition(size: int, mode: str, wish: dict[str, t.Any]) -> None:
    lab = dead(size, mode, lease=True)
    result = lab.promote(**wish)
    assert (result["changed"], result["leader_before"], result["leader_after"]) == (True, "a", "b")
    assert (result["as_planned"], result["orders"], result["loss"]["kind"]) == (True, 1, "nothing")
    assert 0 < result["seconds_to_leader"] <= result["seconds_to_healthy"] < 3
    assert lab.now > TTL + LOOP, "the lease ran out, and Patroni had a loop to elect"
    again = lab.promote(**wish)
    assert (again["changed"], again["leader_after"]) == (False, "b")
    assert lab.posts() == [ORDER]


def test_a_loss_is_stated_refused_and_then_accepted() -> None:
    lab = dead(mode="off")
    told = fails(lab, candidate="b", last_leader_lsn=1300)
    assert (told["code"], told["loss"]["text"]) == ("loss_not_accepted", "b loses up to 300 bytes after 0/3E8")
    assert lab.posts() == []
    result = lab.promote(candidate="b", last_leader_lsn=1300, accept_loss=told["loss"]["text"])
    assert (result["leader_after"], result["loss"]["bytes"]) == ("b", 300)
    assert lab.posts() == [ORDER]


def test_what_was_accepted_for_one_is_not_accepted_for_another() -> None:
    lab = dead(5, "off")
    text = fails(lab, candidate="b")["loss"]["text"]
    assert fails(lab, candidate="c", accept_loss=text)["code"] == "loss_not_accepted"
    lab.nodes["d"].position = 1700
    assert fails(lab, candidate="b", accept_loss=text)["code"] == "loss_not_accepted"
    assert lab.posts() == []


def test_check_mode_tells_the_loss_and_orders_nothing() -> None:
    lab = dead()
    predicted = lab.promote(check_mode=True, candidate="b")
    assert lab.posts() == []
    real = lab.promote(candidate="b")
    for key in ("changed", "leader_after", "candidate", "as_planned", "plan", "loss"):
        assert predicted[key] == real[key], key
    assert fails(dead(mode="off"), check_mode=True)["code"] == "loss_not_accepted"


def test_a_healthy_leader_stays() -> None:
    lab = Lab()
    told = fails(lab, candidate="b", accept_loss="everything")
    assert (told["code"], lab.now, lab.posts()) == ("leader_alive", 0, [])


@pytest.mark.parametrize("seconds", [1.0, 19.0, TTL + 1.0])
@pytest.mark.parametrize("wish", [{}, {"dead_leader": "a"}, {"candidate": "b"}])
def test_patroni_elects_by_itself(seconds: float, wish: dict[str, t.Any]) -> None:
    lab = dead(lease=True)
    lab.sleep(seconds)
    lab.after(TTL + 2 - seconds, lambda: (setattr(lab, "leader", "b"), lab.lead("b", None)))  # type: ignore[func-returns-value]
    result = lab.promote(**wish)
    assert (result["changed"], result["leader_after"], result["as_planned"]) == (False, "b", True)
    assert lab.posts() == []


def test_a_leader_that_comes_back_in_time_stays() -> None:
    lab = dead(lease=True)
    lab.after(10, lambda: (lab.events.clear(), setattr(lab.nodes["a"], "answers", True)))
    assert fails(lab)["code"] == "leader_alive"
    assert lab.posts() == []


def test_a_leader_behind_a_broken_way_keeps_its_lease() -> None:
    lab = Lab()
    lab.nodes["a"].answers = False
    told = fails(lab, candidate="b")
    assert told["code"] == "lease_renewed"
    assert TTL + LOOP < lab.now < TTL + LOOP + 1


def test_looks_that_fail_begin_the_wait_anew() -> None:
    lab = dead()
    lab.after(3, lambda: setattr(lab, "store_away", True))
    lab.after(9, lambda: setattr(lab, "store_away", False))
    lab.promote(candidate="b")
    assert lab.now > 9 + LOOP


def test_a_wait_that_is_too_short_ends_with_what_is_left_of_it() -> None:
    lab = dead()
    told = fails(lab, candidate="b", election_wait=100)
    assert (told["code"], "Wait 40 s" in told["msg"]) == ("electing", True)
    assert lab.posts() == []


# Lies, and lost orders


@pytest.mark.parametrize("lie", ["early 503", "reply lost"])
def test_a_bad_reply_to_an_order_that_is_carried_out(lie: str) -> None:
    lab = dead()
    lab.lie = lie
    assert lab.promote(candidate="b")["as_planned"]
    assert lab.posts() == [ORDER]


@pytest.mark.parametrize("lie", ["says done", "takes back"])
def test_an_order_that_is_not_carried_out(lie: str) -> None:
    lab = dead()
    lab.lie = lie
    told = fails(lab, candidate="b")
    assert (told["code"], told["changed"], told["leader_after"]) == ("given_up", False, None)
    assert lab.posts() == [ORDER]


def test_somebody_else_takes_the_lease() -> None:
    lab = dead()
    lab.lie = "says done"
    lab.on_post = lambda: lab.after(1, lambda: lab.take("c"))
    told = fails(lab, candidate="b")
    assert (told["code"], told["changed"], told["leader_after"], told["as_planned"]) == (
        "wrong_leader",
        True,
        "c",
        False,
    )


def test_an_order_that_was_not_heard_is_given_once_more() -> None:
    lab = dead()
    lab.on_post = lambda: setattr(lab, "lie", "deaf" if len(lab.posts()) == 1 else "")
    result = lab.promote(candidate="b")
    assert (result["as_planned"], result["orders"]) == (True, 2)
    assert lab.posts() == [ORDER, ORDER]


def test_while_the_store_is_away_nothing_counts_as_unchanged() -> None:
    lab = dead()

    def hear() -> None:
        lab.lie = "deaf" if len(lab.posts()) == 1 else ""
        if lab.lie:
            lab.after(0.2, lambda: setattr(lab, "store_away", True))
            lab.after(9, lambda: setattr(lab, "store_away", False))

    lab.on_post = hear
    result = lab.promote(candidate="b")
    assert (result["as_planned"], result["orders"]) == (True, 2)
    assert result["seconds_to_leader"] > 9 + LOOP


def test_a_second_order_does_not_cost_more_than_was_accepted() -> None:
    lab = dead(mode="off")
    text = fails(lab, candidate="b")["loss"]["text"]
    lab.lie = "deaf"
    lab.on_post = lambda: lab.after(1, lambda: setattr(lab.nodes["c"], "position", 5000))
    told = fails(lab, candidate="b", accept_loss=text)
    assert (told["code"], told["orders"]) == ("loss_not_accepted", 1)


def test_the_old_leader_is_not_waited_for() -> None:
    lab = dead()
    lab.gone.clear()
    assert lab.promote(candidate="b")["plan"][1] == "wait until c stream from b"


class Killed(BaseException):
    pass


@pytest.mark.parametrize("wish", [{"candidate": "b"}, {"dead_leader": "a"}])
def test_a_run_that_was_killed_at_any_look_and_is_repeated(wish: dict[str, t.Any]) -> None:
    calls, killed = 1, True
    while killed:
        lab = dead()
        count = 0

        def get(
            name: str, path: str, lab: Lab = lab, at: int = calls, original: t.Callable[..., Reply] = lab.get
        ) -> Reply:
            nonlocal count
            count += 1
            if count == at:
                raise Killed
            return original(name, path)

        lab.get = get  # type: ignore[method-assign]
        try:
            lab.promote(election_wait=1, **wish)
        except Killed:
            pass
        else:
            killed = False
        del lab.get  # the repetition lives
        result = lab.promote(election_wait=1, **wish)
        assert (result["leader_after"], result["as_planned"], lab.leader) == ("b", True, "b")
        assert lab.posts() == [ORDER]
        calls += 1
    assert calls > 20, "every look of a run was one to be killed at"
