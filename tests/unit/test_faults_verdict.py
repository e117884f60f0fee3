# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How experiments are judged: what counts as lost, as a gap, as two leaders, and when a promise is broken."""

from __future__ import annotations

import dataclasses
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))

import verdict
from verdict import ACKNOWLEDGED, FAILED, INDETERMINATE, Accepted, Promise, Request, Write

LEDGER = """\
T 1 10.0
A 1 10.1
T 2 10.2
F 2 10.3 server closed the connection unexpectedly
T 3 10.4
I 3 10.5 canceling wait for synchronous replication
T 4 10.6
"""


def test_every_try_has_one_fate() -> None:
    found = verdict.parse_ledger("a", LEDGER)
    assert [(write.number, write.fate) for write in found] == [
        (1, ACKNOWLEDGED),
        (2, FAILED),
        (3, INDETERMINATE),
        (4, INDETERMINATE),
    ]
    assert found[1].error == "server closed the connection unexpectedly"
    assert found[0].ended == 10.1


@pytest.mark.parametrize("cut", range(len(LEDGER)))
def test_a_file_cut_anywhere_never_acknowledges_more(cut: int) -> None:
    """A host that dies in the middle of a line has not noted that line."""
    whole = {write.row: write.fate for write in verdict.parse_ledger("a", LEDGER)}
    for write in verdict.parse_ledger("a", LEDGER[:cut]):
        assert write.fate in (INDETERMINATE, whole[write.row])


def test_a_number_tried_twice_is_a_broken_client() -> None:
    with pytest.raises(ValueError, match="twice"):
        verdict.parse_ledger("a", "T 1 1.0\nT 1 2.0\n")


def write(number: int, fate: str) -> Write:
    return Write("a", number, 0.0, fate)


@pytest.mark.parametrize(
    ("fate", "times", "wrong"),
    [
        (ACKNOWLEDGED, 0, "lost"),
        (ACKNOWLEDGED, 1, None),
        (ACKNOWLEDGED, 2, "duplicates"),
        (FAILED, 0, None),
        (FAILED, 1, "phantom"),
        (INDETERMINATE, 0, None),
        (INDETERMINATE, 1, None),
        (INDETERMINATE, 2, "duplicates"),
        (None, 1, "phantom"),
    ],
)
def test_the_law_of_the_ledger(fate: str | None, times: int, wrong: str | None) -> None:
    writes = [write(1, ACKNOWLEDGED)] + ([write(2, fate)] if fate else [])
    books = verdict.audit(writes, [("a", 1)] + [("a", 2)] * times)
    for name in ("lost", "phantom", "duplicates"):
        assert getattr(books, name) == ((("a", 2),) if name == wrong else ())
    assert books.whole is (wrong is None)


def test_a_ledger_without_any_acknowledgement_proves_nothing() -> None:
    assert not verdict.audit([write(1, FAILED)], []).whole


def test_the_same_number_of_two_clients_are_two_rows() -> None:
    writes = [Write("a", 1, 0.0, ACKNOWLEDGED), Write("b", 1, 0.0, ACKNOWLEDGED)]
    assert verdict.audit(writes, [("a", 1)]).lost == (("b", 1),)


@pytest.mark.parametrize(
    ("moments", "longest"),
    [
        ([], 10.0),
        ([5.0], 5.0),
        ([1.0, 2.0, 9.0], 7.0),
        ([9.0, 1.0, 2.0], 7.0),
        ([1.0], 9.0),  # nothing after it: the gap lasts to the end
        ([-5.0, 15.0], 10.0),  # outside
    ],
)
def test_longest_gap(moments: list[float], longest: float) -> None:
    assert verdict.longest_gap(moments, 0.0, 10.0) == longest


def test_a_gap_of_one_client_is_hidden_in_the_sum_and_not_in_his_own() -> None:
    found = verdict.gaps({"a": [1, 9], "b": [1, 3, 5, 7, 9]}, 0, 10)
    assert found == {"a": 8, "b": 2, "all": 2}


def accepted(*words: str) -> list[Accepted]:
    """`n1 t1 5-6`: a member, a timeline, when it was sent and when acknowledged."""
    found = []
    for word in words:
        member, timeline, span = word.split()
        sent, ended = span.split("-")
        found.append(Accepted(member, int(timeline[1:]), float(sent), float(ended)))
    return found


@pytest.mark.parametrize(
    ("seen", "breaches"),
    [
        (accepted("n1 t1 0-1", "n2 t2 5-6"), 0),
        (accepted("n1 t1 0-1", "n2 t2 5-6", "n1 t3 8-9"), 0),
        # Sent before the other had acknowledged, and answered late: it was the one leader when it took it.
        (accepted("n1 t1 4-7", "n2 t2 5-6"), 0),
        (accepted("n1 t1 0-1", "n2 t2 5-6", "n1 t1 7-8"), 1),
        (accepted("n1 t1 0-1", "n2 t1 2-3"), 1),
        (accepted("n1 t1 0-1", "n2 t2 5-6", "n3 t2 5-7"), 1),
        ([], 0),
    ],
)
def test_the_law_of_one_leader(seen: list[Accepted], breaches: int) -> None:
    assert len(verdict.split_brain(seen)) == breaches
    assert len(verdict.split_brain(reversed(seen))) == breaches


def test_who_led_when() -> None:
    seen = accepted("n1 t1 0-1", "n1 t1 2-3", "n2 t2 5-6", "n2 t2 7-8")
    assert verdict.leaders(seen) == [("n1", 1, 1.0, 3.0), ("n2", 2, 6.0, 8.0)]


@pytest.mark.parametrize(
    ("kind", "status", "headers", "body", "fate"),
    [
        ("login", 200, {}, "<html>", verdict.OK),
        ("call", 200, {}, '{"result": 3}', verdict.OK),
        ("call", 200, {}, '{"error": {"name": "psycopg2.OperationalError"}}', verdict.BROKEN),
        ("call", 200, {}, '{"error": {"name": "odoo.http.SessionExpiredException"}}', verdict.LOGGED_OUT),
        ("page", 303, {"location": "/web/login?redirect=/odoo"}, "", verdict.LOGGED_OUT),
        ("page", 303, {"location": "/web/database/selector"}, "", verdict.BROKEN),
        ("page", 503, {"retry-after": "5"}, "", verdict.TURNED_AWAY),
        ("page", 503, {}, "no available server", verdict.BROKEN),
        ("page", 502, {"retry-after": "5"}, "", verdict.BROKEN),
        ("page", None, {}, "ConnectionResetError", verdict.BROKEN),
    ],
)
def test_what_became_of_a_request(kind: str, status: int | None, headers: dict[str, str], body: str, fate: str) -> None:
    assert verdict.fate_of(kind, status, headers, body)[0] == fate


def test_only_what_was_under_way_in_the_window_counts() -> None:
    requests = [
        Request("a", "call", 0.0, 0.5, verdict.BROKEN),  # over before it began
        Request("a", "call", 0.5, 1.0, verdict.OK),  # in flight
        Request("a", "call", 2.0, 3.0, verdict.BROKEN),
        Request("a", "call", 4.0, 2.0, verdict.TURNED_AWAY),
        Request("a", "call", 11.0, 0.5, verdict.BROKEN),  # asked after it ended
    ]
    served = verdict.serve(requests, 1.0, 10.0)
    assert (served.asked, served.longest, served.outage) == (3, 3.0, 4.0)
    assert served.fates == {verdict.OK: 1, verdict.BROKEN: 1, verdict.TURNED_AWAY: 1}


def test_nothing_wrong_is_no_outage() -> None:
    assert verdict.serve([Request("a", "call", 0.0, 4.0, verdict.OK)], 0.0, 10.0).outage == 0.0


def figures(**changes: t.Any) -> verdict.Figures:
    """A run in which everything held."""
    good = verdict.Figures(
        books=verdict.audit([write(1, ACKNOWLEDGED)], [("a", 1)]),
        breaches=(),
        write_gap=1.0,
        redis_gap=1.0,
        served=verdict.Served(100, {verdict.OK: 100}, 1.0, 0.0, ()),
        logged_out=0,
        session_kept=True,
        moved=False,
        recovery=20.0,
        members_agree=True,
        workers=6,
    )
    return dataclasses.replace(good, **changes)


EVERYTHING = Promise(
    write_gap=2, redis_gap=3, broken="workers", turned_away=0, wait=5, outage=2, leader="stays", recovery=300
)


def broken(promise: Promise, seen: verdict.Figures) -> list[str]:
    return [check.name for check in verdict.judge(promise, seen) if not check.ok]


def test_a_good_run_holds() -> None:
    assert broken(EVERYTHING, figures()) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"books": verdict.audit([write(1, ACKNOWLEDGED)], [])}, "ledger whole"),
        ({"breaches": ("two",)}, "one leader"),
        ({"members_agree": False}, "members agree"),
        ({"postings": ("a hole",)}, "postings"),
        ({"write_gap": 2.1}, "write gap"),
        ({"redis_gap": 3.1}, "redis gap"),
        ({"redis_gap": None}, "redis gap"),
        ({"served": verdict.Served(9, {verdict.BROKEN: 7}, 1.0, 0.0, ())}, "requests broken"),
        ({"served": verdict.Served(9, {verdict.TURNED_AWAY: 1}, 1.0, 0.0, ())}, "requests turned away"),
        ({"served": verdict.Served(9, {}, 5.1, 0.0, ())}, "longest wait"),
        ({"served": verdict.Served(9, {}, 1.0, 2.1, ())}, "outage of requests"),
        ({"recovery": 301.0}, "full redundancy"),
        ({"recovery": None}, "full redundancy"),
        ({"logged_out": 1}, "sessions kept"),
        ({"session_kept": False}, "sessions kept"),
        ({"moved": True}, "leader"),
    ],
)
def test_each_promise_can_be_broken_alone(changes: dict[str, t.Any], name: str) -> None:
    assert broken(EVERYTHING, figures(**changes)) == [name]


@pytest.mark.parametrize(("failed", "held"), [(6, True), (7, False)])
def test_as_many_requests_may_fail_as_can_be_in_flight(failed: int, held: bool) -> None:
    seen = figures(served=verdict.Served(9, {verdict.BROKEN: failed}, 1.0, 0.0, ()))
    assert (broken(Promise(), seen) == []) is held


@pytest.mark.parametrize(("quiet", "held"), [(0.0, False), (0.2, True)])
def test_what_was_there_without_the_fault_is_not_the_faults(quiet: float, held: bool) -> None:
    assert (broken(Promise(write_gap=1.0), figures(write_gap=1.2, quiet_gap=quiet)) == []) is held
    assert (broken(Promise(redis_gap=1.0), figures(redis_gap=1.2, quiet_redis_gap=quiet)) == []) is held


def test_what_is_not_promised_is_not_judged_and_the_ledger_always_is() -> None:
    nothing = Promise(broken=None, sessions=False)
    bad = figures(write_gap=99.0, redis_gap=None, logged_out=3, books=verdict.audit([], []))
    assert broken(nothing, bad) == ["ledger whole"]


@pytest.mark.parametrize(
    ("values", "part", "found"),
    [
        ([3.0], 95, 3.0),
        ([1, 2, 3, 4], 50, 2),
        ([2, 1], 100, 2),
        (list(range(1, 21)), 95, 19),
        (list(range(1, 101)), 95, 95),
    ],
)
def test_percentile_is_a_value_that_was_seen(values: list[float], part: float, found: float) -> None:
    assert verdict.percentile(values, part) == found


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        verdict.percentile([], 50)


def result(gap: float, verdict: str = "held") -> dict[str, t.Any]:
    checks = [{"name": "write gap", "ok": verdict == "held", "said": ""}]
    return {
        "name": "one",
        "fault": "1",
        "verdict": verdict,
        "promise": {"write_gap_p95": 2.0},
        "checks": checks,
        "figures": {"write_gap": gap, "lost": 0, "recovery": None},
    }


def test_the_summary_counts_what_held_and_what_broke() -> None:
    row = verdict.summarise([result(1.0), result(9.0, "broken")])["one"]
    assert (row["runs"], row["held"], row["lost"], row["broken"]) == (2, 1, 0, ["write gap"])
    assert row["figures"]["write_gap"] == {"n": 2, "p50": 1.0, "p95": 9.0, "max": 9.0}
    assert "recovery" not in row["figures"]
    assert "p95_held" not in row


@pytest.mark.parametrize(("slow", "held"), [(1, True), (2, False)])
def test_a_p95_is_judged_from_twenty_runs_on(slow: int, held: bool) -> None:
    row = verdict.summarise([result(1.0)] * (20 - slow) + [result(9.0)] * slow)["one"]
    assert row["p95_held"] is held


def test_a_skipped_experiment_is_told_with_its_reason() -> None:
    skipped = result(0.0) | {"verdict": "skipped", "why": "no detector", "figures": {}, "checks": []}
    summary = verdict.summarise([skipped])
    assert summary["one"]["runs"] == 0
    assert "skipped: no detector" in verdict.table(summary)


def test_the_table_shows_the_figure_or_its_spread() -> None:
    assert " 1.5 " in verdict.table(verdict.summarise([result(1.5)]))
    assert " 1.5/2.5/2.5 " in verdict.table(verdict.summarise([result(1.5), result(2.5)]))
