# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that was looked at, judged: what is wrong, why that matters, and the next command.

Laws (checked by the tests):

1. silence is a finding and never an error of ours: whatever part of the look is missing, the others are judged, and the
   missing part is named;
2. a cluster that its own module does not call healthy always has a finding, also when no rule here knows the reason;
3. a fault that another one explains (a host that is gone takes its members along) stays in the list and names its
   cause;
4. critical is what does not serve, may lose data, or leaves nobody to take over; a warning uses redundancy or time up;
   a note is only worth knowing. Nothing but the first two makes the status bad.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import backups, clusters, hosts, serving
from .look import CRITICAL, SEVERITIES, WARNING, Finding, Look


def findings(look: Look) -> list[Finding]:
    """Everything that is wrong, the worst first, what explains others before what it explains."""
    found = [
        *hosts.judge(look),
        *clusters.judge(look),
        *clusters.databases(look),
        *backups.judge(look),
        *serving.judge(look),
    ]
    return sorted(rooted(found), key=lambda one: (bool(one.cause), SEVERITIES.index(one.severity), one.host))


def rooted(found: t.Sequence[Finding]) -> list[Finding]:
    """Law 3: every cause is a finding that has none itself. A cause that was not found is none."""
    causes = {one.code: "" for one in found}
    for one in found:
        causes[one.code] = causes[one.code] or one.cause
    roots = {one.code for one in found if one.cause not in causes}

    def root(code: str, steps: int = 4) -> str:
        if code in roots:
            return code
        return root(causes[code], steps - 1) if steps and causes.get(code) else ""

    return [dataclasses.replace(one, cause=root(one.cause)) for one in found]


def is_ok(found: t.Sequence[Finding], fail_on: str = WARNING) -> bool:
    """Whether nothing is as bad as this, or worse."""
    if fail_on not in (CRITICAL, WARNING):
        raise ValueError(f"fail_on: {fail_on!r} is neither critical nor warning")
    return all(SEVERITIES.index(one.severity) > SEVERITIES.index(fail_on) for one in found)
