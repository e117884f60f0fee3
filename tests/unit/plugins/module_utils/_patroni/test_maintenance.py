# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pause that nobody can forget: every state, every interruption, hosts that go away, a second operator."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refuse,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni import maintenance_plan as mp
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import PatroniUnreachable, Reply
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.maintenance_service import MaintenanceService
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.plan import merged

NOW = 1_800_000_000
NAMES = ("a", "b", "c")


class Killed(Exception):
    """The module's process ends here."""


@dataclasses.dataclass
class World:
    """Time, what happens in it, and where the module is killed: before its n-th change."""

    now: float = float(NOW)
    kill_before: int | None = None
    changes: list[str] = dataclasses.field(default_factory=list)

    def change(self, what: str) -> None:
        if self.kill_before is not None and len(self.changes) >= self.kill_before:
            self.kill_before = None
            raise Killed
        self.changes.append(what)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclasses.dataclass
class Patroni:
    """The cluster's configuration, and members that take note of it a moment later."""

    world: World
    config: dict[str, t.Any] = dataclasses.field(default_factory=lambda: {"ttl": 30})
    dead: set[str] = dataclasses.field(default_factory=set)
    note_after: float = 2.0
    changed_at: float = 0.0
    statuses: list[int] = dataclasses.field(default_factory=list)
    lose_answer: bool = False
    deaf: bool = False
    noted: dict[str, bool] = dataclasses.field(default_factory=dict)

    @property
    def paused(self) -> bool:
        return bool(self.config.get("pause"))

    def api(self, url: str) -> Api:
        return Api(self, url.removeprefix("https://").removesuffix(":8008"))

    def says(self, name: str) -> bool:
        if self.world.now - self.changed_at >= self.note_after:
            self.noted[name] = self.paused
        return self.noted.get(name, False)


@dataclasses.dataclass
class Api:
    patroni: Patroni
    name: str

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        patroni = self.patroni
        if self.name in patroni.dead:
            raise PatroniUnreachable(f"{self.name}: no answer")
        if path == "/patroni":
            pause = {"pause": True} if patroni.says(self.name) else {}
            return Reply(200, json.dumps({"state": "running", **pause}).encode())
        if path == "/cluster":
            found = [
                {"name": one, "role": "replica", "state": "streaming", "api_url": f"https://{one}:8008/patroni"}
                for one in NAMES
            ]
            return Reply(200, json.dumps({"members": found, **({"pause": True} if patroni.paused else {})}).encode())
        if method == "PATCH":
            if patroni.statuses:
                return Reply(patroni.statuses.pop(0), b"no")
            patroni.world.change("pause" if data["pause"] else "resume")
            if not patroni.deaf:
                patroni.config = merged(patroni.config, data)
                patroni.changed_at = patroni.world.now
            if patroni.lose_answer:
                raise PatroniUnreachable("the answer is lost")
        return Reply(200, json.dumps(patroni.config).encode())


@dataclasses.dataclass
class Host:
    """A host's timer. ``tick`` is what the script on it does."""

    world: World
    patroni: Patroni
    name: str = "a"
    laid: mp.Timer | None = None
    runs: bool = False
    held: bool = False
    held_by_other: float = 0.0
    broken: bool = False
    lost_by: str = ""

    def now(self) -> float:
        return self.world.now

    def try_lock(self) -> bool:
        assert not self.held
        self.held = self.world.now >= self.held_by_other
        return self.held

    def unlock(self) -> None:
        self.held = False

    def timer(self) -> mp.Timer | None:
        if self.lost_by and self.lost_by in self.world.changes:
            self.laid, self.runs = None, False
        return self.laid

    def lay(self, record: mp.Record) -> None:
        assert self.held
        # As systemd: the files first, then the unit. One that runs already goes on, and its script reads the new end.
        self.laid = mp.Timer(record.until, False)
        self.world.change("lay")
        self.runs = not self.broken
        self.laid = mp.Timer(record.until, self.runs)

    def remove(self) -> None:
        assert self.held
        self.laid = self.laid and dataclasses.replace(self.laid, sound=False)
        self.runs = False
        self.world.change("remove")
        self.laid = None

    def tick(self) -> None:
        timer = self.timer()
        if timer is None or not self.runs or timer.until > self.world.now or self.name in self.patroni.dead:
            return
        record = mp.parse_record(self.patroni.config.get(mp.KEY))
        if self.patroni.paused and record is not None and record.until > self.world.now:
            return
        self.patroni.config = merged(self.patroni.config, {"pause": None, mp.KEY: None})
        self.laid, self.runs = None, False


@dataclasses.dataclass
class Lab:
    world: World
    patroni: Patroni
    hosts: dict[str, Host]

    def run(
        self, state: str = "paused", host: str = "a", operator: str = "alice", reason: str = "disk", **more: t.Any
    ) -> dict[str, t.Any]:
        check_mode = more.pop("check_mode", False)
        service = MaintenanceService(
            [self.patroni.api(f"https://{name}:8008") for name in NAMES],
            self.patroni.api,
            self.hosts[host],
            self.world,
            timeout=30,
            poll_interval=1,
        )
        try:
            return service.reconcile(mp.Wish(state, operator, reason, **more), check_mode).as_result()
        finally:
            self.check()

    def check(self) -> None:
        """The first law: somebody will end it."""
        record = mp.parse_record(self.patroni.config.get(mp.KEY))
        if self.patroni.paused and record is not None:
            assert any(one.laid is not None and one.runs for one in self.hosts.values())

    def wait(self, seconds: float) -> None:
        """Time passes; timers look every five minutes."""
        end = self.world.now + seconds
        while self.world.now < end:
            self.world.now = min(end, self.world.now + 300)
            for host in self.hosts.values():
                host.tick()


def lab(**more: t.Any) -> Lab:
    world = World()
    patroni = Patroni(world, **more)
    return Lab(world, patroni, {name: Host(world, patroni, name) for name in NAMES})


def refused(one: Lab, *args: t.Any, **more: t.Any) -> Refused:
    before = (dict(one.patroni.config), one.hosts["a"].laid)
    for check_mode in (True, False):
        with pytest.raises(Refused) as caught:
            one.run(*args, check_mode=check_mode, **more)
    assert (one.patroni.config, one.hosts["a"].laid) == before
    return caught.value


# -- the planner -------------------------------------------------------------------------------------------------------

MINE = mp.Record(NOW + 3600, NOW - 60, "alice", "disk")
RECORDS = (
    None,
    MINE,
    dataclasses.replace(MINE, until=NOW - 5),
    dataclasses.replace(MINE, operator="bob"),
    dataclasses.replace(MINE, reason="kernel"),
    dataclasses.replace(MINE, operator="bob", reason="kernel"),
)
TIMERS = (None, mp.Timer(NOW + 3600, True), mp.Timer(NOW + 3600, False), mp.Timer(NOW - 5, True))
LOOKS = [mp.Look(*each) for each in itertools.product((True, False), RECORDS, TIMERS)]


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("state", [mp.PAUSED, mp.RESUMED])
def test_from_every_state_and_after_every_prefix_it_gets_there(look: mp.Look, force: bool, state: str) -> None:
    wish = mp.Wish(state, "alice", "disk", 60, force)
    steps = mp.plan(look, wish, NOW)
    foreign = look.paused and (look.record is None or look.record == RECORDS[-1])
    assert isinstance(steps, Refuse) is (foreign and not force)
    if isinstance(steps, Refuse):
        return
    for length in range(len(steps) + 1):
        part = mp.after(look, steps[:length])
        if any(step.kind == mp.PAUSE for step in steps[:length]):
            assert part.timer is not None
            assert part.timer.sound
            assert abs(part.timer.until - part.record.until) <= mp.SLACK if part.record else False
        rest = mp.plan(part, wish, NOW + 20)
        assert not isinstance(rest, Refuse)
        end = mp.after(part, rest)
        assert mp.plan(end, wish, NOW + 40) == []
        if state == mp.PAUSED:
            assert end.paused
            assert end.record is not None
            assert (end.record.operator, end.record.reason) == ("alice", "disk")
            assert abs(end.record.until - (NOW + 3600)) <= mp.SLACK
        else:
            assert end == mp.Look(False, None, None)


@pytest.mark.parametrize("value", [None, "x", {}, {"until": 1}, {**MINE.as_config(), "until": True}, [MINE]])
def test_what_is_no_record_of_ours_is_none(value: t.Any) -> None:
    assert mp.parse_record(value) is None
    assert mp.parse_record(json.loads(json.dumps(MINE.as_config()))) == MINE


@pytest.mark.parametrize(
    ("config", "paused"),
    [({}, False), ({"pause": None}, False), ({"pause": False}, False), ({"pause": "off"}, False), ({"pause": 0}, False),
     ({"pause": True}, True), ({"pause": "on"}, True), ({"pause": 1}, True), ({"pause": "?"}, True)],
)  # fmt: skip
def test_only_a_clear_no_is_no_pause(config: dict[str, t.Any], paused: bool) -> None:
    assert mp.is_paused(config) is paused


@pytest.mark.parametrize(
    "more",
    [{"operator": ""}, {"reason": " "}, {"reason": "two\nlines"}, {"operator": "x" * 201}, {"reason": "\x1b[2J"}],
)
def test_whoever_pauses_says_who_and_why_in_a_line(more: dict[str, str]) -> None:
    assert refused(lab(), **more).refusal.code == "bad_text"


@pytest.mark.parametrize("minutes", [0, 4, 24 * 60 + 1, -60])
def test_a_pause_has_an_end_that_is_near(minutes: int) -> None:
    assert refused(lab(), minutes=minutes).refusal.code == "bad_expiry"


# -- pausing and resuming ----------------------------------------------------------------------------------------------


def test_a_pause_has_its_timer_first_and_all_members_know_it() -> None:
    one = lab()
    result = one.run()
    assert one.world.changes == ["lay", "pause"]
    assert one.patroni.config["pause"] is True
    assert one.patroni.config[mp.KEY] == {
        "until": NOW + 3600, "since": NOW, "operator": "alice", "reason": "disk",
    }  # fmt: skip
    assert result["changed"]
    assert (result["aware"], result["silent"]) == (list(NAMES), [])
    assert (result["operator"], result["reason"], result["until"]) == ("alice", "disk", mp.iso(NOW + 3600))
    assert result["before"]["paused"] is False
    assert result["after"]["timer"] == mp.iso(NOW + 3600)
    assert one.run()["changed"] is False


def test_every_host_lays_its_own_timer_and_one_pauses() -> None:
    one = lab()
    for name in NAMES:
        one.run(host=name)
        one.world.now += 5
    assert one.world.changes == ["lay", "pause", "lay", "lay"]
    assert not any(one.run(host=name)["changed"] for name in NAMES)


def test_nobody_resumes_and_the_timer_does() -> None:
    one = lab()
    for name in NAMES:
        one.run(host=name)
    one.patroni.dead = {"a", "b"}
    one.wait(3000)
    assert one.patroni.paused
    one.wait(900)
    assert not one.patroni.paused
    assert mp.KEY not in one.patroni.config
    one.patroni.dead = set()
    one.wait(600)
    assert [host.laid for host in one.hosts.values()] == [None] * 3


def test_pausing_again_renews_also_for_hosts_that_were_away() -> None:
    one = lab()
    for name in NAMES:
        one.run(host=name)
    one.wait(3000)
    renewed = one.run(host="a", minutes=120)
    assert renewed["changed"]
    assert (renewed["since"], renewed["plan"][0][:22]) == (mp.iso(NOW), "lay the timer down tha")
    one.wait(3600)
    assert one.patroni.paused, "the old timers of b and c do not end it"
    one.wait(5000)
    assert not one.patroni.paused


def test_resuming_ends_the_pause_before_the_timer_goes() -> None:
    one = lab()
    one.run()
    one.run(host="b")
    one.world.changes.clear()
    result = one.run("resumed")
    assert one.world.changes == ["resume", "remove"]
    assert (result["paused"], result["until"], one.hosts["a"].laid) == (False, None, None)
    assert result["before"]["reason"] == "disk"
    assert one.run("resumed", host="b")["plan"] == ["remove the timer from this host"]
    assert not one.run("resumed")["changed"]
    assert one.patroni.config == {"ttl": 30}


def test_check_mode_tells_and_changes_nothing() -> None:
    one = lab()
    result = one.run(check_mode=True)
    assert (one.world.changes, one.hosts["a"].laid, one.patroni.paused) == ([], None, False)
    assert (result["changed"], result["paused"], result["msg"][:29]) == (True, True, "Patroni would be paused by al")
    real = one.run()
    assert {**real, "msg": "", "aware": []} == {**result, "msg": "", "aware": []}


def test_a_pause_by_hand_belongs_to_whoever_made_it() -> None:
    one = lab(config={"ttl": 30, "pause": True})
    for state in ("paused", "resumed"):
        assert refused(one, state).refusal.code == "paused_by_hand"
    assert one.run(force=True)["changed"]
    assert one.run("resumed")["changed"]


@pytest.mark.parametrize("state", ["paused", "resumed"])
def test_a_pause_of_somebody_else_for_another_reason_is_left_to_them(state: str) -> None:
    one = lab()
    one.run()
    error = refused(one, state, operator="bob", reason="kernel")
    assert error.refusal.code == "paused_by_another"
    assert f"alice (disk) since {mp.iso(NOW)} until {mp.iso(NOW + 3600)}" in error.refusal.why
    assert error.details["before"]["operator"] == "alice"
    assert one.run(state, operator="bob", reason="kernel", force=True)["changed"]


@pytest.mark.parametrize(("operator", "reason"), [("bob", "disk"), ("alice", "kernel")])
def test_the_same_operator_or_reason_is_let_in(operator: str, reason: str) -> None:
    one = lab()
    one.run()
    result = one.run(operator=operator, reason=reason)
    assert (result["operator"], result["reason"], result["since"]) == (operator, reason, mp.iso(NOW))
    assert one.run("resumed", operator=operator, reason=reason)["changed"]


def test_a_record_that_is_left_over_is_no_pause() -> None:
    one = lab(config={mp.KEY: dataclasses.asdict(RECORDS[-1])})
    assert one.run()["since"] == mp.iso(NOW)
    one = lab(config={mp.KEY: dataclasses.asdict(RECORDS[-1])})
    assert one.run("resumed")["before"]["operator"] is None
    assert one.patroni.config == {}


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", range(3))
@pytest.mark.parametrize("first", [[], ["paused"], ["paused", "resumed"]])
@pytest.mark.parametrize("state", ["paused", "resumed"])
def test_killed_before_any_change_and_run_again(state: str, first: list[str], kill: int) -> None:
    one = lab()
    for each in first:
        one.run(each)
    one.world.now += 600
    one.world.changes.clear()
    one.world.kill_before = kill
    with contextlib.suppress(Killed):
        one.run(state)
    one.world.kill_before = None
    one.check()
    one.run(state)
    assert one.patroni.paused is (state == "paused")
    assert not one.run(state)["changed"]
    one.wait(5000)
    assert not one.patroni.paused
    assert one.hosts["a"].laid is None


@pytest.mark.parametrize("kill", range(3))
def test_killed_and_never_run_again_it_ends_by_itself(kill: int) -> None:
    one = lab()
    one.world.kill_before = kill
    with contextlib.suppress(Killed):
        one.run()
    one.wait(5000)
    assert not one.patroni.paused
    assert not one.hosts["a"].runs


def test_without_a_timer_nothing_is_paused() -> None:
    one = lab()
    one.hosts["a"].broken = True
    with pytest.raises(DedicatedError) as caught:
        one.run()
    assert caught.value.details["code"] == "timer_not_seen"
    assert (one.world.changes, one.patroni.paused) == (["lay"], False)


def test_a_timer_that_is_lost_ends_the_pause() -> None:
    one = lab()
    one.hosts["a"].lost_by = "pause"
    with pytest.raises(DedicatedError) as caught:
        one.run()
    assert caught.value.details["code"] == "timer_lost"
    assert (one.world.changes, one.patroni.paused) == (["lay", "pause", "resume"], False)


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_refused_write_is_told(status: int) -> None:
    one = lab(statuses=[status] * 3)
    with pytest.raises(DedicatedError, match=f"refused with {status}") as caught:
        one.run()
    assert (caught.value.details["code"], one.patroni.paused) == ("patch_refused", False)
    one.wait(5000)
    assert one.hosts["a"].laid is None


def test_somebody_else_wrote_at_the_same_moment() -> None:
    one = lab(statuses=[409])
    assert one.run()["paused"]


def test_a_lost_answer_is_replaced_by_looking() -> None:
    one = lab(lose_answer=True)
    assert one.run()["paused"]
    one = lab(lose_answer=True, deaf=True)
    with pytest.raises(DeadlineError, match="Patroni says that it is not paused"):
        one.run()


def test_a_write_that_was_only_said_is_noticed() -> None:
    one = lab(deaf=True)
    with pytest.raises(DeadlineError, match="not paused"):
        one.run()
    one = lab()
    one.run()
    one.patroni.deaf = True
    with pytest.raises(DeadlineError, match="still says that it is paused"):
        one.run("resumed")
    assert one.hosts["a"].laid is not None, "the timer stays as long as the pause"


def test_members_that_are_away_are_named_and_the_slow_are_waited_for() -> None:
    one = lab(dead={"a"}, note_after=10)
    result = one.run()
    assert (result["aware"], result["silent"]) == (["b", "c"], ["a"])
    assert one.world.now >= NOW + 10
    one = lab(note_after=10_000)
    with pytest.raises(DeadlineError, match="a, b, c did not take note yet"):
        one.run()


def test_a_silent_cluster_is_reported() -> None:
    one = lab(dead=set(NAMES))
    with pytest.raises(DeadlineError, match="a: no answer"):
        one.run()
    assert one.world.changes == []


def test_the_lock_is_waited_for_and_given_back() -> None:
    one = lab()
    one.hosts["a"].held_by_other = NOW + 5
    assert one.run()["paused"]
    assert not one.hosts["a"].held
    one.hosts["a"].held_by_other = NOW + 10_000
    with pytest.raises(DeadlineError, match="held"):
        one.run()


def test_a_pause_taken_over_while_it_was_made_is_told() -> None:
    one = lab(note_after=5)
    sleep = one.world.sleep

    def steal(seconds: float) -> None:
        sleep(seconds)
        one.patroni.config[mp.KEY] = dataclasses.asdict(RECORDS[-1])

    one.world.sleep = steal  # type: ignore[method-assign]
    with pytest.raises(DeadlineError, match=r"the pause is that of bob \(kernel\)"):
        one.run()
