# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before a switchover, and the poolers behind it: nothing is begun early, and nothing after it was closed."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._common.gate import Gate
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.quiet import Quiet, why_not_quiet
from ansible_collections.dedicated.odoo.plugins.modules.patroni_switchover import wait_at_gate

ONE, TWO = "192.0.2.11", "192.0.2.12"


@dataclasses.dataclass
class Clock:
    """``happens``: what others do, and when."""

    now: float = 0.0
    happens: list[tuple[float, t.Callable[[], t.Any]]] = dataclasses.field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for event in [one for one in self.happens if one[0] <= self.now]:
            self.happens.remove(event)
            event[1]()


@dataclasses.dataclass
class Leader:
    """Its connections by address; None when it gives no answer."""

    there: dict[str, int] | None

    def __call__(self) -> dict[str, int] | None:
        return None if self.there is None else dict(self.there)

    def lose(self, address: str) -> None:
        assert self.there is not None
        self.there.pop(address)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "go"


def quiet(path: Path, leader: Leader, clock: Clock) -> Quiet:
    return Quiet(Gate(str(path), clock), leader, [ONE, TWO], clock)


def left(path: Path) -> list[str]:
    return [one.name for one in path.parent.iterdir()]


def refused(waits: t.Callable[[], None]) -> DedicatedError:
    with pytest.raises(DedicatedError) as caught:
        waits()
    assert caught.value.details["code"] == "gate_closed"
    assert "nothing was done" in caught.value.msg
    return caught.value


def test_without_a_gate_nothing_is_waited_for() -> None:
    clock = Clock()
    wait_at_gate({"gate": None, "quiet": None, "timeout": 30}, clock)
    assert clock.now == 0


def test_it_begins_when_the_gate_is_opened_and_takes_it_away(path: Path) -> None:
    ready: list[str] = []
    clock = Clock(happens=[(3.0, lambda: ready.extend(left(path))), (12.0, path.touch)])
    wait_at_gate({"gate": str(path), "quiet": None, "timeout": 30}, clock)
    assert clock.now == pytest.approx(12.0, abs=0.1)
    assert ready == ["go.ready"]
    assert left(path) == []


def test_a_gate_that_stays_closed_is_an_error_and_nothing_else(path: Path) -> None:
    clock = Clock()
    refused(lambda: wait_at_gate({"gate": str(path), "quiet": None, "timeout": 30}, clock))
    assert clock.now == pytest.approx(30)
    assert left(path) == []


def test_a_place_that_is_not_there_is_the_same_error(path: Path) -> None:
    refused(lambda: Gate(str(path / "no" / "such"), Clock()).wait(30))


def test_it_follows_the_last_pooler_at_once(path: Path) -> None:
    leader = Leader({ONE: 3, TWO: 1})
    clock = Clock(happens=[(2.0, path.touch), (2.5, lambda: leader.lose(TWO)), (2.9, lambda: leader.lose(ONE))])
    quiet(path, leader, clock).wait(30)
    assert clock.now == pytest.approx(2.9, abs=0.1)
    assert left(path) == []


def test_connections_of_others_do_not_count(path: Path) -> None:
    leader = Leader({ONE: 3, TWO: 1, "198.51.100.7": 5})
    clock = Clock(happens=[(2.0, path.touch), (2.5, lambda: leader.lose(TWO)), (2.9, lambda: leader.lose(ONE))])
    quiet(path, leader, clock).wait(30)


@pytest.mark.parametrize("there", [{ONE: 3}, {ONE: 3, TWO: 0}, {}, None])
def test_who_had_no_connection_is_waited_for_by_the_callers_word(path: Path, there: dict[str, int] | None) -> None:
    leader = Leader(there)
    word = path.with_name("go.go")
    clock = Clock(happens=[(2.0, path.touch), (2.5, lambda: setattr(leader, "there", {})), (9.0, word.touch)])
    quiet(path, leader, clock).wait(30)
    assert clock.now == pytest.approx(9.0, abs=0.1)
    assert left(path) == []


def test_nothing_begins_before_the_gate_is_open(path: Path) -> None:
    """An application that rests has no connections, and requests of the next moment would find no pause."""
    leader = Leader({ONE: 3, TWO: 1})
    clock = Clock(happens=[(2.5, lambda: setattr(leader, "there", {}))])
    refused(lambda: quiet(path, leader, clock).wait(30))


def test_nothing_is_begun_after_the_caller_has_closed_the_gate(path: Path) -> None:
    """A pooler could not pause; the others go on, and their connections come and go."""
    leader = Leader({ONE: 3, TWO: 1})
    clock = Clock(happens=[(2.0, path.touch), (6.0, path.unlink), (6.0, lambda: setattr(leader, "there", {}))])
    said = refused(lambda: quiet(path, leader, clock).wait(30))
    assert "closed the gate again" in said.msg
    assert clock.now == pytest.approx(6.0, abs=0.1)


def test_poolers_that_do_not_pause_are_an_error_with_the_numbers(path: Path) -> None:
    leader = Leader({ONE: 3, TWO: 1})
    clock = Clock(happens=[(2.0, path.touch), (2.5, lambda: leader.lose(TWO))])
    said = refused(lambda: quiet(path, leader, clock).wait(30))
    assert f"3 from {ONE}" in said.msg
    assert left(path) == []


@pytest.mark.parametrize(
    ("began", "now", "proven"),
    [
        ({ONE: 1, TWO: 1}, {}, True),
        ({ONE: 1, TWO: 1}, {ONE: 1}, False),
        ({ONE: 1}, {}, False),
        ({ONE: 1, TWO: 1}, None, False),
        (None, {}, False),
    ],
)
def test_the_law(began: dict[str, int] | None, now: dict[str, int] | None, proven: bool) -> None:
    assert (why_not_quiet(began, now, [ONE, TWO]) is None) == proven


def test_without_poolers_nothing_is_proven() -> None:
    assert why_not_quiet({}, {}, []) is not None
