# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether hosts are sound together."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._hosts import plan

OURS, OTHER, THIRD = (str(second << 32 | 7) for second in (1795312537, 1700000000, 1600000000))
NAMES = ("n1", "n2", "n3")
EXACT = plan.Clock(0.0, 0.01)
Each = t.Mapping[str, t.Mapping[str, t.Any]]


def answer(name: str, **changes: t.Any) -> plan.Answer:
    good = plan.Answer(name, 4, 16000, "debian", "13", EXACT, state_of(changes))
    return dataclasses.replace(good, **changes)


def state_of(changes: t.Mapping[str, t.Any]) -> str:
    """A data directory is there when it has an identifier."""
    return "present" if changes.get("system_identifier") else "absent"


def snapshot(each: Each | None = None, names: t.Sequence[str] = NAMES, **fields: t.Any) -> plan.Snapshot:
    answers = tuple(answer(name, **(each or {}).get(name, {})) for name in names)
    given = {"tier": "ha", "postgres": NAMES, "etcd": NAMES, "scope": "lab", **fields}
    return plan.Snapshot(answers, **given)


def codes(judged: plan.Snapshot) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.code, finding.hosts) for finding in plan.judge(judged)]


def warnings(judged: plan.Snapshot) -> list[str]:
    return [finding.code for finding in plan.warn(judged)]


def data(*identifiers: str) -> dict[str, dict[str, t.Any]]:
    return {name: {"system_identifier": value} for name, value in zip(NAMES, identifiers, strict=False)}


def recorded(*identifiers: str) -> dict[str, dict[str, t.Any]]:
    return {name: {"recorded_identifier": value} for name, value in zip(NAMES, identifiers, strict=False)}


def both(*parts: Each) -> dict[str, dict[str, t.Any]]:
    return {name: {key: value for part in parts for key, value in part.get(name, {}).items()} for name in NAMES}


def claim(expected: str, identifier: str = "", name: str = "", scope: str = "lab") -> plan.Claim:
    return plan.Claim(expected, f"10.0.0.{expected[1:]}", name or expected, scope, identifier)


@pytest.mark.parametrize("tier", ["single", "ha"])
@pytest.mark.parametrize("names", [NAMES, ("n1",), ()])
def test_sound(tier: str, names: tuple[str, ...]) -> None:
    for each in ({}, data(OURS, OURS, OURS), data(OURS), both(data(OURS, OURS, OURS), recorded(OURS, OURS, OURS))):
        judged = snapshot(each, names, tier=tier)
        assert codes(judged) == []
        assert warnings(judged) == []


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifiers", "records", "pinned", "wrong"),
    [
        # What tells which is right: the pin, then what hosts recorded.
        ((OURS, OURS, OTHER), (), OURS, ("n3",)),
        ((OURS, OTHER, OTHER), (), OURS, ("n2", "n3")),
        ((OURS, OURS, OTHER), (OURS,), "", ("n3",)),
        ((OURS, OTHER, OTHER), (OURS,), "", ("n2", "n3")),
        ((OURS, "", OTHER), (OURS, OURS, ""), "", ("n3",)),
        (("", "", OTHER), (OURS,), "", ("n3",)),
        ((OTHER, THIRD, ""), (), OURS, ("n1", "n2")),
        # Nothing does: not even a majority.
        ((OURS, OURS, OTHER), (), "", ("n1", "n2", "n3")),
        ((OURS, OTHER, ""), (), "", ("n1", "n2")),
    ],
)
@pytest.mark.parametrize("tier", ["single", "ha"])
def test_leftover_data(
    identifiers: tuple[str, ...], records: tuple[str, ...], pinned: str, wrong: tuple[str, ...], tier: str
) -> None:
    judged = snapshot(both(data(*identifiers), recorded(*records)), tier=tier, system_identifier=pinned)
    (finding,) = plan.judge(judged)
    assert (finding.code, finding.hosts) == ("leftover-data", wrong)
    assert f"mv {plan.POSTGRES_DATA} {plan.POSTGRES_DATA}.leftover-$(date +%F)" in finding.message
    assert ("nothing tells which" in finding.message) is (not records and not pinned)


def test_members_that_run_tell_which_data_is_right() -> None:
    each = both(data(OURS, OURS, OTHER), {"n3": {"claims": (claim("n1", OURS), claim("n2", OURS))}})
    (finding,) = plan.judge(snapshot(each))
    assert (finding.code, finding.hosts) == ("leftover-data", ("n3",))
    assert "the members that run have it" in finding.message


def test_a_stranger_that_runs_tells_nothing() -> None:
    each = both(data(OURS, OURS, OTHER), {"n3": {"claims": (claim("n2", THIRD, scope="acme"),)}})
    findings = plan.judge(snapshot(each))
    assert [finding.code for finding in findings] == ["wrong-cluster", "leftover-data"]
    assert "nothing tells which" in findings[1].message


def test_records_of_two_clusters() -> None:
    judged = snapshot(both(data(OURS, OURS, ""), recorded(OURS, OURS, OTHER)))
    assert codes(judged) == [("other-system-identifier", NAMES)]


def test_data_of_hosts_outside_the_group_does_not_matter() -> None:
    assert codes(snapshot(data(OURS, OURS, OTHER), postgres=("n1", "n2"))) == []


@pytest.mark.parametrize("tier", ["single", "ha"])
@pytest.mark.parametrize(("records", "pinned"), [((OURS,), ""), (("", OURS), ""), ((), OURS), ((OURS,) * 3, OURS)])
def test_data_that_is_nowhere(records: tuple[str, ...], pinned: str, tier: str) -> None:
    (finding,) = plan.judge(snapshot(recorded(*records), tier=tier, system_identifier=pinned))
    assert (finding.code, finding.hosts) == ("data-lost", NAMES)
    assert "mounted" in finding.message
    assert plan.RECORD in finding.message


@pytest.mark.parametrize(
    ("each", "names"),
    [
        (both(recorded(OURS, OURS), data("", OURS)), NAMES),  # a wiped member is made anew from the others
        (recorded(OURS, OURS), ("n1", "n2")),  # the member with the data was left out by --limit
        (both(recorded(OURS), {"n2": {"postgres_data": "present"}}), NAMES),  # a copy is on its way
        (both(recorded(OURS), {name: {"postgres_data": ""} for name in NAMES}), NAMES),  # nobody looked
    ],
)
def test_data_that_may_be_somewhere(each: Each, names: tuple[str, ...]) -> None:
    assert codes(snapshot(each, names)) == []


@pytest.mark.parametrize(
    ("identifiers", "hosts", "certain"),
    [
        (("a", "a", "a"), (), True),
        (("a", "", ""), (), True),
        (("a", "a", "b"), ("n3",), True),
        (("b", "a", "a"), ("n1",), True),
        (("a", "b", ""), ("n1", "n2"), False),
        (("a", "b", "c"), ("n1", "n2", "n3"), False),
    ],
)
def test_leftover_data_of_etcd(identifiers: tuple[str, ...], hosts: tuple[str, ...], certain: bool) -> None:
    each = {name: {"etcd_cluster_id": value} for name, value in zip(NAMES, identifiers, strict=True)}
    findings = plan.judge(snapshot(each))
    assert [(finding.code, finding.hosts) for finding in findings] == ([("leftover-etcd-data", hosts)] if hosts else [])
    for finding in findings:
        assert ("find out which" in finding.message) is not certain
        assert f"docker stop etcd; mv {plan.ETCD_DATA}" in finding.message


# --- who answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "pinned", "words"),
    [
        ((claim("n2", OURS),), "", None),
        ((claim("n2", OURS),), OURS, None),
        ((claim("n2"),), OURS, None),
        ((claim("n2", OTHER, scope="acme"),), "", "cluster 'acme' answers and not one of 'lab'"),
        ((claim("n2", OURS, name="n3"),), "", "the PostgreSQL member 'n3' answers"),
        ((claim("n2", OTHER),), OURS, "the inventory pins"),
        ((claim("n1", OTHER),), "", "the data of n1 is of"),
        ((plan.Claim("n2", "10.0.0.2", "", "", ""),), OURS, None),
    ],
)
def test_wrong_cluster_behind_a_right_address(claims: tuple[plan.Claim, ...], pinned: str, words: str | None) -> None:
    # All hosts saw it; it is told once.
    each = both(data(OURS), {name: {"claims": claims} for name in NAMES})
    findings = plan.judge(snapshot(each, system_identifier=pinned))
    assert [(finding.code, finding.hosts) for finding in findings] == (
        [("wrong-cluster", (claims[0].expected,))] if words else []
    )
    assert all(words in finding.message for finding in findings if words)


def test_scope_that_nobody_gave() -> None:
    assert codes(snapshot({"n1": {"claims": (claim("n1", scope="acme"),)}}, scope="")) == []


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clocks", "apart"),
    [
        (((0.0, 0.01), (0.0, 0.01), (0.0, 0.01)), None),
        (((0.0, 0.01), (1.02, 0.01), (0.5, 0.01)), None),
        (((0.0, 0.01), (1.03, 0.01), (0.5, 0.01)), ("n1", "n2")),
        (((0.6, 0.01), (0.0, 0.01), (-0.6, 0.01)), ("n1", "n3")),
        # An answer that took long proves nothing.
        (((0.0, 0.01), (5.0, 4.5), (0.0, 0.01)), None),
        (((0.0, 0.01), (5.0, 3.5), (0.0, 0.01)), ("n1", "n2")),
        # A controller that is off itself is no reason.
        (((50.0, 0.01), (50.0, 0.01), (50.0, 0.01)), None),
    ],
)
def test_clocks(clocks: tuple[tuple[float, float], ...], apart: tuple[str, ...] | None) -> None:
    each = {name: {"clock": plan.Clock(*clock)} for name, clock in zip(NAMES, clocks, strict=True)}
    assert codes(snapshot(each)) == ([("clocks-apart", apart)] if apart else [])
    single = snapshot(each, tier="single")
    assert codes(single) == []
    assert warnings(single) == (["clocks-apart"] if apart else [])


@pytest.mark.parametrize("true", [-0.9, 0.0, 0.9])
@pytest.mark.parametrize("halves", [(0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (2.0, 2.0)])
def test_clocks_that_agree_are_never_called_apart(true: float, halves: tuple[float, float]) -> None:
    # The worst reading: the whole round trip lay before, or after, the look at the clock.
    for signs in itertools.product([-1, 1], repeat=2):
        first = plan.Clock(signs[0] * halves[0], halves[0])
        second = plan.Clock(true + signs[1] * halves[1], halves[1])
        assert codes(snapshot({"n1": {"clock": first}, "n2": {"clock": second}}, ("n1", "n2"))) == []


def test_clocks_are_told_with_numbers() -> None:
    (finding,) = plan.judge(snapshot({"n3": {"clock": plan.Clock(2.5, 0.02)}}))
    assert "at least 2.47 s apart, allowed are 1 s" in finding.message
    assert "n1 +0.00 s, n2 +0.00 s, n3 +2.50 s" in finding.message


def test_limit_of_clocks() -> None:
    assert codes(snapshot({"n3": {"clock": plan.Clock(2.5, 0.02)}}, max_clock_difference=3.0)) == []


def test_clock_that_could_not_be_read() -> None:
    assert codes(snapshot({"n3": {"clock": None}})) == []
    assert warnings(snapshot({"n3": {"clock": None}})) == ["clock-unknown"]
    assert warnings(snapshot({"n3": {"clock": None}}, tier="single")) == []


@pytest.mark.parametrize(("offset", "warned"), [(0.0, False), (59.0, False), (61.0, True), (-61.0, True)])
def test_clock_of_the_controller(offset: float, warned: bool) -> None:
    judged = snapshot({name: {"clock": plan.Clock(offset, 0.01)} for name in NAMES})
    assert codes(judged) == []
    assert warnings(judged) == (["controller-clock"] if warned else [])


# --- machines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_mb": 14400}, []),
        ({"memory_mb": 14399}, ["14399 MiB of memory, n1 of the same group postgres has 16000 MiB"]),
        ({"cpus": 3}, ["3 processor(s), n1 of the same group postgres has 4"]),
        ({"cpus": 2, "memory_mb": 8000}, ["8000 MiB", "2 processor(s)"]),
    ],
)
def test_smaller_member(changes: dict[str, int], words: list[str]) -> None:
    judged = snapshot({"n2": changes})
    assert codes(judged) == [("replica-too-small", ("n2",))] * len(words)
    assert all(word in finding.message for word, finding in zip(words, plan.judge(judged), strict=True))
    assert codes(snapshot({"n2": changes}, tier="single")) == []
    assert warnings(snapshot({"n2": changes}, tier="single")) == ["replica-too-small"] * len(words)
    assert codes(snapshot({"n2": changes}, postgres=("n1", "n3"))) == []


def test_larger_member_makes_the_others_small() -> None:
    assert codes(snapshot({"n2": {"memory_mb": 32000}})) == [
        ("replica-too-small", ("n1",)),
        ("replica-too-small", ("n3",)),
    ]


def test_systems() -> None:
    assert warnings(snapshot({"n2": {"os_version": "13.1"}})) == []
    assert warnings(snapshot({"n2": {"os_version": "12"}})) == ["systems-differ"]
    assert warnings(snapshot({"n2": {"os_id": "ubuntu"}})) == ["systems-differ"]
    assert codes(snapshot({"n2": {"os_version": "12"}})) == []


# --- border -----------------------------------------------------------------------------------------------------------


def test_answers_are_parsed() -> None:
    host = {
        "os_id": "debian",
        "os_version": "13",
        "cpus": 4,
        "memory_mb": 16000,
        "postgres_data": "present",
        "system_identifier": OURS,
        "recorded_identifier": OURS,
        "etcd_cluster_id": "ab",
        "members": [
            {
                "expected": "n2",
                "address": "10.0.0.2",
                "name": "n2",
                "scope": "lab",
                "system_identifier": "",
                "reason": "",
            },
            {"expected": "n3", "address": "10.0.0.3", "reason": "timed out"},
        ],
    }
    assert plan.parse_answer("n1", {"host": host, "clock": {"offset": 0.5, "uncertainty": 0.1}}) == plan.Answer(
        "n1",
        4,
        16000,
        "debian",
        "13",
        plan.Clock(0.5, 0.1),
        "present",
        OURS,
        OURS,
        "ab",
        (plan.Claim("n2", "10.0.0.2", "n2", "lab", ""),),
    )


@pytest.mark.parametrize("result", [None, {}, {"skipped": True}, {"unreachable": True, "msg": "x"}, {"host": None}])
def test_no_answer(result: t.Any) -> None:
    assert plan.parse_answer("n1", result) is None


def test_answer_of_a_host_that_says_little() -> None:
    said = plan.parse_answer("n1", {"host": {}, "clock": {}})
    assert said == plan.Answer("n1")
    assert codes(plan.Snapshot((said,) if said else (), "ha", NAMES, NAMES)) == []


def test_everything_at_once() -> None:
    each = both(data(OURS, OTHER), {"n3": {"clock": plan.Clock(9, 0), "memory_mb": 1, "etcd_cluster_id": "a"}})
    each["n1"]["etcd_cluster_id"] = "b"
    text = plan.message(plan.judge(snapshot(each)))
    assert "4 reason(s); nothing was changed" in text
    for code in ("leftover-data", "leftover-etcd-data", "clocks-apart", "replica-too-small"):
        assert f"- {code}: " in text
