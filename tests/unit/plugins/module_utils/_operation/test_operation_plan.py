# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may have a host: every state, and what is said to whoever may not."""

from __future__ import annotations

import dataclasses
import itertools
import json
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._operation import plan

NOW = 1_800_000_000
MINE = plan.Run("ctl1", "a" * 16, "boot-1", plan.MACHINE_NAMESPACE, 100, 5000)
OTHER = dataclasses.replace(MINE, pid=200, start=6000)
PATH = "/x/operation.json"


def wish(**changes: t.Any) -> plan.Wish:
    return dataclasses.replace(plan.Wish(MINE, "acme", "patch", "ann", "kernel"), **changes)


def lock(**changes: t.Any) -> plan.Lock:
    given = plan.Lock(OTHER, "site", "bob", "disk is full", "acme", NOW - 750, NOW + 6450)
    return dataclasses.replace(given, **changes)


def code(decision: plan.Decision) -> str:
    if isinstance(decision, Refuse):
        return decision.code
    return decision.why if isinstance(decision, plan.TakeOver) else type(decision).__name__


OWNERS = {"mine": MINE, "other": OTHER}
NAMED: dict[str, tuple[str, ...]] = {"none": (), "right": ("f" * 16, "{found}"), "wrong": ("f" * 16,)}


@pytest.mark.parametrize(
    ("owner", "cluster", "expired", "alive", "named"),
    list(itertools.product(OWNERS, ("acme", "beta"), (False, True), (None, True, False), NAMED)),
)
def test_every_state_of_a_lock(owner: str, cluster: str, expired: bool, alive: bool | None, named: str) -> None:
    found = lock(run=OWNERS[owner], cluster=cluster, expires=NOW if expired else NOW + 1)
    names = tuple(name.format(found=found.run.id) for name in NAMED[named])
    decision = plan.decide(found, wish(break_lock=names), NOW, alive)
    if cluster == "beta" and named != "right":
        expected = "other_cluster"
    elif owner == "mine":
        expected = "Renew"
    elif cluster == "acme" and expired:
        expected = "expired"
    elif cluster == "acme" and alive is False:
        expected = "dead"
    else:
        expected = {"right": "broken", "wrong": "break_lock_mismatch", "none": "operation_running"}[named]
    assert code(decision) == expected
    if not isinstance(decision, Refuse):
        assert (decision.lock.run, decision.lock.cluster) == (MINE, "acme")
    if isinstance(decision, plan.TakeOver):
        assert (decision.before, decision.lock.since) == (found, NOW)


@pytest.mark.parametrize("alive", [None, True, False])
@pytest.mark.parametrize("named", [(), ("f" * 16,)])
def test_a_free_host_is_taken_and_what_is_no_lock_never_is(alive: bool | None, named: tuple[str, ...]) -> None:
    me = wish(break_lock=named)
    taken = plan.decide(plan.Free(), me, NOW, alive)
    assert taken == plan.Take(plan.Lock(MINE, "patch", "ann", "kernel", "acme", NOW, NOW + plan.TTL))
    refused = plan.decide(plan.Bad(PATH, "is no lock"), me, NOW, alive)
    assert isinstance(refused, Refuse)
    assert refused.code == "bad_lock"
    assert refused.do.endswith(f"rm -r {PATH}")


@pytest.mark.parametrize(
    ("expires", "ttl", "expected"),
    [(NOW + 10, 100, NOW + 100), (NOW + 500, 100, NOW + 500), (NOW - 5, 100, NOW + 100)],
)
def test_renewing_never_shortens_and_keeps_the_begin(expires: int, ttl: int, expected: int) -> None:
    renewed = plan.decide(lock(run=MINE, expires=expires), wish(ttl=ttl), NOW, None)
    assert renewed == plan.Renew(plan.Lock(MINE, "patch", "ann", "kernel", "acme", NOW - 750, expected))


def test_renewing_keeps_what_is_not_said_again() -> None:
    renewed = plan.decide(lock(run=MINE), wish(reason="", operation=""), NOW, None)
    assert isinstance(renewed, plan.Renew)
    assert (renewed.lock.operation, renewed.lock.reason) == ("site", "disk is full")


def test_a_clock_that_was_set_back_does_not_end_a_lock() -> None:
    refused = plan.decide(lock(since=NOW + 300, expires=NOW + 400), wish(), NOW, None)
    assert isinstance(refused, Refuse)
    assert ", 0 s ago" in refused.message


@pytest.mark.parametrize(
    ("changes", "named", "parts"),
    [
        ({}, (), ["Wait", "ends in 107 min", "-e operation_break_lock={id}"]),
        ({}, ("f" * 16,), ["f" * 16 + " was named, and {id} is here", "operation_break_lock=" + "f" * 16 + ",{id}"]),
        ({"cluster": "beta"}, (), ["cluster beta", "for acme", "inventory", "-e operation_break_lock={id}"]),
        ({"cluster": "beta", "expires": NOW - 1}, (), ["has expired", "-e operation_break_lock={id}"]),
    ],
)
def test_a_refusal_says_who_since_when_why_and_what_next(
    changes: dict[str, t.Any], named: tuple[str, ...], parts: list[str]
) -> None:
    refused = plan.decide(lock(**changes), wish(break_lock=named), NOW, None)
    assert isinstance(refused, Refuse)
    who = ["site by bob on ctl1", "reason: disk is full", f"since {plan.iso(NOW - 750)}, 12 min ago"]
    for part in (*who, *parts):
        assert part.format(id=OTHER.id) in refused.message


@pytest.mark.parametrize(
    ("found", "drops", "says"),
    [
        (lock(run=MINE), True, ""),
        (lock(run=MINE, cluster="beta", expires=NOW - 1), True, ""),
        (lock(), False, "site by bob on ctl1"),
        (lock(expires=NOW - 1), False, "It stays."),
        (plan.Free(), False, "There was no lock."),
        (plan.Bad(PATH, "is no lock"), False, "rm -r"),
    ],
)
def test_only_its_own_lock_is_released(found: plan.Found, drops: bool, says: str) -> None:
    decision = plan.release(found, MINE)
    assert isinstance(decision, plan.Drop) is drops
    assert says in getattr(decision, "why", "")


# Runs

CONTAINER = "pid:[4026532999]"


@pytest.mark.parametrize(
    ("holder", "me", "expected"),
    [
        ({}, {}, plan.HERE),
        ({"pid": 7, "controller": "renamed"}, {}, plan.HERE),
        ({"namespace": CONTAINER}, {"namespace": CONTAINER}, plan.HERE),
        ({"boot": "boot-0"}, {}, plan.BEFORE),
        ({"boot": "boot-0", "controller": "ctl2"}, {}, plan.ELSEWHERE),
        ({"boot": "boot-0", "machine": "b" * 16}, {}, plan.ELSEWHERE),
        ({"boot": "boot-0", "machine": ""}, {"machine": ""}, plan.ELSEWHERE),
        # One image, one name, two machines.
        ({"boot": "boot-0", "namespace": CONTAINER}, {"namespace": CONTAINER}, plan.ELSEWHERE),
        ({"boot": "boot-0", "namespace": CONTAINER}, {}, plan.ELSEWHERE),
        ({"boot": "boot-0"}, {"namespace": CONTAINER}, plan.ELSEWHERE),
        # Two containers of one machine do not see each other's processes.
        ({"namespace": CONTAINER}, {}, plan.ELSEWHERE),
        ({}, {"namespace": CONTAINER}, plan.ELSEWHERE),
    ],
)
def test_whose_process_can_be_known(holder: dict[str, t.Any], me: dict[str, t.Any], expected: str) -> None:
    assert plan.kin(dataclasses.replace(OTHER, **holder), dataclasses.replace(MINE, **me)) == expected


@pytest.mark.parametrize(
    "changes",
    [{"pid": 101}, {"start": 5001}, {"boot": "boot-2"}, {"namespace": CONTAINER}, {"machine": "b" * 16}],
)
def test_no_two_runs_have_one_name(changes: dict[str, t.Any]) -> None:
    assert dataclasses.replace(MINE, **changes).id != MINE.id


def test_a_run_keeps_its_name_when_the_controller_gets_another() -> None:
    assert dataclasses.replace(MINE, controller="dhcp-7").id == MINE.id
    assert plan.why_not_names([MINE.id]) == ""


# The file


@pytest.mark.parametrize("given", [lock(), lock(reason="", operator="Zoë 🐘"), lock(run=MINE, expires=plan.LATEST)])
def test_a_lock_is_read_as_it_was_written(given: plan.Lock) -> None:
    assert plan.parse(PATH, plan.text(given)) == given
    longest = dataclasses.replace(given, **{name: "🐘" * size for name, size in plan.LENGTHS.items()})
    assert plan.parse(PATH, plan.text(longest)) == longest
    assert len(plan.text(longest)) < 16384


def edited(**changes: t.Any) -> str:
    return json.dumps({**json.loads(plan.text(lock())), **changes})


def edited_run(**changes: t.Any) -> str:
    return edited(run={**plan.as_data(OTHER), **changes})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        plan.text(lock())[:-10],
        plan.text(lock()) * 2,
        "[" * 100_000,
        "9" * 10_000,
        edited(format=2),
        edited(format=True),
        edited(id=MINE.id),
        edited(id=None),
        edited(operation=""),
        edited(operation="a\nb"),
        edited(operator="\x1b[2J"),
        edited(reason=None),
        edited(cluster="c" * 129),
        edited(since=NOW + 10_000),
        edited(since=-1),
        edited(since=True),
        edited(since=1.5),
        edited(expires="soon"),
        edited(expires=plan.LATEST + 1),
        edited(run=None),
        edited_run(pid=201),
        edited_run(pid=0),
        edited_run(pid=2**40),
        edited_run(start="6000"),
        edited_run(boot=""),
        edited_run(boot="b" * 256),
        edited_run(controller="a\nb"),
        edited_run(machine=None),
    ],
)
def test_what_is_no_lock(content: str) -> None:
    found = plan.parse(PATH, content)
    assert isinstance(found, plan.Bad)
    assert found.path == PATH
    assert len(plan.bad_lock(found).message) < 600


# The wish


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"operation": ""}, "operation is empty"),
        ({"operator": " "}, "operator is empty"),
        ({"cluster": ""}, "cluster is empty"),
        ({"reason": "a\nb"}, "reason has characters"),
        ({"reason": " "}, "reason is empty"),
        ({"reason": "r" * 501}, "longer than 500"),
        ({"ttl": plan.TTL_MIN - 1}, "ttl is 59"),
        ({"ttl": plan.TTL_MAX + 1}, "ttl is"),
        ({"break_lock": (MINE.id, "yes")}, "break_lock names 'yes'"),
    ],
)
def test_what_cannot_be_asked_for(changes: dict[str, t.Any], says: str) -> None:
    refused = plan.why_not(wish(**changes))
    assert refused is not None
    assert refused.code == "bad_argument"
    assert says in refused.why


def test_what_can_be_asked_for() -> None:
    assert plan.why_not(wish(reason="", ttl=plan.TTL_MIN, break_lock=(OTHER.id,))) is None
    assert plan.why_not(wish(operation=""), looks=True) is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h 0 min"), (180_000, "2 d 2 h")],
)
def test_durations(seconds: int, expected: str) -> None:
    assert plan.spell(seconds) == expected


def test_a_lock_in_a_result() -> None:
    shown = plan.public(lock(), NOW)
    assert (shown["age"], shown["expires_in"], shown["id"]) == (750, 6450, OTHER.id)
    assert plan.read_run(shown["run"]) == OTHER
    past = plan.public(lock(since=NOW + 5, expires=NOW + 6), NOW + 10)
    assert (past["age"], past["expires_in"]) == (5, 0)
