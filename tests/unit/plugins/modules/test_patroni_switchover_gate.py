# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before a switchover: nothing is looked at while it is closed, and it opens once."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.modules.patroni_switchover import wait_at


@dataclasses.dataclass
class Clock:
    """``opens``: what the caller does when this much time has passed."""

    now: float = 0.0
    opens: tuple[float, t.Callable[[], t.Any]] | None = None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.opens is not None and self.now >= self.opens[0]:
            self.opens[1]()
            self.opens = None


def test_without_a_gate_nothing_is_waited_for() -> None:
    clock = Clock()
    wait_at(None, clock, 30)
    assert clock.now == 0


def test_it_begins_when_the_gate_is_opened_and_takes_it_away(tmp_path: Path) -> None:
    gate = tmp_path / "go"
    clock = Clock(opens=(12.0, gate.touch))
    wait_at(str(gate), clock, 30)
    assert clock.now == pytest.approx(12.0, abs=0.1)
    assert not gate.exists()


def test_a_gate_that_stays_closed_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(DedicatedError) as caught:
        wait_at(str(tmp_path / "go"), clock, 30)
    assert caught.value.details["code"] == "gate_closed"
    assert "nothing was done" in caught.value.msg
    assert clock.now == pytest.approx(30)
