# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one way to wait for a state: a probe, a clock, a deadline that tells what it saw last."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from .errors import DeadlineError

T = t.TypeVar("T")


class Clock(t.Protocol):
    """Monotonic time, injected so that tests need not sleep."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The host's clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclasses.dataclass(frozen=True)
class Seen(t.Generic[T]):
    """One observation: the value, and why it is not yet what is waited for (None: it is)."""

    value: T
    why_not: str | None = None


def wait_until(
    probe: t.Callable[[], Seen[T]],
    clock: Clock,
    timeout: float,
    poll_interval: float,
    what: str,
) -> T:
    """Probe at once and then every ``poll_interval`` seconds; the last probe is made at the deadline."""
    deadline = clock.monotonic() + timeout
    while True:
        seen = probe()
        if seen.why_not is None:
            return seen.value
        left = deadline - clock.monotonic()
        if left <= 0:
            raise DeadlineError(
                f"{what} did not come within {timeout:g} s; last seen: {seen.why_not}",
                code="deadline",
                last_seen=seen.why_not,
            )
        clock.sleep(min(poll_interval, left))
