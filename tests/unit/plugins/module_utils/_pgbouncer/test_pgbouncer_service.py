# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pause from its first look to its end, on a simulated host where anything may be killed or come in between."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
from pathlib import Path

import pytest
from pooler_host import SOCKETS, FakeDatabase, Host, Killed

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer import console
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.plan import Route


def failing(host: Host, script: Path, state: str = "paused", **more: t.Any) -> DedicatedError:
    with pytest.raises(DedicatedError) as caught:
        host.reconcile(script, state, **more)
    assert host.sessions == 0
    return caught.value


def test_a_pause_and_its_end(tmp_path: Path) -> None:
    host = Host()
    host.databases["odoo"].transactions = [host.now + 0.5]
    result = host.reconcile(tmp_path, "paused").as_result()
    assert (result["changed"], result["paused"], result["before"], result["after"]) == (
        True,
        True,
        {"paused": False},
        {"paused": True},
    )
    assert result["plan"] == ["arm a watchdog that resumes odoo in 30 s", "PAUSE odoo"]
    assert 0.3 < result["seconds"] < 0.6
    assert result["deadline_unit"].removesuffix(".timer") in host.timers
    assert 29 < result["resumes_in"] < 30
    assert (result["servers_active"], host.sessions, host.unguarded) == (0, 0, [])

    result = host.reconcile(tmp_path, "active").as_result()
    assert (result["changed"], result["paused"], result["deadline_unit"], result["seconds"]) == (
        True,
        False,
        None,
        None,
    )
    assert (host.timers, host.changes()) == ({}, ['PAUSE "odoo"', 'RESUME "odoo"'])
    again = host.reconcile(tmp_path, "active").as_result()
    assert (again["changed"], again["plan"], again["msg"]) == (False, [], "odoo is active already")
    assert len(host.changes()) == 2


def test_the_watchdogs_command_line(tmp_path: Path) -> None:
    """Accuracy, since systemd's own is a minute; no shell, no variables, no secret."""
    host = Host(databases={"a $b": FakeDatabase()})
    host.reconcile(tmp_path, "paused", database="a $b", deadline=12.5)
    armed = next(argv for argv in host.argvs if argv[0] == "systemd-run")
    assert {"--on-active=9.500s", "--timer-property=AccuracySec=50ms", "--collect"} < set(armed)
    script = tmp_path / "dedicated" / "resume.py"
    assert armed[-6:-1] == ["-I", str(script), "resume", "/run/dedicated/router/.s.PGSQL.6432", "a $$b"]
    (timer,) = host.timers.values()
    assert float(armed[-1]) == timer.at
    tried = host.argvs.index([*armed[-7:-4], "try", "/run/dedicated/router/.s.PGSQL.6432"])
    assert tried < host.argvs.index(armed)
    assert script.read_text() == Path(console.__file__).read_text()
    assert script.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in script.parent.iterdir()] == ["resume.py"]


def prepared(state: str) -> Host:
    """Before a run begins; "renewed" and "active" find a pause with its watchdog."""
    host = Host()
    host.databases["odoo"].transactions = [host.now + 0.3]
    if state != "paused":
        host.pause("odoo")
        host.arm("odoo", 10.0)
    return host


STATES = ["paused", "renewed", "active"]


def wish_of(state: str) -> str:
    return "active" if state == "active" else "paused"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("state", STATES)
def test_killed_anywhere_the_database_is_active_after_the_deadline(tmp_path: Path, state: str, when: str) -> None:
    whole = prepared(state)
    whole.reconcile(tmp_path, wish_of(state))
    assert whole.actions > 8
    for last in range(1, whole.actions + 1):
        for repeated in ("paused", "active", None):
            host = prepared(state)
            host.kill_at = (last, when)
            with pytest.raises(Killed):
                host.reconcile(tmp_path, wish_of(state))
            host.kill_at = None
            if repeated is not None:
                # The next run completes what was begun.
                host.reconcile(tmp_path, repeated)
                assert host.databases["odoo"].paused is (repeated == "paused")
                assert len(host.timers) == 1 or repeated == "active"
            host.sleep(30.1)
            assert not host.databases["odoo"].paused
            assert host.unguarded == []
            assert host.timers == {}


@pytest.mark.parametrize("other", ["paused", "active"])
@pytest.mark.parametrize("state", STATES)
def test_another_run_at_any_moment_leaves_no_pause_unwatched(tmp_path: Path, state: str, other: str) -> None:
    """It runs from its beginning to its end between two actions of ours."""
    whole = prepared(state)
    whole.reconcile(tmp_path, wish_of(state))
    for moment in range(1, whole.actions):
        host = prepared(state)

        def interrupt(host: Host, _what: str, moment: int = moment) -> None:
            if host.actions == moment:
                host.on_action = None
                host.reconcile(tmp_path, other)

        host.on_action = interrupt
        code = None
        try:
            host.reconcile(tmp_path, wish_of(state))
        except DedicatedError as exc:
            code = exc.details["code"]
        assert code in (None, "taken_over", "watchdog_gone", "no_effect")
        # Who came second is not disturbed by one that gives way.
        assert code is None or host.databases["odoo"].paused is (other == "paused")
        assert host.unguarded == []
        host.sleep(30.1)
        assert not host.databases["odoo"].paused


def test_a_pause_is_never_longer_than_its_deadline(tmp_path: Path) -> None:
    host = Host()
    host.reconcile(tmp_path, "paused", deadline=10.0)
    host.sleep(100)
    assert 9 < host.longest_pause <= 10
    assert host.reconcile(tmp_path, "active").as_result()["changed"] is False


def test_check_mode_predicts_and_touches_nothing(tmp_path: Path) -> None:
    for prepare in ([], ["pause"], ["pause", "arm"], ["arm"]):
        for state in ("paused", "active", "reconnected"):
            host = Host()
            other = host.arm("crm", 100.0)
            if "pause" in prepare:
                host.pause("odoo")
            if "arm" in prepare:
                host.arm("odoo", 20.0)
            timers = dict(host.timers)
            predicted = host.reconcile(tmp_path, state, check_mode=True).as_result()
            assert (host.changes(), host.timers) == ([], timers)
            assert [argv[:2] for argv in host.argvs] == [["systemctl", "show"]]
            real = host.reconcile(tmp_path, state).as_result()
            for key in ("changed", "plan", "paused", "before", "after", "msg"):
                assert real[key] == predicted[key]
            assert other in host.timers


def test_a_pause_is_renewed_without_a_moment_unwatched(tmp_path: Path) -> None:
    host = Host()
    host.reconcile(tmp_path, "paused")
    (first,) = host.timers
    host.sleep(20)
    result = host.reconcile(tmp_path, "paused").as_result()
    (second,) = host.timers
    assert (result["changed"], result["seconds"]) == (False, None)
    assert result["plan"] == ["arm a watchdog that resumes odoo in 30 s", f"disarm {first}"]
    assert (first != second, host.changes(), host.unguarded) == (True, ['PAUSE "odoo"'], [])
    host.sleep(20)
    assert host.databases["odoo"].paused


def test_renewing_does_not_let_clients_wait_beyond_pgbouncers_limit(tmp_path: Path) -> None:
    host = Host()
    host.reconcile(tmp_path, "paused", deadline=50.0)
    host.databases["odoo"].waiting = [host.now, host.now + 5]
    host.sleep(35)
    exc = failing(host, tmp_path, deadline=50.0)
    assert exc.details["code"] == "deadline_too_long"
    assert "one has waited for 35" in exc.msg
    # What was there stays as it was.
    assert (host.databases["odoo"].paused, len(host.timers)) == (True, 1)


def test_a_pause_by_hand_gets_a_watchdog(tmp_path: Path) -> None:
    host = Host()
    host.pause("odoo")
    result = host.reconcile(tmp_path, "paused").as_result()
    assert (result["changed"], host.changes(), len(host.timers)) == (False, [], 1)


def test_a_pause_by_hand_that_is_not_drained_is_waited_for(tmp_path: Path) -> None:
    host = Host()
    host.pause("odoo")
    host.databases["odoo"].transactions = [host.now + 2]
    result = host.reconcile(tmp_path, "paused").as_result()
    assert result["plan"][1:] == ["wait up to 5 s for the transactions on odoo"]
    assert (result["seconds"], result["servers_active"]) == (None, 0)


def test_transactions_that_do_not_end_take_the_pause_back(tmp_path: Path) -> None:
    host = Host()
    host.databases["odoo"].transactions = [host.now + 60] * 3
    host.databases["odoo"].waiting = [host.now] * 2
    exc = failing(host, tmp_path, drain_timeout=4.0)
    assert exc.details["code"] == "drain_timeout"
    assert (exc.details["servers_active"], exc.details["clients_waiting"]) == (3, 2)
    assert "after 4 s" in exc.msg
    assert (host.databases["odoo"].paused, host.timers) == (False, {})
    assert 4.0 <= host.longest_pause < 4.3
    assert host.unguarded == []


def test_another_paused_database_that_never_drains_does_not_matter(tmp_path: Path) -> None:
    """PgBouncer answers a PAUSE only when all paused databases are drained."""
    host = Host()
    host.databases["postgres"] = FakeDatabase("session", paused=True, transactions=[host.now + 1000])
    host.arm("postgres", 1000)
    result = host.reconcile(tmp_path, "paused").as_result()
    assert result["paused"]
    assert result["seconds"] < 1


def test_reconnect_is_always_a_change(tmp_path: Path) -> None:
    host = Host()
    for _run in range(2):
        assert host.reconcile(tmp_path, "reconnected").as_result()["msg"] == "RECONNECT odoo"
    assert host.changes() == ['RECONNECT "odoo"'] * 2


def test_names_are_quoted(tmp_path: Path) -> None:
    assert console.quoted('o"d-o') == '"o""d-o"'
    host = Host(databases={"Odoo-1": FakeDatabase()})
    host.reconcile(tmp_path, "paused", database="Odoo-1")
    assert host.changes() == ['PAUSE "Odoo-1"']


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["try", "systemd-run"])
def test_a_watchdog_that_cannot_be_armed_stops_everything(tmp_path: Path, word: str) -> None:
    host = Host(broken={word: "Failed to connect to bus"})
    exc = failing(host, tmp_path)
    assert exc.details["code"] == "watchdog_failed"
    assert "Failed to connect to bus" in exc.msg
    assert host.changes() == []


def test_without_systemd_nothing_is_paused_and_everything_resumed(tmp_path: Path) -> None:
    host = Host(systemd=False)
    assert failing(host, tmp_path).details["code"] == "no_watchdog"
    host.pause("odoo")
    assert host.reconcile(tmp_path, "active").as_result()["changed"]
    assert (host.argvs, host.databases["odoo"].paused) == ([], False)


def test_a_pgbouncer_that_is_not_there(tmp_path: Path) -> None:
    host = Host(reachable=False)
    for state in ("paused", "active", "reconnected"):
        assert failing(host, tmp_path, state).details["code"] == "unreachable"
    assert host.timers == {}


def test_pgbouncer_refuses_the_pause(tmp_path: Path) -> None:
    host = Host(refused={"PAUSE": "admin access needed"})
    exc = failing(host, tmp_path)
    assert exc.details["code"] == "no_effect"
    assert "admin access needed" in exc.msg
    assert (len(host.changes()), host.timers) == (1, {})


def test_pgbouncer_refuses_to_reconnect(tmp_path: Path) -> None:
    exc = failing(Host(refused={"RECONNECT": "admin access needed"}), tmp_path, "reconnected")
    assert (exc.details["code"], "admin access needed" in exc.msg) == ("refused_by_pgbouncer", True)


def test_pgbouncer_dies_in_the_pause_and_the_watchdog_stays(tmp_path: Path) -> None:
    """It cannot be known whether it is paused: who listens on that socket next may be the same process, thawed."""
    host = Host()

    def die(host: Host, what: str) -> None:
        host.reachable = not what.startswith("PAUSE") and host.reachable

    host.on_action = die
    exc = failing(host, tmp_path)
    (unit,) = host.timers
    assert exc.details == {"code": "unreachable", "deadline_unit": f"{unit}.timer"}
    assert f"{unit}.timer will end it" in exc.msg
    host.sleep(31)
    assert not host.databases["odoo"].paused


def test_a_resume_that_fails_on_the_way_back_leaves_the_watchdog(tmp_path: Path) -> None:
    host = Host(refused={"RESUME": "pooler is shutting down"})
    host.databases["odoo"].transactions = [host.now + 60]
    exc = failing(host, tmp_path)
    assert exc.details["code"] == "drain_timeout"
    assert "it is still paused" in exc.msg
    (unit,) = host.timers
    assert exc.details["deadline_unit"] == f"{unit}.timer"


def test_a_watchdog_that_fires_too_soon_is_no_pause(tmp_path: Path) -> None:
    """A host so busy that the deadline is over before the transactions have ended."""
    host = Host(cost=1.0)
    host.databases["odoo"].transactions = [host.now + 12]
    exc = failing(host, tmp_path, deadline=6.0)
    assert exc.details["code"] == "watchdog_gone"
    assert (host.databases["odoo"].paused, host.timers) == (False, {})


def test_a_resume_that_the_watchdog_wins(tmp_path: Path) -> None:
    host = Host()
    host.pause("odoo")
    raced: list[str] = []

    def fire(host: Host, what: str) -> None:
        if what == "SHOW STATE" and not raced:
            raced.append(what)
            host.resume("odoo")

    host.on_action = fire
    assert host.reconcile(tmp_path, "active").as_result()["paused"] is False
    assert raced


def test_somebody_who_resumes_at_once_is_not_fought(tmp_path: Path) -> None:
    host = Host()

    def meddle(host: Host, what: str) -> None:
        if what.startswith("PAUSE"):
            host.resume("odoo")

    host.on_action = meddle
    exc = failing(host, tmp_path)
    assert exc.details["code"] == "no_effect"
    assert (host.changes(), host.timers) == (['PAUSE "odoo"'], {})


def test_the_watchdog_of_another_run_is_left(tmp_path: Path) -> None:
    """It was armed between our first look and our PAUSE, and that run may have paused already."""
    host = Host()

    def other(host: Host, what: str) -> None:
        if what == "systemd-run" and len(host.timers) == 1:
            host.arm("odoo", 40.0)
            host.pause("odoo")

    host.on_action = other
    exc = failing(host, tmp_path)
    assert exc.details["code"] == "taken_over"
    assert host.databases["odoo"].paused
    assert len(host.timers) == 2
    assert host.unguarded == []


def test_a_resume_disarms_its_own_pauses_watchdogs_only(tmp_path: Path) -> None:
    host = Host()
    own, other = host.arm("odoo", 20.0), host.arm("crm", 20.0)
    result = host.reconcile(tmp_path, "active").as_result()
    assert (result["changed"], result["plan"], list(host.timers)) == (False, [], [own, other])
    host.pause("odoo")
    result = host.reconcile(tmp_path, "active").as_result()
    assert (result["changed"], result["plan"], list(host.timers)) == (True, ["RESUME odoo", f"disarm {own}"], [other])


def test_what_is_left_over_does_not_end_the_next_pause(tmp_path: Path) -> None:
    host = Host()
    host.arm("odoo", 1.0)
    host.databases["odoo"].transactions = [host.now + 0.5]
    host.reconcile(tmp_path, "paused")
    host.sleep(25)
    assert host.databases["odoo"].paused
    host.sleep(10)
    assert not host.databases["odoo"].paused


def test_info_shows_every_database(tmp_path: Path) -> None:
    host = Host(databases={"odoo": FakeDatabase(), "postgres": FakeDatabase("session")})
    host.reconcile(tmp_path, "paused")
    host.databases["odoo"].waiting = [host.now - 1.5]
    shown = host.info(tmp_path)
    odoo, postgres = shown["databases"]
    assert (shown["reachable"], shown["state"], shown["give_up_after"]) == (True, "active", 60.0)
    assert (odoo["paused"], odoo["clients_waiting"], odoo["deadline_unit"]) == (
        True,
        1,
        f"{next(iter(host.timers))}.timer",
    )
    assert odoo["longest_wait"] == pytest.approx(1.53, abs=0.05)
    assert 29 < odoo["resumes_in"] < 30
    assert (postgres["paused"], postgres["pool_mode"], postgres["resumes_in"]) == (False, "session", None)


def test_info_of_a_pgbouncer_that_does_not_answer(tmp_path: Path) -> None:
    shown = Host(reachable=False).info(tmp_path)
    assert (shown["reachable"], shown["databases"], "No such file" in shown["error"]) == (False, [], True)
    with pytest.raises(DedicatedError):
        Host(refused={"SHOW": "admin access needed"}).info(tmp_path)


# -- until the leader has moved ----------------------------------------------------------------------------------------

ROUTE = Route("/run/haproxy.sock", "postgres_leader", "db1")


def test_a_pause_that_follows_the_leader(tmp_path: Path) -> None:
    host = Host()
    done = host.reconcile(tmp_path, "paused", until_moved=ROUTE)
    assert [step.kind for step in done.steps] == ["arm", "pause", "follow"]
    [follower] = host.following
    assert follower[:3] == ["follow", f"{SOCKETS}/.s.PGSQL.6432", "odoo"]
    assert float(follower[3]) == pytest.approx(1030, abs=1)
    assert follower[4:] == ["/run/haproxy.sock", "postgres_leader", "db1"]
    assert host.databases["odoo"].paused
    assert host.timers


def test_a_leader_that_has_moved_already_ends_the_pause_and_it_is_not_begun_again(tmp_path: Path) -> None:
    host = Host(moved=True)
    done = host.reconcile(tmp_path, "paused", until_moved=ROUTE)
    assert not done.after.paused
    assert not host.databases["odoo"].paused
    assert host.changes().count('PAUSE "odoo"') == 1


def test_a_follower_that_cannot_be_started_takes_the_pause_back(tmp_path: Path) -> None:
    host = Host(broken={"follow": "no"})
    assert failing(host, tmp_path, until_moved=ROUTE).details["code"] == "watchdog_failed"
    assert not host.databases["odoo"].paused


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_anywhere_a_pause_that_follows_ends_at_its_deadline(tmp_path: Path, when: str) -> None:
    actions = _actions(tmp_path)
    for last in range(1, actions + 1):
        host = Host(kill_at=(last, when))
        with contextlib.suppress(Killed):
            host.reconcile(tmp_path, "paused", until_moved=ROUTE)
        host.sleep(31)
        assert not host.databases["odoo"].paused
        assert not host.unguarded


def _actions(script: Path) -> int:
    host = Host()
    host.reconcile(script, "paused", until_moved=ROUTE)
    return host.actions


@dataclasses.dataclass
class Awaited(Host):
    """A host whose gate is opened at a moment, or never."""

    gate: Path = Path("gate")
    opens: float | None = None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.opens is not None and self.now >= self.opens:
            self.gate.touch()
            self.opens = None


def test_a_pause_waits_at_its_gate_with_everything_ready(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    host = Awaited(gate=gate, opens=1010.0)
    result = host.reconcile(tmp_path, "paused", gate=str(gate)).as_result()
    assert result["plan"] == [
        "arm a watchdog that resumes odoo in 30 s",
        f"wait until {gate} is there",
        "PAUSE odoo",
    ]
    assert host.paused_since == pytest.approx(1010.1, abs=0.1)
    assert 19 < result["resumes_in"] < 20.5
    assert not list(tmp_path.glob("gate*"))


def test_a_gate_that_stays_closed_leaves_nothing(tmp_path: Path) -> None:
    host = Awaited(gate=tmp_path / "gate")
    error = failing(host, tmp_path, gate=str(host.gate))
    assert error.details["code"] == "gate_closed"
    assert (host.timers, host.changes(), host.databases["odoo"].paused) == ({}, [], False)
    # Time for the transactions was still left.
    assert host.now < 1000 + 30 - 5


def test_no_time_to_wait_at_the_gate_is_refused(tmp_path: Path) -> None:
    host = Awaited(gate=tmp_path / "gate")
    error = failing(host, tmp_path, gate=str(host.gate), deadline=7.0)
    assert error.details["code"] == "deadline_too_short"
    assert host.timers == {}


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_anywhere_a_pause_behind_a_gate_ends_at_its_deadline(tmp_path: Path, when: str) -> None:
    for last in range(1, 100):
        gate = tmp_path / f"gate{last}"
        host = Awaited(gate=gate, opens=1005.0, kill_at=(last, when))
        try:
            host.reconcile(tmp_path, "paused", gate=str(gate))
        except Killed:
            host.kill_at = None
            assert host.unguarded == []
            host.sleep(31)
            assert not host.databases["odoo"].paused
        else:
            assert last > 5
            return
    pytest.fail("it never came to its end")
