# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting and running: deadlines that tell, commands without a shell."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DeadlineError, DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import SubprocessRunner
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import Seen, wait_until


@dataclasses.dataclass
class FakeClock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def test_waiting_ends_with_the_first_good_look() -> None:
    clock = FakeClock()
    looks = iter([Seen(1, "starting"), Seen(2, "loading"), Seen(3)])
    assert wait_until(lambda: next(looks), clock, 30, 2, "the server") == 3
    assert clock.now == 104


def test_waiting_looks_once_more_at_the_deadline_and_tells_what_it_saw() -> None:
    clock = FakeClock()
    seen: list[float] = []

    def probe() -> Seen[None]:
        seen.append(clock.now)
        return Seen(None, f"look {len(seen)}")

    with pytest.raises(DeadlineError, match=r"the server did not come within 5 s; last seen: look 4") as caught:
        wait_until(probe, clock, 5, 2, "the server")
    assert seen == [100, 102, 104, 105]
    assert caught.value.details["last_seen"] == "look 4"


def test_waiting_without_time_looks_once() -> None:
    with pytest.raises(DeadlineError):
        wait_until(lambda: Seen(None, "no"), FakeClock(), 0, 1, "it")


def test_runner_hands_over_stdin_and_environment_and_returns_the_exit_code() -> None:
    code = "import os, sys; print(os.environ['LC_ALL'], os.environ['X'], sys.stdin.read()); sys.exit(3)"
    done = SubprocessRunner().run([sys.executable, "-c", code], env={"X": "y"}, stdin="z")
    assert (done.rc, done.stdout.split()) == (3, ["C.UTF-8", "y", "z"])


def test_runner_translates_what_cannot_be_started_and_what_does_not_end() -> None:
    runner = SubprocessRunner()
    with pytest.raises(DedicatedError, match="no-such-program cannot be started"):
        runner.run(["no-such-program", "secret"])
    with pytest.raises(DedicatedError, match=r"did not end within 0\.2 s"):
        runner.run([sys.executable, "-c", "import time; time.sleep(9)"], timeout=0.2)
    assert runner.find("no-such-program") is None
