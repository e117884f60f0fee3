# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every experiment as a test: SET=fast (default) those that `make test` has time for, SET=all all of them.

What is judged here is what must hold on any machine: nothing lost, one leader, a whole ledger, sessions kept, full
redundancy again. How long it took is printed, not judged: a shared machine is no stopwatch. tools/faults judges that
too, repeatedly and without pytest.
"""

from __future__ import annotations

import os
import typing as t

import pytest
import run
from experiments import EXPERIMENTS, Experiment
from labtools import Lab

TIMED = (
    "write gap",
    "redis gap",
    "requests broken",
    "requests turned away",
    "longest wait",
    "outage of requests",
    "duration",
)
ALL = os.environ.get("SET") == "all"


@pytest.mark.parametrize("experiment", [one for one in EXPERIMENTS if ALL or one.fast], ids=lambda one: str(one.name))
def test_the_promise_holds(lab: Lab, results: list[dict[str, t.Any]], experiment: Experiment) -> None:
    result = run.perform(lab, experiment, 1, lab.build / "faults")
    results.append(result)
    if result["verdict"] == "skipped":
        pytest.skip(result["why"])
    broken = [
        f"{check['name']}: {check['said']}"
        for check in result["checks"]
        if not check["ok"] and check["name"] not in TIMED
    ]
    assert not broken, f"{experiment.what}: " + "; ".join(broken)
