# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A switchover from the order to its end, through a Patroni that may lie, lose replies, and be left in the middle."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from leader_lab import LOOP, Lab

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import SystemClock
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import PatroniUnreachable, Reply
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.switchover_service import (
    Background,
    lookout_of,
)

ORDER = ("a", "/switchover", {"leader": "a", "candidate": "b"})
AT = "2030-01-31T03:00:00+00:00"


def fails(lab: Lab, **wish: t.Any) -> dict[str, t.Any]:
    with pytest.raises(DedicatedError) as caught:
        lab.switch(**wish)
    assert json.dumps(caught.value.details)
    return {"msg": caught.value.msg, **caught.value.details}


@pytest.mark.parametrize("mode", ["off", "on", "quorum"])
@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("wish", [{"candidate": "b"}, {"away_from": "a"}, {"candidate": "b", "expected_leader": "a"}])
def test_a_move_and_its_repetition(size: int, mode: str, wish: dict[str, t.Any]) -> None:
    lab = Lab(size, mode)
    result = lab.switch(**wish)
    assert (result["changed"], result["leader_before"], result["leader_after"]) == (True, "a", "b")
    assert (result["candidate"], result["as_planned"], result["orders"]) == ("b", True, 1)
    assert 2 <= result["seconds_to_leader"] <= result["seconds_to_healthy"] < 5
    assert all(node.follows == "b" for node in lab.nodes.values() if node.name != "b")
    again = lab.switch(**wish)
    assert (again["changed"], again["leader_after"], again["as_planned"]) == (False, "b", True)
    assert lab.posts() == [ORDER]


def test_a_look_from_before_the_gate_saves_another() -> None:
    lab, ordered = Lab(), []
    lab.slow = dict.fromkeys(lab.nodes, 0.1)
    lab.on_post = lambda: ordered.append(lab.now)
    opened: list[float] = []

    def wait() -> None:
        lab.sleep(2)
        opened.append(lab.now)

    lab.switch(between=wait)
    assert lab.posts() == [ORDER]
    assert ordered == opened


def test_a_look_that_has_grown_old_at_the_gate_orders_nothing() -> None:
    lab = Lab()

    def long() -> None:
        lab.sleep(20)
        lab.leader, lab.nodes["a"].role, lab.nodes["b"].role = "b", "replica", "primary"
        for node in lab.nodes.values():
            node.follows = None if node.name == "b" else "b"
        lab.sync = {"a"}

    result = lab.switch(candidate="b", between=long)
    assert (result["changed"], result["leader_after"]) == (False, "b")
    assert lab.posts() == []


def test_check_mode_plans_and_orders_nothing() -> None:
    lab = Lab()
    predicted = lab.switch(check_mode=True)
    assert lab.posts() == []
    assert lab.now == 0
    real = lab.switch()
    for key in ("changed", "leader_before", "leader_after", "candidate", "as_planned", "plan", "scheduled_at"):
        assert predicted[key] == real[key], key


def test_check_mode_looks_once() -> None:
    lab = Lab()
    lab.nodes["a"].state = "starting"
    with pytest.raises(Refused, match="a move or a restart is going on"):
        lab.switch(check_mode=True)
    assert lab.now == 0


def test_callers_that_hold_back_clients_need_not_wait_for_the_others() -> None:
    lab = Lab()
    result = lab.switch(wait_for="leader")
    assert (lab.leader, result["seconds_to_leader"], result["seconds_to_healthy"]) == ("b", 2.25, None)
    assert lab.now == 2.25, "Patroni replies later"
    assert lab.nodes["a"].state == "stopped"


# Lies


def test_another_one_was_promoted() -> None:
    lab = Lab(3, "quorum")
    lab.elect = "c"
    told = fails(lab, candidate="b")
    assert (told["code"], told["changed"], told["as_planned"]) == ("wrong_leader", True, False)
    assert (told["leader_before"], told["leader_after"], told["candidate"]) == ("a", "c", "b")
    assert told["seconds_to_leader"] == 2.25


@pytest.mark.parametrize("lie", ["early 503", "reply lost"])
def test_a_bad_reply_to_an_order_that_is_carried_out(lie: str) -> None:
    lab = Lab()
    lab.lie = lie
    assert lab.switch(candidate="b")["as_planned"]
    assert lab.posts() == [ORDER]


def test_patroni_that_ends_its_wait_has_not_ended_the_order() -> None:
    lab = Lab()
    lab.lie = "late"
    result = lab.switch(candidate="b")
    assert (result["as_planned"], result["orders"], result["answer"]) == (True, 1, "503 Switchover status unknown")
    assert result["seconds_to_leader"] > 30
    assert lab.posts() == [ORDER]


def test_an_order_that_is_still_open_at_the_end_is_told_as_such() -> None:
    lab = Lab()
    lab.lie = "late"
    lab.after(29, lambda: lab.events.clear())
    told = fails(lab, candidate="b")
    assert (told["code"], told["changed"], told["leader_after"]) == ("not_moved", False, "a")
    assert "may still be carried out" in told["msg"]
    assert lab.posts() == [ORDER]


@pytest.mark.parametrize(("lie", "answer"), [("says done", "200"), ("takes back", "503 Switchover failed")])
def test_an_order_that_is_not_carried_out(lie: str, answer: str) -> None:
    lab = Lab()
    lab.lie = lie
    told = fails(lab, candidate="b")
    assert (told["code"], told["changed"], told["leader_after"], told["orders"]) == ("given_up", False, "a", 1)
    assert told["answer"].startswith(answer)
    assert lab.posts() == [ORDER]


def test_nobody_leads_at_the_end() -> None:
    lab = Lab()
    lab.lie = "nobody"
    told = fails(lab, candidate="b")
    assert (told["code"], told["leader_after"], told["as_planned"]) == ("no_leader", None, False)
    assert lab.posts() == [ORDER]


def test_the_old_leader_does_not_come_back() -> None:
    lab = Lab()
    lab.old_returns = False
    told = fails(lab, candidate="b")
    assert (told["code"], told["changed"], told["leader_after"], told["as_planned"]) == ("not_healthy", True, "b", True)
    assert "a does not stream from b yet" in told["last_seen"]
    assert told["seconds_to_leader"] == 2.25


# Lost orders


def deaf_for(lab: Lab, orders: int) -> None:
    def hear() -> None:
        lab.lie = "deaf" if len(lab.posts()) <= orders else ""

    lab.on_post = hear


def test_an_order_that_was_not_heard_is_given_once_more_when_all_is_as_before() -> None:
    lab = Lab()
    deaf_for(lab, 1)
    result = lab.switch(candidate="b")
    assert (result["as_planned"], result["orders"]) == (True, 2)
    assert lab.posts() == [ORDER, ("b", *ORDER[1:])]
    assert result["seconds_to_leader"] > LOOP, "Patroni had a loop to notice the first one"


def test_a_second_order_without_a_candidate_in_the_wish_names_the_same() -> None:
    lab = Lab(3, "quorum")
    deaf_for(lab, 1)
    lab.after(2, lambda: setattr(lab.nodes["b"], "position", 990))
    lab.switch()
    assert [body["candidate"] for _name, _path, body in lab.posts()] == ["b", "b"]


def test_a_third_order_is_not_given() -> None:
    lab = Lab()
    deaf_for(lab, 9)
    told = fails(lab, candidate="b")
    assert (told["code"], told["orders"], told["changed"]) == ("not_heard", 2, False)


def test_a_cluster_that_is_not_as_before_gets_no_second_order() -> None:
    lab = Lab()
    deaf_for(lab, 1)
    lab.after(1, lambda: lab.kill("c"))
    told = fails(lab, candidate="b")
    assert (told["code"], told["leader_after"]) == ("not_moved", "a")
    assert lab.posts() == [ORDER]


def test_guards_count_for_the_second_order_too() -> None:
    lab = Lab()
    deaf_for(lab, 1)
    lab.after(1, lambda: setattr(lab, "paused", True))
    told = fails(lab, candidate="b")
    assert (told["code"], told["orders"], told["changed"]) == ("paused", 1, False)


# Others


def other_hand(lab: Lab, to: str) -> None:
    def move() -> None:
        lab.on_post = None
        lab.leader = None
        lab.nodes["a"].role = "replica"
        lab.leader = to
        lab.lead(to, lab.nodes["a"])

    lab.on_post = move


def test_somebody_else_moved_it_there() -> None:
    lab = Lab()
    other_hand(lab, "b")
    result = lab.switch(candidate="b")
    assert (result["changed"], result["leader_after"], result["as_planned"]) == (False, "b", True)


@pytest.mark.parametrize("wish", [{"candidate": "b"}, {}])
def test_somebody_else_moved_it_elsewhere(wish: dict[str, t.Any]) -> None:
    lab = Lab(3, "quorum")
    other_hand(lab, "c")
    told = fails(lab, **wish)
    assert (told["code"], told["changed"], told["leader_after"]) == ("other_leader", False, "c")
    assert len(lab.posts()) == 1


@pytest.mark.parametrize(("status", "hint"), [("401", "username and password"), ("403", "allowlist")])
def test_a_refused_order_says_what_to_look_at(status: str, hint: str) -> None:
    lab = Lab()
    lab.lie = status
    told = fails(lab, candidate="b")
    assert (told["code"], told["changed"], hint in told["msg"]) == ("order_refused", False, True)
    assert lab.posts() == [ORDER]


def test_an_order_that_patroni_calls_impossible_is_not_repeated() -> None:
    lab = Lab()
    lab.on_post = lambda: setattr(lab.nodes["b"], "answers", False)
    assert fails(lab, candidate="b")["code"] in ("candidate_silent", "members_missing")
    assert lab.posts() == [ORDER]


# Interrupted runs


class Killed(BaseException):
    pass


@pytest.mark.parametrize("wish", [{"candidate": "b"}, {"away_from": "a"}])
@pytest.mark.parametrize("lie", ["", "reply lost"])
def test_a_run_that_was_killed_at_any_look_and_is_repeated(wish: dict[str, t.Any], lie: str) -> None:
    calls = 1
    while True:
        lab = Lab(3, "quorum")
        lab.lie = lie
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
            lab.switch(**wish)
        except Killed:
            killed = True
        else:
            killed = False
        del lab.get  # the repetition lives
        result = lab.switch(**wish)
        assert (result["leader_after"], result["as_planned"], lab.leader) == ("b", True, "b")
        assert len(lab.posts()) <= 2
        assert {json.dumps(body) for _name, _path, body in lab.posts()} == {json.dumps(ORDER[2])}
        if not killed:
            break
        calls += 1
    assert calls > 20, "every look of a run was one to be killed at"


@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.0, 1.55, 1.8, 2.05, 3.0, 5.0])
def test_a_move_that_is_going_on_is_waited_for(seconds: float) -> None:
    lab = Lab()
    lab.send(lab.transport("https://a:8008"), "/switchover", {"leader": "a", "candidate": "b"})
    lab.sleep(seconds)
    result = lab.switch(away_from="a")
    assert (result["leader_after"], lab.leader) == ("b", "b")
    assert result["changed"] is (seconds == 0.0), "before the leader notices, nothing tells of it"


# Schedules


def test_a_schedule_and_its_repetition() -> None:
    lab = Lab()
    result = lab.switch(candidate="b", scheduled_at=AT)
    assert (result["changed"], result["leader_after"], result["scheduled_at"]) == (True, "a", AT)
    assert result["as_planned"]
    assert lab.posts() == [("a", "/switchover", {"leader": "a", "candidate": "b", "scheduled_at": AT})]
    assert not lab.switch(candidate="b", scheduled_at="2030-01-31T03:00:00Z")["changed"]
    with pytest.raises(Refused, match=r"a switchover from a to b is scheduled at 2030-01-31"):
        lab.switch(candidate="b")
    assert len(lab.posts()) == 1


def test_a_schedule_that_is_not_in_the_store_is_none() -> None:
    lab = Lab()
    lab.lie = "says done"
    told = fails(lab, candidate="b", scheduled_at=AT)
    assert (told["code"], told["changed"], told["leader_after"]) == ("not_scheduled", False, "a")


# Looks


def test_another_member_is_believed_when_the_first_has_an_old_picture() -> None:
    lab = Lab()
    lab.frozen["c"] = json.dumps(lab.cluster()).encode()
    lab.nodes["c"].behind = 30
    assert lab.switch(first="cab", away_from="a", max_age=5)["leader_after"] == "b"


def test_a_dead_address_costs_one_wait_and_not_one_each_look() -> None:
    lab = Lab(5, "quorum")
    lab.kill("e")
    lab.gone.add("e")
    lab.slow["e"] = 2
    assert lab.switch(first="eabcd")["seconds_to_leader"] < 3
    assert sum(name == "e" for _method, name, _path, _body in lab.calls) == 1


def test_a_store_that_is_away_is_waited_for() -> None:
    lab = Lab()
    lab.store_away = True
    lab.after(5, lambda: setattr(lab, "store_away", False))
    assert lab.switch(candidate="b")["as_planned"]
    lab = Lab()
    lab.store_away = True
    assert fails(lab, candidate="b")["code"] == "no_answer"


def test_looks_that_fail_on_the_way_are_no_verdict() -> None:
    lab = Lab()
    lab.after(0.5, lambda: setattr(lab, "store_away", True))
    lab.after(6, lambda: setattr(lab, "store_away", False))
    assert lab.switch(candidate="b")["as_planned"]
    assert lab.posts() == [ORDER]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"members": [{"name": 1}]}'])
def test_an_answer_of_a_wrong_shape_is_no_answer(body: bytes) -> None:
    lab = Lab()
    lab.frozen["a"] = body
    assert lab.switch(first="abc", candidate="b")["as_planned"]


# The real ways


@dataclasses.dataclass
class Way:
    reply: Reply | Exception

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        assert (method, path, data) == ("POST", "/switchover", {"leader": "a"})
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


@pytest.mark.parametrize(
    ("reply", "said"),
    [(Reply(200, b"x"), "200"), (PatroniUnreachable("cut"), "cut"), (RuntimeError("odd"), "RuntimeError: odd")],
)
def test_an_order_in_the_background_always_ends(reply: Reply | Exception, said: str) -> None:
    order = Background(Way(reply), "/switchover", {"leader": "a"})
    order.join(10)
    over = order.outcome()
    assert said in (str(over.status) if isinstance(over, Reply) else str(over))
    assert isinstance(over, (Reply, DedicatedError))


def test_the_options_lead_to_every_address() -> None:
    params = {"url": "http://127.0.0.1:1", "urls": ["http://127.0.0.1:2"], "timeout": 1.0}
    look = lookout_of(params, SystemClock()).look()
    assert [part in " ".join(look.silent) for part in ("127.0.0.1:1", "127.0.0.1:2")] == [True, True]
    with pytest.raises(PatroniUnreachable, match=r"POST http://127\.0\.0\.1:1/switchover"):
        lookout_of(params, SystemClock()).member("http://127.0.0.1:1").request("POST", "/switchover", {})
