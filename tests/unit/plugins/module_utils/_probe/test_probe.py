# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user noticed; and a user at an Odoo that goes away, comes back, and keeps its drafts."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._probe import io, plan, service
from ansible_collections.dedicated.odoo.plugins.module_utils._probe.plan import Attempt


def test_an_undisturbed_site() -> None:
    seen = plan.noticed([Attempt(n, n + 0.25) for n in range(10)], 10.0)
    assert (seen.failed, seen.back, seen.usual) == (0, True, 0.25)
    assert seen.outage == 1.0


def test_who_waits_was_out_as_long() -> None:
    seen = plan.noticed([Attempt(0, 0.5), Attempt(1, 8.5), Attempt(9, 9.5)], 10.0)
    assert (seen.outage, seen.failed, seen.longest) == (8.0, 0, 7.5)


def test_failures_count_until_the_next_good_one() -> None:
    attempts = [Attempt(0, 0.5), Attempt(1, 2, "gone"), Attempt(2, 6, "gone"), Attempt(6, 7)]
    seen = plan.noticed(attempts, 8.0)
    assert (seen.outage, seen.failed, seen.errors) == (6.5, 2, ("gone",))


def test_one_that_never_comes_back_is_out_to_the_end() -> None:
    seen = plan.noticed([Attempt(0, 1), Attempt(2, 3, "gone")], 60.0)
    assert (seen.outage, seen.back) == (59.0, False)


@pytest.mark.parametrize("attempts", [[], [Attempt(0, 30, "never")]])
def test_nothing_ever_worked(attempts: list[Attempt]) -> None:
    seen = plan.noticed(attempts, 30.0)
    assert (seen.outage, seen.back, seen.usual) == (30.0, False, None)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Odoo:
    """Answers in a tenth of a second; gone between ``goes`` and ``comes``. It keeps what is written."""

    def __init__(self, clock: Clock, goes: float = 1e9, comes: float = 1e9) -> None:
        self.clock, self.goes, self.comes = clock, goes, comes
        self.password, self.journals = "right", [7]
        self.drafts: dict[int, str] = {}
        self.arrivals = 0

    def arrive(self) -> Odoo:
        self.arrivals += 1
        return self

    def call(self, path: str, params: t.Mapping[str, t.Any]) -> t.Any:
        self.clock.sleep(0.1)
        if self.goes <= self.clock.seconds < self.comes:
            raise ConnectionRefusedError(111, "Connection refused")
        if path == "/web/session/authenticate":
            return {"uid": 2 if params["password"] == self.password else None}
        method = (params["model"], params["method"])
        if method == ("account.journal", "search"):
            return self.journals
        if method == ("account.move", "create"):
            number = len(self.drafts) + 1
            self.drafts[number] = params["args"][0][0]["ref"]
            return [number]
        if method == ("account.move", "search"):
            word = params["args"][0][0][2]
            return [number for number, ref in self.drafts.items() if ref == word]
        assert method == ("account.move", "unlink")
        for number in params["args"][0]:
            del self.drafts[number]
        return True


def user(odoo: Odoo, password: str = "right") -> service.ProbeService:
    return service.ProbeService(odoo.arrive, odoo.clock, "eve", password, "odoo", "trial")


def test_a_user_works_and_leaves_nothing() -> None:
    odoo = Odoo(Clock())
    odoo.drafts[99] = "somebody else's"
    probe = user(odoo)
    seen = probe.run(probe.ready(), 10.0, 0.5)
    assert (seen.failed, seen.back) == (0, True)
    assert seen.attempts == len(odoo.drafts) - 1
    assert probe.tidy() == seen.attempts
    assert odoo.drafts == {99: "somebody else's"}


def test_a_user_notices_how_long_it_was_gone() -> None:
    odoo = Odoo(Clock(), goes=4.0, comes=9.0)
    seen = user(odoo).run(7, 20.0, 0.5)
    assert 5.0 <= seen.outage < 6.5
    assert seen.failed
    assert seen.back
    assert "ConnectionRefusedError" in seen.errors[0]


def test_nobody_tidies_up_at_a_site_that_is_gone() -> None:
    odoo = Odoo(Clock(), goes=4.0)
    probe = user(odoo)
    assert not probe.run(7, 10.0, 0.5).back
    with pytest.raises(OSError, match="refused"):
        probe.tidy()


def test_what_cannot_work_is_said_before() -> None:
    odoo = Odoo(Clock())
    with pytest.raises(DedicatedError) as caught:
        user(odoo, "wrong").ready()
    assert caught.value.details["code"] == "not_logged_in"
    odoo.journals = []
    with pytest.raises(DedicatedError) as caught:
        user(odoo).ready()
    assert caught.value.details["code"] == "no_journal"


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (503, "", "HTTP 503"),
        (200, "<html>", "no JSON"),
        (200, "[]", "no result"),
        (200, '{"error": {"message": "Odoo Server Error", "data": {"message": "Access Denied"}}}', "Access Denied"),
        (200, '{"error": {"message": "Session Expired"}}', "Session Expired"),
    ],
)
def test_answers_that_are_none(status: int, text: str, said: str) -> None:
    with pytest.raises(io.OdooError, match=said):
        io.result_of(status, text)


def test_an_answer() -> None:
    assert io.result_of(200, '{"result": {"uid": 2}}') == {"uid": 2}
    assert io.result_of(200, '{"jsonrpc": "2.0"}') is None


def test_a_ca_that_is_not_there() -> None:
    with pytest.raises(DedicatedError) as caught:
        io.Site("erp.example.com", "", 443, "/nowhere/ca.pem", 1.0)
    assert caught.value.details["code"] == "bad_ca"
