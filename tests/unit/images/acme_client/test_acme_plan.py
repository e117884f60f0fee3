# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The law of public certificates, part by part, and through every interruption of two edges."""

from __future__ import annotations

import dataclasses
import itertools
import random
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "images" / "acme-client"))

from client import plan

NOW = 1_800_000_000.0
LIFE = 90 * plan.DAY
SET = plan.Settings(("shop.example",), "https://acme/dir", "https://staging/dir")
MARK = SET.mark


def certificate(age_days: float = 1, serial: str = "01", mark: str = MARK) -> plan.Certificate:
    begun = NOW - age_days * plan.DAY
    return plan.Certificate(serial, mark, begun, begun + LIFE)


def attempt(hours_ago: float, kind: str = plan.ORDER, result: str = plan.FAILED, **more: t.Any) -> plan.Attempt:
    return plan.Attempt(NOW - hours_ago * plan.HOUR, kind, **{"mark": MARK, **more}, result=result)


def decide(here: plan.Here, store: plan.Store | None, settings: plan.Settings = SET) -> plan.Action:
    return plan.decide(settings, here, store, NOW)


REHEARSED = (attempt(1, plan.REHEARSAL, plan.DONE),)


def test_nothing_without_the_store() -> None:
    for installed, pending in itertools.product((None, certificate(89)), (None, certificate())):
        assert decide(plan.Here("a", installed, pending), None) == plan.Wait("no-store")


def test_first_leads_then_rehearses_then_orders() -> None:
    here = plan.Here("a")
    assert decide(here, plan.Store()) == plan.Lead()
    assert decide(here, plan.Store(holder="b")) == plan.Wait("other-leads")
    assert decide(here, plan.Store(holder="a")) == plan.Ask(plan.REHEARSAL, "https://staging/dir")
    assert decide(here, plan.Store(holder="a", attempts=REHEARSED)) == plan.Ask(plan.ORDER, "https://acme/dir")
    direct = dataclasses.replace(SET, staging="")
    assert decide(here, plan.Store(holder="a"), direct) == plan.Ask(plan.ORDER, "https://acme/dir")


@pytest.mark.parametrize("holder", ["", "a", "b"])
def test_what_is_published_is_installed_by_everybody(holder: str) -> None:
    new, old = certificate(1, "02"), certificate(61, "01")
    assert decide(plan.Here("a", old), plan.Store(new, holder)) == plan.Install("02")
    assert decide(plan.Here("a"), plan.Store(new, holder)) == plan.Install("02")


def test_what_is_worse_is_never_installed() -> None:
    for bad in (certificate(91), certificate(-1), certificate(mark="other"), certificate(40, "02")):
        for holder in ("", "a", "b"):
            done = decide(plan.Here("a", certificate(3)), plan.Store(bad, holder))
            assert not isinstance(done, plan.Install | plan.Ask)


def test_what_was_issued_is_published_and_not_ordered_again() -> None:
    here = plan.Here("a", certificate(70), certificate(0, "02"))
    store = plan.Store(certificate(70))
    assert decide(here, store) == plan.Lead()
    assert decide(here, dataclasses.replace(store, holder="a")) == plan.Publish("02")
    assert decide(here, dataclasses.replace(store, holder="b")) == plan.Wait("other-leads")
    overtaken = dataclasses.replace(here, installed=certificate(0, "03"))
    assert decide(overtaken, plan.Store(certificate(0, "03"))) == plan.Drop("02")


def test_a_new_store_gets_what_is_installed() -> None:
    assert decide(plan.Here("a", certificate()), plan.Store()) == plan.Lead()
    assert decide(plan.Here("a", certificate()), plan.Store(holder="a")) == plan.Publish("01")
    assert decide(plan.Here("a", certificate()), plan.Store(certificate(9, "00"), "a")) == plan.Publish("01")


def test_an_edge_that_cannot_read_gets_a_copy() -> None:
    store = plan.Store(certificate(), "a", readers=frozenset("a"), edges=frozenset("ab"))
    assert decide(plan.Here("a", certificate()), store) == plan.Publish("01")
    served = decide(plan.Here("a", certificate()), dataclasses.replace(store, readers=frozenset("ab")))
    assert isinstance(served, plan.Nothing)


def test_who_cannot_read_waits_for_the_others_unless_alone() -> None:
    here = plan.Here("b", reads=False, unread_since=NOW - plan.PATIENCE + 1)
    assert decide(here, plan.Store(certificate(), edges=frozenset("ab"))) == plan.Wait("sealed-for-others")
    alone = plan.Store(certificate(), "b", REHEARSED, edges=frozenset("b"))
    assert decide(here, alone) == plan.Ask(plan.ORDER, "https://acme/dir")
    # Nobody came: the others are dead, or cannot read it themselves.
    long_ago = dataclasses.replace(here, unread_since=NOW - plan.PATIENCE)
    lost = plan.Store(certificate(), "b", REHEARSED, edges=frozenset("ab"))
    assert decide(long_ago, lost) == plan.Ask(plan.ORDER, "https://acme/dir")
    # What serves meanwhile goes on, and is published for those who come.
    serving = dataclasses.replace(long_ago, installed=certificate(40, "00"))
    assert decide(serving, lost) == plan.Publish("00")


def test_what_was_issued_here_is_sealed_anew_when_nobody_can_read_it_any_more() -> None:
    """It was published, the host died, and both edges' own certificates were renewed before anybody took it."""
    here = plan.Here("a", certificate(61), certificate(0, "02"), reads=False, unread_since=NOW)
    store = plan.Store(certificate(0, "02"), "a", readers=frozenset("xy"), edges=frozenset("ab"))
    assert decide(here, store) == plan.Publish("02")


def test_what_traefik_lost_is_given_to_it_whatever_the_store_says() -> None:
    here = plan.Here("a", kept=certificate(), reads=False, unread_since=NOW)
    for store in (None, plan.Store(), plan.Store(certificate(), "b", edges=frozenset("ab"))):
        assert decide(here, store) == plan.Give("01")
    over = dataclasses.replace(here, kept=certificate(91))
    assert decide(over, None) == plan.Wait("no-store")


def test_what_is_not_valid_yet_is_waited_for() -> None:
    """Our clock is behind the server's, which does not date back."""
    early = dataclasses.replace(certificate(0, "02"), not_before=NOW + 20)
    for holder in ("", "a", "b"):
        done = decide(plan.Here("a", certificate(61), early), plan.Store(certificate(61), holder))
        assert done == plan.Wait("not-yet-valid", NOW + 20)


def test_while_it_is_due_and_not_to_be_had_a_new_edge_gets_the_present_one() -> None:
    failed = (attempt(0.1),)
    store = plan.Store(certificate(70), "a", failed, readers=frozenset("a"), edges=frozenset("ab"))
    assert decide(plan.Here("a", certificate(70)), store) == plan.Publish("01")


def test_an_order_that_brings_no_more_life_was_not_worth_it() -> None:
    """An authority whose own end is near."""
    made = certificate(30, "02")
    assert not plan.useful(SET, made, (certificate(30), None), NOW)
    assert not plan.useful(SET, certificate(91), (), NOW)
    assert not plan.useful(SET, certificate(mark="other"), (), NOW)
    assert plan.useful(SET, made, (certificate(31), None), NOW)
    assert plan.useful(SET, made, (certificate(1, mark="other"), certificate(91)), NOW)


def test_renewal_is_due_with_a_third_left_or_a_little_earlier() -> None:
    drawn = set()
    for name, serial in itertools.product("abcdef", ("01", "02", "03")):
        left = certificate(0, serial).not_after - plan.due_at(SET, certificate(0, serial), name)
        assert LIFE / 3 <= left <= LIFE * (1 / 3 + 0.05)
        drawn.add(left)
    assert len(drawn) == 18
    assert isinstance(decide(plan.Here("a", certificate(54)), plan.Store(certificate(54), "a")), plan.Nothing)
    due = plan.Store(certificate(61), "a", (attempt(24 * 61, result=plan.DONE),))
    assert decide(plan.Here("a", certificate(61)), due) == plan.Ask(plan.ORDER, "https://acme/dir")


@pytest.mark.parametrize("result", [plan.FAILED, plan.OPEN])
@pytest.mark.parametrize(("failures", "hours"), [(1, 1), (2, 2), (3, 4)])
def test_waits_double(result: str, failures: int, hours: float) -> None:
    for ago, waits in ((hours - 0.1, True), (hours + 0.1, False)):
        row = tuple(attempt(ago + 30 * n, result=result) for n in reversed(range(failures)))
        done = decide(plan.Here("a"), plan.Store(holder="a", attempts=row))
        if waits:
            assert done == plan.Wait("after-failure", pytest.approx(NOW + 0.1 * plan.HOUR))
        else:
            assert done == plan.Ask(plan.REHEARSAL, "https://staging/dir"), "after a failure it is rehearsed"


def test_the_server_may_ask_for_more() -> None:
    row = (attempt(5, hold_until=NOW + 60),)
    assert decide(plan.Here("a"), plan.Store(holder="a", attempts=row)) == plan.Wait("after-failure", NOW + 60)


def test_new_settings_free_from_waiting_but_not_from_the_week() -> None:
    failed = (attempt(0.1, mark="former"),)
    assert isinstance(decide(plan.Here("a"), plan.Store(holder="a", attempts=failed)), plan.Ask)
    week = tuple(attempt(20 + n, result=plan.DONE, mark="former") for n in (3, 2, 1, 0))
    limited = plan.Wait("weekly-limit", NOW - 23 * plan.HOUR + plan.WEEK)
    assert decide(plan.Here("a"), plan.Store(holder="a", attempts=week)) == limited
    assert decide(plan.Here("a"), plan.Store(attempts=week)) == limited, "nobody leads in order to wait"


def test_a_clock_that_was_ahead_holds_nothing_up() -> None:
    for later in range(0, 30 * 24, 6):
        row = (attempt(-25 * 24, hold_until=NOW + 26 * plan.DAY),)
        now = NOW + later * plan.HOUR
        done = plan.decide(SET, plan.Here("a"), plan.Store(holder="a", attempts=row), now)
        # Until its moment has come, nobody knows that it has passed.
        if now < row[0].at - plan.APART or now > row[0].at + plan.DAY:
            assert isinstance(done, plan.Ask)
    slightly = decide(plan.Here("a"), plan.Store(holder="a", attempts=(attempt(-0.05),)))
    assert slightly == plan.Wait("after-failure", pytest.approx(NOW + 1.05 * plan.HOUR))


def test_what_the_server_asked_for_has_an_end() -> None:
    row = (attempt(25, hold_until=NOW + plan.WEEK),)
    assert isinstance(decide(plan.Here("a"), plan.Store(holder="a", attempts=row)), plan.Ask)


@dataclasses.dataclass
class World:
    """Two edges, the store, a directory; whatever an edge does may be cut off between any two steps. Now and then the
    internal authority renews an edge's own certificate, or Traefik loses its file."""

    chance: random.Random
    now: float = NOW
    store: plan.Store = dataclasses.field(default_factory=plan.Store)
    own: dict[str, str] = dataclasses.field(default_factory=lambda: {n: n for n in "ab"})
    unread: dict[str, float] = dataclasses.field(default_factory=dict)
    edges: dict[str, plan.Here] = dataclasses.field(default_factory=lambda: {n: plan.Here(n) for n in "ab"})
    orders: list[float] = dataclasses.field(default_factory=list)
    serial: int = 0
    trouble: float = 0.4

    def put(self, **changes: t.Any) -> None:
        self.store = dataclasses.replace(self.store, **changes)

    def cut(self) -> bool:
        return self.chance.random() < self.trouble

    def close(self, result: str) -> None:
        last = self.store.attempts[-1]
        self.put(attempts=(*self.store.attempts[:-1], dataclasses.replace(last, result=result)))

    def ask(self, name: str, action: plan.Ask) -> None:
        assert self.store.holder == name
        self.put(attempts=(*self.store.attempts, plan.Attempt(self.now, action.kind, MARK)))
        if self.cut():
            return
        if action.kind == plan.ORDER:
            self.orders.append(self.now)
        if self.cut():
            self.close(plan.FAILED)
            return
        if action.kind == plan.ORDER:
            self.serial += 1
            made = plan.Certificate(str(self.serial), MARK, self.now, self.now + LIFE)
            self.edges[name] = dataclasses.replace(self.edges[name], pending=made)
            if self.cut():
                return
        self.close(plan.DONE)

    def befalls(self, name: str) -> None:
        if self.chance.random() < self.trouble / 40:
            self.own[name] += "'"
        if self.chance.random() < self.trouble / 40:
            self.edges[name] = dataclasses.replace(self.edges[name], installed=None)

    def look(self, name: str) -> plan.Here:
        self.put(edges=frozenset(self.own.values()))
        reads = self.store.published is None or self.own[name] in self.store.readers
        if reads:
            self.unread.pop(name, None)
        since = self.unread.setdefault(name, self.now) if not reads else 0.0
        return dataclasses.replace(self.edges[name], reads=reads, unread_since=since)

    def step(self, name: str) -> plan.Action:
        here = self.edges[name] = self.look(name)
        action = plan.decide(SET, here, None if self.cut() else self.store, self.now)
        if isinstance(action, plan.Lead):
            assert not self.store.holder
            self.put(holder=name)
        elif isinstance(action, plan.Install):
            assert self.store.published is not None
            assert here.reads
            self.edges[name] = dataclasses.replace(here, installed=self.store.published, kept=self.store.published)
        elif isinstance(action, plan.Give):
            self.edges[name] = dataclasses.replace(here, installed=here.kept)
        elif isinstance(action, plan.Publish):
            assert self.store.holder == name
            given = here.pending or here.installed
            assert given is not None
            assert given.serial == action.serial
            self.put(published=given, readers=self.store.edges)
            if not self.cut():
                self.edges[name] = dataclasses.replace(here, pending=None)
        elif isinstance(action, plan.Drop):
            self.edges[name] = dataclasses.replace(here, pending=None)
        elif isinstance(action, plan.Ask):
            self.ask(name, action)
        return action

    def turn(self, name: str) -> None:
        for _look in range(8):
            if isinstance(self.step(name), plan.Nothing | plan.Wait) or self.cut():
                break
        if self.store.holder == name:
            self.put(holder="")


@pytest.mark.parametrize("seed", range(30))
def test_interrupted_anywhere_the_edges_end_up_alike_and_within_the_limits(seed: int) -> None:
    world = World(random.Random(seed))
    for _turn in range(24 * 4 * 30):
        world.now += plan.HOUR / 4
        before = {name: here.kept for name, here in world.edges.items()}
        one = world.chance.choice("ab")
        world.befalls(one)
        world.turn(one)
        for name, former in before.items():
            there = world.edges[name].kept
            assert former is None or (there is not None and there.not_after >= former.not_after)
    for begun in world.orders:
        assert sum(begun <= one < begun + plan.WEEK for one in world.orders) <= SET.weekly
    world.trouble = 0.0
    world.now += plan.WEEK
    for name in "abababab":
        world.turn(name)
        world.now += plan.PATIENCE
    assert world.edges["a"].installed == world.edges["b"].installed == world.store.published
    assert world.store.published is not None


def test_years_cost_an_order_every_two_months() -> None:
    world = World(random.Random(1), trouble=0.0)
    for _turn in range(24 * 365 * 2):
        world.now += plan.HOUR
        world.turn("a")
        world.turn("b")
    assert 11 <= len(world.orders) <= 14
    assert [one.kind for one in world.store.attempts].count(plan.REHEARSAL) == 1


@pytest.mark.parametrize(
    "wrong", [{"domains": ()}, {"directory": ""}, {"renew_left": 1}, {"jitter": 0.7}, {"weekly": 0}]
)
def test_settings_that_make_no_sense(wrong: dict[str, t.Any]) -> None:
    with pytest.raises(ValueError, match=r"needed|weekly"):
        dataclasses.replace(SET, **wrong)
