# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences of Patroni's configuration, its timing rules, and the judgement on a cluster."""

from __future__ import annotations

import copy
import random
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni import plan


@pytest.mark.parametrize(
    ("current", "wanted", "expected"),
    [
        ({}, {}, {}),
        ({"ttl": 30}, {"ttl": 30}, {}),
        ({"ttl": 30}, {"ttl": "30"}, {}),
        ({"ttl": 30, "x": 1}, {"ttl": 20}, {"ttl": 20}),
        ({"x": 1}, {"x": None}, {"x": None}),
        ({}, {"x": None}, {}),
        ({"x": None}, {"x": None}, {}),
        ({}, {"p": {"a": None}}, {"p": {}}),
        ({}, {"p": {"a": 1, "b": None}}, {"p": {"a": 1}}),
        ({"p": {"a": 1, "c": 1}}, {"p": {"a": 1, "b": None}}, {}),
        ({"p": {"a": 1, "c": 1}}, {"p": {"a": 2, "c": None}}, {"p": {"a": 2, "c": None}}),
        ({"p": 1}, {"p": {"a": 1}}, {"p": {"a": 1}}),
        ({"p": {"a": 1}}, {"p": 1}, {"p": 1}),
        ({"l": ["a", "b"]}, {"l": ["a", "b"]}, {}),
        ({"l": ["a", "b"]}, {"l": ["b", "a"]}, {"l": ["b", "a"]}),
        ({"s": "on"}, {"s": True}, {}),
        ({"s": "off"}, {"s": True}, {"s": True}),
        ({"s": "quorum"}, {"s": True}, {"s": True}),
        ({"m": "1GB"}, {"m": "1024MB"}, {}),
        ({"m": "1GB"}, {"m": "1000MB"}, {"m": "1000MB"}),
        ({"t": "60s"}, {"t": "1min"}, {}),
        ({"t": 60}, {"t": "60s"}, {"t": "60s"}),
        ({"c": 0.9}, {"c": "0.90"}, {}),
    ],
)
def test_patch(current: dict[str, t.Any], wanted: dict[str, t.Any], expected: dict[str, t.Any]) -> None:
    before = copy.deepcopy(current)
    assert plan.difference(current, wanted) == expected
    assert current == before


def test_a_patch_makes_the_wanted_true_and_touches_nothing_else() -> None:
    rng = random.Random(3)

    def grow(depth: int, nulls: bool) -> t.Any:
        if depth and rng.random() < 0.5:
            return {key: grow(depth - 1, nulls) for key in rng.sample("abcd", rng.randrange(4))}
        return rng.choice([1, "2", True, "off", "64MB", [1], *([None] if nulls else [])])

    for _ in range(2000):
        current = {key: grow(3, False) for key in "abcz"}
        wanted = {key: grow(3, True) for key in rng.sample("abcd", rng.randrange(5))}
        after = plan.merged(current, plan.difference(current, wanted))
        assert plan.difference(after, wanted) == {}
        assert {key: after[key] for key in current if key not in wanted} == {
            key: current[key] for key in current if key not in wanted
        }


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"ttl": 10}, "clamped_timing"),
        ({"ttl": 20, "loop_wait": 0}, "clamped_timing"),
        ({"ttl": 20, "loop_wait": 5, "retry_timeout": 2}, "clamped_timing"),
        ({"ttl": 20, "loop_wait": 10, "retry_timeout": 10}, "unsafe_timing"),
        ({"ttl": 20}, "unsafe_timing"),
        ({"ttl": "soon"}, "bad_timing"),
        ({"ttl": 20.5}, "bad_timing"),
    ],
)
def test_bad_timings_are_refused(config: dict[str, t.Any], code: str) -> None:
    refusal = plan.plan_patch({}, config)
    assert isinstance(refusal, Refuse)
    assert refusal.code == code


def test_timings_are_judged_together_with_what_is_stored() -> None:
    assert isinstance(plan.plan_patch({"loop_wait": 5, "retry_timeout": 5}, {"ttl": 20}), dict)
    assert isinstance(plan.plan_patch({"loop_wait": 10, "retry_timeout": 5}, {"retry_timeout": 6, "ttl": 20}), Refuse)
    # A deleted timing is Patroni's default again.
    assert isinstance(plan.plan_patch({"ttl": 20, "loop_wait": 5, "retry_timeout": 5}, {"loop_wait": None}), dict)
    assert isinstance(plan.plan_patch({"ttl": 20, "loop_wait": 5, "retry_timeout": 5}, {"retry_timeout": None}), Refuse)


def test_timings_that_are_not_asked_about_do_not_stand_in_the_way() -> None:
    assert plan.plan_patch({"ttl": 10}, {"failsafe_mode": True}) == {"failsafe_mode": True}


def member(name: str, role: str = "replica", state: str = "streaming", **changes: t.Any) -> dict[str, t.Any]:
    return {
        "name": name,
        "role": role,
        "state": state,
        "timeline": 3,
        "lag": 0,
        "host": "192.0.2.1",
        "port": 5432,
        **changes,
    }


LEADER = member("a", "leader", "running", lag=None)


def view(*members: dict[str, t.Any], config: dict[str, t.Any] | None = None, **changes: t.Any) -> plan.View:
    return plan.parse_cluster({"members": list(members), "scope": "lab", **changes}, config)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (view(LEADER), None),
        (view(LEADER, member("b")), None),
        (view(LEADER, member("b", "sync_standby"), config={"synchronous_mode": True}), None),
        (view(LEADER, member("b", "quorum_standby"), config={"synchronous_mode": "quorum"}), None),
        (view(LEADER, member("b"), config={"synchronous_mode": "on"}), "no standby is"),
        (view(LEADER, config={"synchronous_mode": "on"}), None),
        (view(LEADER, member("b", tags={"nosync": True}), config={"synchronous_mode": "on"}), None),
        (view(member("a", "standby_leader", "running")), None),
        (view(), "there is no leader"),
        (view(member("a")), "there is no leader"),
        (view(LEADER, pause=True), "paused"),
        (view(member("a", "leader", "starting")), "the leader a is starting"),
        (view(LEADER, member("b", state="running")), "b is running instead of streaming"),
        (view(LEADER, member("b", state="in archive recovery")), "in archive recovery"),
        (view(LEADER, member("b", "uninitialized")), "the role uninitialized"),
        (view(LEADER, member("b", timeline=2)), "timeline 2"),
        (view(LEADER, member("b", lag="unknown")), "lag of b is not known"),
        (view(LEADER, member("b", lag=2 * 1024**2)), "lags 2097152 bytes"),
    ],
)
def test_health(seen: plan.View, reason: str | None) -> None:
    reasons = plan.why_not_healthy(seen)
    if reason is None:
        assert reasons == []
    else:
        assert any(reason in one for one in reasons), reasons


def test_an_expected_member_that_is_missing_is_a_reason() -> None:
    assert plan.why_not_healthy(view(LEADER), ["a", "b"]) == ["b is not a member"]


@pytest.mark.parametrize(
    ("config", "mode"),
    [(None, None), ({}, "off"), ({"synchronous_mode": False}, "off"), ({"synchronous_mode": True}, "on"),
     ({"synchronous_mode": "on"}, "on"), ({"synchronous_mode": "quorum"}, "quorum")],
)  # fmt: skip
def test_synchronous_mode(config: dict[str, t.Any] | None, mode: str | None) -> None:
    assert plan.synchronous_mode(config) == mode


@pytest.mark.parametrize(
    ("data", "where"),
    [([], "no list of members"), ({}, "no list of members"), ({"members": [{}]}, "members/0/name"),
     ({"members": [LEADER, {"name": "b", "role": "replica"}]}, "members/1/state")],
)  # fmt: skip
def test_a_parse_error_names_its_place(data: t.Any, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        plan.parse_cluster(data, None)


def test_members_come_sorted_and_4_1_lags_are_read() -> None:
    seen = view(member("c"), {**member("b"), "lag": 5, "replay_lag": 7}, LEADER)
    assert [one.name for one in seen.members] == ["a", "b", "c"]
    assert seen.members[1].lag == 5
    assert seen.leader is seen.members[0]
