# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A gate: a program that is ready waits at it, and begins at once when its caller opens it.

For callers to whom the start of a program takes long, as it does to Ansible. ``PATH.ready`` tells them that somebody
waits; ``PATH`` opens it.
"""

from __future__ import annotations

import contextlib
import os

from .errors import DedicatedError
from .waiting import Clock, Seen, wait_until

# Between two looks (s): clients may wait meanwhile.
GLANCE = 0.02


class Gate:
    """One gate, on the host where the program runs."""

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self._clock = clock

    def wait(self, timeout: float) -> None:
        """Until it is open. It stays so."""
        ready = f"{self.path}.ready"
        try:
            with open(ready, "wb"):
                pass
            wait_until(self._probe, self._clock, timeout, GLANCE, "the gate")
        except (DedicatedError, OSError) as exc:
            raise DedicatedError(f"nothing was done: {exc}", code="gate_closed") from exc
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ready)

    def is_open(self) -> bool:
        return os.path.exists(self.path)

    def close(self) -> None:
        """It was used, or another has closed it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _probe(self) -> Seen[None]:
        return Seen(None, None if self.is_open() else f"{self.path} is not there")
