# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a user noticed, from attempts to work.

The law. An attempt is a login and a draft entry, begun anew each time, as by somebody who has just arrived.

* The outage is the longest time in which no attempt was begun that succeeded at once: from the end of the last good
  attempt before to the end of the first good one after. Who waits and is served at last was out for as long as he
  waited.
* It is counted from the beginning of the probe and to its end, so that one that never came back is no short one.
* What an undisturbed site needs for one attempt is no outage: the median of the good attempts is told beside it.
"""

from __future__ import annotations

import dataclasses
import statistics
import typing as t


@dataclasses.dataclass(frozen=True)
class Attempt:
    """``started`` and ``ended`` in seconds since the probe began; ``error`` is empty when it was good."""

    started: float
    ended: float
    error: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclasses.dataclass(frozen=True)
class Noticed:
    """What it was for a user."""

    outage: float
    attempts: int
    failed: int
    usual: float | None
    longest: float
    back: bool
    errors: tuple[str, ...] = ()

    def as_result(self) -> dict[str, t.Any]:
        """For a module's result, in which Ansible has its own ``attempts`` and ``failed``."""
        return {
            "outage_seconds": round(self.outage, 3),
            "tries": self.attempts,
            "tries_failed": self.failed,
            "usual_seconds": None if self.usual is None else round(self.usual, 3),
            "longest_seconds": round(self.longest, 3),
            "back": self.back,
            "errors": list(self.errors),
        }


def noticed(attempts: t.Sequence[Attempt], until: float) -> Noticed:
    """Judge the attempts of a probe that ran for ``until`` seconds."""
    good = [one for one in attempts if not one.error]
    marks = [0.0, *(one.ended for one in good)]
    gaps = [later - earlier for earlier, later in zip(marks, marks[1:])]
    back = bool(attempts) and not attempts[-1].error
    if not back:
        gaps.append(max(until, *(one.ended for one in attempts), 0.0) - marks[-1] if attempts else until)
    errors: dict[str, None] = dict.fromkeys(one.error for one in attempts if one.error)
    return Noticed(
        outage=max(gaps, default=until),
        attempts=len(attempts),
        failed=len(attempts) - len(good),
        usual=statistics.median(one.seconds for one in good) if good else None,
        longest=max((one.seconds for one in good), default=0.0),
        back=back,
        errors=tuple(errors)[:5],
    )
