# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs and one host: every order of their steps, and every step cut off."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import errno
import functools
import itertools
import os
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._operation import io, plan, service

NOW = 1_800_000_000
A = plan.Run("ctl1", "a" * 16, "boot-1", plan.MACHINE_NAMESPACE, 100, 5000)
B = dataclasses.replace(A, pid=200, start=6000)


def wish(run: plan.Run, **changes: t.Any) -> plan.Wish:
    return dataclasses.replace(plan.Wish(run, "acme", "patch", "ann", "kernel", ttl=600), **changes)


class Memory:
    """A host's lock in memory; what is written must be readable."""

    def __init__(self) -> None:
        self.seconds = NOW
        self.found: plan.Found = plan.Free()
        self.guarded = False
        self.writes = 0

    def now(self) -> int:
        return self.seconds

    def look(self) -> plan.Found:
        return self.found

    @contextlib.contextmanager
    def alone(self) -> t.Iterator[None]:
        assert not self.guarded
        self.guarded = True
        try:
            yield
        finally:
            self.guarded = False

    def _write(self, found: plan.Found) -> None:
        assert self.guarded
        self.writes += 1
        self.found = found

    def create(self, content: str) -> bool:
        if not isinstance(self.found, plan.Free):
            return False
        self._write(plan.parse("memory", content))
        return True

    def replace(self, content: str) -> None:
        assert isinstance(self.found, plan.Lock)
        self._write(plan.parse("memory", content))

    def remove(self) -> None:
        assert isinstance(self.found, plan.Lock)
        self._write(plan.Free())


def attempt(call: collections.abc.Callable[[], service.Outcome]) -> service.Outcome | DedicatedError:
    """The outcome or the failure."""
    try:
        return call()
    except DedicatedError as exc:
        return exc


def code(told: service.Outcome | DedicatedError) -> str:
    """The failure's code, empty for an outcome."""
    return str(told.details["code"]) if isinstance(told, DedicatedError) else ""


def refused(call: collections.abc.Callable[[], service.Outcome]) -> str:
    told = code(attempt(call))
    assert told
    return told


# Outcomes


def test_take_renew_release() -> None:
    place = Memory()
    first = service.hold(place, wish(A))
    assert (first.held, first.acquired, first.lock["since"], first.lock["expires"]) == (True, True, NOW, NOW + 600)
    place.seconds += 60
    again = service.hold(place, wish(A))
    assert (again.held, again.acquired, again.lock["since"], again.lock["expires"]) == (True, False, NOW, NOW + 660)
    assert (again.lock["age"], again.lock["expires_in"]) == (60, 600)
    done = service.release(place, A)
    assert (done.held, done.released, done.lock) == (False, True, {})
    nothing = service.release(place, A)
    assert (nothing.released, nothing.msg) == (False, "There was no lock.")
    for outcome in (first, again, done, nothing):
        assert outcome.as_result()["changed"] is False
        assert outcome.taken_over_from == {}


@pytest.mark.parametrize(
    ("later", "dead", "named", "why", "says"),
    [
        (600, (), (), "expired", "had expired"),
        (0, (A.id,), (), "dead", "is over"),
        (0, (), (A.id,), "broken", "given up"),
    ],
)
def test_taking_over(later: int, dead: tuple[str, ...], named: tuple[str, ...], why: str, says: str) -> None:
    place = Memory()
    service.hold(place, wish(A, operator="bob"))
    place.seconds += later
    me = wish(B, break_lock=named)
    foretold = service.look(place, me, dead, acquires=True)
    assert (foretold.held, foretold.acquired, foretold.lock["id"]) == (False, True, A.id)
    done = service.hold(place, me, dead)
    assert (done.held, done.acquired, done.lock["id"]) == (True, True, B.id)
    assert done.taken_over_from == foretold.taken_over_from
    assert (done.taken_over_from["why"], done.taken_over_from["operator"]) == (why, "bob")
    assert says in done.msg
    # The first one learns it as soon as it asks.
    assert refused(lambda: service.hold(place, wish(A))) == "operation_running"
    assert not service.release(place, A).released
    assert isinstance(place.found, plan.Lock)


def test_the_death_of_another_run_ends_nothing() -> None:
    place = Memory()
    service.hold(place, wish(A))
    assert refused(lambda: service.hold(place, wish(B), ["f" * 16])) == "operation_running"


def test_a_refusal_carries_the_lock() -> None:
    place = Memory()
    service.hold(place, wish(A))
    place.seconds += 5
    with pytest.raises(Refused) as caught:
        service.hold(place, wish(B))
    assert caught.value.details["lock"] == plan.public(t.cast(plan.Lock, place.found), NOW + 5)
    assert place.writes == 1
    place.found = plan.Bad("memory", "is no lock")
    with pytest.raises(Refused) as caught:
        service.hold(place, wish(A))
    assert (caught.value.details["code"], caught.value.details["lock"]) == ("bad_lock", {})


@pytest.mark.parametrize("before", ["free", "mine", "others", "over", "bad"])
def test_looking_and_check_mode_write_nothing(before: str) -> None:
    place = Memory()
    if before != "free":
        service.hold(place, wish(A if before == "mine" else B))
    if before == "over":
        place.seconds += 601
    if before == "bad":
        place.found = plan.Bad("memory", "is no lock")
    writes = place.writes
    released = service.release(place, A, dry=True)
    assert released.released is (before == "mine")
    for acquires in (True, False):
        told = attempt(functools.partial(service.look, place, wish(A), (), acquires))
        assert code(told) == {"others": "operation_running", "bad": "bad_lock"}.get(before, "")
        if isinstance(told, service.Outcome):
            assert (told.held, told.acquired) == (before == "mine", acquires and before != "mine")
            assert bool(told.taken_over_from) is (before == "over")
    assert place.writes == writes


def test_one_who_does_not_go_through_the_guard_is_seen() -> None:
    class Rude(Memory):
        def create(self, content: str) -> bool:
            if self.writes == 0:
                self._write(plan.Lock(B, "site", "bob", "", "acme", NOW, NOW + 600))
            return super().create(content)

    assert refused(lambda: service.hold(Rude(), wish(A))) == "operation_running"

    class Overwritten(Memory):
        def create(self, content: str) -> bool:
            super().create(content)
            self.found = plan.Lock(B, "site", "bob", "", "acme", NOW, NOW + 600)
            return True

    assert refused(lambda: service.hold(Overwritten(), wish(A))) == "not_taken"

    class Stays(Memory):
        def remove(self) -> None:
            pass

    place = Stays()
    service.hold(place, wish(A))
    assert refused(lambda: service.release(place, A)) == "not_taken"


# Two runs


class World:
    """One host, two runs, and what each of them was told last."""

    def __init__(self) -> None:
        self.place = Memory()
        self.until: dict[str, int] = {}
        self.dead: set[str] = set()

    def step(self, who: plan.Run, what: str) -> None:
        if what == "wait":
            self.place.seconds += 400
        elif who.id not in self.dead:
            getattr(self, what)(who)
        believing = [one for one in (A, B) if self.holds(one)]
        assert len(believing) <= 1
        for one in believing:
            assert isinstance(self.place.found, plan.Lock)
            assert self.place.found.run == one

    def holds(self, who: plan.Run) -> bool:
        return who.id not in self.dead and self.until.get(who.id, 0) > self.place.seconds

    def hold(self, who: plan.Run) -> None:
        free = not self.holds(B if who is A else A)
        told = attempt(lambda: service.hold(self.place, wish(who), self.dead))
        # Nobody is kept away from a host that nobody has.
        assert code(told) == ("" if free else "operation_running")
        if isinstance(told, service.Outcome):
            self.until[who.id] = told.lock["expires"]
        else:
            self.until.pop(who.id, None)

    def release(self, who: plan.Run) -> None:
        mine = isinstance(self.place.found, plan.Lock) and self.place.found.run == who
        assert service.release(self.place, who).released is mine
        self.until.pop(who.id, None)

    def die(self, who: plan.Run) -> None:
        self.dead.add(who.id)


STEPS: tuple[tuple[plan.Run, str], ...] = (
    (A, "wait"),
    *((who, what) for who in (A, B) for what in ("hold", "release", "die")),
)


def test_every_order_of_the_steps_of_two_runs() -> None:
    # Until somebody takes it nothing happens, and which of the two that is makes no difference.
    for rest in itertools.product(STEPS, repeat=4):
        world = World()
        for who, what in ((A, "hold"), *rest):
            world.step(who, what)


def test_many_at_once_and_one_has_it(tmp_path: pathlib.Path) -> None:
    runs = [dataclasses.replace(A, pid=100 + number) for number in range(6)]
    start = threading.Barrier(len(runs))
    told: dict[str, str] = {}

    def work(run: plan.Run) -> None:
        start.wait()
        told[run.id] = code(attempt(lambda: service.hold(io.Place(str(tmp_path / "lock")), wish(run))))

    threads = [threading.Thread(target=work, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told.values()) == ["", *["operation_running"] * 5]
    found = io.Place(str(tmp_path / "lock")).look()
    assert isinstance(found, plan.Lock)
    assert told[found.run.id] == ""


# Cut off


class Killed(BaseException):
    """The task's process is gone."""


class Cut:
    """The system up to the step ``at``: there the disk is full, or the process dies and does nothing more."""

    def __init__(self, at: int, how: str = "", meanwhile: collections.abc.Callable[[], None] | None = None) -> None:
        self.at, self.how, self.meanwhile, self.calls = at, how, meanwhile, 0

    def __getattr__(self, name: str) -> t.Any:
        def call(*args: t.Any) -> t.Any:
            self.calls += 1
            if self.calls == self.at and self.meanwhile is not None:
                self.meanwhile()
            if self.how == "full" and self.calls == self.at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self.how.startswith("killed") and self.calls >= self.at:
                if self.how == "killed after" and self.calls == self.at:
                    getattr(os, name)(*args)
                raise Killed
            if name == "write":  # a disk takes what it likes
                return os.write(args[0], args[1][:300])
            return getattr(os, name)(*args)

        return call


class Still:
    """A clock on which waiting takes no time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def place_at(root: pathlib.Path, system: Cut | None = None, now: int = NOW) -> io.Place:
    return io.Place(str(root / "dedicated" / "lock"), Still(), t.cast(io.System, system), lambda: now)


Act = collections.abc.Callable[[io.Place], service.Outcome]
# What lies there before, and what is done.
ACTS: dict[str, tuple[plan.Run | None, Act]] = {
    "take": (None, lambda place: service.hold(place, wish(A))),
    "renew": (A, lambda place: service.hold(place, wish(A, ttl=900))),
    "take over": (B, lambda place: service.hold(place, wish(A), [B.id])),
    "release": (A, lambda place: service.release(place, A)),
}


def prepare(root: pathlib.Path, act: str) -> tuple[plan.Found, plan.Found, int]:
    """What is there before and after it, and how many steps it takes."""
    for name in ("rehearsal", "stage"):
        (root / name).mkdir()
        holder = ACTS[act][0]
        if holder is not None:
            service.hold(place_at(root / name), wish(holder))
    counting = Cut(0)
    before = place_at(root / "rehearsal").look()
    ACTS[act][1](place_at(root / "rehearsal", counting))
    return before, place_at(root / "rehearsal").look(), counting.calls


STEPS_AT_MOST = 18


@pytest.mark.parametrize("how", ["killed", "killed after", "full"])
@pytest.mark.parametrize("act", ACTS)
def test_cut_off_at_any_step_there_is_the_old_or_the_new_and_the_next_try_works(
    tmp_path: pathlib.Path, act: str, how: str
) -> None:
    for at in range(1, STEPS_AT_MOST + 1):
        root = tmp_path / str(at)
        root.mkdir()
        before, after, steps = prepare(root, act)
        assert 3 <= steps <= STEPS_AT_MOST
        if at > steps:
            break
        cut = Cut(at, how)
        with contextlib.suppress(Killed):
            told = attempt(functools.partial(ACTS[act][1], place_at(root / "stage", cut)))
            if isinstance(told, DedicatedError):
                assert (code(told), "No space left" in told.msg) == ("io", True)
        assert cut.calls >= at
        found = place_at(root / "stage").look()
        assert found in (before, after)
        if how == "full" and found == before:
            assert not list((root / "stage").rglob(io.ASIDE))
        if isinstance(found, plan.Lock) and found.run == A:
            # Whoever was not told that it has the host, and has it, keeps others away, and has it when it asks again.
            other = functools.partial(service.hold, place_at(root / "stage"), wish(B))
            assert refused(other) == "operation_running"
        ACTS[act][1](place_at(root / "stage"))
        assert place_at(root / "stage").look() == after
        assert not list((root / "stage").rglob(io.ASIDE))
    else:
        pytest.fail("more steps than were tried")


@pytest.mark.parametrize("act", ["take", "take over", "release"])
def test_another_run_at_any_step_gets_the_host_before_or_not_at_all(tmp_path: pathlib.Path, act: str) -> None:
    other = dataclasses.replace(A, pid=300)
    for at in range(1, STEPS_AT_MOST + 1):
        root = tmp_path / str(at)
        root.mkdir()
        __, __, steps = prepare(root, act)
        if at > steps:
            break
        told: list[str] = []

        def meanwhile(root: pathlib.Path = root, told: list[str] = told) -> None:
            told.append(code(attempt(lambda: service.hold(place_at(root / "stage"), wish(other), [B.id]))))

        mine = attempt(functools.partial(ACTS[act][1], place_at(root / "stage", Cut(at, meanwhile=meanwhile))))
        if isinstance(mine, service.Outcome):
            # Busy while this one is at it; or refused where it is ours until the release.
            assert mine.held is (act != "release")
            assert told in (["lock_busy"], ["operation_running"])
        else:
            assert (told, code(mine)) == ([""], "operation_running")
    else:
        pytest.fail("more steps than were tried")


def test_without_the_guard_two_never_take_the_same_host(tmp_path: pathlib.Path) -> None:
    """Somebody tidies the directory up while it is taken."""
    for at in range(1, STEPS_AT_MOST + 1):
        root = tmp_path / str(at)
        root.mkdir()
        __, __, steps = prepare(root, "take")
        if at > steps:
            break
        told: list[str] = []

        def meanwhile(root: pathlib.Path = root, told: list[str] = told) -> None:
            for path in (root / "stage").rglob(".*"):
                path.unlink()
            told.append(code(attempt(lambda: service.hold(place_at(root / "stage"), wish(B)))))

        mine = attempt(functools.partial(ACTS["take"][1], place_at(root / "stage", Cut(at, meanwhile=meanwhile))))
        assert [*told, code(mine)].count("") == 1, (at, told, mine)
    else:
        pytest.fail("more steps than were tried")
