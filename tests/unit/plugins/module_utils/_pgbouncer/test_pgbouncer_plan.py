# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The next step from every state, the refusals with their numbers, and what is read from PgBouncer and systemd."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.plan import (
    Database,
    Memory,
    Step,
    View,
    Watchdog,
    Wish,
)

ODOO = Database("odoo")
PAUSED = Wish("odoo", "paused", 30.0)
ACTIVE = Wish("odoo", "active")
OLD = Watchdog("old", "odoo", 3.0)
FIRED = Watchdog("fired", "odoo", None)
MINE = Watchdog("mine", "odoo", 29.0)
OTHERS = Watchdog("elsewhere", "crm", 9.0)


def view(database: Database = ODOO, **more: t.Any) -> View:
    return View((database, Database("postgres", "session")), **{"limit": 60.0, **more})


def refused(view: View, wish: Wish, memory: Memory | None = None) -> Refuse:
    planned = plan.next_step(view, wish, memory or Memory())
    assert isinstance(planned, Refuse)
    return planned


def acted(view: View, wish: Wish, step: Step, memory: Memory) -> tuple[View, Memory]:
    return plan.predicted(view, wish, step, memory)


STARTS = [
    view(dataclasses.replace(ODOO, paused=paused, servers_active=busy), watchdogs=dogs)
    for paused, busy, dogs in itertools.product(
        [False, True], [0, 3], [(), (OLD,), (FIRED,), (OLD, FIRED), (OTHERS,), (OLD, OTHERS)]
    )
]


@pytest.mark.parametrize("wish", [PAUSED, ACTIVE], ids=["paused", "active"])
@pytest.mark.parametrize("start", STARTS, ids=str)
def test_law_1_from_every_state_and_after_every_interruption(start: View, wish: Wish) -> None:
    """Each step leaves a pause with a watchdog, if it found one with it or without a pause; then all begins anew."""
    guarded = not plan.check_invariants(start)
    seen, memory, kinds = start, Memory(), []
    for _step in range(8):
        step = plan.next_step(seen, wish, memory)
        assert not isinstance(step, Refuse)
        if step is None:
            break
        kinds.append(step.kind)
        seen, memory = acted(seen, wish, step, memory)
        assert not guarded or plan.check_invariants(seen) == []
        _completes(seen, wish)
    database = seen.database("odoo")
    assert database is not None
    assert database.paused is (wish.state == "paused")
    if wish.state == "paused" or start.databases[0].paused:
        assert len(seen.watching("odoo")) == int(wish.state == "paused")
    else:
        assert seen == start
    assert ("arm" in kinds) is (wish.state == "paused")
    if "pause" in kinds:
        assert kinds.index("arm") < kinds.index("pause")
    if "disarm" in kinds and "resume" in kinds:
        assert kinds.index("resume") < kinds.index("disarm")
    assert OTHERS in seen.watchdogs or OTHERS not in start.watchdogs


def _completes(seen: View, wish: Wish) -> None:
    """Another run, which remembers nothing, brings it to the end, and resuming always works."""
    for one in (wish, ACTIVE):
        memory, at = Memory(), seen
        for _step in range(8):
            step = plan.next_step(at, one, memory)
            assert not isinstance(step, Refuse)
            if step is None:
                break
            at, memory = acted(at, one, step, memory)
        else:
            pytest.fail(f"{one.state} does not come to an end")
        database = at.database("odoo")
        assert database is not None
        assert database.paused is (one.state == "paused")


def test_a_database_that_is_as_wished_needs_nothing() -> None:
    assert plan.next_step(view(), ACTIVE, Memory()) is None
    assert plan.next_step(view(), Wish("odoo", "reconnected"), Memory(reconnected=True)) is None


def test_reconnect_is_a_step_whatever_the_state() -> None:
    for database in (ODOO, dataclasses.replace(ODOO, paused=True), dataclasses.replace(ODOO, pool_mode="session")):
        step = plan.next_step(view(database, state="paused"), Wish("odoo", "reconnected"), Memory())
        assert step == Step("reconnect", "RECONNECT odoo")


def test_a_pause_that_is_not_drained_is_waited_for() -> None:
    busy = view(dataclasses.replace(ODOO, paused=True, servers_active=2), watchdogs=(MINE,))
    step = plan.next_step(busy, PAUSED, Memory("mine"))
    assert isinstance(step, Step)
    assert (step.kind, step.changes) == ("drain", False)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["paused", "active", "reconnected"])
def test_an_unknown_database_is_refused_with_the_names_there_are(state: str) -> None:
    refusal = refused(view(), Wish("odo", state, 30.0))
    assert refusal.code == "unknown_database"
    assert "odoo, postgres" in refusal.why


@pytest.mark.parametrize(
    "database",
    [Database("odoo", "session"), Database("odoo", session_users=("admin",))],
    ids=["the database's mode", "a user's mode"],
)
def test_law_3_session_pooling_is_refused(database: Database) -> None:
    refusal = refused(view(database), PAUSED)
    assert refusal.code == "session_pooling"
    assert "LISTEN" in refusal.why
    assert plan.next_step(view(database), ACTIVE, Memory()) is None


@pytest.mark.parametrize("state", ["paused", "suspended"])
@pytest.mark.parametrize("wish", [PAUSED, ACTIVE])
def test_a_pooler_that_is_paused_as_a_whole_is_refused(state: str, wish: Wish) -> None:
    refusal = refused(view(state=state), wish)
    assert refusal.code == "pooler_not_active"
    assert state in refusal.why


@pytest.mark.parametrize(
    ("deadline", "drain", "code"),
    [
        (0.0, 5.0, "deadline_too_short"),
        (-1.0, 5.0, "deadline_too_short"),
        (5.0, 5.0, "deadline_too_short"),
        (5.0, 0.0, "deadline_too_short"),
        (5.1, 5.0, None),
        (58.0, 5.0, None),
        (58.1, 5.0, "deadline_too_long"),
    ],
)
def test_law_2_the_deadline_stays_between_draining_and_pgbouncers_limit(
    deadline: float, drain: float, code: str | None
) -> None:
    planned = plan.next_step(view(), Wish("odoo", "paused", deadline, drain), Memory())
    assert getattr(planned, "code", None) == code


def test_law_2_what_a_client_has_waited_already_counts() -> None:
    """Also for a pause that is renewed."""
    for paused in (False, True):
        waited = dataclasses.replace(ODOO, paused=paused, longest_wait=28.5)
        refusal = refused(view(waited), PAUSED)
        assert refusal.code == "deadline_too_long"
        assert "after 60 s" in refusal.why
        assert "28.5 s" in refusal.why
        assert "29.5 s are left" in refusal.why
        planned = plan.next_step(view(waited), dataclasses.replace(PAUSED, deadline=29.5), Memory())
        assert isinstance(planned, Step)


def test_law_2_holds_where_pgbouncer_has_no_limit() -> None:
    assert isinstance(
        plan.next_step(view(limit=plan.LONGEST), dataclasses.replace(PAUSED, deadline=118.0), Memory()), Step
    )
    for limit in (plan.LONGEST, 1000.0):
        refusal = refused(view(limit=limit), dataclasses.replace(PAUSED, deadline=118.1))
        assert refusal.code == "deadline_too_long"


def test_what_was_accepted_is_not_refused_once_the_watchdog_stands() -> None:
    """Clients wait in the pause itself: that is what it is for."""
    waiting = dataclasses.replace(ODOO, paused=True, longest_wait=40.0)
    assert plan.next_step(view(waiting, watchdogs=(MINE,)), PAUSED, Memory("mine")) is None


def test_without_systemd_nothing_is_paused_but_resumed() -> None:
    assert refused(view(no_watchdog="systemd-run is not there"), PAUSED).code == "no_watchdog"
    paused = view(dataclasses.replace(ODOO, paused=True), no_watchdog="systemd-run is not there")
    step = plan.next_step(paused, ACTIVE, Memory())
    assert isinstance(step, Step)
    assert step.kind == "resume"


@pytest.mark.parametrize("dogs", [(), (dataclasses.replace(MINE, left=None),), (OLD,)], ids=["gone", "fired", "old"])
@pytest.mark.parametrize("paused", [False, True])
def test_law_1_a_watchdog_that_is_not_armed_is_none(dogs: tuple[Watchdog, ...], paused: bool) -> None:
    seen = view(dataclasses.replace(ODOO, paused=paused), watchdogs=dogs)
    assert refused(seen, PAUSED, Memory("mine", ("old",))).code == "watchdog_gone"


@pytest.mark.parametrize("own", [(), (MINE,)], ids=["disarmed", "armed"])
def test_law_6_a_younger_watchdog_is_left_alone(own: tuple[Watchdog, ...]) -> None:
    other = Watchdog("other", "odoo", 30.0)
    refusal = refused(view(watchdogs=(*own, OLD, other)), PAUSED, Memory("mine", ("old",)))
    assert refusal.code == "taken_over"
    assert "other was armed" in refusal.why
    # One that has fired does not come back.
    fired = dataclasses.replace(other, left=None)
    step = plan.next_step(view(watchdogs=(MINE, fired)), PAUSED, Memory("mine", ("old",)))
    assert step == Step("disarm", "disarm other", ("other",))


def test_law_6_a_pause_that_begins_after_ours_was_ended_is_left_alone() -> None:
    paused = dataclasses.replace(ODOO, paused=True)
    refusal = refused(view(paused, watchdogs=(OLD, MINE)), ACTIVE, Memory(ended=("old",)))
    assert (refusal.code, "mine was armed" in refusal.why) == ("taken_over", True)
    # Without a watchdog of its own it is the same pause, and RESUME did nothing.
    step = plan.next_step(view(paused, watchdogs=(OLD,)), ACTIVE, Memory(ended=("old",)))
    assert step == Step("resume", "RESUME odoo", ("old",))


def test_law_1_a_resume_leaves_watchdogs_that_it_has_not_ended() -> None:
    """Another run may be about to pause."""
    assert plan.next_step(view(watchdogs=(OLD, MINE)), ACTIVE, Memory()) is None
    step = plan.next_step(view(watchdogs=(OLD, MINE)), ACTIVE, Memory(ended=("old",)))
    assert step == Step("disarm", "disarm old", ("old",))


# -- what PgBouncer and systemd show -----------------------------------------------------------------------------------


def test_databases_are_read_with_the_sum_of_their_pools() -> None:
    databases: list[dict[str, str | None]] = [
        {"name": "odoo", "pool_mode": None, "paused": "1", "disabled": "0"},
        {"name": "postgres", "pool_mode": "session", "paused": "0", "disabled": "1"},
        {"name": "pgbouncer", "pool_mode": "statement", "paused": "0", "disabled": "0"},
    ]
    numbers = {"cl_active": "2", "cl_waiting": "4", "sv_active": "1", "sv_tested": "1", "sv_idle": "7"}
    pools = [
        {"database": "odoo", "user": "odoo", **numbers, "maxwait": "3", "maxwait_us": "500000"},
        {"database": "odoo", "user": "other", **numbers, "maxwait": "3", "maxwait_us": "4", "pool_mode": "session"},
        {"database": "postgres", "user": "odoo", **numbers},
    ]
    odoo, postgres = plan.databases_of(databases, pools, "transaction")
    assert odoo == Database("odoo", "transaction", True, False, ("other",), 4, 8, 4, 3.5)
    assert (postgres.pool_mode, postgres.disabled, postgres.servers_active) == ("session", True, 2)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"query_wait_timeout": "60", "query_timeout": "0", "pool_mode": "transaction"}, (60.0, "transaction")),
        ({"query_wait_timeout": "60", "query_timeout": "2.5"}, (2.5, "session")),
        ({"query_wait_timeout": "0", "query_timeout": "0"}, (plan.LONGEST, "session")),
    ],
)
def test_the_shorter_limit_counts(config: dict[str, str], found: tuple[float, str]) -> None:
    assert plan.settings_of([{"key": key, "value": value} for key, value in config.items()]) == found


@pytest.mark.parametrize("state", ["active", "paused", "suspended"])
def test_state_of_the_pooler(state: str) -> None:
    rows = [{"key": key, "value": "yes" if key == state else "no"} for key in ("active", "paused", "suspended")]
    assert plan.state_of(rows) == state


NAMES = ["odoo", "odoo-crm", "odoo-odoo", "a_b", "Ödoo é", "a*b?[c]", "50%$x", 'quo"te', "x:y"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_units_are_systemds_and_lead_back(name: str) -> None:
    unit = plan.unit_of(6432, name, 20.0004, "0a1b2c3d")
    assert all(char.isascii() and (char.isalnum() or char in ":-_.") for char in unit)
    shown = f"Id={unit}.timer\nActiveState=active\nSubState=waiting"
    assert plan.watchdogs_of(shown, 6432, 5.0) == (Watchdog(unit, name, 15.0),)
    assert plan.watchdogs_of(shown, 6433, 5.0) == ()


def shown_by_systemd(unit: str, timer: str, service: str) -> str:
    return (
        f"SubState={timer}\nId={unit}.timer\nActiveState={'inactive' if timer == 'dead' else 'active'}\n\n"
        f"Id={unit}.service\nActiveState={service}\nSubState={'start' if service == 'activating' else 'dead'}"
    )


@pytest.mark.parametrize(
    ("timer", "service", "seen"),
    [
        ("waiting", "inactive", True),
        # Its program waits for the deadline.
        ("elapsed", "activating", True),
        ("running", "activating", True),
        ("elapsed", "inactive", False),
        ("elapsed", "failed", False),
        ("dead", "inactive", False),
    ],
)
def test_watchdogs_as_systemd_shows_them(timer: str, service: str, seen: bool) -> None:
    unit = plan.unit_of(6432, "odoo", 40129.9, "ab")
    other = plan.unit_of(6432, "crm", 99999.0, "cd")
    text = shown_by_systemd(unit, timer, service) + "\n\n" + shown_by_systemd(other, "waiting", "inactive") + "\n"
    found = [one for one in plan.watchdogs_of(text, 6432, 40034.5) if one.database == "odoo"]
    assert [one.unit for one in found] == [unit] * seen
    if seen:
        assert found[0].left == pytest.approx(95.4)
        # Past its deadline it resumes at any moment, and protects nothing more.
        assert plan.watchdogs_of(text, 6432, 40130.0)[1].left is None


UNITS = ["x.timer", f"{plan.PREFIX}-6432-odoo.timer", f"{plan.PREFIX}-6432-odoo-1h-ab.timer", ".timer"]


@pytest.mark.parametrize("name", UNITS)
def test_other_units_are_no_watchdogs(name: str) -> None:
    assert plan.watchdogs_of(f"Id={name}\nActiveState=active\nSubState=waiting", 6432, 0.0) == ()
    assert plan.watchdogs_of("", 6432, 0.0) == ()
