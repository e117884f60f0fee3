# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""One exception root and one shape of refusal for every module of the collection."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Refuse:
    """A planner's answer when it will not act: a value, so that nobody has to catch it.

    ``code`` is stable and meant for tests and programs, the rest for the operator.
    """

    code: str
    what: str
    why: str
    do: str

    @property
    def message(self) -> str:
        """What happened, why, and what to do now, as one line."""
        return f"{self.what}: {self.why}. {self.do}"

    def as_result(self) -> dict[str, str]:
        """Plain mapping for a module's result."""
        return {"code": self.code, "what": self.what, "why": self.why, "do": self.do}


class DedicatedError(Exception):
    """Root of what the I/O and service layers raise; ``details`` go into the module's result."""

    def __init__(self, msg: str, **details: t.Any) -> None:
        super().__init__(msg)
        self.msg = msg
        self.details = details


class Refused(DedicatedError):
    """A refusal that crosses the service layer on its way to the user."""

    def __init__(self, refusal: Refuse, **details: t.Any) -> None:
        super().__init__(refusal.message, code=refusal.code, refusal=refusal.as_result(), **details)
        self.refusal = refusal


class DeadlineError(DedicatedError):
    """The awaited state did not come in time; the message carries the last observation."""
