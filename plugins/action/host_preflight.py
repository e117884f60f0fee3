# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module on the host and measures the host's clock. Documentation: plugins/modules/host_preflight.py."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable

from ansible.plugins.action import ActionBase

MODULE = "dedicated.odoo.host_preflight"
# A shell over a connection that is open answers within this; the module itself takes far longer and would blur it.
GOOD = 0.2
ATTEMPTS = 3


def parse_clock(text: str, before: float, after: float) -> dict[str, float]:
    """The host's clock beside ours, which was read before and after it; empty when the text is no time."""
    try:
        there = float(text.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {}
    half = (after - before) / 2
    return {"offset": round(there - before - half, 3), "uncertainty": round(half, 3)}


def measure(ask: Callable[[], str], now: Callable[[], float] = time.time) -> dict[str, float]:
    """The sharpest of a few looks at the host's clock."""
    best: dict[str, float] = {}
    for __ in range(ATTEMPTS):
        before = now()
        text = ask()
        clock = parse_clock(text, before, now())
        if not best or (clock and clock["uncertainty"] < best["uncertainty"]):
            best = clock
        if best and best["uncertainty"] * 2 < GOOD:
            break
    return best


class ActionModule(ActionBase):
    """Entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's own result, and the clock."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        result.update(self._execute_module(module_name=MODULE, task_vars=task_vars))
        result["clock"] = measure(self._ask)
        return result

    def _ask(self) -> str:
        """Seconds since the epoch by the host's clock."""
        # No privilege is needed, and to gain it would take time between the two readings.
        return str(self._low_level_execute_command("date -u +%s.%N", sudoable=False).get("stdout", ""))
